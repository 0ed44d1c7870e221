"""Every node of the registry: values against NumPy, pullbacks against complex differences of the same NumPy functions.

Inputs are taken with and without a draw axis, in every combination. A row of the registry without an example fails.
"""

import itertools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from klqp import _core

SIZES = (1, 2, 255, 256, 257, 5000)
STEP = 1e-30  # complex steps have no cancellation

# --- one program of one node ---------------------------------------------------------------------------------


@dataclass
class Case:
    """A node with its options; `twin` takes one flat array for each input and returns the flat output."""

    sizes: tuple[int, ...]
    size: int
    twin: Callable[..., Any]
    integers: Mapping[str, Sequence[int]] = field(default_factory=dict)
    numbers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    data: Mapping[int, Any] = field(default_factory=dict)  # inputs that are data, by position
    low: float = -2.0
    high: float = 2.0
    label: str = ""


class OneNode:
    """A program of one node, each of whose moving inputs is shared by the draws (a parameter) or not."""

    def __init__(self, name, case, per_draw, n_draws, seed=0):
        self.case, self.per_draw, self.n_draws = case, per_draw, n_draws
        rng = np.random.default_rng(seed)
        self.core = _core.Model()
        self.values, ids, at = [], [], 0
        for i, n in enumerate(case.sizes):
            if i in case.data:
                self.values.append(np.asarray(case.data[i], float).ravel())
                ids.append(self.core.data(self.values[-1]))
            elif per_draw[i]:
                self.values.append(rng.uniform(case.low, case.high, (n_draws, n)))
                ids.append(self.core.input(n))
            else:
                self.values.append(rng.uniform(case.low, case.high, n))
                ids.append(self.core.parameter(at, n))
                at += n
        self.moving = [i for i in range(len(case.sizes)) if i not in case.data]
        self.out = self.core.node(name, ids, case.size, dict(case.integers), dict(case.numbers))
        self.has_draws = any(per_draw[i] for i in self.moving)
        self.rows = n_draws if self.has_draws else 1
        shared = [self.values[i] for i in self.moving if not per_draw[i]]
        self.flat = np.concatenate(shared) if shared else np.zeros(1)
        self.draws = [self.values[i] for i in self.moving if per_draw[i]]
        self.noise = np.zeros((n_draws, 1))

    def value(self):
        return self.core.evaluate(self.n_draws, self.flat, self.noise, self.draws, [self.out])[0]

    def pullback(self, cot):
        """Return the cotangent of each moving input, of its value's shape."""
        grad, drawn = self.core.pullback(self.n_draws, self.flat, self.noise, self.draws, self.out, cot)
        out, at, drawn = [], 0, iter(drawn)
        for i in self.moving:
            if self.per_draw[i]:
                out.append(next(drawn))
            else:
                out.append(grad[at : at + self.case.sizes[i]])
                at += self.case.sizes[i]
        return out

    def row(self, values, i, s):
        return values[s] if i in self.moving and self.per_draw[i] else values

    def twin(self, values):
        rows = []
        for s in range(self.rows):
            args = [self.row(v, i, s) for i, v in enumerate(values)]
            rows.append(np.broadcast_to(np.ravel(self.case.twin(*args)), (self.case.size,)))
        return np.array(rows)

    def slope(self, directions):
        """Return the derivative of the twin along a direction for each moving input."""
        moved = [v.astype(complex) for v in self.values]
        for i, d in zip(self.moving, directions, strict=True):
            moved[i] = moved[i] + 1j * STEP * d
        return self.twin(moved).imag / STEP


def check_value(node):
    assert node.core.flags(node.out)[0] == node.has_draws
    got = node.value()
    assert got.shape == (node.rows, node.case.size)
    np.testing.assert_allclose(got, node.twin(node.values).real, rtol=2e-13, atol=2e-13)


