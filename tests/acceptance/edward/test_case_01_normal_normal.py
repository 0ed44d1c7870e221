"""Case 1: fifty zeros, mu ~ N(0, 1), x ~ N(mu, 1); by all eight classes, with an explicit q and without one."""

import numpy as np
import pytest

import klqp

from . import reference
from .helpers import CLASSES, assert_close, assert_elbo, assert_within_standard_errors, normal_q

X, EXACT = reference.normal_normal()
# With a closed-form entropy or divergence the noise stays at q = p: these are judged in standard errors.
VANISHING = [klqp.KLqp, klqp.ScoreKLqp, klqp.ScoreRBKLqp]
NOISY = [cls for cls in CLASSES if cls not in VANISHING]


def infer(cls, explicit, **options):
    mu = klqp.Normal(0.0, 1.0, name="mu")
    x = klqp.Normal(mu, 1.0, shape=50)
    inference = cls({mu: normal_q(loc=0.7, scale=0.8)} if explicit else [mu], data={x: X})
    inference.run(n_iter=5000, progress=False, **options)
    return inference, inference.posterior[mu]


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("cls", VANISHING)
def test_exact(cls, explicit):
    inference, z = infer(cls, explicit, n_samples=5, seed=1)
    assert z.mean().shape == ()
    assert_close((z.mean(), z.stddev()), EXACT)
    assert_elbo(inference, EXACT.log_z, slack=1e-3)
    assert inference.losses.shape == (5000,)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("cls", NOISY)
def test_in_standard_errors(cls, explicit):
    fits = [infer(cls, explicit, n_samples=5, seed=seed)[1] for seed in range(8)]
    means, log_sds = np.array([z.mean() for z in fits]), np.log([z.stddev() for z in fits])
    assert_within_standard_errors(means, 0.0)
    assert_within_standard_errors(log_sds, np.log(EXACT.sd[0]))
    assert np.max(np.abs(means)) < 0.1 * EXACT.sd[0]
    assert np.max(np.abs(log_sds - np.log(EXACT.sd[0]))) < 0.1


def test_one_draw_a_step():
    """Edward's own setting of the reparameterised classes."""
    _, z = infer(klqp.KLqp, False, n_samples=1, seed=1)
    assert_close((z.mean(), z.stddev()), EXACT, tolerance=0.05)


def test_dict_results_by_name():
    inference, _ = infer(klqp.KLqp, True, seed=1)
    assert inference.posterior["mu"].stddev() == pytest.approx(EXACT.sd[0], rel=0.01)
    assert set(inference.posterior.mean()) == {"mu"}
