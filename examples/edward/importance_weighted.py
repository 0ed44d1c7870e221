"""A new algorithm by subclassing: the importance-weighted bound of Burda et al. (2016), between ELBO and log Z."""

import numpy as np
from scipy.special import logsumexp, softmax

import klqp


class ImportanceWeighted(klqp.VariationalInference):
    """Maximises E[log mean_s p(x, z_s) / q(z_s)]."""

    def objective(self, log_ratio):
        """Return minus the bound, and its derivatives in the log ratios (S,)."""
        return np.log(log_ratio.size) - logsumexp(log_ratio), -softmax(log_ratio)


def fit(cls, n_samples):
    """Fit mu ~ N(0, 1), theta_i ~ N(mu, 1), x_i = 4 ~ N(theta_i, .5); return the bound and q's sd of mu."""
    mu = klqp.Normal(0.0, 1.0, name="mu")
    theta = klqp.Normal(mu, 1.0, shape=10, name="theta")
    x = klqp.Normal(theta, 0.5)
    inference = cls([mu, theta], data={x: np.full(10, 4.0)})
    inference.run(n_iter=5000, n_samples=n_samples, seed=1, progress=False)
    return -inference.losses[-2000:].mean(), float(inference.posterior[mu].stddev())


precision = np.diag(np.r_[11.0, np.full(10, 5.0)])  # of the posterior of mu and theta
precision[0, 1:] = precision[1:, 0] = -1.0
covariance = np.ones((10, 10)) + 1.25 * np.eye(10)  # of x
log_z = -0.5 * (16 * np.linalg.inv(covariance).sum() + np.linalg.slogdet(2 * np.pi * covariance)[1])
# Of the best product of Normals.
best = log_z + 0.5 * (np.linalg.slogdet(precision)[1] - np.log(np.diag(precision)).sum())
elbo, sd = fit(klqp.KLqp, 20)
print(f"ELBO: {elbo:.3f}, best {best:.3f}, off by {abs(elbo - best):.4f} nats; sd of mu {sd:.3f}")
for n_samples in (5, 20):
    bound, sd = fit(ImportanceWeighted, n_samples)
    print(f"{n_samples} weights: bound {bound:.3f}, log Z {log_z:.3f}; sd of mu {sd:.3f}, exact {1 / 3:.3f}")
