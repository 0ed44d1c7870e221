"""A Bayesian neural network 1-2-1 with tanh units, fitted to a cosine."""

import numpy as np

import klqp

rng = np.random.default_rng(8)
x_train = np.linspace(-3, 3, 50)
y_train = np.cos(x_train) + 0.1 * rng.normal(size=50)


def approximation(shape):
    """Return a q with locations drawn at random, so that the two units differ."""
    loc = klqp.Parameter(rng.normal(size=shape))
    return klqp.Normal(loc, klqp.Parameter(np.full(shape, 0.1), support="positive"))


W0, b0 = klqp.Normal(0.0, 1.0, shape=(1, 2), name="W0"), klqp.Normal(0.0, 1.0, shape=2, name="b0")
W1, b1 = klqp.Normal(0.0, 1.0, shape=2, name="W1"), klqp.Normal(0.0, 1.0, name="b1")
y = klqp.Normal(klqp.tanh(x_train[:, None] @ W0 + b0) @ W1 + b1, 0.1)

inference = klqp.KLqp({z: approximation(z.shape) for z in (W0, b0, W1, b1)}, data={y: y_train})
inference.run(n_iter=5000, n_samples=10, seed=1, progress=False)

draws = inference.posterior.sample(1000, seed=2)
hidden = np.tanh(x_train[:, None] @ draws["W0"] + draws["b0"][:, None])  # (draws, points, units)
curve = (np.einsum("snh,sh->sn", hidden, draws["W1"]) + draws["b1"][:, None]).mean(0)
elbo = inference.posterior.elbo(10_000, seed=3)
print(f"ELBO: {elbo.value:.2f} +- {elbo.std_error:.2f}, best product of Normals 11.80")
print(f"root mean square error of the curve: off by {np.sqrt(np.mean((curve - np.cos(x_train)) ** 2)):.4f}")
