"""Candidates: members of a family to start from, from a mode's curvature or from a path."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.family_parts import is_normal
from klqp.inference.auto.pathfinder import PathNormal
from klqp.inference.gaussian import factor_times, full_blocks, no_rest, pack

__all__ = ["Candidate", "divergence", "from_path", "from_precision", "of_blocks", "resized", "unit_precision"]

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
    df : float, optional
        Degrees of freedom, of Student-t families.
    """

    loc: Float64
    scale: Float64
    rest: Float64
    origin: str
    start: int
    df: float | None = None

    def params(self, spec: _core.FamilySpec) -> Float64:
        """Return the parameters of a family."""
        return pack(spec, self.loc, self.scale, self.rest, self.df)

    def draws(self, spec: _core.FamilySpec, noise: Float64) -> Float64:
        """Return draws (S, D) for noise (S, E)."""
        if not is_normal(spec):
            return _core.Member(spec, self.params(spec)).transform(noise)
        return self.loc + factor_times(spec, self.scale, self.rest, noise)

    def shrunk(self, factor: float) -> Candidate:
        """Return the candidate with its factor multiplied by a number."""
        return replace(self, scale=self.scale * factor, rest=self.rest * factor)


def from_precision(spec: _core.FamilySpec, loc: Float64, precision: Float64, start: int) -> Candidate:
    """Return the member nearest to a Normal with a precision matrix (D, D), made positive definite where it is not.

    Of a precision given by its diagonal (D,) alone it is the Normal without correlations.
    """
    origin = "the curvature at a mode"
    rest = no_rest(spec)
    if precision.ndim == 1:
        scale = 1.0 / np.sqrt(precision)
        rest = _wide_enough(spec, scale, rest) if spec.name == "low_rank" else rest
        return Candidate(loc, scale, rest, origin, start)
    blocks = full_blocks(spec)
    if blocks:
        scale = np.abs(np.diag(precision))
        scale = 1.0 / np.sqrt(np.where(scale > 0, scale, max(1.0, float(scale.max()))))
        return of_blocks(loc, scale, rest, {b.start: precision[b, b] for b in blocks}, origin, start)
    covariance, diagonal = _inverse(precision)
    scale = 1.0 / np.sqrt(diagonal)
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
    blocks = {b.start: normal.precision(b) for b in full_blocks(spec)}
    return of_blocks(normal.loc, scale, no_rest(spec), blocks, origin, start)


def of_blocks(
    loc: Float64, scale: Float64, rest: Float64, precisions: dict[int, Float64], origin: str, start: int
) -> Candidate:
    """Return a candidate with the blocks whose precisions are given, by first coordinate; it fills scale and rest."""
    for first, precision in precisions.items():
        factor = np.linalg.cholesky(_inverse(precision)[0])
        at = slice(first, first + len(factor))
        scale[at], rest[at, : len(factor)] = np.diag(factor), np.tril(factor, -1)
    return Candidate(loc, scale, rest, origin, start)


def resized(spec: _core.FamilySpec, q: Candidate) -> Candidate:
    """Return a low-rank candidate with the rank of another spec: its widest columns, and small ones for the others."""
    u, s, _ = np.linalg.svd(q.rest / q.scale[:, None], full_matrices=False)
    kept = min(spec.rank, len(s))
    rest = np.zeros((spec.dim, spec.rank))
    rest[:, :kept] = q.scale[:, None] * u[:, :kept] * s[:kept]
    return replace(q, rest=_wide_enough(spec, q.scale, rest))


def unit_precision(precision: Float64) -> Float64:
    """Return a precision matrix (D, D) in coordinates in which its diagonal is 1."""
    size = _sizes(precision)
    return precision / np.outer(size, size)


def _sizes(precision: Float64) -> Float64:
    size = np.abs(np.diag(precision))
    return np.sqrt(np.where(size > 0, size, max(1.0, float(size.max()))))


def divergence(spec: _core.FamilySpec, a: Candidate, b: Candidate, noise: Float64) -> float:
    """Return KL(a || b) from draws with the given noise (S, E); exact where its first two moments are."""
    first, second = (_core.Member(spec, c.params(spec)) for c in (a, b))
    z = first.transform(noise)
    return float((first.log_density_of_noise(noise) - second.log_density(z)).mean())


def _inverse(precision: Float64) -> tuple[Float64, Float64]:
    """Return the inverse and the diagonal of a precision matrix, its eigenvalues made positive."""
    size = _sizes(precision)
    values, vectors = np.linalg.eigh(unit_precision(precision))
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
