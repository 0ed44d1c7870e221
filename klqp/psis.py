"""Pareto-smoothed importance sampling: how far draws of q can stand for draws of p, and weights that correct them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["GOOD_K", "PSIS", "smooth_weights"]

Float64 = npt.NDArray[np.float64]

GOOD_K = 0.7  # beyond it the number of draws that a correction would need grows without any practical bound
_FEWEST_TAIL_DRAWS = 5
_EQUAL = 1e-6  # log ratios that differ by less are equal


@dataclass(frozen=True)
class PSIS:
    """Smoothed importance weights.

    Attributes
    ----------
    log_weights : ndarray (S,)
        Logarithms of the smoothed weights, which sum to one; -inf where the log ratio was.
    k_hat : float
        Estimated shape of the weights' tail: ratios have finite moments up to order 1 / k_hat. Infinite where there
        are too few draws to tell, 0 where all weights are equal to one in a million.
    ess : float
        Effective number of draws, ``1 / sum(weights**2)``: at most S.
    """

    log_weights: Float64
    k_hat: float
    ess: float

    @property
    def weights(self) -> Float64:
        """The weights (S,)."""
        return np.exp(self.log_weights)

    @property
    def good_k(self) -> float:
        """The largest k_hat at which estimates from this many draws are reliable: ``min(1 - 1 / log10(S), 0.7)``."""
        n = len(self.log_weights)
        return min(1.0 - 1.0 / math.log10(n), GOOD_K) if n > 10 else 0.0


def smooth_weights(log_ratio: npt.ArrayLike) -> PSIS:
    """Return smoothed importance weights for log p - log q at draws of q.

    The largest ``min(0.2 S, 3 sqrt(S))`` ratios are replaced by expected order statistics of a generalised Pareto
    distribution that is fitted to them by the estimator of Zhang and Stephens (2009), and truncated at the largest raw
    ratio. Source: Vehtari, Simpson, Gelman, Yao and Gabry, *Pareto smoothed importance sampling* (2024).

    Parameters
    ----------
    log_ratio : array_like (S,)
        Up to a constant; -inf is a weight of 0.

    Raises
    ------
    ValueError
        If a value is NaN or +inf, or none is finite.
    """
    ratio = np.array(log_ratio, np.float64)
    if ratio.ndim != 1 or np.isnan(ratio).any() or np.isposinf(ratio).any():
        raise ValueError("log_ratio must be a vector of finite numbers or -inf")
    if not np.isfinite(ratio).any():
        raise ValueError("no log ratio is finite")
    ratio -= ratio.max()
    k_hat = math.inf
    n_tail = math.ceil(min(0.2 * ratio.size, 3.0 * math.sqrt(ratio.size)))
    if n_tail >= _FEWEST_TAIL_DRAWS:
        order = np.argsort(ratio, kind="stable")
        tail, cutoff = order[-n_tail:], float(ratio[order[-n_tail - 1]])
        equal = -float(ratio.min()) <= _EQUAL
        k_hat = 0.0 if equal else _smooth_tail(ratio, tail, cutoff)
    log_weights = ratio - _log_sum(ratio)
    return PSIS(log_weights, k_hat, float(np.exp(-_log_sum(2.0 * log_weights))))


def _smooth_tail(ratio: Float64, tail: npt.NDArray[np.int64], cutoff: float) -> float:
    """Replace the tail's ratios, in ascending order, by expected order statistics; return k_hat."""
    base = math.exp(cutoff)
    exceedances = np.exp(ratio[tail]) - base
    n_positive = int((exceedances > 0).sum())
    if n_positive < _FEWEST_TAIL_DRAWS:
        return math.inf
    k_hat, sigma = _fit_pareto(exceedances[-n_positive:])
    if math.isfinite(k_hat):
        probabilities = (np.arange(tail.size) + 0.5) / tail.size
        smoothed = np.log(base + _pareto_quantile(probabilities, k_hat, sigma))
        ratio[tail] = np.minimum(smoothed, 0.0)
    return k_hat


def _fit_pareto(x: Float64) -> tuple[float, float]:
    """Return shape and scale of a generalised Pareto distribution for exceedances x > 0, in ascending order.

    The shape is shrunk towards 1/2 by a weak prior, worth ten observations.
    """
    n = x.size
    m = 30 + math.isqrt(n)
    quartile = x[int(n / 4.0 + 0.5) - 1]
    theta = 1.0 / x[-1] + (1.0 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3.0 * quartile)
    k = np.log1p(-theta[:, None] * x).mean(1)
    profile = n * (np.log(-theta / k) - k - 1.0)
    weights = 1.0 / np.exp(np.minimum(profile - profile[:, None], 700.0)).sum(1)
    mean_theta = float(theta @ weights / weights.sum())
    shape = float(np.log1p(-mean_theta * x).mean())
    return (n * shape + 5.0) / (n + 10.0), -shape / mean_theta


def _pareto_quantile(p: Float64, k: float, sigma: float) -> Float64:
    if abs(k) < 1e-12:
        return -sigma * np.log1p(-p)
    return sigma * np.expm1(-k * np.log1p(-p)) / k


def _log_sum(x: Float64) -> float:
    top = float(x.max())
    return top + math.log(float(np.exp(x - top).sum()))
