"""Logistic regression with standard Normal priors, the problem of the groups "peers" and "startup"."""

from bench.models.case import Case, Model, Twin
from bench.targets import Logistic

N, D = 1000, 10


def data():
    return Logistic(N, D).arrays()


def twin():
    import numpyro
    from numpyro import distributions as dist

    def model(data):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([D]).to_event(1))
        numpyro.sample("y", dist.Bernoulli(logits=data["x"] @ w).to_event(1), obs=data["y"])

    return Twin(model, {"w": (D,)})


def model(data):
    import klqp

    w = klqp.Normal(0.0, 1.0, shape=D, name="w")
    y = klqp.Bernoulli(logits=data["x"] @ w, name="y")
    return Model([w], {y: data["y"]})


CASE = Case("logistic regression, N=1,000, D=10", 10, 500, 4, 0.02, data, twin, model)
