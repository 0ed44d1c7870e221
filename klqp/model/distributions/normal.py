"""The normal distribution, and what distributions made from normal draws share as an approximation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.entropy import EntropyByFormula
from klqp.model.expression import Expression
from klqp.model.glm import GLM, given
from klqp.model.nodes import log
from klqp.model.random_variable import ElementwiseDistribution, Shape
from klqp.model.supports import POSITIVE, REAL, Support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["HALF_LOG_2_PI_E", "Normal", "NormalDraws"]

Float64 = npt.NDArray[np.float64]

HALF_LOG_2_PI_E = 0.5 * math.log(2 * math.pi * math.e)


class NormalDraws(ElementwiseDistribution, EntropyByFormula):
    """A distribution whose draws are made from ``loc + scale * noise``; not used by itself."""

    @property
    def noise_size(self) -> int:
        """Number of standard normals that make a draw."""
        return self.size

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program."""
        fitted = [self._fit(emitter, p, slot) for p, slot in zip(self.inputs, args, strict=True)]
        return emitter.core.draw([*fitted, noise], self.size)


class Normal(NormalDraws):
    """Independent normal variables.

    log p(x) = -((x - loc) / scale)**2 / 2 - log(scale) - log(2 pi) / 2, for real x.

    Parameters
    ----------
    loc : array_like or expression, default 0
        Means.
    scale : array_like or expression, default 1
        Standard deviations, positive.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional

    Examples
    --------
    >>> import klqp
    >>> klqp.Normal(0.0, [1.0, 2.0]).stddev()
    array([1., 2.])
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"loc": REAL, "scale": POSITIVE}
    kernel = "normal"
    glm = (GLM("normal", given("loc"), ("scale",)),)

    def __init__(
        self, loc: Any = 0.0, scale: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        super().__init__({"loc": loc, "scale": scale}, shape=shape, name=name, support=REAL)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, scale: Float64) -> Float64:
        return loc + scale * rng.standard_normal(shape)

    def _mean(self, loc: Float64, scale: Float64) -> Any:
        return loc

    def _variance(self, loc: Float64, scale: Float64) -> Any:
        return scale**2

    def _entropy(self, loc: Float64, scale: Float64) -> Any:
        return np.log(scale) + HALF_LOG_2_PI_E

    def _entropy_expression(self) -> Expression:
        return log(self.parameters["scale"]) + HALF_LOG_2_PI_E
