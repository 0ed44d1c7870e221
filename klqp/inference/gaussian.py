"""Parameters of the Normal families as location and factor, and back: z = loc + factor noise.

Of a Student-t family they are those of the Normal that it stretches; its noise is then that of the Normal, times r.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.family_parts import is_normal, normal_part, rho_of_df

__all__ = ["factor_times", "full_blocks", "locations", "no_rest", "pack", "parts", "unpack", "whiten"]

Float64 = npt.NDArray[np.float64]

SMALLEST_SCALE = 1e-5  # of families with linear scales


@dataclass(frozen=True)
class Part:
    """Coordinates with parameters of their own: location, then log scales or the rows of a triangle.

    Attributes
    ----------
    at : slice
        Of the coordinates.
    offset : int
        Of its parameters.
    full : bool
        Whether they are one block with a triangular factor; otherwise they are independent.
    """

    at: slice
    offset: int
    full: bool

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return int(self.at.stop - self.at.start)

    @property
    def loc(self) -> slice:
        """Where the locations are."""
        return slice(self.offset, self.offset + self.size)

    @property
    def factor(self) -> slice:
        """Where the parameters of the factor are."""
        n = self.size * (self.size + 1) // 2 if self.full else self.size
        return slice(self.loc.stop, self.loc.stop + n)


def parts(spec: _core.FamilySpec) -> list[Part]:
    """Return the parts of a family: one but for the block family, whose runs of single coordinates are one each."""
    if spec.name != "block":
        return [Part(slice(0, spec.dim), 0, normal_part(spec).name == "full_rank")]
    out, at, offset = [], 0, 0
    for single, run in itertools.groupby(spec.blocks, lambda size: size == 1):
        sizes = list(run)
        for size in [len(sizes)] if single else sizes:
            out.append(Part(slice(at, at + size), offset, not single))
            at, offset = at + size, out[-1].factor.stop
    return out


def full_blocks(spec: _core.FamilySpec) -> list[slice]:
    """Return the coordinates of each block with a triangular factor."""
    return [part.at for part in parts(spec) if part.full]


def no_rest(spec: _core.FamilySpec) -> Float64:
    """Return the rest of the factor of a member without correlations; of the low-rank family with B = 0."""
    if spec.name == "low_rank":
        return np.zeros((spec.dim, spec.rank))
    return np.zeros((spec.dim, max((b.stop - b.start for b in full_blocks(spec)), default=0)))


def locations(spec: _core.FamilySpec) -> slice | npt.NDArray[np.intp]:
    """Return where the locations are among the parameters."""
    if spec.name != "block":
        return slice(0, spec.dim)
    return np.concatenate([np.arange(part.loc.start, part.loc.stop) for part in parts(spec)])


def unpack(spec: _core.FamilySpec, params: Float64) -> tuple[Float64, Float64, Float64]:
    """Return location (D,), diagonal scales (D,) and the rest of the factor.

    The rest is the strictly lower triangle of L (D, D) of the full-rank family, B (D, rank) of the low-rank one, and
    has no columns for the mean-field one. That of the block family (D, size of the largest block) has the rows of the
    blocks' lower triangles, each from its block's first column on.
    """
    if not is_normal(spec):
        spec = normal_part(spec)
        params = params[: spec.n_params]
    dim, rest = spec.dim, no_rest(spec)
    if spec.name == "low_rank":
        rho, rest = params[dim : 2 * dim], params[2 * dim :].reshape(spec.rank, dim).T / math.sqrt(spec.rank)
        return params[:dim].copy(), _scale_of(spec, rho), rest
    loc, rho = np.empty(dim), np.empty(dim)
    for part in parts(spec):
        loc[part.at] = params[part.loc]
        if not part.full:
            rho[part.at] = params[part.factor]
            continue
        own = np.zeros((part.size, part.size))
        own[np.tril_indices(part.size)] = params[part.factor] / math.sqrt(part.size)
        rho[part.at] = np.diag(own) * math.sqrt(part.size)
        np.fill_diagonal(own, 0.0)
        rest[part.at, : part.size] = own
    return loc, _scale_of(spec, rho), rest


def pack(spec: _core.FamilySpec, loc: Float64, scale: Float64, rest: Float64, df: float | None = None) -> Float64:
    """Return the flat parameters of what `unpack` returns, and of degrees of freedom where these are a parameter."""
    if not is_normal(spec):
        normal = pack(normal_part(spec), loc, scale, rest)
        return normal if df is None or spec.df else np.append(normal, rho_of_df(df))
    rho = _rho_of(spec, scale)
    if spec.name == "low_rank":
        return np.concatenate([loc, rho, rest.T.ravel() * math.sqrt(spec.rank)])
    out = []
    for part in parts(spec):
        out.append(loc[part.at])
        if not part.full:
            out.append(rho[part.at])
            continue
        triangle = np.tril(rest[part.at, : part.size], -1) * math.sqrt(part.size)
        triangle[np.diag_indices(part.size)] = rho[part.at]
        out.append(triangle[np.tril_indices(part.size)])
    return np.concatenate(out)


def factor_times(spec: _core.FamilySpec, scale: Float64, rest: Float64, noise: Float64) -> Float64:
    """Return factor times noise (S, E), as (S, D)."""
    if spec.name == "low_rank":
        return noise[:, spec.rank :] * scale + noise[:, : spec.rank] @ rest.T
    out = noise * scale
    for b in full_blocks(spec):
        out[:, b] += noise[:, b] @ rest[b, : b.stop - b.start].T
    return out


def whiten(spec: _core.FamilySpec, scale: Float64, rest: Float64, grad: Float64) -> Float64:
    """Return the factor's transpose times gradients (S, D), as (S, E): gradients in the noise's coordinates."""
    if spec.name == "low_rank":
        return np.concatenate([grad @ rest, grad * scale], axis=1)
    out = grad * scale
    for b in full_blocks(spec):
        out[:, b] += grad[:, b] @ rest[b, : b.stop - b.start]
    return out


def _scale_of(spec: _core.FamilySpec, rho: Float64) -> Float64:
    if spec.scale == "exp":
        return np.exp(rho)
    return np.logaddexp(0.0, rho) if spec.scale == "softplus" else rho.copy()


def _rho_of(spec: _core.FamilySpec, scale: Float64) -> Float64:
    if spec.scale == "exp":
        return np.log(scale)
    if spec.scale == "softplus":
        return scale + np.log(-np.expm1(-scale))
    return np.maximum(scale, SMALLEST_SCALE)
