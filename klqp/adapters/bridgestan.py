"""Stan models compiled by BridgeStan (``pip install bridgestan``): their C functions as a native log density."""

from __future__ import annotations

import ctypes
import itertools
import os
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core, _native

__all__ = ["StanLogDensity", "is_stan_model"]

Float64 = npt.NDArray[np.float64]

_VOID, _DOUBLES = ctypes.c_void_p, ctypes.POINTER(ctypes.c_double)
_ERROR = ctypes.POINTER(_VOID)  # where Stan puts the address of a message
# The C interface of a BridgeStan library, as far as it is called from Python: (result, arguments).
_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "bs_model_construct": (_VOID, [ctypes.c_char_p, ctypes.c_uint, _ERROR]),
    "bs_model_destruct": (None, [_VOID]),
    "bs_free_error_msg": (None, [_VOID]),
    "bs_name": (ctypes.c_char_p, [_VOID]),
    "bs_model_info": (ctypes.c_char_p, [_VOID]),
    "bs_param_unc_num": (ctypes.c_int, [_VOID]),
    "bs_param_unc_names": (ctypes.c_char_p, [_VOID]),
    "bs_param_num": (ctypes.c_int, [_VOID, ctypes.c_bool, ctypes.c_bool]),
    "bs_param_names": (ctypes.c_char_p, [_VOID, ctypes.c_bool, ctypes.c_bool]),
    "bs_param_constrain": (ctypes.c_int, [_VOID, ctypes.c_bool, ctypes.c_bool, _DOUBLES, _DOUBLES, _VOID, _ERROR]),
}


def is_stan_model(value: Any) -> bool:
    """Return whether `value` is a ``bridgestan.StanModel``, or has its ``stanlib`` (a ctypes library) and ``model``."""
    library = getattr(value, "stanlib", None)
    return isinstance(library, ctypes.CDLL) and isinstance(getattr(value, "model", None), int)


