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

    def model(data):
        w = numpyro.sample("w", dist.Normal(0.0, 2.0).expand([K, D]).to_event(2))
        z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([N, K]).to_event(2))
        numpyro.sample("x", dist.Normal(z @ w, 1.0).to_event(2), obs=data["x"])

    return Twin(model, {"w": (K, D), "z": (N, K)})


def model(data):
    import klqp

    w = klqp.Normal(0.0, 2.0, shape=(K, D), name="w")
    z = klqp.Normal(0.0, 1.0, shape=(N, K), name="z")
    x = klqp.Normal(z @ w, 1.0, name="x")
    return Model([w, z], {x: data["x"]})


CASE = Case("7 PPCA, N=5,000, D=2, K=1", 10, 100, 10, 0.05, data, twin, model, edward_ms=4.4, small=False)
