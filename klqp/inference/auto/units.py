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
from klqp.family_parts import is_normal, normal_part, split_mixture
from klqp.inference.compiled import Layout
from klqp.inference.gaussian import Part, locations, parts, unpack
from klqp.model.distributions.normal import Normal
from klqp.model.parameter import Parameter

__all__ = ["family_units", "is_location", "locations_of", "model_units"]

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_LEAST_INFORMATION = 0.1  # taken of low-rank parameters, in the units of their row: at B = 0 there is none on B


def family_units(spec: _core.FamilySpec, params: Float64) -> Float64:
    """Return the units (P,) of a family's parameters (P,); 1 for weights and degrees of freedom."""
    if spec.components:
        _, members = split_mixture(spec, params)
        normal = normal_part(spec)
        return np.concatenate([np.ones(spec.components), *(family_units(normal, member) for member in members)])
    if not is_normal(spec):
        normal = normal_part(spec)
        own = family_units(normal, params[: normal.n_params])
        return np.concatenate([own, np.ones(spec.n_params - len(own))])
    _, scale, rest = unpack(spec, params)
    if spec.name == "low_rank":
        return _low_rank_units(spec, scale, rest)
    each = [_part_units(spec, part, scale[part.at], rest[part.at, : part.size]) for part in parts(spec)]
    return np.concatenate(each)


def locations_of(spec: _core.FamilySpec) -> npt.NDArray[np.intp]:
    """Return where the locations are among a family's parameters."""
    if not spec.components:
        return np.arange(spec.n_params)[locations(normal_part(spec))]
    normal = normal_part(spec)
    firsts = spec.components + normal.n_params * np.arange(spec.components)
    return np.asarray((firsts[:, None] + np.arange(spec.dim)).ravel())


def _part_units(spec: _core.FamilySpec, part: Part, scale: Float64, rest: Float64) -> Float64:
    """Return the units of the parameters of coordinates with a factor of their own."""
    if not part.full:
        return np.concatenate([scale, _of_scales(spec, scale, np.full(part.size, 2.0))])
    precision = np.asarray((np.linalg.inv(rest + np.diag(scale)) ** 2).sum(0), np.float64)
    row = 1.0 / np.sqrt(precision)  # of locations, and of the factor's entries in the same row
    entries = np.repeat((row * math.sqrt(part.size))[:, None], part.size, axis=1)
    entries[np.diag_indices(part.size)] = _of_scales(spec, scale, 1.0 + scale**2 * precision)
    return np.concatenate([row, entries[np.tril_indices(part.size)]])


def _low_rank_units(spec: _core.FamilySpec, scale: Float64, rest: Float64) -> Float64:
    b = rest / scale[:, None]
    middle = np.linalg.solve(np.eye(spec.rank) + b.T @ b, b.T)
    precision = np.asarray((1.0 - np.asarray((b * middle.T).sum(1))) / scale**2, np.float64)
    information = np.maximum(_LEAST_INFORMATION, 2.0 * (scale**2 * precision) ** 2)
    columns = _information_on_columns(scale, rest, precision)
    entries = math.sqrt(spec.rank) / np.sqrt(np.maximum(columns, _LEAST_INFORMATION * precision[:, None]))
    return np.concatenate([1.0 / np.sqrt(precision), _of_scales(spec, scale, information), entries.T.ravel()])


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
        out[offset + locations_of(spec)] = True
    for p, offset in layout.offsets.items():
        out[offset : offset + p.n_unconstrained] = p.is_real
    return out


def _value(p: Parameter, layout: Layout, params: Float64) -> Float64:
    if p not in layout.offsets:
        return p.value
    offset = layout.offsets[p]
    values: Float64 = p._bijector.forward(params[None, offset : offset + p.n_unconstrained])[0]
    return values


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
