"""Eight schools, non-centred: full rank against mean field, with the exact posterior beside them.

Effects of coaching in eight schools (Rubin 1981): y_j ~ N(theta_j, sigma_j), theta_j = mu + tau eta_j, eta_j ~ N(0, 1),
mu ~ N(0, 5), tau ~ half-Cauchy(5). The unknowns are mu, log tau and the eight eta.
"""

import numpy as np

import klqp

y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
sigma = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
MU_SD, TAU_SCALE = 5.0, 5.0


def log_density(z):
    """Return log p(y, z) and its gradient for z (S, 10): mu, log tau, eta."""
    mu, log_tau, eta = z[:, 0], z[:, 1], z[:, 2:]
    tau = np.exp(log_tau)
    residual = (y - mu[:, None] - tau[:, None] * eta) / sigma  # (S, 8)
    ratio = (tau / TAU_SCALE) ** 2
    logp = -0.5 * (residual**2).sum(1) - 0.5 * (eta**2).sum(1) - 0.5 * (mu / MU_SD) ** 2
    logp += log_tau - np.log1p(ratio)  # half-Cauchy prior, and the Jacobian of tau = exp(log tau)

    pull = residual / sigma  # d logp / d theta
    grad = np.empty_like(z)
    grad[:, 0] = pull.sum(1) - mu / MU_SD**2
    grad[:, 1] = tau * (pull * eta).sum(1) + 1 - 2 * ratio / (1 + ratio)
    grad[:, 2:] = tau[:, None] * pull - eta
    return logp, grad


def exact_moments():
    """Return means and sds of mu, log tau and theta_1, by quadrature over log tau.

    Given tau everything else is Normal.
    """
    log_tau = np.linspace(-12, 7, 4001)
    tau = np.exp(log_tau)[:, None]
    precision = 1 / (sigma**2 + tau**2)
    mu_precision = precision.sum(1) + MU_SD**-2
    mu_mean = (precision * y).sum(1) / mu_precision
    log_weight = 0.5 * (np.log(precision).sum(1) - np.log(mu_precision) - (precision * y**2).sum(1))
    log_weight += 0.5 * mu_precision * mu_mean**2 + log_tau - np.log1p((tau[:, 0] / TAU_SCALE) ** 2)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()

    share = tau[:, 0] ** 2 * precision[:, 0]  # of y_1 in the mean of theta_1 given mu and tau
    theta_mean = share * y[0] + (1 - share) * mu_mean
    theta_var = share * sigma[0] ** 2 + (1 - share) ** 2 / mu_precision
    pairs = [(mu_mean, 1 / mu_precision), (log_tau, 0), (theta_mean, theta_var)]
    means = [weight @ m for m, _ in pairs]
    sds = [np.sqrt(weight @ (v + (m - mean) ** 2)) for (m, v), mean in zip(pairs, means, strict=True)]
    return np.array([means, sds])


def fitted_moments(posterior):
    """Return the same moments of a fit, from draws."""
    z = posterior["z"].sample(100_000, seed=2)
    columns = np.stack([z[:, 0], z[:, 1], z[:, 0] + np.exp(z[:, 1]) * z[:, 2]])
    return np.array([columns.mean(1), columns.std(1)])


results = {"exact": exact_moments()}
elbo = {}
for q in ("mean_field", "full_rank"):
    inference = klqp.fit(log_density, 10, q=q, n_iter=3000, n_samples=20, seed=1, progress=False)
    results[q] = fitted_moments(inference.posterior)
    elbo[q] = inference.posterior.elbo(20_000, seed=3)

print(f"{'':12}{'mu':>16}{'log tau':>16}{'theta_1':>16}")
for name, (means, sds) in results.items():
    print(f"{name:12}" + "".join(f"{m:9.2f} +-{s:5.2f}" for m, s in zip(means, sds, strict=True)))
for name, estimate in elbo.items():
    print(f"ELBO of {name}: {estimate.value:.3f} +- {estimate.std_error:.3f}")
