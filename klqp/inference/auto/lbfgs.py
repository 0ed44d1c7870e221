"""Searches by limited-memory BFGS that share batched calls of a function; the core has their iterations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from klqp import _core

__all__ = ["Memory", "Path", "drive", "minimise"]

Float64 = npt.NDArray[np.float64]

# The inverse Hessian from the last pairs of steps and gradient differences: Memory(size, first=None), where `first`
# multiplies with the inverse Hessian that the pairs correct; default: the identity, scaled by the last pair.
Memory: TypeAlias = _core.InverseHessian
# A search that has ended: accepted points x (n, D), values f (n,), gradients g (n, D), `converged`, and `why` it ended.
Path: TypeAlias = _core.Search


def minimise(
    start: Float64,
    *,
    tolerance: float,
    max_iter: int,
    memory: Memory,
    guard: Callable[[Float64], str] | None = None,
    keep_path: bool = True,
) -> _core.Search:
    """Return a search of a minimum from `start`, to be driven by `drive`.

    It ends when the decrease that a Newton step would still bring, g^T H g / 2 with the memory's H, is below
    `tolerance` in two iterations. The step lengths satisfy the weak Wolfe conditions, by bisection (Lewis and Overton
    2013), so that values may be infinite beyond some boundary.

    Parameters
    ----------
    start : ndarray (D,)
    tolerance : float
        In units of the function.
    max_iter : int
    memory : Memory
    guard : callable, optional
        Of a point; what it says, if anything, ends the search there.
    keep_path : bool, default True
        Keep all accepted points and gradients, or only the last.
    """
    return _core.Search(start, tolerance, max_iter, memory, guard, keep_path)


def drive(searches: Sequence[_core.Search], evaluate: Callable[[Float64], tuple[Float64, Float64]]) -> list[Path]:
    """Run searches side by side, with one call of `evaluate` for the points of all; return them when they have ended.

    Parameters
    ----------
    searches : sequence of Search
    evaluate : callable
        Points (n, D) to values (n,) and gradients (n, D).
    """
    going = [search for search in searches if not search.done]
    while going:
        values, gradients = evaluate(np.array([search.point for search in going]))
        for search, value, gradient in zip(going, values, gradients, strict=True):
            search.tell(value, gradient)
        going = [search for search in going if not search.done]
    return list(searches)
