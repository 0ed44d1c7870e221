"""Eight schools, non-centred, with the exact posterior of mu and log tau by quadrature."""

import numpy as np

import klqp

y_train = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
sigma = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

mu = klqp.Normal(0.0, 10.0, name="mu")
log_tau = klqp.Normal(5.0, 1.0, name="log_tau")
eta = klqp.Normal(0.0, 1.0, shape=8, name="eta")
y = klqp.Normal(mu + klqp.exp(log_tau) * eta, sigma)

inference = klqp.KLqp([mu, log_tau, eta], data={y: y_train})
inference.run(n_iter=20_000, n_samples=15, seed=1, progress=False)

# Given log tau everything is Normal: quadrature over log tau alone.
t = np.linspace(-8, 12, 4001)
precision = 1 / (sigma**2 + np.exp(2 * t)[:, None])
total = precision.sum(1) + 0.01
centre = (precision * y_train).sum(1) / total
log_weight = 0.5 * (np.log(precision) - precision * y_train**2).sum(1)
log_weight += 0.5 * (total * centre**2 - np.log(total)) - 0.5 * (t - 5) ** 2
weight = np.exp(log_weight - log_weight.max())
weight /= weight.sum()

z, s = inference.posterior[mu], inference.posterior[log_tau]
print(f"mu: {z.mean():.2f} +- {z.stddev():.2f}, exact mean {weight @ centre:.2f}")
print(f"log tau: {s.mean():.2f} +- {s.stddev():.2f}, exact mean {weight @ t:.2f}")
elbo = inference.posterior.elbo(20_000, seed=2).value
best = -36.7889  # of all products of Normals
print(f"ELBO: {elbo:.3f}, best {best:.3f}, off by {abs(elbo - best):.4f} nats")
