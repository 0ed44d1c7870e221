"""Search: the starts of an automatic fit, the candidates that they lead to, and the fits from the best of them."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.bam import match
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.blocks import with_blocks
from klqp.inference.auto.budget import BudgetSpent, reason
from klqp.inference.auto.candidate import Candidate, divergence, from_path, from_precision, resized
from klqp.inference.auto.climb import climb, start_points
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.diagonal import polished_mode_and_diagonal
from klqp.inference.auto.laplace import MAX_DIM, polished_mode
from klqp.inference.auto.mixture import Parts, draw
from klqp.inference.auto.pathfinder import along
from klqp.inference.auto.properness import improper_direction
from klqp.inference.auto.rank import (
    MOST_COLUMNS,
    START_RANK,
    first_rank,
    fit_with_rank,
    with_narrow_directions,
    with_rank,
)
from klqp.inference.auto.saa import Fit, SampleAverages
from klqp.inference.gaussian import full_blocks, unpack

__all__ = ["End", "Search", "Start", "distinct"]

Float64 = npt.NDArray[np.float64]

_BEFORE = "the q before"
_ELBO_DRAWS = 32
_T_DRAWS = 1024  # the same for Student-t's, whose moments are not exact, and to compare mixtures
_AT_ONCE = 1 << 22  # numbers of the draws whose log densities are asked for in one call
_PATHS, _POINTS = 3, 8  # paths, and points of each, that Normals are tried from
_CLOSE = 1.0  # nats a coordinate by which a Normal's ELBO may be below its mode's mass
_PLAIN = (1.0, 0.1)  # standard deviations of Normals around the start that are tried, too
_WORSE = 10.0  # nats below the best ELBO at which other modes are no longer followed
_APART = 3.0  # standard deviations between different modes
_MODES = 3
_CLOSE_ENDS = 0.1  # nats below the least loss over few draws at which fits are refined, too
_SAME = 0.05  # nats of divergence between fits that are one


@dataclass(frozen=True)
class Start:
    """Where a search begins.

    Attributes
    ----------
    params : ndarray (P,)
        Of the q before it, around whose location starts are.
    going_on : bool
        Whether that q is the result of a run: then it is tried, and starts are there and at the modes known alone.
    modes : ndarray (K, D) or None
        What the run before found, if anything.
    chooses_rank : bool
        Whether the low-rank family's rank is to be chosen, too.
    n_draws : int
        Base draws to begin with, if more than usual.
    """

    params: Float64
    going_on: bool = False
    modes: Float64 | None = None
    chooses_rank: bool = False
    n_draws: int = 0


@dataclass(frozen=True)
class End:
    """What came of a candidate; `refined` is false where others were better, or led to the same q, early on."""

    fit: Fit
    elbo: float
    refined: bool = True


@dataclass(frozen=True)
class _Mode:
    """A local optimum with the Normal of its curvature: a matrix (D, D), or its diagonal (D,) where D is large."""

    x: Float64
    logp: float
    precision: Float64
    start: int

    def distance(self, x: Float64) -> float:
        """Return the distance in standard deviations, by coordinate."""
        away = x - self.x
        square = away @ self.precision @ away if self.precision.ndim == 2 else self.precision @ away**2
        return math.sqrt(max(0.0, float(square)) / len(away))

    @property
    def log_mass(self) -> float:
        """Logarithm of the mass of the Normal, by Laplace's formula; -inf where the curvature is not that of a mode."""
        try:
            root = np.sqrt(self.precision) if self.precision.ndim == 1 else np.diag(np.linalg.cholesky(self.precision))
        except np.linalg.LinAlgError:
            return -math.inf
        return self.logp + 0.5 * len(self.x) * math.log(2.0 * math.pi) - float(np.log(root).sum())


