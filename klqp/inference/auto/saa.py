"""Sample-average optimisation: the ELBO over fixed base draws, maximised by L-BFGS in preconditioned coordinates.

Sources: Giordano, Ingram and Broderick, *Black box variational inference with a deterministic objective* (2024);
Burroni, Domke and Sheldon, *Sample average approximation for black-box variational inference* (2023). Formulas:
docs/maths.md 11.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.family_parts import df_of, is_normal, normal_part
from klqp.inference.auto.base_draws import base_draws, fewest_draws
from klqp.inference.auto.budget import BudgetSpent, reason
from klqp.inference.auto.candidate import Candidate, divergence
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.df_curvature import with_df
from klqp.inference.auto.laplace import MAX_DIM
from klqp.inference.auto.lbfgs import Memory, Path, drive, minimise
from klqp.inference.gaussian import factor_times, full_blocks, locations, no_rest, pack, parts, unpack, whiten

__all__ = [
    "Fit",
    "Frame",
    "Objective",
    "SampleAverages",
    "first_inverse",
    "inverse_diagonal",
    "location_inverse",
    "n_draws_at_first",
    "optimise",
]

Float64 = npt.NDArray[np.float64]

TOLERANCE = 1e-3  # nats that the optimiser may leave
GOAL, MOST, A_PARAMETER = 4e-3, 2e-2, 5e-6  # nats that the finite number of draws may cost: least, most, by parameter
_MAX_ITER, _FEWEST_ITER = 500, 20
_MOST_ITERATIONS = 2000  # in all stages
_BUDGET = 1 << 28  # coordinates of the points at which the log density is evaluated, in all stages
_MEMORY = 20
_MOST_NUMBERS = 1 << 23  # of base draws
_MOST_AT_FIRST = 1 << 18  # likewise, where many iterations are to be expected: low rank
_MOST_DRAWS = 1 << 14
_GROWN = 14.0  # log scales above those of the start at which the run has no bound
_AWAY = 1e7  # likewise of locations, in scales of the start
_UNBOUNDED = "the ELBO rises without bound"
_SMALLEST_CURVATURE = 1e-6
_FAR = 20.0  # times the goal from which on a stage with twice as many draws would not be the last
_TRIPS = 3  # times that a run may go so far, and be preconditioned anew, before it is given up
_FURTHER = 2.0  # a fit that moved further than this, in log scales or scales, is preconditioned anew


@dataclass(frozen=True)
class Frame:
    """Coordinates y in which a candidate is a standard Normal: z = loc + factor y.

    The factor is triangular in blocks that are so in the family and diagonal elsewhere, so that a member of the family
    in y is one in z.
    """

    spec: _core.FamilySpec  # in y; scales through exp
    loc: Float64
    scale: Float64  # (D,)
    lower: Float64 | None  # as `klqp.inference.gaussian.unpack` has it

    @classmethod
    def of(cls, family: _core.FamilySpec, start: Candidate) -> Frame:
        """Return the coordinates of a candidate."""
        spec = _core.FamilySpec(
            family.name, family.dim, rank=family.rank, scale="exp", df=family.df, blocks=family.blocks
        )
        return cls(spec, start.loc, start.scale, start.rest if full_blocks(family) else None)

    def params(self, start: Candidate) -> Float64:
        """Return the parameters in y of the candidate that the coordinates are of."""
        dim = self.spec.dim
        rest = start.rest / start.scale[:, None] if self.spec.name == "low_rank" else no_rest(self.spec)
        return pack(self.spec, np.zeros(dim), np.ones(dim), rest, start.df)

    def to_z(self, y: Float64) -> Float64:
        """Return points z (S, D) of points y."""
        if self.lower is None:
            return self.loc + y * self.scale
        return self.loc + factor_times(self.spec, self.scale, self.lower, y)

    def pull(self, grad: Float64) -> Float64:
        """Return gradients in y (S, D) of gradients in z."""
        return grad * self.scale if self.lower is None else whiten(self.spec, self.scale, self.lower, grad)

    def candidate(self, params: Float64, like: Candidate) -> Candidate:
        """Return the member that parameters in y stand for."""
        loc, scale, rest = unpack(self.spec, params)
        loc_z = self.to_z(loc[None])[0]
        df = None if like.df is None else df_of(self.spec, params)
        if self.lower is None:
            return replace(like, loc=loc_z, scale=self.scale * scale, rest=self.scale[:, None] * rest, df=df)
        rest_z = np.zeros_like(rest)
        for b in full_blocks(self.spec):
            own = slice(0, b.stop - b.start)
            factor = (np.diag(self.scale[b]) + self.lower[b, own]) @ (np.diag(scale[b]) + rest[b, own])
            rest_z[b, own] = np.tril(factor, -1)
        return replace(like, loc=loc_z, scale=self.scale * scale, rest=rest_z, df=df)

    def factor(self) -> Float64:
        """Return the factor (D, D)."""
        diagonal = np.diag(self.scale)
        return diagonal if self.lower is None else diagonal + self.lower

    @property
    def log_det(self) -> float:
        """Logarithm of the factor's determinant."""
        return float(np.log(self.scale).sum())


