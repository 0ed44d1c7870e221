"""Operations on expressions: the vocabulary of models.

Every function takes expressions, arrays and numbers, and returns an expression. What depends on data alone is computed
once, not in every step.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from klqp.model.design import Design, Product, has_design, is_matrix, is_sparse
from klqp.model.expression import Constant, Expression, Node, Reshaped, as_expression

__all__ = [
    "absolute",
    "add",
    "broadcast_to",
    "cholesky",
    "concatenate",
    "cos",
    "cumsum",
    "diag",
    "digamma",
    "divide",
    "dot",
    "exp",
    "expm1",
    "lgamma",
    "log",
    "log1p",
    "log_softmax",
    "logsumexp",
    "matmul",
    "mean",
    "multiply",
    "negative",
    "norm_cdf",
    "outer",
    "power",
    "rbf",
    "relu",
    "reshape",
    "sigmoid",
    "sin",
    "softmax",
    "softplus",
    "solve_triangular",
    "sqrt",
    "square",
    "stack",
    "subtract",
    "sum",
    "take",
    "tanh",
    "transpose",
    "tril",
    "xlog1py",
    "xlogy",
]

Shape = tuple[int, ...]


# --- elementwise functions -------------------------------------------------------------------------------------
def _unary(op: str, x: Any, constant: float | None = None) -> Expression:
    x = as_expression(x)
    return Node(op, [x], x.shape, constant=constant)


def negative(x: Any) -> Expression:
    """Return -x."""
    return _unary("negative", x)


def exp(x: Any) -> Expression:
    """Return e**x."""
    return _unary("exp", x)


def log(x: Any) -> Expression:
    """Return the natural logarithm."""
    return _unary("log", x)


def log1p(x: Any) -> Expression:
    """Return log(1 + x), accurate near 0."""
    return _unary("log1p", x)


def expm1(x: Any) -> Expression:
    """Return e**x - 1, accurate near 0."""
    return _unary("expm1", x)


def sqrt(x: Any) -> Expression:
    """Return the square root."""
    return _unary("sqrt", x)


def square(x: Any) -> Expression:
    """Return x**2."""
    return _unary("square", x)


def sigmoid(x: Any) -> Expression:
    """Return 1 / (1 + e**-x)."""
    return _unary("sigmoid", x)


def softplus(x: Any) -> Expression:
    """Return log(1 + e**x)."""
    return _unary("softplus", x)


def tanh(x: Any) -> Expression:
    """Return the hyperbolic tangent."""
    return _unary("tanh", x)


def relu(x: Any) -> Expression:
    """Return max(x, 0); its derivative at 0 is taken as 0."""
    return _unary("relu", x)


def absolute(x: Any) -> Expression:
    """Return abs(x); its derivative at 0 is taken as 0."""
    return _unary("abs", x)


def sin(x: Any) -> Expression:
    """Return the sine."""
    return _unary("sin", x)


def cos(x: Any) -> Expression:
    """Return the cosine."""
    return _unary("cos", x)


def lgamma(x: Any) -> Expression:
    """Return log(abs(gamma(x)))."""
    return _unary("lgamma", x)


def digamma(x: Any) -> Expression:
    """Return the derivative of `lgamma`."""
    return _unary("digamma", x)


def norm_cdf(x: Any) -> Expression:
    """Return the standard normal distribution function."""
    return _unary("norm_cdf", x)


def power(x: Any, exponent: Any) -> Expression:
    """Return x**exponent for a constant exponent.

    Raises
    ------
    TypeError
        If the exponent is not a number: write ``exp(exponent * log(x))``.
    """
    number = as_expression(exponent)
    if not _is_number(number):
        raise TypeError("the exponent must be one constant number; for others write exp(exponent * log(x))")
    exponent = float(number.value)
    named = {2.0: "square", -1.0: "reciprocal", 0.5: "sqrt"}
    if exponent in named:
        return _unary(named[exponent], x)
    return _unary("power", x, exponent)


# --- arithmetic ------------------------------------------------------------------------------------------------
def _binary(op: str, a: Any, b: Any) -> Expression:
    x, y = as_expression(a), as_expression(b)
    try:
        shape = np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        raise ValueError(f"shapes {x.shape} and {y.shape} cannot be broadcast together") from None
    size = math.prod(shape)
    return Node(op, [e if e.size in (1, size) else broadcast_to(e, shape) for e in (x, y)], shape)


def _is_number(x: Expression) -> TypeGuard[Constant]:
    return isinstance(x, Constant) and x.ndim == 0


def _with_number(op: str, x: Expression, number: Constant) -> Expression:
    return _unary(op, x, float(number.value))


def add(a: Any, b: Any) -> Expression:
    """Return a + b, broadcast as NumPy does."""
    x, y = as_expression(a), as_expression(b)
    if _is_number(y):
        return _with_number("add_constant", x, y)
    return _with_number("add_constant", y, x) if _is_number(x) else _binary("add", x, y)


def subtract(a: Any, b: Any) -> Expression:
    """Return a - b, broadcast as NumPy does."""
    x, y = as_expression(a), as_expression(b)
    return _with_number("add_constant", x, Constant(-y.value)) if _is_number(y) else _binary("subtract", x, y)


def multiply(a: Any, b: Any) -> Expression:
    """Return a * b, broadcast as NumPy does."""
    if isinstance(a, np.matrix) or isinstance(b, np.matrix):
        raise TypeError("* of an np.matrix is a product of matrices, of expressions not: write @, or use np.asarray")
    x, y = as_expression(a), as_expression(b)
    if _is_number(y):
        return _with_number("multiply_constant", x, y)
    return _with_number("multiply_constant", y, x) if _is_number(x) else _binary("multiply", x, y)


def divide(a: Any, b: Any) -> Expression:
    """Return a / b, broadcast as NumPy does."""
    return _binary("divide", a, b)


def xlogy(a: Any, b: Any) -> Expression:
    """Return a * log(b), 0 where a is; its derivatives at a = b = 0 are taken as 0."""
    return _binary("xlogy", a, b)


def xlog1py(a: Any, b: Any) -> Expression:
    """Return a * log(1 + b), 0 where a is; its derivatives at a = 0, b = -1 are taken as 0."""
    return _binary("xlog1py", a, b)


def broadcast_to(x: Any, shape: Shape) -> Expression:
    """Return x repeated to a shape, by NumPy's rules."""
    source = as_expression(x)
    if source.shape == tuple(shape):
        return source
    try:
        index = np.broadcast_to(_positions(source), shape)
    except ValueError:
        raise ValueError(f"shape {source.shape} cannot be broadcast to {tuple(shape)}") from None
    return _gather(source, index)


