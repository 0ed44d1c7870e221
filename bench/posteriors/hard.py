"""Hard targets, built in: those of tests/statistical/hard_targets.py, with what is known of their best q's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.posteriors.targets import FAMILIES, Target, load_file

_FILE = Path(__file__).resolve().parents[2] / "tests" / "statistical" / "hard_targets.py"
_HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)
# p has heavier tails than any Normal q: weights p / q have an infinite variance, and no draw is an effective one.
_HEAVY = {q: {"is_ess": 0.0} for q in FAMILIES}


def hard_targets() -> list[Target]:
    """Return all of them.

    Where no q is right, because the posterior is improper or the log density breaks off, `has_optimum` is False.
    """
    h = load_file(_FILE)
    return [
        _plain("funnel, D=10", h.funnel(10), _HEAVY),
        _plain("funnel, D=100", h.funnel(100), _HEAVY),
        _plain("banana", h.banana(), _HEAVY),
        _normal("Normal, D=50, condition 1e6", h.gaussian(50, 1e6)),
        _normal("Normal, D=500, condition 1e6", h.gaussian(500, 1e6)),
        _bimodal("two modes, D=1", h.bimodal(1), 0.5),
        _bimodal("two modes, D=5", h.bimodal(5), 0.5),
        _bimodal("two modes, one of a tenth, D=3", h.bimodal(3, share=0.1), 0.9),
        *(
            _plain(name, made, {}, has_optimum=False)
            for name, made in {
                "-inf outside a ball": h.ball(3, 0.5),
                "NaN in stripes": h.holes(2),
                "improper": h.improper(),
                "slope": h.slope(),
                "flat": h.flat(),
            }.items()
        ),
    ]


def _plain(name: str, made: tuple[Callable[[Any], Any], int], best: Any, has_optimum: bool = True) -> Target:
    fn, dim = made
    return Target(name, dim, fn, best, has_optimum)


def _normal(name: str, made: tuple[Callable[[Any], Any], int]) -> Target:
    """Return a Normal, log p = -(z - m)^T P (z - m) / 2: its precision and mean are read off its gradient."""
    fn, dim = made
    at_zero, unit = fn(np.zeros((1, dim)))[1][0], fn(np.eye(dim))[1]
    precision = at_zero - unit
    precision = 0.5 * (precision + precision.T)
    values, vectors = np.linalg.eigh(precision)
    mean = vectors @ ((vectors.T @ at_zero) / values)
    variance = (vectors**2) @ (1.0 / values)
    narrow = 1.0 / np.diag(precision)  # the best mean-field variances
    # ESS = 1 / E_p[p / q] = |Q|^(1/2) |2P - Q|^(1/2) / |P|, with q's precision Q = diag(P); 0 unless 2P - Q > 0.
    beyond = np.linalg.eigvalsh(2.0 * precision - np.diag(1.0 / narrow))
    is_ess = 0.0
    if beyond.min() > 0:
        is_ess = float(np.exp(0.5 * np.log(beyond).sum() - 0.5 * np.log(narrow).sum() - np.log(values).sum()))
    log_z = dim * _HALF_LOG_2PI
    best = {
        "mean_field": {
            "elbo": log_z + 0.5 * float(np.log(narrow).sum()),
            "mu": mean,
            "sd": np.sqrt(narrow),
            "is_ess": is_ess,
        },
        "full_rank": {
            "elbo": log_z - 0.5 * float(np.log(values).sum()),
            "mu": mean,
            "sd": np.sqrt(variance),
            "is_ess": 1.0,
        },
    }
    return Target(name, dim, fn, best)


def _bimodal(name: str, made: tuple[Callable[[Any], Any], int], share: float) -> Target:
    """Return two unit Normals ten apart: the best q is the heavier one, and what it misses no weight brings back."""
    fn, dim = made
    known = {"elbo": dim * _HALF_LOG_2PI + np.log(share), "sd": np.ones(dim), "is_ess": 0.0}
    return Target(name, dim, fn, dict.fromkeys(FAMILIES, known))
