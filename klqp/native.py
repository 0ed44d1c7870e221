"""Native log densities: finding the C function in whatever object carries it."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from klqp import _native

__all__ = ["NativeLogDensity", "get_include"]

_BATCHED = "int f(int64_t n, int64_t d, int64_t order, const double *z, double *logp, double *grad, void *user_data)"
_POINTWISE = "int f(int64_t d, const double *z, double *grad, double *logp, void *user_data)"
# Which arguments are pointers, and whether the function takes one point at a time.
_FORMS = {"iiipppp": 0, "ipppp": _native.POINTWISE}


def get_include() -> str:
    """Return the folder with ``klqp/native.h``, for a compiler's ``-I``."""
    return os.path.join(os.path.dirname(__file__), "include")


class NativeLogDensity:
    """A native log density with the facts that its address does not carry.

    Parameters
    ----------
    function : object
        A ctypes or cffi function pointer, a numba ``cfunc``, a ``scipy.LowLevelCallable``, a Cython function's
        capsule, or a capsule ``"klqp.logdensity.v1"``, of one of the two types in ``klqp/native.h``.
    user_data : int or ctypes pointer, optional
        The address handed to every call; default: what `function` brings, otherwise NULL. The caller keeps the
        memory alive.
    reentrant : bool, default False
        Whether the function may be called from several threads at once, each with its own rows.

    Raises
    ------
    TypeError
        If no function of a known type is found in `function`.
    """

    def __init__(self, function: Any, user_data: Any = None, *, reentrant: bool = False) -> None:
        found = _find(function)
        if found is None:
            raise TypeError(f"{function!r} carries no native function; expected\n  {_BATCHED}\nor\n  {_POINTWISE}")
        address, own_data, flags = found
        data = own_data if user_data is None else _address(user_data)
        flags |= _native.REENTRANT if reentrant else 0
        self._capsule = _native.make_capsule(address, data, flags, (function, user_data))

    def __klqp_logdensity__(self) -> Any:
        """Return the capsule ``"klqp.logdensity.v1"``."""
        return self._capsule


def capsule_of(value: Any) -> Any | None:
    """Return the capsule of a native log density, or None when `value` is not one.

    Raises TypeError for native functions of another type, with both types that are accepted.
    """
    if _native.is_capsule(value) and _native.capsule_name(value) == _native.CAPSULE_NAME:
        return value
    protocol = getattr(value, "__klqp_logdensity__", None)
    if protocol is not None:
        return protocol()
    found = _find(value)
    return None if found is None else _native.make_capsule(*found, value)


def _find(value: Any) -> tuple[int, int, int] | None:
    """Return (address, address of the user data, flags) of the C function in `value`, None without one."""
    if _native.is_capsule(value):
        return _from_signature_capsule(value)
    if type(value).__name__ == "LowLevelCallable" and isinstance(value, tuple):
        return _from_signature_capsule(value[0])
    if hasattr(value, "address") and hasattr(value, "ctypes"):  # numba's cfunc; its address has no signature
        value = value.ctypes
    if isinstance(value, ctypes._CFuncPtr):  # type: ignore[attr-defined]
        return _from_ctypes(value)
    if type(value).__module__ == "_cffi_backend" and type(value).__name__.startswith("_CData"):
        return _from_cffi(value)
    return None


def _flags(kinds: str, what: str) -> int:
    if kinds not in _FORMS:
        raise TypeError(f"the native function has the type\n  {what}\nbut expected is\n  {_BATCHED}\nor\n  {_POINTWISE}")
    return _FORMS[kinds]


def _from_signature_capsule(capsule: Any) -> tuple[int, int, int]:
    # Signatures are spelled differently by platform and compiler: only what is a pointer is looked at.
    signature = _native.capsule_name(capsule)
    arguments = signature[signature.find("(") + 1 : signature.rfind(")")].split(",")
    kinds = "".join("p" if "*" in a else "i" for a in arguments)
    address, user_data = _native.function_capsule(capsule)
    return address, user_data, _flags(kinds, signature)


def _from_ctypes(function: Any) -> tuple[int, int, int]:
    argtypes = function.argtypes
    if argtypes is None:
        raise TypeError(f"set argtypes of the ctypes function; expected is\n  {_BATCHED}\nor\n  {_POINTWISE}")
    integers = (ctypes.c_int64, ctypes.c_longlong, ctypes.c_long, ctypes.c_ssize_t)
    kinds = "".join("i" if t in integers else "p" for t in argtypes)
    names = ", ".join(t.__name__ for t in argtypes)
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address, 0, _flags(kinds, f"({names})")


def _from_cffi(value: Any) -> tuple[int, int, int] | None:
    import cffi

    ffi = cffi.FFI()
    kind = ffi.typeof(value)
    if kind.kind != "function":
        if kind.kind != "pointer" or kind.item.kind != "function":
            return None
        kind = kind.item
    kinds = "".join("p" if a.kind == "pointer" else "i" for a in kind.args)
    return int(ffi.cast("intptr_t", value)), 0, _flags(kinds, kind.cname)


def _address(pointer: Any) -> int:
    if isinstance(pointer, int):
        return pointer
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0