# --- products --------------------------------------------------------------------------------------------------
def matmul(a: Any, b: Any) -> Expression:
    """Return the matrix product of arrays with one or two axes.

    Parameters
    ----------
    a, b : array_like, expression or sparse matrix
        A matrix of data that is multiplied by an expression is not copied where it is float64 or float32 and its rows
        or columns are contiguous: do not change it while the model is used. Matrices of SciPy stay sparse.

    Raises
    ------
    ValueError
        If the shapes do not fit, or have other numbers of axes; if a matrix holds NaN or infinite numbers.
    """
    if is_sparse(b) or (is_matrix(b) and isinstance(a, Expression) and a.ndim == 1):
        left = b.T if is_sparse(b) else np.asarray(b).T
        return transpose(matmul(left, transpose(a)))
    x, y = Design(a) if is_matrix(a) else as_expression(a), as_expression(b)
    if not (1 <= x.ndim <= 2 and 1 <= y.ndim <= 2) or x.shape[-1] != y.shape[0]:
        raise ValueError(f"cannot multiply matrices of shapes {x.shape} and {y.shape}")
    if has_design(x):
        return Product(x, y)
    m, k, n = (x.shape[0] if x.ndim == 2 else 1), x.shape[-1], (y.shape[1] if y.ndim == 2 else 1)
    return Node("matmul", [x, y], x.shape[:-1] + y.shape[1:], integers={"m": [m], "k": [k], "n": [n]})


def dot(a: Any, b: Any) -> Expression:
    """Return the sum of a * b along the last axis: with gathered rows, ``dot(u[i], v[j])``."""
    if is_matrix(a) and isinstance(b, Expression) and b.ndim == 1:
        return matmul(a, b)
    return sum(multiply(a, b), -1)


