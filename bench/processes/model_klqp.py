"""A whole process: logistic_klqp.py's regression in random variables, by 2,000 steps of klqp."""

import numpy as np

import klqp

rng = np.random.default_rng(0)
x = rng.normal(size=(1000, 10))
y = (rng.uniform(size=1000) < 1 / (1 + np.exp(-x @ rng.normal(size=10)))).astype(float)

w = klqp.Normal(0.0, 1.0, shape=10, name="w")
outcome = klqp.Bernoulli(logits=x @ w, name="outcome")
inference = klqp.KLqp([w], data={outcome: y})
adam = klqp.optimizers.Adam(learning_rate=0.05, schedule="cosine", beta2=0.999)
inference.run(n_iter=2000, n_samples=10, optimizer=adam, init_scale=0.1, seed=1, progress=False)
print(*inference.posterior[w].mean())
