"""Matrix products and triangular kernels of every table: against NumPy, over splits, and by differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klqp import _core

kernels = _core.kernels
EPS = 2.0**-52
DEPTH = 128  # terms of a block, docs/kernels.md

each_table = pytest.mark.parametrize("table", kernels.tables())
each_product = pytest.mark.parametrize("name", ["nt", "nn", "tn"])
each_order = pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 16, 31, 32, 33, 64, 65, 100, 150])


def strided(rng, rows, cols, extra):
    """Return normals (rows, cols) that lie in rows of cols + extra numbers."""
    return rng.normal(size=(rows, cols + extra))[:, :cols]


def operands(rng, name, m, n, k, extra=(0, 0, 0)):
    """Return a, b and c as the kernel takes them."""
    a_shape = (k, m) if name == "tn" else (m, k)
    b_shape = (n, k) if name == "nt" else (k, n)
    shapes = (a_shape, b_shape, (m, n))
    return [strided(rng, *shape, more) for shape, more in zip(shapes, extra, strict=True)]


def as_written(name, a, b):
    """Return the operands as (m, k) and (k, n)."""
    return (a.T if name == "tn" else a), (b.T if name == "nt" else b)


def product(table, name, a, b, c):
    """Return c plus the product, leaving c as it is."""
    out = c.copy()
    getattr(kernels, f"matmul_{name}")(table, a, b, out)
    return out


def check(table, name, a, b, c):
    """Within the rounding of sums of blocks of products."""
    left, right = as_written(name, a, b)
    k = left.shape[1]
    terms = min(k, DEPTH) + k // DEPTH + 3
    error = np.abs(product(table, name, a, b, c) - (c + left @ right))
    assert np.all(error <= 2 * terms * EPS * (np.abs(c) + np.abs(left) @ np.abs(right)))


# --- products ------------------------------------------------------------------------------------

size = st.integers(0, 70)
extra = st.integers(0, 5)


@each_product
@each_table
@settings(max_examples=100, deadline=None)
@given(m=size, n=size, k=size, more=st.tuples(extra, extra, extra), seed=st.integers(0, 2**32 - 1))
def test_against_numpy(table, name, m, n, k, more, seed):
    check(table, name, *operands(np.random.default_rng(seed), name, m, n, k, more))


@each_product
@each_table
@pytest.mark.parametrize(
    "shape",
    [(1, 300, 200), (300, 1, 200), (2, 97, 1000), (150, 40, 300), (40, 150, 300), (300, 2, 129), (8, 1000, 128)],
)
def test_against_numpy_over_many_blocks(table, name, shape):
    check(table, name, *operands(np.random.default_rng(2), name, *shape, (1, 3, 2)))


@each_product
@each_table
def test_only_c_is_written(table, name):
    """Neither the operands nor the numbers between the rows of C."""
    rng = np.random.default_rng(3)
    for m, n, k in [(5, 7, 9), (1, 50, 20), (50, 1, 20), (17, 29, 140)]:
        a, b, _ = operands(rng, name, m, n, k, (2, 1, 0))
        before = a.copy(), b.copy()
        storage = np.full((m + 2, n + 3), 7.0)
        storage[1:-1, 1:-2] = 0.0
        getattr(kernels, f"matmul_{name}")(table, a, b, storage[1:-1, 1:-2])
        np.testing.assert_array_equal(a, before[0])
        np.testing.assert_array_equal(b, before[1])
        storage[1:-1, 1:-2] = 7.0
        assert np.all(storage == 7.0)


@each_product
@each_table
@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 70),
    n=st.integers(1, 70),
    k=st.sampled_from([0, 1, 3, 10, 50, 128, 129, 300]),
    cuts=st.tuples(st.integers(0, 70), st.integers(0, 70)),
    seed=st.integers(0, 2**32 - 1),
)
def test_independent_of_the_split(table, name, m, n, k, cuts, seed):
    """The blocks of C one by one are the same bits, whatever the blocks."""
    a, b, c = operands(np.random.default_rng(seed), name, m, n, k)
    whole = product(table, name, a, b, c)
    row, col = min(cuts[0], m), min(cuts[1], n)
    for rows in (slice(0, row), slice(row, m)):
        for cols in (slice(0, col), slice(col, n)):
            part_a = a[:, rows] if name == "tn" else a[rows]
            part_b = b[cols] if name == "nt" else b[:, cols]
            part = product(table, name, part_a, part_b, c[rows, cols])
            np.testing.assert_array_equal(part, whole[rows, cols])


@each_product
@each_table
@pytest.mark.parametrize("shape", [(37, 53, 300), (140, 5, 77), (3, 260, 150)])
def test_elements_alone_rows_alone_columns_alone(table, name, shape):
    a, b, c = operands(np.random.default_rng(4), name, *shape)
    whole = product(table, name, a, b, c)
    m, n, _ = shape
    for i in range(0, m, 3):
        part_a = np.ascontiguousarray(a[:, i : i + 1] if name == "tn" else a[i : i + 1])
        np.testing.assert_array_equal(product(table, name, part_a, b, c[i : i + 1])[0], whole[i])
    for j in range(0, n, 3):
        part_b = np.ascontiguousarray(b[j : j + 1] if name == "nt" else b[:, j : j + 1])
        np.testing.assert_array_equal(product(table, name, a, part_b, c[:, j : j + 1])[:, 0], whole[:, j])
        i = j % m
        part_a = a[:, i : i + 1] if name == "tn" else a[i : i + 1]
        assert product(table, name, part_a, part_b, c[i : i + 1, j : j + 1])[0, 0] == whole[i, j]


@each_table
def test_the_three_products_agree(table):
    """One order of summation for all."""
    rng = np.random.default_rng(5)
    for m, n, k in [(9, 31, 200), (1, 40, 50), (40, 1, 50), (5, 5, 5)]:
        a, b, c = operands(rng, "nn", m, n, k)
        expected = product(table, "nn", a, b, c)
        np.testing.assert_array_equal(product(table, "nt", a, np.ascontiguousarray(b.T), c), expected)
        np.testing.assert_array_equal(product(table, "tn", np.ascontiguousarray(a.T), b, c), expected)


@each_product
@each_table
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(9, 14, 21), (1, 70, 30), (70, 1, 30), (13, 3, 140)])
def test_what_is_not_finite_stays_in_its_row_and_column(table, name, bad, shape):
    m, n, k = shape
    for place in range(3):
        a, b, c = operands(np.random.default_rng(6), name, m, n, k)
        left, right = as_written(name, a, b)
        target = (left, right, c)[place]
        target[target.shape[0] // 2, target.shape[1] - 1] = bad
        with np.errstate(invalid="ignore"):
            expected = c + left @ right
        actual = product(table, name, a, b, c)
        usual = np.isfinite(expected)
        np.testing.assert_allclose(actual[usual], expected[usual], rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(actual[~usual], expected[~usual])


@each_product
@each_table
def test_long_sums_go_by_blocks(table, name):
    """A million terms of one sign lose fewer digits than they would one after the other."""
    k = 1_000_000
    a, b, c = operands(np.random.default_rng(7), name, 2, 3, k)
    np.abs(a, out=a)
    np.abs(b, out=b)
    c[:] = 0.0
    left, right = as_written(name, a, b)
    exact = np.array([[np.sum(left[i].astype(np.longdouble) * right[:, j]) for j in range(3)] for i in range(2)])
    assert np.max(np.abs(product(table, name, a, b, c) / exact - 1)) < 200 * EPS


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="shapes fit"):
        kernels.matmul_nn("base", np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="contiguous rows"):
        kernels.matmul_nn("base", np.ones((3, 2)).T, np.ones((3, 3)), np.ones((2, 3)))


# --- triangular ----------------------------------------------------------------------------------


def positive_definite(n, seed=8):
    """Return a matrix with eigenvalues from 1 to about 5."""
    x = np.random.default_rng(seed).normal(size=(n, 2 * n + 1))
    return np.eye(n) + x @ x.T / (2 * n + 1)


@each_order
@each_table
def test_solves(table, n):
    rng = np.random.default_rng(9)
    lower = np.linalg.cholesky(positive_definite(n))
    x = rng.normal(size=n)
    garbage = lower + np.triu(np.full((n, n), np.nan), 1)
    np.testing.assert_allclose(lower @ kernels.solve_lower(table, garbage, x), x, atol=1e-13)
    np.testing.assert_allclose(lower.T @ kernels.solve_lower_transposed(table, garbage, x), x, atol=1e-13)


@pytest.mark.parametrize("transposed", [False, True])
@each_order
@each_table
def test_solves_from_the_right(table, n, transposed):
    """In place, rows apart, each row the same bits alone; nothing above the diagonal is read."""
    rng = np.random.default_rng(10)
    solve = getattr(kernels, "solve_right_lower_transposed" if transposed else "solve_right_lower")
    lower = np.linalg.cholesky(positive_definite(n))
    garbage = np.full((n, n + 2), np.nan)[:, :n]
    garbage[np.tril_indices(n)] = lower[np.tril_indices(n)]
    wide = rng.normal(size=(14, n + 3))
    before = wide.copy()
    x = wide[:, :n]
    solve(table, garbage, x)
    np.testing.assert_array_equal(wide[:, n:], before[:, n:])
    np.testing.assert_allclose(x @ (lower.T if transposed else lower), before[:, :n], rtol=0, atol=1e-13)
    for row in (0, 5, 13):
        alone = before[row : row + 1, :n].copy()
        solve(table, garbage, alone)
        np.testing.assert_array_equal(alone[0], x[row])


@each_order
@each_table
def test_cholesky(table, n):
    a = positive_definite(n)
    lower, failed = kernels.cholesky(table, np.tril(a) + np.triu(np.full((n, n), np.nan), 1))
    assert failed == 0
    np.testing.assert_array_equal(np.triu(lower, 1), 0)
    np.testing.assert_allclose(lower, np.linalg.cholesky(a), rtol=0, atol=1e-13)
    scale = np.abs(lower) @ np.abs(lower).T
    assert np.all(np.abs(lower @ lower.T - a) <= (n + 2) * EPS * scale)


@each_table
def test_cholesky_of_a_hilbert_matrix(table):
    """Nearly singular: small backward error all the same."""
    n = 12
    a = 1 / (np.arange(n)[:, None] + np.arange(n) + 1.0)
    lower, failed = kernels.cholesky(table, a)
    assert failed == 0
    assert np.all(np.abs(lower @ lower.T - a) <= (n + 2) * EPS * (np.abs(lower) @ np.abs(lower).T))


@pytest.mark.parametrize("row", [0, 1, 5, 31, 32, 40, 69])
@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, -np.inf])
@each_table
def test_cholesky_names_the_first_bad_pivot(table, bad, row):
    a = positive_definite(70)
    a[row, row] = bad
    _, failed = kernels.cholesky(table, a)
    assert failed == 1 + row


@each_table
def test_cholesky_of_an_indefinite_matrix(table):
    _, failed = kernels.cholesky(table, np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert failed == 2


def pullback_closed_form(lower, lbar):
    """Return L^-T Phi(L^T Lbar) L^-1, symmetric; Phi takes the lower triangle and half the diagonal."""
    inner = np.tril(lower.T @ lbar)
    inner[np.diag_indices_from(inner)] *= 0.5
    inverse = np.linalg.inv(lower)
    out = inverse.T @ inner @ inverse
    return (out + out.T) / 2


@each_order
@each_table
def test_cholesky_pullback(table, n):
    rng = np.random.default_rng(10)
    lower = np.linalg.cholesky(positive_definite(n))
    lbar = np.tril(rng.normal(size=(n, n)))
    actual = kernels.cholesky_pullback(table, lower, lbar + np.triu(np.full((n, n), np.nan), 1))
    np.testing.assert_array_equal(actual, actual.T)
    np.testing.assert_allclose(actual, pullback_closed_form(lower, lbar), rtol=0, atol=1e-12)


@each_table
def test_cholesky_pullback_by_differences(table):
    n, step = 45, 1e-5
    rng = np.random.default_rng(11)
    a, lbar = positive_definite(n), np.tril(rng.normal(size=(n, n)))
    direction = rng.normal(size=(n, n))
    direction += direction.T

    def loss(x):
        return np.sum(lbar * kernels.cholesky(table, x)[0])

    expected = (loss(a + step * direction) - loss(a - step * direction)) / (2 * step)
    abar = kernels.cholesky_pullback(table, kernels.cholesky(table, a)[0], lbar)
    assert np.sum(abar * direction) == pytest.approx(expected, rel=1e-6)
