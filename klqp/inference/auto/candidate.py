"""Candidates: members of a family to start from, from a mode's curvature or from a path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.pathfinder import PathNormal
from klqp.inference.gaussian import factor_times

__all__ = ["Candidate", "from_path", "from_precision"]

Float64 = npt.NDArray[np.float64]

_SMALLEST = 1e-10  # eigenvalue of a precision matrix of unit diagonal


@dataclass(frozen=True)
class Candidate:
    """A member of a family, as `klqp.inference.gaussian.unpack` returns it.

    Attributes
    ----------
    loc, scale : ndarray (D,)
    rest : ndarray
    origin : str
        Where it comes from, in words.
    start : int
        Number of the start that led to it; -1 for the q before the run.
    """

    loc: Float64
    scale: Float64
    rest: Float64
    origin: str
    start: int

    def draws(self, spec: _core.FamilySpec, noise: Float64) -> Float64:
        """Return draws (S, D) for noise (S, E)."""
        return self.loc + factor_times(spec, self.scale, self.rest, noise)

    def shrunk(self, factor: float) -> Candidate:
        """Return the candidate with its factor multiplied by a number."""
        return Candidate(self.loc, self.scale * factor, self.rest * factor, self.origin, self.start)


def from_precision(spec: _core.FamilySpec, loc: Float64, precision: Float64, start: int) -> Candidate:
    """Return the member nearest to a Normal with a precision matrix (D, D), made positive definite where it is not."""
    covariance, diagonal = _inverse(precision)
    origin = "the curvature at a mode"
    if spec.name == "full_rank":
        factor = np.linalg.cholesky(covariance)
        return Candidate(loc, np.diag(factor).copy(), np.tril(factor, -1), origin, start)
    scale = 1.0 / np.sqrt(diagonal)
    rest = np.zeros((spec.dim, 0))
    if spec.name == "low_rank":
        values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
        values, vectors = values[::-1][: spec.rank], vectors[:, ::-1][:, : spec.rank]
        rest = _wide_enough(spec, scale, scale[:, None] * vectors * np.sqrt(np.maximum(0.0, values - 1.0)))
    return Candidate(loc, scale, rest, origin, start)


def from_path(spec: _core.FamilySpec, normal: PathNormal, start: int) -> Candidate:
    """Return the member nearest to a Normal from a path."""
    origin = "a path's curvature"
    if spec.name == "full_rank":
        factor = np.linalg.cholesky(normal.covariance())
        return Candidate(normal.loc, np.diag(factor).copy(), np.tril(factor, -1), origin, start)
    if spec.name == "low_rank":
        scale = np.sqrt(normal.alpha)
        rest = _wide_enough(spec, scale, normal.columns(spec.rank))
        return Candidate(normal.loc, scale, rest, origin, start)
    scale = 1.0 / np.sqrt(normal.diagonal_precision())
    return Candidate(normal.loc, scale, np.zeros((spec.dim, 0)), origin, start)


def _inverse(precision: Float64) -> tuple[Float64, Float64]:
    """Return the inverse and the diagonal of a precision matrix, its eigenvalues made positive."""
    size = np.abs(np.diag(precision))
    size = np.sqrt(np.where(size > 0, size, max(1.0, float(size.max()))))
    values, vectors = np.linalg.eigh(precision / np.outer(size, size))
    values = np.maximum(np.abs(values), _SMALLEST)
    half = vectors / size[:, None]
    covariance = (half / values) @ half.T
    diagonal = ((vectors * values) * vectors).sum(1) * size**2
    return 0.5 * (covariance + covariance.T), diagonal


def _wide_enough(spec: _core.FamilySpec, scale: Float64, rest: Float64) -> Float64:
    """Return B with columns that are zero replaced by small ones: at B = 0 its gradient vanishes."""
    zero = np.abs(rest).max(0) == 0.0
    if zero.any():
        start = spec.start(np.zeros(spec.dim), np.ones(spec.dim), 0)[2 * spec.dim :].reshape(spec.rank, spec.dim)
        rest = np.where(zero, scale[:, None] * start.T / np.sqrt(spec.rank), rest)
    return rest