def check_pullback(node, seed=1):
    rng = np.random.default_rng(seed)
    cot = rng.normal(size=(node.rows, node.case.size))
    got = node.pullback(cot)
    for g, i in zip(got, node.moving, strict=True):
        assert g.shape == node.values[i].shape
    if sum(g.size for g in got) <= 64:
        coordinates = [(k, j) for k, g in enumerate(got) for j in range(g.size)]
        for k, j in coordinates:  # each partial derivative
            directions = [np.zeros(g.shape) for g in got]
            directions[k].flat[j] = 1.0
            expected = np.sum(cot * node.slope(directions))
            np.testing.assert_allclose(got[k].flat[j], expected, rtol=1e-11, atol=1e-11)
        return
    for _ in range(2):  # <cot, J v> = <J' cot, v> for random v, one input at a time
        for k in range(len(got)):
            directions = [rng.normal(size=g.shape) if j == k else np.zeros(g.shape) for j, g in enumerate(got)]
            terms = cot * node.slope(directions)
            scale = np.sqrt(np.sum(terms**2)) + np.sqrt(np.sum((got[k] * directions[k]) ** 2))
            assert abs(np.sum(terms) - np.sum(got[k] * directions[k])) <= 1e-11 * scale


def every_sharing(case):
    moving = [i for i in range(len(case.sizes)) if i not in case.data]
    for choice in itertools.product((False, True), repeat=len(moving)):
        yield dict(zip(moving, choice, strict=True))


# --- examples --------------------------------------------------------------------------------------------------


def positive(*args, **kwargs):
    return Case(*args, **kwargs, low=0.2, high=3.0)


def around_the_circle(*args, **kwargs):
    return Case(*args, **kwargs, low=-20.0, high=20.0)


def inside(*args, **kwargs):
    return Case(*args, **kwargs, low=0.05, high=0.95)


def elementwise(twin, make=Case, numbers=()):
    def cases():
        for n in SIZES:
            for number in numbers or (None,):
                chosen = {} if number is None else {"constant": [number]}
                yield make(
                    (n,),
                    n,
                    twin if number is None else lambda x, c=number: twin(x, c),
                    numbers=chosen,
                    label=f"{n} {number}",
                )

    return cases


def binary(twin, make=positive):
    def cases():
        for n in SIZES:
            for sizes in {(n, n), (n, 1), (1, n)}:
                yield make(sizes, n, twin, label=str(sizes))

    return cases


AXES = [(1, 1, 1), (1, 7, 1), (3, 1, 2), (2, 3, 4), (1, 300, 1), (1, 5, 300), (257, 2, 1), (1, 5000, 1), (40, 3, 5)]


def along_axis(twin, reduces):
    def cases():
        for outer, n, inner in AXES:
            out = outer * inner * (1 if reduces else n)
            yield Case(
                (outer * n * inner,),
                out,
                lambda x, s=(outer, n, inner): twin(x.reshape(s)),
                {"outer": [outer], "n": [n], "inner": [inner]},
                label=str((outer, n, inner)),
            )

    return cases


def logsumexp(x):
    most = x.real.max(1, keepdims=True)
    return np.log(np.sum(np.exp(x - most), 1)) + most[:, 0]


def log_softmax(x):
    return x - logsumexp(x)[:, None]


def slices():
    for n, begin, size in [(1, 0, 1), (5, 0, 5), (5, 2, 2), (5, 4, 1), (600, 255, 257), (5000, 1, 4999)]:
        yield Case((n,), size, lambda x, b=begin, m=size: x[b : b + m], {"begin": [begin]}, label=str((n, begin, size)))


def gathers():
    rng = np.random.default_rng(3)
    indices = [(3, [0]), (3, [2, 2, 0, 2]), (1, [0, 0, 0]), (7, rng.integers(0, 7, 257)), (300, np.arange(300)[::-1])]
    indices.append((40, rng.integers(0, 40, 5000)))
    indices.append((5, np.concatenate([np.repeat([4, 1, 0], [20, 1, 9]), np.repeat([1, 3], 15)])))  # in runs
    for rows, index in indices:
        for width in (1, 2, 5):
            index = np.asarray(index)
            yield Case(
                (rows * width, index.size),
                index.size * width,
                lambda x, i, shape=(rows, width): x.reshape(shape)[i.real.astype(int)],
                {"width": [width]},
                data={1: index},
                label=f"rows={rows} width={width} n={index.size}",
            )


def concatenations():
    for outer, widths in [(1, (3,)), (1, (1, 2)), (2, (1, 3, 2)), (3, (255, 2)), (1, (256, 1, 257)), (5, (4, 4))]:
        yield Case(
            tuple(outer * w for w in widths),
            outer * sum(widths),
            lambda *xs, o=outer: np.concatenate([x.reshape(o, -1) for x in xs], 1),
            {"outer": [outer]},
            label=str((outer, widths)),
        )


