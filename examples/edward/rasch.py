"""The Rasch model: 200 persons answer 25 questions, by ability less difficulty."""

import numpy as np

import klqp

rng = np.random.default_rng(7)
ability, difficulty = rng.normal(size=200), rng.normal(size=25)
y_train = (rng.random((200, 25)) < 1 / (1 + np.exp(difficulty - ability[:, None]))).astype(float)

a, d = klqp.Normal(0.0, 1.0, shape=200, name="a"), klqp.Normal(0.0, 1.0, shape=25, name="d")
y = klqp.Bernoulli(logits=klqp.reshape(a, (200, 1)) - d)

inference = klqp.KLqp([a, d], data={y: y_train})
inference.run(n_iter=5000, n_samples=5, seed=1, progress=False)

elbo, best = inference.posterior.elbo(4000, seed=2), -2897.6833  # of all products of Normals, by quadrature
print(f"ELBO: {elbo.value:.2f} +- {elbo.std_error:.2f}, best {best:.2f}, off by {abs(elbo.value - best):.4f} nats")
for name, z, truth in (("abilities", a, ability), ("difficulties", d, difficulty)):
    print(
        f"correlation of the {name} with the true ones: {np.corrcoef(inference.posterior[z].mean(), truth)[0, 1]:.3f}"
    )
