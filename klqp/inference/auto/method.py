"""Method: the whole of an automatic fit, from a start to the best q, and what it says of itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.family_parts import is_normal, normal_part
from klqp.inference.auto.boosting import Growth, from_modes, grow, with_modes
from klqp.inference.auto.budget import Budget, BudgetSpent, reason
from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.laplace import MAX_DIM
from klqp.inference.auto.mixture import MixtureFit, Parts
from klqp.inference.auto.outcome import Outcome
from klqp.inference.auto.saa import Fit
from klqp.inference.auto.search import End, Search, Start, distinct
from klqp.inference.auto.student_t import START_DF, stretched
from klqp.inference.flat_view import FlatView
from klqp.inference.gaussian import full_blocks

__all__ = ["Start", "find", "start_of_steps"]

Float64 = npt.NDArray[np.float64]

_FULL_RANK_NUMBERS = 1 << 21  # draws times coordinates up to which sample averages bound the full-rank family
_NEARLY_NORMAL = 1e5  # degrees of freedom of a Student-t that stands for a Normal, taken where it is better by
_SLACK = 0.01  # nats


def start_of_steps(view: FlatView, start: Start, key: int, budget: Budget) -> tuple[Candidate, str]:
    """Return where stochastic gradients start on a view: the best Normal of modes, paths, and a q that is given.

    Takes the arguments of `find`; returns with it along what the log density does not fall, in words, or "".

    Raises
    ------
    TargetError
        If the log density is finite nowhere near the start.
    BudgetSpent
        If there is no room to find one.
    """
    search = Search(Counted(view, budget), view.spec, start, key)
    given = start.params if start.going_on else None
    if view.spec.name == "full_rank" and view.spec.dim > MAX_DIM:
        best = search.best_on_path(given)
    else:
        best = search.rank(search.candidates(given, "adam"))[0][1]
    return best, search.improper_direction(best)


def find(view: FlatView, method: str, start: Start, key: int, budget: Budget) -> Outcome | None:
    """Find the best q of a view's family.

    Parameters
    ----------
    view : FlatView
    method : {"auto", "saa", "pathfinder", "bam"}
    start : Start
    key : int
    budget : Budget

    Returns
    -------
    Outcome, or None
        None where the problem is too large for sample averages, or draws without a finite log density are everywhere:
        "auto" leaves that to stochastic gradients.

    Raises
    ------
    KeyboardInterrupt
        If it comes before there is a q; afterwards the best one is returned.
    TargetError
        If the log density is finite nowhere near the start.
    ValueError
        If the method cannot fit the family.
    """
    spec, normal = view.spec, normal_part(view.spec)
    if method == "bam" and spec.name != "full_rank":
        raise ValueError(f"method='bam' fits q='full_rank', not {spec.name!r}")
    if method == "pathfinder" and not is_normal(spec):
        raise ValueError(f"method='pathfinder' fits Normals, not {spec.name!r}")
    largest = max((b.stop - b.start for b in full_blocks(spec)), default=1)
    if 4 * largest**2 > _FULL_RANK_NUMBERS:
        if method == "auto":
            return None
        raise ValueError(f"a full-rank block of {largest} dimensions is too large for method={method!r}: use 'adam'")
    target = Counted(view, budget)
    # Of a mixture before the components are taken up later.
    before = start.params if start.going_on else None
    try:
        search = Search(target, normal, start, key)
        ranked = search.rank(search.candidates(None if spec.components else before, method))
        ends = _ends(search, ranked, method)
    except BudgetSpent as stop:
        return _nothing_new(start, str(stop), target)
    if not ends:
        return None
    if spec.components:
        try:
            return _mixture(search, target, ends, before)
        except _core.TargetError:
            if method != "auto":
                raise
            return None
    if not is_normal(spec):
        ends = _stretched(search, target, ends)
    best = _best(ends)
    finite = [end.elbo for end in ends if math.isfinite(end.elbo)]
    if start.chooses_rank and best.fit.n_draws and search.stopped is None:
        best = search.with_rank(best)
    return Outcome(
        rank=search.spec.rank,
        params=best.fit.candidate.params(spec if spec.name != "low_rank" else search.spec),
        converged=best.fit.converged,
        why=best.fit.why,
        remaining=None if math.isnan(best.fit.remaining) else best.fit.remaining,
        starts=tuple(sorted(finite, reverse=True)),
        other_mode=search.mass_elsewhere([best.fit.candidate], best.elbo),
        words=search.rank_words + _words(method, best.fit, search.n_starts, target),
        losses=np.array(best.fit.losses),
        n_calls=target.n_calls,
        n_points=target.n_points,
        interrupted=isinstance(search.stopped, KeyboardInterrupt),
        cut_short=search.stopped is not None,
        modes=search.modes,
        n_draws=best.fit.n_draws or None if method in ("auto", "saa") else None,
    )


def _ends(search: Search, ranked: list[tuple[float, Candidate]], method: str) -> list[End]:
    """Return the fits from the best candidates; none where "auto" is to leave it to stochastic gradients."""
    elbo, best = ranked[0]
    improper = search.improper_direction(best)
    if improper:
        return [End(Fit(best, False, improper, math.nan, 0, [-elbo]), elbo)]
    if method == "pathfinder":
        return [End(Fit(best, True, "it is the best Normal of the paths", math.nan, 0, [-elbo]), elbo)]
    try:
        return search.fits(ranked, method)
    except _core.TargetError:
        if method != "auto":
            raise
        return []


def _nothing_new(start: Start, why: str, target: Counted) -> Outcome:
    return Outcome(
        rank=target.view.spec.rank,
        params=start.params,
        converged=False,
        why=why,
        remaining=None,
        words="nothing was found",
        n_calls=target.n_calls,
        n_points=target.n_points,
        cut_short=True,
    )


def _best(ends: list[End]) -> End:
    return min((end for end in ends if end.refined), key=lambda end: (not end.fit.converged, -end.elbo))


def _stretched(search: Search, target: Counted, ends: list[End]) -> list[End]:
    """Return the Student-t fits that start from Normal ones."""
    spec, best = target.view.spec, _best(ends)
    df = spec.df or START_DF
    out: list[End] = []
    try:
        for end in (end for end in ends if end.refined and search.stopped is None):
            found = stretched(target, end.fit, search.key, target.view.coordinate)
            nearly = replace(end.fit.candidate, df=spec.df or _NEARLY_NORMAL)
            elbo, limit = search.elbo(found.candidate), search.elbo(nearly)
            if elbo < limit - _SLACK:
                found, elbo = replace(found, candidate=nearly), limit
            out.append(End(found, elbo))
    except (KeyboardInterrupt, BudgetSpent) as stop:
        search.stopped = stop
    if out or search.stopped is None:
        return out
    fit = replace(best.fit, candidate=replace(best.fit.candidate, df=df), converged=False, why=reason(search.stopped))
    return [End(fit, best.elbo)]


def _mixture(search: Search, target: Counted, ends: list[End], before: Float64 | None) -> Outcome:
    """Return the mixture that grows from Normal fits of different modes, and from the q before."""
    spec = target.view.spec
    starts = tuple(sorted((end.elbo for end in ends if math.isfinite(end.elbo)), reverse=True))
    best = _best(ends)
    alone = Parts(search.spec, np.ones(1), (best.fit.candidate,))
    if search.stopped is not None or not best.fit.converged:
        fit = MixtureFit(alone, False, best.fit.why, best.fit.remaining, best.fit.n_draws, best.fit.losses)
        growth = Growth(fit, 1, 0)
    else:
        usable = sorted((end for end in ends if end.fit.converged), key=lambda end: -end.elbo)
        modes = [usable[i] for i in distinct([end.fit.candidate for end in usable])]
        parts = from_modes(
            search.spec, [end.fit.candidate for end in modes], [end.elbo for end in modes], spec.components
        )
        if before is not None:
            parts = with_modes(Parts.of_params(spec, before), parts, spec.components)
        growth = grow(target, parts, spec.components, search.key)
        search.stopped = growth.stopped
    parts, fit = growth.fit.parts, growth.fit
    if search.stopped is None and search.is_worse(parts, alone):
        parts = alone
    elbo = search.elbo_of_parts(parts) if search.stopped is None else -fit.losses[-1]
    n = len(parts.normals)
    how = f"sample averages over {fit.n_draws} scrambled Sobol draws of each component, L-BFGS"
    words = (
        f"{how}, {n} component{'s' if n > 1 else ''} ({growth.n_modes} from modes, {growth.n_tried} others tried; "
        f"{search.n_starts} starts; {target.n_calls} calls, {target.n_points} points)"
    )
    return Outcome(
        rank=0,
        params=parts.params(spec),
        converged=fit.converged,
        why=fit.why,
        remaining=None if math.isnan(fit.remaining) else fit.remaining,
        starts=starts,
        other_mode=search.mass_elsewhere(parts.normals, elbo),
        words=words,
        losses=np.array(best.fit.losses + fit.losses),
        n_calls=target.n_calls,
        n_points=target.n_points,
        interrupted=isinstance(search.stopped, KeyboardInterrupt),
        cut_short=search.stopped is not None,
        modes=search.modes,
    )


def _words(method: str, fit: Fit, n_starts: int, target: Counted) -> str:
    how = {
        "auto": f"sample averages over {fit.n_draws} scrambled Sobol draws, L-BFGS",
        "saa": f"sample averages over {fit.n_draws} scrambled Sobol draws, L-BFGS",
        "bam": f"batch and match with {fit.n_draws} draws",
        "pathfinder": "Pathfinder",
    }[method]
    cost = f"{target.n_calls} calls, {target.n_points} points"
    return f"{how}, from {fit.candidate.origin} ({n_starts} starts; {cost})"
