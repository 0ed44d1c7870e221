"""Log densities for the benchmarks, with their data: one class a model.

Each is called as klqp calls it, ``z (S, D) -> (logp (S,), grad (S, D))``, hands its data to the
peers in other languages, and knows `native`, the name of its function in native/targets.c.
"""

import ctypes

import numpy as np
from scipy.special import expit

_POINTER = ctypes.c_void_p


class Gaussian:
    """Independent Gaussians; mean-field q is exact here."""

    native = "gaussian"

    def __init__(self, dim, seed=0):
        rng = np.random.default_rng(seed)
        self.dim = dim
        self.name = f"Gaussian, D={dim}"
        self.mean = rng.normal(size=dim)
        self.stddev = rng.uniform(0.5, 2.0, dim)
        self.precision = self.stddev**-2
        self.flops_per_draw = 5 * dim

    def __call__(self, z):
        """Return log density and gradient."""
        residual = z - self.mean
        grad = -self.precision * residual
        return 0.5 * np.einsum("sd,sd->s", residual, grad), grad

    def arrays(self):
        """Return the data by name."""
        return {"mean": self.mean, "precision": self.precision}

    def native_data(self):
        """Return what the C function gets as user data."""
        return _Gaussian(self.mean.ctypes.data, self.precision.ctypes.data)


class Logistic:
    """Logistic regression with standard Normal priors on made data."""

    native = "logistic"

    def __init__(self, n_rows, dim, seed=0):
        rng = np.random.default_rng(seed)
        self.dim = dim
        self.name = f"logistic regression, N={n_rows}, D={dim}"
        self.x = rng.normal(size=(n_rows, dim))
        weights = rng.normal(size=dim) / np.sqrt(dim)
        self.y = (rng.uniform(size=n_rows) < expit(self.x @ weights)).astype(float)
        self.x_transposed = np.ascontiguousarray(self.x.T)
        self.flops_per_draw = 4 * n_rows * dim  # the two products; the functions of N are left out

    def __call__(self, z):
        """Return log density and gradient: one exponential for both, safe for predictors up to 700."""
        eta = z @ self.x_transposed
        odds = np.exp(eta)
        rest = 1.0 + odds
        odds /= rest
        logp = eta @ self.y - np.log(rest).sum(1) - 0.5 * np.einsum("sd,sd->s", z, z)
        return logp, (self.y - odds) @ self.x - z

    def arrays(self):
        """Return the data by name."""
        return {"x": self.x, "y": self.y}

    def native_data(self):
        """Return what the C function gets as user data."""
        return _Logistic(len(self.y), self.x.ctypes.data, self.y.ctypes.data)


class Nothing:
    """Returns the same arrays at every call: what is left of a step is the engine's."""

    def __init__(self, n_draws, dim):
        self.dim = dim
        self.result = np.zeros(n_draws), np.zeros((n_draws, dim))

    def __call__(self, z):
        """Return log density and gradient."""
        return self.result


class _Gaussian(ctypes.Structure):
    _fields_ = [("mean", _POINTER), ("precision", _POINTER)]


class _Logistic(ctypes.Structure):
    _fields_ = [("n", ctypes.c_int64), ("x", _POINTER), ("y", _POINTER)]