class Objective:
    """Minus the ELBO over fixed base draws, in the parameters of a frame."""

    def __init__(self, target: Counted, frame: Frame, noise: Float64) -> None:
        self._target, self._frame, self._noise = target, frame, noise

    def __call__(self, params: Float64) -> tuple[float, Float64]:
        """Return value and gradient (P,); an infinite value where a draw has no finite log density."""
        values, gradients = self.batch(params[None])
        return float(values[0]), gradients[0]

    def of_draws(self, member: _core.Member, logp: Float64, grad: Float64) -> tuple[float, Float64]:
        """Return value and gradient (P,) from log densities (S,) and gradients (S, D) at the draws of a member."""
        if not (np.isfinite(logp).all() and np.isfinite(grad).all()):
            return math.inf, np.zeros_like(member.entropy_gradient())
        value = -float(logp.mean()) - member.entropy() - self._frame.log_det
        gradient = member.pullback(self._noise, np.ascontiguousarray(self._frame.pull(grad) / -len(logp)))
        return value, gradient - member.entropy_gradient()

    def batch(self, params: Float64) -> tuple[Float64, Float64]:
        """Return values (n,) and gradients (n, P) at several parameters (n, P), with one call of the log density."""
        values, gradients = np.full(len(params), math.inf), np.zeros(params.shape)
        members, points = {}, []
        for i, p in enumerate(params):
            member = _core.Member(self._frame.spec, p)
            if not np.isfinite(member.entropy()):
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                z = self._frame.to_z(member.transform(self._noise))
            if np.isfinite(z).all():
                members[i] = member
                points.append(z)
        if not members:
            return values, gradients
        logp, grad = self._target.evaluate(np.concatenate(points) if len(points) > 1 else points[0])
        n = len(self._noise)
        for k, (i, member) in enumerate(members.items()):
            own = slice(k * n, (k + 1) * n)
            values[i], gradients[i] = self.of_draws(member, logp[own], grad[own])
        return values, gradients


@dataclass(frozen=True)
class Fit:
    """The end of a sample-average optimisation.

    Attributes
    ----------
    candidate : Candidate
    converged : bool
    why : str
    remaining : float
        Nats to the family's optimum, estimated with independent draws.
    n_draws : int
    losses : list of float
        Minus the ELBO over the draws of its stage, one for each iteration.
    """

    candidate: Candidate
    converged: bool
    why: str
    remaining: float
    n_draws: int
    losses: list[float]


def n_draws_at_first(spec: _core.FamilySpec) -> int:
    """Return the number of base draws of the first stage.

    The problem is bounded with more than D + 1 draws (full rank; likewise each block), rank + 2 or 2; moments are made
    exact with 4 E, those of blocks and of a low-rank factor's columns with 4 times their size. Those of a Student-t are
    not exact, and take four times as many.
    """
    if not is_normal(spec):
        return 4 * n_draws_at_first(normal_part(spec))
    if spec.name == "full_rank":
        return max(128, fewest_draws(2 * spec.dim))
    if spec.name == "block":
        return max(512, fewest_draws(2 * max(spec.blocks)))
    enough = fewest_draws(spec.noise_dim)
    most = _MOST_NUMBERS if spec.name == "mean_field" else _MOST_AT_FIRST
    return max(128, enough) if enough * spec.noise_dim <= most else max(512, fewest_draws(spec.rank))


