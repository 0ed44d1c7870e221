"""Budget: what an automatic fit may cost."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from klqp.stopping import Evaluations, StopRule, TimeLimit

__all__ = ["Budget", "BudgetSpent", "reason"]


class BudgetSpent(Exception):
    """The budget is spent; says which."""


@dataclass(frozen=True)
class Budget:
    """Wall-clock time from now on, and points at which the log density may be evaluated."""

    seconds: float = math.inf
    points: float = math.inf
    _began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, rule: StopRule | None) -> Budget | None:
        """Return the budget that a stop rule is; None where it has parts about steps."""
        parts = [] if rule is None else rule.parts()
        if not all(isinstance(part, (TimeLimit, Evaluations)) for part in parts):
            return None
        seconds = min((part.seconds for part in parts if isinstance(part, TimeLimit)), default=math.inf)
        return cls(seconds, min((part.n for part in parts if isinstance(part, Evaluations)), default=math.inf))

    def check(self, n_points: int) -> None:
        """Raise BudgetSpent if that many points in all are too many, or time is up."""
        if n_points > self.points:
            raise BudgetSpent(f"the budget of {self.points:g} evaluations was spent")
        if self.seconds < math.inf and time.monotonic() - self._began >= self.seconds:
            raise BudgetSpent(f"the time limit of {self.seconds:g} s was reached")


def reason(stop: BaseException) -> str:
    """Return in words why a KeyboardInterrupt or BudgetSpent ended a fit."""
    return str(stop) if isinstance(stop, BudgetSpent) else "it was interrupted"
