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

    def model(data):
        trait = numpyro.sample("trait", dist.Normal(0.0, 1.0).expand([PERSONS, 1]).to_event(2))
        threshold = numpyro.sample("threshold", dist.Normal(0.0, 1.0).expand([1, ITEMS]).to_event(2))
        numpyro.sample("y", dist.Bernoulli(logits=trait - threshold).to_event(2), obs=data["y"])

    return Twin(model, {"trait": (PERSONS, 1), "threshold": (1, ITEMS)})


def model(data):
    import klqp

    trait = klqp.Normal(0.0, 1.0, shape=(PERSONS, 1), name="trait")
    threshold = klqp.Normal(0.0, 1.0, shape=(1, ITEMS), name="threshold")
    y = klqp.Bernoulli(logits=trait - threshold, name="y")
    return Model([trait, threshold], {y: data["y"]})


CASE = Case("Rasch, 200 x 25", 10, 200, 10, 0.05, data, twin, model, edward_ms=3.7)
