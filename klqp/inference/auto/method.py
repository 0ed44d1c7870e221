"""Method: the whole of an automatic fit, from a start to the best q, and what it says of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.bam import match
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.blocks import with_blocks
from klqp.inference.auto.candidate import Candidate, from_path, from_precision, resized
from klqp.inference.auto.climb import climb, start_points
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.diagonal import polished_mode_and_diagonal
from klqp.inference.auto.laplace import MAX_DIM, polished_mode
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
from klqp.inference.auto.saa import Fit, optimise
from klqp.inference.diagnosis import GradientCheck
from klqp.inference.flat_view import FlatView
from klqp.inference.gaussian import full_blocks, pack, unpack
from klqp.inference.verdict import SMALL

__all__ = ["METHODS", "Outcome", "find", "stochastic_options"]

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
_AT_ONCE = 1 << 22  # numbers of the draws whose log densities are asked for in one call
_PATHS, _POINTS = 3, 8  # paths, and points of each, that Normals are tried from
_CLOSE = 1.0  # nats a coordinate by which a Normal's ELBO may be below its mode's mass
_PLAIN = (1.0, 0.1)  # standard deviations of Normals around the start that are tried, too
_WORSE = 10.0  # nats below the best ELBO at which other modes are no longer followed
_APART = 3.0  # standard deviations between different modes
_MODES = 3


@dataclass(frozen=True)
class Outcome:
    """What an automatic fit found.

    Attributes
    ----------
    rank : int
        Of the low-rank family, given or chosen; 0 for others.
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
    """

    rank: int
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

    def record(self, check: GradientCheck | None) -> dict[str, Any]:
        """Return what a verdict needs to know of the run, given what the gradients at fresh draws say of its q."""
        rejected = None if check is None else check.converged
        converged: bool | None = self.converged and rejected is not False
        if self.remaining is not None and not self.remaining <= SMALL:
            converged = False
        if self.remaining is None and rejected is None:
            converged = None if converged else False
        record = {"converged": converged, "stopped": self.why, "starts": self.starts, "other_mode": self.other_mode}
        return record if self.remaining is None else record | {"remaining": self.remaining}


def stochastic_options(options: Mapping[str, Any]) -> list[str]:
    """Return the keywords among `options` that ask for steps of an optimizer, or for something in them."""
    return [name for name in _STOCHASTIC if options.get(name) is not None]


def find(
    view: FlatView,
    method: str,
    centre: Float64,
    key: int,
    before: Float64 | None = None,
    chooses_rank: bool = False,
) -> Outcome | None:
    """Find the best q of a view's family.

    Parameters
    ----------
    view : FlatView
    method : {"auto", "saa", "pathfinder", "bam"}
    centre : ndarray (D,)
        Where to start.
    key : int
    before : ndarray (P,), optional
        Parameters of a q to go on from.
    chooses_rank : bool
        Whether the low-rank family's rank is to be chosen, too.

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
    spec = view.spec
    if method == "bam" and spec.name != "full_rank":
        raise ValueError(f"method='bam' fits q='full_rank', not {spec.name!r}")
    largest = max((b.stop - b.start for b in full_blocks(spec)), default=1)
    if 4 * largest**2 > _FULL_RANK_NUMBERS:
        if method == "auto":
            return None
        raise ValueError(f"a full-rank block of {largest} dimensions is too large for method={method!r}: use 'adam'")
    target = Counted(view)
    search = _Search(target, centre, key, chooses_rank)
    candidates = search.candidates(before, method)
    ranked = search.rank(candidates)
    fits = _fits(search, ranked, method)
    if not fits:
        return None
    elbos = [search.elbo(fit.candidate) for fit in fits]
    order = sorted(range(len(fits)), key=lambda i: (not fits[i].converged, -elbos[i]))
    best = fits[order[0]]
    if chooses_rank and best.n_draws and not search.interrupted:
        best = search.with_rank(best)
        elbos[order[0]] = search.elbo(best.candidate)
    finite = [elbos[i] for i in order if math.isfinite(elbos[i])]
    other = search.mass_elsewhere(best.candidate, elbos[order[0]])
    return Outcome(
        rank=search.spec.rank,
        params=pack(search.spec, best.candidate.loc, best.candidate.scale, best.candidate.rest),
        converged=best.converged,
        why=best.why,
        remaining=None if math.isnan(best.remaining) else best.remaining,
        starts=tuple(sorted(finite, reverse=True)),
        other_mode=other,
        words=search.rank_words + _words(method, best, search.n_starts, target),
        losses=np.array(best.losses),
        n_calls=target.n_calls,
        n_points=target.n_points,
        interrupted=search.interrupted,
    )


