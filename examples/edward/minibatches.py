"""Regression on 10,000 rows, 128 of them a step: the likelihood is scaled to the whole."""

import numpy as np

import klqp

N, M = 10_000, 128
rng = np.random.default_rng(42)
X_train, w_true = rng.normal(size=(N, 10)), rng.normal(size=10)
y_train = X_train @ w_true + rng.normal(size=N)

X, y_batch = klqp.placeholder((M, 10)), klqp.placeholder((M,))
w = klqp.Normal(0.0, 1.0, shape=10, name="w")
y = klqp.Normal(X @ w, 1.0)

inference = klqp.KLqp([w], data={y: y_batch})
inference.initialize(n_iter=6000, n_samples=5, scale={y: N / M}, seed=1, progress=False)
for _ in range(6000):
    rows = rng.integers(N, size=M)
    inference.update({X: X_train[rows], y_batch: y_train[rows]})
inference.finalize()

exact = np.linalg.solve(np.eye(10) + X_train.T @ X_train, X_train.T @ y_train)
mean, sd = inference.posterior[w].mean(), inference.posterior[w].stddev()
print(f"w: {np.round(mean, 3)}")
print(f"exact: {np.round(exact, 3)}")
print(f"root mean square error: off by {np.sqrt(np.mean((mean - exact) ** 2)):.4f}; sd {sd.mean():.4f}, exact .0100")
