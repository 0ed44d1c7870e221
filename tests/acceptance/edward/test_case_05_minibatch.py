"""Case 5: regression on 10,000 rows by minibatches of 128, likelihood scaled by N / M: the full posterior."""

import numpy as np
import pytest

import klqp

from . import reference
from .helpers import normal_q

N, M = 10_000, 128
X, Y, EXACT = reference.regression(N)


def fit(n_iter, optimizer=None):
    """Take `n_iter` steps by hand on shuffled batches."""
    rows, values = klqp.placeholder((M, 10)), klqp.placeholder((M,))
    w = klqp.Normal(0.0, 1.0, shape=10, name="w")
    y = klqp.Normal(rows @ w, 1.0)
    inference = klqp.KLqp({w: normal_q(10)}, data={y: values})
    inference.initialize(n_iter=n_iter, n_samples=5, scale={y: N / M}, seed=1, progress=False, optimizer=optimizer)
    rng = np.random.default_rng(1)
    for t in range(n_iter):
        batch = rng.integers(N, size=M)
        feed = {rows: X[batch], values: Y[batch]}
        info = inference.update(feed_dict=feed)
        assert info["t"] == t + 1
    inference.finalize()
    return inference, inference.posterior[w]


def test_posterior_is_that_of_all_rows():
    """Standard deviations of about .01: a likelihood left unscaled would give .09."""
    inference, z = fit(6000)
    best = EXACT.mean_field
    np.testing.assert_allclose(z.stddev(), best.sd, rtol=0.2)
    assert np.sqrt(np.mean(((z.mean() - best.mean) / best.sd) ** 2)) < 0.4
    # Batches change the loss from step to step, but not its mean; the last steps are at the optimum.
    tail = inference.losses[-1500:]
    assert abs(tail.mean() + best.elbo) < 4 * tail.std() / np.sqrt(1500) + 2


def test_edwards_budget():
    """390 steps: as near to the truth as Edward came, MSE .0063, and nearer."""
    _, z = fit(390)
    assert np.mean((z.mean() - EXACT.mean) ** 2) < 0.0005


def test_batch_as_large_as_the_data():
    """Fed as one batch, with scale 1, the fit is the one of case 4."""
    X40, Y40, exact = reference.regression()
    rows, values = klqp.placeholder((40, 10)), klqp.placeholder((40,))
    w = klqp.Normal(0.0, 1.0, shape=10)
    y = klqp.Normal(rows @ w, 1.0)
    inference = klqp.KLqp([w], data={y: values})
    inference.initialize(n_iter=3000, n_samples=10, seed=1, progress=False)
    for _ in range(3000):
        info = inference.update({rows: X40, values: Y40})
    assert info["loss"] == pytest.approx(-exact.mean_field.elbo, abs=3)
    np.testing.assert_allclose(inference.posterior[w].stddev(), exact.mean_field.sd, rtol=0.03)
