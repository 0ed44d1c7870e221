"""Distributions of numbers in an interval: uniform, beta and von Mises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.draws import UniformDraws
from klqp.model.distributions.entropy import EntropyByFormula
from klqp.model.distributions.gamma_draws import GammaDraws
from klqp.model.expression import Constant, Expression
from klqp.model.nodes import digamma, lgamma, log
from klqp.model.random_variable import ElementwiseDistribution, Shape
from klqp.model.supports import MOVING_INTERVAL, NONNEGATIVE, POSITIVE, REAL, UNIT_INTERVAL, Support, interval

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Beta", "Uniform", "VonMises"]

Float64 = npt.NDArray[np.float64]


class Uniform(UniformDraws, EntropyByFormula):
    """Independent uniform variables.

    log p(x) = -log(high - low), for low <= x <= high.

    Parameters
    ----------
    low : array_like or expression, default 0
        Lower bounds.
    high : array_like or expression, default 1
        Upper bounds, above `low`.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional

    Notes
    -----
    Where the bounds are no constants, the variable has no fixed support, so that it cannot be transformed: write
    ``low + (high - low) * klqp.Uniform()``.
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"low": REAL, "high": REAL}
    kernel = "uniform"

    def __init__(
        self, low: Any = 0.0, high: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        super().__init__({"low": low, "high": high}, shape=shape, name=name, support=MOVING_INTERVAL)
        a, b = self.parameters["low"], self.parameters["high"]
        if isinstance(a, Constant) and isinstance(b, Constant):
            self._check_order(a.value, b.value)
            self.space = interval(np.broadcast_to(a.value, self.shape), np.broadcast_to(b.value, self.shape))

    def _check_order(self, low: Float64, high: Float64) -> None:
        with np.errstate(over="ignore"):
            if not ((low < high) & np.isfinite(high - low)).all():
                texts = [np.array2string(x, threshold=6) for x in (low, high)]
                raise ValueError(
                    f"high of Uniform must be above low, by a finite width: not low {texts[0]} and high {texts[1]}"
                )

    def _sample(self, rng: np.random.Generator, shape: Shape, *, low: Float64, high: Float64) -> Float64:
        self._check_order(low, high)
        return np.minimum(low + (high - low) * rng.random(shape), high)

    def _emit_draw(self, emitter: Emitter, noise: int, fitted: list[int]) -> int:
        low, high = fitted
        n = 1 if all(p.size == 1 for p in self.inputs) else self.size
        return emitter.core.draw([low, emitter.node("subtract", [high, low], n), noise], self.size)

    def _mean(self, low: Float64, high: Float64) -> Any:
        return low / 2 + high / 2

    def _variance(self, low: Float64, high: Float64) -> Any:
        return (high - low) ** 2 / 12

    def _entropy(self, low: Float64, high: Float64) -> Any:
        return np.log(high - low)

    def _entropy_expression(self) -> Expression:
        return log(self.parameters["high"] - self.parameters["low"])


class Beta(GammaDraws, ElementwiseDistribution, EntropyByFormula):
    """Independent beta variables.

    log p(x) = (a - 1) log(x) + (b - 1) log(1 - x) - log B(a, b) with a = concentration1 and b = concentration0, for x
    in (0, 1).

    Parameters
    ----------
    concentration1 : array_like or expression
        Positive; the means are ``concentration1 / (concentration1 + concentration0)``.
    concentration0 : array_like or expression
        Positive.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional

    Notes
    -----
    Draws inside a fit are rounded to doubles from 2**-1022 to 1 - 2**-53: the density may be infinite at 0 and 1.
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"concentration1": POSITIVE, "concentration0": POSITIVE}
    kernel = "beta"
    normals_per_element = 2

    def __init__(
        self,
        concentration1: Any,
        concentration0: Any,
        *,
        shape: int | Shape | None = None,
        name: str | None = None,
    ) -> None:
        parameters = {"concentration1": concentration1, "concentration0": concentration0}
        super().__init__(parameters, shape=shape, name=name, support=UNIT_INTERVAL)

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program: the logistic function of log g1 - log g0."""
        logs = [
            self._emit_log_gamma(emitter, self._fit(emitter, p, slot), noise, self.size, begin)
            for p, slot, begin in zip(self.inputs, args, (0, self.size), strict=True)
        ]
        return emitter.node("sigmoid_inside", [emitter.node("subtract", logs, self.size)], self.size)

    def _sample(
        self, rng: np.random.Generator, shape: Shape, *, concentration1: Float64, concentration0: Float64
    ) -> Float64:
        return rng.beta(concentration1, concentration0, shape)

    def _mean(self, concentration1: Float64, concentration0: Float64) -> Any:
        return concentration1 / (concentration1 + concentration0)

    def _variance(self, concentration1: Float64, concentration0: Float64) -> Any:
        total = concentration1 + concentration0
        return (concentration1 / total) * (concentration0 / total) / (total + 1)

    def _entropy(self, concentration1: Float64, concentration0: Float64) -> Any:
        from klqp.model.distributions.formulas import beta_entropy

        return beta_entropy(concentration1, concentration0)

    def _entropy_expression(self) -> Expression:
        a, b = self.parameters["concentration1"], self.parameters["concentration0"]
        n = a + b
        log_beta = lgamma(a) + lgamma(b) - lgamma(n)
        return log_beta - (a - 1.0) * digamma(a) - (b - 1.0) * digamma(b) + (n - 2.0) * digamma(n)


class VonMises(UniformDraws):
    """Independent von Mises variables: angles.

    log p(x) = concentration cos(x - loc) - log(2 pi I0(concentration)), for x in (-pi, pi) (its period goes on beyond).

    Parameters
    ----------
    loc : array_like or expression, default 0
        Circular means.
    concentration : array_like or expression, default 1
        At least 0, where the angles are uniform.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional

    Notes
    -----
    `mean` and `variance` are the circular ones: the direction of E[exp(i x)], as an angle in [-pi, pi], and
    1 - abs(E[exp(i x)]).
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"loc": REAL, "concentration": NONNEGATIVE}
    kernel = "von_mises"

    def __init__(
        self, loc: Any = 0.0, concentration: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        circle = interval(-np.pi, np.pi)
        super().__init__({"loc": loc, "concentration": concentration}, shape=shape, name=name, support=circle)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, concentration: Float64) -> Any:
        return _wrapped(loc + rng.vonmises(0.0, concentration, shape))

    def _emit_draw(self, emitter: Emitter, noise: int, fitted: list[int]) -> int:
        loc, concentration = fitted
        angle = emitter.node("von_mises_draw", [concentration, noise], self.size)
        return emitter.node("wrap_angle", [emitter.node("add", [loc, angle], self.size)], self.size)

    def _mean(self, loc: Float64, concentration: Float64) -> Any:
        return _wrapped(loc)

    def _variance(self, loc: Float64, concentration: Float64) -> Any:
        from klqp.model.distributions.formulas import bessel_gap

        return bessel_gap(concentration)

    def _entropy(self, loc: Float64, concentration: Float64) -> Any:
        from klqp.model.distributions.formulas import von_mises_entropy

        return von_mises_entropy(concentration)


def _wrapped(angle: Float64) -> Any:
    """Return angles in [-pi, pi]; those that are there already stay as they are."""
    turned = np.clip(np.mod(angle + np.pi, 2 * np.pi) - np.pi, -np.pi, np.pi)
    return np.where(np.abs(angle) <= np.pi, angle, turned)
