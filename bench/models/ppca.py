"""Case 7: probabilistic principal components, all 5,000 points in each step."""

import numpy as np

from bench.models.case import Case, Model, Twin

N, D, K = 5000, 2, 1


def data():
    rng = np.random.default_rng(7)
    w = np.array([[0.26, 1.80]])
    return {"x": rng.normal(size=(N, K)) @ w + rng.normal(size=(N, D))}


def twin():
    import numpyro
    from numpyro import distributions as dist

    # The points along the last axis, and K = 1 by broadcasting: a fifth faster in XLA than z @ w.
    def model(data):
        w = numpyro.sample("w", dist.Normal(0.0, 2.0).expand([D, 1]).to_event(2))
        z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([N]).to_event(1))
        numpyro.sample("x", dist.Normal(w * z, 1.0).to_event(2), obs=data["x"].T)

    return Twin(model, {"w": (D, 1), "z": (N,)})


def model(data):
    import klqp

    w = klqp.Normal(0.0, 2.0, shape=(K, D), name="w")
    z = klqp.Normal(0.0, 1.0, shape=(N, K), name="z")
    x = klqp.Normal(z @ w, 1.0, name="x")
    return Model([w, z], {x: data["x"]})


CASE = Case("7 PPCA, N=5,000, D=2, K=1", 10, 100, 10, 0.05, data, twin, model, edward_ms=4.4, small=False)
