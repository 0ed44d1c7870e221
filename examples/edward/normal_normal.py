"""A Normal mean from fifty observations: the approximation is exact, and so is the ELBO."""

import numpy as np

import klqp

x_train = np.zeros(50)

mu = klqp.Normal(0.0, 1.0, name="mu")
x = klqp.Normal(mu, 1.0, shape=50)

inference = klqp.KLqp([mu], data={x: x_train})
inference.run(n_iter=2000, seed=1, progress=False)

exact_sd = 1 / np.sqrt(51)
log_z = -25 * np.log(2 * np.pi) - 0.5 * np.log(51)
mean, sd = inference.posterior[mu].mean(), inference.posterior[mu].stddev()
elbo = inference.posterior.elbo(1000, seed=2).value
print(f"mu: {mean:.4f} +- {sd:.4f}, exact 0.0000 +- {exact_sd:.4f}, off by {abs(mean) / exact_sd:.4f} sd")
print(f"ELBO: {elbo:.4f}, exact {log_z:.4f}, off by {abs(elbo - log_z):.4f} nats")
