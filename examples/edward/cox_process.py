"""A log-Gaussian Cox process: counts in sixty cells, a Gaussian process for their log intensity."""

import numpy as np

import klqp

rng = np.random.default_rng(11)
place = np.linspace(0, 6, 60)
K = np.exp(-0.5 * ((place[:, None] - place) / 0.7) ** 2) + 0.05 * np.eye(60)
L = np.linalg.cholesky(K)
truth = L @ rng.normal(size=60)
counts_train = rng.poisson(np.exp(truth)).astype(float)

f = klqp.MultivariateNormalTriL(np.zeros(60), L, name="f")
counts = klqp.Poisson(rate=klqp.exp(f))

inference = klqp.KLqp([f], data={counts: counts_train})
inference.run(n_iter=5000, n_samples=10, seed=1, progress=False)

z = inference.posterior[f]
# Where the ELBO is greatest, the prior's pull equals the counts less their expected rate under q.
rate = np.exp(z.mean() + 0.5 * z.variance())
pull = counts_train - rate - np.linalg.solve(K, z.mean())
elbo = inference.posterior.elbo(4000, seed=2)
print(f"ELBO: {elbo.value:.2f} +- {elbo.std_error:.2f}, best -87.30")
print(f"gradient of the exact ELBO, root mean square in sds: off by {np.sqrt(np.mean((pull * z.stddev()) ** 2)):.4f}")
print(f"root mean square error of the log intensity: {np.sqrt(np.mean((z.mean() - truth) ** 2)):.2f}")
