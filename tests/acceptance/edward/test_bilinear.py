"""Probabilistic matrix factorisation, 50 x 60 of rank 3, half of the entries seen: against its exact ELBO."""

import numpy as np

import klqp

from . import reference
from .helpers import q_of

MODEL = reference.matrix_factorisation()
ROW, COLUMN = np.nonzero(MODEL.observed)


def start(shape, rng):
    loc = 0.5 * rng.normal(size=shape)
    return klqp.Normal(klqp.Parameter(loc), klqp.Parameter(np.full(shape, 0.2), support="positive"))


def check(inference, u, v):
    mean, sd = q_of(inference, u, v)
    exact = MODEL.elbo(mean, sd)[0]
    assert MODEL.optimum.elbo - 2 < exact < MODEL.optimum.elbo + 1e-6
    estimate = inference.posterior.elbo(4000, seed=2)
    assert abs(estimate.value - exact) < 4 * estimate.std_error
    (a, b), (best_a, best_b) = MODEL.split(mean), MODEL.split(MODEL.optimum.mean)
    assert np.sqrt(np.mean((a @ b - best_a @ best_b) ** 2)) < 0.05


def test_scale_as_a_mask():
    """Edward's recipe: all entries are in the model, and `scale` takes the unseen ones out."""
    rng = np.random.default_rng(1)
    u, v = klqp.Normal(0.0, 1.0, shape=(50, 3), name="u"), klqp.Normal(0.0, 1.0, shape=(3, 60), name="v")
    x = klqp.Normal(u @ v, 1.0)
    inference = klqp.KLqp({u: start((50, 3), rng), v: start((3, 60), rng)}, data={x: MODEL.x})
    inference.run(n_iter=5000, n_samples=5, scale={x: MODEL.observed}, seed=1, progress=False)
    check(inference, u, v)


def test_gathered_rows():
    """Only the entries seen are in the model: dot products of gathered rows."""
    rng = np.random.default_rng(1)
    u, v = klqp.Normal(0.0, 1.0, shape=(50, 3), name="u"), klqp.Normal(0.0, 1.0, shape=(60, 3), name="v")
    x = klqp.Normal(klqp.sum(u[ROW] * v[COLUMN], axis=-1), 1.0)
    inference = klqp.KLqp({u: start((50, 3), rng), v: start((60, 3), rng)}, data={x: MODEL.x[ROW, COLUMN]})
    inference.run(n_iter=5000, n_samples=5, seed=1, progress=False)
    (mu, su), (mv, sv) = q_of(inference, u), q_of(inference, v)
    mean = np.concatenate([mu, mv.reshape(60, 3).T.ravel()])
    sd = np.concatenate([su, sv.reshape(60, 3).T.ravel()])
    assert MODEL.optimum.elbo - 2 < MODEL.elbo(mean, sd)[0] < MODEL.optimum.elbo + 1e-6