def _fits(search: _Search, ranked: list[tuple[float, Candidate]], method: str) -> list[Fit]:
    """Return the fits from the best candidates; none where "auto" is to leave it to stochastic gradients."""
    elbo, best = ranked[0]
    improper = search.improper_direction(best)
    if improper:
        return [Fit(best, False, improper, math.nan, 0, [-elbo])]
    if method == "pathfinder":
        return [Fit(best, True, "it is the best Normal of the paths", math.nan, 0, [-elbo])]
    try:
        return search.fits(ranked, method)
    except _core.TargetError:
        if method != "auto":
            raise
        return []


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


class _Search:
    """The starts of a fit, what became of them, and the candidates that they gave."""

    def __init__(self, target: Counted, centre: Float64, key: int, chooses_rank: bool = False) -> None:
        self._target, self.spec, self._key, self._centre = target, target.view.spec, key, centre
        self._chooses_rank, self.rank_words = chooses_rank, ""
        self.interrupted = False
        self.smooth = True  # whether a mode with its curvature is near the mass around it
        self._rng = np.random.Generator(np.random.Philox(key=key))
        self._paths = climb(target, start_points(centre, self._rng), self._rng)
        self.n_starts = len(self._paths)
        self._order = sorted(range(self.n_starts), key=lambda i: self._paths[i].f[-1])
        self._modes: list[_Mode] = []

    def candidates(self, before: Float64 | None, method: str) -> list[Candidate]:
        """Return the candidates: the q before, the Normals of the modes' curvatures, and those along the best paths.

        The latter are left out where a mode's Normal is near the mass around that mode.
        """
        previous = None
        if before is not None:
            previous = Candidate(*unpack(self.spec, before), origin="the q before", start=-1)
        modes = [mode for i in self._order if (mode := self._new_mode(i)) is not None]
        if self._chooses_rank:
            self._choose_first_rank(previous)
        spec: _core.FamilySpec = self.spec
        out: list[Candidate] = []
        if previous is not None:
            out.append(resized(spec, previous) if spec.name == "low_rank" else previous)
        out += [self._of_mode(mode) for mode in modes]
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

    def _choose_first_rank(self, before: Candidate | None) -> None:
        """Choose the rank to start with: from the highest mode's curvature, or else that of the q before."""
        rank = before.rest.shape[1] if before is not None else 0
        dense = bool(self._modes) and self._modes[0].precision.ndim == 2
        rank = max(rank, first_rank(self._modes[0].precision) if dense else START_RANK)
        self.spec = with_rank(self.spec, min(rank, self.spec.dim, MOST_COLUMNS))
        self.rank_words = f"rank {self.spec.rank}, from the start's curvature; "

    def with_rank(self, fit: Fit) -> Fit:
        """Return the best fit of all ranks, gone on from one; the family becomes that of its rank."""
        grown = fit_with_rank(self._target, self.spec, fit, self._key, self._target.view.coordinate)
        self.spec, self.interrupted = grown.spec, grown.interrupted
        self.rank_words = f"rank {grown.spec.rank} ({grown.why}); "
        return grown.fit

    def _of_mode(self, mode: _Mode) -> Candidate:
        found = from_precision(self.spec, mode.x, mode.precision, mode.start)
        if mode.precision.ndim == 1 and self.spec.name == "low_rank":
            return with_narrow_directions(self._target, self.spec, found, self._key)
        if mode.precision.ndim == 1 and full_blocks(self.spec):
            return with_blocks(self._target, self.spec, found, self._key)
        return found

    def _new_mode(self, i: int) -> _Mode | None:
        path = self._paths[i]
        if len(self._modes) >= _MODES:
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
        noise, elbos = self._noise(), []
        at_once = max(1, _AT_ONCE // noise.size)
        for first in range(0, len(usable), at_once):
            some = usable[first : first + at_once]
            z = np.concatenate([c.draws(self.spec, noise) for c in some])
            logp = np.where(np.isfinite(z).all(1), self._target.evaluate(np.nan_to_num(z))[0], -np.inf)
            elbos += [self._elbo_of(c, part) for c, part in zip(some, logp.reshape(len(some), -1), strict=True)]
        return sorted(zip(elbos, usable, strict=True), key=lambda pair: -pair[0])

    def elbo(self, candidate: Candidate) -> float:
        """Return the ELBO from the common draws; that of a fit with another rank from others."""
        return self._elbo_of(candidate, self._target.evaluate(candidate.draws(self.spec, self._noise()))[0])

    def _noise(self) -> Float64:
        """Return the common draws, in other scrambles than those of the optimisation."""
        return base_draws(_ELBO_DRAWS, self.spec.noise_dim, self._key, 1 << 20)

    def _elbo_of(self, candidate: Candidate, logp: Float64) -> float:
        params = pack(self.spec, candidate.loc, candidate.scale, candidate.rest)
        usable = logp[np.isfinite(logp)]
        if len(usable) < 0.9 * len(logp):
            return -math.inf
        return float(usable.mean()) + _core.Member(self.spec, params).entropy()

    def fits(self, ranked: list[tuple[float, Candidate]], method: str) -> list[Fit]:
        """Return fits from the best candidate, and from those of other modes that may be better in the end."""
        chosen: list[tuple[float, Candidate]] = []
        for elbo, candidate in ranked:
            if chosen and self.smooth and elbo < chosen[0][0] - _WORSE:
                break
            # Without a mode to go by the ELBO of q itself may have several optima: try what other starts led to.
            new = all(
                _far(candidate, other) or not (self.smooth or candidate.start == other.start) for _, other in chosen
            )
            if len(chosen) < _MODES and new:
                chosen.append((elbo, candidate))
        fits: list[Fit] = []
        try:
            for _, candidate in chosen:
                fits.append(self._fit(candidate, method))
        except KeyboardInterrupt:
            self.interrupted = True
            elbo, best = chosen[0]
            fits = fits or [Fit(best, False, "it was interrupted", math.nan, 0, [-elbo])]
        return fits

    def _fit(self, candidate: Candidate, method: str) -> Fit:
        if method == "bam":
            return match(self._target, self.spec, candidate, self._key)
        return optimise(self._target, self.spec, candidate, self._key, self._target.view.coordinate)

    def mass_elsewhere(self, best: Candidate, elbo: float) -> float:
        """Return the share of the mass of modes that q does not cover, by Laplace's formula."""
        apart = [m.log_mass for m in self._modes if _away(m.x, best) > _APART]
        if not apart or not math.isfinite(elbo):
            return 0.0
        own = max([elbo, *(m.log_mass for m in self._modes if _away(m.x, best) <= _APART)])
        others = sum(math.exp(min(700.0, mass - own)) for mass in apart)
        return others / (1.0 + others)


def _spread(n: int) -> list[int]:
    """Return places along a path of n points, denser towards its ends."""
    near = [2**k for k in range(_POINTS)]
    return sorted({i for k in near for i in (k, n - k) if 0 < i < n})


def _away(x: Float64, candidate: Candidate) -> float:
    """Return how far a point is from a candidate, in its largest coordinate's marginal standard deviations."""
    spread = np.sqrt(candidate.scale**2 + (candidate.rest**2).sum(1))
    return float(np.max(np.abs(x - candidate.loc) / spread))


def _far(a: Candidate, b: Candidate) -> bool:
    return min(_away(a.loc, b), _away(b.loc, a)) > _APART
