"""Many regressions of one shape, with data of their own."""

from dataclasses import dataclass

import numpy as np

from bench.regression.problem import EXPECTED_INFORMATION


@dataclass(frozen=True)
class Shape:
    """B problems of N rows and D coefficients, S draws a step and so many steps."""

    n_problems: int
    n_rows: int
    dim: int
    n_draws: int
    steps: int

    def __str__(self):
        return f"{self.n_problems:,} x ({self.n_rows} x {self.dim}), S={self.n_draws}, {self.steps} steps"


class Problems:
    """Data: x (B, N, D), y (B, N) of zeros and ones; the q that everybody starts from has `init_scale`."""

    def __init__(self, shape, seed=0):
        rng = np.random.default_rng(seed)
        self.shape, self.dim, self.n_draws = shape, shape.dim, shape.n_draws
        self.x = rng.standard_normal((shape.n_problems, shape.n_rows, shape.dim))
        weights = rng.normal(size=(shape.n_problems, shape.dim)) / np.sqrt(shape.dim)
        logits = np.einsum("bnd,bd->bn", self.x, weights)
        self.y = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
        self.stddev = 1.0 / np.sqrt(EXPECTED_INFORMATION * shape.n_rows)
        self.init_scale = 2.0 * self.stddev
