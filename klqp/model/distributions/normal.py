"""The normal distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from klqp.model.random_variable import ElementwiseDistribution, Shape
from klqp.model.supports import POSITIVE, REAL

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Normal"]

Float64 = npt.NDArray[np.float64]

_HALF_LOG_2_PI_E = 0.5 * np.log(2 * np.pi * np.e)


class Normal(ElementwiseDistribution):
    """Independent normal variables.

    Parameters
    ----------
    loc : array_like or expression, default 0
        Means.
    scale : array_like or expression, default 1
        Standard deviations, positive.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports = {"loc": REAL, "scale": POSITIVE}
    kernel = "normal"

    def __init__(
        self, loc: Any = 0.0, scale: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        super().__init__({"loc": loc, "scale": scale}, shape=shape, name=name, support=REAL)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, scale: Float64) -> Float64:
        return loc + scale * rng.standard_normal(shape)

    def _mean(self, loc: Float64, scale: Float64) -> Float64:
        return loc

    def _variance(self, loc: Float64, scale: Float64) -> Float64:
        return scale**2

    def _entropy(self, loc: Float64, scale: Float64) -> Float64:
        return np.log(scale) + _HALF_LOG_2_PI_E

    # --- as q ------------------------------------------------------------------------------------------------
    @property
    def noise_size(self) -> int:
        """Number of standard normals that make a draw."""
        return self.size

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program."""
        fitted = [self._fit(emitter, p, slot) for p, slot in zip(self.inputs, args, strict=True)]
        return emitter.core.draw([*fitted, noise], self.size)

    def emit_entropy(self, emitter: Emitter, args: list[int], scale: int | None) -> int:
        """Add the entropy, each element's times its factor, to a program."""
        spread = self._fit(emitter, self.inputs[1], args[1])
        n = self.inputs[1].size if self.inputs[1].size == 1 else self.size
        each = emitter.node("add_constant", [emitter.node("log", [spread], n)], n, float(_HALF_LOG_2_PI_E))
        if scale is not None:
            return emitter.total(emitter.node("multiply", [each, scale], self.size), self.size)
        total = emitter.total(each, n)
        return total if n == self.size else emitter.node("multiply_constant", [total], 1, float(self.size))
