"""A coin's probability as a model parameter, without latent variables: maximum likelihood."""

import numpy as np

import klqp

x_train = np.array([0, 1, 0, 0, 0, 0, 0, 0, 0, 1])

logit = klqp.Parameter(0.5, name="logit")
x = klqp.Bernoulli(probs=klqp.sigmoid(logit), shape=10)

inference = klqp.KLqp({}, data={x: x_train})
inference.run(n_iter=500, seed=1, progress=False)

p = 1 / (1 + np.exp(-float(logit.value)))
print(f"p: {p:.4f}, exact {x_train.mean():.4f}, off by {abs(p - x_train.mean()):.4f}")
