"""Limited-memory BFGS as a coroutine: it yields points and is sent values, so that searches share batched calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["Memory", "Path", "Search", "drive", "minimise"]

Float64 = npt.NDArray[np.float64]
Evaluated = tuple[float, Float64]  # value, and gradient (D,)
Search = Generator[Float64, Evaluated, "Path"]

_CURVATURE = 1e-12  # pairs with y^T s <= this |y|^2 are skipped (docs/maths.md 11.2)
_SUFFICIENT, _FLATTER = 1e-4, 0.9  # the weak Wolfe conditions
_MAX_TRIALS = 40
_ROUNDING = 4e-15  # relative error of values
_IN_A_ROW = 2  # iterations whose predicted gain must be small


class Memory:
    """Inverse Hessian from the last pairs of steps and gradient differences.

    Parameters
    ----------
    size : int
        Pairs kept.
    first : callable, optional
        The inverse Hessian that the pairs correct, as a product with a vector; default: the identity, scaled by the
        last pair.
    """

    def __init__(self, size: int, first: Callable[[Float64], Float64] | None = None) -> None:
        self._size, self._first = size, first
        self._pairs: list[tuple[Float64, Float64, float]] = []

    def add(self, s: Float64, y: Float64) -> bool:
        """Take a step s and the gradient's difference y; return whether they had positive curvature."""
        sy = float(s @ y)
        if not sy > _CURVATURE * float(y @ y):
            return False
        self._pairs = [*self._pairs[1 - self._size :], (s, y, sy)] if self._size > 1 else [(s, y, sy)]
        return True

    def clear(self) -> None:
        """Forget all pairs."""
        self._pairs = []

    def __len__(self) -> int:
        return len(self._pairs)

    def times(self, g: Float64) -> Float64:
        """Return the inverse Hessian times a vector, by the two-loop recursion."""
        q, alphas = g.copy(), []
        for s, y, sy in reversed(self._pairs):
            alpha = float(s @ q) / sy
            alphas.append(alpha)
            q -= alpha * y
        if self._first is not None:
            q = self._first(q)
        elif self._pairs:
            _, y, sy = self._pairs[-1]
            q *= sy / float(y @ y)
        for (s, y, sy), alpha in zip(self._pairs, reversed(alphas), strict=True):
            q += (alpha - float(y @ q) / sy) * s
        return q


@dataclass
class Path:
    """A search: its points, values and gradients, accepted ones only.

    Attributes
    ----------
    x, g : list of ndarray (D,)
        Of all points, or of the last alone.
    f : list of float
    converged : bool
    why : str
        What ended it.
    memory : Memory
        The inverse Hessian at the end.
    """

    x: list[Float64]
    f: list[float]
    g: list[Float64]
    memory: Memory
    converged: bool = False
    why: str = ""
    gains: list[float] = field(default_factory=list)


def minimise(
    start: Float64,
    *,
    tolerance: float,
    max_iter: int,
    memory: Memory,
    guard: Callable[[Float64], str] = lambda x: "",
    keeps_points: bool = True,
) -> Search:
    """Search a minimum from `start`.

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
    guard : callable
        Of a point; what it says, if anything, ends the search there.
    keeps_points : bool
        Whether the path has all points with their gradients, or only the last.
    """
    x = start.copy()
    f, g = yield x
    path = Path([x], [f], [g], memory)
    if not math.isfinite(f):
        path.why = "the start has no finite value"
        return path
    small = 0
    for _ in range(max_iter):
        d = -memory.times(g)
        slope = float(g @ d)
        if not slope < 0 and memory:
            memory.clear()
            d = -memory.times(g)
            slope = float(g @ d)
        path.gains.append(-0.5 * slope)
        small = small + 1 if -0.5 * slope < tolerance else 0
        if small >= _IN_A_ROW or not slope < 0:
            path.converged, path.why = True, "the gradient vanished"
            return path
        first = 1.0 if memory or memory._first is not None else min(1.0, 1.0 / float(np.linalg.norm(g)))
        found = yield from _line_search(x, f, d, slope, first, guard)
        if found is None:
            if not memory:
                path.why = "no step along the gradient improved the value"
                # At the limits of rounding there is nothing to be gained.
                path.converged = -0.5 * slope < max(tolerance, 1e3 * _ROUNDING * abs(f))
                return path
            memory.clear()
            continue
        new, f_new, g_new = found
        memory.add(new - x, g_new - g)
        x, f, g = new, f_new, g_new
        if not keeps_points:
            path.x, path.g = [], []
        path.x.append(x)
        path.f.append(f)
        path.g.append(g)
        path.why = guard(x)
        if path.why:
            return path
    path.why = f"it took all {max_iter} iterations"
    return path


def _line_search(
    x: Float64, f: float, d: Float64, slope: float, first: float, guard: Callable[[Float64], str]
) -> Generator[Float64, Evaluated, tuple[Float64, float, Float64] | None]:
    low, high, t = 0.0, math.inf, first
    best = None
    slack = _ROUNDING * abs(f)
    for _ in range(_MAX_TRIALS):
        new = x + t * d
        f_new, g_new = yield new
        if not f_new <= f + _SUFFICIENT * t * slope + slack:
            high = t
        else:
            best = (new, f_new, g_new)
            if float(g_new @ d) >= _FLATTER * slope or guard(new):
                return best
            low = t
        if high < math.inf:
            t = 0.5 * (low + high) if low > 0 or not math.isfinite(f_new) else _shorter(t, f, f_new, slope)
            if high - low < 1e-10 * high:
                break
        else:
            t = 4.0 * low
    return best


def _shorter(t: float, f: float, f_new: float, slope: float) -> float:
    """Return the minimum of the parabola through the start and a trial that was too long, kept within its interval."""
    curvature = (f_new - f - slope * t) / t**2
    return min(0.5 * t, max(0.05 * t, -slope / (2.0 * curvature))) if curvature > 0 else 0.5 * t


def drive(searches: Sequence[Search], evaluate: Callable[[Float64], tuple[Float64, Float64]]) -> list[Path]:
    """Run searches side by side, with one call of `evaluate` for the points of all; return their paths.

    Parameters
    ----------
    searches : sequence of Search
    evaluate : callable
        Points (n, D) to values (n,) and gradients (n, D).
    """
    paths: list[Path | None] = [None] * len(searches)
    asked = {i: next(search) for i, search in enumerate(searches)}
    while asked:
        values, gradients = evaluate(np.array(list(asked.values())))
        following = {}
        for i, value, gradient in zip(asked, values, gradients, strict=True):
            try:
                following[i] = searches[i].send((float(value), gradient))
            except StopIteration as end:
                paths[i] = end.value
        asked = following
    return [path for path in paths if path is not None]
