"""Values of expressions and random variables with NumPy in and NumPy out: ancestral draws, log densities."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._checks import positive_int
from klqp._seeds import Seed
from klqp.model.emitter import Emitter, ancestors
from klqp.model.expression import Expression, as_data
from klqp.model.parameter import Parameter, Placeholder
from klqp.model.random_variable import Distribution, RandomVariable, rng_of

__all__ = ["evaluate", "log_prob", "parameter_values", "sample"]

Float64 = npt.NDArray[np.float64]


def evaluate(wanted: list[Expression], given: Mapping[Expression, Float64], n: int) -> list[Float64]:
    """Return the values of expressions.

    Parameters
    ----------
    wanted : list of Expression
    given : dict
        Values of the random variables and placeholders they depend on: ``(n, *shape)`` with draws, or of the shape.
    n : int
        Number of draws.

    Returns
    -------
    list of ndarray
        ``(n, *shape)`` where a value depends on draws, otherwise of the shape.
    """
    core = _core.Model()
    order = ancestors(wanted, lambda e: () if e in given else e.inputs)
    parameters = [e for e in order if isinstance(e, Parameter)]
    offsets, flat = pack(parameters)
    emitter = Emitter(core, offsets)
    draws: list[Float64] = []
    for e in order:
        if e not in given:
            if isinstance(e, (RandomVariable, Placeholder)):
                raise ValueError(f"{e!r} has no value here")
            continue
        array = np.asarray(given[e], np.float64)
        if array.shape == (n, *e.shape):
            emitter.arrays[e] = core.input(e.size)
            draws.append(np.ascontiguousarray(array).reshape(n, -1))
        elif array.shape == e.shape:
            emitter.arrays[e] = core.data(array)
        else:
            raise ValueError(f"values of {e!r} must have shape {e.shape} or {(n, *e.shape)}, not {array.shape}")
    slots = [emitter.emit(e) for e in wanted]
    values = core.evaluate(n, flat, np.zeros((n, 1)), draws, slots)
    shapes = [((n,) if core.flags(slot)[0] else ()) + e.shape for e, slot in zip(wanted, slots, strict=True)]
    return [v.reshape(shape) for v, shape in zip(values, shapes, strict=True)]


def pack(parameters: list[Parameter]) -> tuple[dict[Parameter, int], Float64]:
    """Return where each parameter begins in a flat vector, and the vector of their present coordinates."""
    offsets, at = {}, 0
    for p in parameters:
        offsets[p] = at
        at += p.n_unconstrained
    return offsets, np.concatenate([p.unconstrained for p in parameters]) if parameters else np.zeros(1)


def sample(
    variable: Distribution, n: int | None, seed: Seed, given: Mapping[Expression, Float64] | None = None
) -> Float64:
    """Return ancestral draws of a variable; see `Distribution.sample`."""
    draws = 1 if n is None else positive_int("n", n)
    values = ancestral(variable_roots=[variable], n=draws, rng=rng_of(seed), given=given or {})
    out = values[variable]
    return out[0] if n is None else out


def ancestral(
    variable_roots: list[Expression], n: int, rng: np.random.Generator, given: Mapping[Expression, Float64]
) -> dict[Expression, Float64]:
    """Return values ``(n, *shape)`` of random variables and of all random variables they depend on."""
    known: dict[Expression, Float64] = dict(given)
    for e in ancestors(variable_roots, lambda x: () if x in known else x.inputs):
        if not isinstance(e, RandomVariable) or e in known:
            continue
        known[e] = _draw(e, n, rng, known)
    return known


def _draw(variable: RandomVariable, n: int, rng: np.random.Generator, known: Mapping[Expression, Float64]) -> Float64:
    if not isinstance(variable, Distribution):
        raise TypeError(f"{variable!r} cannot be drawn: only its log density is known")
    parameters = parameters_of_draws(variable, n, known)
    with np.errstate(all="ignore"):
        draws = variable._sample(rng, (n, *variable.shape), **parameters)
    return np.ascontiguousarray(np.broadcast_to(draws, (n, *variable.shape)), np.float64)


def parameters_of_draws(variable: Distribution, n: int, known: Mapping[Expression, Float64]) -> dict[str, Float64]:
    """Return a variable's parameters by name, with a leading axis of draws where they depend on draws."""
    arrays = evaluate(list(variable.inputs), known, n)
    parameters = {}
    for (key, p), array in zip(variable.parameters.items(), arrays, strict=True):
        variable.check_drawn(key, array)
        per_draw = array.ndim > p.ndim
        # A draw axis goes before the axes that broadcasting may add to the batch.
        extra = len(variable.batch_shape) - (p.ndim - variable.parameter_supports[key].event_ndim)
        parameters[key] = array.reshape((n,) + (1,) * extra + p.shape) if per_draw else array
    return parameters


def parameter_values(variable: Distribution) -> dict[str, Float64]:
    """Return the values of a variable's parameters by name.

    Raises
    ------
    TypeError
        If they depend on other random variables.
    """
    _parents_without_draws(variable)
    return dict(zip(variable.parameters, evaluate(list(variable.inputs), {}, 1), strict=True))


def _parents_without_draws(variable: RandomVariable) -> list[Expression]:
    """Return what a variable depends on, and refuse random variables there."""
    parents = ancestors(variable.inputs, lambda e: e.inputs)
    for e in parents:
        if isinstance(e, RandomVariable):
            raise TypeError(
                f"{variable.name!r} depends on the random variable {e.name!r}, so that this has no one value"
            )
    return parents


def log_prob(variable: RandomVariable, x: npt.ArrayLike) -> Float64:
    """Return log densities; see `Distribution.log_prob`."""
    array = as_data(x, f"the value of {variable.name!r}")
    lead = array.ndim - len(variable.shape)
    if lead < 0 or array.shape[lead:] != variable.shape:
        raise ValueError(
            f"the value of {variable.name!r} must have shape {variable.shape}, perhaps after axes of draws, "
            f"not {array.shape}"
        )
    n = math.prod(array.shape[:lead])
    core = _core.Model()
    parents = _parents_without_draws(variable)
    offsets, flat = pack([e for e in parents if isinstance(e, Parameter)])
    emitter = Emitter(core, offsets)
    value = core.input(variable.size)
    args = [emitter.emit(e) for e in variable.inputs]
    slot = variable.emit_log_prob(emitter, value, args, summed=False)
    result = core.evaluate(n, flat, np.zeros((n, 1)), [array.reshape(n, -1)], [slot])[0]
    batch = variable.batch_shape if isinstance(variable, Distribution) else ()
    return result.reshape(array.shape[:lead] + batch)
