"""Distributions on points: one, or a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.event import EventDistribution
from klqp.model.expression import Expression, as_expression
from klqp.model.fitting import fit_events
from klqp.model.random_variable import Distribution, Shape
from klqp.model.supports import REAL, Support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Empirical", "PointMass"]

Float64 = npt.NDArray[np.float64]


class PointMass(EventDistribution):
    """All probability at one point.

    As q it makes an estimate: with ``PointMass(klqp.Parameter(...))`` for all latent variables, the posterior's mode in
    their own spaces.

    The log probability of an element is 0 at the point and -inf elsewhere.

    Parameters
    ----------
    params : array_like or expression
        The point.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the point.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"params": REAL}
    law = "point_mass"

    def __init__(self, params: Any, *, shape: int | Shape | None = None, name: str | None = None) -> None:
        super().__init__({"params": params}, shape=shape, name=name, support=REAL)

    def _law_sizes(self) -> dict[str, int]:
        return {"size": 1}

    # --- as q: an estimate in the variable's own space, without a density ------------------------------------
    has_density = False
    any_space = True
    noise_size = 0

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Return the point's array."""
        return fit_events(emitter, args[0], self.inputs[0], 0, self.shape, one_for_all=False)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, params: Float64) -> Float64:
        return np.broadcast_to(params, shape)

    def _mean(self, params: Float64) -> Float64:
        return params

    def _variance(self, params: Float64) -> Float64:
        return np.zeros_like(params)

    def _entropy(self, params: Float64) -> Float64:
        return np.zeros_like(params)


class Empirical(Distribution):
    """A sample, each of its points with equal probability.

    Parameters
    ----------
    params : array_like or expression (n, ...)
        n points, along the first axis.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"params": REAL}

    def __init__(self, params: Any, *, name: str | None = None) -> None:
        points: Expression = as_expression(params)
        if points.ndim == 0:
            raise ValueError("params of Empirical must have an axis of points, the first")
        # All axes are the parameter's: none is of a batch.
        self.parameter_supports = {"params": Support("real", points.ndim, "identity")}  # type: ignore[misc]
        self._points_shape = points.shape
        super().__init__({"params": points}, shape=None, name=name, support=REAL, event_shape=points.shape[1:])

    def _sample(self, rng: np.random.Generator, shape: Shape, *, params: Float64) -> Float64:
        n = self._points_shape[0]
        chosen = rng.integers(n, size=shape[0])
        if params.ndim == len(self._points_shape):
            return params[chosen]
        return params[np.arange(shape[0]), chosen]

    def _mean(self, params: Float64) -> Float64:
        return np.asarray(params.mean(0))

    def _variance(self, params: Float64) -> Float64:
        return np.asarray(params.var(0))

    def _entropy(self, params: Float64) -> Float64:
        _, counts = np.unique(params.reshape(len(params), -1), axis=0, return_counts=True)
        p = counts / math.fsum(counts)
        return np.asarray(-(p * np.log(p)).sum())

    def emit_log_prob(self, *_: Any, **__: Any) -> int:
        """Raise TypeError."""
        raise TypeError(f"{self.name!r} is a sample: it has no density")
