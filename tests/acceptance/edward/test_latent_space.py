"""A latent space model of a network, with squared distances: its ELBO is exact, its optima a few."""

import numpy as np

import klqp

from . import reference
from .helpers import q_of

NET = reference.LatentSpace()


def test_reaches_one_of_the_best_optima():
    rng = np.random.default_rng(3)
    z = klqp.Normal(0.0, 1.0, shape=(NET.n, 2), name="z")
    gap = z[NET.i] - z[NET.j]
    counts = klqp.Poisson(rate=klqp.exp(NET.level - klqp.sum(gap**2, axis=-1)))
    loc = klqp.Parameter(rng.normal(size=(NET.n, 2)))
    q = klqp.Normal(loc, klqp.Parameter(np.full((NET.n, 2), 0.2), support="positive"))
    inference = klqp.KLqp({z: q}, data={counts: NET.counts})
    inference.run(n_iter=5000, n_samples=10, seed=1, progress=False)
    mean, sd = q_of(inference, z)
    exact = NET.elbo(mean, sd)[0]
    assert reference.shortfall(NET.elbo, mean, sd) < 0.1
    assert NET.optima[-1].elbo - 3 < exact < NET.optima[0].elbo + 1e-6
    estimate = inference.posterior.elbo(4000, seed=2)
    assert abs(estimate.value - exact) < 4 * estimate.std_error
    # Connected pairs are near, under q as under its best.
    distance = np.linalg.norm(mean.reshape(-1, 2)[NET.i] - mean.reshape(-1, 2)[NET.j], axis=1)
    assert np.corrcoef(distance, NET.counts)[0, 1] < -0.4
