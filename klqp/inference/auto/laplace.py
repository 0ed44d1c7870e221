"""Curvature at a mode by differences of gradients, with Newton steps that polish the mode."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from klqp.inference.auto.counted import Counted

__all__ = ["MAX_DIM", "polished_mode"]

Float64 = npt.NDArray[np.float64]

MAX_DIM = 500  # beyond it a matrix (D, D) is left out
_STEP = 1e-2  # of the differences, in standard deviations
_ROUNDS = 3
_SMALL = 1e-2  # nats: a Newton step that promises less ends the polish


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
            np.linalg.cholesky(precision)
        except np.linalg.LinAlgError:
            return best
        step = np.linalg.solve(precision, grad)
        if not unsure and 0.5 * float(step @ grad) < _SMALL:
            return best
        x, sd = x + step, better
    return best


def _curvature(target: Counted, x: Float64, sd: Float64) -> tuple[float, Float64, Float64] | None:
    h = _STEP * sd
    points = np.concatenate([x[None], x + np.diag(h), x - np.diag(h)])
    logp, grad = target.evaluate(points)
    if not (np.isfinite(logp).all() and np.isfinite(grad).all()):
        return None
    d = x.size
    hessian = (grad[1 + d :] - grad[1 : 1 + d]) / (2.0 * h[:, None])
    return float(logp[0]), grad[0], 0.5 * (hessian + hessian.T)
