"""copy, evaluate and ppc after a full-rank fit of a regression: everything they say is Gaussian algebra."""

import numpy as np
import pytest

import klqp

from . import reference
from .helpers import assert_within_standard_errors

RNG = np.random.default_rng(21)
X, W = RNG.normal(size=(30, 2)), np.array([1.0, -0.5])
Y = X @ W + RNG.normal(size=30)
NEW, Y_NEW = RNG.normal(size=(5, 2)), RNG.normal(size=5)
EXACT = reference.linear_gaussian(X, Y, 1.0, np.zeros(2), np.eye(2))
COVARIANCE = np.linalg.inv(EXACT.precision)


@pytest.fixture(scope="module")
def fitted():
    """Return w, y at the rows of X, y at new rows, and the fit, which is exact."""
    w = klqp.Normal(0.0, 1.0, shape=2, name="w")
    y, y_new = klqp.Normal(X @ w, 1.0, name="y"), klqp.Normal(NEW @ w, 1.0, name="y_new")
    inference = klqp.KLqp([w], data={y: Y}, q="full_rank")
    inference.run(n_iter=5000, entropy="sticking", seed=1, progress=False)
    np.testing.assert_allclose(inference.posterior[w].covariance(), COVARIANCE, rtol=1e-3, atol=1e-5)
    return w, y, y_new, inference.posterior


def repeated(f, n=20):
    return np.array([f(seed) for seed in range(n)])


def test_copy_has_the_predictive_moments(fitted):
    w, _, y_new, posterior = fitted
    predictive = klqp.copy(y_new, {w: posterior[w]})
    mean, covariance = NEW @ EXACT.mean, np.eye(5) + NEW @ COVARIANCE @ NEW.T
    draws = predictive.sample(40_000, seed=1)
    assert_within_standard_errors(draws, mean)
    off = draws - mean
    assert_within_standard_errors(off[:, :, None] * off[:, None], covariance, limit=4.5)
    assert_within_standard_errors(repeated(lambda seed: predictive.mean(1000, seed)), mean)


def test_copy_with_a_number(fitted):
    """Known weights: the distribution of y given them, and its log density exactly."""
    w, _, y_new, _ = fitted
    known = klqp.copy(y_new, {w: W})
    np.testing.assert_allclose(known.mean(), NEW @ W, rtol=1e-12)
    log_p = reference.normal_logpdf(Y_NEW, NEW @ W, 1.0)
    np.testing.assert_allclose(known.log_prob(Y_NEW, 3), np.tile(log_p, (3, 1)), rtol=1e-12)
    assert klqp.evaluate("log_likelihood", {known: Y_NEW}) == pytest.approx(log_p.sum(), rel=1e-12)


def test_log_likelihood_is_log_of_the_mean(fitted):
    """log E_q[p(y | w)], Edward's issue 858, and beside it the mean of logs, which is less."""
    w, _, y_new, posterior = fitted
    predictive = klqp.copy(y_new, {w: posterior[w]})
    off, covariance = Y_NEW - NEW @ EXACT.mean, np.eye(5) + NEW @ COVARIANCE @ NEW.T
    log_det = np.linalg.slogdet(covariance)[1]
    exact = -0.5 * (off @ np.linalg.solve(covariance, off) + log_det + 5 * reference.LOG_2PI)
    of_logs = reference.normal_logpdf(off, 0.0, 1.0).sum() - 0.5 * np.trace(NEW @ COVARIANCE @ NEW.T)
    metrics = ["log_likelihood", "mean_log_likelihood_given_draws"]
    scores = repeated(lambda seed: klqp.evaluate(metrics, {predictive: Y_NEW}, n_samples=5000, seed=seed))
    assert exact - of_logs > 0.1  # they differ by far more than the noise
    assert np.all(scores.std(0) < 0.02)
    assert_within_standard_errors(scores, np.array([exact, of_logs]))


def test_errors_of_the_mean_prediction(fitted):
    w, y, _, posterior = fitted
    predictive = klqp.copy(y, {w: posterior[w]})
    mse, mae = klqp.evaluate(["mse", "mae"], {predictive: Y}, n_samples=20_000, seed=1)
    residual = Y - X @ EXACT.mean
    assert mse == pytest.approx(np.mean(residual**2), rel=0.01)
    assert mae == pytest.approx(np.mean(np.abs(residual)), rel=0.01)


def test_discrepancy_that_depends_on_the_weights(fitted):
    """Sums of squared residuals: chi squared with 30 degrees of freedom replicated, a quadratic in w observed."""
    w, y, _, posterior = fitted
    replicated, observed = klqp.ppc(
        lambda data, latents: np.sum((data[y] - X @ latents[w]) ** 2), {y: Y}, {w: posterior[w]}, 4000, seed=5
    )
    assert_within_standard_errors(replicated, 30.0)
    assert_within_standard_errors((replicated - 30.0) ** 2, 60.0)
    residual = Y - X @ EXACT.mean
    assert_within_standard_errors(observed, residual @ residual + np.trace(X @ COVARIANCE @ X.T))
    # Each pair has one and the same w.
    again = klqp.ppc(lambda data, latents: latents[w], {y: Y}, {w: posterior[w]}, 10, seed=5)
    np.testing.assert_array_equal(*again)


def test_prior_predictive_check(fitted):
    """Without latent_vars: y ~ N(0, 1 + x'x)."""
    _, y, _, _ = fitted
    replicated, observed = klqp.ppc(lambda data, latents: data[y], {y: Y}, n_samples=4000, seed=6)
    assert_within_standard_errors(replicated, 0.0, limit=4.5)
    assert_within_standard_errors(replicated**2, 1 + (X**2).sum(1), limit=4.5)
    np.testing.assert_array_equal(observed, np.broadcast_to(Y, (4000, 30)))
