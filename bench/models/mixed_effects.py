"""Case 10: linear mixed effects, with the mean, a slope and the scales of the effects as parameters.

The data are made, in the shape of the training rows of InstEval (lecture ratings by students): as many rows,
students, lecturers and departments, effects of similar size. Only speed is measured on them.
"""

import numpy as np

from bench.models.case import Case, Model, Twin

ROWS = 58_737
GROUPS = {"student": 2_972, "lecturer": 1_128, "department": 14}
SCALES = {"student": 0.33, "lecturer": 0.52, "department": 0.1}


def data():
    rng = np.random.default_rng(10)
    service = rng.integers(0, 2, ROWS).astype(float)
    mean, groups = 3.28 - 0.07 * service, {}
    for name, size in GROUPS.items():
        groups[name] = rng.integers(0, size, ROWS)
        mean = mean + (SCALES[name] * rng.normal(size=size))[groups[name]]
    return {"service": service, "y": np.clip(np.round(mean + 1.2 * rng.normal(size=ROWS)), 1, 5), **groups}


def twin():
    import numpyro
    from numpyro import distributions as dist
    from numpyro.distributions import constraints

    def model(data):
        mean = numpyro.param("mean", 0.0) + numpyro.param("slope", 0.0) * data["service"]
        for name, size in GROUPS.items():
            scale = numpyro.param(f"sigma_{name}", 1.0, constraint=constraints.positive)
            mean = mean + numpyro.sample(name, dist.Normal(0.0, scale).expand([size]).to_event(1))[data[name]]
        numpyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=data["y"])

    return Twin(model, {name: (size,) for name, size in GROUPS.items()})


def model(data):
    import klqp

    mean = klqp.Parameter(0.0, name="mean") + klqp.Parameter(0.0, name="slope") * data["service"]
    effects = []
    for name, size in GROUPS.items():
        scale = klqp.Parameter(1.0, support="positive", name=f"sigma_{name}")
        effects.append(klqp.Normal(0.0, scale, shape=size, name=name))
        mean = mean + effects[-1][data[name]]
    y = klqp.Normal(mean, 1.0, name="y")
    return Model(effects, {y: data["y"]})


CASE = Case("10 mixed effects, 58,737 rows", 1, 50, 20, 0.05, data, twin, model, small=False)
