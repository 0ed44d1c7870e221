"""Curvature at a mode by differences of gradients, with searches in its units that polish the mode."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from klqp.inference.auto.counted import Counted
from klqp.inference.auto.lbfgs import Memory, drive, minimise

__all__ = ["MAX_DIM", "polished_mode"]

Float64 = npt.NDArray[np.float64]

MAX_DIM = 500  # beyond it a matrix (D, D) is left out
_STEP = 1e-2  # of the differences, in standard deviations
_ROUNDS = 4
_SMALL = 1e-2  # nats: a Newton step that promises less ends the polish
_MOST_BEND = 0.5  # nats of second differences from which on a step is too long, and
_NARROWER, _MOST_NARROWED = 1e-3, 12  # the factor, and times, by which it shrinks at most
_TOLERANCE, _MAX_ITER, _MEMORY = 1e-3, 50, 8  # of the searches between rounds


def polished_mode(target: Counted, x: Float64, sd: Float64) -> tuple[Float64, float, Float64] | None:
    """Return a mode near x, the log density there and minus its Hessian (D, D).

    Parameters
    ----------
    target : Counted
    x : ndarray (D,)
    sd : ndarray (D,)
        Rough standard deviations: the differences are taken over a hundredth of them.

    Returns
    -------
    tuple, or None
        None where gradients around x are not finite.
    """
    best = None
    for _ in range(_ROUNDS):
        found = _curvature(target, x, sd)
        if found is None:
            return best
        logp, grad, precision = found
        if best is not None and not logp > best[1]:
            return best
        best = (x, logp, precision)
        diagonal = np.diag(precision)
        better = np.where(diagonal > 0, 1.0 / np.sqrt(np.maximum(diagonal, 1e-300)), sd)
        unsure = np.any((better > 30.0 * sd) | (better < sd / 30.0))
        try:
            inverse = _inverse(precision, better)
        except np.linalg.LinAlgError:  # no mode is near
            return best
        if not unsure and 0.5 * float(grad @ inverse(grad)) < _SMALL:
            return best
        x, sd = _climb(target, x, inverse), better
    return best


def _inverse(precision: Float64, sd: Float64) -> Callable[[Float64], Float64]:
    """Return the inverse of a positive definite matrix, in units of sd, as a product with a vector."""
    factor = np.linalg.cholesky(precision * np.outer(sd, sd))
    return lambda v: sd * np.linalg.solve(factor.T, np.linalg.solve(factor, sd * v))


def _climb(target: Counted, x: Float64, inverse: Callable[[Float64], Float64]) -> Float64:
    """Return where a search with an inverse Hessian to begin with leads."""
    search = minimise(x, tolerance=_TOLERANCE, max_iter=_MAX_ITER, memory=Memory(_MEMORY, inverse), keep_path=False)
    (path,) = drive([search], target.minus)
    return np.asarray(path.x[-1])


def _curvature(target: Counted, x: Float64, sd: Float64) -> tuple[float, Float64, Float64] | None:
    """Return the log density at x, its gradient, and minus its Hessian (D, D); sd shrinks where it is too large."""
    d, sd = x.size, sd.copy()
    for _ in range(_MOST_NARROWED):
        h = _STEP * sd
        points = np.concatenate([x[None], x + np.diag(h), x - np.diag(h)])
        logp, grad = target.evaluate(points)
        usable = np.isfinite(logp) & np.isfinite(grad).all(1)
        if not usable[0]:
            return None
        with np.errstate(all="ignore"):
            bend = np.abs(logp[1 : 1 + d] + logp[1 + d :] - 2.0 * logp[0])  # _STEP**2 where sd is right
        bend = np.where(usable[1 : 1 + d] & usable[1 + d :], bend, math.inf)
        if np.all(bend < _MOST_BEND):
            break
        sd *= np.where(bend < _MOST_BEND, 1.0, np.maximum(_STEP / np.sqrt(bend), _NARROWER))
    else:
        return None
    hessian = (grad[1 + d :] - grad[1 : 1 + d]) / (2.0 * h[:, None])
    return float(logp[0]), grad[0], 0.5 * (hessian + hessian.T)