class Search:
    """The starts of a fit, what became of them, and the candidates that they gave."""

    def __init__(self, target: Counted, spec: _core.FamilySpec, start: Start, key: int) -> None:
        self._target, self._start = target, start
        self._most = max(_MODES, target.view.spec.components)
        self.spec, self.key = spec, key
        self.rank_words = ""
        self._centre = _core.Member(target.view.spec, start.params).mean()
        self.stopped: KeyboardInterrupt | BudgetSpent | None = None
        self.smooth = True  # whether a mode with its curvature is near the mass around it
        self._rng = np.random.Generator(np.random.Philox(key=key))
        self._paths = climb(target, self._points(), self._rng)
        self.n_starts = len(self._paths)
        self._order = sorted(range(self.n_starts), key=lambda i: self._paths[i].f[-1])
        self._modes: list[_Mode] = []

    def _points(self) -> Float64:
        if not self._start.going_on:
            return start_points(self._centre, self._rng)
        known = self._start.modes
        return self._centre[None] if known is None else np.concatenate([self._centre[None], known])

    @property
    def modes(self) -> Float64 | None:
        """Local optima (K, D)."""
        return np.array([mode.x for mode in self._modes]) if self._modes else None

    def candidates(self, before: Float64 | None, method: str) -> list[Candidate]:
        """Return the candidates: the q before, the Normals of the modes' curvatures, and those along the best paths.

        The latter are left out where a mode's Normal is near the mass around that mode.
        """
        previous = None
        if before is not None:
            previous = Candidate(*unpack(self.spec, before[: self.spec.n_params]), origin=_BEFORE, start=-1)
        modes = [mode for i in self._order if (mode := self._new_mode(i)) is not None]
        if self._start.chooses_rank:
            self._choose_first_rank(previous)
        spec: _core.FamilySpec = self.spec
        out: list[Candidate] = []
        if previous is not None:
            out.append(resized(spec, previous) if spec.name == "low_rank" else previous)
        out += [found for mode in modes if (found := self._of_mode(mode)) is not None]
        if self._modes and out and method != "pathfinder":
            elbo, best = self.rank(out)[0]
            masses = [m.log_mass for m in self._modes if m.start == best.start]
            if any(-math.inf < mass < elbo + _CLOSE * spec.dim for mass in masses):
                return out
        for i in self._order[:_PATHS]:
            out += self._on_path(i)
        for scale in _PLAIN:
            wide = from_precision(spec, self._centre, np.eye(spec.dim) / scale**2, -1) if spec.dim <= MAX_DIM else None
            out += [wide] if wide is not None else []
        self.smooth = False
        return out

    def best_on_path(self, before: Float64 | None) -> Candidate:
        """Return the best Normal of the best path, or the q before, one at a time: a factor of theirs may be large."""
        best, highest = None, -math.inf
        given = [] if before is None else [Candidate(*unpack(self.spec, before), origin=_BEFORE, start=-1)]
        for candidate in itertools.chain(given, self._on_path(self._order[0])):
            elbo = self.elbo(candidate)
            if best is None or elbo > highest:
                best, highest = candidate, elbo
        assert best is not None
        return best

    def _on_path(self, i: int) -> Iterator[Candidate]:
        """Yield the Normals along a path, but for those whose covariance is out of the range of numbers."""
        path = self._paths[i]
        for normal in along(path, _spread(len(path.f))):
            with contextlib.suppress(np.linalg.LinAlgError):
                yield from_path(self.spec, normal, i)

    def _choose_first_rank(self, before: Candidate | None) -> None:
        """Choose the rank to start with: from the highest mode's curvature, or else that of the q before."""
        rank = before.rest.shape[1] if before is not None else 0
        dense = bool(self._modes) and self._modes[0].precision.ndim == 2
        rank = max(rank, first_rank(self._modes[0].precision) if dense else START_RANK)
        self.spec = with_rank(self.spec, min(rank, self.spec.dim, MOST_COLUMNS))
        self.rank_words = f"rank {self.spec.rank}, from the start's curvature; "

    def with_rank(self, end: End) -> End:
        """Return the best fit of all ranks, gone on from one; the family becomes that of its rank."""
        grown = fit_with_rank(self._target, self.spec, end.fit, self.key, self._target.view.coordinate)
        self.spec, self.stopped = grown.spec, grown.stopped
        self.rank_words = f"rank {grown.spec.rank} ({grown.why}); "
        return replace(end, fit=grown.fit, elbo=self._end_elbo(grown.fit))

    def _of_mode(self, mode: _Mode) -> Candidate | None:
        """Return the candidate of a mode; None where its curvature is out of the range of numbers."""
        try:
            found = from_precision(self.spec, mode.x, mode.precision, mode.start)
        except np.linalg.LinAlgError:
            return None
        if mode.precision.ndim == 1 and self.spec.name == "low_rank":
            return with_narrow_directions(self._target, self.spec, found, self.key)
        if mode.precision.ndim == 1 and full_blocks(self.spec):
            return with_blocks(self._target, self.spec, found, self.key)
        return found

    def _new_mode(self, i: int) -> _Mode | None:
        path = self._paths[i]
        if len(self._modes) >= self._most:
            return None
        x = path.x[-1]
        if any(mode.distance(x) < 0.1 for mode in self._modes):
            return None
        last = next(iter(list(along(path, [len(path.x) - 1]))), None)
        sd = np.ones(x.size) if last is None else 1.0 / np.sqrt(last.diagonal_precision())
        if self.spec.dim <= MAX_DIM:
            found = polished_mode(self._target, x, sd)
        else:
            found = polished_mode_and_diagonal(self._target, x, sd, self._rng)
        if found is None or any(mode.distance(found[0]) < 0.1 for mode in self._modes):
            return None
        self._modes.append(_Mode(*found, start=i))
        return self._modes[-1]

    def improper_direction(self, centre: Candidate) -> str:
        """Return along what the log density does not fall, in words; "" where it does."""
        curvatures = [mode.precision for mode in self._modes if mode.precision.ndim == 2]
        return improper_direction(self._target, centre, curvatures, self._target.view.coordinate)

    def rank(self, candidates: list[Candidate]) -> list[tuple[float, Candidate]]:
        """Return the candidates with their ELBOs from common draws, the best first."""
        usable = [c for c in candidates if np.isfinite(c.loc).all() and np.all(c.scale > 0)]
        noise, elbos = self._noise(), list[float]()
        at_once = max(1, _AT_ONCE // noise.size)
        for first in range(0, len(usable), at_once):
            some = usable[first : first + at_once]
            z = np.concatenate([c.draws(self.spec, noise) for c in some])
            logp = np.where(np.isfinite(z).all(1), self._target.evaluate(np.nan_to_num(z))[0], -np.inf)
            elbos += [self._elbo_of(c, part) for c, part in zip(some, logp.reshape(len(some), -1), strict=True)]
        return sorted(zip(elbos, usable, strict=True), key=lambda pair: -pair[0])

    def elbo(self, candidate: Candidate) -> float:
        """Return the ELBO from the common draws."""
        if candidate.df is None:
            return self._elbo_of(candidate, self._target.evaluate(candidate.draws(self.spec, self._noise()))[0])
        whole = self._target.view.spec
        noise = base_draws(_T_DRAWS, whole.noise_dim, self.key, 1 << 20)
        return self._elbo_of(candidate, self._target.evaluate(candidate.draws(whole, noise))[0])

    def _noise(self) -> Float64:
        """Return the common draws, in other scrambles than those of the optimisation."""
        return base_draws(_ELBO_DRAWS, self.spec.noise_dim, self.key, 1 << 20)

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

    def fits(self, ranked: list[tuple[float, Candidate]], method: str) -> list[End]:
        """Return fits from the best candidate, and from those of other modes that may be better in the end."""
        chosen: list[tuple[float, Candidate]] = []
        # Without a mode to go by the ELBO of q itself may have several optima: what other starts led to is tried. A q
        # from before that is the best still is enough.
        alike = self.smooth or ranked[0][1].origin == _BEFORE
        for elbo, candidate in ranked:
            if chosen and (elbo == -math.inf or (alike and elbo < chosen[0][0] - _WORSE)):
                break
            new = all(_far(candidate, other) or not (alike or candidate.start == other.start) for _, other in chosen)
            apart = all(_far(candidate, other) for _, other in chosen)
            if len(chosen) < (self._most if apart else _MODES) and new:
                chosen.append((elbo, candidate))
        if method == "bam":
            return self._matched(chosen)
        return self._averaged([candidate for _, candidate in chosen]) or [_unfitted(*chosen[0], self.stopped)]

    def _averaged(self, chosen: list[Candidate]) -> list[End]:
        """Return fits by sample averages: all with few draws, those worth it to the end."""
        name = self._target.view.coordinate
        n = self._start.n_draws
        runs = [SampleAverages(self._target, self.spec, candidate, self.key, name, n) for candidate in chosen]
        going: list[SampleAverages] = []
        try:
            runs = self._begun(runs, going)
            going = self._worth_more(runs)
            for run in going:
                while not run.done:
                    run.advance()
        except (KeyboardInterrupt, BudgetSpent) as stop:
            self.stopped = stop
            for run in (run for run in going if not run.done):
                run.give_up(stop)
        return [End(run.fit(), self._end_elbo(run.fit()), run in going) for run in runs if run.losses]

    @staticmethod
    def _begun(runs: list[SampleAverages], going: list[SampleAverages]) -> list[SampleAverages]:
        """Return the runs whose first stage has draws with a finite log density; `going` gets those that were begun.

        Raises
        ------
        TargetError
            If there is none.
        """
        out: list[SampleAverages] = []
        for run in runs:
            going.append(run)
            try:
                run.advance()
            except _core.TargetError:
                going.remove(run)
                if run is runs[-1] and not out:
                    raise
            else:
                out.append(run)
        return out

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
        return divergence(self.spec, a, b, self._noise()) > _SAME

    def _end_elbo(self, fit: Fit) -> float:
        """Return the ELBO from the common draws, or, where no more calls are wanted, from those of the fit."""
        return self.elbo(fit.candidate) if self.stopped is None else -fit.losses[-1]

    def _matched(self, chosen: list[tuple[float, Candidate]]) -> list[End]:
        """Return fits by batch and match."""
        out: list[End] = []
        try:
            for _, candidate in chosen:
                fit = match(self._target, self.spec, candidate, self.key)
                out.append(End(fit, self.elbo(fit.candidate)))
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


def _unfitted(elbo: float, candidate: Candidate, stop: KeyboardInterrupt | BudgetSpent | None) -> End:
    """Return a candidate as it was when the fit from it was stopped before its first value."""
    assert stop is not None
    return End(Fit(candidate, False, reason(stop), math.nan, 0, [-elbo]), elbo)


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
