"""Method: the whole of an automatic fit, from a start to the best q, and what it says of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.family_parts import is_normal, normal_part
from klqp.inference.auto.bam import match
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.boosting import Growth, from_modes, grow, with_modes
from klqp.inference.auto.budget import Budget, BudgetSpent, reason
from klqp.inference.auto.candidate import Candidate, divergence, from_path, from_precision
from klqp.inference.auto.climb import climb, start_points
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.laplace import MAX_DIM, polished_mode
from klqp.inference.auto.mixture import MixtureFit, Parts, draw
from klqp.inference.auto.pathfinder import along
from klqp.inference.auto.properness import improper_direction
from klqp.inference.auto.saa import Fit, SampleAverages
from klqp.inference.auto.student_t import START_DF, stretched
from klqp.inference.diagnosis import GradientCheck
from klqp.inference.flat_view import FlatView
from klqp.inference.gaussian import unpack
from klqp.inference.verdict import SMALL
from klqp.stopping import StopRule

__all__ = ["METHODS", "Outcome", "Start", "find", "stochastic_options"]

Float64 = npt.NDArray[np.float64]

METHODS = ("auto", "adam", "saa", "pathfinder", "bam")
# Keywords that ask for steps of an optimizer, or for something in them.
_STOCHASTIC = (
    *(
        "n_iter",
        "n_samples",
        "optimizer",
        "stop",
        "entropy",
        "gradient",
        "baseline",
        "enumerate",
        "draws",
        "init_scale",
    ),
    *("dtype", "scale", "kl_scaling", "var_list", "logdir", "log_vars", "debug"),
)

_FULL_RANK_NUMBERS = 1 << 21  # draws times coordinates up to which sample averages bound the full-rank family
_ELBO_DRAWS = 32
_NEARLY_NORMAL = 1e5  # degrees of freedom of a Student-t that stands for a Normal, taken where it is better by
_SLACK = 0.01  # nats
_T_DRAWS = 1024  # the same for Student-t's, whose moments are not exact, and to compare mixtures
_PATHS, _POINTS = 3, 8  # paths, and points of each, that Normals are tried from
_CLOSE = 1.0  # nats a coordinate by which a Normal's ELBO may be below its mode's mass
_PLAIN = (1.0, 0.1)  # standard deviations of Normals around the start that are tried, too
_WORSE = 10.0  # nats below the best ELBO at which other modes are no longer followed
_APART = 3.0  # standard deviations between different modes
_MODES = 3
_CLOSE_ENDS = 0.1  # nats below the least loss over few draws at which fits are refined, too
_SAME = 0.05  # nats of divergence between fits that are one


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
    starts : tuple of float
        ELBOs of the fits from different modes, the best first.
    other_mode : float
        Estimated share of the posterior's mass in modes that q does not cover.
    words : str
        The method in words.
    losses : ndarray (n,)
        Minus the ELBO, by iteration.
    n_calls, n_points : int
        Calls of the log density, and points it was evaluated at.
    interrupted : bool
        Whether Ctrl-C ended it; then q is the best that was found until then.
    cut_short : bool
        Whether Ctrl-C or a budget did.
    modes : ndarray (K, D) or None
        Local optima of the log density that were found.
    n_draws : int or None
        Base draws of the sample average of which q is the optimum; None where it is that of none.
    """

    params: Float64
    converged: bool
    why: str
    remaining: float | None
    starts: tuple[float, ...]
    other_mode: float
    words: str
    losses: Float64
    n_calls: int
    n_points: int
    interrupted: bool = False
    cut_short: bool = False
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


def stochastic_options(options: Mapping[str, Any]) -> list[str]:
    """Return the keywords among `options` that ask for steps of an optimizer, or for something in them."""
    asked = [name for name in _STOCHASTIC if options.get(name) is not None]
    stop = options.get("stop")
    return [n for n in asked if n != "stop" or not isinstance(stop, StopRule) or Budget.of(stop) is None]


