"""Case 1: the mean of 50 Normal observations, all zero."""

import numpy as np

from bench.models.case import Case, Model, Twin


def data():
    return {"x": np.zeros(50)}


def twin():
    import numpyro
    from numpyro import distributions as dist

    def model(data):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        numpyro.sample("x", dist.Normal(mu, 1.0).expand([50]).to_event(1), obs=data["x"])

    return Twin(model, {"mu": ()})


def model(data):
    import klqp

    mu = klqp.Normal(0.0, 1.0, name="mu")
    x = klqp.Normal(mu, 1.0, shape=50, name="x")
    return Model([mu], {x: data["x"]})


CASE = Case("1 Normal mean", 1, 5000, 2, 0.01, data, twin, model, edward_ms=0.4)
