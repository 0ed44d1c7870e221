"""Linear predictors: an expression read as a sum of matrix products, gathered effects and other arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from klqp.model import nodes
from klqp.model.design import Design, has_design, split_rows
from klqp.model.expression import Constant, Expression, Node, Reshaped
from klqp.model.parameter import Parameter
from klqp.model.random_variable import RandomVariable

__all__ = ["ArrayTerm", "GatherTerm", "MatrixTerm", "Term", "read_linear_predictor"]


@dataclass(frozen=True)
class MatrixTerm:
    """Rows of a matrix of data (n, d), or all of them, times coefficients (d,) or (d, k)."""

    matrix: Expression
    rows: Expression | None
    coef: Expression


@dataclass(frozen=True)
class GatherTerm:
    """``table[index]``, perhaps times n numbers of data."""

    table: Expression
    index: Expression
    covariate: Expression | None


@dataclass(frozen=True)
class ArrayTerm:
    """One number for all, k for each row, or n * k."""

    value: Expression


MOST_MATRICES = 16  # of one predictor: csrc/model/fused/predictor_pass.hpp

Term = MatrixTerm | GatherTerm | ArrayTerm
Predicate = Callable[[Expression], bool]


def read_linear_predictor(
    predictor: Expression, n: int, k: int, is_data: Predicate, is_shared: Predicate
) -> list[Term] | None:
    """Return the terms of a linear predictor.

    Parameters
    ----------
    predictor : Expression
        Of n * k numbers.
    n, k : int
        Numbers of rows and of columns.
    is_data : callable
        Whether an expression is made of data alone.
    is_shared : callable
        Whether others need an expression's value too, so that it is computed on its own.

    Returns
    -------
    list or None
        The sum over them is the predictor; None where that has no use, without matrices and gathered effects, or cannot
        be said: matrices are read by one index.
    """
    terms = _Reader(n, k, is_data, is_shared).read(_Part(predictor))
    if not any(isinstance(term, (MatrixTerm, GatherTerm)) for term in terms):
        return None
    terms = _few_matrices(_with_columns_together(terms))
    indices = {term.rows for term in terms if isinstance(term, MatrixTerm) and isinstance(term.matrix, Design)}
    return terms if len(indices) <= 1 else None


def _with_columns_together(terms: list[Term]) -> list[Term]:
    """Return terms in which all covariates with a coefficient of their own are the columns of one matrix."""
    columns = [term for term in terms if isinstance(term, MatrixTerm) and _is_column(term)]
    if len(columns) < 2:
        return terms
    values = [x.matrix.inputs[0] if isinstance(x.matrix, Reshaped) else x.matrix for x in columns]
    constants = [x.value.ravel() for x in values if isinstance(x, Constant)]
    flat = [_flat(x) for x in values]
    matrix = Constant(np.stack(constants, 1)) if len(constants) == len(flat) else nodes.stack(flat, 1)
    coef = nodes.concatenate([term.coef for term in columns])
    return [*(term for term in terms if term not in columns), MatrixTerm(matrix, None, coef)]


def _is_column(term: MatrixTerm) -> bool:
    return term.matrix.shape[1] == 1 and term.coef.ndim == 1 and not isinstance(term.matrix, Design)


def _few_matrices(terms: list[Term]) -> list[Term]:
    """Return terms with as many matrices as the core takes at once; further ones are multiplied by themselves."""
    matrices = [term for term in terms if isinstance(term, MatrixTerm)]
    out: list[Term] = [term for term in terms if not isinstance(term, MatrixTerm)]
    for i, term in enumerate(matrices):
        matrix = term.matrix if term.rows is None else nodes.take(term.matrix, term.rows)
        out.append(term if i < MOST_MATRICES else ArrayTerm(nodes.matmul(matrix, term.coef)))
    return out


@dataclass(frozen=True)
class _Part:
    """An expression, times a factor of one number, times a covariate: n numbers of data."""

    expression: Expression
    factor: Expression | None = None
    covariate: Expression | None = None

    def of(self, x: Expression, factor: Expression | None = None, covariate: Expression | None = None) -> _Part:
        """Return another expression with this part's multipliers, and perhaps more."""
        return _Part(x, _times(self.factor, factor), _times(self.covariate, covariate))


