"""Targets: the user's log density as the core calls it."""

from __future__ import annotations

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
    own = getattr(fn, "__klqp_target__", None)  # of klqp.LogJoint
    capsule = None if own is not None else capsule_of(fn)
    if (capsule is not None or own is not None) and np.dtype(dtype) != np.float64:
        raise ValueError("native log densities work in float64; dtype=np.float32 is for Python functions")
    if own is not None:
        target: _core.Target = own()
        if target.dim != int(np.prod(shape, dtype=np.int64)):
            raise ValueError(f"the log density has {target.dim} coordinates, not {shape}")
        return target
    if capsule is not None:
        return _core.native_target(capsule, int(np.prod(shape, dtype=np.int64)))
    if not callable(fn):
        raise TypeError(f"the log density must be callable or a native function, not {type(fn).__name__}")
    return _core.PythonTarget(fn, list(shape), check_dtype(dtype), coerce)


def check_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return float64 or float32 as a dtype object."""
    try:
        checked = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be float64 or float32, not {dtype!r}") from None
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
    # A list [logp, grad] cannot be told from a list of numbers by its type, as the tuple can.
    hint = "; return logp and grad as a tuple" if isinstance(value, list) and len(value) == 2 else ""
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged lists
        raise ValueError(f"{what} must have shape {shape}, but it is ragged: {error}{hint}") from None
    if array.dtype.kind not in "fiub":
        came = f"its dtype is {array.dtype}" if array.ndim else f"it is {type(value).__name__}"
        raise TypeError(f"{what} must hold real numbers, but {came}{hint}")
    if array.shape != shape:
        raise ValueError(f"{what} must have shape {shape}, but it has shape {array.shape}{hint}")
    return np.ascontiguousarray(array, np.float64)