def outer(a: Any, b: Any) -> Expression:
    """Return the outer product of two vectors."""
    x, y = as_expression(a), as_expression(b)
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(f"outer takes vectors, not shapes {x.shape} and {y.shape}")
    return matmul(reshape(x, (x.size, 1)), reshape(y, (1, y.size)))


# --- along an axis ---------------------------------------------------------------------------------------------
def _along(op: str, x: Any, axis: int | None, keeps: bool) -> Expression:
    x = as_expression(x)
    shape, at = ((x.size,), 0) if axis is None else (x.shape, _axis(x, axis))
    sizes = {"outer": [math.prod(shape[:at])], "n": [shape[at]], "inner": [math.prod(shape[at + 1 :])]}
    out = x.shape if keeps else shape[:at] + shape[at + 1 :]
    return Node(op, [x], out, integers=sizes)


def _axis(x: Expression, axis: int) -> int:
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be one integer or None, not {axis!r}") from None
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} is out of bounds for shape {x.shape}")
    return axis % x.ndim


def sum(x: Any, axis: int | None = None) -> Expression:
    """Return the sum over all elements, or along one axis."""
    x = as_expression(x)
    return x if axis is None and x.ndim == 0 else _along("sum", x, axis, False)


def mean(x: Any, axis: int | None = None) -> Expression:
    """Return the mean over all elements, or along one axis."""
    x = as_expression(x)
    n = x.size if axis is None else x.shape[_axis(x, axis)]
    return multiply(sum(x, axis), 1.0 / n)


def logsumexp(x: Any, axis: int | None = None) -> Expression:
    """Return log(sum(exp(x))) over all elements, or along one axis, without overflow."""
    return _along("logsumexp", x, axis, False)


def log_softmax(x: Any, axis: int = -1) -> Expression:
    """Return x - logsumexp(x) along an axis."""
    return _along("log_softmax", x, axis, True)


def softmax(x: Any, axis: int = -1) -> Expression:
    """Return exp(x) over its sum along an axis."""
    return exp(log_softmax(x, axis))


def cumsum(x: Any, axis: int | None = None) -> Expression:
    """Return running sums over all elements in C order, or along one axis."""
    x = as_expression(x)
    if axis is None and x.ndim != 1:
        x = reshape(x, (x.size,))
    return _along("cumsum", x, axis, True)


# --- matrices --------------------------------------------------------------------------------------------------
def cholesky(x: Any) -> Expression:
    """Return the lower Cholesky factors of symmetric positive definite matrices, the last two axes.

    Only the lower triangles are read. Where a matrix is not positive definite its factor is NaN.

    Raises
    ------
    ValueError
        If the matrices are not square.
    """
    x = as_expression(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"cholesky takes square matrices, not shape {x.shape}")
    return Node("cholesky", [x], x.shape, integers={"n": [math.prod(x.shape[:-2])], "size": [x.shape[-1]]})