PRODUCTS = [(1, 1, 1), (1, 5, 1), (5, 1, 1), (1, 1, 5), (4, 3, 1), (1, 3, 4), (2, 3, 4), (17, 9, 8), (100, 33, 1)]
PRODUCTS += [(300, 70, 1), (1, 300, 65), (64, 40, 20)]


def products():
    for m, k, n in PRODUCTS:
        yield Case(
            (m * k, k * n),
            m * n,
            lambda a, b, s=(m, k, n): a.reshape(s[:2]) @ b.reshape(s[1:]),
            {"m": [m], "k": [k], "n": [n]},
            label=str((m, k, n)),
        )


def expectations():
    """Sums over two and three states, with weights of one number and of one for each element."""
    for sizes in ((5, 5, 5, 5), (5, 1, 5, 5, 1, 5), (1, 5, 5, 1)):
        half = len(sizes) // 2

        def twin(*args, half=half):
            return sum(np.exp(args[half + k]) * args[k] for k in range(half))

        yield Case(sizes, 5, twin)


EXAMPLES: dict[str, Callable[[], Any]] = {
    "add": binary(lambda a, b: a + b),
    "subtract": binary(lambda a, b: a - b),
    "multiply": binary(lambda a, b: a * b),
    "divide": binary(lambda a, b: a / b),
    "xlogy": binary(lambda a, b: a * np.log(b)),
    "xlog1py": binary(lambda a, b: a * np.log(1 + b)),
    "sum": along_axis(lambda x: x.sum(1), True),
    "logsumexp": along_axis(logsumexp, True),
    "log_softmax": along_axis(log_softmax, False),
    "slice": slices,
    "gather": gathers,
    "concatenate": concatenations,
    "expectation": expectations,
    "matmul": products,
    "negative": elementwise(lambda x: -x),
    "add_constant": elementwise(lambda x, c: x + c, numbers=(1.5,)),
    "multiply_constant": elementwise(lambda x, c: x * c, numbers=(-2.5,)),
    "power": elementwise(lambda x, c: x**c, positive, numbers=(3.0, -1.5, 1.0, 0.0)),
    "square": elementwise(lambda x: x * x),
    "reciprocal": elementwise(lambda x: 1 / x, positive),
    "sqrt": elementwise(np.sqrt, positive),
    "exp": elementwise(np.exp),
    "log": elementwise(np.log, positive),
    "log1p": elementwise(lambda x: np.log(1 + x), positive),
    "expm1": elementwise(lambda x: np.exp(x) - 1),
    "sigmoid": elementwise(lambda x: 1 / (1 + np.exp(-x))),
    "softplus": elementwise(lambda x: np.log(1 + np.exp(x))),
    "tanh": elementwise(np.tanh),
    "relu": elementwise(lambda x: np.where(x.real > 0, x, 0)),
    "abs": elementwise(lambda x: np.where(x.real > 0, x, -x)),
    "sin": elementwise(np.sin),
    "cos": elementwise(np.cos),
    "lgamma": elementwise(lambda x: Analytic(special.gammaln, special.digamma)(x), positive),
    "digamma": elementwise(lambda x: Analytic(special.digamma, lambda y: special.polygamma(1, y))(x), positive),
    "norm_cdf": elementwise(lambda x: Analytic(special.ndtr, lambda y: np.exp(-y * y / 2) / math.sqrt(2 * math.pi))(x)),
    "exponential_ppf": elementwise(lambda u: -np.log(1 - u), inside),
    "gumbel_ppf": elementwise(lambda u: -np.log(-np.log(u)), inside),
    "laplace_ppf": elementwise(lambda u: np.where(u.real < 0.5, np.log(2 * u), -np.log(2 - 2 * u)), inside),
    "logit": elementwise(lambda u: np.log(u / (1 - u)), inside),
    "cauchy_ppf": elementwise(lambda u: np.tan(np.pi * (u - 0.5)), inside),
    "half_cauchy_ppf": elementwise(lambda u: np.tan(np.pi / 2 * u), inside),
    "half_normal_ppf": elementwise(
        lambda u: Analytic(stats.halfnorm.ppf, lambda v: 1 / stats.halfnorm.pdf(stats.halfnorm.ppf(v)))(u), inside
    ),
    "wrap_angle": elementwise(lambda x: x - 2 * np.pi * np.round(x.real / (2 * np.pi)), around_the_circle),
    "exp_above_0": elementwise(np.exp),
    "exp_inside": elementwise(np.exp),
    "sigmoid_inside": elementwise(lambda x: 1 / (1 + np.exp(-x))),
}


