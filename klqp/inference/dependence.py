"""Dependence: on which events of the latent variables each element of an expression depends.

Rao-Blackwellised score functions need it: the weight of an event is the sum of the terms' elements that depend on it
(docs/maths.md 9.6), and inside a plate these are few. Sets of events are exact for the operations of
`RULES`, and supersets where an operation is not known or an index comes later: more elements than needed add noise to
a gradient, no bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from klqp.inference.event_sets import EMPTY, EventSets, shared_label, uniform
from klqp.inference.latents import Factor
from klqp.inference.problem import Problem, shares_space
from klqp.model.design import Design
from klqp.model.emitter import ancestors
from klqp.model.expression import Constant, Expression, Node, Reshaped
from klqp.model.parameter import Placeholder
from klqp.model.random_variable import Distribution, RandomVariable

__all__ = ["RULES", "Dependence", "Labels"]

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Labels:
    """Sets of events of an array's elements.

    Attributes
    ----------
    labels : ndarray of int64
        The set of each element, as a label of `sets`; not to be written to. Equal sets have one label.
    sets : EventSets
        ``sets[label]`` is the sorted array of the events' global numbers.
    """

    labels: Ints
    sets: EventSets

    @cached_property
    def distinct(self) -> Ints:
        """The labels that occur."""
        return np.unique(self.labels)

    @property
    def nothing(self) -> bool:
        """Whether no element depends on any event."""
        return not self.labels.any()


class Dependence:
    """What the elements of expressions depend on.

    The variables of q are declared first, those that others depend on before these: sources, whose events have scores,
    and derived ones, whose draws are functions of sources' draws. Other random variables count as drawn given their
    parameters, and depend on what these depend on, unless they are observed.

    Parameters
    ----------
    observed : mapping of RandomVariable to ndarray or Placeholder, optional
        Values that depend on nothing; an index that is among them is followed.
    """

    def __init__(self, observed: Mapping[RandomVariable, Float64 | Placeholder] | None = None) -> None:
        self.sets = EventSets()
        self._observed = dict(observed or {})
        self._known: dict[Expression, Ints] = {e: uniform(EMPTY, e.shape) for e in self._observed}

    # --- what q says -----------------------------------------------------------------------------------------
    def add_q(self, problem: Problem, order: Sequence[Factor], first_events: Mapping[Factor, int]) -> None:
        """Declare all factors of q, and the fixed q's of conditional variables.

        Parameters
        ----------
        problem : Problem
        order : sequence of Factor
            All factors, those that others depend on first.
        first_events : mapping
            Global number of the first event of those that are sources; the events of a ready-made family are one.
        """
        for factor in order:
            z, q, first = factor.latents[0], factor.q, first_events.get(factor)
            if not isinstance(q, RandomVariable):
                for member in factor.latents if first is None else ():
                    self._known[member] = uniform(EMPTY, member.shape)
                if first is not None:
                    self.add_joint(factor.latents, first)
            elif first is None:
                self.add_derived(z, q)
            else:
                self.add_source(z, first, q)
        for beta, q in problem.conditional.items():
            self.add_derived(beta, q)

    def add_source(self, variable: RandomVariable, first_event: int, q: RandomVariable | None = None) -> int:
        """Declare a variable whose draws have scores, one for each event.

        Parameters
        ----------
        variable : RandomVariable
        first_event : int
            Global number of its first event.
        q : RandomVariable, optional
            Its approximation: the events are those of q. Where q's parameters depend on other sources, so do the
            draws: what depends on a draw has, through its distribution, a mean that depends on these sources, and
            leaving it out of their weights would bias their gradients. Without q, the draws depend on nothing else.

        Returns
        -------
        int
            The number of events.
        """
        drawn = variable if q is None else q
        batch = _batch_shape(drawn)
        n = math.prod(batch)
        labels = self.sets.singles(first_event, n).reshape(batch)
        if q is not None:
            labels = self.sets.unite(labels, self._given_parameters(q))
        self._add_draws(variable, drawn, labels)
        return n

    def add_derived(self, variable: RandomVariable, q: RandomVariable) -> None:
        """Declare a variable with pathwise draws from q: functions of noise and of q's parameters."""
        self._add_draws(variable, q, self._given_parameters(q))

    def add_joint(self, variables: Sequence[RandomVariable], event: int) -> None:
        """Declare variables that are drawn together as one event, from a joint family."""
        label = int(self.sets.singles(event, 1)[0])
        for variable in variables:
            self._known[variable] = uniform(label, variable.shape)

    def _add_draws(self, variable: RandomVariable, q: RandomVariable, labels: Ints) -> None:
        """Take over what the events of q depend on: for their elements, and for the variable's."""
        own = q.shape[labels.ndim :]
        draws = np.broadcast_to(labels.reshape(labels.shape + (1,) * len(own)), q.shape)
        self._known[q] = draws
        if variable is not q:
            self._known[variable] = self._transformed(variable, q, draws)

    def _transformed(self, z: RandomVariable, q: RandomVariable, draws: Ints) -> Ints:
        """Return what a variable depends on whose unconstrained coordinates q may have."""
        if draws.size == z.size and (shares_space(q, z) or z.space.transform(z.shape).n_events == z.size):
            return draws.reshape(z.shape)
        n = z.space.transform(z.shape).n_events
        events = self.sets.unite_rows(draws.reshape(n, -1))
        return np.broadcast_to(events[:, None], (n, z.size // n)).reshape(z.shape)

    # --- expressions -----------------------------------------------------------------------------------------
    def of(self, expression: Expression) -> Labels:
        """Return what each element of an expression depends on: labels of the expression's shape."""
        return Labels(self._of(expression), self.sets)

    def of_all(self, expressions: Sequence[Expression]) -> Labels:
        """Return what a number depends on that is made of all elements of some expressions: a label of shape ()."""
        return Labels(uniform(self._union([self._of(e) for e in expressions]), ()), self.sets)

    def of_events(self, variable: RandomVariable, value: Expression | None = None) -> Labels:
        """Return what the log density of each event of a variable depends on.

        Parameters
        ----------
        variable : RandomVariable
            Its parameters count.
        value : Expression, optional
            At which the density is taken, of the variable's size: the variable itself where it is latent, or its q;
            None where it is observed.

        Returns
        -------
        Labels
            Of the batch's shape; of shape () for a variable that is one event.
        """
        labels = self._given_parameters(variable)
        if value is not None:
            drawn = self._of(value).reshape(*labels.shape, -1)
            labels = self.sets.unite(labels, self._over_last_axes(drawn, 1))
        return Labels(labels, self.sets)

    def _of(self, expression: Expression) -> Ints:
        for e in ancestors([expression], lambda e: () if e in self._known else e.inputs):
            if e not in self._known:
                self._known[e] = self._find(e)
        return self._known[expression]

    def _find(self, e: Expression) -> Ints:
        inputs = [self._known[x] for x in e.inputs]
        if all(shared_label(x) == EMPTY for x in inputs):
            return uniform(EMPTY, e.shape)
        if isinstance(e, Reshaped):
            return inputs[0].reshape(e.shape)
        if isinstance(e, Distribution):
            draws = self._given_parameters(e)
            return np.broadcast_to(draws.reshape(draws.shape + (1,) * (e.ndim - draws.ndim)), e.shape)
        if isinstance(e, Node) and e.op in RULES:
            return RULES[e.op](self, e, inputs).reshape(e.shape)
        return uniform(self._union(inputs), e.shape)

    def _given_parameters(self, variable: RandomVariable) -> Ints:
        """Return what the distribution of each event depends on."""
        batch = _batch_shape(variable)
        if not isinstance(variable, Distribution):
            return uniform(self._union([self._of(x) for x in variable.inputs]), batch)
        out = uniform(EMPTY, batch)
        for key, parameter in variable.parameters.items():
            axes = min(variable.parameter_supports[key].event_ndim, parameter.ndim)
            out = self.sets.unite(out, self._over_last_axes(self._of(parameter), axes))
        return out

    def _over_last_axes(self, labels: Ints, n_axes: int) -> Ints:
        """Return the labels of unions over the last axes."""
        kept = labels.shape[: labels.ndim - n_axes]
        return labels if n_axes == 0 else self.sets.unite_rows(labels.reshape(math.prod(kept), -1)).reshape(kept)

    def _union(self, arrays: Sequence[Ints]) -> int:
        """Return the label of the union of all elements of arrays."""
        return self.sets.unite_all(np.array([self.sets.unite_all(x) for x in arrays]))

    def index_values(self, index: Expression) -> Ints | None:
        """Return the values of an index that are known; None if they are drawn or come later."""
        if isinstance(index, RandomVariable):
            value = self._observed.get(index)
        else:
            value = index.value if isinstance(index, Constant) else None
        return value.astype(np.int64) if isinstance(value, np.ndarray) else None


def _batch_shape(variable: RandomVariable) -> Shape:
    return variable.batch_shape if isinstance(variable, Distribution) else ()


# --- operations: each gives the labels of a node's elements from those of its inputs, in any shape -------------------
def _elementwise(_: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    return inputs[0]


def _binary(dependence: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    a, b = (x.reshape(node.shape if x.size == node.size else ()) for x in inputs)
    return np.broadcast_to(dependence.sets.unite(a, b), node.shape)


def _multiply(dependence: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    """Products with zeros of data, such as those of a mask, depend on nothing."""
    out = _binary(dependence, node, inputs)
    for x in node.inputs:
        if isinstance(x, Constant) and not x.value.all():
            out = np.where(x.value.reshape(node.shape if x.size == node.size else ()) != 0, out, EMPTY)
    return out


def _along_axis(node: Node, labels: Ints) -> tuple[Ints, Shape]:
    """Return labels with the axis of an operation as the last of two, and the sizes around the axis."""
    outer, n, inner = (node.integers[key][0] for key in ("outer", "n", "inner"))
    return labels.reshape(outer, n, inner).transpose(0, 2, 1).reshape(-1, n), (outer, inner)


def _reduction(dependence: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    rows, _ = _along_axis(node, inputs[0])
    return dependence.sets.unite_rows(rows)


def _log_softmax(dependence: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    rows, (outer, inner) = _along_axis(node, inputs[0])
    unions = dependence.sets.unite_rows(rows).reshape(outer, 1, inner)
    return np.broadcast_to(unions, (outer, node.integers["n"][0], inner))


def _cumsum(dependence: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    rows, (outer, inner) = _along_axis(node, inputs[0])
    return dependence.sets.unite_prefixes(rows).reshape(outer, inner, -1).transpose(0, 2, 1)


def _slice(_: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    begin = node.integers["begin"][0]
    return inputs[0].reshape(-1)[begin : begin + node.size]


def _gather(dependence: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    """Rows by a known index; by another one, an element may come from any row of its column."""
    width = node.integers["width"][0]
    rows, index = inputs[0].reshape(-1, width), dependence.index_values(node.inputs[1])
    if index is not None:
        return rows[index.ravel()]
    columns = dependence.sets.unite_rows(rows.T)
    return dependence.sets.unite(columns, inputs[1].reshape(-1, 1))


def _concatenate(_: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    outer = node.integers["outer"][0]
    return np.concatenate([x.reshape(outer, -1) for x in inputs], 1)


def _matmul(dependence: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    m, k, n = (node.integers[key][0] for key in ("m", "k", "n"))
    sets, rows, columns = dependence.sets, inputs[0].reshape(m, k), inputs[1].reshape(k, n).T
    a, b = node.inputs
    if _is_sparse(a):
        return _sparse_product(sets, _matrix(a, m, k).nonzero(), m, columns)
    if _is_sparse(b):
        return _sparse_product(sets, _matrix(b, k, n).T.nonzero(), n, rows).T
    return sets.unite(sets.unite_rows(rows)[:, None], sets.unite_rows(columns))


def _is_sparse(x: Expression) -> TypeGuard[Constant]:
    """Return whether data are mostly zeros, such as indicators: with few of them, following them is not worth it."""
    return isinstance(x, Constant) and 4 * x.n_nonzero <= x.size


def _matrix(x: Constant, n: int, m: int) -> Any:
    """Return data as a matrix; one of SciPy stays what it is."""
    return x.value if isinstance(x, Design) else x.value.reshape(n, m)


def _sparse_product(sets: EventSets, nonzero: tuple[Ints, Ints], m: int, columns: Ints) -> Ints:
    """Return the labels (m, n) of a product of data (m, k) with labels (n, k): without those that meet zeros."""
    at, k = nonzero  # rows ascend
    distinct = columns[:1] if (columns == columns[0]).all() else columns
    unions = [sets.unite_groups(at, column[k], m) for column in distinct]
    return np.broadcast_to(np.stack(unions, 1), (m, len(columns)))


def _cholesky(dependence: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    """All elements of a factor count as functions of all elements of its matrix."""
    n = node.integers["n"][0]
    return np.broadcast_to(dependence.sets.unite_rows(inputs[0].reshape(n, -1))[:, None], (n, node.size // n))


def _solve_triangular(dependence: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    """All elements of a column count as functions of the matrix and of the column of the right side."""
    n, size, cols = (node.integers[key][0] for key in ("n", "size", "cols"))
    unite_rows = dependence.sets.unite_rows
    matrices = unite_rows(inputs[0].reshape(-1, size * size))
    columns = unite_rows(inputs[1].reshape(n, size, cols).transpose(0, 2, 1).reshape(n * cols, size))
    out = dependence.sets.unite(columns.reshape(n, 1, cols), matrices[:, None, None])
    return np.broadcast_to(out, (n, size, cols))


def _rbf(dependence: Dependence, node: Node, inputs: list[Ints]) -> Ints:
    *points, scale, variance = inputs
    unite, shape = dependence.sets.unite, (-1, node.integers["d"][0])
    x, y = (dependence.sets.unite_rows(p.reshape(shape)) for p in (points[0], points[-1]))
    kernel = unite(uniform(dependence.sets.unite_all(scale), ()), variance.reshape(()))
    return unite(unite(x[:, None], y), kernel)


Rule = Callable[[Dependence, Node, list[Ints]], Ints]

_ELEMENTWISE = (
    "abs add_constant cos digamma exp expm1 lgamma log log1p multiply_constant negative norm_cdf power reciprocal relu "
    "sigmoid sin softplus sqrt square tanh"
)

# By the names of the native operations; any other one makes each element depend on all its inputs.
RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(("add", "subtract", "divide", "xlogy", "xlog1py"), _binary),
    "multiply": _multiply,
    "sum": _reduction,
    "logsumexp": _reduction,
    "log_softmax": _log_softmax,
    "cumsum": _cumsum,
    "slice": _slice,
    "gather": _gather,
    "concatenate": _concatenate,
    "matmul": _matmul,
    "cholesky": _cholesky,
    "solve_triangular": _solve_triangular,
    "rbf": _rbf,
}
