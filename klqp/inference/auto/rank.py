"""Rank: how many columns a low-rank Normal needs; columns are added where q is too narrow, and dropped where idle.

Formulas: docs/maths.md 11.9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.budget import BudgetSpent, reason
from klqp.inference.auto.candidate import Candidate, resized, unit_precision
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.saa import Fit, optimise
from klqp.inference.auto.spectrum import gains, narrow_directions, usable

__all__ = ["MOST_COLUMNS", "START_RANK", "Grown", "first_rank", "fit_with_rank", "with_narrow_directions", "with_rank"]

Float64 = npt.NDArray[np.float64]

MOST_COLUMNS = 64
START_RANK = 12  # where no curvature says how many: as many as the pairs of a path can give
LEFT, LEFT_SHARE = 0.01, 0.01  # nats that more columns may still bring, and as a share of what the columns bring
_IDLE = 0.002  # nats: a column that brings less is not worth adding, whatever the number of its like
_AT_ONCE = 24  # columns that may be added before the others are fitted anew
_ROUNDS = 6
_SLACK = 0.1  # nats by which losses over other numbers of draws may differ


@dataclass(frozen=True)
class Grown:
    """A fit whose rank was chosen.

    Attributes
    ----------
    spec : FamilySpec
        With the rank.
    fit : Fit
    why : str
        Why that rank, in words.
    stopped : KeyboardInterrupt, BudgetSpent or None
        What cut it short.
    """

    spec: _core.FamilySpec
    fit: Fit
    why: str
    stopped: KeyboardInterrupt | BudgetSpent | None = None


def with_rank(spec: _core.FamilySpec, rank: int) -> _core.FamilySpec:
    """Return the low-rank family with another rank."""
    return _core.FamilySpec("low_rank", spec.dim, rank=rank, scale=spec.scale)


def first_rank(precision: Float64) -> int:
    """Return the columns that a Normal with a precision matrix (D, D) needs beside the best mean-field one."""
    gained = gains(np.asarray(np.linalg.eigvalsh(unit_precision(precision)), np.float64))
    return max(1, min(MOST_COLUMNS, len(gained), _enough(gained, LEFT)))


def with_narrow_directions(target: Counted, spec: _core.FamilySpec, q: Candidate, key: int) -> Candidate:
    """Return a candidate without correlations, with columns along the directions in which it is too narrow."""
    found = narrow_directions(target, spec, replace(q, rest=np.zeros_like(q.rest)), spec.rank, key)
    if found is None:
        return q
    values, directions = (part[: spec.rank] for part in found)
    return resized(spec, replace(q, rest=_columns(values, directions)))


def _columns(values: Float64, directions: Float64) -> Float64:
    """Return the columns (D, n) with which q is as wide as the posterior along directions in which it is too narrow."""
    return (directions * np.sqrt(1.0 / usable(values) - 1.0)[:, None]).T


def fit_with_rank(
    target: Counted, spec: _core.FamilySpec, fit: Fit, key: int, name: Callable[[int], str] = str
) -> Grown:
    """Add columns to a fit, or drop some, until others would bring next to nothing.

    Parameters
    ----------
    target : Counted
    spec : FamilySpec
        The low-rank family that was fitted.
    fit : Fit
    key : int
    name : callable
        Name of a coordinate.
    """
    losses = list(fit.losses)
    why = f"{_ROUNDS} rounds of adding columns were not enough"
    try:
        for _ in range(_ROUNDS):
            new, why = _wider(target, spec, fit.candidate, key)
            if new is None:
                break
            wider, again = _refitted(target, spec, new, fit, key, name)
            losses += again.losses
            if not again.losses[-1] < fit.losses[-1] + _SLACK:
                why = "with more columns the search ended lower"
                break
            spec, fit = wider, again
        new = _without_idle(spec, fit.candidate)
        if new is not None:
            spec, fit = _refitted(target, spec, new, fit, key, name)
            losses += fit.losses
    except (KeyboardInterrupt, BudgetSpent) as stop:
        cut_short = replace(fit, converged=False, why=reason(stop), losses=losses)
        return Grown(spec, cut_short, "cut short while columns were added", stop)
    except _core.TargetError:
        why = "with more columns draws had no finite log density"
    return Grown(spec, replace(fit, losses=losses), why)


def _refitted(
    target: Counted, spec: _core.FamilySpec, start: Candidate, fit: Fit, key: int, name: Callable[[int], str]
) -> tuple[_core.FamilySpec, Fit]:
    new = with_rank(spec, start.rest.shape[1])
    return new, optimise(target, new, start, key, name, n_draws=fit.n_draws)


def _wider(target: Counted, spec: _core.FamilySpec, q: Candidate, key: int) -> tuple[Candidate | None, str]:
    """Return a candidate with the columns that are missing, or None and why there is none."""
    free = min(MOST_COLUMNS, spec.dim) - spec.rank
    if free <= 0:
        return None, f"the most that are tried are {MOST_COLUMNS}" if spec.dim > MOST_COLUMNS else "there are no more"
    n = min(free, _AT_ONCE)
    found = narrow_directions(target, spec, q, n, key)
    if found is None:
        return None, "gradients near q are not all finite, so that more were not tried"
    values, directions = found
    gained = gains(values)
    tolerance = LEFT + LEFT_SHARE * float(_brought(q).sum())
    n_more = min(n, _enough(gained[: 2 * n], tolerance))
    if n_more == 0:
        return None, f"more columns would bring about {gained.sum():.1g} nats"
    return replace(q, rest=np.concatenate([q.rest, _columns(values[:n_more], directions[:n_more])], axis=1)), ""


def _without_idle(spec: _core.FamilySpec, q: Candidate) -> Candidate | None:
    """Return a candidate without the columns that bring next to nothing; None where there are none such."""
    brought = _brought(q)
    needed = max(1, _enough(brought, 0.5 * LEFT))
    return resized(with_rank(spec, needed), q) if needed < spec.rank else None


def _brought(q: Candidate) -> Float64:
    """Return the nats that each direction of the columns brings, the most first; exact where the others stay.

    At an optimum Lambda B = Sigma^-1 B, so that a direction with s^2 times the diagonal variance costs, if it is left
    out, (log(1 + s^2) - s^2 / (1 + s^2)) / 2.
    """
    square = np.linalg.svd(q.rest / q.scale[:, None], compute_uv=False) ** 2
    return np.asarray(0.5 * (np.log1p(square) - square / (1.0 + square)))


def _enough(gained: Float64, tolerance: float) -> int:
    """Return the fewest columns after which all others, which are not idle, bring no more than a tolerance."""
    order = np.sort(gained[gained > _IDLE])[::-1]
    after = order.sum() - np.cumsum(order)
    return 0 if order.sum() <= tolerance else int(np.argmax(after <= tolerance)) + 1