class Analytic:
    """A function without a complex twin: its derivative, known, carries the imaginary part."""

    def __init__(self, function, derivative):
        self.function, self.derivative = function, derivative

    def __call__(self, x):
        value = self.function(x.real)
        return value + 1j * self.derivative(x.real) * x.imag if np.iscomplexobj(x) else value


# Nodes with contract tests of their own, and what there stands for them.
TRANSFORMED = ("inverse_exp", "inverse_softplus", "inverse_sigmoid", "inverse_affine", "log_q_gate")
ELSEWHERE = {
    **{name: ("test_matrix_nodes.py", name) for name in ("cholesky", "cumsum", "rbf", "solve_triangular")},
    **dict.fromkeys(TRANSFORMED, ("test_event_distributions.py", "TransformedDistribution(")),
    "tril_draw": ("test_event_distributions.py", "tril_draw"),
    "log_gamma_draw": ("test_gamma_draws.py", "log_gamma_draw"),
    "event_total": ("test_event_distributions.py", "MultivariateNormalDiag("),
    "hidden_markov": ("test_hidden_markov.py", "hidden_markov"),
    "von_mises_draw": ("test_native_draws.py", "VonMises("),
    "normal_mixture_draw": ("test_native_draws.py", "MixtureSameFamily("),
    "log_mixture": ("test_event_distributions.py", "MixtureSameFamily("),
}


@pytest.mark.parametrize("name", _core.NODES)
def test_every_node_has_an_example(name):
    if name in ELSEWHERE:
        file, words = ELSEWHERE[name]
        assert words in pathlib.Path(__file__).with_name(file).read_text()
    else:
        assert name in EXAMPLES, f"no example for node {name}"


def test_there_is_no_example_without_a_node():
    assert not set(EXAMPLES) - set(_core.NODES)


@pytest.mark.parametrize("n_draws", [1, 4])
@pytest.mark.parametrize("name", sorted(set(_core.NODES) & set(EXAMPLES)))
def test_values_and_pullbacks(name, n_draws):
    for case in EXAMPLES[name]():
        for per_draw in every_sharing(case):
            node = OneNode(name, case, per_draw, n_draws)
            try:
                check_value(node)
                check_pullback(node)
            except AssertionError as error:
                raise AssertionError(f"{name} {case.label}, inputs with draws: {per_draw}: {error}") from None


@pytest.mark.parametrize("name", ["add", "multiply", "exp", "sum", "logsumexp", "gather", "slice"])
@pytest.mark.parametrize("n_draws", [255, 257, 1000])
def test_many_draws_of_small_arrays(name, n_draws):
    for case in EXAMPLES[name]():
        if max((*case.sizes, case.size)) > 8:
            continue
        for per_draw in every_sharing(case):
            node = OneNode(name, case, per_draw, n_draws)
            check_value(node)
            check_pullback(node)


# --- what one array used twice, or not at all, gets ------------------------------------------------------------
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
@pytest.mark.parametrize("n", [1, 3, 300])
def test_both_operands_may_be_one_array(name, n):
    core = _core.Model()
    x = core.input(n)
    out = core.node(name, [x, x], n)
    values = np.random.default_rng(0).uniform(0.5, 2, (3, n))
    grads = core.pullback(3, np.zeros(1), np.zeros((3, 1)), [values], out, np.ones((3, n)))[1][0]
    expected = {"add": 2 + 0 * values, "subtract": 0 * values, "multiply": 2 * values, "divide": 0 * values}[name]
    np.testing.assert_allclose(grads, expected, atol=1e-15)


def test_cotangents_of_an_array_used_twice_add_up():
    core = _core.Model()
    x = core.input(4)
    out = core.node("add", [core.node("exp", [x], 4), core.node("square", [x], 4)], 4)
    values, cot = np.random.default_rng(0).normal(size=(2, 3, 4))
    grads = core.pullback(3, np.zeros(1), np.zeros((3, 1)), [values], out, cot)[1][0]
    np.testing.assert_allclose(grads, cot * (np.exp(values) + 2 * values), rtol=1e-14)


