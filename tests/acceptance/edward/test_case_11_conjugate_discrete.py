"""Case 11: conjugate pairs whose posteriors are not normal; Edward stopped at (2.3, 2.7, .96, 1.5) and (2.4, 4.5)."""

import numpy as np
import pytest

import klqp

from .helpers import value_of

COUNTS = np.array([329, 417, 119, 135])  # of 1000; with a flat prior the posterior is Dirichlet(330, 418, 120, 136)
# -log q in the objective: no noise is left at the posterior, which q can be.
EXACT = [klqp.KLqp, klqp.ScoreKLqp, klqp.ScoreRBKLqp]
# A formula in its place leaves the noise of the likelihood; -log q differentiated in its parameters too, that of the
# score.
NOISY = [
    klqp.ReparameterizationKLqp,
    klqp.ReparameterizationEntropyKLqp,
    klqp.ReparameterizationKLKLqp,
    klqp.ScoreEntropyKLqp,
    klqp.ScoreKLKLqp,
]
OPTIONS = {"n_iter": 3000, "n_samples": 30, "progress": False}


def dirichlet(cls, seed):
    pi = klqp.Dirichlet(np.ones(4), name="pi")
    x = klqp.Categorical(probs=pi, shape=1000)
    free = klqp.Parameter(np.ones(4), support="positive")
    inference = cls({pi: klqp.Dirichlet(free)}, data={x: np.repeat(np.arange(4), COUNTS)})
    inference.run(seed=seed, **OPTIONS)
    return value_of(free), inference.posterior[pi]


def beta(cls, seed):
    p = klqp.Beta(1.0, 1.0, name="p")
    x = klqp.Bernoulli(probs=p, shape=10)
    ones, zeros = (klqp.Parameter(1.0, support="positive") for _ in range(2))
    inference = cls({p: klqp.Beta(ones, zeros)}, data={x: np.array([0, 1, 0, 0, 1, 0, 0, 0, 0, 1])})
    inference.run(seed=seed, **OPTIONS)
    return np.array([value_of(ones), value_of(zeros)]), inference.posterior[p]


@pytest.mark.parametrize("cls", EXACT)
def test_dirichlet_categorical(cls):
    concentration, posterior = dirichlet(cls, seed=1)
    np.testing.assert_allclose(concentration, COUNTS + 1.0, rtol=0.005)
    mean = (COUNTS + 1.0) / 1004
    np.testing.assert_allclose(posterior.mean(), mean, rtol=0.001)
    np.testing.assert_allclose(posterior.stddev(), np.sqrt(mean * (1 - mean) / 1005), rtol=0.005)


@pytest.mark.parametrize("cls", EXACT)
def test_beta_bernoulli(cls):
    concentration, posterior = beta(cls, seed=1)
    np.testing.assert_allclose(concentration, [4.0, 8.0], rtol=0.005)
    assert posterior.variance() == pytest.approx(32 / (144 * 13), rel=0.005)


@pytest.mark.parametrize("cls", NOISY)
def test_the_other_classes_leave_noise(cls):
    """The means are right, and the concentrations of the small problem."""
    concentration, _ = beta(cls, seed=1)
    np.testing.assert_allclose(concentration, [4.0, 8.0], rtol=0.06)
    concentration, posterior = dirichlet(cls, seed=1)
    np.testing.assert_allclose(posterior.mean(), (COUNTS + 1.0) / 1004, rtol=0.02)
    assert 0.7 < concentration.sum() / 1004 < 1.1
