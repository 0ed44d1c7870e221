"""Logistic regression of malignant against benign tumours on ten measurements."""

import numpy as np
from sklearn.datasets import load_breast_cancer

import klqp

data = load_breast_cancer()
X = (data.data[:, :10] - data.data[:, :10].mean(0)) / data.data[:, :10].std(0)
y_train = data.target.astype(float)

w, b = klqp.Normal(0.0, 1.0, shape=10, name="w"), klqp.Normal(0.0, 1.0, name="b")
y = klqp.Bernoulli(logits=X @ w + b)

inference = klqp.KLqp([w, b], data={y: y_train})
inference.run(n_iter=10_000, seed=1, progress=False)

accuracy = klqp.evaluate(
    "binary_accuracy", {klqp.copy(y, {z: inference.posterior[z] for z in (w, b)}): y_train}, seed=2
)
elbo, best = inference.posterior.elbo(20_000, seed=2), -96.3424  # of all products of Normals, by quadrature
print(f"w: {np.round(inference.posterior[w].mean(), 2)}")
print(f"ELBO: {elbo.value:.2f} +- {elbo.std_error:.2f}, best {best:.2f}, off by {abs(elbo.value - best):.4f} nats")
print(f"right on {accuracy:.3f} of the rows")
