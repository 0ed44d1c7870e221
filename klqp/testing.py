"""Help for tests of one's own log density: its gradient against differences of its values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._checks import positive_int
from klqp._seeds import Seed
from klqp.errors import GradientError
from klqp.targets import make_target

__all__ = ["GradientCheck", "check_gradient"]

Float64 = npt.NDArray[np.float64]

# Steps in units of `scale`: from long ones for values with much rounding to short ones for steep
# densities.
_STEPS = 4.0 ** -np.arange(1, 12)
_NUMBERS_A_CALL = 1 << 21  # coordinates in one call of the log density


@dataclass(frozen=True, eq=False)
class GradientCheck:
    """Where a gradient agreed worst with differences, and how well.

    Attributes
    ----------
    max_relative_error : float
        The largest error of a coordinate of the gradient, relative to its size.
    coordinate : int
        The coordinate it is found in.
    point : ndarray (dim,)
        The point it is found at.
    given, numerical : float
        The derivative there: as the log density gives it, and by differences.
    """

    max_relative_error: float
    coordinate: int
    point: Float64 = field(repr=False)
    given: float
    numerical: float


def check_gradient(
    fn: Any,
    dim: int,
    *,
    n_points: int = 5,
    loc: npt.ArrayLike = 0.0,
    scale: npt.ArrayLike = 1.0,
    rtol: float = 1e-5,
    seed: Seed = 0,
) -> GradientCheck:
    """Compare the gradient of a log density with differences of its own values, at random points.

    Each derivative is taken by central differences with eleven step sizes, extrapolated from each
    to the next (Richardson 1911); the step that agrees best with the gradient counts. Derivatives
    that are small beside the rounding of the values, or a thousand times smaller than the point's
    largest in units of `scale`, count as if they were larger.

    Parameters
    ----------
    fn : callable or native function
        The log density as for `klqp.fit`; it must return ``(logp, grad)``. It is called with many
        points at once.
    dim : int
        Number of coordinates.
    n_points : int, default 5
        Number of random points.
    loc, scale : float or array (dim,), default 0.0 and 1.0
        The points are drawn from Normals of this location and standard deviation. All steps are
        shorter than `scale`, so make it the length over which the log density changes.
    rtol : float, default 1e-5
        Largest relative error that passes.
    seed : int, SeedSequence, Generator or None
        For the points.

    Returns
    -------
    GradientCheck
        The largest relative error, and where it is.

    Raises
    ------
    GradientError
        An AssertionError: if the gradient disagrees, or there is none because values are not
        finite. The message names the worst coordinate, the point, both derivatives, and what the
        mistake looks like.
    TypeError, ValueError
        If an argument is wrong, or `fn` returns the wrong thing.

    Examples
    --------
    >>> import klqp.testing
    >>> check = klqp.testing.check_gradient(lambda z: (-0.5 * (z**2).sum(1), -z), dim=3)
    >>> check.max_relative_error < 1e-8
    True
    >>> klqp.testing.check_gradient(lambda z: (-0.5 * (z**2).sum(1), z), dim=3)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    klqp.errors.GradientError: ... it looks as if a minus sign were missing
    """
    dim, n_points = positive_int("dim", dim), positive_int("n_points", n_points)
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must be in (0, 1), not {rtol!r}")
    centre, length = _vector("loc", loc, dim), _vector("scale", scale, dim)
    if not np.all(length > 0):
        raise ValueError("scale must be positive")
    points = centre + length * np.random.default_rng(seed).standard_normal((n_points, dim))

    target = make_target(fn, (dim,), np.float64)
    logp, given = target.evaluate(points)
    assert given is not None  # the target raises without one
    _require_finite(points, logp, given)
    estimates = _extrapolated(target, points, length)  # (steps, points, coordinates)
    numerical = _steadiest(estimates)
    _require_differences(points, numerical)

    weighted = np.abs(given) * length
    # Where rounding in the values alone, over the longest step, would look like an error of rtol.
    rounding = 10 * np.finfo(float).eps * np.abs(logp)[:, None] / (_STEPS[0] * rtol)
    least = np.maximum(1e-3 * weighted.max(1, keepdims=True), rounding) / length
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.maximum(np.abs(given), np.abs(estimates)), np.maximum(least, np.finfo(float).tiny))
        error = np.nanmin(np.abs(estimates - given) / size, axis=0)
    p, i = np.unravel_index(int(error.argmax()), error.shape)
    result = GradientCheck(float(error[p, i]), int(i), points[p].copy(), float(given[p, i]), float(numerical[p, i]))
    if not result.max_relative_error <= rtol:
        raise GradientError(
            f"the gradient is wrong in coordinate {i}, at the point {_show(points[p])}: given {given[p, i]:.8g}, but "
            f"by differences {numerical[p, i]:.8g}, a relative error of {error[p, i]:.2g} where {rtol:.2g} is "
            f"allowed{_guess(given, numerical, int(i))}"
        )
    return result


def _extrapolated(target: _core.Target, points: Float64, length: Float64) -> Float64:
    """Return the derivatives by extrapolated differences (steps - 1, points, coordinates)."""
    n_points, dim = points.shape
    n_steps = len(_STEPS)
    piece = max(1, _NUMBERS_A_CALL // (2 * n_steps * dim))  # of the pairs (point, coordinate)
    slopes = np.empty((n_steps, n_points * dim))
    for first in range(0, n_points * dim, piece):
        p, i = np.divmod(np.arange(first, min(first + piece, n_points * dim)), dim)
        sides = np.tile(points[p], (2, n_steps, 1, 1))
        each = np.arange(len(p))
        sides[0, :, each, i] -= np.outer(length[i], _STEPS)
        sides[1, :, each, i] += np.outer(length[i], _STEPS)
        width = (sides[1, :, each, i] - sides[0, :, each, i]).T  # as rounded
        values = target.evaluate(sides.reshape(-1, dim), gradient=False)[0].reshape(2, n_steps, -1)
        with np.errstate(invalid="ignore"):
            slopes[:, each + first] = (values[1] - values[0]) / width
    slopes = slopes.reshape(n_steps, n_points, dim)
    slopes[~np.isfinite(slopes)] = np.nan
    return (16 * slopes[1:] - slopes[:-1]) / 15


def _steadiest(estimates: Float64) -> Float64:
    """Return the estimates that differ least from those of the next step; NaN where there are none."""
    change = np.abs(np.diff(estimates, axis=0))
    change[np.isnan(change)] = np.inf
    best = change.argmin(0)[None]
    return np.where(np.isfinite(change.min(0)), np.take_along_axis(estimates, best, 0)[0], np.nan)


def _guess(given: Float64, numerical: Float64, i: int) -> str:
    """Return what the mistake looks like, as the end of a message."""

    def same(a: Float64, b: Float64) -> bool:
        return bool(np.allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max()))

    def factor(a: Float64, b: Float64) -> float | None:
        ratio = float((a * b).sum() / (b * b).sum()) if np.any(b) else 0.0
        return ratio if ratio and same(a, ratio * b) else None

    ratio, where = factor(given, numerical), ""
    if ratio is None and len(given) > 1:
        ratio, where = factor(given[:, i], numerical[:, i]), f" in coordinate {i}"
    if ratio is not None and abs(ratio + 1) < 1e-2:
        return f"; it looks as if a minus sign were missing{where}"
    if ratio is not None and abs(ratio - 1) > 1e-2:
        return f"; it looks as if it were multiplied by {ratio:.3g}{where}"
    if len(given) > 1 and same(given, numerical.T.reshape(given.shape)):
        return "; it looks like an array (dim, S) reshaped to (S, dim) instead of transposed"
    others = [j for j in range(given.shape[1]) if j != i and same(given[:, i], numerical[:, j])]
    if len(given) > 1 and others:
        return f"; it looks like the derivative with respect to coordinate {others[0]}"
    return ""


def _require_finite(points: Float64, logp: Float64, given: Float64) -> None:
    for point, value, grad in zip(points, logp, given, strict=True):
        if not np.isfinite(value):
            raise GradientError(
                f"the log density is not finite at the point {_show(point)}: it is {value}; choose points where it is, "
                "by loc and scale"
            )
        if not np.all(np.isfinite(grad)):
            i = int(np.argmin(np.isfinite(grad)))
            raise GradientError(
                f"the gradient is not finite in coordinate {i}, at the point {_show(point)}: it is {grad[i]}, while "
                f"the log density is {value:.8g}"
            )


def _require_differences(points: Float64, numerical: Float64) -> None:
    for point, derivatives in zip(points, numerical, strict=True):
        if np.any(np.isnan(derivatives)):
            i = int(np.argmax(np.isnan(derivatives)))
            raise GradientError(
                f"there are no differences in coordinate {i}, at the point {_show(point)}: the log density is not "
                "finite on both sides; choose points inside the support, by loc and scale"
            )


def _show(point: Float64) -> str:
    return np.array2string(point, precision=4, threshold=10, separator=", ")


def _vector(name: str, value: npt.ArrayLike, dim: int) -> Float64:
    array = np.asarray(value, np.float64)
    if array.shape not in ((), (dim,)) or not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, and a number or of shape ({dim},), not {value!r}")
    return np.broadcast_to(array, (dim,))