def optimise(
    target: Counted,
    family: _core.FamilySpec,
    start: Candidate,
    key: int,
    name: Callable[[int], str] = str,
    n_draws: int = 0,
) -> Fit:
    """Maximise the ELBO from a candidate by `SampleAverages`, to the end."""
    averages = SampleAverages(target, family, start, key, name, n_draws)
    while not averages.done:
        averages.advance()
    return averages.fit()


class SampleAverages:
    """Maximises the ELBO from a candidate; the draws are doubled until their number costs next to nothing.

    Parameters
    ----------
    target : Counted
    family : FamilySpec
    start : Candidate
    key : int
        Of the base draws: with the same key and number of draws all starts have the same objective.
    name : callable
        Name of a coordinate.
    n_draws : int
        Draws of the first stage, a power of two, if more than `n_draws_at_first`.

    Attributes
    ----------
    candidate : Candidate
        The best member so far.
    losses : list of float
        Minus the ELBO over the draws of its stage, one for each iteration.
    done : bool
    """

    def __init__(
        self,
        target: Counted,
        family: _core.FamilySpec,
        start: Candidate,
        key: int,
        name: Callable[[int], str] = str,
        n_draws: int = 0,
    ) -> None:
        self._target, self._family, self._key, self._name = target, family, key, name
        self.candidate, self.losses, self.done = start, list[float](), False
        self._n, self._stage, self._trips = max(n_draws, n_draws_at_first(family)), 0, 0
        self._groups = [slice(0, family.rank)] if family.name == "low_rank" else full_blocks(family)
        self._frame: Frame | None = None
        self._params: Float64 = np.empty(0)
        self._converged, self._why, self._remaining = False, "it has not begun", math.nan
        self._before: Candidate | None = None  # of the stage before, where it converged
        self._most_points = target.n_points + _BUDGET // family.noise_dim
        self._goal = min(MOST, max(GOAL, A_PARAMETER * family.n_params))

    def fit(self) -> Fit:
        """Return what has been reached."""
        return Fit(self.candidate, self._converged, self._why, self._remaining, self._n, self.losses)

    def advance(self) -> None:
        """Find the optimum over the present number of draws, and decide whether more are worth it.

        Raises
        ------
        TargetError
            If however narrow the start is made, draws have no finite log density.
        KeyboardInterrupt, BudgetSpent
            `fit` then returns the best member until that time.
        """
        try:
            path = self._search()
            while self._astray(path) and self._trips < _TRIPS and self._affordable():
                self._trips, self._frame = self._trips + 1, None
                path = self._search()
            self._converged, self._why = path.converged, path.why
            self._remaining = self._estimate_remaining(path)
        except (KeyboardInterrupt, BudgetSpent) as stop:
            self.give_up(stop)
            raise
        helps = self._goal < self._remaining < math.inf and (path.converged or "iterations" in path.why)
        n = self._next_draws()
        self.done = not (helps and self._affordable(n))
        if not self.done:
            self._before = self.candidate if path.converged and n == 2 * self._n else None
            self._n, self._stage = n, self._stage + 1

    def give_up(self, stop: BaseException) -> None:
        """End here, because of an interrupt or a budget."""
        self._converged, self._why, self._remaining, self.done = False, reason(stop), math.nan, True

    @property
    def converged(self) -> bool:
        """Whether the optimum over the draws so far was found."""
        return self._converged

    def _noise(self, independent: bool = False) -> Float64:
        width, scramble = self._family.noise_dim, 2 * self._stage + independent
        return base_draws(self._n, width, self._key, scramble, self._groups)

    def _search(self) -> Path:
        """Search from the candidate, in its coordinates where these are to be renewed."""
        noise = self._noise()
        if self._frame is None:
            self.candidate, found = narrow_enough(self._target, self._family, self.candidate, noise)
            self._frame = Frame.of(self._family, self.candidate)
            self._params = self._frame.params(self.candidate)
        else:
            found = self._target.evaluate(self.candidate.draws(self._family, noise))
        affordable = (self._most_points - self._target.n_points) // self._n
        max_iter = min(_MAX_ITER, max(_FEWEST_ITER, affordable))
        memory = Memory(_MEMORY, first_inverse(self._frame, self._params, noise, found[1]))
        guard = _Guard(self._frame.spec, self._params, self._name)
        path = minimise(
            self._params, tolerance=TOLERANCE, max_iter=max_iter, memory=memory, guard=guard, keep_path=False
        )
        objective = Objective(self._target, self._frame, noise)
        try:
            path.tell(*objective.of_draws(_core.Member(self._frame.spec, self._params), *found))
            drive([path], objective.batch)
        finally:  # what was reached counts, whatever ended it
            if len(path.f) and math.isfinite(path.f[-1]):
                self.losses += path.f.tolist()
                self._params = path.x[-1]
                self.candidate = self._frame.candidate(self._params, self.candidate)
        return path

    def _astray(self, path: Path) -> bool:
        """Whether the end is so far from where the search was preconditioned that it may be no optimum."""
        assert self._frame is not None
        return path.why.startswith(_UNBOUNDED) or _moved(self._frame.spec, self._params)

    def _next_draws(self) -> int:
        """Return the number of draws of the next stage."""
        width = self._family.noise_dim
        if self._remaining <= _FAR * self._goal:
            return 2 * self._n
        # The next few stages would only do what one can that has exact moments.
        return max(2 * self._n, min(fewest_draws(width), 1 << int(math.log2(_MOST_NUMBERS / width))))

    def _affordable(self, n: int = 0) -> bool:
        """Whether there is room for another search, over n draws where they are to be more."""
        few = n <= _MOST_DRAWS and n * self._family.noise_dim <= _MOST_NUMBERS
        points = self._target.n_points + _FEWEST_ITER * self._n
        return few and len(self.losses) < _MOST_ITERATIONS and points < self._most_points

    def _estimate_remaining(self, path: Path) -> float:
        """Return the nats to the optimum over all draws.

        Two estimates: from the gradient over independent draws, and from the optimum over half as many, which is three
        times as far from this one, in squares, as this one is from that over all draws. Heavy tails make the first too
        large and the second too small: their geometric mean is taken. Of a Student-t, whose degrees of freedom hardly
        matter where they are many, the first alone.
        """
        assert self._frame is not None
        objective = Objective(self._target, self._frame, self._noise(independent=True))
        remaining = _remaining(path.memory, objective, self._params)
        if self._before is None or not path.converged or not is_normal(self._family):
            return remaining
        moved = max(0.0, divergence(self._family, self._before, self.candidate, self._noise()))
        return min(remaining, math.sqrt(remaining * moved / 3.0))