def _times(a: Expression | None, b: Expression | None) -> Expression | None:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, Constant) and isinstance(b, Constant):
        return Constant(a.value * b.value)
    return nodes.multiply(a, b)


@dataclass(frozen=True)
class _Columns:
    """Columns [begin, begin + width) of k."""

    begin: int
    width: int
    k: int

    def of(self, term: Term) -> list[Term] | None:
        """Return a term of these columns as one of all, none where it is zero; None where it has another form."""
        if isinstance(term, MatrixTerm):
            coef = nodes.reshape(term.coef, (-1, self.width))
            return [MatrixTerm(term.matrix, term.rows, self._padded(coef))]
        if isinstance(term, GatherTerm):
            return None
        if isinstance(term.value, Constant) and not term.value.value.any():
            return []
        if term.value.size not in (1, self.width):
            return None
        row = nodes.broadcast_to(_flat(term.value), (1, self.width))
        return [ArrayTerm(_flat(self._padded(row)))]

    def _padded(self, x: Expression) -> Expression:
        after = self.k - self.begin - self.width
        zeros = [np.zeros((x.shape[0], n)) for n in (self.begin, after)]
        return nodes.concatenate([block for block in (zeros[0], x, zeros[1]) if block.size], 1)


Read = Sequence["_Part | Term"] | Term


