"""Matrices of data on the left of a product: what is taken, what is copied, and what is refused."""

import pickle

import numpy as np
import pytest
import scipy.sparse

import klqp
from klqp.model import nodes
from klqp.model.ancestral import evaluate
from klqp.model.design import Design
from klqp.model.parameter import placeholder

nan, inf = np.nan, np.inf
v = placeholder(3)
x = placeholder((3, 2))
rows = placeholder(2, dtype=int, name="rows")
MATRIX = np.arange(12.0).reshape(4, 3)
VALUES = np.array([1.0, -2.0, 0.5])


def held(product):
    """Return the array that a product of data reads."""
    return product.design.value


@pytest.mark.parametrize(
    "matrix",
    [
        MATRIX,
        np.asfortranarray(MATRIX),
        MATRIX.astype(np.float32),
        np.repeat(MATRIX, 2, 0)[::2],
        np.tile(MATRIX, 2)[:, 1:4],
        np.tile(MATRIX, 2).T[1:4].T,
        np.lib.stride_tricks.sliding_window_view(np.arange(6.0), 3)[:1],
    ],
    ids=["rows", "columns", "float32", "rows apart", "part of rows", "transposed twice", "one row"],
)
def test_what_is_not_copied(matrix):
    value = held(matrix @ v)
    assert np.shares_memory(value, matrix)
    assert value.dtype == matrix.dtype
    assert not value.flags.writeable
    assert matrix.flags.writeable or not matrix.base.flags.owndata  # the caller's stays as it was
    np.testing.assert_array_equal(value, matrix)


@pytest.mark.parametrize(
    "matrix",
    [
        MATRIX.astype(int),
        MATRIX > 2,
        MATRIX.astype(np.float16),
        MATRIX.astype(np.longdouble),
        MATRIX.astype(">f8"),
        np.repeat(MATRIX, 2, 1)[:, ::2],
        MATRIX[::-1],
        np.broadcast_to(np.arange(3.0), (4, 3)),
        np.lib.stride_tricks.sliding_window_view(np.arange(6.0), 3),
    ],
    ids=["int", "bool", "float16", "longdouble", "big-endian", "strided", "backwards", "broadcast", "overlapping"],
)
def test_what_is_converted_once(matrix):
    value = held(matrix @ v)
    assert value.dtype == np.float64
    np.testing.assert_array_equal(value, matrix)
    np.testing.assert_array_equal(evaluate([matrix @ v], {v: VALUES}, 1)[0], matrix @ VALUES)


def test_lists_and_matrices_are_arrays():
    for value in (MATRIX.tolist(), MATRIX.view(np.matrix)):
        product = nodes.matmul(value, v)
        assert type(held(product)) is np.ndarray
        np.testing.assert_array_equal(evaluate([product], {v: VALUES}, 1)[0], MATRIX @ VALUES)
    assert (MATRIX.view(np.matrix) @ v).shape == (4,)


def test_memory_maps_are_read_in_place(tmp_path):
    np.save(tmp_path / "X.npy", MATRIX.astype(np.float32))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert np.shares_memory(held(mapped @ v), mapped)


def masked():
    return np.ma.masked_greater(MATRIX, 4)


def huge():
    return np.where(MATRIX == 11, nan, 1e308)  # finite numbers whose sum is not


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: np.where(MATRIX == 7, nan, MATRIX) @ v,
            ValueError,
            r"finite numbers only, but it has nan at .*\(2, 1\)",
        ),
        (lambda: np.where(MATRIX.T == 7, inf, MATRIX.T).T @ v, ValueError, r"it has inf at index \(2, 1\)"),
        (lambda: np.float32(np.where(MATRIX == 7, -inf, 0)) @ v, ValueError, r"it has -inf at index \(2, 1\)"),
        (lambda: huge() @ v, ValueError, r"it has nan at index \(3, 2\)"),
        (lambda: MATRIX.astype(complex) @ v, TypeError, "must hold real numbers, not dtype complex128"),
        (lambda: MATRIX.astype(object) @ v, TypeError, "must hold real numbers, not dtype object"),
        (lambda: MATRIX.astype(str) @ v, TypeError, "must hold real numbers, not dtype <U"),
        (lambda: nodes.matmul([[1.0, 2.0], [3.0]], v), ValueError, "ragged"),
        (lambda: np.ones((0, 3)) @ v, ValueError, r"must have elements, but its shape is \(0, 3\)"),
        (lambda: masked() @ v, ValueError, "must not hold masked values"),
        (lambda: klqp.Normal(0.0, 1.0, shape=12).reshape(4, 3) + masked(), ValueError, "must not hold masked values"),
        (lambda: MATRIX.view(np.matrix) * v, TypeError, "is a product of matrices.* write @"),
        (lambda: np.ones((4, 2)) @ v, ValueError, r"cannot multiply matrices of shapes \(4, 2\) and \(3,\)"),
        # sparse ones
        (lambda: scipy.sparse.csr_array(np.where(MATRIX == 7, nan, MATRIX)) @ v, ValueError, "finite numbers only"),
        (lambda: scipy.sparse.csr_array(MATRIX.astype(complex)) @ v, TypeError, "not dtype complex128"),
        (lambda: scipy.sparse.csr_array((3, 3))[:0] @ v, ValueError, r"its shape is \(0, 3\)"),
        (lambda: scipy.sparse.csr_array((4, 2)) @ v, ValueError, r"shapes \(4, 2\) and \(3,\)"),
        (lambda: scipy.sparse.csr_array(MATRIX) + v, TypeError, "must hold real numbers, not csr_array"),
        (lambda: v * scipy.sparse.csr_array(MATRIX), TypeError, "must hold real numbers, not csr_array"),
        (
            lambda: evaluate([nodes.take(scipy.sparse.csr_array(MATRIX), rows) * 2.0], {rows: [0, 1]}, 1),
            TypeError,
            "can only be multiplied",
        ),
        # objects that want numbers
        (lambda: np.asarray(v, float), TypeError, "no numbers before an inference runs"),
    ],
)
def test_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_large_finite_numbers_are_no_overflow():
    for dtype, large in ((np.float64, 1e308), (np.float32, 1e38)):
        assert held(np.full((100, 3), large, dtype) @ v).shape == (100, 3)


