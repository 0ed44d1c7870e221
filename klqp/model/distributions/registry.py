"""The distributions, each with examples of its parameters: what tests of all distributions walk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from klqp.model.distributions.bounded import Beta, Uniform, VonMises
from klqp.model.distributions.discrete import Bernoulli, BetaBinomial, Binomial, Geometric, NegativeBinomial, Poisson
from klqp.model.distributions.location_scale import Cauchy, Gumbel, Laplace, Logistic, StudentT
from klqp.model.distributions.normal import Normal
from klqp.model.distributions.positive import (
    Chi2,
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    InverseGamma,
    LogNormal,
    Weibull,
)
from klqp.model.random_variable import Distribution

__all__ = ["DISTRIBUTIONS", "Row"]


class Row(NamedTuple):
    """A distribution, with an example of its parameters for each way to give them."""

    distribution: type[Distribution]
    examples: tuple[Mapping[str, Any], ...]


DISTRIBUTIONS = (
    Row(Normal, ({"loc": 0.3, "scale": 1.7},)),
    Row(LogNormal, ({"loc": 0.3, "scale": 0.6},)),
    Row(Laplace, ({"loc": -0.4, "scale": 1.3},)),
    Row(Cauchy, ({"loc": 0.5, "scale": 0.8},)),
    Row(Logistic, ({"loc": 1.2, "scale": 0.7},)),
    Row(StudentT, ({"df": 4.5, "loc": 0.3, "scale": 1.2},)),
    Row(Gumbel, ({"loc": -0.7, "scale": 1.1},)),
    Row(HalfNormal, ({"scale": 1.6},)),
    Row(HalfCauchy, ({"loc": 0.0, "scale": 1.4}, {"loc": -0.8, "scale": 0.9})),
    Row(Gamma, ({"concentration": 2.5, "rate": 1.3},)),
    Row(InverseGamma, ({"concentration": 3.5, "scale": 1.8},)),
    Row(Exponential, ({"rate": 0.7},)),
    Row(Chi2, ({"df": 3.4},)),
    Row(Weibull, ({"concentration": 1.7, "scale": 2.2},)),
    Row(Uniform, ({"low": -0.6, "high": 1.9},)),
    Row(Beta, ({"concentration1": 2.2, "concentration0": 0.9},)),
    Row(VonMises, ({"loc": 0.8, "concentration": 1.9},)),
    Row(Bernoulli, ({"logits": 0.4}, {"probs": 0.3})),
    Row(Binomial, ({"total_count": 9.0, "logits": -0.5}, {"total_count": 9.0, "probs": 0.35})),
    Row(BetaBinomial, ({"total_count": 8.0, "concentration1": 1.7, "concentration0": 2.6},)),
    Row(Poisson, ({"rate": 3.2}, {"log_rate": 0.9})),
    Row(NegativeBinomial, ({"total_count": 2.5, "logits": 0.4}, {"total_count": 3.5, "probs": 0.45})),
    Row(Geometric, ({"logits": -0.6}, {"probs": 0.4})),
)
