"""Sample averages for mixtures of Normals: the ELBO over fixed base draws of every component, maximised by L-BFGS.

Stratified by component, so that the weights have exact gradients too. Source: Morningstar, Vikram, Ham, Gallagher and
Dillon, *Automatic differentiation variational inference with mixtures* (2021). Formulas: docs/maths.md 11.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.family_parts import join_mixture, normal_part, split_mixture
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.lbfgs import Memory, drive, minimise
from klqp.inference.auto.saa import GOAL, Frame, n_draws_at_first, narrow_enough
from klqp.inference.gaussian import unpack

__all__ = ["Draws", "MixtureFit", "Parts", "draw", "refine"]

Float64 = npt.NDArray[np.float64]

_TOLERANCE = 1e-5  # nats: components trade places along flat directions, where each step promises little
_MEMORY = 20
_MOST_DRAWS = 1 << 13  # of one component
_BUDGET = 1 << 26  # coordinates of the points of one refinement
_MOST_ITERATIONS = 1000
_LEAST_WEIGHT = 1e-3  # in preconditioning, and of components that are kept
_TRIPS = 2  # times that the components' coordinates are chosen anew
_MOVED = 2.0  # scales, or log scales, beyond which they are


@dataclass(frozen=True)
class Parts:
    """A mixture: Normals of one family, and their weights (K,)."""

    spec: _core.FamilySpec  # of the components
    weights: Float64
    normals: tuple[Candidate, ...]

    @classmethod
    def of_params(cls, mixture: _core.FamilySpec, params: Float64) -> Parts:
        """Return the components in use of a mixture's parameters."""
        spec = normal_part(mixture)
        weights, parts = split_mixture(mixture, params)
        used = [k for k, weight in enumerate(weights) if weight > _LEAST_WEIGHT]
        normals = [Candidate(*unpack(spec, parts[k]), origin="the q before", start=-1) for k in used]
        return cls(spec, weights[used] / weights[used].sum(), tuple(normals))

    def params(self, mixture: _core.FamilySpec) -> Float64:
        """Return the parameters of a mixture family."""
        order = np.argsort(-self.weights, kind="stable")
        return join_mixture(mixture, self.weights[order], [self.normals[k].params(self.spec) for k in order])

    def joined(self, normal: Candidate, weight: float) -> Parts:
        """Return the mixture with one more component."""
        return Parts(self.spec, np.append((1.0 - weight) * self.weights, weight), (*self.normals, normal))

    def pruned(self) -> Parts:
        """Return the mixture without components of next to no weight."""
        kept = [k for k, weight in enumerate(self.weights) if weight > _LEAST_WEIGHT]
        return Parts(self.spec, self.weights[kept] / self.weights[kept].sum(), tuple(self.normals[k] for k in kept))

    def log_densities(self, z: Float64) -> Float64:
        """Return log (w_k N_k(z)), (S, K)."""
        members = [_core.Member(self.spec, normal.params(self.spec)) for normal in self.normals]
        return np.stack([member.log_density(z) for member in members], axis=1) + np.log(self.weights)


@dataclass(frozen=True)
class Draws:
    """Draws of all components, as many of each, with the log densities there.

    Attributes
    ----------
    z : ndarray (K, M, D)
    noise : ndarray (K, M, D)
    log_p, log_q : ndarray (K, M)
    weights : ndarray (K,)
        Of the components.
    """

    z: Float64
    noise: Float64
    log_p: Float64
    log_q: Float64
    weights: Float64

    @property
    def elbo(self) -> float:
        """The ELBO; -inf where many draws have no finite log density."""
        ratio = self.log_p - self.log_q
        finite = np.isfinite(ratio)
        if (finite.mean(1) < 0.9).any():
            return -math.inf
        return float(self.weights @ np.array([r[ok].mean() for r, ok in zip(ratio, finite, strict=True)]))

    @property
    def std_error(self) -> float:
        """Its standard error, if draws of a component were independent."""
        ratio = self.log_p - self.log_q
        variances = [r[np.isfinite(r)].var() / r.size for r in ratio]
        return math.sqrt(float(self.weights**2 @ np.array(variances)))