def test_an_array_that_the_seed_does_not_depend_on_gets_nothing():
    core = _core.Model()
    x, y = core.input(2), core.input(2)
    out = core.node("exp", [x], 2)
    core.node("exp", [y], 2)
    grads = core.pullback(1, np.zeros(1), np.zeros((1, 1)), [np.ones((1, 2)), np.ones((1, 2))], out, np.ones((1, 2)))[1]
    np.testing.assert_array_equal(grads[1], 0)


def test_frozen_parameters_get_nothing():
    core = _core.Model()
    a, b = core.parameter(0, 2, True), core.parameter(2, 2)
    out = core.node("multiply", [a, b], 2)
    grad, _ = core.pullback(2, np.array([1.0, 2, 3, 4]), np.zeros((2, 1)), [], out, np.ones((1, 2)))
    np.testing.assert_array_equal(grad, [0, 0, 1, 2])


# --- extremes --------------------------------------------------------------------------------------------------
def evaluate_one(name, x, size=None, integers=None):
    core = _core.Model()
    out = core.node(name, [core.input(x.shape[1])], size or x.shape[1], integers or {})
    return core.evaluate(len(x), np.zeros(1), np.zeros((len(x), 1)), [x], [out])[0]


EXTREMES = np.array([[0.0, -0.0, np.inf, -np.inf, np.nan, 800.0, -800.0, 1e-320, 5e300, -5e300]])


@pytest.mark.parametrize(
    "name", sorted(set(_core.NODES) & {"tanh", "relu", "abs", "exp", "negative", "square", "sqrt"})
)
def test_elementwise_functions_of_extremes(name):
    with np.errstate(all="ignore"):
        twin = {"relu": lambda x: np.maximum(x, 0), "abs": np.abs}.get(name) or getattr(np, name)
        np.testing.assert_allclose(evaluate_one(name, EXTREMES), twin(EXTREMES), rtol=1e-15)


@pytest.mark.parametrize(("name", "shift"), [("xlogy", 0.0), ("xlog1py", 1.0)])
def test_products_with_logarithms_at_zero(name, shift):
    """Zero times any logarithm is zero; where that is log 0, both derivatives are taken as 0."""
    a, b = np.array([0.0, 0.0, 0.0, 2.0, 0.0]), np.array([0.0, 2.0, np.inf, 0.0, np.nan])
    core = _core.Model()
    slots = [core.input(5), core.input(5)]
    out = core.node(name, slots, 5)
    inputs = [a[None], b[None] - shift]
    args = (1, np.zeros(1), np.zeros((1, 1)), inputs)
    np.testing.assert_array_equal(core.evaluate(*args, [out])[0][0], [0, 0, 0, -np.inf, np.nan])
    by_a, by_b = core.pullback(*args, out, np.ones((1, 5)))[1]
    np.testing.assert_allclose(by_a[0], [0, np.log(2), np.inf, -np.inf, np.nan], rtol=1e-15)
    np.testing.assert_array_equal(by_b[0][:4], [0, 0, 0, np.inf])


@pytest.mark.parametrize(
    "row", [[np.nan] * 3, [1, np.nan, 2], [-np.inf] * 3, [-np.inf, 0, 1], [np.inf, 0, 1], [1e4, -1e4, 0], [np.inf] * 3]
)
@pytest.mark.parametrize("inner", [1, 2])
def test_logsumexp_of_extremes(row, inner):
    x = np.repeat(np.array([row], float), inner, 0).T.reshape(1, -1)
    got = evaluate_one("logsumexp", x, inner, {"outer": [1], "n": [3], "inner": [inner]})
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(got, np.full((1, inner), np.logaddexp.reduce(row)), rtol=1e-15)


def test_a_power_of_zero_has_a_slope():
    core = _core.Model()
    for exponent, slope in [(0.0, 0.0), (1.0, 1.0), (3.0, 0.0)]:
        out = core.node("power", [core.parameter(0, 1)], 1, {}, {"constant": [exponent]})
        grad, _ = core.pullback(1, np.zeros(1), np.zeros((1, 1)), [], out, np.ones((1, 1)))
        assert grad == [slope]


