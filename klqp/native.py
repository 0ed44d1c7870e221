"""Native log densities: finding the C function in whatever object carries it."""

from __future__ import annotations

import ctypes
import os
import re
from typing import Any

from klqp import _native

__all__ = ["NativeLogDensity", "get_include"]

_BATCHED = "int f(int64_t n, int64_t d, int64_t order, const double *z, double *logp, double *grad, void *user_data)"
_POINTWISE = "int f(int64_t d, const double *z, double *grad, double *logp, void *user_data)"
# The two types, and whether the function takes one point at a time. A letter for the result and each argument:
# r an int; i a 64-bit integer; d, v, o a pointer to double, to void, to something else; ? another thing.
_FORMS = {"riii[dv]{3}[dvo]": 0, "ri[dv]{3}[dvo]": _native.POINTWISE}
_NO_INT = {"void", "bool", "char", "short", "long", "int64_t", "size_t", "ssize_t", "float", "double", "*"}
_NARROW = {"bool", "char", "short", "int", "int8_t", "int16_t", "int32_t", "signed", "unsigned"}
_FUNCFLAG_PYTHONAPI = 4  # of ctypes


def get_include() -> str:
    """Return the folder with ``klqp/native.h``, for a compiler's ``-I``."""
    return os.path.join(os.path.dirname(__file__), "include")


class NativeLogDensity:
    """A native log density with the facts that its address does not carry.

    Parameters
    ----------
    function : object
        A ctypes or cffi function pointer, a numba ``cfunc``, a ``scipy.LowLevelCallable``, a Cython function's
        capsule, a capsule ``"klqp.logdensity.v1"`` or an object with ``__klqp_logdensity__``, of one of the two
        types in ``klqp/native.h``; or a ``bridgestan.StanModel``.
    user_data : int, ctypes or cffi pointer, optional
        The address handed to every call; default: what `function` brings, otherwise NULL. The pointer is kept, but
        the caller keeps alive the memory behind an int.
    reentrant : bool, default False
        Whether the function may be called from several threads at once, each with its own rows.

    Raises
    ------
    TypeError
        If no function of a known type is found in `function`.
    """

    def __init__(self, function: Any, user_data: Any = None, *, reentrant: bool = False) -> None:
        source = capsule_of(function)
        if source is None:
            raise TypeError(f"{function!r} carries no native function; expected\n  {_BATCHED}\nor\n  {_POINTWISE}")
        address, own_data, flags = _native.logdensity_capsule(source)
        data = own_data if user_data is None else _address(user_data)
        flags |= _native.REENTRANT if reentrant else 0
        self._capsule = _native.make_capsule(address, data, flags, (source, user_data))

    def __klqp_logdensity__(self) -> Any:
        """Return the capsule ``"klqp.logdensity.v1"``."""
        return self._capsule


def capsule_of(value: Any) -> Any | None:
    """Return the capsule of a native log density, or None when `value` is not one.

    Raises TypeError for native functions of another type, with both types that are accepted.
    """
    if _is_ours(value):
        return value
    value = _with_protocol(value)
    protocol = getattr(value, "__klqp_logdensity__", None)
    if protocol is not None and not isinstance(value, type):
        capsule = protocol()
        if not _is_ours(capsule):
            name = f"a capsule {_native.capsule_name(capsule)!r}" if _native.is_capsule(capsule) else f"{capsule!r}"
            raise TypeError(f"__klqp_logdensity__ must return a capsule {_native.CAPSULE_NAME!r}, not {name}")
        return capsule
    found = _find(value)
    return None if found is None else _native.make_capsule(*found, value)


def dim_of(value: Any) -> int | None:
    """Return the number of coordinates of a log density that knows it, otherwise None."""
    dim = getattr(_with_protocol(value), "dim", None)
    return dim if isinstance(dim, int) and not isinstance(value, type) else None


def _with_protocol(value: Any) -> Any:
    """Return an object with ``__klqp_logdensity__`` for a model of another library that has none, or `value`."""
    if not hasattr(value, "stanlib"):
        return value
    from klqp.adapters.bridgestan import StanLogDensity, is_stan_model

    return StanLogDensity(value) if is_stan_model(value) else value


def _is_ours(value: Any) -> bool:
    return _native.is_capsule(value) and _native.capsule_name(value) == _native.CAPSULE_NAME


