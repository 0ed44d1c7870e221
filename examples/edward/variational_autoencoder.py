"""A variational autoencoder whose decoder is NumPy, with its gradient by hand; linear, so that the best is known."""

import numpy as np

import klqp

N, D, K = 400, 6, 2
rng = np.random.default_rng(12)
loadings = (np.linalg.qr(rng.normal(size=(D, K)))[0] * [3.0, 2.0]).T
x_train = rng.normal(size=(N, K)) @ loadings + rng.normal(size=(N, D))


def forward(z, weights):
    """Decode z (S, N, K) by weights (S, K, D); S is the axis of draws."""
    return z @ weights


def vjp(cotangent, z, weights):
    """Return the cotangents of z and weights for that of the output, (S, N, D)."""
    return cotangent @ weights.swapaxes(1, 2), z.swapaxes(1, 2) @ cotangent


decoder, encoder = klqp.Parameter(0.5 * rng.normal(size=(K, D))), klqp.Parameter(0.1 * rng.normal(size=(D, K)))
width, noise = klqp.Parameter(np.full(K, 0.5), support="positive"), klqp.Parameter(1.5, support="positive")

z = klqp.Normal(0.0, 1.0, shape=(N, K), name="z")
x = klqp.Normal(klqp.Deterministic(forward, vjp, z, decoder, shape=(N, D)), noise)

inference = klqp.KLqp({z: klqp.Normal(x_train @ encoder, width)}, data={x: x_train})
inference.run(n_iter=6000, n_samples=5, seed=1, progress=False)

# The greatest likelihood of linear factors (Tipping and Bishop 1999), which the best linear encoder reaches.
values = np.linalg.eigvalsh(x_train.T @ x_train / N)[::-1]
variance = values[K:].mean()
sd = np.sqrt(variance)
best = -0.5 * N * (D * np.log(2 * np.pi) + np.log(values[:K]).sum() + (D - K) * np.log(variance) + D)
elbo = inference.posterior.elbo(2000, seed=2)
print(f"ELBO: {elbo.value:.2f} +- {elbo.std_error:.2f}, best {best:.2f}, off by {abs(elbo.value - best):.4f} nats")
print(f"noise: {noise.value:.4f}, best {sd:.4f}, off by {abs(noise.value / sd - 1):.4f} of it")
