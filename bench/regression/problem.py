"""The regression's shapes and its data: made, standard Normal predictors and priors."""

from dataclasses import dataclass

import numpy as np

EXPECTED_INFORMATION = 0.2  # of a row about a coefficient: p (1 - p), averaged over rows
# Adam's, at the first step; half a cosine wave takes it down to a hundredth. Locations are below 0.5 mostly, so that
# everybody is there within a hundred steps, and the last rate is a tenth of the least posterior sd.
LEARNING_RATE = 0.02


@dataclass(frozen=True)
class Shape:
    """N rows, D coefficients, S draws a step; steps of a timed fit and of one whose answer is checked (0: none)."""

    n_rows: int
    dim: int
    n_draws: int
    steps: int
    checked_steps: int

    def __str__(self):
        return f"{self.n_rows:,} x {self.dim}, S={self.n_draws}"

    @property
    def flops(self):
        """Floating-point operations of the two products of a step."""
        return 4.0 * self.n_rows * self.dim * self.n_draws


class Problem:
    """Data of a shape.

    Attributes
    ----------
    x : ndarray (N, D)
    y : ndarray (N,)
        Zeros and ones, of the type of x.
    stddev : float
        Standard deviation of a coefficient in the posterior, roughly: the unit in which answers are compared.
    init_scale : float
        Standard deviations of the q that everybody starts from, at location 0.
    """

    def __init__(self, shape, dtype=np.float64, seed=0):
        rng = np.random.default_rng(seed)
        self.shape, self.dim, self.n_draws = shape, shape.dim, shape.n_draws
        self.x = rng.standard_normal((shape.n_rows, shape.dim), dtype)
        weights = (rng.normal(size=shape.dim) / np.sqrt(shape.dim)).astype(dtype)
        self.y = (rng.random(shape.n_rows) < 1 / (1 + np.exp(-(self.x @ weights)))).astype(dtype)
        self.stddev = 1.0 / np.sqrt(EXPECTED_INFORMATION * shape.n_rows)
        self.init_scale = 2.0 * self.stddev