# --- data ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bad", [-1, 3, 0.5, np.nan, np.inf, 1e300])
def test_bad_indices(bad):
    core = _core.Model()
    out = core.node("gather", [core.input(3), core.data(np.array([0.0, bad]))], 2, {"width": [1]})
    with pytest.raises(ValueError, match=r"an index must be an integer in \[0, 3\), not "):
        core.evaluate(1, np.zeros(1), np.zeros((1, 1)), [np.ones((1, 3))], [out])


def test_bad_indices_leave_the_old_ones():
    core = _core.Model()
    index = core.data(np.array([0.0, 2.0]))
    out = core.node("gather", [core.input(3), index], 2, {"width": [1]})
    x = np.array([[1.0, 2, 3]])

    def values():
        return core.evaluate(1, np.zeros(1), np.zeros((1, 1)), [x], [out])[0].tolist()

    assert values() == [[1, 3]]
    with pytest.raises(ValueError, match="an index"):
        core.set_data(index, np.array([1.0, 3.0]))
    assert values() == [[1, 3]]
    with pytest.raises(ValueError, match="expected 2 numbers of data, got 3"):
        core.set_data(index, np.zeros(3))
    core.set_data(index, np.array([1.0, 1.0]))
    assert values() == [[2, 2]]


def test_what_depends_on_data_alone_follows_them():
    core = _core.Model()
    data = core.data(np.array([1.0, 2.0]))
    squares = core.node("square", [data], 2)
    out = core.node("multiply", [squares, core.input(2)], 2)
    assert core.flags(squares) == (False, False, True)
    x = np.array([[1.0, 10.0], [2.0, 20.0]])
    for values in ([1.0, 2.0], [3.0, 4.0]):
        core.set_data(data, np.array(values))
        got = core.evaluate(2, np.zeros(1), np.zeros((2, 1)), [x], [out])[0]
        np.testing.assert_array_equal(got, x * np.square(values))


# --- configurations that do not fit ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "sizes", "size", "integers", "message"),
    [
        ("no_such_node", (1,), 1, {}, "no_such_node"),
        ("exp", (2,), 3, {}, "size"),
        ("exp", (2, 2), 2, {}, "1 input"),
        ("add", (2, 3), 3, {}, "size"),
        ("add", (2,), 2, {}, "2 inputs"),
        ("sum", (6,), 2, {"outer": [2], "n": [2], "inner": [1]}, "axis"),
        ("sum", (6,), 2, {"outer": [2], "n": [3]}, "'inner' is missing"),
        ("slice", (3,), 2, {"begin": [2]}, "beyond"),
        ("slice", (3,), 2, {"begin": [-1]}, "beyond"),
        ("gather", (4, 2), 3, {"width": [2]}, "gather"),
        ("gather", (4, 2), 0, {"width": [0]}, "elements"),
        ("expectation", (2, 2, 2), 2, {}, "log weights"),
        ("expectation", (2, 3), 2, {}, "size"),
        ("gather", (4, 2), 2, {"width": [0]}, "gather"),
        ("concatenate", (2, 3), 6, {"outer": [1]}, "concatenat"),
        ("concatenate", (2, 3), 5, {"outer": [2]}, "concatenat"),
        ("concatenate", (2, 3), 5, {"outer": [0]}, "concatenat"),
        ("matmul", (4, 4), 4, {"m": [2], "k": [2], "n": [3]}, "matrix product"),
    ],
)
def test_nodes_refuse_what_does_not_fit(name, sizes, size, integers, message):
    core = _core.Model()
    inputs = [core.input(n) for n in sizes]
    with pytest.raises(ValueError, match=message):
        core.node(name, inputs, size, integers)


# --- densities as nodes ----------------------------------------------------------------------------------------
# Name, value and parameters; where they lie is test_densities.py's to explore.
DENSITIES = {
    "normal": ((-1, 1), (-1, 1), (0.5, 2)),
    "student_t": ((-1, 1), (2, 5), (-1, 1), (0.5, 2)),
    "gamma": ((0.5, 3), (0.5, 3), (0.5, 3)),
    "bernoulli_logits": ("binary", (-2, 2)),
    "poisson": ("count", (0.5, 4)),
    "binomial_logits": ("count", "trials", (-2, 2)),
}