def solve_triangular(a: Any, b: Any, transposed: bool = False) -> Expression:
    """Return ``inv(a) @ b`` for lower triangular matrices a.

    Parameters
    ----------
    a : array_like or expression (..., D, D)
        Only the lower triangles are read.
    b : array_like or expression (D,), (D, k) or (..., D, k)
        A vector or matrices; matrices a of a batch need as many matrices b.
    transposed : bool
        Solve with the transpose of a instead.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    x, y = as_expression(a), as_expression(b)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"solve_triangular takes square matrices, not shape {x.shape}")
    size, batch = x.shape[-1], y.shape[:-2]
    rows = y.shape[-2:-1] if y.ndim > 1 else y.shape
    if rows != (size,) or x.shape[:-2] not in ((), batch):
        raise ValueError(f"solve_triangular: shapes {x.shape} and {y.shape} do not fit together")
    sizes = {
        "n": math.prod(batch),
        "size": size,
        "cols": y.shape[-1] if y.ndim > 1 else 1,
        "transposed": int(transposed),
    }
    return Node("solve_triangular", [x, y], y.shape, integers={key: [n] for key, n in sizes.items()})


def rbf(x: Any, x2: Any = None, lengthscale: Any = 1.0, variance: Any = 1.0, jitter: float = 0.0) -> Expression:
    """Return the kernel matrix ``variance * exp(-|x_i - x2_j|^2 / (2 lengthscale^2))`` of points.

    Parameters
    ----------
    x : array_like or expression (n, d)
        Points; (n,) for points on a line.
    x2 : array_like or expression (m, d), optional
        Other points; default: x again.
    lengthscale : array_like or expression, () or (d,)
        One for all coordinates, or one for each.
    variance : number or expression
    jitter : float
        Added to the diagonal when there are no other points, so that the matrix has a Cholesky factor.

    Returns
    -------
    Expression (n, m)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    points = [as_expression(p) for p in ([x] if x2 is None else [x, x2])]
    points = [reshape(p, (p.size, 1)) if p.ndim == 1 else p for p in points]
    scale, spread = as_expression(lengthscale), as_expression(variance)
    d = points[0].shape[-1] if points[0].ndim else 0
    if any(p.ndim != 2 or p.shape[1] != d for p in points):
        raise ValueError(f"rbf takes points (n, d), not shapes {[p.shape for p in points]}")
    if scale.shape not in ((), (1,), (d,)) or spread.size != 1:
        raise ValueError(
            f"rbf takes 1 or {d} lengthscales and one variance, not shapes {scale.shape} and {spread.shape}"
        )
    shape = (points[0].shape[0], points[-1].shape[0])
    sizes = {"n": shape[0], "m": shape[1], "d": d, "cross": int(x2 is not None)}
    inputs = [*points, scale, spread]
    return Node("rbf", inputs, shape, integers={key: [n] for key, n in sizes.items()}, constant=jitter)


def diag(x: Any) -> Expression:
    """Return diagonal matrices (..., D, D) from vectors (..., D)."""
    x = as_expression(x)
    if x.ndim == 0:
        raise ValueError("diag takes vectors, not a scalar")
    size = x.shape[-1]
    where = np.full((*x.shape, size), x.size)
    where[..., np.arange(size), np.arange(size)] = _positions(x)
    return _gather(concatenate([reshape(x, (x.size,)), np.zeros(1)]), where)


def tril(x: Any) -> Expression:
    """Return lower triangular matrices (..., D, D) from the rows of their triangles, vectors (..., D (D + 1) / 2)."""
    x = as_expression(x)
    size = (math.isqrt(8 * x.shape[-1] + 1) - 1) // 2 if x.ndim else 0
    if size < 1 or size * (size + 1) // 2 != x.shape[-1]:
        raise ValueError(f"tril takes vectors of 1, 3, 6, 10, ... elements, not shape {x.shape}")
    where = np.full((*x.shape[:-1], size, size), x.size)
    where[..., *np.tril_indices(size)] = _positions(x)
    return _gather(concatenate([reshape(x, (x.size,)), np.zeros(1)]), where)


# --- layout ----------------------------------------------------------------------------------------------------
def reshape(x: Any, *shape: int | tuple[int, ...]) -> Expression:
    """Return the same elements, in C order, in another shape; one size may be -1."""
    x = as_expression(x)
    wanted: Any = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    out = np.empty(x.shape, np.bool_).reshape(wanted).shape  # NumPy's rules, and its errors
    return x if out == x.shape else Reshaped(x, out)


def transpose(x: Any, axes: Sequence[int] | None = None) -> Expression:
    """Return x with its axes reversed, or in the given order."""
    x = as_expression(x)
    return _gather(x, _positions(x).transpose(axes))


def concatenate(parts: Sequence[Any], axis: int = 0) -> Expression:
    """Return arrays joined along an axis that they have."""
    xs = [as_expression(x) for x in parts]
    if not xs:
        raise ValueError("concatenate needs at least one array")
    if any(x.ndim == 0 for x in xs):
        raise ValueError("scalars cannot be concatenated; use stack")
    at = _axis(xs[0], axis)
    rest = [x.shape[:at] + x.shape[at + 1 :] for x in xs]
    if any(r != rest[0] or x.ndim != xs[0].ndim for r, x in zip(rest, xs, strict=True)):
        raise ValueError(f"shapes {[x.shape for x in xs]} do not fit together along axis {axis}")
    first = xs[0].shape
    shape = (*first[:at], builtins.sum(x.shape[at] for x in xs), *first[at + 1 :])
    return Node("concatenate", xs, shape, integers={"outer": [math.prod(shape[:at])]})


