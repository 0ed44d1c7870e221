"""Formulas of entropies and moments that lose no digits for large parameters; only imported when used (SciPy)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

__all__ = [
    "bernoulli_entropy",
    "bessel_gap",
    "beta_entropy",
    "gamma_entropy",
    "student_t_entropy",
    "von_mises_entropy",
    "weibull_relative_variance",
]

Float64 = npt.NDArray[np.float64]

HALF_LOG_2_PI = 0.5 * np.log(2 * np.pi)


def gamma_entropy(a: Float64) -> Any:
    """Return the entropy of Gamma(a, 1): a + log Gamma(a) + (1 - a) digamma(a), by Stirling's series where a > 400."""
    small, b = np.minimum(a, 400.0), 1.0 / np.maximum(a, 400.0)
    exact = small + special.gammaln(small) + (1 - small) * special.digamma(small)
    series = HALF_LOG_2_PI + 0.5 - 0.5 * np.log(b) - b / 3 - b**2 / 12 - b**3 / 90 + b**4 / 120
    return np.where(a <= 400.0, exact, series)


def beta_entropy(a: Float64, b: Float64) -> Any:
    """Return the entropy of Beta(a, b), from those of gamma variables."""
    return gamma_entropy(a) + gamma_entropy(b) - gamma_entropy(a + b) - special.digamma(a + b)


def student_t_entropy(df: Float64) -> Any:
    """Return the entropy of Student's t of scale 1, by a series in 1 / df where df > 200."""
    v, w = np.minimum(df, 200.0), 1.0 / np.maximum(df, 200.0)
    slope = special.digamma((v + 1) / 2) - special.digamma(v / 2)
    exact = (v + 1) / 2 * slope + 0.5 * np.log(v) + special.betaln(v / 2, 0.5)
    series = HALF_LOG_2_PI + 0.5 + w * (1 + w * (1 / 4 - w * (1 / 6 + w * (1 / 8 - w * (3 / 10 + w / 4)))))
    return np.where(df <= 200.0, exact, series)


def bessel_gap(k: Float64) -> Any:
    """Return 1 - I1(k) / I0(k), by a series in 1 / k where k > 500."""
    near, v = np.minimum(k, 500.0), 1.0 / np.maximum(k, 500.0)
    exact = 1.0 - special.i1e(near) / special.i0e(near)
    series = v * (1 / 2 + v * (1 / 8 + v * (1 / 8 + v * (25 / 128 + v * 13 / 32))))
    return np.where(k <= 500.0, exact, series)


def von_mises_entropy(k: Float64) -> Any:
    """Return log(2 pi I0(k)) - k I1(k) / I0(k)."""
    return np.log(2 * np.pi * special.i0e(k)) + k * bessel_gap(k)


def weibull_relative_variance(c: Float64) -> Any:
    """Return Gamma(1 + 2 / c) - Gamma(1 + 1 / c)**2."""
    log_mean = special.gammaln(1 + 1 / c)
    return np.exp(2 * log_mean) * np.expm1(special.gammaln(1 + 2 / c) - 2 * log_mean)


def bernoulli_entropy(logits: Float64 | None, probs: Float64 | None) -> Any:
    """Return -p log(p) - (1 - p) log(1 - p)."""
    if logits is not None:
        far = np.abs(logits)
        return np.log1p(np.exp(-far)) + far * special.expit(-far)
    return special.entr(probs) - special.xlog1py(1 - np.asarray(probs), -np.asarray(probs))
