"""Every function and operator of the model language against NumPy, over generated shapes, with and without draws."""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

from klqp.model import nodes
from klqp.model.ancestral import evaluate
from klqp.model.expression import Constant
from klqp.model.parameter import Parameter, placeholder

N_DRAWS = 3

shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)
KINDS = ("drawn", "given", "parameter", "constant")


class Operand:
    """An expression of a shape with values: draws, data, a parameter or a constant."""

    def __init__(self, shape, kind, seed=0, low=0.2, high=2.0):
        self.kind = kind
        full = (N_DRAWS, *shape) if kind == "drawn" else shape
        self.values = np.random.default_rng(seed).uniform(low, high, full)
        if kind == "constant":
            self.expression = Constant(self.values)
        elif kind == "parameter":
            self.expression = Parameter(self.values)
        else:
            self.expression = placeholder(shape)

    def row(self, s):
        return self.values[s] if self.kind == "drawn" else self.values


def check(function, twin, *operands):
    """Compare an expression's value with NumPy's, draw by draw."""
    out = function(*[x.expression for x in operands])
    known = {x.expression: x.values for x in operands if x.kind in ("drawn", "given")}
    got = evaluate([out], known, N_DRAWS)[0]
    drawn = any(x.kind == "drawn" for x in operands)
    expected = np.array([twin(*[x.row(s) for x in operands]) for s in range(N_DRAWS if drawn else 1)])
    expected = expected if drawn else expected[0]
    assert out.shape == expected.shape[1 if drawn else 0 :]
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14)


# --- elementwise -----------------------------------------------------------------------------------------------
UNARY = {
    "absolute": np.abs,
    "cos": np.cos,
    "digamma": special.digamma,
    "exp": np.exp,
    "expm1": np.expm1,
    "lgamma": special.gammaln,
    "log": np.log,
    "log1p": np.log1p,
    "negative": np.negative,
    "norm_cdf": special.ndtr,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": special.expit,
    "sin": np.sin,
    "softplus": lambda x: np.logaddexp(0, x),
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
}
OTHERS = {"add", "broadcast_to", "concatenate", "divide", "dot", "log_softmax", "logsumexp", "matmul", "mean"}
OTHERS |= {"multiply", "outer", "power", "reshape", "softmax", "stack", "subtract", "sum", "take", "transpose"}
OTHERS |= {"xlog1py", "xlogy"}


# Tested in test_matrix_nodes.py.
MATRICES = {"cholesky", "cumsum", "diag", "rbf", "solve_triangular", "tril"}


def test_every_function_has_a_twin_here():
    assert set(nodes.__all__) == set(UNARY) | OTHERS | MATRICES


def test_the_table_of_elementwise_functions():
    assert {f.__name__ for f in nodes.UNARY.values()} == set(UNARY)


@pytest.mark.parametrize("name", sorted(UNARY))
@given(shape=shapes, kind=st.sampled_from(KINDS))
@settings(max_examples=10, deadline=None)
def test_elementwise_functions(name, shape, kind):
    low = 0.1 if name in ("log", "sqrt", "lgamma", "digamma") else -0.9
    check(getattr(nodes, name), UNARY[name], Operand(shape, kind, low=low))


@given(
    shape=shapes, kind=st.sampled_from(KINDS), exponent=st.sampled_from([2, -1, 0.5, 3, -2.5, 1, 0, np.float32(1.5)])
)
@settings(deadline=None)
def test_powers(shape, kind, exponent):
    check(lambda x: x**exponent, lambda x: x ** float(exponent), Operand(shape, kind))


