"""Learning-rate schedules: the factor on the learning rate at each step of a run.

A schedule is a callable ``f(step, n_iter)`` with an int64 array ``step`` (the steps asked for, counted from 0) and the
length of the run; it returns an array of factors, or a number. Steps beyond `n_iter` are asked for as `n_iter`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Constant", "Cosine", "Exponential", "Schedule"]

Schedule: TypeAlias = "Callable[[npt.NDArray[np.int64], int], Any]"


def _check_final(final: float) -> None:
    if not 0 < final <= 1:
        raise ValueError(f"final must be in (0, 1], not {final}")


@dataclass(frozen=True)
class Constant:
    """Factor 1 at every step."""

    def __call__(self, step: npt.NDArray[np.int64], n_iter: int) -> npt.NDArray[np.float64]:
        """Return the factors at `step`."""
        return np.ones(step.shape)


@dataclass(frozen=True)
class Exponential:
    """Geometric decay from 1 to `final` over the run.

    Parameters
    ----------
    final : float, optional
        The factor that the decay ends in, at step `n_iter`; in (0, 1]. Default: ``10 / n_iter``, but at least 0.001 and
        at most 0.2, so that short runs can still go far from their start.
    """

    final: float | None = None

    def __post_init__(self) -> None:
        if self.final is not None:
            _check_final(self.final)

    def __call__(self, step: npt.NDArray[np.int64], n_iter: int) -> npt.NDArray[np.float64]:
        """Return the factors at `step`."""
        final = min(0.2, max(0.001, 10.0 / n_iter)) if self.final is None else self.final
        return np.asarray(final ** (step / n_iter))


@dataclass(frozen=True)
class Cosine:
    """Half a cosine wave from 1 down to `final` over the run (Loshchilov & Hutter 2017).

    Parameters
    ----------
    final : float, default 0.01
        The factor that the decay ends in, at step `n_iter`; in (0, 1].
    """

    final: float = 0.01

    def __post_init__(self) -> None:
        _check_final(self.final)

    def __call__(self, step: npt.NDArray[np.int64], n_iter: int) -> npt.NDArray[np.float64]:
        """Return the factors at `step`."""
        return self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * step / n_iter))


_BY_NAME: dict[str, Schedule] = {
    "constant": Constant(),
    "exponential": Exponential(),
    "cosine": Cosine(),
}


def as_schedule(schedule: str | Schedule) -> Schedule:
    """Return the schedule of that name, or the callable itself."""
    if isinstance(schedule, str):
        if schedule not in _BY_NAME:
            raise ValueError(f"schedule must be one of {sorted(_BY_NAME)} or a callable, not {schedule!r}")
        return _BY_NAME[schedule]
    if not callable(schedule):
        raise TypeError(f"schedule must be a name or a callable, not {type(schedule).__name__}")
    return schedule


def factors(schedule: Schedule, first: int, n: int, n_iter: int) -> npt.NDArray[np.float64]:
    """Return the factors of steps first, ..., first + n - 1, checked to be finite and not negative."""
    step = np.minimum(np.arange(first, first + n, dtype=np.int64), n_iter)
    given = schedule(step, n_iter)
    values = np.asarray(given)
    if values.dtype.kind not in "fiub":
        what = type(given).__name__ if values.ndim == 0 else f"an array of dtype {values.dtype}"
        raise TypeError(f"the schedule must return real numbers, not {what}")
    values = values.astype(np.float64)
    if values.shape not in ((), (n,)):
        raise ValueError(f"the schedule must return a number or an array of shape ({n},), not {values.shape}")
    bad = values[~(np.isfinite(values) & (values >= 0))]
    if bad.size:
        raise ValueError(f"the schedule must return factors that are finite and not negative, not {bad[0]}")
    return np.broadcast_to(values, (n,))
