"""A sigmoid belief network of four layers on digits: binary units, with an inference network for each layer."""

from itertools import pairwise

import numpy as np
from sklearn.datasets import load_digits

import klqp

LAYERS, M, EPOCHS = (64, 300, 100, 50, 10), 50, 20  # pixels, then hidden units, the top last
x_train = (load_digits().data > 7).astype(float)
rng = np.random.default_rng(1)


def weights(rows, columns):
    """Return free weights for sums over rows."""
    return klqp.Parameter(rng.normal(0.0, rows**-0.5, (rows, columns)))


rows = klqp.placeholder((M, LAYERS[0]))
biases = [klqp.Parameter(np.zeros(n)) for n in LAYERS]

logits, layers = biases[-1], []
for k in range(len(LAYERS) - 1, 0, -1):  # downwards
    z = klqp.Bernoulli(logits=logits, shape=(M, LAYERS[k]), name=f"z{k}")
    layers.insert(0, z)
    logits = z @ weights(LAYERS[k], LAYERS[k - 1]) + biases[k - 1]
x = klqp.Bernoulli(logits=logits, name="x")

q, below = {}, rows
for z, (n_below, n) in zip(layers, pairwise(LAYERS), strict=True):  # upwards
    q[z] = klqp.Bernoulli(logits=below @ weights(n_below, n) + klqp.Parameter(np.zeros(n)))
    below = q[z]

inference = klqp.KLqp(q, data={x: rows})
inference.initialize(n_samples=10, optimizer=klqp.optimizers.Adam(learning_rate=1e-3), seed=1, progress=False)
print(inference.estimator.splitlines()[0])

for epoch in range(EPOCHS):
    batches = rng.permutation(len(x_train))[: len(x_train) // M * M].reshape(-1, M)
    loss = np.mean([inference.update({rows: x_train[batch]})["loss"] for batch in batches]) / M
    print(f"epoch {epoch + 1}: -ELBO a digit {loss:.3f}")
inference.finalize()
