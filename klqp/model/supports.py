"""Supports: the spaces that values of random variables and parameters live in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core

__all__ = ["Support", "as_support", "is_inside"]

Float64 = npt.NDArray[np.float64]


# Bijectors of numbers; a space of vectors may go through one of them.
_BY_ELEMENT = frozenset({"identity", "positive", "softplus", "lower", "upper", "interval", "unit_interval"})


@dataclass(frozen=True)
class Support:
    """A space of values.

    Attributes
    ----------
    name : str
    event_ndim : int
        Number of last axes that make one value: 0 for numbers, 1 for vectors, 2 for matrices.
    bijector : str or None
        Name of the map from unconstrained coordinates; None for discrete spaces.
    lower, upper : tuple of float
        Bounds, one or one for each element; empty where there are none.
    moving : bool
        Whether the bounds depend on parameters or random variables: then there is no fixed transform.
    words : str
        How messages put it after "must be"; default `name`.
    """

    name: str
    event_ndim: int = 0
    bijector: str | None = None
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    moving: bool = False
    words: str = field(default="", compare=False, repr=False)
    check: Callable[[Float64], npt.NDArray[np.bool_]] | None = field(default=None, compare=False, repr=False)

    @property
    def discrete(self) -> bool:
        """Whether values are integers."""
        return self.bijector is None

    def contains(self, x: npt.ArrayLike) -> bool:
        """Return whether all values of an array are in the space (boundaries included)."""
        array = np.asarray(x, np.float64)
        if not np.isfinite(array).all():
            return False
        if not self.lower and not self.upper:
            return self.check is None or bool(np.all(self.check(array)))
        flat = array
        if (n := max(len(self.lower), len(self.upper))) > 1:  # bounds of the elements, after axes of draws
            flat = array.reshape(-1, n)
        lower, upper = np.asarray(self.lower or -np.inf), np.asarray(self.upper or np.inf)
        inside = np.all((flat >= lower) & (flat <= upper))
        return bool(inside and (self.check is None or np.all(self.check(array))))

    def transform(self, shape: tuple[int, ...]) -> _core.Bijector:
        """Return the map from unconstrained coordinates for a variable of that shape.

        Raises
        ------
        TypeError
            If the space is discrete, or its bounds are not constants.
        ValueError
            If the shape is not one of its events.
        """
        name, options = self.bijector_args(shape)
        return _core.Bijector(name, **options)

    def bijector_args(self, shape: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
        """Return the name and the configuration of the core's bijector."""
        if self.bijector is None:
            raise TypeError(f"values that are {self.name} have no unconstrained coordinates")
        if self.moving:
            raise TypeError(
                f"a support ({self}) whose bounds depend on parameters or random variables has no fixed transform to "
                "unconstrained coordinates; give constant bounds, or write the variable as one on fixed bounds, "
                "such as low + (high - low) * u"
            )
        if len(shape) < self.event_ndim:
            raise ValueError(f"a {self.name} needs at least {self.event_ndim} axes, not shape {shape}")
        batch = shape[: len(shape) - self.event_ndim]
        if self.event_ndim == 2 and shape[-1] != shape[-2]:
            raise ValueError(f"a {self.name} must be square, not of shape {shape}")
        by_element = self.bijector in _BY_ELEMENT
        options: dict[str, Any] = {"n_events": int(np.prod(shape if by_element else batch, dtype=np.int64))}
        options["size"] = 1 if by_element else shape[-1]
        options["lower"], options["upper"] = list(self.lower), list(self.upper)
        return self.bijector, options

    def __str__(self) -> str:
        return self.name


