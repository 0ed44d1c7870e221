"""Budget: what an automatic fit may cost."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from klqp.stopping import Evaluations, StopRule, TimeLimit

__all__ = ["Budget", "BudgetSpent", "reason"]


class BudgetSpent(Exception):
    """The budget is spent; says which."""


@dataclass
class Budget:
    """Wall-clock time from now on, and points at which the log density may be evaluated; keeps the account of both."""

    seconds: float = math.inf
    points: float = math.inf
    n_spent: int = field(default=0, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)

    @staticmethod
    def is_one(rule: StopRule) -> bool:
        """Return whether a stop rule is a budget alone, without parts about steps."""
        return all(isinstance(part, (TimeLimit, Evaluations)) for part in rule.parts())

    @classmethod
    def of(cls, rule: StopRule | None) -> Budget:
        """Return the budget that a stop rule holds, whatever else is in it."""
        parts = [] if rule is None else rule.parts()
        seconds = min((part.seconds for part in parts if isinstance(part, TimeLimit)), default=math.inf)
        return cls(seconds, min((part.n for part in parts if isinstance(part, Evaluations)), default=math.inf))

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def room(self, n_points: int) -> float:
        """Return how many times that many points may still be spent."""
        return max(0.0, (self.points - self.n_spent) / n_points)

    def spend(self, n_points: int) -> None:
        """Take so many points; raise BudgetSpent instead if they are too many, or time is up."""
        if self.room(n_points) < 1.0:
            raise BudgetSpent(f"the budget of {self.points:g} evaluations was spent")
        if self.elapsed >= self.seconds:
            raise BudgetSpent(f"the time limit of {self.seconds:g} s was reached")
        self.n_spent += n_points


def reason(stop: BaseException) -> str:
    """Return in words why a KeyboardInterrupt or BudgetSpent ended a fit."""
    return str(stop) if isinstance(stop, BudgetSpent) else "it was interrupted"
