"""Draws from uniforms that distributions of numbers share: by the quantile function, and of discrete numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from klqp.model.random_variable import ElementwiseDistribution

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["DiscreteDraws", "LocationScaleDraws", "UniformDraws"]


class UniformDraws(ElementwiseDistribution):
    """A distribution with one uniform for each element of a draw; not used by itself."""

    noise_kind: ClassVar[str] = "uniform"

    @property
    def noise_size(self) -> int:
        """Number of uniforms that make a draw."""
        return self.size

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from uniforms on (0, 1) to a program."""
        fitted = [self._fit(emitter, p, slot) for p, slot in zip(self.inputs, args, strict=True)]
        return self._emit_draw(emitter, noise, fitted)

    def _emit_draw(self, emitter: Emitter, noise: int, fitted: list[int]) -> int:
        """Add the draw, given arrays of one number or of the variable's size."""
        raise NotImplementedError


class LocationScaleDraws(UniformDraws):
    """A distribution by loc and scale whose standard quantile function is a node; not used by itself."""

    quantile: ClassVar[str]

    def _emit_draw(self, emitter: Emitter, noise: int, fitted: list[int]) -> int:
        return emitter.core.draw([*fitted, emitter.node(self.quantile, [noise], self.size)], self.size)


class DiscreteDraws(UniformDraws):
    """A distribution of discrete numbers with a native sampler by the name of its kernel; not used by itself."""

    pathwise: ClassVar[bool] = False

    def _emit_draw(self, emitter: Emitter, noise: int, fitted: list[int]) -> int:
        return emitter.core.discrete_draw(self.kernel, [*fitted, noise], self.size)