@dataclass(frozen=True)
class Start:
    """Where a search begins.

    Attributes
    ----------
    params : ndarray (P,)
        Of the q before it, around whose location starts are.
    going_on : bool
        Whether that q is the result of a run: then it is tried, and starts are there and at the modes known alone.
    modes : ndarray (K, D)
        What the run before found, if anything.
    """

    params: Float64
    going_on: bool = False
    modes: Float64 | None = None


def find(view: FlatView, method: str, start: Start, key: int, budget: Budget | None = None) -> Outcome | None:
    """Find the best q of a view's family.

    Parameters
    ----------
    view : FlatView
    method : {"auto", "saa", "pathfinder", "bam"}
    start : Start
    key : int
    budget : Budget, optional

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
    if normal.name == "full_rank" and 4 * spec.dim**2 > _FULL_RANK_NUMBERS:
        if method == "auto":
            return None
        raise ValueError(f"q={spec.name!r} in {spec.dim} dimensions is too large for method={method!r}: use 'adam'")
    target = Counted(view, budget)
    # Of a mixture before the components are taken up later.
    before = start.params if start.going_on else None
    try:
        search = _Search(target, normal, start, key, max(_MODES, spec.components))
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
    return Outcome(
        params=best.fit.candidate.params(spec),
        converged=best.fit.converged,
        why=best.fit.why,
        remaining=None if math.isnan(best.fit.remaining) else best.fit.remaining,
        starts=tuple(sorted(finite, reverse=True)),
        other_mode=search.mass_elsewhere([best.fit.candidate], best.elbo),
        words=_words(method, best.fit, search.n_starts, target),
        losses=np.array(best.fit.losses),
        n_calls=target.n_calls,
        n_points=target.n_points,
        interrupted=isinstance(search.stopped, KeyboardInterrupt),
        cut_short=search.stopped is not None,
        modes=search.modes,
        n_draws=best.fit.n_draws or None if method in ("auto", "saa") else None,
    )


@dataclass(frozen=True)
class _End:
    """What came of a candidate; `refined` is false where others were better, or led to the same q, early on."""

    fit: Fit
    elbo: float
    refined: bool = True


def _ends(search: _Search, ranked: list[tuple[float, Candidate]], method: str) -> list[_End]:
    """Return the fits from the best candidates; none where "auto" is to leave it to stochastic gradients."""
    elbo, best = ranked[0]
    improper = search.improper_direction(best)
    if improper:
        return [_End(Fit(best, False, improper, math.nan, 0, [-elbo]), elbo)]
    if method == "pathfinder":
        return [_End(Fit(best, True, "it is the best Normal of the paths", math.nan, 0, [-elbo]), elbo)]
    try:
        return search.fits(ranked, method)
    except _core.TargetError:
        if method != "auto":
            raise
        return []


def _nothing_new(start: Start, why: str, target: Counted) -> Outcome:
    nothing = np.empty(0)
    words, cost = "nothing was found", (target.n_calls, target.n_points)
    return Outcome(start.params, False, why, None, (), 0.0, words, nothing, *cost, cut_short=True)


def _best(ends: list[_End]) -> _End:
    return min((end for end in ends if end.refined), key=lambda end: (not end.fit.converged, -end.elbo))


def _stretched(search: _Search, target: Counted, ends: list[_End]) -> list[_End]:
    """Return the Student-t fits that start from Normal ones."""
    spec, best = target.view.spec, _best(ends)
    df = spec.df or START_DF
    out: list[_End] = []
    try:
        for end in (end for end in ends if end.refined and search.stopped is None):
            found = stretched(target, end.fit, search.key, target.view.coordinate)
            nearly = replace(end.fit.candidate, df=spec.df or _NEARLY_NORMAL)
            elbo, limit = search.elbo(found.candidate), search.elbo(nearly)
            if elbo < limit - _SLACK:
                found, elbo = replace(found, candidate=nearly), limit
            out.append(_End(found, elbo))
    except (KeyboardInterrupt, BudgetSpent) as stop:
        search.stopped = stop
    if out or search.stopped is None:
        return out
    fit = replace(best.fit, candidate=replace(best.fit.candidate, df=df), converged=False, why=reason(search.stopped))
    return [_End(fit, best.elbo)]


def _mixture(search: _Search, target: Counted, ends: list[_End], before: Float64 | None) -> Outcome:
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


@dataclass(frozen=True)
class _Mode:
    """A local optimum with the Normal of its curvature."""

    x: Float64
    logp: float
    precision: Float64
    start: int

    def distance(self, x: Float64) -> float:
        """Return the distance in standard deviations, by coordinate."""
        away = x - self.x
        return math.sqrt(max(0.0, float(away @ self.precision @ away)) / len(away))

    @property
    def log_mass(self) -> float:
        """Logarithm of the mass of the Normal, by Laplace's formula; -inf where the curvature is not that of a mode."""
        try:
            factor = np.linalg.cholesky(self.precision)
        except np.linalg.LinAlgError:
            return -math.inf
        return self.logp + 0.5 * len(self.x) * math.log(2.0 * math.pi) - float(np.log(np.diag(factor)).sum())


