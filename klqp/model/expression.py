"""Expressions: the arrays a model is written with, each remembering how it is computed from others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Constant", "Expression", "Node", "as_expression"]

Float64 = npt.NDArray[np.float64]
Shape = tuple[int, ...]


class Expression:
    """An array of a model: data, a parameter, a random variable, or what is computed from them.

    Compared by identity. Arithmetic and indexing build further expressions; nothing is computed until an inference
    runs. Operators: ``+ - * / @ **`` (constant power), unary minus, ``[]`` with integers, slices and integer arrays,
    `T`, `reshape` and `sum`; functions: see `klqp.model.nodes`.

    Attributes
    ----------
    shape : tuple of int
    inputs : tuple of Expression
        What it is computed from.
    """

    __iter__ = None

    def __init__(self, shape: Shape, inputs: Sequence[Expression] = ()) -> None:
        self.shape = shape
        self.inputs = tuple(inputs)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The expressions whose arrays `emit` takes: the inputs, unless one is read otherwise."""
        return self.inputs

    def emit(self, emitter: Emitter, inputs: Sequence[int]) -> int:
        """Add this operation to a program, given the numbers of its operands; return the number of its array."""
        raise TypeError(f"{self!r} has no value of its own")

    # --- operators -------------------------------------------------------------------------------------------
    def __add__(self, other: Any) -> Expression:
        return _apply("add", self, other)

    def __radd__(self, other: Any) -> Expression:
        return _apply("add", other, self)

    def __sub__(self, other: Any) -> Expression:
        return _apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return _apply("subtract", other, self)

    def __mul__(self, other: Any) -> Expression:
        return _apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return _apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return _apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return _apply("divide", other, self)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Take over the operators of an ndarray on the left; refuse all other functions of NumPy.

        Raises
        ------
        TypeError
            If the function is not an operator; the message names klqp's own where there is one.
        """
        if ufunc in (np.equal, np.not_equal) and method == "__call__":
            return ufunc is np.not_equal  # by identity, and the other is an array
        if ufunc not in _OPERATORS or method != "__call__" or options:
            raise TypeError(_refusal(ufunc, method))
        return _apply(ufunc.__name__, *inputs)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return an array that holds the expression as an object, as SciPy's sparse matrices on the left ask for.

        Raises
        ------
        TypeError
            If an array of numbers is wanted.
        """
        if dtype is not None and np.dtype(dtype) != object:
            raise TypeError("an expression has no numbers before an inference runs")
        out = np.empty((), object)
        out[()] = self
        return out

    def __neg__(self) -> Expression:
        return _apply("negative", self)

    def __pow__(self, exponent: Any) -> Expression:
        return _apply("power", self, exponent)

    def __matmul__(self, other: Any) -> Expression:
        return _apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Expression:
        return _apply("matmul", other, self)

    def __getitem__(self, key: Any) -> Expression:
        return _apply("take", self, key)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a scalar expression has no length")
        return self.shape[0]

    def __bool__(self) -> bool:
        raise TypeError("an expression has no truth value: it is an array that is not computed yet")

    __hash__ = object.__hash__

    @property
    def T(self) -> Expression:
        """The transpose."""
        return _apply("transpose", self)

    def reshape(self, *shape: int | tuple[int, ...]) -> Expression:
        """Return the same elements, in C order, in another shape."""
        return _apply("reshape", self, *shape)

    def sum(self, axis: int | None = None) -> Expression:
        """Return the sum over all elements or along an axis."""
        return _apply("sum", self, axis)

    def mean(self, axis: int | None = None) -> Expression:
        """Return the mean over all elements or along an axis."""
        return _apply("mean", self, axis)

    def __copy__(self) -> Expression:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Expression:
        return self

    def __repr__(self) -> str:
        return f"<klqp {type(self).__name__} shape={self.shape}>"


# What NumPy calls for an operator between an ndarray and an expression.
_OPERATORS = (np.add, np.subtract, np.multiply, np.divide, np.matmul, np.negative, np.power)
_OTHER_NAMES = {"expit": "sigmoid", "gammaln": "lgamma", "ndtr": "norm_cdf"}


