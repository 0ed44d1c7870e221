"""Stop rules: when a run is over. Combine them with ``|``: the first one met stops the run."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from klqp._checks import positive_int

__all__ = ["Evaluations", "Plateau", "Steps", "StopRule", "TimeLimit"]


class StopRule:
    """A rule, or several joined by ``|``. Rules are checked by the core after each step."""

    def specs(self) -> list[tuple[str, list[float]]]:
        """Return the core's description of the rules."""
        raise NotImplementedError

    def parts(self) -> list[StopRule]:
        """Return the rules that are joined, or this one."""
        return [self]

    def __or__(self, other: StopRule) -> StopRule:
        if not isinstance(other, StopRule):
            return NotImplemented
        return _AnyOf((self, other))


@dataclass(frozen=True)
class _AnyOf(StopRule):
    rules: tuple[StopRule, ...]

    def parts(self) -> list[StopRule]:
        return [part for rule in self.rules for part in rule.parts()]

    def specs(self) -> list[tuple[str, list[float]]]:
        return [spec for rule in self.rules for spec in rule.specs()]


@dataclass(frozen=True)
class Steps(StopRule):
    """Stop after `n` steps of this run."""

    n: int

    def __post_init__(self) -> None:
        positive_int("the number of steps", self.n)

    def specs(self) -> list[tuple[str, list[float]]]:
        """Return the core's description of the rule."""
        return [("steps", [float(self.n)])]


@dataclass(frozen=True)
class TimeLimit(StopRule):
    """Stop after the first step that ends `seconds` or more of wall-clock time after the run began."""

    seconds: float

    def __post_init__(self) -> None:
        _check_number("the time limit", self.seconds)
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"the time limit must be positive and finite, not {self.seconds}")

    def specs(self) -> list[tuple[str, list[float]]]:
        """Return the core's description of the rule."""
        return [("time", [float(self.seconds)])]


@dataclass(frozen=True)
class Evaluations(StopRule):
    """Stop before the log density is evaluated at more than `n` points in this run.

    A step evaluates it at `n_samples` points; fits without steps may take several hundred at once, and end with the
    best q until then.
    """

    n: int

    def __post_init__(self) -> None:
        positive_int("the number of evaluations", self.n)

    def specs(self) -> list[tuple[str, list[float]]]:
        """Return the core's description of the rule."""
        return [("evaluations", [float(self.n)])]


@dataclass(frozen=True)
class Plateau(StopRule):
    """Stop when the ELBO no longer rises by more than its Monte Carlo error.

    The run is cut into windows of `window` steps. It stops when in each of the last `patience` windows the mean loss
    fell by at most `n_se` standard errors of the difference to the window before; the standard errors are from ten
    batch means a window. With a learning rate that decays over the run a plateau says only that the run could have
    been shorter; with `schedule="constant"` it is reached within the noise of that learning rate.

    Parameters
    ----------
    window : int, default 200
        Steps a window, at least 20.
    patience : int, default 3
        Windows in a row without a rise.
    n_se : float, default 1.0
        Standard errors by which the loss must fall to count as a rise of the ELBO.
    """

    window: int = 200
    patience: int = 3
    n_se: float = 1.0

    def __post_init__(self) -> None:
        positive_int("the window", self.window)
        positive_int("patience", self.patience)
        _check_number("n_se", self.n_se)
        if self.window < 20:
            raise ValueError(f"the window must be at least 20 steps, not {self.window}")
        if not math.isfinite(self.n_se):
            raise ValueError(f"n_se must be finite, not {self.n_se}")

    def specs(self) -> list[tuple[str, list[float]]]:
        """Return the core's description of the rule."""
        return [("plateau", [float(self.window), float(self.patience), float(self.n_se)])]


def _check_number(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{what} must be a number, not {value!r}")
