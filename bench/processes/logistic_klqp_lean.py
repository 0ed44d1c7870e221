"""logistic_klqp.py with one exponential for the log density and its gradient."""

import numpy as np

import klqp

rng = np.random.default_rng(0)
x = rng.normal(size=(1000, 10))
y = (rng.uniform(size=1000) < 1 / (1 + np.exp(-x @ rng.normal(size=10)))).astype(float)
xt = np.ascontiguousarray(x.T)


def log_density(z):
    eta = z @ xt
    odds = np.exp(eta)
    logp = eta @ y - np.log(1 + odds).sum(1) - 0.5 * (z * z).sum(1)
    return logp, (y - odds / (1 + odds)) @ x - z


inference = klqp.fit(log_density, 10, n_iter=2000, n_samples=10, seed=1)
print(*inference.posterior["z"].mean())