def narrow_enough(
    target: Counted, family: _core.FamilySpec, start: Candidate, noise: Float64
) -> tuple[Candidate, tuple[Float64, Float64]]:
    """Return the candidate, made so narrow that all draws have a finite log density, and what these have."""
    for _ in range(25):
        logp, grad = target.evaluate(start.draws(family, noise))
        if np.isfinite(logp).all() and np.isfinite(grad).all():
            return start, (logp, grad)
        start = start.shrunk(0.5)
    raise _core.TargetError(
        "the log density is not finite at some draws however close they are to the start: give init_loc inside the "
        "support, and repair a function that returns NaN"
    )


class _Guard:
    """Says when a run goes to infinity."""

    def __init__(self, spec: _core.FamilySpec, params: Float64, name: Callable[[int], str]) -> None:
        self._spec, self._name = spec, name
        self._loc, scale, rest = unpack(spec, params)
        self._spread = _spread(scale, rest)

    def __call__(self, params: Float64) -> str:
        loc, scale, rest = unpack(self._spec, params)
        with np.errstate(over="ignore"):
            spread = _spread(scale, rest)
        for size, most in ((np.log(spread / self._spread), _GROWN), (np.abs(loc - self._loc) / self._spread, _AWAY)):
            at = int(np.argmax(size))
            if not size[at] <= most:
                return (
                    f"{_UNBOUNDED} as q spreads along {self._name(at)}: the posterior seems to be "
                    "improper; give that coordinate a prior"
                )
        return ""


