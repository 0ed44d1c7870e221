"""Properness: whether a log density falls fast enough, along straight lines, to have an integral."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.counted import Counted

__all__ = ["improper_direction"]

Float64 = npt.NDArray[np.float64]

_DISTANCES = (1e2, 1e4, 1e6)  # standard deviations of q
_LARGE = 0.3  # share of the largest entry of a direction from which a coordinate is named
_MOST = 100  # directions


def improper_direction(
    target: Counted, centre: Candidate, curvatures: Sequence[Float64], name: Callable[[int], str]
) -> str:
    """Return what is wrong, in words, if the log density does not fall along some line; otherwise "".

    A density that has an integral along a line falls there by more than log t over t units of length, in the end; two
    places must agree, since so far out a function may have left the range of its numbers. Lines through the candidate's
    location are tried, both ways, along the coordinates and along the direction of the least curvature of each matrix.

    Parameters
    ----------
    target : Counted
    centre : Candidate
    curvatures : sequence of ndarray (D, D)
        Minus Hessians of the log density at modes.
    name : callable
        Name of a coordinate.
    """
    dim = centre.loc.size
    spread = np.sqrt(centre.scale**2 + (centre.rest**2).sum(1))
    chosen = np.arange(0, dim, max(1, dim // _MOST))
    axes = np.zeros((len(chosen), dim))
    axes[np.arange(len(chosen)), chosen] = 1.0
    lines = list(axes)
    for precision in curvatures:
        scaled = precision * np.outer(spread, spread)
        lines.append(np.linalg.eigh(scaled)[1][:, 0])
    steps = np.array([sign * line for line in lines for sign in (1.0, -1.0)]) * spread
    points = np.concatenate([centre.loc[None], *(centre.loc + t * steps for t in _DISTANCES)])
    logp, _ = target.evaluate(points)
    falls = (logp[0] - logp[1:]).reshape(len(_DISTANCES), -1)
    too_little = np.log(_DISTANCES)[:, None]
    for i in np.flatnonzero(np.all(np.isfinite(falls[-2:]) & (falls[-2:] < too_little[-2:]), axis=0)):
        line = np.abs(lines[i // 2])
        names = ", ".join(name(int(k)) for k in np.flatnonzero(line > _LARGE * line.max())[:5])
        return (
            f"the log density does not fall far out along {names}: the posterior seems to be improper; give it a "
            "proper prior there"
        )
    return ""
