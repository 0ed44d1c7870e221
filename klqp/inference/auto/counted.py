"""Counted: a log density that counts what it was asked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from klqp.inference.auto.budget import Budget
from klqp.inference.flat_view import FlatView

__all__ = ["Counted"]

Float64 = npt.NDArray[np.float64]


class Counted:
    """The log density of a view, with the number of calls and of points.

    Raises BudgetSpent instead of a call that the budget has no room for. A search tries points far out, where a user's
    function may overflow: NumPy's floating-point warnings are off.
    """

    def __init__(self, view: FlatView, budget: Budget | None = None) -> None:
        self.view, self.n_calls, self.n_points = view, 0, 0
        self._budget = Budget() if budget is None else budget

    def evaluate(self, z: Float64) -> tuple[Float64, Float64]:
        """Return log density (S,) and gradient (S, D) at points (S, D)."""
        self._budget.spend(len(z))
        self.n_calls += 1
        self.n_points += len(z)
        with np.errstate(all="ignore"):
            return self.view.evaluate(z)

    def minus(self, z: Float64) -> tuple[Float64, Float64]:
        """Return what a search for a mode minimises: infinite where the log density or its gradient cannot be used."""
        logp, grad = self.evaluate(z)
        with np.errstate(over="ignore"):  # where squares overflow there is no direction to go in
            good = np.isfinite(logp) & np.isfinite((grad**2).sum(1))
        return np.where(good, -logp, np.inf), np.where(good[:, None], -grad, 0.0)