def _spread(scale: Float64, rest: Float64) -> Float64:
    """Return the standard deviations (D,) of a member."""
    return np.asarray(np.maximum(np.sqrt(scale**2 + (rest**2).sum(1)), 1e-300))


def first_inverse(frame: Frame, params: Float64, noise: Float64, grad: Float64) -> Callable[[Float64], Float64]:
    """Return an approximate inverse Hessian of the objective, as a product with a vector.

    Locations: `location_inverse`, or, where that would be too large, the covariance of a low-rank q, as for its
    columns. Degrees of freedom: `with_df`. Others: `inverse_diagonal`.

    Parameters
    ----------
    frame : Frame
    params : ndarray (P,)
        Of the member whose draws have the gradients.
    noise : ndarray (S, E)
    grad : ndarray (S, D)
        In z.
    """
    spec, dim, at = frame.spec, frame.spec.dim, locations(frame.spec)
    diagonal, location = inverse_diagonal(spec), location_inverse(frame, params, noise, grad)
    _, scale, rest = unpack(spec, params)

    def times(v: Float64) -> Float64:
        out = diagonal * v
        if spec.name == "low_rank":
            for part in (out[None, :dim], out[2 * dim :].reshape(-1, dim)):
                part[:] = scale**2 * part + (part @ rest) @ rest.T
        if location is not None:
            out[at] = location(v[at])
        return out

    return times if is_normal(spec) or spec.df else with_df(times, spec, params, noise)


def inverse_diagonal(spec: _core.FamilySpec) -> Float64:
    """Return the diagonal (P,) of the objective's inverse Hessian where q is a standard Normal, as the posterior is.

    Locations: 1. Scales, or their logarithms: 1 / 2. Other entries of the factor: 1, times the square of what the core
    multiplies them with.
    """
    diagonal = np.full(spec.n_params, float(max(1, spec.rank)))
    for part in parts(spec):
        own = np.full(part.factor.stop - part.factor.start, 0.5)
        if part.full:
            own[:] = part.size
            own[np.cumsum(np.arange(1, part.size + 1)) - 1] = 0.5
        diagonal[part.loc], diagonal[part.factor] = 1.0, own
    return diagonal


def location_inverse(
    frame: Frame, params: Float64, noise: Float64, grad: Float64
) -> Callable[[Float64], Float64] | None:
    """Return the locations' part of the inverse Hessian, as a product with vectors (D,) or (n, D).

    Minus E[Hessian of log p], in y, is -Cov(y)^-1 Cov(y, grad) by Stein's identity. None where there are too many
    dimensions for a matrix, too few draws, or numbers out of range (a low-rank q with a scale that vanishes).
    """
    if frame.spec.dim > MAX_DIM or len(noise) < 4 * noise.shape[1]:
        return None
    y = _core.Member(frame.spec, params).transform(noise)
    y -= y.mean(0)
    with np.errstate(all="ignore"):
        second, cross = y.T @ y, y.T @ frame.pull(grad)
    if not (np.isfinite(second).all() and np.isfinite(cross).all()):
        return None
    hessian = -np.linalg.solve(second, cross)
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    values = np.maximum(np.abs(values), _SMALLEST_CURVATURE * max(1.0, float(np.abs(values).max())))
    return lambda v: (v @ vectors / values) @ vectors.T


def _remaining(memory: Memory, objective: Objective, params: Float64) -> float:
    """Return the nats to the optimum over all draws, from the gradient over independent ones.

    That gradient g differs from 0 by the error of either set of draws, so that g^T H g / 2 is twice the loss expected.
    """
    value, gradient = objective(params)
    if not math.isfinite(value):
        return math.inf
    return 0.25 * float(gradient @ memory.times(gradient))


def _moved(spec: _core.FamilySpec, params: Float64) -> bool:
    loc, scale, _ = unpack(spec, params)
    return bool(np.any(np.abs(np.log(scale)) > math.log(_FURTHER)) or np.any(np.abs(loc) > _FURTHER))
