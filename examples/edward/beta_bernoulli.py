"""A probability with a Beta prior: a Normal q reaches the unit interval through a sigmoid."""

import numpy as np

import klqp

x_train = np.array([0, 0, 1, 1, 0, 0, 0, 0, 0, 1])

p = klqp.Beta(1.0, 1.0, name="p")
x = klqp.Bernoulli(probs=p, shape=10)

inference = klqp.KLqp([p], data={x: x_train})
inference.run(n_iter=3000, seed=1, progress=False)

mean, sd = inference.posterior[p].mean(), inference.posterior[p].stddev()
exact_mean, exact_sd = 4 / 12, np.sqrt(4 * 8 / (12**2 * 13))  # Beta(4, 8)
print(f"mean: {mean:.4f}, exact {exact_mean:.4f}, off by {abs(mean - exact_mean) / exact_sd:.4f} sd")
print(f"sd: {sd:.4f}, exact {exact_sd:.4f}, off by {abs(sd / exact_sd - 1):.4f} of it")
