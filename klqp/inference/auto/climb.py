"""Climb: from anywhere to where the log density is finite, and up from there, several starts side by side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.lbfgs import Memory, Path, drive, minimise

__all__ = ["climb", "start_points"]

Float64 = npt.NDArray[np.float64]

_RADII = (2.0, 2.0, 5.0)  # of pairs of opposite starts around the given one
_RETRY = (1.0, 0.3, 0.1, 2.0, 0.03, 5.0, 0.01, 10.0, 30.0, 100.0)  # radii in which finite values are looked for
_PER_RADIUS = 8
_TOLERANCE = 1e-3  # nats
_MAX_ITER = 200
_MEMORY = 8


def start_points(centre: Float64, rng: np.random.Generator) -> Float64:
    """Return points (n, D) to start from: the given one, and opposite pairs around it, the first as wide as Stan's.

    Opposite, so that the modes of a symmetric density are found on both sides.
    """
    points = [centre]
    for radius in _RADII:
        offset = rng.uniform(-radius, radius, centre.size)
        points += [centre + offset, centre - offset]
    return np.array(points)


def climb(target: Counted, points: Float64, rng: np.random.Generator) -> list[Path]:
    """Return the paths of L-BFGS on minus the log density from each point from which there is a finite value.

    Raises
    ------
    TargetError
        If none is found.
    """
    logp, _ = target.evaluate(points)
    finite = points[np.isfinite(logp)]
    if not np.isfinite(logp[0]):
        nearer = _find_finite(target, points[0], rng)
        if nearer is not None:
            finite = np.concatenate([nearer[None], finite])
    if not len(finite):
        tried = len(_RETRY) * _PER_RADIUS + len(points)
        raise _core.TargetError(
            f"the log density is finite at none of {tried} points around the start: give init_loc inside the support"
        )

    searches = [minimise(x, tolerance=_TOLERANCE, max_iter=_MAX_ITER, memory=Memory(_MEMORY)) for x in finite]
    return [path for path in drive(searches, target.minus) if np.isfinite(path.f[-1])]


def _find_finite(target: Counted, centre: Float64, rng: np.random.Generator) -> Float64 | None:
    """Return the point of highest log density among random ones in the first radius with any that is finite."""
    for radius in _RETRY:
        points = centre + rng.uniform(-radius, radius, (_PER_RADIUS, centre.size))
        logp, grad = target.evaluate(points)
        logp = np.where(np.isfinite(logp) & np.isfinite(grad).all(1), logp, -np.inf)
        if np.isfinite(logp).any():
            return np.asarray(points[int(logp.argmax())])
    return None