ARITHMETIC = {"add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv}


@pytest.mark.parametrize("name", sorted(ARITHMETIC))
@given(
    broadcast=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
)
@settings(max_examples=60, deadline=None)
def test_arithmetic_broadcasts(name, broadcast, kinds):
    op = ARITHMETIC[name]
    a, b = (Operand(shape, kind, i) for i, (shape, kind) in enumerate(zip(broadcast.input_shapes, kinds, strict=True)))
    check(getattr(nodes, name), op, a, b)
    check(op, op, a, b)


@pytest.mark.parametrize("name", sorted(ARITHMETIC))
@pytest.mark.parametrize("number", [2, 2.5, np.float32(1.5), np.int8(3), np.array(4.0), True])
def test_arithmetic_with_numbers_and_arrays(name, number):
    op = ARITHMETIC[name]
    array = np.arange(1.0, 4.0)
    for kind in KINDS:
        x = Operand((2, 3), kind)
        check(lambda e: op(e, number), lambda v: op(v, np.float64(number)), x)
        check(lambda e: op(number, e), lambda v: op(np.float64(number), v), x)
        check(lambda e: op(e, array), lambda v: op(v, array), x)
        check(lambda e: op(array, e), lambda v: op(array, v), x)
        check(lambda e: op(e, array.tolist()), lambda v: op(v, array), x)


@pytest.mark.parametrize("name", ["xlogy", "xlog1py"])
@given(
    broadcast=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
)
@settings(max_examples=30, deadline=None)
def test_products_with_logarithms(name, broadcast, kinds):
    a, b = (Operand(shape, kind, i) for i, (shape, kind) in enumerate(zip(broadcast.input_shapes, kinds, strict=True)))
    check(getattr(nodes, name), getattr(special, name), a, b)


def test_unary_minus():
    check(operator.neg, operator.neg, Operand((2, 3), "drawn"))


@given(data=st.data(), shape=shapes, kind=st.sampled_from(KINDS))
@settings(deadline=None)
def test_broadcast_to(data, shape, kind):
    wanted = data.draw(hnp.broadcastable_shapes(shape, min_dims=len(shape), max_dims=4, max_side=4))
    wanted = np.broadcast_shapes(shape, wanted)
    check(lambda x: nodes.broadcast_to(x, wanted), lambda x: np.broadcast_to(x, wanted), Operand(shape, kind))


# --- products --------------------------------------------------------------------------------------------------
@given(
    m=st.integers(1, 5),
    k=st.integers(1, 5),
    n=st.integers(1, 5),
    vectors=st.tuples(st.booleans(), st.booleans()),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
)
@settings(max_examples=100, deadline=None)
def test_matmul(m, k, n, vectors, kinds):
    a = Operand((k,) if vectors[0] else (m, k), kinds[0], 1)
    b = Operand((k,) if vectors[1] else (k, n), kinds[1], 2)
    check(nodes.matmul, np.matmul, a, b)
    check(operator.matmul, operator.matmul, a, b)


def test_matmul_with_an_array_on_either_side():
    array = np.arange(6.0).reshape(2, 3)
    check(lambda x: array @ x, lambda x: array @ x, Operand((3,), "drawn"))
    check(lambda x: x @ array, lambda x: x @ array, Operand((2,), "drawn"))


@given(shape=hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), kinds=st.tuples(*[st.sampled_from(KINDS)] * 2))
@settings(max_examples=30, deadline=None)
def test_dot(shape, kinds):
    check(nodes.dot, lambda a, b: (a * b).sum(-1), Operand(shape, kinds[0], 1), Operand(shape, kinds[1], 2))


def test_outer():
    for kind in KINDS:
        check(nodes.outer, np.outer, Operand((3,), kind, 1), Operand((2,), "drawn", 2))


# --- along an axis ---------------------------------------------------------------------------------------------
ALONG = {
    "sum": np.sum,
    "mean": np.mean,
    "logsumexp": special.logsumexp,
    "softmax": special.softmax,
    "log_softmax": special.log_softmax,
}


@pytest.mark.parametrize("name", sorted(ALONG))
@given(data=st.data(), shape=shapes, kind=st.sampled_from(KINDS))
@settings(max_examples=40, deadline=None)
def test_along_an_axis(name, data, shape, kind):
    keeps = name.endswith("softmax")
    if keeps and not shape:
        return
    axes = st.integers(-len(shape), len(shape) - 1) if shape else st.none()
    axis = data.draw(axes if keeps else axes | st.none())
    x = Operand(shape, kind, low=-2)
    check(lambda e: getattr(nodes, name)(e, axis), lambda v: ALONG[name](v, axis=axis), x)
    if name in ("sum", "mean"):
        check(lambda e: getattr(e, name)(axis), lambda v: getattr(v, name)(axis), x)


def test_softmax_is_along_the_last_axis_unless_told():
    check(nodes.softmax, lambda x: special.softmax(x, -1), Operand((2, 3), "drawn"))
    check(nodes.log_softmax, lambda x: special.log_softmax(x, -1), Operand((2, 3), "drawn"))


