"""Standard: small steps of a family's parameters, measured by how far they move q. Formulas: docs/maths.md 11.7."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.saa import inverse_diagonal
from klqp.inference.gaussian import unpack

__all__ = ["Standard", "with_orthogonal_columns"]

Float64 = npt.NDArray[np.float64]


class Standard:
    """A linear map T, block-diagonal and symmetric, from x (P,) to steps of the parameters of a frame.

    In x the Fisher information of q, which is minus the ELBO's Hessian where q is the posterior, has the diagonal
    `information`, at most 1. Locations are steps of standard deviations of q; so are the columns of B of the low-rank
    family.

    Parameters
    ----------
    spec : FamilySpec
        Of a frame, in which the diagonal scales are 1.
    params : ndarray (P,)
        With orthogonal columns of B.
    """

    def __init__(self, spec: _core.FamilySpec, params: Float64) -> None:
        self._dim, self._rank = spec.dim, spec.rank if spec.name == "low_rank" else 0
        self._diagonal = np.sqrt(inverse_diagonal(spec))
        self.information = np.ones(spec.n_params)
        if self._rank:
            self._columns = unpack(spec, params)[2].T  # (rank, D)
            self._squares = (self._columns**2).sum(1)
            share = self._squares / (1.0 + self._squares)
            precision = 1.0 - (self._columns**2 / (1.0 + self._squares)[:, None]).sum(0)  # diagonal of C^-1
            self.information[self._dim : 2 * self._dim] = precision**2
            self.information[2 * self._dim :] = np.repeat(share, self._dim)

    def times(self, x: Float64) -> Float64:
        """Return T times vectors (k, P)."""
        out = x * self._diagonal
        if self._rank:
            dim = self._dim
            out[:, :dim] = self._rooted(out[:, :dim], np.sqrt(1.0 + self._squares))
            columns = out[:, 2 * dim :].reshape(-1, dim)
            out[:, 2 * dim :] = self._rooted(columns, np.sqrt(1.0 + self._squares)).reshape(len(x), -1)
        return out

    def unroot(self, v: Float64) -> Float64:
        """Return the inverse of T's part for locations times vectors (k, D)."""
        return self._rooted(v, 1.0 / np.sqrt(1.0 + self._squares)) if self._rank else v

    def without_turns(self, x: Float64) -> Float64:
        """Return vectors (k, P) without the part that turns columns of B into each other: q does not depend on it."""
        if self._rank < 2:
            return x
        squares = self._squares / (1.0 + self._squares)
        columns = self._columns / np.sqrt(1.0 + self._squares)[:, None]
        both = squares[:, None] + squares
        change = x[:, 2 * self._dim :].reshape(-1, self._rank, self._dim)
        product = columns @ change.transpose(0, 2, 1)  # (k, rank, rank)
        turn = (product.transpose(0, 2, 1) - product) / np.where(both > 0, both, 1.0)
        out = x.copy()
        out[:, 2 * self._dim :] -= (turn @ columns).reshape(len(x), -1)
        return out

    def _rooted(self, v: Float64, root: Float64) -> Float64:
        """Return v times the matrix that stretches each column of B by a factor, and leaves the rest as it is."""
        factor = (root - 1.0) / np.where(self._squares > 0, self._squares, 1.0)
        return v + (v @ self._columns.T * factor) @ self._columns


def with_orthogonal_columns(candidate: Candidate) -> Candidate:
    """Return the same member of the low-rank family with columns of B that are orthogonal in units of its scales."""
    scaled = candidate.rest / candidate.scale[:, None]
    return replace(candidate, rest=candidate.rest @ np.linalg.eigh(scaled.T @ scaled)[1])
