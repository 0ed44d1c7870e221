"""Case 3: a Normal q reaches variables on (0, inf) and (0, 1) through transforms; references by quadrature."""

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


def test_softplus_of_a_normal_is_recovered():
    """The positive support's default transform is softplus, so that q holds p."""
    z = klqp.LogDensity(softplus_normal, shape=(), support="positive", name="z")
    inference = klqp.KLqp([z])
    inference.run(**RUN)
    mean, sd = reference.softplus_normal().moments()
    assert inference.posterior[z].mean() == pytest.approx(mean, abs=0.01 * sd)
    assert inference.posterior[z].stddev() == pytest.approx(sd, rel=0.01)
    assert_elbo(inference, 0.0, slack=1e-4)


@pytest.mark.parametrize("explicit", [True, False])
def test_gamma_prior(explicit):
    z = klqp.Gamma(1.0, 2.0, name="z")
    q = klqp.Normal(klqp.Parameter(0.3), klqp.Parameter(0.5, support="positive"))
    inference = klqp.KLqp({z: q} if explicit else [z])
    inference.run(**RUN)
    target = reference.gamma_prior()
    mean, sd = target.moments()
    assert inference.posterior[z].mean() == pytest.approx(mean, abs=0.02 * sd)
    assert inference.posterior[z].stddev() == pytest.approx(sd, rel=0.02)
    assert_elbo(inference, target.optimum.elbo, slack=1e-3)


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
