"""Distributions of positive numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.draws import LocationScaleDraws, UniformDraws
from klqp.model.distributions.entropy import EntropyByFormula
from klqp.model.distributions.gamma_draws import GammaDraws
from klqp.model.distributions.normal import HALF_LOG_2_PI_E, NormalDraws
from klqp.model.expression import Constant, Expression
from klqp.model.glm import GLM, log_mean_of_gamma
from klqp.model.nodes import digamma, lgamma, log
from klqp.model.random_variable import ElementwiseDistribution, Shape
from klqp.model.supports import MOVING_LOWER, POSITIVE, REAL, Support, lower_bounded

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = [
    "Chi2",
    "Exponential",
    "Gamma",
    "HalfCauchy",
    "HalfNormal",
    "InverseGamma",
    "LogNormal",
    "Weibull",
]

Float64 = npt.NDArray[np.float64]


class LogNormal(NormalDraws):
    """Independent log-normal variables: exponentials of normal ones.

    log p(x) = -((log(x) - loc) / scale)**2 / 2 - log(x scale) - log(2 pi) / 2, for positive x.

    Parameters
    ----------
    loc : array_like or expression, default 0
        Means of the logarithms.
    scale : array_like or expression, default 1
        Standard deviations of the logarithms, positive.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"loc": REAL, "scale": POSITIVE}
    kernel = "log_normal"

    def __init__(
        self, loc: Any = 0.0, scale: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        super().__init__({"loc": loc, "scale": scale}, shape=shape, name=name, support=POSITIVE)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, scale: Float64) -> Any:
        return np.exp(loc + scale * rng.standard_normal(shape))

    def _mean(self, loc: Float64, scale: Float64) -> Any:
        return np.exp(loc + scale**2 / 2)

    def _variance(self, loc: Float64, scale: Float64) -> Any:
        return np.expm1(scale**2) * np.exp(2 * loc + scale**2)

    def _entropy(self, loc: Float64, scale: Float64) -> Any:
        return loc + np.log(scale) + HALF_LOG_2_PI_E

    def _entropy_expression(self) -> Expression:
        return self.parameters["loc"] + log(self.parameters["scale"]) + HALF_LOG_2_PI_E

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program."""
        return emitter.node("exp", [super().emit_draw(emitter, noise, args)], self.size)


class HalfNormal(UniformDraws, EntropyByFormula):
    """Independent absolute values of normal variables of mean 0.

    log p(x) = -(x / scale)**2 / 2 - log(scale) + log(2 / pi) / 2, for x >= 0.

    Parameters
    ----------
    scale : array_like or expression, default 1
        Standard deviations of the normal variables, positive.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameter.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"scale": POSITIVE}
    kernel = "half_normal"

    def __init__(self, scale: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None) -> None:
        super().__init__({"scale": scale}, shape=shape, name=name, support=POSITIVE)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, scale: Float64) -> Any:
        return scale * np.abs(rng.standard_normal(shape))

    def _emit_draw(self, emitter: Emitter, noise: int, fitted: list[int]) -> int:
        return emitter.node("multiply", [emitter.node("half_normal_ppf", [noise], self.size), *fitted], self.size)

    def _mean(self, scale: Float64) -> Any:
        return np.sqrt(2 / np.pi) * scale

    def _variance(self, scale: Float64) -> Any:
        return (1 - 2 / np.pi) * scale**2

    def _entropy(self, scale: Float64) -> Any:
        return np.log(scale) + (HALF_LOG_2_PI_E - np.log(2))

    def _entropy_expression(self) -> Expression:
        return log(self.parameters["scale"]) + (HALF_LOG_2_PI_E - math.log(2))


