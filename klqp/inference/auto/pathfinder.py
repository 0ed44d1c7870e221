"""Pathfinder: Normals along an optimisation path, from the inverse Hessians that the path implies.

Source: Zhang, Carpenter, Gelman and Vehtari, *Pathfinder: parallel quasi-Newton variational inference* (2022).
Formulas: docs/maths.md 11.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klqp.inference.auto.lbfgs import Path

__all__ = ["PathNormal", "along"]

Float64 = npt.NDArray[np.float64]

_CURVATURE = 1e-12
_MEMORY = 6


@dataclass(frozen=True)
class PathNormal:
    """Normal with the covariance diag(alpha)^(1/2) (I + Q (inner - I) Q^T) diag(alpha)^(1/2).

    Attributes
    ----------
    loc, alpha : ndarray (D,)
    q : ndarray (D, m)
        With orthonormal columns.
    inner : ndarray (m, m)
        Positive definite.
    """

    loc: Float64
    alpha: Float64
    q: Float64
    inner: Float64

    def covariance(self) -> Float64:
        """Return the covariance matrix (D, D)."""
        return self._dense(self.inner, np.sqrt(self.alpha), slice(None))

    def precision(self, block: slice = slice(None)) -> Float64:
        """Return the precision matrix (D, D), or a block on its diagonal."""
        inverse = np.asarray(np.linalg.inv(self.inner), np.float64)
        return self._dense(inverse, np.sqrt(1.0 / self.alpha), block)

    def diagonal_precision(self) -> Float64:
        """Return the diagonal of the precision matrix, without that matrix."""
        change = np.linalg.inv(self.inner) - np.eye(len(self.inner))
        return np.asarray((1.0 + ((self.q @ change) * self.q).sum(1)) / self.alpha)

    def columns(self, rank: int) -> Float64:
        """Return B (D, rank): covariance above diag(alpha), in its directions of largest excess."""
        values, vectors = np.linalg.eigh(self.inner)
        best = np.argsort(-values)[:rank]
        excess = np.sqrt(np.maximum(0.0, values[best] - 1.0))
        out = np.zeros((self.loc.size, rank))
        out[:, : len(best)] = np.sqrt(self.alpha)[:, None] * (self.q @ vectors[:, best]) * excess
        return out

    def _dense(self, inner: Float64, scale: Float64, block: slice) -> Float64:
        q, scale = self.q[block], scale[block]
        middle: Float64 = np.eye(len(q)) + q @ (inner - np.eye(len(inner))) @ q.T
        return np.asarray(scale[:, None] * middle * scale)


def along(path: Path, wanted: Sequence[int]) -> Iterator[PathNormal]:
    """Yield the Normals at the points of a path with the numbers `wanted`, in ascending order."""
    points, gradients = path.x, path.g
    alpha = np.ones(points.shape[1])
    pairs: list[tuple[Float64, Float64]] = []
    places = set(wanted)
    for i, (x, g) in enumerate(zip(points, gradients, strict=True)):
        if i > 0:
            s, y = x - points[i - 1], g - gradients[i - 1]
            if float(s @ y) > _CURVATURE * float(y @ y):
                alpha = _next_diagonal(alpha, s, y)
                pairs = [*pairs[-_MEMORY + 1 :], (s, y)]
        if i in places:
            found = _normal_at(x, g, alpha, pairs)
            if found is not None:
                yield found


def _next_diagonal(alpha: Float64, s: Float64, y: Float64) -> Float64:
    """Return the diagonal inverse Hessian after a pair (the inverse-BFGS update of Gilbert and Lemarechal)."""
    a, b, c = float(y @ (alpha * y)), float(y @ s), float(s @ (s / alpha))
    new = 1.0 / (a / (b * alpha) + y**2 / b - a * s**2 / (b * c * alpha**2))
    return new if np.all(np.isfinite(new) & (new > 0)) else alpha


def _normal_at(x: Float64, g: Float64, alpha: Float64, pairs: list[tuple[Float64, Float64]]) -> PathNormal | None:
    if not pairs:
        return PathNormal(x - alpha * g, alpha, np.zeros((x.size, 0)), np.zeros((0, 0)))
    s, y = (np.array([pair[k] for pair in pairs]).T for k in range(2))
    r = np.triu(s.T @ y)
    try:
        r_inverse = np.linalg.inv(r)
        n = len(pairs)
        gamma = np.zeros((2 * n, 2 * n))
        gamma[:n, n:] = -r_inverse
        gamma[n:, :n] = -r_inverse.T
        gamma[n:, n:] = r_inverse.T @ (np.diag(np.diag(r)) + y.T @ (alpha[:, None] * y)) @ r_inverse
        root = np.sqrt(alpha)
        q, upper = np.linalg.qr(np.concatenate([root[:, None] * y, s / root[:, None]], axis=1))
        inner = np.eye(q.shape[1]) + upper @ gamma @ upper.T
        inner = 0.5 * (inner + inner.T)
        np.linalg.cholesky(inner)
    except np.linalg.LinAlgError:
        return None
    step = root * g
    loc = x - root * (step + q @ ((inner - np.eye(len(inner))) @ (q.T @ step)))
    return PathNormal(loc, alpha.copy(), q, inner) if np.all(np.isfinite(loc)) else None