def _is_integer(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray(x == np.floor(x))


def _is_simplex(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray((x >= 0).all(-1) & (np.abs(x.sum(-1) - 1.0) < 1e-6))


def _is_lower(x: Float64) -> npt.NDArray[np.bool_]:
    above = np.abs(np.triu(x, 1)).max((-2, -1)) == 0
    return np.asarray(above & (np.diagonal(x, axis1=-2, axis2=-1) > 0).all(-1))


def _is_positive_definite(x: Float64) -> npt.NDArray[np.bool_]:
    symmetric = np.abs(x - np.swapaxes(x, -1, -2)).max((-2, -1)) <= 1e-8 * np.abs(x).max((-2, -1))
    return np.asarray(symmetric & (np.linalg.eigvalsh(x)[..., 0] > 0))


def _unit_diagonal(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray((np.abs(np.diagonal(x, axis1=-2, axis2=-1) - 1.0) < 1e-8).all(-1))


def _is_positive(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray(x > 0)


def _is_nonnegative(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray(x >= 0)


def _is_probability(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray((x >= 0) & (x <= 1))


def _is_positive_probability(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray((x > 0) & (x <= 1))


def _is_probability_below_1(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray((x >= 0) & (x < 1))


def _is_ordered(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray((np.diff(x) > 0).all(-1))


def _is_positive_ordered(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray(_is_ordered(x) & (x[..., 0] > 0))


def _is_cholesky_corr(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray(_is_lower(x) & (np.abs((x**2).sum(-1) - 1.0) < 1e-6).all(-1))


def _is_correlation(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray(_is_positive_definite(x) & _unit_diagonal(x))


def _is_count(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray((x >= 0) & _is_integer(x))


def _is_binary(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray((x == 0) | (x == 1))


def _is_one_hot(x: Float64) -> npt.NDArray[np.bool_]:
    return np.asarray(_is_binary(x).all(-1) & (x.sum(-1) == 1))


REAL = Support("real", 0, "identity", words="real and finite")
REAL_VECTOR = Support("real", 1, "identity", words="real and finite")
REAL_MATRIX = Support("real", 2, "identity", words="real and finite")
POSITIVE = Support("positive", 0, "positive", words="positive and finite", check=_is_positive)
POSITIVE_VECTOR = Support("positive", 1, "positive", words="positive and finite", check=_is_positive)
NONNEGATIVE = Support("nonnegative", 0, "positive", words="at least 0 and finite", check=_is_nonnegative)
UNIT_INTERVAL = Support("unit_interval", 0, "unit_interval", words="in [0, 1]", check=_is_probability)
# For probabilities of which one end is no distribution.
UNIT_INTERVAL_ABOVE_0 = Support("unit_interval", 0, "unit_interval", words="in (0, 1]", check=_is_positive_probability)
UNIT_INTERVAL_BELOW_1 = Support("unit_interval", 0, "unit_interval", words="in [0, 1)", check=_is_probability_below_1)
SIMPLEX = Support("simplex", 1, "simplex", check=_is_simplex)
ORDERED = Support("ordered", 1, "ordered", check=_is_ordered)
POSITIVE_ORDERED = Support("positive_ordered", 1, "positive_ordered", check=_is_positive_ordered)
CHOLESKY_COV = Support("cholesky_cov", 2, "cholesky_cov", check=_is_lower)
CHOLESKY_CORR = Support("cholesky_corr", 2, "cholesky_corr", check=_is_cholesky_corr)
COVARIANCE = Support("covariance", 2, "covariance", check=_is_positive_definite)
CORRELATION = Support("correlation", 2, "correlation", check=_is_correlation)
COUNT = Support("count", 0, None, words="integers of at least 0", check=_is_count)
COUNT_VECTOR = Support("count", 1, None, words="integers of at least 0", check=_is_count)
BINARY = Support("binary", 0, None, words="0 or 1", check=_is_binary)
INTEGER = Support("integer", 0, None, words="integers", check=_is_integer)
ONE_HOT = Support("one_hot", 1, None, check=_is_one_hot)


# Which spaces hold which others, of those that differ by more than their bounds.
_HOLDS = {
    "count": ("binary",),
    "integer": ("count", "binary"),
    "positive": ("nonnegative", "lower", "interval", "unit_interval"),
    "lower": ("positive", "nonnegative", "interval", "unit_interval"),
    "interval": ("unit_interval",),
    "unit_interval": ("interval",),
}


def is_inside(inner: Support, outer: Support) -> bool:
    """Return whether all values of one space, its boundary left out, are values of another of the same events.

    Spaces with moving bounds are inside spaces of their name.
    """
    if inner.event_ndim != outer.event_ndim or inner.discrete != outer.discrete:
        return False
    if inner.name != outer.name and inner.bijector != outer.bijector and inner.name not in _HOLDS.get(outer.name, ()):
        return False
    return inner.moving or outer.moving or _bounds_inside(inner, outer)


def _bounds_inside(inner: Support, outer: Support) -> bool:
    natural = {"positive": 0.0, "nonnegative": 0.0, "binary": 0.0, "count": 0.0, "unit_interval": 0.0}
    top = {"binary": 1.0, "unit_interval": 1.0}

    def bounds(space: Support) -> tuple[Float64, Float64]:
        lower = space.lower or (natural.get(space.name, -np.inf),)
        return np.asarray(lower), np.asarray(space.upper or (top.get(space.name, np.inf),))

    (low, high), (least, most) = bounds(inner), bounds(outer)
    return bool(np.all(low >= least) and np.all(high <= most))


def interval(lower: npt.ArrayLike, upper: npt.ArrayLike) -> Support:
    """Return the space of numbers between two bounds."""
    low, high = _bounds(lower), _bounds(upper)
    return Support("interval", 0, "interval", low, high)


def integers_to(upper: npt.ArrayLike) -> Support:
    """Return the space of the integers from 0 to a bound."""
    return Support("count", 0, None, (0.0,), _bounds(upper), words="integers from 0 to a bound", check=_is_integer)


def lower_bounded(bound: npt.ArrayLike) -> Support:
    """Return the space of numbers above a bound."""
    return Support("lower", 0, "lower", _bounds(bound))


def upper_bounded(bound: npt.ArrayLike) -> Support:
    """Return the space of numbers below a bound."""
    return Support("upper", 0, "upper", (), _bounds(bound))


# Bounds that are not known before the variable is drawn.
MOVING_INTERVAL = Support("interval", 0, "interval", moving=True)
MOVING_LOWER = Support("lower", 0, "lower", moving=True)


def _bounds(value: npt.ArrayLike) -> tuple[float, ...]:
    array = np.asarray(value, np.float64).ravel()
    if not np.isfinite(array).all():
        raise ValueError(f"bounds must be finite, not {array[~np.isfinite(array)][0]}")
    return (float(array[0]),) if (array == array[0]).all() else tuple(float(x) for x in array)


_BY_NAME = {
    s.name: s
    for s in (
        REAL,
        POSITIVE,
        UNIT_INTERVAL,
        SIMPLEX,
        ORDERED,
        POSITIVE_ORDERED,
        CHOLESKY_COV,
        CHOLESKY_CORR,
        COVARIANCE,
        CORRELATION,
    )
}
_SOFTPLUS = Support("positive", 0, "softplus", words="positive and finite", check=_is_positive)


def as_support(value: Any) -> Support:
    """Return a support from its name, a tuple such as ``("interval", 0, 1)``, or itself.

    Raises
    ------
    ValueError
        If there is no such support.
    """
    if isinstance(value, Support):
        return value
    if value == "softplus":
        return _SOFTPLUS
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    if isinstance(value, tuple) and value:
        makers: dict[Any, tuple[int, Callable[..., Support]]] = {
            "interval": (2, interval),
            "lower": (1, lower_bounded),
            "upper": (1, upper_bounded),
        }
        n, make = makers.get(value[0], (-1, interval))
        if n == len(value) - 1:
            return make(*value[1:])
    raise ValueError(
        f"support must be one of {sorted(_BY_NAME)}, ('interval', a, b), ('lower', a) or ('upper', b), not {value!r}"
    )
