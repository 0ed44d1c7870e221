"""Growth of a mixture: components from the modes that were found, then more where q and the posterior differ.

Sources: Miller, Foti and Adams, *Variational boosting* (2017); Guo, Wang, Fan, Broderick and Dunson, *Boosting
variational inference* (2016). Formulas: docs/maths.md 11.8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.budget import BudgetSpent, reason
from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.mixture import Draws, MixtureFit, Parts, draw, refine

__all__ = ["Growth", "from_modes", "grow"]

Float64 = npt.NDArray[np.float64]

_WORTH = 0.01  # nats that a component must gain
_ERRORS = 2.0  # ... and standard errors
_SMALL_GAP = 0.01  # estimated nats to the posterior below which no component is tried
_CHECK_DRAWS = 4096  # of each component
_TRIAL_ITER = 60
_BUDGET = 1 << 27  # coordinates of the points at which the log density is evaluated, after which none is tried
_EM_STEPS = 20
_RIDGE = 0.05  # share of its neighbour's covariance in that of a new component
_OFFSET = 0.8  # standard deviations between a split component's halves and its centre
_NEW = 3.0  # log densities by which a mode must exceed a mixture's to be a new one
_NEGLIGIBLE = 1e-4  # weight of modes that are left out
_SCRAMBLES = 1 << 24  # of the draws that components are judged by: apart from those of the optimisation


@dataclass(frozen=True)
class Growth:
    """A mixture that has stopped growing.

    Attributes
    ----------
    fit : MixtureFit
    n_modes : int
        Components that came from modes.
    n_tried : int
        Components that were tried after these.
    stopped : KeyboardInterrupt, BudgetSpent or None
        What cut it short.
    """

    fit: MixtureFit
    n_modes: int
    n_tried: int
    stopped: KeyboardInterrupt | BudgetSpent | None = None


def from_modes(spec: _core.FamilySpec, normals: Sequence[Candidate], elbos: Sequence[float], most: int) -> Parts:
    """Return the mixture of the best Normals of different modes, by the masses that their ELBOs stand for."""
    order = sorted(range(len(normals)), key=lambda i: -elbos[i])[:most]
    masses = np.exp(np.array([elbos[i] for i in order]) - elbos[order[0]])
    kept = masses > _NEGLIGIBLE
    weights = masses[kept] / masses[kept].sum()
    return Parts(spec, weights, tuple(normals[i] for i, keep in zip(order, kept, strict=True) if keep))


def with_modes(before: Parts, found: Parts, most: int) -> Parts:
    """Return the mixture before, with what was found where it has next to no density."""
    out = before
    for normal, weight in zip(found.normals, found.weights, strict=True):
        own = _core.Member(found.spec, normal.params(found.spec)).log_density(normal.loc[None])[0] + math.log(weight)
        if len(out.normals) < most and float(np.logaddexp.reduce(out.log_densities(normal.loc[None])[0])) < own - _NEW:
            out = out.joined(normal, min(0.5, float(weight)))
    return out


def grow(target: Counted, parts: Parts, most: int, key: int) -> Growth:
    """Refine a mixture and add components while they pay, up to `most` in all.

    A component is kept if the ELBO over draws of their own rises by more than `_WORTH` nats and two standard errors.
    """
    n_modes, n_tried = len(parts.normals), 0
    enough = target.n_points + _BUDGET // parts.spec.dim
    fit = MixtureFit(parts, False, "it was interrupted", math.nan, 0, [])
    losses: list[float] = []
    try:
        fit = refine(target, parts, key)
        losses += fit.losses
        while len(fit.parts.normals) < most and target.n_points < enough:
            now = draw(target, fit.parts, _CHECK_DRAWS, key, _SCRAMBLES)
            if _gap(now) < _SMALL_GAP:
                break
            best: tuple[float, MixtureFit] | None = None
            for trial in _proposals(fit.parts, now):
                n_tried += 1
                try:
                    tried = refine(target, trial, key, max_iter=_TRIAL_ITER)
                except _core.TargetError:  # it reaches where the log density is not finite
                    continue
                then = draw(target, tried.parts.pruned(), _CHECK_DRAWS, key, _SCRAMBLES)
                gain, error = then.elbo - now.elbo, math.hypot(then.std_error, now.std_error)
                if gain > max(_WORTH, _ERRORS * error) and (best is None or gain > best[0]):
                    best = gain, replace(tried, parts=tried.parts.pruned())
            if best is None:
                break
            fit = best[1]
            losses += fit.losses
        if len(fit.parts.normals) > n_modes:
            fit = refine(target, fit.parts.pruned(), key)
            losses += fit.losses
    except (KeyboardInterrupt, BudgetSpent) as stop:
        fit = replace(fit, converged=False, why=reason(stop))
        return Growth(replace(fit, losses=losses or [math.nan]), n_modes, n_tried, stop)
    return Growth(replace(fit, parts=fit.parts.pruned(), losses=losses), n_modes, n_tried)


def _gap(draws: Draws) -> float:
    """Return an estimate of KL(q, p): the log of the mean ratio, less the mean of its log."""
    ratio = np.where(np.isfinite(draws.log_p), draws.log_p, -np.inf) - draws.log_q
    top = float(ratio.max())
    if not math.isfinite(draws.elbo):
        return math.inf
    return top + math.log(float(draws.weights @ np.exp(ratio - top).mean(1))) - draws.elbo


def _proposals(parts: Parts, draws: Draws) -> Iterator[Parts]:
    """Yield mixtures of one more component: where p exceeds q most, and a component in two."""
    missing = _where_missing(parts, draws)
    if missing is not None:
        yield missing
    yield _split(parts, draws)


def _where_missing(parts: Parts, draws: Draws) -> Parts | None:
    """Return the mixture with a component at the draw of the largest importance weight.

    Its weight, location and covariance come from a few steps of expectation maximisation on the weighted draws, with
    all else fixed.
    """
    z = draws.z.reshape(-1, parts.spec.dim)
    ratio = np.where(np.isfinite(draws.log_p), draws.log_p - draws.log_q, -np.inf).ravel()
    mass = np.repeat(draws.weights / draws.z.shape[1], draws.z.shape[1]) * np.exp(ratio - ratio.max())
    mass /= mass.sum()
    at = int(np.argmax(ratio))
    logs = parts.log_densities(z)
    near = parts.normals[int(np.argmax(logs[at]))]
    around = _covariance(near)
    loc, covariance, weight = z[at].copy(), 0.25 * around, 0.2
    log_q = draws.log_q.ravel()
    for _ in range(_EM_STEPS):
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return None
        e = np.linalg.solve(factor, (z - loc).T)
        log_new = -0.5 * (e**2).sum(0) - np.log(np.diag(factor)).sum() - 0.5 * len(loc) * math.log(2.0 * math.pi)
        share = 1.0 / (1.0 + np.exp(np.clip(log_q - log_new + math.log((1.0 - weight) / weight), -700.0, 700.0)))
        own = mass * share
        weight = min(0.9, max(0.01, float(own.sum())))
        own /= own.sum()
        loc = own @ z
        away = z - loc
        covariance = (1.0 - _RIDGE) * (own[:, None] * away).T @ away + _RIDGE * around
    normal = _normal(parts, loc, covariance)
    return None if normal is None else parts.joined(normal, weight)


def _split(parts: Parts, draws: Draws) -> Parts:
    """Return the mixture with the component that fits worst cut in two, along the axis of its largest misfit.

    The misfit of an axis u is the mean of (log p - log q) (u^T e)^2 over the component's draws, in its coordinates.
    """
    ratio = draws.log_p - draws.log_q
    ratio = np.where(np.isfinite(ratio), ratio, 0.0)
    spread = draws.weights * ratio.var(1)
    k = int(np.argmax(spread))
    normal, noise = parts.normals[k], draws.noise[k]
    centred = ratio[k] - ratio[k].mean()
    misfit = (noise * centred[:, None]).T @ noise / len(noise)
    factor = _factor(normal)
    if parts.spec.name == "full_rank":
        values, vectors = np.linalg.eigh(0.5 * (misfit + misfit.T))
        axis = vectors[:, int(np.argmax(np.abs(values)))]
    else:
        axis = np.eye(len(normal.loc))[int(np.argmax(np.abs(np.diag(misfit))))]
    step = _OFFSET * factor @ axis
    covariance = factor @ factor.T - np.outer(step, step)
    halves = [_normal(parts, normal.loc + sign * step, covariance) for sign in (-1.0, 1.0)]
    first, second = (half or normal for half in halves)
    weights = parts.weights.copy()
    weights[k] /= 2.0
    normals = [*parts.normals]
    normals[k] = first
    return Parts(parts.spec, np.append(weights, weights[k]), (*normals, second))


def _factor(normal: Candidate) -> Float64:
    return np.diag(normal.scale) + (normal.rest if normal.rest.shape[1] else 0.0)


def _covariance(normal: Candidate) -> Float64:
    factor = _factor(normal)
    return np.asarray(factor @ factor.T)


def _normal(parts: Parts, loc: Float64, covariance: Float64) -> Candidate | None:
    """Return the Normal of a location and a covariance; None where that is not positive definite."""
    rest = np.zeros((len(loc), 0))
    if parts.spec.name == "full_rank":
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return None
        return Candidate(loc, np.diag(factor).copy(), np.tril(factor, -1), "boosting", -1)
    variance = np.diag(covariance)
    return Candidate(loc, np.sqrt(variance), rest, "boosting", -1) if np.all(variance > 0) else None
