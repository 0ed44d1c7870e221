"""Probabilistic matrix factorisation: half of the entries of a 50 by 60 matrix of rank 3."""

import numpy as np

from bench.models.case import Case, Model, Twin

N, M, D = 50, 60, 3


def data():
    rng = np.random.default_rng(12)
    r = rng.normal(size=(N, D)) @ rng.normal(size=(D, M)) + rng.normal(size=(N, M))
    return {"r": r, "seen": rng.uniform(size=(N, M)) < 0.5}


def twin():
    import numpyro
    from numpyro import distributions as dist

    def model(data):
        u = numpyro.sample("u", dist.Normal(0.0, 1.0).expand([N, D]).to_event(2))
        v = numpyro.sample("v", dist.Normal(0.0, 1.0).expand([D, M]).to_event(2))
        numpyro.sample("r", dist.Normal(u @ v, 1.0).mask(data["seen"]).to_event(2), obs=data["r"])

    return Twin(model, {"u": (N, D), "v": (D, M)})


def model(data):
    import klqp

    u = klqp.Normal(0.0, 1.0, shape=(N, D), name="u")
    v = klqp.Normal(0.0, 1.0, shape=(D, M), name="v")
    r = klqp.Normal(u @ v, 1.0, name="r")
    return Model([u, v], {r: data["r"]}, scale={r: data["seen"].astype(float)})


CASE = Case("matrix factorisation, 50 x 60, D=3", 1, 1000, 5, 0.02, data, twin, model)
