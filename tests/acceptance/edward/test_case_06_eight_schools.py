"""Case 6: eight schools, non-centred; the mean-field optimum is known exactly, from moments of log-Normals."""

import numpy as np
import pytest

import klqp

from . import reference
from .helpers import assert_close, assert_elbo, normal_q, q_of

SCHOOLS = reference.EightSchools()


def model():
    mu = klqp.Normal(0.0, 10.0, name="mu")
    log_tau = klqp.Normal(5.0, 1.0, name="log_tau")
    eta = klqp.Normal(0.0, 1.0, shape=8, name="eta")
    y = klqp.Normal(mu + klqp.exp(log_tau) * eta, reference.SCHOOLS_SIGMA)
    return mu, log_tau, eta, y


@pytest.mark.parametrize("explicit", [True, False])
def test_mean_field(explicit):
    mu, log_tau, eta, y = model()
    latents = {mu: normal_q(), log_tau: normal_q(loc=1.0), eta: normal_q(8)} if explicit else [mu, log_tau, eta]
    inference = klqp.KLqp(latents, data={y: reference.SCHOOLS_Y})
    inference.run(n_iter=20_000, n_samples=15, seed=1, progress=False)
    assert_close(q_of(inference, mu, log_tau, eta), SCHOOLS.optimum, tolerance=0.02)
    assert_elbo(inference, SCHOOLS.optimum.elbo, slack=2e-3, n_draws=20_000)


def test_full_rank_is_nearer():
    """Its ELBO lies between mean field's and log Z, and its mu is nearer to the exact one."""
    mu, log_tau, eta, y = model()
    inference = klqp.KLqp([mu, log_tau, eta], data={y: reference.SCHOOLS_Y}, q="full_rank")
    inference.run(n_iter=10_000, n_samples=15, seed=1, progress=False)
    exact_mu, exact_sd, _, _, log_z = SCHOOLS.exact()
    elbo = inference.posterior.elbo(40_000, seed=2)
    assert SCHOOLS.optimum.elbo + 4 * elbo.std_error < elbo.value < log_z + 4 * elbo.std_error
    assert abs(inference.posterior[mu].stddev() - exact_sd) < abs(SCHOOLS.optimum.sd[0] - exact_sd)
    assert abs(inference.posterior[mu].mean() - exact_mu) < 0.1 * exact_sd


def test_starting_far_away():
    """Where tau is e^5 and more the gradients are huge; the fit comes back."""
    mu, log_tau, eta, y = model()
    latents = {mu: normal_q(loc=30.0, scale=1.0), log_tau: normal_q(loc=5.0), eta: normal_q(8, scale=1.0)}
    inference = klqp.KLqp(latents, data={y: reference.SCHOOLS_Y})
    inference.run(n_iter=20_000, n_samples=15, seed=1, progress=False)
    mean, _ = q_of(inference, mu, log_tau, eta)
    assert np.max(np.abs(mean - SCHOOLS.optimum.mean) / SCHOOLS.optimum.sd) < 0.05
