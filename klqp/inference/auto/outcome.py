"""Outcome: what an automatic fit found, and what a verdict needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp.inference.diagnosis import GradientCheck
from klqp.inference.verdict import SMALL

__all__ = ["Outcome"]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What an automatic fit found.

    Attributes
    ----------
    params : ndarray (P,)
        Of the family, as the core has them.
    converged : bool
    why : str
    remaining : float or None
        Nats to the family's optimum; None where that was not measured.
    words : str
        The method in words.
    starts : tuple of float
        ELBOs of the fits from different modes, the best first.
    other_mode : float
        Estimated share of the posterior's mass in modes that q does not cover.
    losses : ndarray (n,)
        Minus the ELBO, by iteration; empty where the run has them already.
    n_calls, n_points : int
        Calls of the log density, and points it was evaluated at.
    interrupted : bool
        Whether Ctrl-C ended it; then q is the best that was found until then.
    cut_short : bool
        Whether Ctrl-C or a budget did.
    by_steps : bool
        Whether it was found by stochastic gradients: the run's own steps, with the run's estimator.
    rank : int
        Of the low-rank family, given or chosen; 0 for others.
    modes : ndarray (K, D) or None
        Local optima of the log density that were found.
    n_draws : int or None
        Base draws of the sample average of which q is the optimum; None where it is that of none.
    """

    params: Float64
    converged: bool
    why: str
    remaining: float | None
    words: str
    starts: tuple[float, ...] = ()
    other_mode: float = 0.0
    losses: Float64 = field(default_factory=lambda: np.empty(0))
    n_calls: int = 0
    n_points: int = 0
    interrupted: bool = False
    cut_short: bool = False
    by_steps: bool = False
    rank: int = 0
    modes: Float64 | None = None
    n_draws: int | None = None

    def record(self, check: GradientCheck | None) -> dict[str, Any]:
        """Return what a verdict needs to know of the run, given what the gradients at fresh draws say of its q."""
        rejected = None if check is None else check.converged
        # A search that was cut short may have been at the optimum all the same.
        there = self.converged or (self.cut_short and check is not None and check.certain)
        converged: bool | None = there and rejected is not False
        if self.remaining is not None and not self.remaining <= SMALL:
            converged = False
        if self.remaining is None and rejected is None:
            converged = None if converged else False
        record = {"converged": converged, "stopped": self.why, "starts": self.starts, "other_mode": self.other_mode}
        return record if self.remaining is None else record | {"remaining": self.remaining}
