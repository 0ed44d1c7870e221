"""Distributions of real numbers by location and scale: Laplace, Cauchy, logistic, Student's t and Gumbel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.draws import LocationScaleDraws
from klqp.model.distributions.entropy import EntropyByFormula
from klqp.model.distributions.gamma_draws import GammaDraws
from klqp.model.expression import Expression
from klqp.model.glm import GLM, given
from klqp.model.nodes import digamma, lgamma, log
from klqp.model.random_variable import ElementwiseDistribution, Shape
from klqp.model.supports import POSITIVE, REAL, Support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Cauchy", "Gumbel", "Laplace", "Logistic", "StudentT"]

Float64 = npt.NDArray[np.float64]


class _LocationScale(LocationScaleDraws, EntropyByFormula):
    """Real numbers with the parameters loc and scale alone; `standard_entropy` is that of scale 1."""

    standard_entropy: ClassVar[float]

    parameter_supports: ClassVar[Mapping[str, Support]] = {"loc": REAL, "scale": POSITIVE}

    def __init__(
        self, loc: Any = 0.0, scale: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        super().__init__({"loc": loc, "scale": scale}, shape=shape, name=name, support=REAL)

    def _entropy(self, loc: Float64, scale: Float64) -> Any:
        return np.log(scale) + self.standard_entropy

    def _entropy_expression(self) -> Expression:
        return log(self.parameters["scale"]) + self.standard_entropy


class Laplace(_LocationScale):
    """Independent Laplace (double exponential) variables.

    log p(x) = -abs(x - loc) / scale - log(2 scale), for real x.

    Parameters
    ----------
    loc : array_like or expression, default 0
        Means.
    scale : array_like or expression, default 1
        Mean absolute deviations, positive.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional
    """

    kernel = "laplace"
    quantile = "laplace_ppf"
    standard_entropy = 1 + math.log(2)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, scale: Float64) -> Float64:
        return loc + scale * rng.laplace(size=shape)

    def _mean(self, loc: Float64, scale: Float64) -> Any:
        return loc

    def _variance(self, loc: Float64, scale: Float64) -> Any:
        return 2 * scale**2


class Cauchy(_LocationScale):
    """Independent Cauchy variables; they have no mean and no variance.

    log p(x) = -log(1 + ((x - loc) / scale)**2) - log(pi scale), for real x.

    Parameters
    ----------
    loc : array_like or expression, default 0
        Medians.
    scale : array_like or expression, default 1
        Half widths at half maximum, positive.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional
    """

    kernel = "cauchy"
    quantile = "cauchy_ppf"
    standard_entropy = math.log(4 * math.pi)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, scale: Float64) -> Float64:
        return loc + scale * rng.standard_cauchy(shape)

    def _mean(self, loc: Float64, scale: Float64) -> Any:
        return np.nan

    def _variance(self, loc: Float64, scale: Float64) -> Any:
        return np.nan


class Logistic(_LocationScale):
    """Independent logistic variables.

    log p(x) = -z - 2 log(1 + exp(-z)) - log(scale) with z = (x - loc) / scale, for real x.

    Parameters
    ----------
    loc : array_like or expression, default 0
        Means.
    scale : array_like or expression, default 1
        Positive; standard deviations are ``pi scale / sqrt(3)``.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional
    """

    kernel = "logistic"
    quantile = "logit"
    standard_entropy = 2.0

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, scale: Float64) -> Float64:
        return loc + scale * rng.logistic(size=shape)

    def _mean(self, loc: Float64, scale: Float64) -> Any:
        return loc

    def _variance(self, loc: Float64, scale: Float64) -> Any:
        return np.pi**2 / 3 * scale**2


class Gumbel(_LocationScale):
    """Independent Gumbel variables: limits of the largest of many.

    log p(x) = -z - exp(-z) - log(scale) with z = (x - loc) / scale, for real x.

    Parameters
    ----------
    loc : array_like or expression, default 0
        Modes.
    scale : array_like or expression, default 1
        Positive; standard deviations are ``pi scale / sqrt(6)``.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional
    """

    kernel = "gumbel"
    quantile = "gumbel_ppf"
    standard_entropy = 1 + np.euler_gamma

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, scale: Float64) -> Float64:
        return loc + scale * rng.gumbel(size=shape)

    def _mean(self, loc: Float64, scale: Float64) -> Any:
        return loc + np.euler_gamma * scale

    def _variance(self, loc: Float64, scale: Float64) -> Any:
        return np.pi**2 / 6 * scale**2


class StudentT(GammaDraws, ElementwiseDistribution, EntropyByFormula):
    """Independent variables of Student's t distribution.

    p(x) is proportional to (1 + ((x - loc) / scale)**2 / df)**(-(df + 1) / 2), for real x.

    Parameters
    ----------
    df : array_like or expression
        Degrees of freedom, positive. There is a mean if df > 1, and a finite variance if df > 2.
    loc : array_like or expression, default 0
        Medians.
    scale : array_like or expression, default 1
        Positive; not the standard deviations, which are ``scale * sqrt(df / (df - 2))``.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional

    Notes
    -----
    Draws inside a fit have abs(x - loc) / scale of at most about 2**1003, which is at work where df is below 0.1.
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"df": POSITIVE, "loc": REAL, "scale": POSITIVE}
    kernel = "student_t"
    glm = (GLM("student_t", given("loc"), ("df", "scale")),)
    normals_per_element = 2

    def __init__(
        self,
        df: Any,
        loc: Any = 0.0,
        scale: Any = 1.0,
        *,
        shape: int | Shape | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__({"df": df, "loc": loc, "scale": scale}, shape=shape, name=name, support=REAL)

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program: one over the root of a gamma draw over its mean."""
        n = self.size
        df, loc, scale = (self._fit(emitter, p, slot) for p, slot in zip(self.inputs, args, strict=True))
        n_df = 1 if self.inputs[0].size == 1 else n
        half = emitter.node("multiply_constant", [df], n_df, 0.5)
        log_z = self._emit_log_gamma(emitter, half, noise, n, n)
        log_ratio = emitter.node("subtract", [emitter.node("log", [half], n_df), log_z], n)
        spread = emitter.node("exp_inside", [emitter.node("multiply_constant", [log_ratio], n, 0.5)], n)
        normals = emitter.core.node("slice", [noise], n, {"begin": [0]})
        scaled = emitter.node("multiply", [scale, emitter.node("multiply", [normals, spread], n)], n)
        return emitter.node("add", [loc, scaled], n)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, df: Float64, loc: Float64, scale: Float64) -> Float64:
        return loc + scale * rng.standard_t(df, shape)

    def _mean(self, df: Float64, loc: Float64, scale: Float64) -> Any:
        return np.where(df > 1, loc, np.nan)

    def _variance(self, df: Float64, loc: Float64, scale: Float64) -> Any:
        return np.where(df > 2, scale**2 * df / (df - 2), np.where(df > 1, np.inf, np.nan))

    def _entropy(self, df: Float64, loc: Float64, scale: Float64) -> Any:
        from klqp.model.distributions.formulas import student_t_entropy

        return student_t_entropy(df) + np.log(scale)

    def _entropy_expression(self) -> Expression:
        df = self.parameters["df"]
        half, above = df * 0.5, df * 0.5 + 0.5
        log_beta = lgamma(half) - lgamma(above) + 0.5 * math.log(math.pi)
        slope = digamma(above) - digamma(half)
        return above * slope + 0.5 * log(df) + log_beta + log(self.parameters["scale"])
