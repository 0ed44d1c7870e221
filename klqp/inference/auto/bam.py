"""Batch and match: a full-rank Normal whose score matches the log density's, by closed-form updates.

Source: Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei and Saul, *Batch and match: black-box variational inference
with a score-based divergence* (2024). Formulas: docs/maths.md 11.4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.saa import Fit, narrow_enough

__all__ = ["match"]

Float64 = npt.NDArray[np.float64]

_MAX_ITER = 300
_SETTLED = 1e-3  # nats by which q changes in an iteration
_IN_A_ROW = 3
_MOST_REVERTED = 10


def match(target: Counted, family: _core.FamilySpec, start: Candidate, key: int) -> Fit:
    """Run batch and match from a candidate of the full-rank family.

    Raises
    ------
    TargetError
        If however narrow the start is made, draws have no finite log density.
    """
    dim = family.dim
    n = max(64, 1 << (2 * dim - 1).bit_length())
    start, _ = narrow_enough(target, family, start, base_draws(n, dim, key, 0))
    loc, lower = start.loc, np.diag(start.scale) + start.rest
    settled, reverted, losses, why = 0, 0, [], f"it took all {_MAX_ITER} iterations"
    for t in range(1, _MAX_ITER + 1):
        z = loc + base_draws(n, dim, key, t) @ lower.T
        logp, grad = target.evaluate(z)
        good = np.isfinite(logp) & np.isfinite(grad).all(1)
        new = _update(loc, lower @ lower.T, z[good], grad[good], n * dim / t) if good.sum() > 1 else None
        if new is None:
            reverted += 1
            if reverted > _MOST_REVERTED:
                why = "its updates had no positive definite covariance"
                break
            continue
        entropy = float(np.log(np.diag(lower)).sum()) + 0.5 * dim * (1.0 + np.log(2.0 * np.pi))
        losses.append(-float(logp[good].mean()) - entropy)
        settled = settled + 1 if _change(loc, lower, *new) < _SETTLED else 0
        loc, lower = new
        if settled >= _IN_A_ROW:
            why = "q no longer changed"
            break
    found = Candidate(loc, np.diag(lower).copy(), np.tril(lower, -1), start.origin, start.start)
    converged = settled >= _IN_A_ROW
    return Fit(found, converged, why, float("nan"), n, losses)


def _update(loc: Float64, cov: Float64, z: Float64, grad: Float64, rate: float) -> tuple[Float64, Float64] | None:
    """Return location and Cholesky factor after a batch; None where they are not finite or not positive definite."""
    share = rate / (1.0 + rate)
    z_mean, g_mean = z.mean(0), grad.mean(0)
    dz, dg, away = z - z_mean, grad - g_mean, loc - z_mean
    u = rate * (dg.T @ dg) / len(z) + share * np.outer(g_mean, g_mean)
    v = cov + rate * (dz.T @ dz) / len(z) + share * np.outer(away, away)
    try:
        # Sigma U Sigma + Sigma = V: with V = R R^T, Sigma = 2 R (I + (I + 4 R^T U R)^(1/2))^-1 R^T.
        root = np.linalg.cholesky(v)
        values, vectors = np.linalg.eigh(root.T @ u @ root)
        half = (root @ vectors) * np.sqrt(2.0 / (1.0 + np.sqrt(1.0 + 4.0 * np.maximum(values, 0.0))))
        new = half @ half.T
        lower = np.linalg.cholesky(new)
    except np.linalg.LinAlgError:
        return None
    new_loc = (loc + rate * (new @ g_mean + z_mean)) / (1.0 + rate)
    return (new_loc, lower) if np.isfinite(new_loc).all() and np.isfinite(lower).all() else None


def _change(loc: Float64, lower: Float64, new_loc: Float64, new_lower: Float64) -> float:
    """Return KL(new || old)."""
    away = np.linalg.solve(lower, new_loc - loc)
    ratio = np.linalg.solve(lower, new_lower)
    log_det = 2.0 * float((np.log(np.diag(new_lower)) - np.log(np.diag(lower))).sum())
    return 0.5 * (float((ratio**2).sum()) + float(away @ away) - len(loc) - log_det)