class HalfCauchy(LocationScaleDraws, EntropyByFormula):
    """Independent Cauchy variables given that they are above their location; they have no finite mean.

    log p(x) = -log(1 + ((x - loc) / scale)**2) - log(pi scale / 2), for x >= loc.

    Parameters
    ----------
    loc : array_like or expression, default 0
        Lower bounds.
    scale : array_like or expression, default 1
        Positive; the medians are ``loc + scale``.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional

    Notes
    -----
    The first argument is the location: for one scale write ``HalfCauchy(scale=2.5)``. Values are "positive" where loc
    is 0. Where loc is no constant, the variable has no fixed support, so that it cannot be transformed.
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"loc": REAL, "scale": POSITIVE}
    kernel = "half_cauchy"
    quantile = "half_cauchy_ppf"

    def __init__(
        self, loc: Any = 0.0, scale: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        super().__init__({"loc": loc, "scale": scale}, shape=shape, name=name, support=MOVING_LOWER)
        bound = self.parameters["loc"]
        if isinstance(bound, Constant):
            at_zero = not bound.value.any()
            self.space = POSITIVE if at_zero else lower_bounded(np.broadcast_to(bound.value, self.shape))

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, scale: Float64) -> Any:
        return loc + scale * np.abs(rng.standard_cauchy(shape))

    def _mean(self, loc: Float64, scale: Float64) -> Any:
        return np.inf

    def _variance(self, loc: Float64, scale: Float64) -> Any:
        return np.inf

    def _entropy(self, loc: Float64, scale: Float64) -> Any:
        return np.log(scale) + np.log(2 * np.pi)

    def _entropy_expression(self) -> Expression:
        return log(self.parameters["scale"]) + math.log(2 * math.pi)


class Gamma(GammaDraws, ElementwiseDistribution, EntropyByFormula):
    """Independent gamma variables.

    log p(x) = concentration log(rate) + (concentration - 1) log(x) - rate x - log Gamma(concentration), for positive x.

    Parameters
    ----------
    concentration : array_like or expression
        Shape parameters, positive; the means are ``concentration / rate``.
    rate : array_like or expression, default 1
        Inverse scales, positive.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional

    Notes
    -----
    Draws inside a fit are at least 2**-1022: at small concentrations most gamma variables are closer to 0 than any
    double.

    Examples
    --------
    >>> import klqp
    >>> klqp.Gamma(3.0, rate=[1.0, 2.0]).mean()
    array([3. , 1.5])
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"concentration": POSITIVE, "rate": POSITIVE}
    kernel = "gamma"
    glm = (GLM("gamma_log", log_mean_of_gamma, ("concentration",)),)

    def __init__(
        self, concentration: Any, rate: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        super().__init__({"concentration": concentration, "rate": rate}, shape=shape, name=name, support=POSITIVE)

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program."""
        concentration, rate = (self._fit(emitter, p, slot) for p, slot in zip(self.inputs, args, strict=True))
        log_z = self._emit_log_gamma(emitter, concentration, noise, self.size)
        log_rate = emitter.node("log", [rate], 1 if self.inputs[1].size == 1 else self.size)
        return emitter.node("exp_above_0", [emitter.node("subtract", [log_z, log_rate], self.size)], self.size)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, concentration: Float64, rate: Float64) -> Float64:
        return rng.standard_gamma(concentration, shape) / rate

    def _mean(self, concentration: Float64, rate: Float64) -> Any:
        return concentration / rate

    def _variance(self, concentration: Float64, rate: Float64) -> Any:
        return concentration / rate**2

    def _entropy(self, concentration: Float64, rate: Float64) -> Any:
        from klqp.model.distributions.formulas import gamma_entropy

        return gamma_entropy(concentration) - np.log(rate)

    def _entropy_expression(self) -> Expression:
        return _gamma_entropy(self.parameters["concentration"]) - log(self.parameters["rate"])


class InverseGamma(GammaDraws, ElementwiseDistribution, EntropyByFormula):
    """Independent inverses of gamma variables.

    log p(x) = concentration log(scale) - (concentration + 1) log(x) - scale / x - log Gamma(concentration), for
    positive x.

    Parameters
    ----------
    concentration : array_like or expression
        Shape parameters, positive. There is a finite mean if it is above 1, and a finite variance if above 2.
    scale : array_like or expression, default 1
        Positive; the modes are ``scale / (concentration + 1)``.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional

    Notes
    -----
    Draws inside a fit are from 2**-1022 to 2**1000.
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"concentration": POSITIVE, "scale": POSITIVE}
    kernel = "inverse_gamma"

    def __init__(
        self, concentration: Any, scale: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        super().__init__({"concentration": concentration, "scale": scale}, shape=shape, name=name, support=POSITIVE)

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program."""
        concentration, scale = (self._fit(emitter, p, slot) for p, slot in zip(self.inputs, args, strict=True))
        log_z = self._emit_log_gamma(emitter, concentration, noise, self.size)
        log_scale = emitter.node("log", [scale], 1 if self.inputs[1].size == 1 else self.size)
        return emitter.node("exp_inside", [emitter.node("subtract", [log_scale, log_z], self.size)], self.size)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, concentration: Float64, scale: Float64) -> Float64:
        return scale / rng.standard_gamma(concentration, shape)

    def _mean(self, concentration: Float64, scale: Float64) -> Any:
        return np.where(concentration > 1, scale / (concentration - 1), np.inf)

    def _variance(self, concentration: Float64, scale: Float64) -> Any:
        mean = scale / (concentration - 1)
        return np.where(concentration > 2, mean**2 / (concentration - 2), np.inf)

    def _entropy(self, concentration: Float64, scale: Float64) -> Any:
        from scipy import special

        from klqp.model.distributions.formulas import gamma_entropy

        return gamma_entropy(concentration) - 2 * special.digamma(concentration) + np.log(scale)

    def _entropy_expression(self) -> Expression:
        a = self.parameters["concentration"]
        return a + lgamma(a) - (a + 1.0) * digamma(a) + log(self.parameters["scale"])


class Exponential(UniformDraws, EntropyByFormula):
    """Independent exponential variables.

    log p(x) = log(rate) - rate x, for x >= 0.

    Parameters
    ----------
    rate : array_like or expression, default 1
        Inverse means, positive.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameter.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"rate": POSITIVE}
    kernel = "exponential"

    def __init__(self, rate: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None) -> None:
        super().__init__({"rate": rate}, shape=shape, name=name, support=POSITIVE)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, rate: Float64) -> Float64:
        return rng.standard_exponential(shape) / rate

    def _emit_draw(self, emitter: Emitter, noise: int, fitted: list[int]) -> int:
        return emitter.node("divide", [emitter.node("exponential_ppf", [noise], self.size), *fitted], self.size)

    def _mean(self, rate: Float64) -> Any:
        return 1 / rate

    def _variance(self, rate: Float64) -> Any:
        return 1 / rate**2

    def _entropy(self, rate: Float64) -> Any:
        return 1 - np.log(rate)

    def _entropy_expression(self) -> Expression:
        return 1.0 - log(self.parameters["rate"])


