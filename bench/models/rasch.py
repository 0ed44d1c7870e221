"""Rasch model: 200 persons answer 25 items."""

import numpy as np

from bench.models.case import Case, Model, Twin

PERSONS, ITEMS = 200, 25


def data():
    rng = np.random.default_rng(11)
    logits = rng.normal(size=(PERSONS, 1)) - rng.normal(size=(1, ITEMS))
    return {"y": (rng.uniform(size=logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)}


def twin():
    import numpyro
    from numpyro import distributions as dist

    # The long axis last: up to a fifth faster in XLA than trait (200, 1) - threshold (1, 25).
    def model(data):
        trait = numpyro.sample("trait", dist.Normal(0.0, 1.0).expand([PERSONS]).to_event(1))
        threshold = numpyro.sample("threshold", dist.Normal(0.0, 1.0).expand([ITEMS, 1]).to_event(2))
        numpyro.sample("y", dist.Bernoulli(logits=trait - threshold).to_event(2), obs=data["y"].T)

    return Twin(model, {"trait": (PERSONS,), "threshold": (ITEMS, 1)})


def model(data):
    import klqp

    trait = klqp.Normal(0.0, 1.0, shape=(PERSONS, 1), name="trait")
    threshold = klqp.Normal(0.0, 1.0, shape=(1, ITEMS), name="threshold")
    y = klqp.Bernoulli(logits=trait - threshold, name="y")
    return Model([trait, threshold], {y: data["y"]})


CASE = Case("Rasch, 200 x 25", 10, 200, 10, 0.05, data, twin, model, edward_ms=3.7)
