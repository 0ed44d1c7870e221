"""Case 3: a Normal q reaches variables on (0, inf) and (0, 1) through transforms; references by quadrature.

The default on (0, inf) is exp, as Stan's; softplus, Edward's, is an option.
"""

import numpy as np
import pytest
from scipy import special

import klqp

from . import reference
from .helpers import assert_elbo

RUN = {"n_samples": 10, "n_iter": 5000, "seed": 1, "progress": False}
TEN = np.array([0, 0, 1, 1, 0, 0, 0, 0, 0, 1])


def softplus_normal(z):
    """Return log p and its gradient for z (S,) = softplus(u), u ~ N(0, .5)."""
    u = z + np.log(-np.expm1(-z))
    chain = -1 / np.expm1(-z)  # du / dz
    logp = reference.normal_logpdf(u, 0.0, 0.5) + np.log(chain)
    return logp, -u / 0.25 * chain + 1 - chain


def user_density():
    return klqp.LogDensity(softplus_normal, shape=(), support="softplus", name="z")


def transformed_distribution():
    return klqp.TransformedDistribution(klqp.Normal(0.0, 0.5), "softplus", name="z")


@pytest.mark.parametrize("make", [user_density, transformed_distribution])
def test_softplus_of_a_normal_is_recovered(make):
    """Edward's transform is an option, and the own one of a softplus of something: q then holds p."""
    z = make()
    inference = klqp.KLqp([z])
    inference.run(**RUN)
    mean, sd = reference.softplus_normal().moments()
    assert inference.posterior[z].mean() == pytest.approx(mean, abs=0.01 * sd)
    assert inference.posterior[z].stddev() == pytest.approx(sd, rel=0.01)
    assert_elbo(inference, 0.0, slack=1e-4)


def check(inference, z, target, sd_tolerance=0.02):
    mean, sd = target.moments()
    assert inference.posterior[z].mean() == pytest.approx(mean, abs=0.02 * sd)
    assert inference.posterior[z].stddev() == pytest.approx(sd, rel=sd_tolerance)
    assert_elbo(inference, target.optimum.elbo, slack=1e-3)


@pytest.mark.parametrize("explicit", [True, False])
def test_gamma_prior(explicit):
    """The positive numbers are reached by exp: q is the best log-Normal, E z = 1 / 2."""
    z = klqp.Gamma(1.0, 2.0, name="z")
    q = klqp.Normal(klqp.Parameter(0.3), klqp.Parameter(0.5, support="positive"))
    inference = klqp.KLqp({z: q} if explicit else [z])
    inference.run(**RUN)
    check(inference, z, reference.gamma_prior(), sd_tolerance=0.03)


def test_gamma_prior_with_a_log_normal_q():
    """The same family said in the variable's own space."""
    z = klqp.Gamma(1.0, 2.0, name="z")
    q = klqp.LogNormal(klqp.Parameter(0.3), klqp.Parameter(0.5, support="positive"))
    inference = klqp.KLqp({z: q})
    inference.run(**RUN)
    check(inference, z, reference.gamma_prior(), sd_tolerance=0.03)


@pytest.mark.parametrize("support", ["positive", "softplus"])
def test_gamma_density_by_either_transform(support):
    z = klqp.LogDensity(lambda z: (np.log(2) - 2 * z, np.full(z.shape, -2.0)), shape=(), support=support, name="z")
    inference = klqp.KLqp([z])
    inference.run(**RUN)
    check(inference, z, reference.gamma_prior({"positive": "exp"}.get(support, support)), sd_tolerance=0.03)


@pytest.mark.parametrize("explicit", [True, False])
def test_beta_bernoulli(explicit):
    z = klqp.Beta(1.0, 1.0, name="z")
    x = klqp.Bernoulli(probs=z, shape=10)
    q = klqp.Normal(klqp.Parameter(0.0), klqp.Parameter(0.5, support="positive"))
    inference = klqp.KLqp({z: q} if explicit else [z], data={x: TEN})
    inference.run(**RUN)
    target = reference.beta_bernoulli()
    mean, sd = target.moments()
    assert inference.posterior[z].mean() == pytest.approx(mean, abs=0.01 * sd)
    assert inference.posterior[z].stddev() == pytest.approx(sd, rel=0.01)
    assert inference.posterior[z].mean() == pytest.approx(1 / 3, abs=0.02 * sd)  # Beta(4, 8)
    assert inference.posterior[z].variance() == pytest.approx(0.01709, rel=0.04)
    assert_elbo(inference, target.optimum.elbo, slack=1e-3)
    assert -inference.losses[-500:].mean() == pytest.approx(special.betaln(4, 8), abs=0.02)
    draws = inference.posterior[z].sample(1000, seed=2)
    assert np.all((draws > 0) & (draws < 1))
