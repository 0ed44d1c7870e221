"""Probabilistic principal components by minibatches: each step gathers the q's of its own points."""

import numpy as np

import klqp

N, M = 5000, 100
rng = np.random.default_rng(142)
w_true = np.array([[0.26, 1.80]])
x_train = rng.normal(size=(N, 1)) @ w_true + rng.normal(size=(N, 2))

index, points = klqp.placeholder((M,), dtype=int), klqp.placeholder((M, 2))
w = klqp.Normal(0.0, 1.0, shape=(1, 2), name="w")
z = klqp.Normal(0.0, 1.0, shape=(M, 1), name="z")
x = klqp.Normal(z @ w, 1.0)

loc, scale = klqp.Parameter(np.zeros((N, 1))), klqp.Parameter(np.full((N, 1), 0.5), support="positive")
qw = klqp.Normal(klqp.Parameter(np.full((1, 2), 0.5)), klqp.Parameter(np.full((1, 2), 0.1), support="positive"))
qz = klqp.Normal(loc[index], scale[index])

inference = klqp.KLqp({w: qw, z: qz}, data={x: points})
inference.initialize(n_iter=10_000, n_samples=10, scale={x: N / M, z: N / M}, seed=1, progress=False)
for _ in range(10_000):
    rows = rng.choice(N, M, replace=False)
    inference.update({index: rows, points: x_train[rows]})
inference.finalize()

mean = inference.posterior[w].mean()[0]
mean *= np.sign(mean[1])
latent_sd = np.median(scale.value)
exact_sd = 1 / np.sqrt(1 + np.sum(w_true**2))
print(f"w: {np.round(mean, 2)}, true {w_true[0]}, off by {np.max(np.abs(mean - w_true[0])):.4f}")
print(f"sd of a latent variable: {latent_sd:.3f}, exact {exact_sd:.3f}, off by {abs(latent_sd - exact_sd):.4f}")