class _Search:
    """The starts of a fit, what became of them, and the candidates that they gave."""

    def __init__(self, target: Counted, spec: _core.FamilySpec, start: Start, key: int, most: int) -> None:
        self._target, self._most = target, most
        self.spec, self.key = spec, key
        self._centre = _core.Member(target.view.spec, start.params).mean()
        self.stopped: KeyboardInterrupt | BudgetSpent | None = None
        self.smooth = True  # whether a mode with its curvature is near the mass around it
        rng = np.random.Generator(np.random.Philox(key=key))
        self._paths = climb(target, self._points(start, rng), rng)
        self.n_starts = len(self._paths)
        self._order = sorted(range(self.n_starts), key=lambda i: self._paths[i].f[-1])
        self._modes: list[_Mode] = []
        # Draws in other scrambles than those of the optimisation.
        self._noise = base_draws(_ELBO_DRAWS, self.spec.noise_dim, key, 1 << 20)

    def _points(self, start: Start, rng: np.random.Generator) -> Float64:
        if not start.going_on:
            return start_points(self._centre, rng)
        return self._centre[None] if start.modes is None else np.concatenate([self._centre[None], start.modes])

    @property
    def modes(self) -> Float64 | None:
        """Local optima (K, D)."""
        return np.array([mode.x for mode in self._modes]) if self._modes else None

    def candidates(self, before: Float64 | None, method: str) -> list[Candidate]:
        """Return the candidates: the q before, the Normals of the modes' curvatures, and those along the best paths.

        The latter are left out where a mode's Normal is near the mass around that mode.
        """
        spec: _core.FamilySpec = self.spec
        out: list[Candidate] = []
        if before is not None:
            out.append(Candidate(*unpack(spec, before[: spec.n_params]), origin="the q before", start=-1))
        for i in self._order:
            mode = self._new_mode(i)
            if mode is not None:
                out.append(from_precision(spec, mode.x, mode.precision, i))
        if self._modes and method != "pathfinder":
            elbo, best = self.rank(out)[0]
            masses = [m.log_mass for m in self._modes if m.start == best.start]
            if any(-math.inf < mass < elbo + _CLOSE * spec.dim for mass in masses):
                return out
        for i in self._order[:_PATHS]:
            path = self._paths[i]
            for normal in along(path, _spread(len(path.x))):
                out.append(from_path(spec, normal, i))
        for scale in _PLAIN:
            wide = from_precision(spec, self._centre, np.eye(spec.dim) / scale**2, -1) if spec.dim <= MAX_DIM else None
            out += [wide] if wide is not None else []
        self.smooth = False
        return out

    def _new_mode(self, i: int) -> _Mode | None:
        path = self._paths[i]
        if self.spec.dim > MAX_DIM or len(self._modes) >= self._most:
            return None
        x = path.x[-1]
        if any(mode.distance(x) < 0.1 for mode in self._modes):
            return None
        last = next(iter(list(along(path, [len(path.x) - 1]))), None)
        sd = np.ones(x.size) if last is None else 1.0 / np.sqrt(last.diagonal_precision())
        found = polished_mode(self._target, x, sd)
        if found is None or any(mode.distance(found[0]) < 0.1 for mode in self._modes):
            return None
        self._modes.append(_Mode(*found, start=i))
        return self._modes[-1]

    def improper_direction(self, centre: Candidate) -> str:
        """Return along what the log density does not fall, in words; "" where it does."""
        curvatures = [mode.precision for mode in self._modes]
        return improper_direction(self._target, centre, curvatures, self._target.view.coordinate)

    def rank(self, candidates: list[Candidate]) -> list[tuple[float, Candidate]]:
        """Return the candidates with their ELBOs from common draws, the best first."""
        usable = [c for c in candidates if np.isfinite(c.loc).all() and np.all(c.scale > 0)]
        z = np.concatenate([c.draws(self.spec, self._noise) for c in usable])
        logp = np.where(np.isfinite(z).all(1), self._target.evaluate(np.nan_to_num(z))[0], -np.inf)
        elbos = [self._elbo_of(c, part) for c, part in zip(usable, logp.reshape(len(usable), -1), strict=True)]
        return sorted(zip(elbos, usable, strict=True), key=lambda pair: -pair[0])

    def elbo(self, candidate: Candidate) -> float:
        """Return the ELBO from the common draws."""
        if candidate.df is None:
            return self._elbo_of(candidate, self._target.evaluate(candidate.draws(self.spec, self._noise))[0])
        whole = self._target.view.spec
        noise = base_draws(_T_DRAWS, whole.noise_dim, self.key, 1 << 20)
        return self._elbo_of(candidate, self._target.evaluate(candidate.draws(whole, noise))[0])

    def elbo_of_parts(self, parts: Parts) -> float:
        """Return the ELBO of a mixture."""
        return draw(self._target, parts, _ELBO_DRAWS, self.key, 1 << 20).elbo

    def is_worse(self, parts: Parts, other: Parts) -> bool:
        """Return whether a mixture has a lower ELBO than another, by more than two standard errors."""
        ours, theirs = (draw(self._target, p, _T_DRAWS, self.key, 1 << 20) for p in (parts, other))
        return not ours.elbo >= theirs.elbo - 2.0 * math.hypot(ours.std_error, theirs.std_error)

    def _elbo_of(self, candidate: Candidate, logp: Float64) -> float:
        spec = self.spec if candidate.df is None else self._target.view.spec
        usable = logp[np.isfinite(logp)]
        if len(usable) < 0.9 * len(logp):
            return -math.inf
        return float(usable.mean()) + _core.Member(spec, candidate.params(spec)).entropy()

    def fits(self, ranked: list[tuple[float, Candidate]], method: str) -> list[_End]:
        """Return fits from the best candidate, and from those of other modes that may be better in the end."""
        chosen: list[tuple[float, Candidate]] = []
        for elbo, candidate in ranked:
            if chosen and self.smooth and elbo < chosen[0][0] - _WORSE:
                break
            # Without a mode to go by the ELBO of q itself may have several optima: try what other starts led to.
            new = all(
                _far(candidate, other) or not (self.smooth or candidate.start == other.start) for _, other in chosen
            )
            apart = all(_far(candidate, other) for _, other in chosen)
            if len(chosen) < (self._most if apart else _MODES) and new:
                chosen.append((elbo, candidate))
        if method == "bam":
            return self._matched(chosen)
        return self._averaged([candidate for _, candidate in chosen]) or [_unfitted(*chosen[0], self.stopped)]

    def _averaged(self, chosen: list[Candidate]) -> list[_End]:
        """Return fits by sample averages: all with few draws, those worth it to the end."""
        name = self._target.view.coordinate
        runs = [SampleAverages(self._target, self.spec, candidate, self.key, name) for candidate in chosen]
        going: list[SampleAverages] = []
        try:
            for run in runs:
                going.append(run)
                run.advance()
            going = self._worth_more(runs)
            for run in going:
                while not run.done:
                    run.advance()
        except (KeyboardInterrupt, BudgetSpent) as stop:
            self.stopped = stop
            for run in (run for run in going if not run.done):
                run.give_up(stop)
        return [_End(run.fit(), self._end_elbo(run), run in going) for run in runs if run.losses]

    def _worth_more(self, runs: list[SampleAverages]) -> list[SampleAverages]:
        """Return the run of the least loss, and others that are near it and led to another q."""
        order = sorted(runs, key=lambda run: (not run.converged, run.losses[-1]))
        best, out = order[0], list[SampleAverages]()
        for run in order:
            near = run.converged == best.converged and run.losses[-1] < best.losses[-1] + _CLOSE_ENDS
            if not out or (near and all(self._differ(run.candidate, other.candidate) for other in out)):
                out.append(run)
        return out

    def _differ(self, a: Candidate, b: Candidate) -> bool:
        return divergence(self.spec, a, b, self._noise) > _SAME

    def _end_elbo(self, run: SampleAverages) -> float:
        """Return the ELBO from the common draws, or, where no more calls are wanted, from those of the run."""
        return self.elbo(run.candidate) if self.stopped is None else -run.losses[-1]

    def _matched(self, chosen: list[tuple[float, Candidate]]) -> list[_End]:
        """Return fits by batch and match."""
        out: list[_End] = []
        try:
            for _, candidate in chosen:
                fit = match(self._target, self.spec, candidate, self.key)
                out.append(_End(fit, self.elbo(fit.candidate)))
        except (KeyboardInterrupt, BudgetSpent) as stop:
            self.stopped = stop
        return out or [_unfitted(*chosen[0], self.stopped)]

    def mass_elsewhere(self, best: Sequence[Candidate], elbo: float) -> float:
        """Return the share of the mass of modes that q, one Normal or several, does not cover, by Laplace's formula."""

        def covered(mode: _Mode) -> bool:
            return any(_away(mode.x, normal) <= _APART for normal in best)

        apart = [m.log_mass for m in self._modes if not covered(m)]
        if not apart or not math.isfinite(elbo):
            return 0.0
        own = max([elbo, *(m.log_mass for m in self._modes if covered(m))])
        others = sum(math.exp(min(700.0, mass - own)) for mass in apart)
        return others / (1.0 + others)