def draw(target: Counted, parts: Parts, n: int, key: int, scramble: int) -> Draws:
    """Return n draws, a power of two, of every component; other numbers of `scramble` give independent ones."""
    noise = np.stack([base_draws(n, parts.spec.dim, key, scramble + k) for k in range(len(parts.normals))])
    z = np.stack([normal.draws(parts.spec, eps) for normal, eps in zip(parts.normals, noise, strict=True)])
    flat = z.reshape(-1, parts.spec.dim)
    log_p = target.evaluate(flat)[0]
    log_q = _log_sum(parts.log_densities(flat))
    return Draws(z, noise, log_p.reshape(z.shape[:2]), log_q.reshape(z.shape[:2]), parts.weights)


class Objective:
    """Minus the ELBO of a mixture over fixed base draws (K, M, D), in the parameters of the components' frames.

    The parameters are (alpha (K), those of each component in its frame).
    """

    def __init__(self, target: Counted, frames: Sequence[Frame], noise: Float64) -> None:
        self._target, self._frames, self._noise = target, frames, noise
        self._inverse = [np.linalg.inv(frame.factor()) for frame in frames]

    def __call__(self, params: Float64) -> tuple[float, Float64]:
        """Return value and gradient (P,); an infinite value where a draw has no finite log density."""
        n_parts, m, _ = self._noise.shape
        alpha, parts = params[:n_parts], params[n_parts:].reshape(n_parts, -1)
        failed = math.inf, np.zeros_like(params)
        log_weights = alpha - _log_sum(alpha[None])[0]
        weights = np.exp(log_weights)
        members = [_core.Member(f.spec, np.ascontiguousarray(p)) for f, p in zip(self._frames, parts, strict=True)]
        if not all(np.isfinite(member.entropy()) for member in members):
            return failed
        with np.errstate(over="ignore", invalid="ignore"):
            z = np.concatenate(
                [f.to_z(q.transform(e)) for f, q, e in zip(self._frames, members, self._noise, strict=True)]
            )
        if not np.isfinite(z).all():
            return failed
        log_p, score = self._target.evaluate(z)
        if not (np.isfinite(log_p).all() and np.isfinite(score).all()):
            return failed
        ys = [np.ascontiguousarray((z - f.loc) @ i.T) for f, i in zip(self._frames, self._inverse, strict=True)]
        logs = np.stack([q.log_density(y) - f.log_det for f, q, y in zip(self._frames, members, ys, strict=True)], 1)
        logs += log_weights
        log_q = _log_sum(logs)
        shares = np.exp(logs - log_q[:, None])
        for k, (member, y) in enumerate(zip(members, ys, strict=True)):
            score = score + (shares[:, k : k + 1] * member.precision_times(y)) @ self._inverse[k]
        ratio = (log_p - log_q).reshape(n_parts, m).mean(1)
        each = np.repeat(weights / m, m)
        value = -float(weights @ ratio)
        gradient = np.empty_like(params)
        gradient[:n_parts] = -weights * (ratio - weights @ ratio) + each @ shares - weights
        for k, (frame, member) in enumerate(zip(self._frames, members, strict=True)):
            own = slice(k * m, (k + 1) * m)
            cot = np.ascontiguousarray(frame.pull(score[own]) * (weights[k] / m))
            begin = n_parts + k * frame.spec.n_params
            gradient[begin : begin + frame.spec.n_params] = member.score(ys[k], each * shares[:, k]) - member.pullback(
                self._noise[k], cot
            )
        return value, gradient

    def batch(self, params: Float64) -> tuple[Float64, Float64]:
        """Return values (n,) and gradients (n, P) at several parameters, one by one."""
        out = [self(p) for p in params]
        return np.array([value for value, _ in out]), np.array([gradient for _, gradient in out])


@dataclass(frozen=True)
class MixtureFit:
    """The end of an optimisation of a mixture; the attributes are those of `klqp.inference.auto.saa.Fit`."""

    parts: Parts
    converged: bool
    why: str
    remaining: float
    n_draws: int
    losses: list[float]