class _Reader:
    """Reads predictors of one shape."""

    def __init__(self, n: int, k: int, is_data: Predicate, is_shared: Predicate) -> None:
        self._n, self._k = n, k
        self._is_data, self._is_shared = is_data, is_shared

    def read(self, predictor: _Part) -> list[Term]:
        """Return the terms, in the order in which they are written."""
        terms: list[Term] = []
        stack: list[_Part | Term] = [predictor]
        while stack:
            part = stack.pop()
            if not isinstance(part, _Part):
                terms.append(part)
                continue
            found = self._read(part)
            stack.extend(reversed(found) if isinstance(found, Sequence) else [found])
        return terms

    def _read(self, part: _Part) -> Read:
        """Return the parts that a part is the sum of, or the term that it is."""
        e = part.expression
        if isinstance(e, Reshaped):
            return [part.of(e.inputs[0])]
        if isinstance(e, Node) and e.op in self._RULES and not self._is_data(e):
            # Gathered effects cost the same wherever they are gathered.
            found = self._RULES[e.op](self, part, e) if e.op == "gather" or not self._is_shared(e) else None
            if found is not None:
                return found
        return self._array(part)

    def _array(self, part: _Part) -> Term:
        """Return a term of an expression that is computed by itself."""
        value, factor, covariate = part.expression, part.factor, part.covariate
        if covariate is not None and self._is_data(value):
            value, covariate = _flat(nodes.multiply(_flat(value), covariate)), None
        if value.size == 1 and covariate is not None:  # a coefficient
            value, factor, covariate = covariate, _times(nodes.reshape(value, ()), factor), None
        if self._k > 1 and isinstance(value, Constant) and value.size == self._n * self._k:
            value = _common_row(value, self._k)
        varies = factor is not None and not self._is_data(factor)
        if varies and self._k == 1 and value.size == self._n and self._is_data(value):
            return MatrixTerm(nodes.reshape(value, (self._n, 1)), None, nodes.reshape(factor, (1,)))
        for multiplier in (factor, covariate):
            value = value if multiplier is None else nodes.multiply(_flat(value), multiplier)
        return ArrayTerm(value)

    # --- operations: the parts of the sum that a node is, the term that it is, or None -------------------------------
    def _add(self, part: _Part, e: Node) -> Read:
        return [part.of(x) for x in e.inputs]

    def _subtract(self, part: _Part, e: Node) -> Read:
        return [part.of(e.inputs[0]), part.of(e.inputs[1], Constant(-1.0))]

    def _negative(self, part: _Part, e: Node) -> Read:
        return [part.of(e.inputs[0], Constant(-1.0))]

    def _add_constant(self, part: _Part, e: Node) -> Read:
        return [part.of(e.inputs[0]), part.of(Constant(e.numbers["constant"][0]))]

    def _multiply_constant(self, part: _Part, e: Node) -> Read:
        return [part.of(e.inputs[0], Constant(e.numbers["constant"][0]))]

    def _multiply(self, part: _Part, e: Node) -> Read | None:
        for x, other in (e.inputs, e.inputs[::-1]):
            if x.size == 1:
                return [part.of(other, nodes.reshape(x, ()))]
            if self._is_covariate(x):
                return [part.of(other, covariate=_flat(x))]
        return None

    def _divide(self, part: _Part, e: Node) -> Read | None:
        x, by = e.inputs
        if by.size == 1:
            return [part.of(x, nodes.divide(1.0, nodes.reshape(by, ())))]
        if self._is_covariate(by):
            return [part.of(x, covariate=nodes.divide(1.0, _flat(by)))]
        return None

    def _is_covariate(self, x: Expression) -> bool:
        return self._k == 1 and x.size == self._n and self._is_data(x)

    def _matmul(self, part: _Part, e: Node) -> Read | None:
        matrix, coef = e.inputs
        shape = tuple(e.integers[key][0] for key in ("m", "n"))
        if shape != (self._n, self._k) or part.covariate is not None or not self._is_data(matrix) or matrix.ndim != 2:
            return None
        scaled = coef if part.factor is None else nodes.multiply(coef, part.factor)
        design, rows = split_rows(matrix) if has_design(matrix) else (matrix, None)
        return MatrixTerm(design, rows, scaled)

    def _gather(self, part: _Part, e: Node) -> Read | None:
        table, index = e.inputs
        if self._k > 1:
            return self._broadcast(part, e)
        width = e.integers["width"][0]
        if width > 1:
            if not isinstance(index, Constant):
                return None
            index = Constant((index.value.reshape(-1, 1) * width + np.arange(width)).ravel())
        if index.size != self._n or not self._is_data(index) or depends_on_parameters(table):
            return None
        if part.factor is not None:
            if table.size > self._n:
                return None
            table = nodes.multiply(_flat(table), part.factor)
        return GatherTerm(table, index, part.covariate)

    def _concatenate(self, part: _Part, e: Node) -> Read | None:
        """Return the terms of blocks of columns, such as zeros for one category and a product for the others."""
        if self._k == 1 or e.integers["outer"][0] != self._n:
            return None
        out: list[Term] = []
        begin = 0
        for x in e.inputs:
            block = _Columns(begin, x.size // self._n, self._k)
            reader = _Reader(self._n, block.width, self._is_data, self._is_shared)
            for term in reader.read(part.of(x)):
                found = block.of(term)
                if found is None:
                    return None
                out.extend(found)
            begin += block.width
        return out

    def _broadcast(self, part: _Part, e: Node) -> Read | None:
        """Return k numbers that are the same in all rows."""
        source, index = e.inputs
        if source.size != self._k or e.integers["width"][0] not in (1, self._k) or not isinstance(index, Constant):
            return None
        blocks = index.value.reshape(self._n, -1)
        if not (blocks == np.arange(blocks.shape[1])).all():
            return None
        return [part.of(_flat(source))]

    _RULES: ClassVar[dict[str, Callable[[_Reader, _Part, Node], Read | None]]] = {
        "add": _add,
        "subtract": _subtract,
        "negative": _negative,
        "add_constant": _add_constant,
        "multiply_constant": _multiply_constant,
        "multiply": _multiply,
        "divide": _divide,
        "matmul": _matmul,
        "concatenate": _concatenate,
        "gather": _gather,
    }


def _common_row(x: Constant, k: int) -> Constant:
    """Return the k numbers of a row of data if all rows have the same, otherwise the data."""
    rows = x.value.reshape(-1, k)
    return Constant(rows[0]) if (rows == rows[0]).all() else x


def _flat(x: Expression) -> Expression:
    return nodes.reshape(x, (x.size,))


def depends_on_parameters(table: Expression) -> bool:
    """Return whether a table is made of parameters, not of draws.

    The optimizer moves only those rows of them that gathers read (docs/modelling.md, Local latent variables).
    """
    stack = [table]
    while stack:
        e = stack.pop()
        if isinstance(e, Parameter):
            return True
        if not isinstance(e, RandomVariable):
            stack.extend(e.inputs)
    return False
