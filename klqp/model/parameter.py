"""Parameters, which are optimised, and placeholders, whose data come later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from klqp._checks import positive_int
from klqp.model.expression import Expression, as_data
from klqp.model.supports import as_support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Parameter", "Placeholder", "placeholder"]

Float64 = npt.NDArray[np.float64]


class Parameter(Expression):
    """An array that an inference optimises: of q, or of the model.

    It keeps its value: inferences that share a parameter go on from where the last one left it.

    Parameters
    ----------
    init : array_like
        First value, in the parameter's own space; its shape is the parameter's.
    support : str or tuple, default "real"
        "real", "positive", "softplus" (positive, through softplus), "unit_interval", "simplex", "ordered",
        "cholesky_cov", ("interval", a, b), ("lower", a), ...: the parameter stays there, because what is optimised
        are its unconstrained coordinates (docs/maths.md, Transforms).
    name : str, optional

    Attributes
    ----------
    value : ndarray
        The present value, a copy; it may be set.

    Raises
    ------
    TypeError, ValueError
        If `init` does not hold real finite numbers in the support.

    Examples
    --------
    >>> import klqp
    >>> sigma = klqp.Parameter(1.0, support="positive", name="sigma")
    >>> sigma.value
    array(1.)
    """

    def __init__(self, init: npt.ArrayLike, support: Any = "real", name: str | None = None) -> None:
        self.name = _checked_name(name)
        self.support = as_support(support)
        value = as_data(init, self._what("init"))
        super().__init__(value.shape)
        self._bijector = self.support.transform(self.shape)
        self._version = 0
        self._u = self._first = self._to_unconstrained(value, "init")

    @property
    def value(self) -> Float64:
        """The present value, in the parameter's own space."""
        return self._bijector.forward(self._u[None])[0].reshape(self.shape)

    @value.setter
    def value(self, value: npt.ArrayLike) -> None:
        array = as_data(value, self._what("value"))
        if array.shape != self.shape:
            raise ValueError(f"{self._what('value')} must have shape {self.shape}, not {array.shape}")
        self._set_unconstrained(self._to_unconstrained(array, "value"))

    @property
    def unconstrained(self) -> Float64:
        """The coordinates that are optimised: flat, a copy."""
        return self._u.copy()

    @property
    def is_real(self) -> bool:
        """Whether the value is its own unconstrained coordinates."""
        return self.support.bijector == "identity"

    @property
    def n_unconstrained(self) -> int:
        """Number of unconstrained coordinates."""
        return self._bijector.n_unconstrained

    def reset(self) -> None:
        """Return to the first value."""
        self._set_unconstrained(self._first)

    def emit(self, emitter: Emitter, inputs: Sequence[int]) -> int:
        """Add the parameter to a program."""
        return emitter.parameter(self)

    def _set_unconstrained(self, u: Float64) -> None:
        self._u = u.copy()
        self._version += 1

    def _to_unconstrained(self, value: Float64, which: str) -> Float64:
        u: Float64 = self._bijector.inverse(value.reshape(1, -1))[0]
        if not np.isfinite(u).all():
            raise ValueError(f"{self._what(which)} must be inside the support {self.support}, not {value!r}")
        return u

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_bijector"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bijector = self.support.transform(self.shape)

    def _what(self, which: str) -> str:
        return f"{which} of parameter {self.name!r}" if self.name else f"the parameter's {which}"

    def __repr__(self) -> str:
        return f"<klqp.Parameter {self.name!r} shape={self.shape} support={self.support}>"


class Placeholder(Expression):
    """An array of data that `update(feed_dict)` provides; made by `placeholder`."""

    def __init__(self, shape: tuple[int, ...], integer: bool, name: str | None) -> None:
        super().__init__(shape)
        self.integer = integer
        self.name = name

    def checked(self, value: Any) -> Float64:
        """Return data for it as an array.

        Raises
        ------
        TypeError, ValueError
            If they do not fit.
        """
        what = f"the data of placeholder {self.name!r}" if self.name else "the placeholder's data"
        array = as_data(value, what)
        if array.shape != self.shape:
            raise ValueError(f"{what} must have shape {self.shape}, not {array.shape}")
        if self.integer and not (array == np.floor(array)).all():
            raise TypeError(f"{what} must be integers")
        return array

    def emit(self, emitter: Emitter, inputs: Sequence[int]) -> int:
        """Add room for the data to a program; zeros until they come."""
        slot = emitter.core.data(np.zeros(self.shape), feedable=True)
        emitter.placeholders.setdefault(self, []).append(slot)
        return slot

    def __repr__(self) -> str:
        return f"<klqp.placeholder {self.name!r} shape={self.shape}>"


def placeholder(
    shape: int | tuple[int, ...] = (), dtype: npt.DTypeLike = float, name: str | None = None
) -> Placeholder:
    """Return an array whose data come with each step: ``inference.update(feed_dict={x: batch})``.

    Parameters
    ----------
    shape : int or tuple of int
    dtype : dtype, default float
        An integer type for arrays that index others: ``u[index]``.
    name : str, optional
    """
    sizes = shape if isinstance(shape, tuple) else (shape,)
    integer = np.dtype(dtype).kind in "iu"
    if not integer and np.dtype(dtype).kind != "f":
        raise TypeError(f"dtype must be a float or an integer type, not {np.dtype(dtype)}")
    return Placeholder(tuple(positive_int("each size in shape", n) for n in sizes), integer, _checked_name(name))


def _checked_name(name: str | None) -> str | None:
    if name is not None and (not isinstance(name, str) or not name):
        raise ValueError(f"name must be a string that is not empty, not {name!r}")
    return name