# --- layout ----------------------------------------------------------------------------------------------------
@given(data=st.data(), shape=shapes, kind=st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_transposes(data, shape, kind):
    x = Operand(shape, kind)
    check(lambda e: e.T, lambda v: v.T, x)
    axes = data.draw(st.permutations(range(len(shape))))
    check(lambda e: nodes.transpose(e, axes), lambda v: v.transpose(axes), x)


@given(data=st.data(), sizes=st.lists(st.integers(1, 3), max_size=4), kind=st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_reshapes(data, sizes, kind):
    x = Operand(tuple(sizes), kind)
    wanted = list(data.draw(st.permutations(sizes)))
    if wanted and data.draw(st.booleans()):
        wanted[data.draw(st.integers(0, len(wanted) - 1))] = -1
    for form in (lambda e: e.reshape(*wanted), lambda e: e.reshape(tuple(wanted)), lambda e: e.reshape(wanted)):
        check(form, lambda v: v.reshape(wanted), x)
    check(lambda e: nodes.reshape(e, -1), lambda v: v.reshape(-1), x)


@given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=3, max_side=3), n=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_concatenations(data, shape, n):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for i in range(n):
        sizes = list(shape)
        sizes[axis] = data.draw(st.integers(1, 3))
        parts.append(Operand(tuple(sizes), data.draw(st.sampled_from(KINDS)), i))
    check(lambda *xs: nodes.concatenate(xs, axis), lambda *xs: np.concatenate(xs, axis), *parts)


@given(data=st.data(), shape=shapes, n=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_stacks(data, shape, n):
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    parts = [Operand(shape, data.draw(st.sampled_from(KINDS)), i) for i in range(n)]
    check(lambda *xs: nodes.stack(xs, axis), lambda *xs: np.stack(xs, axis), *parts)


# --- indexing --------------------------------------------------------------------------------------------------
@given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), kind=st.sampled_from(KINDS))
@settings(max_examples=200, deadline=None)
def test_basic_indices(data, shape, kind):
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    x = Operand(shape, kind)
    if x.row(0)[key].size:
        check(lambda e: e[key], lambda v: v[key], x)


@given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), kind=st.sampled_from(KINDS))
@settings(max_examples=100, deadline=None)
def test_integer_array_indices(data, shape, kind):
    key = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=6)))
    check(lambda e: e[key], lambda v: v[key], Operand(shape, kind))


@pytest.mark.parametrize(
    "key",
    [
        np.s_[::-1],
        np.s_[:, ::-1],
        np.s_[3:0:-2, 1],
        np.s_[..., None, 1],
        np.s_[[0, 0, 3]],
        np.s_[[2, 1], :, 1],
        np.s_[:, [True, False, True]],
        np.s_[1:3],
        np.s_[-1],
        np.s_[None],
        np.s_[...],
        np.s_[np.array([[0, 1], [1, 0]])],
        np.s_[[0, 1], [1, 2]],
        np.uint8(2),
        np.array(2),
    ],
    ids=str,
)
def test_indices_of_a_matrix(key):
    for kind in KINDS:
        x = Operand((4, 3, 2), kind)
        check(lambda e: e[key], lambda v: v[key], x)


@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 2, 3)])
@pytest.mark.parametrize("index", [2, [4, 0, 0], [[1, 2], [3, 4]]])
@pytest.mark.parametrize("kind", KINDS)
def test_placeholders_as_indices(shape, index, kind):
    x, where = Operand(shape, kind), placeholder(np.shape(index), dtype=int)
    known = {where: np.asarray(index, float)} | ({x.expression: x.values} if kind in ("drawn", "given") else {})
    got = evaluate([x.expression[where]], known, N_DRAWS)[0]
    expected = x.values[:, index] if kind == "drawn" else x.values[np.asarray(index)]
    np.testing.assert_array_equal(got, expected)


# --- the whole -------------------------------------------------------------------------------------------------
def test_several_values_at_once_share_what_they_have_in_common():
    x = placeholder(2)
    y = nodes.exp(x)
    values = np.random.default_rng(0).normal(size=(4, 2))
    a, b, c = evaluate([y, y + 1, x], {x: values}, 4)
    np.testing.assert_allclose(a, np.exp(values), rtol=1e-15)
    np.testing.assert_array_equal(b, a + 1)
    np.testing.assert_array_equal(c, values)


def test_parameters_in_their_own_spaces():
    scale = Parameter([0.5, 2.0], support="positive")
    weights = Parameter([0.2, 0.3, 0.5], support="simplex")
    got = evaluate([scale * 2.0, weights], {}, 1)
    np.testing.assert_allclose(got[0], [1.0, 4.0], rtol=1e-14)
    np.testing.assert_allclose(got[1], weights.value, rtol=1e-14)


def test_deep_expressions_need_no_recursion():
    x = placeholder(())
    y = x
    for _ in range(5000):
        y = y + 1.0
    assert evaluate([y], {x: np.array(0.0)}, 1)[0] == 5000
