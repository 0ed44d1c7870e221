"""Units: how far each parameter of a run may move for the same small change of q.

One over the root of the Fisher information's diagonal, F_ii = E (d log q / d lambda_i)^2: a step of gamma units in one
parameter changes q by about gamma^2 / 2 nats, in dollars as in inches. Formulas: docs/maths.md 11.6.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.compiled import Layout
from klqp.inference.gaussian import unpack
from klqp.model.distributions.normal import Normal
from klqp.model.parameter import Parameter

__all__ = ["family_units", "is_location", "model_units"]

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_LEAST_INFORMATION = 0.1  # taken of low-rank parameters, in the units of their row: at B = 0 there is none on B


def family_units(spec: _core.FamilySpec, params: Float64) -> Float64:
    """Return the units (P,) of a Normal family's parameters (P,)."""
    dim = spec.dim
    _, scale, rest = unpack(spec, params)
    precision = _diagonal_precision(spec, scale, rest)
    row = 1.0 / np.sqrt(precision)  # of locations, and of the factor's entries in the same row
    if spec.name == "full_rank":
        entries = np.repeat((row * math.sqrt(dim))[:, None], dim, axis=1)
        entries[np.diag_indices(dim)] = _of_scales(spec, scale, 1.0 + scale**2 * precision)
        return np.concatenate([row, entries[np.tril_indices(dim)]])
    if spec.name == "low_rank":
        information = np.maximum(_LEAST_INFORMATION, 2.0 * (scale**2 * precision) ** 2)
        columns = _information_on_columns(scale, rest, precision)
        entries = math.sqrt(spec.rank) / np.sqrt(np.maximum(columns, _LEAST_INFORMATION * precision[:, None]))
        return np.concatenate([row, _of_scales(spec, scale, information), entries.T.ravel()])
    return np.concatenate([row, _of_scales(spec, scale, np.full(dim, 2.0))])


def model_units(problem: Any, layout: Layout, params: Float64) -> Float64:
    """Return the units (P,) of a model's parameters; 1 for those that are not of a Normal q."""
    out = np.ones(max(1, layout.n_params))
    for spec, offset in layout.families.values():
        part = slice(offset, offset + spec.n_params)
        out[part] = family_units(spec, params[part])
    for factor in problem.factors:
        if isinstance(factor.q, Normal):
            loc, scale = factor.q.inputs[:2]
            if isinstance(loc, Parameter) and loc.is_real and isinstance(scale, Parameter) and loc in layout.offsets:
                values = _value(scale, layout, params)
                if values.size in (1, loc.size):
                    begin = layout.offsets[loc]
                    out[begin : begin + loc.size] = np.broadcast_to(values.ravel(), loc.size)
    return out


def is_location(layout: Layout) -> Bools:
    """Return which parameters (P,) are locations, or other numbers on the whole line, which may have far to go."""
    out = np.zeros(max(1, layout.n_params), bool)
    for spec, offset in layout.families.values():
        out[offset : offset + spec.dim] = True
    for p, offset in layout.offsets.items():
        out[offset : offset + p.n_unconstrained] = p.is_real
    return out


def _value(p: Parameter, layout: Layout, params: Float64) -> Float64:
    if p not in layout.offsets:
        return p.value
    offset = layout.offsets[p]
    values: Float64 = p._bijector.forward(params[None, offset : offset + p.n_unconstrained])[0]
    return values


def _diagonal_precision(spec: _core.FamilySpec, scale: Float64, rest: Float64) -> Float64:
    if spec.name == "full_rank":
        factor = rest + np.diag(scale)
        return np.asarray((np.linalg.inv(factor) ** 2).sum(0), np.float64)
    if spec.name == "low_rank":
        b = rest / scale[:, None]
        middle = np.linalg.solve(np.eye(spec.rank) + b.T @ b, b.T)
        return np.asarray((1.0 - np.asarray((b * middle.T).sum(1))) / scale**2, np.float64)
    return np.asarray(1.0 / scale**2, np.float64)


def _information_on_columns(scale: Float64, rest: Float64, precision: Float64) -> Float64:
    """Return the information (D, rank) on B where the covariance is B B^T + diag(scale)^2."""
    b = rest / scale[:, None]
    gram = b.T @ b
    times = np.asarray(np.linalg.solve(np.eye(len(gram)) + gram, b.T)).T  # diag(scale) covariance^-1 B
    inside: Float64 = np.asarray((b * times).sum(0), np.float64)
    return precision[:, None] * inside + (times / scale[:, None]) ** 2


def _of_scales(spec: _core.FamilySpec, scale: Float64, information: Float64) -> Float64:
    """Return the units of what scales are made of, given the information on their logarithms."""
    slope = {"exp": scale, "softplus": -np.expm1(-scale)}.get(spec.scale, np.ones_like(scale))
    units: Float64 = scale / slope / np.sqrt(information)
    return units