class StanLogDensity:
    """The log density of a Stan model in its unconstrained coordinates.

    `klqp.fit` and `klqp.LogDensity` take a ``bridgestan.StanModel`` as it is; this class is for options, names and the
    way back to Stan's own parameters. A whole run is one call into C++ that calls the model's C functions. Draws at
    which Stan throws are rejected; what it said of the first is in ``inference.rejections["first"]``.

    Parameters
    ----------
    model : bridgestan.StanModel
        Or any object with its two attributes ``stanlib``, the library opened by ctypes, and ``model``, the address of
        a ``bs_model``. It is kept.
    propto : bool, default True
        Leave constants out. With False the ELBO is a bound on Stan's own log evidence.
    jacobian : bool, default True
        Add the log-Jacobians of constrained parameters, which the posterior of the unconstrained ones has.

    Notes
    -----
    A model compiled with ``STAN_THREADS`` is called on several threads, each with its own draws. Calls of others wait
    for each other in the whole process: Stan keeps one autodiff tape for all of them. Calls that do not go through
    klqp are the caller's to keep apart.
    """

    def __init__(self, model: Any, *, propto: bool = True, jacobian: bool = True) -> None:
        if not is_stan_model(model):
            raise TypeError(f"expected a bridgestan.StanModel, not {type(model).__name__}")
        self._model = model
        value, gradient, free_error = (
            ctypes.cast(model.stanlib[name], _VOID).value or 0
            for name in ("bs_log_density", "bs_log_density_gradient", "bs_free_error_msg")
        )
        self._core = _core.BridgeStanModel(
            model.model, value, gradient, free_error, self.dim, propto, jacobian, self.threads
        )
        flags = _native.REENTRANT if self.threads else 0
        owner = (self._core, model)
        self._capsule = _native.make_capsule(_core.BridgeStanModel.function, self._core.address, flags, owner)

    @classmethod
    def load(
        cls,
        library: str | os.PathLike[str],
        data: str = "",
        seed: int = 0,
        *,
        propto: bool = True,
        jacobian: bool = True,
    ) -> StanLogDensity:
        """Return the log density of a compiled model; the Python package bridgestan is not needed.

        Parameters
        ----------
        library : path
            What ``bridgestan.compile_model`` made: ``model_name_model.so``.
        data : str
            JSON, or the path of a file that ends in ``.json``.
        seed : int
            For random numbers in the block ``transformed data``.
        propto, jacobian
            As for the class.

        Raises
        ------
        OSError
            If the library cannot be opened.
        ValueError
            With what Stan says, if it does not take the data.
        """
        opened = ctypes.CDLL(os.path.abspath(os.fspath(library)))
        error = _VOID()
        model = _function(opened, "bs_model_construct")(data.encode(), seed, ctypes.byref(error))
        if not model:
            raise ValueError(_message(opened, error))
        return cls(_OpenedModel(opened, model), propto=propto, jacobian=jacobian)

    @property
    def dim(self) -> int:
        """The number of unconstrained coordinates."""
        return int(self._call("bs_param_unc_num"))

    @property
    def threads(self) -> bool:
        """Whether the model was compiled with ``STAN_THREADS``."""
        return "STAN_THREADS=true" in self._call("bs_model_info").decode()

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self._call("bs_name").decode())

    @property
    def unconstrained_names(self) -> list[str]:
        """Stan's names of the unconstrained coordinates, like ``beta.2``."""
        return _split(self._call("bs_param_unc_names"))

    @property
    def names(self) -> list[str]:
        """Stan's names of the elements of the parameters, like ``sigma`` and ``beta.2``."""
        return _split(self._call("bs_param_names", False, False))

    def constrain(self, draws: npt.ArrayLike) -> dict[str, Float64]:
        """Return draws of Stan's parameters for draws of the unconstrained coordinates.

        Parameters
        ----------
        draws : array_like (n, dim)
            For example ``inference.posterior["z"].sample(1000)``.

        Returns
        -------
        dict of str to ndarray (n, *shape)
            By parameter, in the order in which the model declares them. The elements of tuples and of complex numbers
            stand one by one.

        Raises
        ------
        ValueError
            If the shape is another one, or with what Stan says of a draw.
        """
        z = np.ascontiguousarray(draws, np.float64)
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise ValueError(f"draws must have shape (n, {self.dim}), not {z.shape}")
        out = np.empty((len(z), self._call("bs_param_num", False, False)))
        for row, to in zip(z, out, strict=True):
            error = _VOID()
            pointers = (row.ctypes.data_as(_DOUBLES), to.ctypes.data_as(_DOUBLES))
            if self._call("bs_param_constrain", False, False, *pointers, None, ctypes.byref(error)) != 0:
                raise ValueError(_message(self._model.stanlib, error))
        return _by_parameter(self.names, out)

    def __klqp_logdensity__(self) -> Any:
        """Return the capsule ``"klqp.logdensity.v1"``."""
        return self._capsule

    def _call(self, name: str, *args: Any) -> Any:
        return _function(self._model.stanlib, name)(self._model.model, *args)


class _OpenedModel:
    """A model that we made and destroy."""

    def __init__(self, library: ctypes.CDLL, model: int) -> None:
        self.stanlib, self.model = library, model
        weakref.finalize(self, _function(library, "bs_model_destruct"), model).atexit = False


def _function(library: ctypes.CDLL, name: str) -> Any:
    """Return a function of the library with its types; one of our own, as bridgestan sets other types on its own."""
    function = library[name]
    function.restype, function.argtypes = _PROTOTYPES[name]
    return function


def _message(library: ctypes.CDLL, error: ctypes.c_void_p) -> str:
    """Return Stan's message, and free it."""
    if not error.value:
        return "Stan gives no message"
    message = ctypes.string_at(error.value).decode(errors="replace").strip()
    _function(library, "bs_free_error_msg")(error)
    return message


def _split(names: bytes) -> list[str]:
    return names.decode().split(",") if names else []


def _by_parameter(names: list[str], values: Float64) -> dict[str, Float64]:
    """Gather columns ``beta.1.1, beta.2.1, ...``, the first index the fastest, into arrays."""
    parameters: dict[str, Float64] = {}
    columns = iter(values.T)
    for parameter, group in itertools.groupby(names, _parameter_of):
        members = list(group)
        block = np.stack([next(columns) for _ in members], -1)
        shape = tuple(int(index) for index in members[-1].split(".")[1:]) if members[-1] != parameter else ()
        parameters[parameter] = block.reshape((len(values), *shape), order="F") if shape else block[:, 0]
    return parameters


def _parameter_of(name: str) -> str:
    base, *indices = name.split(".")
    return base if all(index.isdigit() for index in indices) else name