class Chi2(GammaDraws, ElementwiseDistribution, EntropyByFormula):
    """Independent chi-squared variables: Gamma(df / 2, rate=1 / 2).

    log p(x) = (df / 2 - 1) log(x) - x / 2 - (df / 2) log(2) - log Gamma(df / 2), for positive x.

    Parameters
    ----------
    df : array_like or expression
        Degrees of freedom, positive: the means.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameter.
    name : str, optional

    Notes
    -----
    Draws inside a fit are at least 2**-1022.
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"df": POSITIVE}
    kernel = "chi2"

    def __init__(self, df: Any, *, shape: int | Shape | None = None, name: str | None = None) -> None:
        super().__init__({"df": df}, shape=shape, name=name, support=POSITIVE)

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program."""
        df = self.inputs[0]
        concentration = emitter.node(
            "multiply_constant", [self._fit(emitter, df, args[0])], 1 if df.size == 1 else self.size, 0.5
        )
        log_z = self._emit_log_gamma(emitter, concentration, noise, self.size)
        return emitter.node("exp_above_0", [emitter.node("add_constant", [log_z], self.size, math.log(2))], self.size)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, df: Float64) -> Float64:
        return 2 * rng.standard_gamma(df / 2, shape)

    def _mean(self, df: Float64) -> Any:
        return df

    def _variance(self, df: Float64) -> Any:
        return 2 * df

    def _entropy(self, df: Float64) -> Any:
        from klqp.model.distributions.formulas import gamma_entropy

        return gamma_entropy(df / 2) + np.log(2)

    def _entropy_expression(self) -> Expression:
        return _gamma_entropy(self.parameters["df"] * 0.5) + math.log(2)


class Weibull(UniformDraws, EntropyByFormula):
    """Independent Weibull variables.

    log p(x) = log(c / scale) + (c - 1) log(x / scale) - (x / scale)**c with c the concentration, for positive x.

    Parameters
    ----------
    concentration : array_like or expression
        Exponents, positive.
    scale : array_like or expression, default 1
        Positive.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"concentration": POSITIVE, "scale": POSITIVE}
    kernel = "weibull"

    def __init__(
        self, concentration: Any, scale: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        super().__init__({"concentration": concentration, "scale": scale}, shape=shape, name=name, support=POSITIVE)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, concentration: Float64, scale: Float64) -> Float64:
        return scale * rng.standard_exponential(shape) ** (1 / concentration)

    def _emit_draw(self, emitter: Emitter, noise: int, fitted: list[int]) -> int:
        concentration, scale = fitted
        n = self.size
        logs = emitter.node("log", [emitter.node("exponential_ppf", [noise], n)], n)
        power = emitter.node("exp_above_0", [emitter.node("divide", [logs, concentration], n)], n)
        return emitter.node("multiply", [power, scale], n)

    def _mean(self, concentration: Float64, scale: Float64) -> Any:
        from scipy.special import gamma

        return scale * gamma(1 + 1 / concentration)

    def _variance(self, concentration: Float64, scale: Float64) -> Any:
        from klqp.model.distributions.formulas import weibull_relative_variance

        return scale**2 * weibull_relative_variance(concentration)

    def _entropy(self, concentration: Float64, scale: Float64) -> Any:
        return np.euler_gamma * (1 - 1 / concentration) + np.log(scale / concentration) + 1

    def _entropy_expression(self) -> Expression:
        c = self.parameters["concentration"]
        return log(self.parameters["scale"]) - log(c) - np.euler_gamma * c**-1 + (1 + np.euler_gamma)


def _gamma_entropy(a: Expression) -> Expression:
    """Return the entropy of Gamma(a, 1)."""
    return a + lgamma(a) + (1.0 - a) * digamma(a)
