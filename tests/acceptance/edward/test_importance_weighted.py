"""A new algorithm by subclassing VariationalInference: the importance-weighted bound of Burda et al. (2016).

A sketch: it fixes what a subclass must be able to say. `objective` is given log p - log q of the draws (S,) and
returns the loss and its derivative in each of them; the rest is the base class's.
"""

import numpy as np
from scipy import special

import klqp

from . import reference
from .helpers import normal_q

X, EXACT = np.full(10, 4.0), reference.hierarchy(np.full(10, 4.0))


class ImportanceWeighted(klqp.VariationalInference):
    """Maximises E[log mean_s p(x, z_s) / q(z_s)]."""

    def objective(self, log_ratio):
        return -(special.logsumexp(log_ratio) - np.log(log_ratio.size)), -special.softmax(log_ratio)


def infer(cls, n_samples):
    mu = klqp.Normal(0.0, 1.0, name="mu")
    theta = klqp.Normal(mu, 1.0, shape=10, name="theta")
    x = klqp.Normal(theta, 0.5)
    inference = cls({mu: normal_q(), theta: normal_q(10)}, data={x: X})
    inference.run(n_iter=5000, n_samples=n_samples, seed=1, progress=False)
    return inference, mu


def test_one_draw_is_the_elbo():
    inference, _ = infer(ImportanceWeighted, 1)
    tail = -inference.losses[-2000:]
    assert abs(tail.mean() - EXACT.mean_field.elbo) < 4 * tail.std() / np.sqrt(2000) + 0.02


def test_bound_is_between_the_elbo_and_log_z():
    inference, mu = infer(ImportanceWeighted, 20)
    tail = -inference.losses[-2000:]
    error = 4 * tail.std() / np.sqrt(2000)
    assert EXACT.mean_field.elbo + error < tail.mean() < EXACT.log_z + error
    # It prefers a wider q than KL(q || p) does.
    assert EXACT.mean_field.sd[0] < inference.posterior[mu].stddev() < 1.2 * EXACT.sd[0]
