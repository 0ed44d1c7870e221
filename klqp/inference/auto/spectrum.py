"""Spectrum: the directions in which a low-rank Normal is narrower than the posterior, by block Lanczos iterations.

With q's covariance R R^T, R symmetric up to the diagonal scales, and Lambda minus the log density's expected Hessian
the eigenvalues of R^T Lambda R are 1 where q is as wide as it should be, and below 1 where it is too narrow. Products
with Lambda are differences of gradients, averaged over few draws of q. Formulas: docs/maths.md 11.9.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.counted import Counted

__all__ = ["gains", "narrow_directions", "usable"]

Float64 = npt.NDArray[np.float64]

_DRAWS = 16  # points at which the Hessian is averaged
_BLOCK = 8  # directions that are multiplied at once
_EXTRA = 4  # blocks more than the wanted directions fill: outer eigenvalues converge first
_UPWARDS = 0.1  # eigenvalue that is taken where there is none above 0
_STEP = 1e-2  # of the differences, in standard deviations of q
_SCRAMBLE = 1 << 21  # of these draws


class Root:
    """R with R R^T = diag(scale^2) + rest rest^T: R = diag(scale) (I + U diag(stretch) U^T), U orthonormal.

    Attributes
    ----------
    stretch : ndarray (r,)
        In descending order.
    """

    def __init__(self, scale: Float64, rest: Float64) -> None:
        self._scale = scale
        self._u, s, _ = np.linalg.svd(rest / scale[:, None], full_matrices=False)
        self.stretch = np.sqrt(1.0 + s**2) - 1.0

    def times(self, v: Float64) -> Float64:
        """Return R v for the rows of v (m, D)."""
        return np.asarray((v + (v @ self._u * self.stretch) @ self._u.T) * self._scale)

    def transposed_times(self, v: Float64) -> Float64:
        """Return R^T v for the rows of v (m, D)."""
        v = v * self._scale
        return np.asarray(v + (v @ self._u * self.stretch) @ self._u.T)


def gains(values: Float64) -> Float64:
    """Return the nats that a new column of B along each eigenvector brings: (value - 1 - log value) / 2 below 1."""
    below = usable(values)
    return np.asarray(0.5 * (below - 1.0 - np.log(below)))


def usable(values: Float64) -> Float64:
    """Return eigenvalues, at most 1; those of a density that bends upwards say no more than that q is too narrow."""
    return np.clip(np.where(values > 0.0, values, _UPWARDS), 1e-12, 1.0)


def narrow_directions(
    target: Counted, spec: _core.FamilySpec, q: Candidate, n_wanted: int, key: int
) -> tuple[Float64, Float64] | None:
    """Return the least eigenvalues of R^T Lambda R, ascending, and R times their eigenvectors (n, D).

    The values are those of Lambda on the directions found (Ritz values): the gain that they promise is there whether or
    not the iterations have converged.

    Parameters
    ----------
    target : Counted
    spec : FamilySpec
        The low-rank family.
    q : Candidate
    n_wanted : int
        Directions wanted, at most D.
    key : int

    Returns
    -------
    tuple, or None
        None where gradients near the draws are not finite.
    """
    dim, root = spec.dim, Root(q.scale, q.rest)
    points = q.draws(spec, base_draws(_DRAWS, spec.noise_dim, key, _SCRAMBLE))
    rng = np.random.Generator(np.random.Philox(key=key))
    most = min(dim, n_wanted + _EXTRA * _BLOCK)
    basis, images = np.empty((0, dim)), np.empty((0, dim))
    block = _orthonormal(rng.normal(size=(min(_BLOCK, dim), dim)))
    while True:
        image = _curvature_times(target, points, root, block)
        if image is None:
            return None
        basis, images = np.concatenate([basis, block]), np.concatenate([images, image])
        left = most - len(basis)
        if left <= 0:
            break
        rest = image
        for _ in range(2):
            rest = rest - rest @ basis.T @ basis
        block = _orthonormal(rest)[:left]
        if len(block) == 0:
            break
    projected = basis @ images.T
    values, vectors = np.linalg.eigh(0.5 * (projected + projected.T))
    return values, root.times(vectors.T @ basis)


def _orthonormal(rows: Float64) -> Float64:
    """Return an orthonormal basis of the span of rows (m, D), without directions that are rounding errors."""
    size = np.linalg.norm(rows, axis=1).max(initial=0.0)
    _, s, directions = np.linalg.svd(rows, full_matrices=False)
    return np.asarray(directions[s > 1e-8 * max(size, 1.0)])


def _curvature_times(target: Counted, points: Float64, root: Root, v: Float64) -> Float64 | None:
    """Return R^T Lambda R v for the rows of v (m, D)."""
    steps = _STEP * root.times(v)[:, None, :]
    where = np.concatenate([points + steps, points - steps])
    logp, grad = target.evaluate(where.reshape(-1, where.shape[-1]))
    if not (np.isfinite(logp).all() and np.isfinite(grad).all()):
        return None
    ahead, behind = np.split(grad.reshape(where.shape).mean(1), 2)
    return root.transposed_times((behind - ahead) / (2.0 * _STEP))
