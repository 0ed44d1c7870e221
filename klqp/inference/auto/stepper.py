"""Stepper: the steps of a run in chunks, within its budget, and losses at other parameters than the run's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.budget import Budget, BudgetSpent

__all__ = ["MOST_STEPS", "Stepper"]

Float64 = npt.NDArray[np.float64]

MOST_STEPS = 100_000
_FIRST_EVALUATION = 1 << 30  # number of the first step of noise that serves evaluations
_WHY = {
    "steps": "its steps were used up",
    "time": "its time was used up",
    "plateau": "the losses reached a plateau",
}


class Stepper:
    """Steps of a run.

    Parameters
    ----------
    run : Run
    rules : list
        The user's stop rules, as the core has them.
    budget : Budget
        What is in these rules of one; evaluations of losses count, too, and what was spent before.
    n_samples : int
        Draws a step.
    feed : callable, optional
        Gives the run the data of its next step; returns False where there are no more.
    observe, after : callable
        Called every 100 ms within a chunk, and after each chunk.
    most : int
        Steps between two calls of `after`.
    """

    def __init__(
        self,
        run: _core.Run,
        rules: Sequence[tuple[str, Sequence[float]]],
        budget: Budget,
        n_samples: int,
        feed: Callable[[], bool] | None,
        observe: Callable[[], None],
        after: Callable[[], None],
        most: int,
    ) -> None:
        self.run, self._feed = run, feed
        # The core counts the points of steps alone.
        self._rules = [rule for rule in rules if rule[0] != "evaluations"]
        self._budget, self._n_samples = budget, n_samples
        self._observe, self._after, self._most = observe, after, most
        self._first = run.step_count
        self.n_evaluated = 0

    @property
    def one_by_one(self) -> bool:
        """Whether each step is a call of its own anyway, as it is where each has its own data."""
        return self._feed is not None

    @property
    def n_steps(self) -> int:
        """Steps taken."""
        return self.run.step_count - self._first

    def begin(self, relative_rates: Float64) -> None:
        """Let the next steps have these factors by parameter (P,), and no memory of the gradients before.

        The size of gradients far away, which Adam remembers for some hundred steps, would make them far too short.
        """
        state = self.run.snapshot()
        self.run.restore(state | {k: 0.0 * np.atleast_1d(v) for k, v in state.items() if k.startswith("optimizer/")})
        self.run.set_relative_rates(relative_rates)

    def take(self, rate: float, n: int) -> None:
        """Take `n` steps at a learning rate.

        Raises
        ------
        BudgetSpent
            If a rule of the user, the most steps, or the data's end say so.
        """
        while n > 0:
            if self.n_steps >= MOST_STEPS:
                raise BudgetSpent(f"{MOST_STEPS} steps did not suffice")
            if self._feed is not None and not self._feed():
                raise BudgetSpent("its feeds were used up")
            some = 1 if self._feed is not None else min(n, self._most)
            some = max(1, int(min(some, self._budget.room(self._n_samples))))
            self._budget.spend(some * self._n_samples)
            met = self.run.until(np.full(some, rate), self._rules, self._observe, self._budget.elapsed)
            self._after()
            if met:
                raise BudgetSpent(_WHY.get(met, met))
            n -= some

    def losses(self, points: Sequence[Float64], n: int) -> Float64 | None:
        """Return minus the ELBO (n, len(points)) at parameters (P,), each row with the same noise and data.

        The run's own parameters stay. None where data, or the budget of evaluations, ran out.
        """
        out, own = np.empty((n, len(points))), self.run.params
        cost = len(points) * self._n_samples
        try:
            for row in out:
                if self._budget.room(cost) < 1.0:
                    return None
                self._budget.n_spent += cost
                if self._feed is not None and not self._feed():
                    return None
                step = _FIRST_EVALUATION + self.n_evaluated
                for i, point in enumerate(points):
                    self.run.set_params(point)
                    row[i] = -self.run.gradient(step)[0]
                self.n_evaluated += 1
        finally:
            self.run.set_params(own)
        return out
