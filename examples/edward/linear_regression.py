"""Linear regression with a prediction for new rows, against the exact posterior."""

import numpy as np

import klqp

rng = np.random.default_rng(42)
X, w_true = rng.normal(size=(40, 10)), rng.normal(size=10)
y_train = X @ w_true + rng.normal(size=40)

w = klqp.Normal(0.0, 1.0, shape=10, name="w")
y = klqp.Normal(X @ w, 1.0)

inference = klqp.KLqp([w], data={y: y_train}, q="full_rank")
inference.run(n_iter=5000, seed=1, progress=False)

covariance = np.linalg.inv(np.eye(10) + X.T @ X)
exact_mean, exact_sd = covariance @ X.T @ y_train, np.sqrt(np.diag(covariance))
mean, sd = inference.posterior[w].mean(), inference.posterior[w].stddev()
print(f"w: {np.round(mean, 2)}, exact {np.round(exact_mean, 2)}")
print(f"largest error of a mean: off by {np.max(np.abs(mean - exact_mean) / exact_sd):.4f} sd")
print(f"largest error of an sd: off by {np.max(np.abs(sd / exact_sd - 1)):.4f} of it")
