"""A whole process: a 10-dimensional logistic regression with 1,000 rows by 2,000 steps of klqp."""

import numpy as np

import klqp

rng = np.random.default_rng(0)
x = rng.normal(size=(1000, 10))
y = (rng.uniform(size=1000) < 1 / (1 + np.exp(-x @ rng.normal(size=10)))).astype(float)
xt = np.ascontiguousarray(x.T)


def log_density(z):
    eta = z @ xt
    sigmoid = 1 / (1 + np.exp(-eta))
    logp = eta @ y - np.logaddexp(0, eta).sum(1) - 0.5 * (z * z).sum(1)
    return logp, (y - sigmoid) @ x - z


inference = klqp.fit(log_density, 10, n_iter=2000, n_samples=10, seed=1)
print(*inference.posterior["z"].mean())
