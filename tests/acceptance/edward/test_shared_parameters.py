"""Several inference objects on the same parameters, updated in turn: variational EM, and message passing."""

import numpy as np
import pytest

import klqp

from . import reference
from .helpers import assert_close, normal_q, q_of, value_of

QUIET = {"progress": False, "seed": 1}


def test_em():
    """x_i ~ N(theta_i, 1), theta_i ~ N(0, tau): one object moves q(theta), the other tau; best tau^2 = mean x^2 - 1."""
    data = 2.5 * np.random.default_rng(3).normal(size=400)
    tau = klqp.Parameter(1.0, support="positive", name="tau")
    theta = klqp.Normal(0.0, tau, shape=400, name="theta")
    x = klqp.Normal(theta, 1.0)
    loc, scale = klqp.Parameter(np.zeros(400)), klqp.Parameter(np.full(400, 0.5), support="positive")
    q = klqp.Normal(loc, scale)
    n_iter = 3000
    e_step = klqp.KLqp({theta: q}, data={x: data})
    e_step.initialize(n_iter=n_iter, var_list=[loc, scale], **QUIET)
    m_step = klqp.KLqp({}, data={x: data, theta: q})
    m_step.initialize(n_iter=n_iter, **QUIET)
    for _ in range(n_iter):
        before = value_of(tau).copy()
        e_step.update()
        assert value_of(tau) == before
        before = value_of(loc).copy(), value_of(scale).copy()
        m_step.update()
        np.testing.assert_array_equal(value_of(loc), before[0])
        np.testing.assert_array_equal(value_of(scale), before[1])
    best = np.mean(data**2) - 1
    assert value_of(tau) ** 2 == pytest.approx(best, rel=0.01)
    share = best / (1 + best)
    np.testing.assert_allclose(e_step.posterior[theta].mean(), share * data, atol=0.05 * np.sqrt(share))
    np.testing.assert_allclose(e_step.posterior[theta].stddev(), np.sqrt(share), rtol=0.03)


def test_message_passing():
    """Each half of the weights of a regression has an object of its own, given draws of the other half's q."""
    X, y_train, exact = reference.regression()
    u, v = klqp.Normal(0.0, 1.0, shape=5, name="u"), klqp.Normal(0.0, 1.0, shape=5, name="v")
    y = klqp.Normal(X[:, :5] @ u + X[:, 5:] @ v, 1.0)
    qu, qv = normal_q(5), normal_q(5)
    n_iter = 5000
    first = klqp.KLqp({u: qu}, data={y: y_train, v: qv})
    second = klqp.KLqp({v: qv}, data={y: y_train, u: qu})
    for inference in (first, second):
        inference.initialize(n_iter=n_iter, n_samples=10, **QUIET)
    for _ in range(n_iter):
        first.update()
        second.update()
    (mean_u, sd_u), (mean_v, sd_v) = q_of(first, u), q_of(second, v)
    q = np.concatenate([mean_u, mean_v]), np.concatenate([sd_u, sd_v])
    assert_close(q, exact.mean_field, tolerance=0.1, sd_tolerance=0.05)


def test_posteriors_see_what_others_did_to_shared_parameters():
    loc = klqp.Parameter(0.0)
    latents, inferences = [klqp.Normal(0.0, 1.0, name=name) for name in "ab"], []
    for z in latents:
        x = klqp.Normal(z, 1.0)
        inferences.append(klqp.KLqp({z: klqp.Normal(loc, 1.0)}, data={x: np.array(3.0)}))
        inferences[-1].initialize(**QUIET)
    assert inferences[0].posterior["a"].mean() == 0.0
    inferences[1].run(n_iter=1000, **QUIET)
    assert inferences[0].posterior["a"].mean() == inferences[1].posterior["b"].mean() == value_of(loc) != 0.0
