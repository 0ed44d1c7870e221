"""Conjugate gradients for many right-hand sides against dense solves."""

import numpy as np
import pytest

from klqp.inference.conjugate_gradients import solve

RNG = np.random.default_rng(1)
DIM = 12
AXES = np.linalg.qr(RNG.normal(size=(DIM, DIM)))[0]
MATRIX = (AXES * np.geomspace(1.0, 300.0, DIM)) @ AXES.T
RHS = RNG.normal(size=(5, DIM))


def run(matrix, rhs=RHS, precondition=lambda r: r, **options):
    products = []

    def times(p):
        products.append(len(p))
        return p @ matrix

    x, left = solve(times, precondition, rhs, **({"tolerance": 1e-12, "max_iter": 100} | options))
    return x, left, products


def test_solves_as_a_dense_solver():
    x, left, products = run(MATRIX)
    np.testing.assert_allclose(x, np.linalg.solve(MATRIX, RHS.T).T, rtol=1e-9, atol=1e-12)
    assert (left <= 1).all()
    assert len(products) <= DIM + 4


def test_an_exact_preconditioner_needs_one_product():
    inverse = np.linalg.inv(MATRIX)
    _, _, products = run(MATRIX, precondition=lambda r: r @ inverse)
    assert products == [5]


def test_what_is_solved_takes_no_more_products():
    rhs = np.stack([AXES[:, 0], RHS[0], np.zeros(DIM)])  # an eigenvector, and nothing
    x, _, products = run(MATRIX, rhs)
    assert products[0] == 2
    assert set(products[1:]) == {1}
    assert not x[2].any()


def test_too_few_iterations_are_told():
    _, left, _ = run(MATRIX, max_iter=3)
    assert (left > 1).all()
    residual = RHS - run(MATRIX, max_iter=3)[0] @ MATRIX
    np.testing.assert_allclose(left * 1e-12, np.linalg.norm(residual, axis=1) / np.linalg.norm(RHS, axis=1), rtol=1e-9)


def test_indefinite_matrices_are_refused():
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        run(MATRIX - 20.0 * np.eye(DIM))


def test_flat_directions_are_refused():
    nearly = MATRIX - (1.0 - 1e-7) * np.eye(DIM)  # the smallest eigenvalue is 1e-7
    assert (run(nearly, max_iter=1000)[1] <= 1).all()
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        run(nearly, AXES[:, :1].T, flat=1e-6)
