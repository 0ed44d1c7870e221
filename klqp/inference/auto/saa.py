"""Sample-average optimisation: the ELBO over fixed base draws, maximised by L-BFGS in preconditioned coordinates.

Sources: Giordano, Ingram and Broderick, *Black box variational inference with a deterministic objective* (2024);
Burroni, Domke and Sheldon, *Sample average approximation for black-box variational inference* (2023). Formulas:
docs/maths.md 11.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.base_draws import base_draws, fewest_draws
from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.laplace import MAX_DIM
from klqp.inference.auto.lbfgs import Memory, Path, drive, minimise
from klqp.inference.gaussian import factor_times, full_blocks, locations, no_rest, pack, parts, unpack, whiten

__all__ = ["Fit", "Frame", "n_draws_at_first", "optimise"]

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
        spec = _core.FamilySpec(family.name, family.dim, rank=family.rank, scale="exp", blocks=family.blocks)
        return cls(spec, start.loc, start.scale, start.rest if full_blocks(family) else None)

    def params(self, start: Candidate) -> Float64:
        """Return the parameters in y of the candidate that the coordinates are of."""
        dim = self.spec.dim
        rest = start.rest / start.scale[:, None] if self.spec.name == "low_rank" else no_rest(self.spec)
        return pack(self.spec, np.zeros(dim), np.ones(dim), rest)

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
        if self.lower is None:
            return Candidate(loc_z, self.scale * scale, self.scale[:, None] * rest, like.origin, like.start)
        scale_z, rest_z = self.scale * scale, np.zeros_like(rest)
        for b in full_blocks(self.spec):
            own = slice(0, b.stop - b.start)
            factor = (np.diag(self.scale[b]) + self.lower[b, own]) @ (np.diag(scale[b]) + rest[b, own])
            rest_z[b, own] = np.tril(factor, -1)
        return Candidate(loc_z, scale_z, rest_z, like.origin, like.start)

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
        member = _core.Member(self._frame.spec, params)
        if not np.isfinite(member.entropy()):
            return math.inf, np.zeros_like(params)
        with np.errstate(over="ignore", invalid="ignore"):
            z = self._frame.to_z(member.transform(self._noise))
        if not np.isfinite(z).all():
            return math.inf, np.zeros_like(params)
        logp, grad = self._target.evaluate(z)
        if not (np.isfinite(logp).all() and np.isfinite(grad).all()):
            return math.inf, np.zeros_like(params)
        value = -float(logp.mean()) - member.entropy() - self._frame.log_det
        gradient = member.pullback(self._noise, np.ascontiguousarray(self._frame.pull(grad) / -len(z)))
        return value, gradient - member.entropy_gradient()

    def batch(self, params: Float64) -> tuple[Float64, Float64]:
        """Return values (n,) and gradients (n, P) at several parameters, one by one."""
        out = [self(p) for p in params]
        return np.array([value for value, _ in out]), np.array([gradient for _, gradient in out])


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
    exact with 4 E, those of blocks and of a low-rank factor's columns with 4 times their size.
    """
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
    """Maximise the ELBO from a candidate; the draws are doubled until their number costs next to nothing.

    Parameters
    ----------
    target : Counted
    family : FamilySpec
    start : Candidate
    key : int
        Of the base draws.
    name : callable
        Name of a coordinate.
    n_draws : int
        Draws of the first stage, a power of two, if more than `n_draws_at_first`.

    Raises
    ------
    TargetError
        If however narrow the start is made, draws have no finite log density.
    """
    n, width, losses = max(n_draws, n_draws_at_first(family)), family.noise_dim, []
    stage, trips, frame = 0, 0, None
    groups = [slice(0, family.rank)] if family.name == "low_rank" else full_blocks(family)
    budget, goal = target.n_points + _BUDGET // width, min(MOST, max(GOAL, A_PARAMETER * family.n_params))
    while True:
        noise = base_draws(n, width, key, 2 * stage, groups)
        if frame is None:
            start = narrow_enough(target, family, start, noise)
            frame = Frame.of(family, start)
            params = frame.params(start)
        max_iter = min(_MAX_ITER, max(_FEWEST_ITER, (budget - target.n_points) // n))
        path = _minimise(target, frame, params, noise, name, max_iter)
        losses += path.f
        params = path.x[-1]
        start = frame.candidate(params, start)
        affordable = len(losses) < _MOST_ITERATIONS and target.n_points + _FEWEST_ITER * n < budget
        # Far from where it was preconditioned the end of a search may be no optimum: look again from there.
        astray = path.why.startswith(_UNBOUNDED) or _moved(frame.spec, params)
        if astray and trips < _TRIPS and affordable:
            trips, frame = trips + 1, None
            continue
        others = base_draws(n, width, key, 2 * stage + 1, groups)
        remaining = _remaining(path.memory, Objective(target, frame, others), params)
        helps = goal < remaining < math.inf and (path.converged or "iterations" in path.why)
        more = 2 * n
        if remaining > _FAR * goal:  # the next few stages would only do what one can that has exact moments
            more = max(more, min(fewest_draws(width), 1 << int(math.log2(_MOST_NUMBERS / width))))
        if not (helps and affordable and more <= _MOST_DRAWS and more * width <= _MOST_NUMBERS):
            return Fit(start, path.converged, path.why, remaining, n, losses)
        n, stage = more, stage + 1


def narrow_enough(target: Counted, family: _core.FamilySpec, start: Candidate, noise: Float64) -> Candidate:
    """Return the candidate, made so narrow that all draws have a finite log density."""
    for _ in range(25):
        logp, grad = target.evaluate(start.draws(family, noise))
        if np.isfinite(logp).all() and np.isfinite(grad).all():
            return start
        start = start.shrunk(0.5)
    raise _core.TargetError(
        "the log density is not finite at some draws however close they are to the start: give init_loc inside the "
        "support, and repair a function that returns NaN"
    )


def _minimise(
    target: Counted, frame: Frame, params: Float64, noise: Float64, name: Callable[[int], str], max_iter: int
) -> Path:
    objective = Objective(target, frame, noise)
    memory = Memory(_MEMORY, _first_inverse(target, frame, params, noise))
    guard = _Guard(frame.spec, params, name)
    search = minimise(params, tolerance=TOLERANCE, max_iter=max_iter, memory=memory, guard=guard, keeps_points=False)
    (path,) = drive([search], objective.batch)
    return path


class _Guard:
    """Says when a run goes to infinity."""

    def __init__(self, spec: _core.FamilySpec, params: Float64, name: Callable[[int], str]) -> None:
        self._spec, self._name = spec, name
        self._loc, self._scale, _ = unpack(spec, params)

    def __call__(self, params: Float64) -> str:
        loc, scale, rest = unpack(self._spec, params)
        with np.errstate(over="ignore"):
            spread = np.maximum(np.sqrt(scale**2 + (rest**2).sum(1)), 1e-300)
        for size, most in ((np.log(spread / self._scale), _GROWN), (np.abs(loc - self._loc) / self._scale, _AWAY)):
            at = int(np.argmax(size))
            if not size[at] <= most:
                return (
                    f"{_UNBOUNDED} as q spreads along {self._name(at)}: the posterior seems to be "
                    "improper; give that coordinate a prior"
                )
        return ""


def _first_inverse(target: Counted, frame: Frame, params: Float64, noise: Float64) -> Callable[[Float64], Float64]:
    """Return an approximate inverse Hessian of the objective, as a product with a vector.

    Locations: minus E[Hessian of log p], in y, is -Cov(y)^-1 Cov(y, grad) by Stein's identity, or, where that matrix
    is too large, the precision of q. Log scales: 2. Columns of a low-rank factor: the precision of q. Other entries of
    the factor: 1. Each times the square of what the core multiplies it with.
    """
    spec, dim = frame.spec, frame.spec.dim
    diagonal = np.full(spec.n_params, float(max(1, spec.rank)))
    at = locations(spec)
    for part in parts(spec):
        own = np.full(part.factor.stop - part.factor.start, 0.5)
        if part.full:
            own[:] = part.size
            own[np.cumsum(np.arange(1, part.size + 1)) - 1] = 0.5
        diagonal[part.loc], diagonal[part.factor] = 1.0, own
    _, scale, rest = unpack(spec, params)

    def scaled(v: Float64) -> Float64:
        out = diagonal * v
        if spec.name == "low_rank":
            for part in (out[None, :dim], out[2 * dim :].reshape(-1, dim)):
                part[:] = scale**2 * part + (part @ rest) @ rest.T
        return out

    if dim > MAX_DIM or len(noise) < 4 * noise.shape[1]:
        return scaled
    y = _core.Member(spec, params).transform(noise)
    _, grad = target.evaluate(frame.to_z(y))
    y -= y.mean(0)
    hessian = -np.linalg.solve(y.T @ y, y.T @ frame.pull(grad))
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    values = np.maximum(np.abs(values), _SMALLEST_CURVATURE * max(1.0, float(np.abs(values).max())))

    def times(v: Float64) -> Float64:
        out = scaled(v)
        out[at] = vectors @ ((vectors.T @ v[at]) / values)
        return out

    return times


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
