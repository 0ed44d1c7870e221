"""Distributions of counts: Bernoulli, binomial, beta-binomial, Poisson, negative binomial and geometric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.alternatives import exactly_one
from klqp.model.distributions.draws import DiscreteDraws
from klqp.model.distributions.entropy import EntropyByFormula
from klqp.model.distributions.summation import bulk, summed_entropy
from klqp.model.expression import Constant, Expression
from klqp.model.glm import GLM, given, inverse_of, log_of
from klqp.model.nodes import exp, log, sigmoid, softplus, xlog1py, xlogy
from klqp.model.random_variable import Shape
from klqp.model.supports import (
    BINARY,
    COUNT,
    NONNEGATIVE,
    POSITIVE,
    REAL,
    UNIT_INTERVAL,
    UNIT_INTERVAL_ABOVE_0,
    UNIT_INTERVAL_BELOW_1,
    Support,
    integers_to,
)

__all__ = ["Bernoulli", "BetaBinomial", "Binomial", "Geometric", "NegativeBinomial", "Poisson"]

Float64 = npt.NDArray[np.float64]


def _given(**given: Float64 | None) -> dict[str, Float64]:
    return {key: value for key, value in given.items() if value is not None}


def _chances(logits: Float64 | None, probs: Float64 | None) -> tuple[Any, Any]:
    """Return the probabilities of success and of failure."""
    if logits is None:
        return probs, 1 - np.asarray(probs)
    return 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits))


def _odds(logits: Float64 | None, probs: Float64 | None) -> Any:
    """Return the probability of success over that of failure."""
    return np.asarray(probs) / (1 - np.asarray(probs)) if logits is None else np.exp(logits)


class Bernoulli(DiscreteDraws, EntropyByFormula):
    """Independent variables that are 1 with a probability and 0 otherwise.

    log p(x) = x log(probs) + (1 - x) log(1 - probs), for x = 0 or 1; probs = 1 / (1 + exp(-logits)).

    Parameters
    ----------
    logits : array_like or expression
        Log odds of 1. Exactly one of `logits` and `probs` is given.
    probs : array_like or expression
        Probabilities of 1, in [0, 1].
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameter.
    name : str, optional

    Examples
    --------
    >>> import klqp
    >>> klqp.Bernoulli(probs=0.25).variance()
    array(0.1875)
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"logits": REAL, "probs": UNIT_INTERVAL}
    glm = (GLM("bernoulli_logits", given("logits")), GLM("bernoulli_logits", inverse_of("sigmoid", "probs")))

    def __init__(
        self, logits: Any = None, probs: Any = None, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        which, parameters = exactly_one("Bernoulli", logits=logits, probs=probs)
        self.kernel = f"bernoulli_{which}"
        super().__init__(parameters, shape=shape, name=name, support=BINARY)

    @property
    def states(self) -> Float64:
        """All values (2,) that an element can have."""
        return np.array([0.0, 1.0])

    def _sample(
        self, rng: np.random.Generator, shape: Shape, *, logits: Float64 | None = None, probs: Float64 | None = None
    ) -> Any:
        return rng.random(shape) < _chances(logits, probs)[0]

    def _mean(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        return _chances(logits, probs)[0]

    def _variance(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        success, failure = _chances(logits, probs)
        return success * failure

    def _entropy(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        from klqp.model.distributions.formulas import bernoulli_entropy

        return bernoulli_entropy(logits, probs)

    def _outcome_probs(self) -> tuple[Expression, Expression]:
        """Return the probabilities of 1 and of 0."""
        if "probs" in self.parameters:
            return self.parameters["probs"], 1.0 - self.parameters["probs"]
        logits = self.parameters["logits"]
        return sigmoid(logits), sigmoid(-logits)

    def _mean_log_prob(self, of: tuple[Expression, Expression]) -> Expression:
        """Return the mean log probability of a variable that is 1 and 0 with other probabilities."""
        one, zero = of
        if "probs" in self.parameters:
            return xlogy(one, self.parameters["probs"]) + xlog1py(zero, -self.parameters["probs"])
        logits = self.parameters["logits"]
        return -(one * softplus(-logits)) - zero * softplus(logits)

    def _entropy_expression(self) -> Expression:
        return -self._mean_log_prob(self._outcome_probs())


class Binomial(DiscreteDraws):
    """Independent numbers of successes in a number of trials.

    log p(x) = x log(probs) + (total_count - x) log(1 - probs) + log C(total_count, x), for integers x from 0 to
    total_count; probs = 1 / (1 + exp(-logits)).

    Parameters
    ----------
    total_count : array_like or expression
        Numbers of trials, integers of at least 0.
    logits : array_like or expression
        Log odds of a success. Exactly one of `logits` and `probs` is given.
    probs : array_like or expression
        Probabilities of a success, in [0, 1].
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {
        "total_count": COUNT,
        "logits": REAL,
        "probs": UNIT_INTERVAL,
    }
    glm = (
        GLM("binomial_logits", given("logits"), ("total_count",)),
        GLM("binomial_logits", inverse_of("sigmoid", "probs"), ("total_count",)),
    )

    def __init__(
        self,
        total_count: Any,
        logits: Any = None,
        probs: Any = None,
        *,
        shape: int | Shape | None = None,
        name: str | None = None,
    ) -> None:
        which, parameters = exactly_one("Binomial", logits=logits, probs=probs)
        self.kernel = f"binomial_{which}"
        super().__init__({"total_count": total_count, **parameters}, shape=shape, name=name, support=COUNT)
        self.space = _up_to(self.parameters["total_count"], self.shape)

    def _sample(
        self,
        rng: np.random.Generator,
        shape: Shape,
        *,
        total_count: Float64,
        logits: Float64 | None = None,
        probs: Float64 | None = None,
    ) -> Any:
        return rng.binomial(total_count.astype(np.int64), _chances(logits, probs)[0], shape)

    def _mean(self, total_count: Float64, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        return total_count * _chances(logits, probs)[0]

    def _variance(self, total_count: Float64, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        success, failure = _chances(logits, probs)
        return total_count * success * failure

    def _entropy(self, total_count: Float64, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        success, failure = _chances(logits, probs)
        v = total_count * success * failure
        far = v > 1e6  # there, the series is exact and sums are long
        series = 0.5 * np.log(2 * np.pi * np.e * v) + (4 * success * failure - 1) / (12 * v)
        low, high = bulk(np.where(far, 0.0, total_count * success), np.where(far, 0.0, v))
        given = {"total_count": total_count, **_given(logits=logits, probs=probs)}
        kept = {key: np.where(far, 0.0, value) for key, value in given.items()}
        return np.where(far, series, summed_entropy(Binomial, low, np.minimum(high, kept["total_count"]), kept))


class BetaBinomial(DiscreteDraws):
    """Independent numbers of successes in trials whose probability of a success has a beta distribution.

    log p(x) = log C(n, x) + log B(x + a, n - x + b) - log B(a, b), for integers x from 0 to n, with n = total_count,
    a = concentration1 and b = concentration0.

    Parameters
    ----------
    total_count : array_like or expression
        Numbers of trials, integers of at least 0.
    concentration1, concentration0 : array_like or expression
        Positive; the mean probability is ``concentration1 / (concentration1 + concentration0)``.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {
        "total_count": COUNT,
        "concentration1": POSITIVE,
        "concentration0": POSITIVE,
    }
    kernel = "beta_binomial"

    def __init__(
        self,
        total_count: Any,
        concentration1: Any,
        concentration0: Any,
        *,
        shape: int | Shape | None = None,
        name: str | None = None,
    ) -> None:
        parameters = {
            "total_count": total_count,
            "concentration1": concentration1,
            "concentration0": concentration0,
        }
        super().__init__(parameters, shape=shape, name=name, support=COUNT)
        self.space = _up_to(self.parameters["total_count"], self.shape)

    def _sample(
        self,
        rng: np.random.Generator,
        shape: Shape,
        *,
        total_count: Float64,
        concentration1: Float64,
        concentration0: Float64,
    ) -> Any:
        return rng.binomial(total_count.astype(np.int64), rng.beta(concentration1, concentration0, shape), shape)

    def _mean(self, total_count: Float64, concentration1: Float64, concentration0: Float64) -> Any:
        return total_count * (concentration1 / (concentration1 + concentration0))

    def _variance(self, total_count: Float64, concentration1: Float64, concentration0: Float64) -> Any:
        total = concentration1 + concentration0
        chance = (concentration1 / total) * (concentration0 / total)
        return total_count * chance * ((total + total_count) / (total + 1))

    def _entropy(self, total_count: Float64, concentration1: Float64, concentration0: Float64) -> Any:
        parameters = {
            "total_count": total_count,
            "concentration1": concentration1,
            "concentration0": concentration0,
        }
        return summed_entropy(BetaBinomial, np.zeros(()), total_count, parameters)


class Poisson(DiscreteDraws):
    """Independent Poisson variables: numbers of events.

    log p(x) = x log(rate) - rate - log(x!), for integers x >= 0; rate = exp(log_rate).

    Parameters
    ----------
    rate : array_like or expression
        Means, at least 0. Exactly one of `rate` and `log_rate` is given.
    log_rate : array_like or expression
        Logarithms of the means.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameter.
    name : str, optional

    Examples
    --------
    >>> import klqp
    >>> klqp.Poisson(log_rate=0.0).mean()
    array(1.)
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"rate": NONNEGATIVE, "log_rate": REAL}
    glm = (GLM("poisson_log", given("log_rate")), GLM("poisson_log", log_of("rate")))

    def __init__(
        self, rate: Any = None, log_rate: Any = None, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        which, parameters = exactly_one("Poisson", rate=rate, log_rate=log_rate)
        self.kernel = "poisson" if which == "rate" else "poisson_log"
        super().__init__(parameters, shape=shape, name=name, support=COUNT)

    def _sample(
        self, rng: np.random.Generator, shape: Shape, *, rate: Float64 | None = None, log_rate: Float64 | None = None
    ) -> Any:
        return rng.poisson(_rate(rate, log_rate), shape)

    def _mean(self, rate: Float64 | None = None, log_rate: Float64 | None = None) -> Any:
        return _rate(rate, log_rate)

    def _variance(self, rate: Float64 | None = None, log_rate: Float64 | None = None) -> Any:
        return _rate(rate, log_rate)

    def _entropy(self, rate: Float64 | None = None, log_rate: Float64 | None = None) -> Any:
        mean = _rate(rate, log_rate)
        logs = np.log(mean) if log_rate is None else log_rate
        far = mean > 1e4  # there, the series is exact and sums are long
        near, w = np.where(far, 0.0, mean), 1 / mean
        series = 0.5 * (np.log(2 * np.pi * np.e) + logs) - w * (1 / 12 + w * (1 / 24 + w * 19 / 360))
        return np.where(far, series, summed_entropy(Poisson, *bulk(near, near), {"rate": near}))


class NegativeBinomial(DiscreteDraws):
    """Independent numbers of successes before a number of failures.

    log p(x) = log Gamma(total_count + x) - log Gamma(total_count) - log(x!) + x log(probs) + total_count
    log(1 - probs), for integers x >= 0; probs = 1 / (1 + exp(-logits)).

    Parameters
    ----------
    total_count : array_like or expression
        Numbers of failures: positive, not only integers.
    logits : array_like or expression
        Log odds of a success; the means are ``total_count * exp(logits)``. Exactly one of `logits` and `probs` is
        given.
    probs : array_like or expression
        Probabilities of a success, in [0, 1).
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {
        "total_count": POSITIVE,
        "logits": REAL,
        "probs": UNIT_INTERVAL_BELOW_1,
    }
    glm = (
        GLM("negative_binomial_logits", given("logits"), ("total_count",)),
        GLM("negative_binomial_logits", inverse_of("sigmoid", "probs"), ("total_count",)),
    )

    def __init__(
        self,
        total_count: Any,
        logits: Any = None,
        probs: Any = None,
        *,
        shape: int | Shape | None = None,
        name: str | None = None,
    ) -> None:
        which, parameters = exactly_one("NegativeBinomial", logits=logits, probs=probs)
        self.kernel = f"negative_binomial_{which}"
        super().__init__({"total_count": total_count, **parameters}, shape=shape, name=name, support=COUNT)

    def _sample(
        self,
        rng: np.random.Generator,
        shape: Shape,
        *,
        total_count: Float64,
        logits: Float64 | None = None,
        probs: Float64 | None = None,
    ) -> Any:
        return rng.poisson(rng.standard_gamma(total_count, shape) * _odds(logits, probs))

    def _mean(self, total_count: Float64, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        return total_count * _odds(logits, probs)

    def _variance(self, total_count: Float64, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        odds = _odds(logits, probs)
        return total_count * odds * (1 + odds)

    def _entropy(self, total_count: Float64, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        odds = _odds(logits, probs)
        low, high = bulk(total_count * odds, total_count * odds * (1 + odds), 1 + odds)
        parameters = {"total_count": total_count, **_given(logits=logits, probs=probs)}
        return summed_entropy(NegativeBinomial, low, high, parameters)


class Geometric(DiscreteDraws, EntropyByFormula):
    """Independent numbers of failures before the first success.

    log p(x) = x log(1 - probs) + log(probs), for integers x >= 0; probs = 1 / (1 + exp(-logits)).

    Parameters
    ----------
    logits : array_like or expression
        Log odds of a success; the means are ``exp(-logits)``. Exactly one of `logits` and `probs` is given.
    probs : array_like or expression
        Probabilities of a success, in (0, 1].
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameter.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"logits": REAL, "probs": UNIT_INTERVAL_ABOVE_0}

    def __init__(
        self, logits: Any = None, probs: Any = None, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        which, parameters = exactly_one("Geometric", logits=logits, probs=probs)
        self.kernel = f"geometric_{which}"
        super().__init__(parameters, shape=shape, name=name, support=COUNT)

    def _sample(
        self, rng: np.random.Generator, shape: Shape, *, logits: Float64 | None = None, probs: Float64 | None = None
    ) -> Any:
        # Inversion: the floor of an exponential variable with rate -log(1 - p).
        rate = -np.log1p(-np.asarray(probs)) if logits is None else np.logaddexp(0.0, logits)
        return np.floor(rng.standard_exponential(shape) / rate)

    def _mean(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        return (1 - np.asarray(probs)) / probs if logits is None else np.exp(-np.asarray(logits))

    def _variance(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        mean = self._mean(logits, probs)
        return mean * (1 + mean)

    def _entropy(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Any:
        from klqp.model.distributions.formulas import bernoulli_entropy

        if probs is not None:
            return bernoulli_entropy(None, probs) / probs
        # -log(p) - log(1 - p) (1 - p) / p
        x = np.asarray(logits)
        return np.logaddexp(0.0, -x) + np.where(x < -40, 1.0, np.exp(-x) * np.logaddexp(0.0, x))

    def _entropy_expression(self) -> Expression:
        if "probs" in self.parameters:
            p = self.parameters["probs"]
            return -log(p) - xlog1py(1.0 - p, -p) / p
        x = self.parameters["logits"]
        return softplus(-x) + exp(-x) * softplus(x)


def _rate(rate: Float64 | None, log_rate: Float64 | None) -> Any:
    return np.exp(np.asarray(log_rate)) if rate is None else rate


def _up_to(total_count: Any, shape: Shape) -> Support:
    if not isinstance(total_count, Constant):
        return COUNT
    return integers_to(np.broadcast_to(total_count.value, shape))
