"""Parameters of the Normal families as location and factor, and back: z = loc + factor noise.

Of a Student-t family they are those of the Normal that it stretches; its noise is then that of the Normal, times r.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.family_parts import is_normal, normal_part, rho_of_df

__all__ = ["factor_times", "pack", "unpack", "whiten"]

Float64 = npt.NDArray[np.float64]

SMALLEST_SCALE = 1e-5  # of families with linear scales


def unpack(spec: _core.FamilySpec, params: Float64) -> tuple[Float64, Float64, Float64]:
    """Return location (D,), diagonal scales (D,) and the rest of the factor.

    The rest is the strictly lower triangle of L (D, D) of the full-rank family, B (D, rank) of the low-rank one, and
    has no columns for the mean-field one.
    """
    dim = spec.dim
    if not is_normal(spec):
        spec = normal_part(spec)
        params = params[: spec.n_params]
    loc = params[:dim].copy()
    if spec.name == "full_rank":
        rest = np.zeros((dim, dim))
        rest[np.tril_indices(dim)] = params[dim:] / math.sqrt(dim)
        rho = np.diag(rest) * math.sqrt(dim)
        np.fill_diagonal(rest, 0.0)
        return loc, _scale_of(spec, rho), rest
    rho = params[dim : 2 * dim]
    if spec.name == "low_rank":
        return loc, _scale_of(spec, rho), params[2 * dim :].reshape(spec.rank, dim).T / math.sqrt(spec.rank)
    return loc, _scale_of(spec, rho), np.zeros((dim, 0))


def pack(spec: _core.FamilySpec, loc: Float64, scale: Float64, rest: Float64, df: float | None = None) -> Float64:
    """Return the flat parameters of what `unpack` returns, and of degrees of freedom where these are a parameter."""
    if not is_normal(spec):
        normal = pack(normal_part(spec), loc, scale, rest)
        return normal if df is None or spec.df else np.append(normal, rho_of_df(df))
    dim = spec.dim
    rho = _rho_of(spec, scale)
    if spec.name == "full_rank":
        triangle = np.tril(rest, -1) * math.sqrt(dim)
        triangle[np.diag_indices(dim)] = rho
        return np.concatenate([loc, triangle[np.tril_indices(dim)]])
    if spec.name == "low_rank":
        return np.concatenate([loc, rho, rest.T.ravel() * math.sqrt(spec.rank)])
    return np.concatenate([loc, rho])


def factor_times(spec: _core.FamilySpec, scale: Float64, rest: Float64, noise: Float64) -> Float64:
    """Return factor times noise (S, E), as (S, D)."""
    if spec.name == "low_rank":
        return noise[:, spec.rank :] * scale + noise[:, : spec.rank] @ rest.T
    if spec.name == "full_rank":
        return noise * scale + noise @ rest.T
    return noise * scale


def whiten(spec: _core.FamilySpec, scale: Float64, rest: Float64, grad: Float64) -> Float64:
    """Return the factor's transpose times gradients (S, D), as (S, E): gradients in the noise's coordinates."""
    if spec.name == "low_rank":
        return np.concatenate([grad @ rest, grad * scale], axis=1)
    if spec.name == "full_rank":
        return grad * scale + grad @ rest
    return grad * scale


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
