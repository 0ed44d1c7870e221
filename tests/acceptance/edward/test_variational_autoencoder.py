"""A variational autoencoder with gradients by hand: linear, so that its best ELBO is a likelihood known exactly.

The best linear encoder is the exact posterior (Lucas et al. 2019), so that the optimum is Tipping and Bishop's.
"""

import numpy as np
import pytest

import klqp

from . import reference
from .helpers import value_of

N, D, K = 400, 6, 2
RNG = np.random.default_rng(12)
# Orthogonal loadings of unequal size: a diagonal q then holds the posterior at the optimum.
X = RNG.normal(size=(N, K)) @ (np.linalg.qr(RNG.normal(size=(D, K)))[0] * [3.0, 2.0]).T + RNG.normal(size=(N, D))
BEST, NOISE = reference.ppca_log_likelihood(X, K)


def forward(z, weights):
    """Decode z (S, N, K) by weights (S, K, D): a parameter comes with the draw axis, too."""
    return z @ weights


def vjp(cotangent, z, weights):
    """Return the cotangents of z (S, N, K) and weights (S, K, D) for that of the output, (S, N, D)."""
    return cotangent @ weights.swapaxes(1, 2), z.swapaxes(1, 2) @ cotangent


@pytest.mark.parametrize("by_hand", [True, False])
def test_linear(by_hand):
    decoder = klqp.Parameter(0.5 * RNG.normal(size=(K, D)), name="decoder")
    encoder = klqp.Parameter(0.1 * RNG.normal(size=(D, K)), name="encoder")
    width = klqp.Parameter(np.full(K, 0.5), support="positive", name="width")
    noise = klqp.Parameter(1.5, support="positive", name="noise")
    z = klqp.Normal(0.0, 1.0, shape=(N, K), name="z")
    decoded = klqp.Deterministic(forward, vjp, z, decoder, shape=(N, D)) if by_hand else z @ decoder
    x = klqp.Normal(decoded, noise)
    inference = klqp.KLqp({z: klqp.Normal(X @ encoder, width)}, data={x: X})
    inference.run(n_iter=6000, n_samples=5, seed=1, progress=False)
    estimate = inference.posterior.elbo(2000, seed=2)
    assert estimate.value + 4 * estimate.std_error > BEST - 1
    assert estimate.value < BEST + 4 * estimate.std_error
    assert value_of(noise) ** 2 == pytest.approx(NOISE, rel=0.02)
    loadings = value_of(decoder)
    values = np.linalg.eigvalsh(X.T @ X / N)[::-1][:K] - NOISE
    np.testing.assert_allclose(np.linalg.eigvalsh(loadings @ loadings.T)[::-1], values, rtol=0.03)


def test_gradients_by_hand_are_those_of_the_nodes():
    """Both ways take the same steps from the same seed, up to rounding."""
    losses = []
    for by_hand in (True, False):
        decoder = klqp.Parameter(np.full((K, D), 0.3), name="decoder")
        z = klqp.Normal(0.0, 1.0, shape=(N, K), name="z")
        decoded = klqp.Deterministic(forward, vjp, z, decoder, shape=(N, D)) if by_hand else z @ decoder
        x = klqp.Normal(decoded, 1.0)
        encoder = klqp.Parameter(np.full((D, K), 0.1), name="encoder")
        q = klqp.Normal(X @ encoder, klqp.Parameter(np.full(K, 0.5), support="positive"))
        inference = klqp.KLqp({z: q}, data={x: X})
        inference.run(n_iter=20, n_samples=3, seed=1, progress=False)
        losses.append(inference.losses)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-8)