def density_arguments(name, sharing, n_draws, sizes, rng):
    out = []
    for kind, shared, n in zip(DENSITIES[name], sharing, sizes, strict=True):
        shape = (n,) if shared else (n_draws, n)
        if kind == "binary":
            out.append(rng.integers(0, 2, shape).astype(float))
        elif kind == "count":
            out.append(rng.integers(0, 5, shape).astype(float))
        elif kind == "trials":
            out.append(np.full(shape, 7.0))
        else:
            out.append(rng.uniform(*kind, shape))
    return out


def rowwise(function, arguments, sharing, n_draws):
    return np.array(
        [function([a if s else a[i] for a, s in zip(arguments, sharing, strict=True)]) for i in range(n_draws)]
    )


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("scaled", [None, "one", "each"])
@pytest.mark.parametrize("name", sorted(DENSITIES))
def test_density_nodes(name, scaled, summed):
    rng = np.random.default_rng(5)
    table, n_draws = _core.kernels.active(), 3
    k = len(DENSITIES[name])
    has_base = any(row[0] == name and row[2] for row in _core.kernels.densities())
    for n in (1, 2, 257, 5000):
        for sharing in itertools.product((False, True), repeat=k):
            if all(sharing) or (n == 5000 and sum(sharing) > 1):
                continue
            sizes = [n if i == 0 or rng.integers(2) else 1 for i in range(k)]
            args = density_arguments(name, sharing, n_draws, sizes, rng)
            core = _core.Model()
            ids, flat, at = [], [], 0
            discrete = [isinstance(kind, str) for kind in DENSITIES[name]]
            for a, shared, whole in zip(args, sharing, discrete, strict=True):
                if not shared:
                    ids.append(core.input(a.shape[1]))
                elif whole:
                    ids.append(core.data(a))
                else:
                    ids.append(core.parameter(at, a.size))
                    at += a.size
                    flat.append(a)
            factor = np.ones(1)
            if scaled:
                factor = rng.uniform(0.5, 2, n if scaled == "each" else 1)
                factor[-1] = 0.0 if n > 2 else factor[-1]
                ids.append(core.data(factor))
            out = core.density(name, ids, n, summed, scaled is not None)
            params, noise = np.concatenate([*flat, [0.0]]), np.zeros((n_draws, 1))
            inputs = [a for a, s in zip(args, sharing, strict=True) if not s]
            got = core.evaluate(n_draws, params, noise, inputs, [out])[0]

            def each(row, n=n, factor=factor):
                row = [np.broadcast_to(a, n).copy() for a in row]
                value = _core.kernels.log_density(table, name, row)
                if has_base:
                    value = value + _core.kernels.log_density_base(table, name, row)
                return value * factor

            values = rowwise(each, args, sharing, n_draws)
            expected = values.sum(1, keepdims=True) if summed else values
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-10)

            cot = rng.normal(size=expected.shape)
            grad, drawn = core.pullback(n_draws, params, noise, inputs, out, cot)

            def slopes(row, wanted, n=n):
                row = [np.broadcast_to(a, n).copy() for a in row]
                return _core.kernels.log_density_gradient(table, name, row, [j == wanted for j in range(k)])[wanted]

            at, drawn = 0, iter(drawn)
            for j, (a, shared, whole) in enumerate(zip(args, sharing, discrete, strict=True)):
                if not shared:
                    have = next(drawn)
                elif whole:
                    continue
                else:
                    have = grad[at : at + a.size]
                    at += a.size
                if whole:
                    continue
                partial = rowwise(lambda r, j=j: slopes(r, j), args, sharing, n_draws) * cot * factor
                want = partial if a.shape[-1] == n else partial.sum(1, keepdims=True)
                want = want.sum(0) if shared else want
                np.testing.assert_allclose(have, want, rtol=1e-11, atol=1e-9)


def test_a_factor_of_zero_leaves_an_element_out():
    for factor in (np.zeros(1), np.zeros(3)):
        core = _core.Model()
        x = core.input(3)
        out = core.density("gamma", [x, core.data(np.ones(1)), core.data(np.ones(1)), core.data(factor)], 3, True, True)
        values = np.array([[-1.0, np.nan, 1.0]])
        got = core.evaluate(1, np.zeros(1), np.zeros((1, 1)), [values], [out])[0]
        np.testing.assert_array_equal(got, [[0.0]])


