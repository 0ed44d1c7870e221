"""Answer: the Normal that a contender found, with draws and the log density of q, the same for all contenders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.posteriors.clock import Times

Float64 = npt.NDArray[np.float64]


@dataclass
class Answer:
    """A Normal N(loc, factor factor^T).

    Attributes
    ----------
    loc : ndarray (D,)
    factor : ndarray (D,) or (D, D)
        Standard deviations, or a lower triangle.
    compiling : Times or None
        Of tracing and compiling, where the contender can tell; default: what is before the first call of the target.
    says : dict
        What the contender says of its answer: "verdict", "reasons", "k_hat", ...
    """

    loc: Float64
    factor: Float64
    compiling: Times | None = None
    says: dict[str, Any] = field(default_factory=dict)

    @property
    def sd(self) -> Float64:
        """Marginal standard deviations (D,)."""
        return self.factor if self.factor.ndim == 1 else np.sqrt((self.factor**2).sum(1))

    def draws(self, n: int, rng: np.random.Generator) -> tuple[Float64, Float64]:
        """Return n draws (n, D) and log q of them (n,)."""
        noise = rng.standard_normal((n, len(self.loc)))
        diagonal = self.factor if self.factor.ndim == 1 else np.diag(self.factor)
        z = self.loc + (noise * self.factor if self.factor.ndim == 1 else noise @ self.factor.T)
        log_q = -0.5 * (noise**2).sum(1) - 0.5 * len(self.loc) * np.log(2.0 * np.pi) - np.log(diagonal).sum()
        return z, log_q


def from_covariance(loc: Any, covariance: Any, **more: Any) -> Answer:
    """Return the answer with a covariance matrix (D, D).

    Its factor is that of the correlations, so that coordinates of very different units lose nothing.
    """
    covariance = np.asarray(covariance, float)
    sd = np.sqrt(np.diag(covariance))
    return Answer(np.asarray(loc, float), sd[:, None] * np.linalg.cholesky(covariance / np.outer(sd, sd)), **more)
