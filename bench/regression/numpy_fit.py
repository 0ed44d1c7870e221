"""The fit in NumPy, written by hand with some care: BLAS for both products, one exponential, buffers kept."""

from functools import partial

import numpy as np

from bench.peers import numpy_advi
from bench.regression.problem import LEARNING_RATE


class LogDensity:
    """Log density and gradient of the regression at z (S, D)."""

    def __init__(self, problem):
        self._x, self._y = problem.x, problem.y
        shape = problem.n_draws, len(problem.y)
        self._eta, self._work = (np.empty(shape, problem.x.dtype) for _ in range(2))

    def __call__(self, z):
        """Return (logp (S,), grad (S, D)); safe for predictors up to 80 in float32, 700 in float64."""
        eta, odds = self._eta, self._work
        np.matmul(z.astype(eta.dtype, copy=False), self._x.T, out=eta)
        logp = eta @ self._y - 0.5 * np.einsum("sd,sd->s", z, z)
        np.exp(eta, out=odds)
        np.log1p(odds, out=eta)
        logp -= eta.sum(1)
        np.add(odds, 1.0, out=eta)
        odds /= eta
        np.subtract(self._y, odds, out=odds)
        return logp, odds @ self._x - z


def make_fit(problem, n_steps):
    """Return the fit as a function without arguments."""
    return partial(
        numpy_advi.fit,
        LogDensity(problem),
        problem.dim,
        n_steps,
        problem.n_draws,
        init_scale=problem.init_scale,
        first_rate=LEARNING_RATE,
    )
