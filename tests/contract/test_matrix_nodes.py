"""Cholesky factors, triangular solves, kernel matrices, running sums: against NumPy and SciPy, and by differences."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from klqp import _core
from klqp.model import nodes
from klqp.model.ancestral import evaluate
from klqp.model.distributions.normal import Normal
from klqp.model.parameter import Parameter


class Program:
    """A node whose inputs are data, parameters or inputs with a draw axis."""

    def __init__(self, name, size, values, kinds, draws, integers, constant=None):
        self.model, self.draws, self.kinds = _core.Model(), draws, kinds
        self.values = values  # (rows, size)
        slots, offset, self.where, self.inputs, params = [], 0, [], [], []
        for value, kind in zip(values, kinds, strict=True):
            width = value.shape[1]
            if kind == "data":
                slots.append(self.model.data(value[0]))
                self.where.append(None)
            elif kind == "shared":
                slots.append(self.model.parameter(offset, width))
                params.append(value[0])
                self.where.append(slice(offset, offset + width))
                offset += width
            else:
                slots.append(self.model.input(width))
                self.where.append(len(self.inputs))
                self.inputs.append(value)
        self.flat = np.concatenate(params) if params else np.zeros(1)
        numbers = {} if constant is None else {"constant": [constant]}
        self.out = self.model.node(name, slots, size, {k: [v] for k, v in integers.items()}, numbers)

    def evaluate(self, flat=None, inputs=None):
        flat = self.flat if flat is None else flat
        inputs = self.inputs if inputs is None else inputs
        return self.model.evaluate(self.draws, flat, np.zeros((self.draws, 1)), inputs, [self.out])[0]

    def check(self, rng, directions, expected, step=1e-6):
        """Compare values with expected(rows of values), and cotangents with differences."""
        got = self.evaluate()
        rows = [
            [v[s if k == "per_draw" else 0] for v, k in zip(self.values, self.kinds, strict=True)]
            for s in range(len(got))
        ]
        np.testing.assert_allclose(got, [expected(*row).ravel() for row in rows], rtol=1e-10, atol=1e-11)
        cot = rng.standard_normal(got.shape)
        grad, grads = self.model.pullback(self.draws, self.flat, np.zeros((self.draws, 1)), self.inputs, self.out, cot)
        for k, kind in enumerate(self.kinds):
            if kind == "data":
                continue
            mine = grad[self.where[k]] if kind == "shared" else grads[self.where[k]]
            direction = directions[k](rng.standard_normal(mine.shape))
            sides = []
            for sign in (1, -1):
                flat, inputs = self.flat.copy(), [x.copy() for x in self.inputs]
                if kind == "shared":
                    flat[self.where[k]] += sign * step * direction
                else:
                    inputs[self.where[k]] += sign * step * direction
                sides.append((cot * self.evaluate(flat, inputs)).sum())
            difference = (sides[0] - sides[1]) / (2 * step)
            assert (mine * direction).sum() == pytest.approx(
                difference, rel=1e-6, abs=1e-6 * (1 + np.abs(cot * got).sum()) / 100
            )


KINDS = ["data", "shared", "per_draw"]


def any_direction(x):
    return x


def matrices(x, d):
    return x.reshape(*x.shape[:-1], -1, d, d)


def spd(rng, rows, n, d):
    m = rng.standard_normal((rows, n, d, d))
    return (m @ np.swapaxes(m, -1, -2) + 2 * np.eye(d)).reshape(rows, -1)


def tril(rng, rows, n, d):
    m = np.tril(0.5 * rng.standard_normal((rows, n, d, d)), -1) + np.eye(d) * rng.uniform(0.5, 2, (rows, n, d, 1))
    return m.reshape(rows, -1)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 3), (4, 3), (2, 40)])
@pytest.mark.parametrize("kind", KINDS)
def test_cholesky(n, d, kind):
    rng = np.random.default_rng(0)
    draws = 3
    x = spd(rng, draws if kind == "per_draw" else 1, n, d)
    program = Program("cholesky", n * d * d, [x], [kind], draws, {"n": n, "size": d})

    def symmetric(direction):
        m = matrices(direction, d)
        return (m + np.swapaxes(m, -1, -2)).reshape(direction.shape)

    program.check(rng, [symmetric], lambda x: np.linalg.cholesky(matrices(x, d)))


def test_cholesky_of_what_has_none_is_nan():
    x = Parameter([[1.0, 2.0], [2.0, 1.0]])
    assert np.isnan(evaluate([nodes.cholesky(x)], {}, 1)[0]).all()


@pytest.mark.parametrize(("n", "d", "cols"), [(1, 1, 1), (1, 5, 1), (1, 4, 3), (3, 4, 2), (2, 40, 1)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("one_factor", [False, True])
def test_solve_triangular(n, d, cols, transposed, one_factor):
    rng = np.random.default_rng(1)
    draws = 3

    def solve(factor, b):
        factor, b = matrices(factor, d), b.reshape(n, d, cols)
        return np.stack(
            [
                scipy.linalg.solve_triangular(factor[0 if one_factor else i], b[i], trans=int(transposed), lower=True)
                for i in range(n)
            ]
        )

    for kinds in itertools.product(KINDS, KINDS):
        rows = [draws if k == "per_draw" else 1 for k in kinds]
        values = [tril(rng, rows[0], 1 if one_factor else n, d), rng.standard_normal((rows[1], n * d * cols))]
        sizes = {"n": n, "size": d, "cols": cols, "transposed": int(transposed)}
        program = Program("solve_triangular", n * d * cols, values, list(kinds), draws, sizes)
        program.check(rng, [lambda x: 0.1 * np.tril(matrices(x, d)).reshape(x.shape), any_direction], solve)


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (5, 3, 2), (60, 50, 1)])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("ard", [False, True])
def test_rbf(n, m, d, cross, ard):
    rng = np.random.default_rng(2)
    draws, jitter = 3, 0.0 if cross else 0.25

    def kernel(x, *rest):
        *y, scale, variance = rest
        x = x.reshape(n, d)
        y = y[0].reshape(m, d) if y else x
        gaps = (x[:, None] - y) / scale
        return variance * np.exp(-0.5 * (gaps**2).sum(-1)) + (0 if cross else jitter * np.eye(n))

    widths = [n * d, m * d, d if ard else 1, 1] if cross else [n * d, d if ard else 1, 1]
    combinations = list(itertools.product(KINDS, repeat=len(widths)))
    for index in rng.choice(len(combinations), 14, replace=False):
        kinds = list(combinations[index])
        values = []
        for i, (width, kind) in enumerate(zip(widths, kinds, strict=True)):
            rows = draws if kind == "per_draw" else 1
            positive = i >= len(widths) - 2
            values.append(rng.uniform(0.5, 2, (rows, width)) if positive else rng.standard_normal((rows, width)))
        sizes = {"n": n, "m": m if cross else n, "d": d, "cross": int(cross)}
        program = Program("rbf", n * (m if cross else n), values, kinds, draws, sizes, jitter)
        program.check(rng, [any_direction] * len(widths), kernel)


@pytest.mark.parametrize(("outer", "n", "inner"), [(1, 1, 1), (1, 7, 1), (3, 4, 1), (1, 4, 3), (2, 3, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_cumsum(outer, n, inner, kind):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3 if kind == "per_draw" else 1, outer * n * inner))
    program = Program("cumsum", x.shape[1], [x], [kind], 3, {"outer": outer, "n": n, "inner": inner})
    program.check(rng, [any_direction], lambda x: x.reshape(outer, n, inner).cumsum(1))


def value_of(expression):
    return evaluate([expression], {}, 1)[0]


def test_functions_take_arrays_of_any_batch():
    rng = np.random.default_rng(4)
    a = spd(rng, 1, 6, 3).reshape(2, 3, 3, 3)
    b = rng.standard_normal((2, 3, 3, 4))
    p = Parameter(a)
    factor = nodes.cholesky(p)
    np.testing.assert_allclose(value_of(factor), np.linalg.cholesky(a), rtol=1e-12)
    solved = value_of(nodes.solve_triangular(factor, nodes.solve_triangular(factor, b), transposed=False))
    assert solved.shape == b.shape
    there = nodes.solve_triangular(factor, nodes.solve_triangular(factor, b), transposed=True)
    np.testing.assert_allclose(value_of(there), np.linalg.solve(a, b), rtol=1e-9)
    one = nodes.solve_triangular(np.linalg.cholesky(a[0, 0]), Parameter(b))
    np.testing.assert_allclose(value_of(one), np.linalg.solve(np.linalg.cholesky(a[0, 0]), b), rtol=1e-10)
    x = rng.standard_normal((2, 3, 4))
    for axis in (0, 1, -1, None):
        np.testing.assert_allclose(value_of(nodes.cumsum(Parameter(x), axis)), x.cumsum(axis), rtol=1e-13)
    np.testing.assert_array_equal(value_of(nodes.diag(Parameter(x))), x[..., None] * np.eye(4))
    v = rng.standard_normal((2, 6))
    expected = np.zeros((2, 3, 3))
    expected[:, *np.tril_indices(3)] = v
    np.testing.assert_array_equal(value_of(nodes.tril(Parameter(v))), expected)
    points = rng.standard_normal(5)
    kernel = value_of(nodes.rbf(points, lengthscale=Parameter(2.0), variance=3.0, jitter=1e-3))
    np.testing.assert_allclose(
        kernel, 3 * np.exp(-((points[:, None] - points) ** 2) / 8) + 1e-3 * np.eye(5), rtol=1e-13
    )


def test_a_gaussian_process_is_written_in_one_line():
    x = np.linspace(0, 1, 20)[:, None]
    scale = Parameter(0.3, support="positive")
    f = nodes.cholesky(nodes.rbf(x, lengthscale=scale, jitter=1e-8)) @ Normal(np.zeros(20), 1.0)
    assert f.shape == (20,)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: nodes.cholesky(np.ones(3)), "square"),
        (lambda: nodes.cholesky(np.ones((2, 3))), "square"),
        (lambda: nodes.solve_triangular(np.ones((2, 3)), np.ones(3)), "square"),
        (lambda: nodes.solve_triangular(np.eye(3), np.ones(2)), "do not fit"),
        (lambda: nodes.solve_triangular(np.ones((4, 3, 3)), np.ones((3, 1))), "do not fit"),
        (lambda: nodes.rbf(np.ones((3, 2)), np.ones((3, 1))), "points"),
        (lambda: nodes.rbf(np.ones((3, 2)), lengthscale=[1.0, 1.0, 1.0]), "lengthscales"),
        (lambda: nodes.rbf(np.ones((3, 2)), variance=[1.0, 1.0]), "variance"),
        (lambda: nodes.rbf(1.0), "points"),
        (lambda: nodes.cumsum(np.ones(3), 1), "out of bounds"),
        (lambda: nodes.diag(1.0), "vectors"),
        (lambda: nodes.tril(np.ones(4)), "1, 3, 6"),
    ],
)
def test_shapes_that_do_not_fit(build, match):
    with pytest.raises(ValueError, match=match):
        build()
