"""Preconditioned conjugate gradients for many right-hand sides at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["solve"]

Float64 = npt.NDArray[np.float64]


def solve(
    times: Callable[[Float64], Float64],
    precondition: Callable[[Float64], Float64],
    rhs: Float64,
    *,
    tolerance: float,
    max_iter: int,
    flat: float = 0.0,
) -> tuple[Float64, Float64]:
    """Solve A x = b for several b; each iteration is one product for those that are not done.

    Parameters
    ----------
    times, precondition : callable
        The products of a symmetric positive definite A, and of a rough inverse of it, with vectors (k, P).
    rhs : ndarray (k, P)
    tolerance : float
        Of the residual against the right-hand side, both in the preconditioner's norm.
    max_iter : int
    flat : float, default 0.0
        Curvature ``p^T A p / p^T p`` up to which a direction counts as one without.

    Returns
    -------
    x : ndarray (k, P)
    residual : ndarray (k,)
        What is left, in units of `tolerance`; more than 1 where the iterations were too few.

    Raises
    ------
    LinAlgError
        If A turns out not to be positive definite.
    """
    x, r = np.zeros_like(rhs), rhs.copy()
    z = precondition(r)
    p, size = z.copy(), (r * z).sum(1)
    goal = np.maximum(tolerance**2 * size, np.finfo(np.float64).tiny)
    for _ in range(max_iter):
        on = np.flatnonzero(size > goal)
        if not len(on):
            break
        product = times(p[on])
        curvature = (p[on] * product).sum(1)
        if not (curvature > flat * (p[on] ** 2).sum(1)).all():
            raise np.linalg.LinAlgError("the matrix is not positive definite")
        alpha = (size[on] / curvature)[:, None]
        x[on] += alpha * p[on]
        r[on] -= alpha * product
        z = precondition(r[on])
        new = (r[on] * z).sum(1)
        p[on] = z + (new / size[on])[:, None] * p[on]
        size[on] = new
    return x, np.sqrt(size / goal)
