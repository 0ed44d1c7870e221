"""Cases 4 and 5: linear regression with unit prior and noise, on all rows or on minibatches."""

from functools import partial

import numpy as np

from bench.models.case import Case, Model, Twin

DIM, BATCH = 10, 128


def data(n_rows):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(n_rows, DIM))
    return {"x": x, "y": x @ rng.normal(size=DIM) + rng.normal(size=n_rows)}


def twin(n_rows, batch=None):
    import jax
    import numpyro
    from numpyro import distributions as dist
    from numpyro.handlers import scale

    def model(data):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([DIM]).to_event(1))
        with scale(scale=1.0 if batch is None else n_rows / batch):
            numpyro.sample("y", dist.Normal(data["x"] @ w, 1.0).to_event(1), obs=data["y"])

    def select(key, data):
        rows = jax.random.randint(key, (batch,), 0, n_rows)
        return {name: array[rows] for name, array in data.items()}

    return Twin(model, {"w": (DIM,)}, None if batch is None else select)


def full_model(data):
    import klqp

    w = klqp.Normal(0.0, 1.0, shape=DIM, name="w")
    y = klqp.Normal(data["x"] @ w, 1.0, name="y")
    return Model([w], {y: data["y"]})


def minibatch_model(data):
    import klqp

    n_rows = len(data["y"])
    rows_x, rows_y = klqp.placeholder((BATCH, DIM)), klqp.placeholder((BATCH,))
    w = klqp.Normal(0.0, 1.0, shape=DIM, name="w")
    y = klqp.Normal(rows_x @ w, 1.0, name="y")

    def feed(rng):
        rows = rng.integers(0, n_rows, BATCH)
        return {rows_x: data["x"][rows], rows_y: data["y"][rows]}

    return Model([w], {y: rows_y}, scale={y: n_rows / BATCH}, feed=feed)


FULL = Case(
    "4 linear regression, N=40, D=10",
    n_samples=5,
    timed_steps=2000,
    checked_fits=2,
    learning_rate=0.02,
    data=partial(data, 40),
    twin=partial(twin, 40),
    model=full_model,
    edward_ms=0.52,
)
MINIBATCH = Case(
    "5 linear regression, N=10,000, M=128",
    n_samples=5,
    timed_steps=1000,
    checked_fits=3,
    learning_rate=0.02,
    data=partial(data, 10_000),
    twin=partial(twin, 10_000, BATCH),
    model=minibatch_model,
    edward_ms=0.66,
)
