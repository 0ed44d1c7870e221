"""Case 6: eight schools, non-centred."""

import numpy as np

from bench.models.case import Case, Model, Twin

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def data():
    return {"effects": EFFECTS, "errors": ERRORS}


def twin():
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as dist

    def model(data):
        mu = numpyro.sample("mu", dist.Normal(0.0, 10.0))
        log_tau = numpyro.sample("log_tau", dist.Normal(5.0, 1.0))
        raw = numpyro.sample("raw", dist.Normal(0.0, 1.0).expand([8]).to_event(1))
        schools = dist.Normal(mu + jnp.exp(log_tau) * raw, data["errors"])
        numpyro.sample("y", schools.to_event(1), obs=data["effects"])

    return Twin(model, {"mu": (), "log_tau": (), "raw": (8,)})


def model(data):
    import klqp

    mu = klqp.Normal(0.0, 10.0, name="mu")
    log_tau = klqp.Normal(5.0, 1.0, name="log_tau")
    raw = klqp.Normal(0.0, 1.0, shape=8, name="raw")
    y = klqp.Normal(mu + klqp.exp(log_tau) * raw, data["errors"], name="y")
    return Model([mu, log_tau, raw], {y: data["effects"]})


CASE = Case("6 eight schools", 15, 2000, 5, 0.02, data, twin, model, edward_ms=1.3)
