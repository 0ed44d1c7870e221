"""Fused likelihoods: log densities of data given a linear predictor, as one node that reads the data once.

What can be said so is emitted so; everything else as parameters first and a density of them. The two are equal to
rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from klqp import _core
from klqp.model.design import Design
from klqp.model.emitter import Emitter, ancestors
from klqp.model.expression import Expression
from klqp.model.glm import GLM
from klqp.model.linear_predictor import ArrayTerm, GatherTerm, MatrixTerm, Term, read_linear_predictor
from klqp.model.parameter import Parameter
from klqp.model.random_variable import Distribution, RandomVariable

if TYPE_CHECKING:
    from klqp._core import Predictor

__all__ = ["emit_total"]


def emit_total(
    emitter: Emitter, variable: RandomVariable, value: int, scale: int | None = None, log_q: bool = False
) -> int:
    """Add the sum of a variable's log densities to a program, and the parameters that it needs.

    Parameters
    ----------
    emitter : Emitter
    variable : RandomVariable
    value : int
        Number of the array of the value, of the variable's size.
    scale : int, optional
        Number of an array of factors, one for each event or one for all.
    log_q : bool
        It belongs to q.

    Returns
    -------
    int
        Number of an array of one number a draw.
    """
    is_data = emitter.core.flags(value)[2]
    if emitter.fuses and is_data and isinstance(variable, Distribution) and variable.glm:
        fused = _Fusion(emitter, variable).emit(value, scale)
        if fused is not None:
            return fused
    args = [emitter.emit(p) for p in variable.inputs]
    return variable.emit_log_prob(emitter, value, args, scale=scale, log_q=log_q)


class _Fusion:
    """Emits one variable."""

    def __init__(self, emitter: Emitter, variable: Distribution) -> None:
        self._emitter, self._variable = emitter, variable
        self._n = variable.n_events
        self._data: dict[Expression, bool] = {}

    def emit(self, value: int, scale: int | None) -> int | None:
        """Add the log density; return None where it is no generalised linear model."""
        for glm in self._variable.glm:
            predictor = glm.link(self._variable.parameters)
            if predictor is None or not all(self._fits(glm, key) for key in glm.parameters):
                continue
            k = predictor.shape[-1] if glm.columns else 1
            if predictor.size != self._n * k:
                continue
            terms = read_linear_predictor(predictor, self._n, k, self._is_data, self._is_shared)
            if terms is not None:
                return self._emit(glm, k, terms, value, scale)
        return None

    def _fits(self, glm: GLM, key: str) -> bool:
        """Return whether the core takes another parameter as it is: one number, a number of data a row, or a vector."""
        x = self._variable.parameters[key]
        if key == glm.vector:
            return x.ndim == 1
        return x.size == 1 or (x.size == self._n and self._is_data(x))

    def _is_data(self, expression: Expression) -> bool:
        """Return whether an expression is made of data alone."""
        known = self._data
        for e in ancestors([expression], lambda e: () if e in known else e.inputs):
            if e in known:
                continue
            if isinstance(e, RandomVariable):
                array = self._emitter.arrays.get(e)
                known[e] = array is not None and self._emitter.core.flags(array)[2]
            else:
                known[e] = not isinstance(e, Parameter) and all(known[x] for x in e.inputs)
        return known[expression]

    def _is_shared(self, expression: Expression) -> bool:
        return expression in self._emitter.shared or expression in self._emitter.arrays

    def _emit(self, glm: GLM, k: int, terms: list[Term], value: int, scale: int | None) -> int:
        emitter = self._emitter
        predictor = _core.Predictor(self._n, k)
        for term in terms:
            _add(predictor, term, emitter.emit)
        for rows in {term.rows for term in terms if isinstance(term, MatrixTerm) and term.rows is not None}:
            predictor.rows(emitter.emit(rows))
        others = [emitter.emit(self._variable.parameters[key]) for key in glm.parameters]
        emitter.fused[self._variable] = f"{glm.name} of {_words(terms)}"
        return emitter.core.glm(glm.name, predictor, value, others, *(() if scale is None else (scale,)))


def _add(predictor: Predictor, term: Term, emit: Callable[[Expression], int]) -> None:
    """Add a term to the core's predictor."""
    if isinstance(term, GatherTerm):
        covariate = () if term.covariate is None else (emit(term.covariate),)
        predictor.gather(emit(term.table), emit(term.index), *covariate)
    elif isinstance(term, ArrayTerm):
        predictor.add(emit(term.value))
    elif isinstance(term.matrix, Design):
        predictor.matrix(term.matrix.native(), emit(term.coef))
    else:
        predictor.data_matrix(emit(term.matrix), emit(term.coef))


def _words(terms: list[Term]) -> str:
    """Return what a linear predictor is the sum of, in words."""
    matrices = [t for t in terms if isinstance(t, MatrixTerm)]
    words = [f"X {t.matrix.words}" if isinstance(t.matrix, Design) else f"data {t.matrix.shape}" for t in matrices]
    words += [f"effects of {t.table.size} groups" for t in terms if isinstance(t, GatherTerm)]
    sizes = [t.value.size for t in terms if isinstance(t, ArrayTerm)]
    words += ["an intercept" if size == 1 else f"an array of {size}" for size in sizes]
    return ", ".join(words)
