"""A latent space model of a network: the nearer two nodes in the plane, the more links they have."""

import numpy as np

import klqp

n, rng = 25, np.random.default_rng(6)
i, j = np.triu_indices(n, 1)
truth = rng.normal(size=(n, 2))
links_train = rng.poisson(np.exp(1.0 - ((truth[i] - truth[j]) ** 2).sum(1))).astype(float)

z = klqp.Normal(0.0, 1.0, shape=(n, 2), name="z")
links = klqp.Poisson(rate=klqp.exp(1.0 - klqp.sum((z[i] - z[j]) ** 2, axis=-1)))

# Places drawn at random break the symmetry; most of them lead to the other optimum, at -288.36.
inference = klqp.KLqp([z], data={links: links_train})
inference.run(n_iter=5000, seed=1, progress=False, init_loc=np.random.default_rng(13).normal(size=(n, 2)))

elbo, best = inference.posterior.elbo(4000, seed=2), -286.9817  # of all products of Normals, by Gaussian algebra
print(f"ELBO: {elbo.value:.2f} +- {elbo.std_error:.2f}, best {best:.2f}, off by {abs(elbo.value - best):.4f} nats")
mean = inference.posterior[z].mean()
distance, true_distance = (np.linalg.norm(p[i] - p[j], axis=1) for p in (mean, truth))
print(f"correlation of the distances with the true ones: {np.corrcoef(distance, true_distance)[0, 1]:.3f}")
