"""Diagonal of the curvature at a mode, from products with random signs: where a matrix (D, D) would be too large."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from klqp.inference.auto.counted import Counted
from klqp.inference.auto.lbfgs import Memory, drive, minimise

__all__ = ["polished_mode_and_diagonal"]

Float64 = npt.NDArray[np.float64]

_STEP = 1e-2  # of the differences, in standard deviations, divided by sqrt(D): their length is one step
_PROBES = 32
_ROUNDS = 8
_SETTLED = 1.5  # ratio of two estimates of a curvature
_MOST_CHANGE = 1e4  # of a curvature in one round
_TOLERANCE, _MAX_ITER, _MEMORY = 1e-2, 300, 10


def polished_mode_and_diagonal(
    target: Counted, x: Float64, sd: Float64, rng: np.random.Generator
) -> tuple[Float64, float, Float64] | None:
    """Return a mode near x, the log density there and the diagonal (D,) of minus its Hessian.

    With signs v the mean of v_i (H diag(sd) v)_i / sd_i is H_ii (Bekas, Kokiopoulou and Saad 2007); its error is small
    once sd is near H_ii^(-1/2), which a few rounds see to. The mode is polished by L-BFGS in these units.

    Parameters
    ----------
    target : Counted
    x : ndarray (D,)
    sd : ndarray (D,)
        Rough standard deviations.
    rng : Generator

    Returns
    -------
    tuple, or None
        None where gradients around x are not finite, or the curvature along a coordinate is not positive.
    """
    balanced = _balanced(target, x, sd, rng)
    if balanced is None:
        return None
    variance = balanced**2

    memory = Memory(_MEMORY, lambda v: variance * v)
    search = minimise(x, tolerance=_TOLERANCE, max_iter=_MAX_ITER, memory=memory, keep_path=False)
    (path,) = drive([search], target.minus)
    balanced = _balanced(target, path.x[-1], balanced, rng)
    return None if balanced is None else (path.x[-1], -path.f[-1], 1.0 / balanced**2)


def _balanced(target: Counted, x: Float64, sd: Float64, rng: np.random.Generator) -> Float64 | None:
    """Return the inverse roots of the curvature's diagonal at x."""
    for _ in range(_ROUNDS):
        signs = rng.choice([-1.0, 1.0], size=(_PROBES, x.size))
        h = _STEP / np.sqrt(x.size)
        steps = h * sd * signs
        logp, grad = target.evaluate(np.concatenate([x + steps, x - steps]))
        if not (np.isfinite(logp).all() and np.isfinite(grad).all()):
            return None
        ahead, behind = np.split(grad, 2)
        curvature = (signs * (behind - ahead)).mean(0) * sd / (2.0 * h)  # 1 where sd is right
        change = np.clip(np.abs(curvature), 1.0 / _MOST_CHANGE, _MOST_CHANGE)
        sd = sd / np.sqrt(change)
        if np.all((change < _SETTLED) & (change > 1.0 / _SETTLED)):
            return sd if np.all(curvature > 0) else None
    return sd if np.all(curvature > 0) else None