SPARSE = [scipy.sparse.csr_array, scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_array]
SPARSE += [scipy.sparse.lil_array, scipy.sparse.dok_array, scipy.sparse.dia_array, scipy.sparse.bsr_array]


@pytest.mark.parametrize("make", SPARSE, ids=[kind.__name__ for kind in SPARSE])
def test_sparse_matrices_on_either_side(make):
    matrix = make(np.where(MATRIX > 3, MATRIX, 0.0))
    dense, other = matrix.toarray(), np.arange(6.0).reshape(3, 2)
    cases = [(matrix @ v, dense @ VALUES), (matrix @ x, dense @ other), (v @ matrix.T, dense @ VALUES)]
    cases += [(x.T @ matrix.T, other.T @ dense.T), (klqp.matmul(matrix, v), dense @ VALUES)]
    for product, expected in cases:
        (got,) = evaluate([product], {v: VALUES, x: other}, 1)
        np.testing.assert_allclose(got, expected, rtol=1e-14)


def test_sparse_arrays_of_floats_are_not_copied():
    matrix = scipy.sparse.csr_array(MATRIX.astype(np.float32))
    value = held(matrix @ v)
    assert np.shares_memory(value.data, matrix.data)
    assert value.dtype == np.float32
    assert held(scipy.sparse.csr_array(MATRIX.astype(int)) @ v).dtype == np.float64


def test_explicit_zeros_and_doubled_entries():
    matrix = scipy.sparse.coo_array(([1.0, 2.0, 0.0, 5.0], ([0, 0, 1, 2], [1, 1, 0, 2])), shape=(4, 3))
    (got,) = evaluate([matrix @ v], {v: VALUES}, 1)
    np.testing.assert_allclose(got, matrix.toarray() @ VALUES, rtol=1e-14)


@pytest.mark.parametrize("make", [np.asarray, np.asfortranarray, np.float32, scipy.sparse.csr_array])
def test_rows_by_a_placeholder(make):
    chosen = np.array([3, 1])
    products = [nodes.take(make(MATRIX), rows) @ v, nodes.take(make(MATRIX), rows) @ x]
    got = evaluate(products, {v: VALUES, x: np.arange(6.0).reshape(3, 2), rows: chosen}, 1)
    np.testing.assert_allclose(got[0], MATRIX[chosen] @ VALUES, rtol=1e-14)
    np.testing.assert_allclose(got[1], MATRIX[chosen] @ np.arange(6.0).reshape(3, 2), rtol=1e-14)


def test_rows_of_data_without_a_product():
    (got,) = evaluate([nodes.take(MATRIX, rows) * 2.0], {rows: np.array([3, 1])}, 1)
    np.testing.assert_array_equal(got, MATRIX[[3, 1]] * 2)
    (got,) = evaluate([nodes.take(MATRIX[:, 0], rows)], {rows: np.array([3, 1])}, 1)
    np.testing.assert_array_equal(got, MATRIX[[3, 1], 0])
    assert nodes.take(MATRIX, (slice(None), 1)).shape == (4,)


@pytest.mark.parametrize("make", [np.asarray, np.asfortranarray, np.float32, scipy.sparse.csr_array])
def test_a_regression_can_be_pickled(make):
    w = klqp.Normal(0.0, 1.0, shape=3, name="w")
    inference = klqp.KLqp([w], data={klqp.Normal(make(MATRIX) @ w, 1.0): [1.0, 2.0, 3.0, 4.0]})
    inference.initialize(n_iter=20, seed=1)
    for _ in range(10):
        inference.update()
    other = pickle.loads(pickle.dumps(inference))
    for run in (inference, other):
        run.resume()
    np.testing.assert_array_equal(other.losses, inference.losses)
    assert "fused" in other.estimator
    joint = klqp.LogJoint([w], data={klqp.Normal(make(MATRIX) @ w, 1.0): [1.0, 2.0, 3.0, 4.0]})
    points = np.ones((2, 3))
    for a, b in zip(joint(points), pickle.loads(pickle.dumps(joint))(points), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_matrix_says_what_it_is():
    assert repr(Design(MATRIX)) == "<klqp data (4, 3) float64>"
    assert repr(Design(scipy.sparse.csr_array(MATRIX.astype(np.float32)))) == "<klqp data (4, 3) float32 sparse>"
