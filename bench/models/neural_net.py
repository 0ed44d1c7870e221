"""Case 8: a Bayesian neural network, 1-10-10-1 with tanh, on 50 points of a cosine."""

import numpy as np

from bench.models.case import Case, Model, Twin

SHAPES = {"w0": (1, 10), "b0": (10,), "w1": (10, 10), "b1": (10,), "w2": (10, 1), "b2": (1,)}


def data():
    rng = np.random.default_rng(8)
    x = np.linspace(-3.0, 3.0, 50)[:, None]
    return {"x": x, "y": np.cos(x) + 0.1 * rng.normal(size=x.shape)}


def network(x, weights, tanh):
    """Return the outputs (50, 1) for the weights in the order of SHAPES."""
    w0, b0, w1, b1, w2, b2 = weights
    return tanh(tanh(x @ w0 + b0) @ w1 + b1) @ w2 + b2


def twin():
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as dist

    def model(data):
        weights = [
            numpyro.sample(site, dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape)))
            for site, shape in SHAPES.items()
        ]
        out = network(data["x"], weights, jnp.tanh)
        numpyro.sample("y", dist.Normal(out, 0.1).to_event(2), obs=data["y"])

    return Twin(model, SHAPES)


def model(data):
    import klqp

    weights = [klqp.Normal(0.0, 1.0, shape=shape, name=name) for name, shape in SHAPES.items()]
    y = klqp.Normal(network(data["x"], weights, klqp.tanh), 0.1, name="y")
    return Model(weights, {y: data["y"]})


CASE = Case("8 neural network, 1-10-10-1", 5, 1000, 5, 0.01, data, twin, model, tolerance=None)