def _find(value: Any) -> tuple[int, int, int] | None:
    """Return (address, address of the user data, flags) of the C function in `value`, None without one."""
    if _native.is_capsule(value):
        return _from_signature_capsule(value)
    if type(value).__name__ == "LowLevelCallable" and isinstance(value, tuple):
        return _from_signature_capsule(tuple.__getitem__(value, 0))  # its own one raises
    if hasattr(value, "address") and hasattr(value, "ctypes"):  # numba's cfunc; its address has no signature
        value = value.ctypes
    if isinstance(value, ctypes._CFuncPtr):  # type: ignore[attr-defined]
        return _from_ctypes(value)
    if type(value).__module__ == "_cffi_backend" and "CData" in type(value).__name__:
        return _from_cffi(value)
    return None


def _flags(kinds: str, what: str) -> int:
    for form, flags in _FORMS.items():
        if re.fullmatch(form, kinds):
            return flags
    raise TypeError(f"the native function has the type\n  {what}\nbut expected is\n  {_BATCHED}\nor\n  {_POINTWISE}")


def _from_signature_capsule(capsule: Any) -> tuple[int, int, int]:
    # Signatures are spelled differently by platform and compiler, with typedefs: only what surely differs is refused.
    signature = _native.capsule_name(capsule)
    result, _, arguments = signature.partition("(")
    kinds = "?" if _NO_INT & _words(result) else "r"
    kinds += "".join(_kind_by_name(a) for a in arguments.rpartition(")")[0].split(","))
    flags = _flags(kinds, signature or "(a capsule without a name)")
    return (*_native.function_capsule(capsule), flags)


def _words(declaration: str) -> set[str]:
    return set(re.findall(r"\w+|\*", declaration)) - {"const"}


def _kind_by_name(argument: str) -> str:
    words = _words(argument)
    if "*" in words:
        return "o" if words & (_NARROW | {"float"}) else "d"
    return "?" if words <= _NARROW or words & {"float", "double"} else "i"


def _from_ctypes(function: Any) -> tuple[int, int, int]:
    argtypes, restype = function.argtypes, function.restype
    if argtypes is None:
        raise TypeError(f"set argtypes of the ctypes function; expected is\n  {_BATCHED}\nor\n  {_POINTWISE}")
    if type(function)._flags_ & _FUNCFLAG_PYTHONAPI:
        raise TypeError("a function that needs the GIL (PYFUNCTYPE, PyDLL) cannot be a native log density")
    kinds = ("r" if restype is ctypes.c_int else "?") + "".join(map(_kind_of_ctype, argtypes))
    names = [getattr(t, "__name__", repr(t)) for t in (restype, *argtypes)]
    flags = _flags(kinds, f"{names[0]} ({', '.join(names[1:])})")
    address = ctypes.cast(function, ctypes.c_void_p).value
    if address is None:
        raise ValueError("the native function is a NULL pointer")
    return address, 0, flags


def _kind_of_ctype(kind: Any) -> str:
    if kind in (ctypes.c_int64, ctypes.c_longlong, ctypes.c_long, ctypes.c_ssize_t):
        return "i" if ctypes.sizeof(kind) == 8 else "?"
    if not isinstance(kind, type):
        return "?"
    if issubclass(kind, ctypes._Pointer):
        return "d" if kind._type_ is ctypes.c_double else "o"
    return "v" if issubclass(kind, ctypes.c_void_p) else "?"


def _from_cffi(value: Any) -> tuple[int, int, int] | None:
    import cffi

    ffi = cffi.FFI()
    kind = ffi.typeof(value)
    if kind.kind != "function":
        return None

    def letter(a: Any) -> str:
        if a.kind == "pointer":
            return {"double": "d", "void": "v"}.get(a.item.cname, "o")
        return "i" if a.kind == "primitive" and ffi.sizeof(a) == 8 and a.cname != "double" else "?"

    result = kind.result
    kinds = "r" if result.kind == "primitive" and result.cname in ("int", "int32_t") else "?"
    kinds += "".join(map(letter, kind.args))
    flags = _flags(kinds, kind.cname)
    address = int(ffi.cast("intptr_t", value))
    if address == 0:
        raise ValueError("the native function is a NULL pointer")
    return address, 0, flags


def _address(pointer: Any) -> int:
    if isinstance(pointer, int) and not isinstance(pointer, bool):
        return pointer
    if type(pointer).__module__ == "_cffi_backend":
        import cffi

        return int(cffi.FFI().cast("intptr_t", pointer))
    try:
        if isinstance(pointer, (bool, str)):  # ctypes would make pointers of them
            raise TypeError
        return ctypes.cast(pointer, ctypes.c_void_p).value or 0
    except (ctypes.ArgumentError, TypeError):
        message = f"user_data must be an address, a ctypes or a cffi pointer, not {type(pointer).__name__}"
        raise TypeError(message) from None