def _unfitted(elbo: float, candidate: Candidate, stop: KeyboardInterrupt | BudgetSpent | None) -> _End:
    """Return a candidate as it was when the fit from it was stopped before its first value."""
    assert stop is not None
    return _End(Fit(candidate, False, reason(stop), math.nan, 0, [-elbo]), elbo)


def _spread(n: int) -> list[int]:
    """Return places along a path of n points, denser towards its ends."""
    near = [2**k for k in range(_POINTS)]
    return sorted({i for k in near for i in (k, n - k) if 0 < i < n})


def _away(x: Float64, candidate: Candidate) -> float:
    """Return how far a point is from a candidate, in its largest coordinate's marginal standard deviations."""
    spread = np.sqrt(candidate.scale**2 + (candidate.rest**2).sum(1))
    return float(np.max(np.abs(x - candidate.loc) / spread))


def distinct(candidates: Sequence[Candidate]) -> list[int]:
    """Return the numbers of candidates that are in different places, the first of each place."""
    out: list[int] = []
    for i, candidate in enumerate(candidates):
        if all(_far(candidate, candidates[j]) for j in out):
            out.append(i)
    return out


def _far(a: Candidate, b: Candidate) -> bool:
    return min(_away(a.loc, b), _away(b.loc, a)) > _APART