def _refusal(ufunc: np.ufunc, method: str) -> str:
    """Return the error of a function that needs the numbers of an array."""
    from klqp.model import nodes

    name = _OTHER_NAMES.get(ufunc.__name__, ufunc.__name__)
    called = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    if method == "__call__" and name in nodes.__all__:
        hint = f"use klqp.{name}"
    else:
        hint = "klqp has no such function; klqp.Deterministic takes one of your own with its gradient"
    return f"NumPy's {called} needs numbers, and an expression has none before an inference runs: {hint}"


def _apply(name: str, *args: Any) -> Expression:
    """Return the result of a function of `klqp.model.nodes`, which imports this file."""
    from klqp.model import nodes

    result: Expression = getattr(nodes, name)(*args)
    return result


class Constant(Expression):
    """An array of data that stays what it is.

    Attributes
    ----------
    value : ndarray
        Read-only, float64.
    """

    def __init__(self, value: npt.ArrayLike) -> None:
        self.value = as_data(value, "a constant")
        super().__init__(self.value.shape)

    @property
    def n_nonzero(self) -> int:
        """Number of elements that are not zero."""
        return int(np.count_nonzero(self.value))

    def emit(self, emitter: Emitter, inputs: Sequence[int]) -> int:
        """Add the data to a program."""
        return emitter.core.data(self.value)


class Node(Expression):
    """The result of a native operation; see csrc/model/nodes.

    Attributes
    ----------
    integer : bool
        Whether it holds integers that may index others.
    """

    integer = False

    def __init__(
        self,
        op: str,
        inputs: Sequence[Expression],
        shape: Shape,
        *,
        integers: Mapping[str, Sequence[int]] | None = None,
        constant: float | None = None,
    ) -> None:
        super().__init__(shape, inputs)
        self.op = op
        self.integers = dict(integers or {})
        self.numbers = {} if constant is None else {"constant": [float(constant)]}

    def emit(self, emitter: Emitter, inputs: Sequence[int]) -> int:
        """Add the operation to a program."""
        return emitter.core.node(self.op, list(inputs), self.size, self.integers, self.numbers)

    def __repr__(self) -> str:
        return f"<klqp {self.op} shape={self.shape}>"


class Reshaped(Expression):
    """The same elements in another shape: no operation at all."""

    def __init__(self, x: Expression, shape: Shape) -> None:
        super().__init__(shape, (x,))

    def emit(self, emitter: Emitter, inputs: Sequence[int]) -> int:
        """Return the array itself."""
        return inputs[0]


def as_expression(value: Any) -> Expression:
    """Return `value` itself when it is an expression, otherwise a constant with its numbers."""
    return value if isinstance(value, Expression) else Constant(value)


def as_data(value: Any, what: str, allow_nan: bool = False) -> Float64:
    """Return data as a read-only C-contiguous float64 array.

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If they are ragged or masked, or hold NaN.
    """
    out = np.array(require_numbers(value, what), np.float64, order="C")
    if not allow_nan and np.isnan(out).any():
        first = tuple(int(i) for i in np.argwhere(np.isnan(out))[0])
        raise ValueError(f"{what} must not hold NaN, but it does at index {first}")
    out.flags.writeable = False
    return out


def require_numbers(value: Any, what: str) -> npt.NDArray[Any]:
    """Return data as a plain array, not copied where they are one.

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If they are ragged, masked, or none.
    """
    if hasattr(value, "_mask") and np.ma.is_masked(value):  # numpy.ma is slow to import
        raise ValueError(f"{what} must not hold masked values: leave them out, or fill them in")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{what} is ragged: {error}") from None
    if array.dtype.kind not in "fiub":
        came = f"dtype {array.dtype}" if array.ndim else type(value).__name__
        raise TypeError(f"{what} must hold real numbers, not {came}")
    if array.size == 0:
        raise ValueError(f"{what} must have elements, but its shape is {array.shape}")
    return array