# --- draws -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 2, 257, 5000])
@pytest.mark.parametrize("one_loc", [False, True])
@pytest.mark.parametrize("one_scale", [False, True])
@pytest.mark.parametrize("per_draw", list(itertools.product((False, True), repeat=2)))
def test_location_scale_draws(n, one_loc, one_scale, per_draw):
    rng, n_draws = np.random.default_rng(2), 3
    core = _core.Model()
    values, ids, at = [], [], 0
    for one, drawn in zip((one_loc, one_scale), per_draw, strict=True):
        m = 1 if one else n
        if drawn:
            ids.append(core.input(m))
            values.append(rng.normal(size=(n_draws, m)))
        else:
            ids.append(core.parameter(at, m))
            at += m
            values.append(rng.normal(size=m))
    out = core.draw([*ids, core.noise(0, n)], n)
    noise = rng.normal(size=(n_draws, n))
    params = np.concatenate([*[v for v, d in zip(values, per_draw, strict=True) if not d], [0.0]])
    inputs = [v for v, d in zip(values, per_draw, strict=True) if d]
    got = core.evaluate(n_draws, params, noise, inputs, [out])[0]
    np.testing.assert_allclose(got, values[0] + values[1] * noise, rtol=1e-14, atol=1e-14)
    cot = rng.normal(size=(n_draws, n))
    grad, drawn = core.pullback(n_draws, params, noise, inputs, out, cot)
    at, drawn = 0, iter(drawn)
    for v, d, share in zip(values, per_draw, (cot, cot * noise), strict=True):
        share = share.sum(1, keepdims=True) if v.shape[-1] == 1 else share
        have = next(drawn) if d else grad[at : at + v.size]
        at += 0 if d else v.size
        np.testing.assert_allclose(have, share if d else share.sum(0), rtol=1e-12, atol=1e-11)


def test_a_state_of_probability_0_counts_for_nothing():
    core = _core.Model()
    x, log_weight = core.input(2), core.input(2)
    out = core.node("expectation", [x, log_weight], 2)
    values = [np.array([[-np.inf, 3.0]]), np.array([[-np.inf, math.log(0.5)]])]
    assert core.evaluate(1, np.zeros(1), np.zeros((1, 1)), values, [out])[0].tolist() == [[0.0, 1.5]]
    _, (to_x, to_weight) = core.pullback(1, np.zeros(1), np.zeros((1, 1)), values, out, np.ones((1, 2)))
    assert to_x.tolist() == [[0.0, 0.5]]
    assert to_weight.tolist() == [[0.0, 1.5]]


@pytest.mark.parametrize("per_draw", [True, False])
def test_gathers_by_drawn_indices(per_draw):
    core, rng = _core.Model(), np.random.default_rng(0)
    x = core.input(6) if per_draw else core.parameter(0, 6)
    index = core.input(4)
    out = core.node("gather", [x, index], 8, {"width": [2]})
    rows, at = rng.normal(size=(3, 6) if per_draw else 6), rng.integers(3, size=(3, 4))
    at_float = at.astype(float)
    at_float[1, 2] = 7.0  # no row
    inputs = [rows, at_float] if per_draw else [at_float]
    params = np.zeros(1) if per_draw else rows
    expected = np.stack([(rows[s] if per_draw else rows).reshape(3, 2)[at[s]].ravel() for s in range(3)])
    expected[1, 4:6] = np.nan
    np.testing.assert_array_equal(core.evaluate(3, params, np.zeros((3, 1)), inputs, [out])[0], expected)
    cot = rng.normal(size=(3, 8))
    grad, drawn = core.pullback(3, params, np.zeros((3, 1)), inputs, out, cot)
    to = np.zeros((3, 3, 2))
    for s, i in np.ndindex(3, 4):
        if at_float[s, i] < 3:
            to[s, at[s, i]] += cot[s, 2 * i : 2 * i + 2]
    got = drawn[0].reshape(3, 3, 2) if per_draw else grad.reshape(3, 2)
    np.testing.assert_allclose(got, to if per_draw else to.sum(0), rtol=1e-14, atol=1e-15)
