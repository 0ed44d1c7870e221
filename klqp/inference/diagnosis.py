"""Diagnosis: what fresh draws, the gradient at them and the run's own record say of a fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.approximation import _ELBO_STREAM, Approximation, pieces
from klqp.family_parts import is_normal, normal_part, split_mixture
from klqp.inference.flat_view import FlatView
from klqp.inference.gaussian import full_blocks, unpack, whiten
from klqp.inference.verdict import SMALL, Evidence
from klqp.posterior import ELBO
from klqp.psis import smooth_weights
from klqp.reweighted import usable_ratio

__all__ = ["Draws", "GradientCheck", "check_gradients", "evidence", "fresh_draws", "still_rising"]

Float64 = npt.NDArray[np.float64]


_MOST_NUMBERS, _FEWEST_SCORES = 1 << 23, 100  # of the noise of draws whose gradients are kept, and such draws


@dataclass(frozen=True)
class Draws:
    """Fresh draws of q with their log densities; noise and gradients where these are to be had."""

    log_p: Float64  # (S,)
    log_q: Float64  # (S,)
    noise: Float64 | None = None  # (M, E) of the first M draws
    score: Float64 | None = None  # (M, D) likewise: gradient of log p - log q in z


@dataclass(frozen=True)
class GradientCheck:
    """What the gradients at fresh draws say, in coordinates in which q is a standard Normal.

    Attributes
    ----------
    score_residual : float
        Mean square of the gradient of log p - log q, by coordinate.
    remaining, std_error : float
        Nats to the optimum of the family, and the error of that estimate.
    signal_to_noise : float
        Of one draw's gradient.
    """

    score_residual: float
    remaining: float
    std_error: float
    signal_to_noise: float

    @property
    def converged(self) -> bool | None:
        """Whether the remaining nats are few; None where their error is too large to tell."""
        if self.remaining - 2.0 * self.std_error > SMALL:
            return False
        return True if self.remaining + 2.0 * self.std_error <= 5.0 * SMALL else None

    @property
    def certain(self) -> bool:
        """Whether the remaining nats are few beyond doubt."""
        return self.remaining + 2.0 * self.std_error <= SMALL


def fresh_draws(approximation: Approximation, view: FlatView | None, params: Float64, n: int, key: int) -> Draws:
    """Return fresh draws of q: those of `Posterior.elbo` with the same seed."""
    if view is None:
        return Draws(*approximation.log_ratio(n, key))
    member = _core.Member(view.spec, params)
    log_p, log_q = np.empty(n), np.empty(n)
    n_kept = min(n, max(_FEWEST_SCORES, _MOST_NUMBERS // view.spec.noise_dim))
    noise, score = np.empty((n_kept, view.spec.noise_dim)), np.empty((n_kept, view.spec.dim))
    for rows, m in pieces(n, view.spec.noise_dim):
        drawn = member.noise(key, _ELBO_STREAM, rows.start, m)
        z = member.transform(drawn)
        log_p[rows], grad = view.evaluate(z)
        log_q[rows] = member.log_density_of_noise(drawn)
        kept = min(m, n_kept - rows.start)
        if kept > 0:
            part = slice(rows.start, rows.start + kept)
            noise[part] = drawn[:kept]
            score[part] = grad[:kept] + member.precision_times(z[:kept])
    return Draws(log_p, log_q, noise, score)


def check_gradients(spec: _core.FamilySpec, params: Float64, draws: Draws) -> GradientCheck | None:
    """Return what the gradients say; None where fewer than ten draws have one.

    In the noise's coordinates minus the ELBO's Hessian at an optimum has the diagonal 1 for locations, 1 for entries of
    L below the diagonal, and 2 for log scales (by the theorems of Bonnet and Price), so that a gradient m leaves
    m^2 / 2, or m^2 / 4, nats. Squares of means are estimated without bias: less the share of their noise. Of a mixture
    each component's draws are looked at apart; the degrees of freedom of a Student-t are left out.
    """
    assert draws.noise is not None
    assert draws.score is not None
    usable = np.isfinite(draws.log_p[: len(draws.score)]) & np.isfinite(draws.score).all(1)
    n = int(usable.sum())
    if n < 10:
        return None
    noise, score = draws.noise[usable], draws.score[usable]
    sums = [share.sums() for share in _shares(spec, params, noise, score)]
    if spec.components:
        sums.append(_sums_of_weights(spec, params, noise, (draws.log_p - draws.log_q)[: len(usable)][usable]))
    remaining, variance, signal, power, squares = (sum(column) for column in zip(*sums, strict=True))
    ratio = math.sqrt(max(0.0, signal) / power) if power > 0 else math.inf
    return GradientCheck(squares / spec.dim, max(0.0, remaining), math.sqrt(variance), ratio)


class _Sums(NamedTuple):
    remaining: float
    variance: float  # of `remaining`
    signal: float
    power: float
    squares: float  # mean |u|^2


@dataclass(frozen=True)
class _Share:
    """Draws of one Normal in q, of some weight: their noise (S, E) and the gradients in its coordinates (S, E)."""

    spec: _core.FamilySpec
    weight: float
    noise: Float64
    u: Float64

    def sums(self) -> _Sums:
        """Return what these draws add."""
        spec, u, noise, n = self.spec, self.u, self.noise, len(self.u)
        if n < 2:
            return _Sums(0.0, 0.0, 0.0, 0.0, 0.0)
        mean, square = u.mean(0), (u**2).mean(0)
        w = u[:, -spec.dim :] * noise[:, -spec.dim :]
        half, quarter = [(mean, square)], [(w.mean(0), (w**2).mean(0))]
        for b in full_blocks(spec):
            first, second = u[:, b].T @ noise[:, b] / n, (u[:, b] ** 2).T @ noise[:, b] ** 2 / n
            below = np.tril_indices(b.stop - b.start, -1)
            half.append((first[below], second[below]))
        remaining, variance, signal, power = 0.0, 0.0, 0.0, 0.0
        for factor, moments in [(0.5, pair) for pair in half] + [(0.25, pair) for pair in quarter]:
            m, v = moments[0], np.maximum(0.0, moments[1] - moments[0] ** 2)
            unbiased = float((m**2 - v / (n - 1)).sum())
            remaining += factor * unbiased
            variance += factor**2 * float((2.0 * (v / n) ** 2 + 4.0 * m**2 * v / n).sum())
            signal, power = signal + unbiased, power + float(v.sum())
        variance += 2.0 * (0.25 * _correlated(u) + 0.0625 * _correlated(w)) / n**2
        share = self.weight
        squares = float((u**2).sum(1).mean())
        return _Sums(share * remaining, share**2 * variance, share**2 * signal, share**2 * power, share * squares)


def _shares(spec: _core.FamilySpec, params: Float64, noise: Float64, score: Float64) -> Iterator[_Share]:
    """Yield the draws by the Normals that made them."""
    normal = normal_part(spec)
    if spec.components:
        weights, parts = split_mixture(spec, params)
        choice = _choices(weights, noise)
        for k, part in enumerate(parts):
            own = choice == k
            yield _share_of(normal, part, float(weights[k]), noise[own, 1:], score[own])
    elif not is_normal(spec):  # the noise of the Normal that is stretched
        part = np.ascontiguousarray(params[: normal.n_params])
        stretched = _core.Member(normal, part).standardise(_core.Member(spec, params).transform(noise))
        yield _share_of(normal, part, 1.0, stretched, score)
    else:
        yield _share_of(spec, params, 1.0, noise, score)


def _share_of(spec: _core.FamilySpec, params: Float64, weight: float, noise: Float64, score: Float64) -> _Share:
    _, scale, rest = unpack(spec, params)
    with np.errstate(over="ignore"):
        return _Share(spec, weight, noise, whiten(spec, scale, rest, score))


def _choices(weights: Float64, noise: Float64) -> npt.NDArray[np.int64]:
    """Return the components that draws are of."""
    from scipy.special import ndtr  # slow to import

    chosen = np.searchsorted(np.cumsum(weights), ndtr(noise[:, 0]), side="right")
    return np.asarray(np.minimum(chosen, len(weights) - 1))


def _sums_of_weights(spec: _core.FamilySpec, params: Float64, noise: Float64, log_ratio: Float64) -> _Sums:
    """Return what the weights of a mixture add: w_k (f_k - f)^2 / 2, f_k the mean log ratio in component k."""
    weights, _ = split_mixture(spec, params)
    choice = _choices(weights, noise)
    own = [log_ratio[choice == k] for k in range(len(weights))]
    known = [k for k, f in enumerate(own) if len(f) > 1]
    share = weights[known] / weights[known].sum()
    mean = np.array([own[k].mean() for k in known])
    error = np.array([own[k].var(ddof=1) / len(own[k]) for k in known])
    away = mean - share @ mean
    signal = float((share**2 * (away**2 - error)).sum())
    remaining, variance = 0.5 * float(share @ (away**2 - error)), float((share**2 * away**2 * error).sum())
    return _Sums(remaining, variance, signal, float((share**2 * error).sum()), 0.0)


def still_rising(losses: Float64) -> bool | None:
    """Return whether the ELBO still rose over the last two fifths of a run; None for fewer than 100 steps."""
    if len(losses) < 100:
        return None
    fifth = len(losses) // 5
    before, after = (w[np.isfinite(w)] for w in (losses[-2 * fifth : -fifth], losses[-fifth:]))
    if min(len(before), len(after)) < 10:
        return None
    error = math.sqrt(_batch_variance(before) + _batch_variance(after))
    return float(before.mean() - after.mean()) - 2.0 * error > SMALL


def evidence(draws: Draws, check: GradientCheck | None, **record: Any) -> Evidence:
    """Return the evidence of fresh draws, their gradients, and the run's record."""
    n = len(draws.log_p)
    n_invalid = int((np.isnan(draws.log_p) | np.isposinf(draws.log_p)).sum())
    record |= {"n_invalid": n_invalid, "n_minus_inf": int(np.isneginf(draws.log_p).sum())}
    if check is not None:
        record |= {"score_residual": check.score_residual}
        record.setdefault("signal_to_noise", check.signal_to_noise)
        record.setdefault("remaining", check.remaining)
    record = {"score_residual": None, "signal_to_noise": None, "remaining": None} | record
    finite = np.isfinite(draws.log_p)
    if not finite.any():
        return Evidence(elbo=None, k_hat=math.inf, ess=0.0, **record)
    log_ratio = (draws.log_p - draws.log_q)[finite]
    std_error = float(log_ratio.std(ddof=1) / math.sqrt(len(log_ratio))) if len(log_ratio) > 1 else math.nan
    elbo = ELBO(float(log_ratio.mean()), std_error, n, n - len(log_ratio))
    psis = smooth_weights(usable_ratio(draws.log_p, draws.log_q)[0])
    return Evidence(elbo=elbo, k_hat=psis.k_hat, ess=psis.ess / n, **record)


def _correlated(u: Float64) -> float:
    """Return the sum of the squared covariances of different columns of u (S, D)."""
    n, dim = u.shape
    centred = u - u.mean(0)
    own = float(((centred**2).mean(0) ** 2).sum())
    if dim <= n:
        return float(max(0.0, ((centred.T @ centred) ** 2).sum() / n**2 - own))
    # The squared product of different rows has all squared covariances as its mean, without the noise of the matrix.
    products = centred @ centred.T
    np.fill_diagonal(products, 0.0)
    return float(max(0.0, (products**2).sum() / (n * (n - 1)) - own))


def _batch_variance(values: Float64) -> float:
    """Return the variance of the mean of correlated values, from ten batch means."""
    means = [float(batch.mean()) for batch in np.array_split(values, 10)]
    return float(np.var(means, ddof=1)) / 10
