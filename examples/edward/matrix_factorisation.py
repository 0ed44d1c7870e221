"""Probabilistic matrix factorisation of a table that is half empty; the scale of the likelihood is a mask."""

import numpy as np

import klqp

rng = np.random.default_rng(5)
truth = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 60))
x_train = truth + rng.normal(size=truth.shape)
seen = (rng.random(truth.shape) < 0.5).astype(float)


def approximation(shape):
    """Return a q with locations drawn at random, so that the components differ."""
    loc = klqp.Parameter(0.5 * rng.normal(size=shape))
    return klqp.Normal(loc, klqp.Parameter(np.full(shape, 0.2), support="positive"))


u, v = klqp.Normal(0.0, 1.0, shape=(50, 3), name="u"), klqp.Normal(0.0, 1.0, shape=(3, 60), name="v")
x = klqp.Normal(u @ v, 1.0)

inference = klqp.KLqp({u: approximation((50, 3)), v: approximation((3, 60))}, data={x: x_train})
inference.run(n_iter=5000, n_samples=5, scale={x: seen}, seed=1, progress=False)

error = inference.posterior[u].mean() @ inference.posterior[v].mean() - truth
elbo = inference.posterior.elbo(4000, seed=2)
print(f"root mean square error where nothing was seen: {np.sqrt(np.mean(error[seen == 0] ** 2)):.3f} (noise 1)")
print(f"ELBO: {elbo.value:.1f} +- {elbo.std_error:.1f}, best -2662.8, off by {abs(elbo.value / 2662.8 + 1):.4f}")
