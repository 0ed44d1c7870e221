"""A deep exponential family, Gamma on Gamma on counts, with log-normal q: its ELBO is exact."""

import numpy as np
import pytest

import klqp

from . import reference
from .helpers import assert_gap, q_of, value_of

DEF = reference.DeepExponential()


def model():
    a = DEF.shape
    z2, w1 = klqp.Gamma(1.0, 1.0, shape=DEF.n, name="z2"), klqp.Gamma(2.0, 1.0, name="w1")
    z1 = klqp.Gamma(a, a / (z2 * w1), name="z1")
    w0 = klqp.Gamma(2.0, 1.0, shape=DEF.m, name="w0")
    x = klqp.Poisson(klqp.outer(z1, w0))
    return [z2, w1, z1, w0], x


def log_normal(shape):
    return klqp.LogNormal(klqp.Parameter(np.zeros(shape)), klqp.Parameter(np.full(shape, 0.3), support="positive"))


@pytest.mark.parametrize("explicit", [True, False])
def test_log_normals(explicit):
    """A log-Normal for each variable, or a Normal of its logarithm: one family, one optimum."""
    latents, x = model()
    q = {z: log_normal(z.shape) for z in latents}
    inference = klqp.KLqp(q if explicit else latents, data={x: DEF.counts})
    inference.run(n_iter=10_000, n_samples=10, seed=1, progress=False)
    if explicit:
        log_mean, log_sd = (np.concatenate([np.ravel(value_of(q[z].inputs[i])) for z in latents]) for i in (0, 1))
    else:
        mean, sd = q_of(inference, *latents)
        log_sd = np.sqrt(np.log1p((sd / mean) ** 2))
        log_mean = np.log(mean) - 0.5 * log_sd**2
    best = DEF.optimum
    assert_gap(DEF, (log_mean, log_sd), best, slack=0.02)
    np.testing.assert_allclose(log_sd, best.sd, rtol=0.02)
    # The scales of z1 and of w0 make up for each other, those of w1 and z2 too: their products are known.
    off = np.split(log_mean - best.mean, DEF.cuts)
    assert np.max(np.abs(off[2][:, None] + off[3])) < 0.05
    assert np.max(np.abs(off[2] - off[0] - off[1])) < 0.05
    estimate = inference.posterior.elbo(4000, seed=2)
    assert abs(estimate.value - best.elbo) < 4 * estimate.std_error + 0.02
