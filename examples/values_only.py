"""A log density without gradients: score-function estimation needs its values only.

Measurements with outliers: x ~ Student-t(4) around a location with a scale, both unknown. The function returns logp
alone, so that klqp takes score-function gradients; they are noisier than reparameterised ones and want more draws.
"""

import numpy as np

import klqp

x = np.array([4.9, 5.3, 4.4, 5.1, 4.7, 9.8, 5.0, 5.6, 4.2, 5.2, 4.8, 0.9, 5.4, 5.0, 4.6])


def log_density(z):
    """Return log p(x, z) for z (S, 2): location and log scale, with priors N(0, 10) and N(0, 1)."""
    loc, log_scale = z[:, :1], z[:, 1:]
    standard = (x - loc) / np.exp(log_scale)
    likelihood = (-2.5 * np.log1p(standard**2 / 4) - log_scale).sum(1)
    return likelihood - 0.5 * (z[:, 0] / 10) ** 2 - 0.5 * z[:, 1] ** 2


def moments_on_a_grid():
    """Return means and sds of the posterior, from a grid."""
    loc, log_scale = np.meshgrid(np.linspace(3, 7, 401), np.linspace(-3, 2, 501), indexing="ij")
    points = np.stack([loc.ravel(), log_scale.ravel()], axis=1)
    logp = log_density(points)
    weight = np.exp(logp - logp.max())
    weight /= weight.sum()
    mean = weight @ points
    return mean, np.sqrt(weight @ (points - mean) ** 2)


inference = klqp.fit(log_density, 2, n_iter=3000, n_samples=50, seed=1, progress=False)
fitted = inference.posterior["z"]
mean, sd = moments_on_a_grid()

print(inference.estimator)
for i, name in enumerate(["location", "log scale"]):
    print(f"{name:10} grid {mean[i]:7.3f} +-{sd[i]:6.3f}   fit {fitted.mean()[i]:7.3f} +-{fitted.stddev()[i]:6.3f}")
