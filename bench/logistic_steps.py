"""Steps of logistic regression by klqp at the shapes that threads are measured at."""

from functools import partial

import numpy as np

import klqp
from bench.timing import seconds_of

SHAPES = [  # N, D, S
    (200, 5, 1),
    (1_000, 10, 10),
    (10_000, 100, 8),
    (10_000, 100, 32),
    (100_000, 50, 8),
    (1_000_000, 50, 8),
]


def make_data(n, dim):
    """Return a design (n, dim) and labels."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, dim))
    return x, (rng.random(n) < 1.0 / (1.0 + np.exp(-0.5 * x[:, 0]))).astype(float)


class Steps:
    """A run of logistic regression, mean field and Adam, that can be asked for steps without end.

    Parameters
    ----------
    data : tuple of ndarray
        What `make_data` gives; shared, not copied.
    n_draws : int
    n_threads : int, optional
        Default: klqp's own.
    """

    def __init__(self, data, n_draws, n_threads=None):
        x, y = data
        w = klqp.Normal(0.0, 1.0, shape=x.shape[1], name="w")
        inference = klqp.KLqp([w], data={klqp.Bernoulli(logits=x @ w): y})
        adam = klqp.optimizers.Adam(learning_rate=1e-3)
        inference.initialize(n_iter=1, n_samples=n_draws, optimizer=adam, seed=1, n_threads=n_threads, progress=False)
        self._keep, self._run = inference, inference._engine.run

    def __call__(self, n):
        """Take n steps in one call into C++, as `run` does."""
        self._run.until(np.full(n, 1e-3), [], None)

    def that_fill(self, seconds):
        """Return how many steps take about so long."""
        n = 1
        self(1)
        while (elapsed := seconds_of(partial(self, n))) < seconds / 4 and n < 1_000_000:
            n *= 2
        return max(1, int(n * seconds / elapsed))
