"""Case 2: a parameter and no latent variable is maximum likelihood, by all eight classes."""

import numpy as np
import pytest

import klqp

from .helpers import CLASSES, value_of

X = np.array([0, 1, 0, 0, 0, 0, 0, 0, 0, 1])


@pytest.mark.parametrize("cls", CLASSES)
def test_probability_through_a_link(cls):
    logit = klqp.Parameter(0.5, name="logit")
    x = klqp.Bernoulli(probs=klqp.sigmoid(logit), shape=10)
    inference = cls({}, data={x: X})
    inference.run(n_iter=500, progress=False, seed=1)
    assert 1 / (1 + np.exp(-value_of(logit))) == pytest.approx(0.2, abs=1e-4)
    assert inference.losses[-1] == pytest.approx(-(2 * np.log(0.2) + 8 * np.log(0.8)), abs=1e-6)


def test_logits():
    logit = klqp.Parameter(0.5)
    x = klqp.Bernoulli(logits=logit, shape=10)
    klqp.KLqp(data={x: X}).run(n_iter=500, progress=False, seed=1)
    assert value_of(logit) == pytest.approx(np.log(0.25), abs=1e-3)


def test_fifty_steps_go_further_than_edward():
    """Edward was at .181 after fifty steps."""
    logit = klqp.Parameter(0.5)
    x = klqp.Bernoulli(logits=logit, shape=10)
    klqp.KLqp(data={x: X}).run(n_iter=50, progress=False, seed=1)
    assert abs(1 / (1 + np.exp(-value_of(logit))) - 0.2) < 0.019


def test_parameter_and_latent_variable_together():
    """Variational EM: x_i ~ N(theta_i, 1), theta_i ~ N(0, tau); the best tau^2 is mean x^2 - 1."""
    data = 2.5 * np.random.default_rng(3).normal(size=400)
    tau = klqp.Parameter(1.0, support="positive", name="tau")
    theta = klqp.Normal(0.0, tau, shape=400, name="theta")
    x = klqp.Normal(theta, 1.0)
    inference = klqp.KLqp([theta], data={x: data})
    inference.run(n_iter=4000, progress=False, seed=1)
    best = np.mean(data**2) - 1
    assert value_of(tau) ** 2 == pytest.approx(best, rel=0.01)
    share = best / (1 + best)
    z = inference.posterior[theta]
    np.testing.assert_allclose(z.mean(), share * data, atol=0.05 * np.sqrt(share))
    np.testing.assert_allclose(z.stddev(), np.sqrt(share), rtol=0.03)
