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
from klqp.inference.auto.candidate import Candidate, from_path, from_precision
from klqp.inference.auto.climb import climb, start_points
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.laplace import MAX_DIM, polished_mode
from klqp.inference.auto.mixture import MixtureFit, Parts, draw
from klqp.inference.auto.pathfinder import along
from klqp.inference.auto.properness import improper_direction
from klqp.inference.auto.saa import Fit, optimise
from klqp.inference.auto.student_t import START_DF, stretched
from klqp.inference.diagnosis import GradientCheck
from klqp.inference.flat_view import FlatView
from klqp.inference.gaussian import unpack
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
_NEARLY_NORMAL = 1e5  # degrees of freedom of a Student-t that stands for a Normal, taken where it is better by
_SLACK = 0.01  # nats
_T_DRAWS = 1024  # the same for Student-t's, whose moments are not exact, and to compare mixtures
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
    spec, normal = view.spec, normal_part(view.spec)
    if method == "bam" and spec.name != "full_rank":
        raise ValueError(f"method='bam' fits q='full_rank', not {spec.name!r}")
    if method == "pathfinder" and not is_normal(spec):
        raise ValueError(f"method='pathfinder' fits Normals, not {spec.name!r}")
    if normal.name == "full_rank" and 4 * spec.dim**2 > _FULL_RANK_NUMBERS:
        if method == "auto":
            return None
        raise ValueError(f"q={spec.name!r} in {spec.dim} dimensions is too large for method={method!r}: use 'adam'")
    target = Counted(view)
    search = _Search(target, normal, centre, key, max(_MODES, spec.components))
    # Of a mixture before the components are taken up later.
    candidates = search.candidates(None if spec.components else before, method)
    ranked = search.rank(candidates)
    fits = _fits(search, ranked, method)
    if not fits:
        return None
    if spec.components:
        try:
            return _mixture(search, target, fits, before)
        except _core.TargetError:
            if method != "auto":
                raise
            return None
    if not is_normal(spec):
        fits = _stretched(search, target, fits)
    elbos = [search.elbo(fit.candidate) for fit in fits]
    order = sorted(range(len(fits)), key=lambda i: (not fits[i].converged, -elbos[i]))
    best = fits[order[0]]
    finite = [elbos[i] for i in order if math.isfinite(elbos[i])]
    other = search.mass_elsewhere([best.candidate], elbos[order[0]])
    return Outcome(
        params=best.candidate.params(spec),
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


def _stretched(search: _Search, target: Counted, fits: list[Fit]) -> list[Fit]:
    """Return the Student-t fits that start from Normal ones."""
    df = target.view.spec.df or START_DF
    if search.interrupted:
        return [replace(fit, candidate=replace(fit.candidate, df=df)) for fit in fits]
    out: list[Fit] = []
    try:
        for fit in fits:
            found = stretched(target, fit, search.key, target.view.coordinate)
            nearly = replace(fit.candidate, df=target.view.spec.df or _NEARLY_NORMAL)
            worse = search.elbo(found.candidate) < search.elbo(nearly) - _SLACK
            out.append(replace(found, candidate=nearly) if worse else found)
    except KeyboardInterrupt:
        search.interrupted = True
        best = fits[0]
        start = replace(best.candidate, df=df)
        out = out or [replace(best, candidate=start, converged=False, why="it was interrupted")]
    return out


def _mixture(search: _Search, target: Counted, fits: list[Fit], before: Float64 | None) -> Outcome:
    """Return the mixture that grows from Normal fits of different modes, and from the q before."""
    spec = target.view.spec
    elbos = [search.elbo(fit.candidate) for fit in fits]
    starts = tuple(sorted((elbo for elbo in elbos if math.isfinite(elbo)), reverse=True))
    order = sorted(range(len(fits)), key=lambda i: (not fits[i].converged, -elbos[i]))
    best = fits[order[0]]
    alone = Parts(search.spec, np.ones(1), (best.candidate,))
    if search.interrupted or not best.converged:
        growth = Growth(MixtureFit(alone, False, best.why, best.remaining, best.n_draws, best.losses), 1, 0)
    else:
        usable = [i for i in order if fits[i].converged]
        modes = distinct([fits[i].candidate for i in usable])
        parts = from_modes(
            search.spec, [fits[usable[i]].candidate for i in modes], [elbos[usable[i]] for i in modes], spec.components
        )
        if before is not None:
            parts = with_modes(Parts.of_params(spec, before), parts, spec.components)
        growth = grow(target, parts, spec.components, search.key)
    parts, fit = growth.fit.parts, growth.fit
    search.interrupted |= growth.interrupted
    if not growth.interrupted and search.is_worse(parts, alone):
        parts = alone
    elbo = search.elbo_of_parts(parts)
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
        losses=np.array(best.losses + fit.losses),
        n_calls=target.n_calls,
        n_points=target.n_points,
        interrupted=search.interrupted,
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

    def __init__(self, target: Counted, spec: _core.FamilySpec, centre: Float64, key: int, most: int) -> None:
        self._target, self._centre, self._most = target, centre, most
        self.spec, self.key = spec, key
        self.interrupted = False
        self.smooth = True  # whether a mode with its curvature is near the mass around it
        rng = np.random.Generator(np.random.Philox(key=key))
        self._paths = climb(target, start_points(centre, rng), rng)
        self.n_starts = len(self._paths)
        self._order = sorted(range(self.n_starts), key=lambda i: self._paths[i].f[-1])
        self._modes: list[_Mode] = []
        # Draws in other scrambles than those of the optimisation.
        self._noise = base_draws(_ELBO_DRAWS, self.spec.noise_dim, key, 1 << 20)

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
            apart = all(_far(candidate, other) for _, other in chosen)
            if len(chosen) < (self._most if apart else _MODES) and new:
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
            return match(self._target, self.spec, candidate, self.key)
        return optimise(self._target, self.spec, candidate, self.key, self._target.view.coordinate)

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
