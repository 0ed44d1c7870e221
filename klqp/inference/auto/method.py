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
from klqp.inference.auto.candidate import Candidate, from_path, from_precision
from klqp.inference.auto.climb import climb, start_points
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.laplace import MAX_DIM, polished_mode
from klqp.inference.auto.outcome import Outcome
from klqp.inference.auto.pathfinder import along
from klqp.inference.auto.properness import improper_direction
from klqp.inference.auto.saa import Fit, optimise
from klqp.inference.flat_view import FlatView
from klqp.inference.gaussian import pack, unpack

__all__ = ["METHODS", "choose", "find", "start"]

Float64 = npt.NDArray[np.float64]

METHODS = ("auto", "adam", "saa", "pathfinder", "bam")
# Keywords that ask for so many steps of such an optimizer, and others that are about steps, in whatever number.
_STEPS = ("n_iter", "n_samples", "optimizer")
_ABOUT_STEPS = (
    *("stop", "entropy", "gradient", "baseline", "enumerate", "draws", "init_scale", "dtype"),
    *("scale", "kl_scaling", "var_list", "logdir", "log_vars", "debug"),
)

_FULL_RANK_NUMBERS = 1 << 21  # draws times coordinates up to which sample averages bound the full-rank family
_ELBO_DRAWS = 32
_PATHS, _POINTS = 3, 8  # paths, and points of each, that Normals are tried from
_CLOSE = 1.0  # nats a coordinate by which a Normal's ELBO may be below its mode's mass
_PLAIN = (1.0, 0.1)  # standard deviations of Normals around the start that are tried, too
_WORSE = 10.0  # nats below the best ELBO at which other modes are no longer followed
_APART = 3.0  # standard deviations between different modes
_MODES = 3


def choose(method: str, options: Mapping[str, Any], has_feeds: bool) -> str:
    """Return the method for a run with these keywords: one of `METHODS`, or "steps" for a given number of them.

    Raises
    ------
    ValueError
        If there is none of that name, or keywords contradict it.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, not {method!r}")
    steps = [name for name in _STEPS if options.get(name) is not None]
    about = [name for name in _ABOUT_STEPS if options.get(name) is not None] + (["feeds"] if has_feeds else [])
    if method in ("adam", "auto"):
        return "steps" if steps else "adam" if about else method
    if steps or about:
        given = ", ".join(steps + about)
        raise ValueError(f"{given}: method={method!r} takes no steps of an optimizer; use 'adam'")
    return method


def start(view: FlatView, centre: Float64, key: int, given: Float64 | None) -> tuple[Candidate, str]:
    """Return where stochastic gradients start on a view: the best Normal of modes, paths, and a q that is given.

    Takes the arguments of `find`; returns with it along what the log density does not fall, in words, or "".

    Raises
    ------
    TargetError
        If the log density is finite nowhere near the start.
    """
    search = _Search(Counted(view), centre, key)
    spec = view.spec
    if spec.name == "full_rank" and spec.dim > MAX_DIM:
        best = search.best_on_path(given)
    else:
        best = search.rank(search.candidates(given, "adam"))[0][1]
    return best, search.improper_direction(best)


def find(view: FlatView, method: str, centre: Float64, key: int, before: Float64 | None = None) -> Outcome | None:
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
    if spec.name == "full_rank" and 4 * spec.dim**2 > _FULL_RANK_NUMBERS:
        if method == "auto":
            return None
        raise ValueError(f"q='full_rank' in {spec.dim} dimensions is too large for method={method!r}: use 'adam'")
    target = Counted(view)
    search = _Search(target, centre, key)
    candidates = search.candidates(before, method)
    ranked = search.rank(candidates)
    fits = _fits(search, ranked, method)
    if not fits:
        return None
    elbos = [search.elbo(fit.candidate) for fit in fits]
    order = sorted(range(len(fits)), key=lambda i: (not fits[i].converged, -elbos[i]))
    best = fits[order[0]]
    finite = [elbos[i] for i in order if math.isfinite(elbos[i])]
    other = search.mass_elsewhere(best.candidate, elbos[order[0]])
    return Outcome(
        params=pack(spec, best.candidate.loc, best.candidate.scale, best.candidate.rest),
        converged=best.converged,
        why=best.why,
        remaining=None if math.isnan(best.remaining) else best.remaining,
        starts=tuple(sorted(finite, reverse=True)),
        other_mode=other,
        words=_words(method, best, search.n_starts, target),
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

    def __init__(self, target: Counted, centre: Float64, key: int) -> None:
        self._target, self._spec, self._key, self._centre = target, target.view.spec, key, centre
        self.interrupted = False
        self.smooth = True  # whether a mode with its curvature is near the mass around it
        rng = np.random.Generator(np.random.Philox(key=key))
        self._paths = climb(target, start_points(centre, rng), rng)
        self.n_starts = len(self._paths)
        self._order = sorted(range(self.n_starts), key=lambda i: self._paths[i].f[-1])
        self._modes: list[_Mode] = []
        # Draws in other scrambles than those of the optimisation.
        self._noise = base_draws(_ELBO_DRAWS, self._spec.noise_dim, key, 1 << 20)

    def candidates(self, before: Float64 | None, method: str) -> list[Candidate]:
        """Return the candidates: the q before, the Normals of the modes' curvatures, and those along the best paths.

        The latter are left out where a mode's Normal is near the mass around that mode.
        """
        spec: _core.FamilySpec = self._spec
        out: list[Candidate] = []
        if before is not None:
            out.append(Candidate(*unpack(spec, before), origin="the q before", start=-1))
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

    def best_on_path(self, before: Float64 | None) -> Candidate:
        """Return the best Normal of the best path, or the q before, one at a time: a factor of theirs may be large."""
        path, i = self._paths[self._order[0]], self._order[0]
        best, highest = None, -math.inf
        given = [] if before is None else [Candidate(*unpack(self._spec, before), origin="the q before", start=-1)]
        for candidate in (*given, *(from_path(self._spec, normal, i) for normal in along(path, _spread(len(path.x))))):
            elbo = self.elbo(candidate)
            if best is None or elbo > highest:
                best, highest = candidate, elbo
        assert best is not None
        return best

    def _new_mode(self, i: int) -> _Mode | None:
        path = self._paths[i]
        if self._spec.dim > MAX_DIM or len(self._modes) >= _MODES:
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
        z = np.concatenate([c.draws(self._spec, self._noise) for c in usable])
        logp = np.where(np.isfinite(z).all(1), self._target.evaluate(np.nan_to_num(z))[0], -np.inf)
        elbos = [self._elbo_of(c, part) for c, part in zip(usable, logp.reshape(len(usable), -1), strict=True)]
        return sorted(zip(elbos, usable, strict=True), key=lambda pair: -pair[0])

    def elbo(self, candidate: Candidate) -> float:
        """Return the ELBO from the common draws."""
        return self._elbo_of(candidate, self._target.evaluate(candidate.draws(self._spec, self._noise))[0])

    def _elbo_of(self, candidate: Candidate, logp: Float64) -> float:
        params = pack(self._spec, candidate.loc, candidate.scale, candidate.rest)
        usable = logp[np.isfinite(logp)]
        if len(usable) < 0.9 * len(logp):
            return -math.inf
        return float(usable.mean()) + _core.Member(self._spec, params).entropy()

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
            return match(self._target, self._spec, candidate, self._key)
        return optimise(self._target, self._spec, candidate, self._key, self._target.view.coordinate)

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
