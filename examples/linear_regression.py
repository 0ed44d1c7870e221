"""Bayesian linear regression on simulated data, with the exact posterior printed beside the fit.

y ~ N(X w, noise), w ~ N(0, 1). The posterior is Normal, so a full-rank q can reach it.
"""

import numpy as np

import klqp

rng = np.random.default_rng(0)
N, D, NOISE = 200, 5, 0.5
X = rng.normal(size=(N, D))
X[:, 1] += 0.9 * X[:, 0]  # two columns that are hard to tell apart
y = X @ rng.normal(size=D) + NOISE * rng.normal(size=N)


def log_density(z):
    """Return log p(y, z) and its gradient for weights z (S, D)."""
    residual = y - z @ X.T  # (S, N)
    logp = -0.5 * (residual**2).sum(1) / NOISE**2 - 0.5 * (z**2).sum(1)
    return logp, residual @ X / NOISE**2 - z


precision = X.T @ X / NOISE**2 + np.eye(D)
covariance = np.linalg.inv(precision)
mean = covariance @ X.T @ y / NOISE**2

# 200 observations leave standard deviations of about 0.04: start nearer to that than the default of 1.
settings = {"n_iter": 2000, "init_scale": 0.1, "seed": 1, "progress": False}
w = klqp.fit(log_density, D, q="full_rank", **settings).posterior["z"]
mean_field = klqp.fit(log_density, D, q="mean_field", **settings).posterior["z"]

print(f"{'':6}{'exact':>19}{'full rank':>19}{'mean field':>19}")
for i in range(D):
    columns = [
        (mean[i], np.sqrt(covariance[i, i])),
        (w.mean()[i], w.stddev()[i]),
        (mean_field.mean()[i], mean_field.stddev()[i]),
    ]
    print(f"w[{i}]  " + "".join(f"{m:9.4f} +-{s:7.4f}" for m, s in columns))
error = np.abs(w.covariance() - covariance).max() / np.abs(covariance).max()
print(f"largest error of the full-rank covariance, relative to its largest entry: {error:.1e}")
