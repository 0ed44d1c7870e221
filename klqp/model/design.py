"""Design matrices: data on the left of a matrix product, which are read where they lie and never copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.model.expression import Constant, Expression, Node, require_numbers

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Design", "Product", "is_sparse"]

Array = npt.NDArray[Any]

_CHUNK = 2**16  # numbers that are looked at together: no temporary array of a matrix's own size


class Design(Constant):
    """A matrix of data, float64 or float32, dense or sparse, that is not copied.

    Parameters
    ----------
    value : array_like or sparse matrix (n, d)
        An ndarray of float64 or float32 whose rows or columns are contiguous, a memory map too, is used as it is and
        must not change while models use it. Others are converted once.

    Attributes
    ----------
    value : ndarray or scipy.sparse.csr_array
        A read-only view.

    Raises
    ------
    TypeError
        If it does not hold real numbers.
    ValueError
        If it has no elements, or holds masked, infinite or NaN ones.
    """

    value: Any

    def __init__(self, value: Any) -> None:
        self.value = _as_csr(value) if is_sparse(value) else _as_dense(value)
        Expression.__init__(self, self.value.shape)

    @property
    def sparse(self) -> bool:
        """Whether it is in compressed sparse rows."""
        return is_sparse(self.value)

    @property
    def n_nonzero(self) -> int:
        """Number of elements that are not zero."""
        return int(np.count_nonzero(self.value.data if self.sparse else self.value))

    def native(self) -> _core.DesignMatrix:
        """Return the matrix as the core reads it; it keeps the arrays alive."""
        if self.sparse:
            n, d = self.shape
            return _core.DesignMatrix.csr(self.value.data, self.value.indices, self.value.indptr, (n, d))
        return _core.DesignMatrix(self.value)

    def emit(self, emitter: Emitter, inputs: Sequence[int]) -> int:
        """Add the elements to a program, as a copy; `Product` does not need it."""
        if self.sparse:
            raise TypeError("a sparse matrix can only be multiplied: X @ w, or klqp.take(X, index) @ w")
        return emitter.core.data(np.ascontiguousarray(self.value, np.float64))

    def __repr__(self) -> str:
        return f"<klqp data {self.words}>"

    @property
    def words(self) -> str:
        """Shape, type and layout in words."""
        layout = " sparse" if self.sparse else ""
        return f"{self.shape} {self.value.dtype}{layout}"


class Product(Node):
    """A design matrix times coefficients (d,) or (d, k); perhaps only some of its rows.

    Parameters
    ----------
    matrix : Expression (n, d)
        A `Design`, or rows of one by an index (a gather node).
    coef : Expression
    """

    # Dense matrices of up to so many numbers, 2 MB, are copied after all: the node for whole matrices is faster then.
    small: ClassVar[int] = 2**18

    def __init__(self, matrix: Expression, coef: Expression) -> None:
        n, d = matrix.shape
        k = coef.shape[1] if coef.ndim == 2 else 1
        super().__init__("matmul", [matrix, coef], (n, *coef.shape[1:]), integers={"m": [n], "k": [d], "n": [k]})
        self.design, self.rows = split_rows(matrix)

    @property
    def operands(self) -> tuple[Expression, ...]:
        """The inputs whose arrays are needed: not the matrix."""
        return self.inputs[1:] if self.rows is None else (*self.inputs[1:], self.rows)

    def emit(self, emitter: Emitter, inputs: Sequence[int]) -> int:
        """Add the product to a program."""
        coef, *rows = inputs
        if not (rows or self.design.sparse) and self.design.size <= self.small:
            return super().emit(emitter, [emitter.emit(self.design), coef])
        return emitter.core.product(self.design.native(), coef, self.integers["n"][0], *rows)


def split_rows(matrix: Expression) -> tuple[Design, Expression | None]:
    """Return the design matrix of `Product`'s first input, and the index of its rows."""
    if isinstance(matrix, Design):
        return matrix, None
    design, rows = matrix.inputs
    assert isinstance(design, Design)
    return design, rows


def has_design(matrix: Expression) -> bool:
    """Return whether a matrix is a design matrix, or rows of one by an index."""
    if isinstance(matrix, Node) and matrix.op == "gather" and matrix.ndim == 2:
        matrix = matrix.inputs[0]
    return isinstance(matrix, Design)


def is_sparse(value: Any) -> bool:
    """Return whether a value is a sparse matrix or array of SciPy."""
    return type(value).__module__.startswith("scipy.sparse") and hasattr(value, "tocsr")


def is_matrix(value: Any) -> bool:
    """Return whether a value is a matrix of data: with two axes, and not an expression."""
    if isinstance(value, Expression):
        return False
    try:
        return is_sparse(value) or np.ndim(value) == 2
    except ValueError:  # ragged
        return False


def _as_dense(value: Any) -> Array:
    array = require_numbers(value, "a matrix")
    if array.dtype not in (np.float64, np.float32):
        array = array.astype(np.float64)
    elif not _has_lines(array):
        array = np.ascontiguousarray(array)
    view = array.view()
    view.flags.writeable = False
    _require_finite(view)
    return view


def _has_lines(x: Array) -> bool:
    """Return whether rows, or columns, are contiguous and do not overlap."""
    size = x.itemsize
    by_rows = x.strides[1] == size and x.strides[0] >= x.shape[1] * size
    by_columns = x.strides[0] == size and x.strides[1] >= x.shape[0] * size
    return bool(x.flags.aligned and (by_rows or by_columns))


def _as_csr(value: Any) -> Any:
    from scipy.sparse import csr_array

    if value.dtype.kind not in "fiub":
        raise TypeError(f"a sparse matrix must hold real numbers, not dtype {value.dtype}")
    if value.ndim != 2 or 0 in value.shape:
        raise ValueError(f"a sparse matrix must have two axes and elements, but its shape is {value.shape}")
    dtype = value.dtype if value.dtype in (np.float64, np.float32) else np.float64
    rows = csr_array(value, dtype=dtype)
    if not _is_finite(rows.data):
        raise ValueError("a sparse matrix must hold finite numbers only, not NaN or infinite ones")
    return rows


def _require_finite(x: Array) -> None:
    """Raise ValueError where a matrix holds NaN or infinite numbers; says where the first one is."""
    by_rows = x.strides[1] <= x.strides[0]
    lines = x if by_rows else x.T
    step = max(1, _CHUNK // lines.shape[1])
    for begin in range(0, len(lines), step):
        part = lines[begin : begin + step]
        if not _is_finite(part):
            i, j = (int(at) for at in np.argwhere(~np.isfinite(part))[0])
            index = (begin + i, j) if by_rows else (j, begin + i)
            raise ValueError(f"a matrix must hold finite numbers only, but it has {x[index]} at index {index}")


def _is_finite(x: Array) -> bool:
    """Return whether all numbers are finite; their sum is a quicker answer than theirs where it is finite itself."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = x.sum(dtype=x.dtype)
    return bool(np.isfinite(total) or np.isfinite(x).all())
