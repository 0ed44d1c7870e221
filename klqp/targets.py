"""Targets: the user's log density as the core calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.native import capsule_of

Float64 = npt.NDArray[np.float64]


def make_target(fn: Any, shape: tuple[int, ...], dtype: npt.DTypeLike) -> _core.Target:
    """Return the target of a log density over draws of the given shape.

    Parameters
    ----------
    fn : callable or native function
        See `klqp.fit`.
    shape : tuple of int
        Shape of one draw; `fn` is called with ``(S, *shape)``.
    dtype : dtype
        float64 or float32: what `fn` is called with.
    """
    capsule = capsule_of(fn)
    if capsule is not None:
        if np.dtype(dtype) != np.float64:
            raise ValueError("native log densities work in float64; dtype=np.float32 is for Python functions")
        return _core.native_target(capsule, int(np.prod(shape, dtype=np.int64)))
    if not callable(fn):
        raise TypeError(f"the log density must be callable or a native function, not {type(fn).__name__}")
    return _core.PythonTarget(fn, list(shape), check_dtype(dtype), coerce)


def check_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return float64 or float32 as a dtype object."""
    checked = np.dtype(dtype)
    if checked not in (np.float64, np.float32):
        raise ValueError(f"dtype must be float64 or float32, not {checked}")
    return checked


def coerce(value: Any, shape: tuple[int, ...], what: str) -> Float64:
    """Return what a log density gave as a C-contiguous float64 array of the shape it must have.

    Raises
    ------
    TypeError
        If it does not hold real numbers.
    ValueError
        If its shape is not `shape`.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged lists
        raise ValueError(f"{what} must have shape {shape}, but it is ragged: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} must hold real numbers, but its dtype is {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{what} must have shape {shape}, but it has shape {array.shape}")
    return np.ascontiguousarray(array, np.float64)


def evaluate_in_chunks(
    target: _core.Target, z: Float64, chunk: int, observe: Callable[[], None] | None = None
) -> Float64:
    """Return the log density (n,) at z (n, D), called with at most `chunk` points at a time."""
    values = np.empty(len(z))
    for first in range(0, len(z), chunk):
        values[first : first + chunk] = target.evaluate(z[first : first + chunk], gradient=False)[0]
        if observe is not None:
            observe()
    return values