def refine(target: Counted, parts: Parts, key: int, *, max_iter: int | None = None) -> MixtureFit:
    """Maximise the ELBO from a mixture.

    Parameters
    ----------
    target : Counted
    parts : Parts
    key : int
        Of the base draws.
    max_iter : int, optional
        Iterations after which to stop, with the fewest draws; default: go on to the optimum, and double the draws until
        their number costs next to nothing.
    """
    n, stage, trips, losses = n_draws_at_first(parts.spec), 0, 0, []
    n_parts, budget = len(parts.normals), target.n_points + _BUDGET // parts.spec.dim
    frames: list[Frame] | None = None
    while True:
        noise = _noise(parts, n, key, 2 * stage)
        if frames is None:
            pairs = zip(parts.normals, noise, strict=True)
            normals = [narrow_enough(target, parts.spec, normal, eps)[0] for normal, eps in pairs]
            parts = Parts(parts.spec, parts.weights, tuple(normals))
            frames = [Frame.of(parts.spec, normal) for normal in normals]
            starts = [frame.params(normal) for frame, normal in zip(frames, normals, strict=True)]
            params = np.concatenate([np.log(parts.weights), *starts])
        most = max(20, min(max_iter or _MOST_ITERATIONS, (budget - target.n_points) // (n * n_parts)))
        memory = Memory(_MEMORY, _first_inverse(parts))
        objective = Objective(target, frames, noise)
        (path,) = drive(
            [minimise(params, tolerance=_TOLERANCE, max_iter=most, memory=memory, keep_path=False)], objective.batch
        )
        losses += path.f.tolist()
        params = path.x[-1]
        moved = any(_moved(f.spec, p) for f, p in zip(frames, params[n_parts:].reshape(n_parts, -1), strict=True))
        parts = _parts(parts, frames, params)
        if max_iter is not None:
            return MixtureFit(parts, path.converged, path.why, math.nan, n, losses)
        affordable = len(losses) < _MOST_ITERATIONS and target.n_points + 20 * n * n_parts < budget
        if moved and trips < _TRIPS and affordable:
            trips, frames = trips + 1, None
            continue
        value, gradient = Objective(target, frames, _noise(parts, n, key, 2 * stage + 1))(params)
        remaining = 0.25 * float(gradient @ path.memory.times(gradient)) if math.isfinite(value) else math.inf
        if not (GOAL < remaining < math.inf and affordable and path.converged and 2 * n <= _MOST_DRAWS):
            return MixtureFit(parts, path.converged, path.why, remaining, n, losses)
        n, stage = 2 * n, stage + 1


def _noise(parts: Parts, n: int, key: int, scramble: int) -> Float64:
    n_parts = len(parts.normals)
    return np.stack([base_draws(n, parts.spec.dim, key, 64 * scramble + k) for k in range(n_parts)])


def _parts(before: Parts, frames: Sequence[Frame], params: Float64) -> Parts:
    n_parts = len(frames)
    weights = np.exp(params[:n_parts] - _log_sum(params[None, :n_parts])[0])
    each = params[n_parts:].reshape(n_parts, -1)
    normals = [f.candidate(p, like) for f, p, like in zip(frames, each, before.normals, strict=True)]
    return Parts(before.spec, weights / weights.sum(), tuple(normals))


def _first_inverse(parts: Parts) -> Callable[[Float64], Float64]:
    """Return an approximate inverse Hessian: that of Normals far apart, each with the weight of its component."""
    spec, dim = parts.spec, parts.spec.dim
    one = np.ones(spec.n_params)
    if spec.name == "full_rank":
        one[dim:] = dim
        one[dim + np.cumsum(np.arange(1, dim + 1)) - 1] = 0.5
    else:
        one[dim:] = 0.5
    inverse = 1.0 / np.maximum(parts.weights, _LEAST_WEIGHT)
    diagonal = np.concatenate([inverse, np.outer(inverse, one).ravel()])
    return lambda v: diagonal * v


def _moved(spec: _core.FamilySpec, params: Float64) -> bool:
    loc, scale, _ = unpack(spec, np.ascontiguousarray(params))
    return bool(np.any(np.abs(np.log(scale)) > math.log(_MOVED)) or np.any(np.abs(loc) > _MOVED))


def _log_sum(x: Float64) -> Float64:
    """Return log sum exp over the last axis."""
    top = x.max(-1)
    return np.asarray(top + np.log(np.exp(x - top[..., None]).sum(-1)))
