"""Case 4: linear regression, 40 rows, 10 weights, unit prior and noise: the exact posterior and mean field."""

import numpy as np
import pytest

import klqp

from . import reference
from .helpers import assert_close, assert_elbo, normal_q

X, Y, EXACT = reference.regression()


def model():
    w = klqp.Normal(0.0, 1.0, shape=10, name="w")
    return w, klqp.Normal(X @ w, 1.0)


@pytest.mark.parametrize("explicit", [True, False])
def test_mean_field(explicit):
    w, y = model()
    inference = klqp.KLqp({w: normal_q(10)} if explicit else [w], data={y: Y})
    inference.run(n_iter=20_000, n_samples=10, seed=1, progress=False)
    z = inference.posterior[w]
    assert_close((z.mean(), z.stddev()), EXACT.mean_field, tolerance=0.03, sd_tolerance=0.02)
    assert_elbo(inference, EXACT.mean_field.elbo, slack=5e-3)


def test_edwards_settings():
    """In its 250 steps of 5 draws: standard deviations within the 7 % that Edward reached."""
    w, y = model()
    inference = klqp.KLqp([w], data={y: Y})
    inference.run(n_iter=250, n_samples=5, seed=1, progress=False)
    np.testing.assert_allclose(inference.posterior[w].stddev(), EXACT.mean_field.sd, rtol=0.07)


def test_full_rank_is_exact():
    w, y = model()
    inference = klqp.KLqp([w], data={y: Y}, q="full_rank")
    inference.run(n_iter=5000, n_samples=10, seed=1, progress=False, entropy="sticking")
    z = inference.posterior[w]
    assert_close((z.mean(), z.stddev()), EXACT)
    scale = np.outer(EXACT.sd, EXACT.sd)
    assert np.max(np.abs(z.covariance() - np.linalg.inv(EXACT.precision)) / scale) < 0.01
    assert_elbo(inference, EXACT.log_z, slack=1e-4)


def test_posterior_predictive():
    """copy: y at new rows is N(x'm, 1 + x'Sx) under q; evaluate: the mean squared error of its mean."""
    w, y = model()
    inference = klqp.KLqp([w], data={y: Y})
    inference.run(n_iter=3000, seed=1, progress=False)
    predictive = klqp.copy(y, {w: inference.posterior[w]})
    draws = predictive.sample(20_000, seed=3)
    mean, sd = inference.posterior[w].mean(), inference.posterior[w].stddev()
    exact_sd = np.sqrt(1 + X**2 @ sd**2)
    assert draws.shape == (20_000, 40)
    assert np.max(np.abs(draws.mean(0) - X @ mean) / exact_sd) < 4.5 / np.sqrt(20_000)
    np.testing.assert_allclose(draws.std(0), exact_sd, rtol=0.03)
    error = klqp.evaluate("mean_squared_error", data={predictive: Y}, n_samples=20_000, seed=4)
    assert error == pytest.approx(np.mean((Y - X @ mean) ** 2), rel=0.02)


def test_posterior_predictive_check():
    """ppc gives T of the data's replicates and of the data; the mean's replicates are Normal."""
    w, y = model()
    inference = klqp.KLqp([w], data={y: Y})
    inference.run(n_iter=3000, seed=1, progress=False)
    replicated, observed = klqp.ppc(
        lambda data, latents: np.mean(data[y]),
        data={y: Y},
        latent_vars={w: inference.posterior[w]},
        n_samples=2000,
        seed=5,
    )
    mean, sd = inference.posterior[w].mean(), inference.posterior[w].stddev()
    column = X.mean(0)
    exact_sd = np.sqrt(1 / 40 + column**2 @ sd**2)
    assert np.allclose(observed, Y.mean())
    assert abs(np.mean(replicated) - column @ mean) < 4 * exact_sd / np.sqrt(2000)
    assert np.std(replicated) == pytest.approx(exact_sd, rel=0.08)
