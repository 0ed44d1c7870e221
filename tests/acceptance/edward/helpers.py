"""What the cases share: approximations, parameters' values, and distances from a reference."""

import numpy as np

import klqp

REPARAMETERISED = [klqp.ReparameterizationKLqp, klqp.ReparameterizationKLKLqp, klqp.ReparameterizationEntropyKLqp]
SCORE = [klqp.ScoreKLqp, klqp.ScoreKLKLqp, klqp.ScoreEntropyKLqp, klqp.ScoreRBKLqp]
CLASSES = [klqp.KLqp, *REPARAMETERISED, *SCORE]


def normal_q(shape=(), loc=0.0, scale=0.1):
    """Return a Normal with a free location and scale a coordinate."""
    return klqp.Normal(klqp.Parameter(np.full(shape, loc)), klqp.Parameter(np.full(shape, scale), support="positive"))


def value_of(parameter):
    """Return a parameter's value after the run."""
    return np.asarray(parameter.value)


def q_of(inference, *latents):
    """Return the means and the standard deviations of several latent variables as two flat arrays."""
    marginals = [inference.posterior[z] for z in latents]
    return (
        np.concatenate([np.ravel(m.mean()) for m in marginals]),
        np.concatenate([np.ravel(m.stddev()) for m in marginals]),
    )


def assert_close(q, best, tolerance=0.01, sd_tolerance=None):
    """Means to `tolerance` of a standard deviation, and standard deviations to a share; `best` has mean and sd."""
    mean, sd = q
    np.testing.assert_array_less(np.abs(mean - best.mean) / best.sd, tolerance)
    np.testing.assert_array_less(np.abs(sd / best.sd - 1), tolerance if sd_tolerance is None else sd_tolerance)


def assert_gap(model, q, best, slack):
    """The exact ELBO at q is below its optimum, and by no more than `slack` nats."""
    gap = best.elbo - model.elbo(*q)[0]
    assert -1e-6 < gap < slack


def assert_within_standard_errors(estimates, exact, limit=4.0):
    """Check that independent estimates (n, ...) have the exact mean."""
    error = np.std(estimates, 0, ddof=1) / np.sqrt(len(estimates))
    assert np.max(np.abs(np.mean(estimates, 0) - exact) / error) < limit


def assert_elbo(inference, exact, slack, n_draws=4000):
    """The ELBO's estimate is the exact one in standard errors, and at most `slack` below the best."""
    estimate = inference.posterior.elbo(n_draws, seed=99)
    assert abs(estimate.value - exact) < 4 * estimate.std_error + slack