def stack(parts: Sequence[Any], axis: int = 0) -> Expression:
    """Return arrays of one shape joined along a new axis."""
    xs = [as_expression(x) for x in parts]
    if not xs or any(x.shape != xs[0].shape for x in xs):
        raise ValueError(f"stack needs arrays of one shape, not {[x.shape for x in xs]}")
    shape = xs[0].shape
    if not -len(shape) - 1 <= axis <= len(shape):
        raise ValueError(f"axis {axis} is out of bounds for a stack of arrays of shape {shape}")
    at = axis % (len(shape) + 1)
    return concatenate([reshape(x, (*shape[:at], 1, *shape[at:])) for x in xs], at)


def take(x: Any, key: Any) -> Expression:
    """Return ``x[key]``: integers, slices, integer arrays, Ellipsis, None; or one placeholder of integers.

    Parameters
    ----------
    x : expression, array_like or sparse matrix
        ``take(X, index) @ w`` reads the rows of a matrix of data where they lie, as `matmul` does. Rows of data that
        are integers are an index themselves: ``u[take(group, index)]``.
    key : index

    Raises
    ------
    TypeError
        If an index is not of integers.
    IndexError
        If it is out of bounds.
    """
    if isinstance(key, Expression):
        return _take_rows(Design(x) if is_matrix(x) else as_expression(x), key)
    x = as_expression(x)
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, Expression) for part in parts):
        raise TypeError("an index that is an expression must be the only one: x[index] takes rows")
    for part in parts:
        if not (isinstance(part, slice) or part is None or part is Ellipsis):
            kind = np.asarray(part).dtype.kind
            if kind not in "iub":
                raise TypeError(f"an index must hold integers, not {np.asarray(part).dtype}")
    return _gather(x, np.asarray(_positions(x)[key]))


def _take_rows(x: Expression, index: Expression) -> Expression:
    if not getattr(index, "integer", False):
        raise TypeError(
            "an index must be integers, a placeholder with dtype=int, such rows of integer data, or a discrete random "
            "variable of numbers"
        )
    if x.ndim == 0:
        raise IndexError("a scalar cannot be indexed")
    width = math.prod(x.shape[1:])
    rows = Node("gather", [x, index], index.shape + x.shape[1:], integers={"width": [width]})
    rows.integer = type(x) is Constant and bool((x.value == np.floor(x.value)).all())
    return rows


def _positions(x: Expression) -> npt.NDArray[np.int64]:
    return np.arange(x.size).reshape(x.shape)


def _gather(x: Expression, index: npt.NDArray[np.int64]) -> Expression:
    """Return the elements of x, in C order, at the positions `index`."""
    if index.size == 0:
        raise IndexError(f"the index selects nothing from shape {x.shape}")
    if isinstance(x, Constant):
        return Constant(x.value.ravel()[index])
    flat = index.ravel()
    if np.array_equal(flat, np.arange(flat[0], flat[0] + flat.size)):
        if flat.size == x.size:
            return reshape(x, index.shape)
        return Node("slice", [x], index.shape, integers={"begin": [int(flat[0])]})
    width = _block_width(x, flat)
    blocks = Constant(flat[::width] // width)
    return Node("gather", [x, blocks], index.shape, integers={"width": [width]})


def _block_width(x: Expression, flat: npt.NDArray[np.int64]) -> int:
    """Return the largest product of x's last sizes whose whole blocks are what is taken."""
    width = 1
    for n in reversed(x.shape[1:]):
        wider = width * n
        if flat.size % wider:
            break
        blocks = flat.reshape(-1, wider)
        starts = blocks[:, 0]
        if (starts % wider).any() or not np.array_equal(blocks, starts[:, None] + np.arange(wider)):
            break
        width = wider
    return width


UNARY: dict[str, Callable[[Any], Expression]] = {
    "negative": negative,
    "exp": exp,
    "log": log,
    "log1p": log1p,
    "expm1": expm1,
    "sqrt": sqrt,
    "square": square,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "tanh": tanh,
    "relu": relu,
    "abs": absolute,
    "sin": sin,
    "cos": cos,
    "lgamma": lgamma,
    "digamma": digamma,
    "norm_cdf": norm_cdf,
}
