"""The distributions of vectors and matrices, and those made from other distributions."""

from __future__ import annotations

from klqp.model.distributions.categorical import Categorical, Multinomial, OneHotCategorical, OrderedLogistic
from klqp.model.distributions.dirichlet import Dirichlet
from klqp.model.distributions.hidden_markov import HiddenMarkov
from klqp.model.distributions.matrix import LKJCholesky, Wishart
from klqp.model.distributions.mixture import Mixture, MixtureSameFamily
from klqp.model.distributions.multivariate_normal import (
    MultivariateNormalDiag,
    MultivariateNormalDiagPlusLowRank,
    MultivariateNormalFullCovariance,
    MultivariateNormalTriL,
)
from klqp.model.distributions.point import Empirical, PointMass
from klqp.model.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from klqp.model.distributions.transformed import TransformedDistribution
from klqp.model.random_variable import Distribution

__all__ = ["EVENT_DISTRIBUTIONS"]

EVENT_DISTRIBUTIONS: tuple[type[Distribution], ...] = (
    Categorical,
    Dirichlet,
    Empirical,
    HiddenMarkov,
    LKJCholesky,
    Mixture,
    MixtureSameFamily,
    Multinomial,
    MultivariateNormalDiag,
    MultivariateNormalDiagPlusLowRank,
    MultivariateNormalFullCovariance,
    MultivariateNormalTriL,
    OneHotCategorical,
    OrderedLogistic,
    PointMass,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
    TransformedDistribution,
    Wishart,
)
