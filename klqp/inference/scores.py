"""Score-function gradients of a program: which elements of its terms weigh the score of each event of q."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from klqp import _core
from klqp.inference.blanket import blanket
from klqp.inference.dependence import Dependence, Labels
from klqp.inference.latents import Factor
from klqp.inference.plan import Plan
from klqp.inference.problem import Problem, n_events
from klqp.model.expression import Expression
from klqp.model.random_variable import RandomVariable

__all__ = ["Scores"]


class _Events(NamedTuple):
    """The global numbers of a factor's events."""

    first: int
    n: int


class _Term(NamedTuple):
    number: int  # in the core
    elements: int  # the array that it is the sum of
    labels: Labels | None  # None: of everything


class Scores:
    """Collects the terms of a program, and gives each scored factor its blanket in every term.

    Without Rao-Blackwellisation all terms weigh all scores.

    Parameters
    ----------
    problem : Problem
    plan : Plan
    order : sequence of Factor
        All factors, those that others depend on first.
    """

    def __init__(self, problem: Problem, plan: Plan, order: Sequence[Factor]) -> None:
        self._events: dict[Factor, _Events] = {}
        self._terms: list[_Term] = []
        self.wanted = plan.has("score")
        self._dependence = Dependence(problem.observed) if self.wanted and plan.markov_blankets else None
        first = 0
        for factor in order:
            if plan.factors[factor].gradient == "score":
                n = n_events(factor.q) if isinstance(factor.q, RandomVariable) else 1
                self._events[factor] = _Events(first, n)
                first += n
        if self._dependence is not None:
            self._dependence.add_q(problem, order, {factor: events.first for factor, events in self._events.items()})

    # --- terms -------------------------------------------------------------------------------------------------
    def labels(self, variable: RandomVariable, value: Expression | None) -> Labels | None:
        """Return which events each element of a log density depends on; None where nobody asks or all need all."""
        return None if self._dependence is None else self._dependence.of_events(variable, value)

    def labels_of(self, expressions: Sequence[Expression]) -> Labels | None:
        """Return which events a number made of some expressions depends on."""
        return None if self._dependence is None else self._dependence.of_all(expressions)

    def labels_of_each(self, expression: Expression) -> Labels | None:
        """Return which events each element of an expression depends on."""
        return None if self._dependence is None else self._dependence.of(expression)

    def by_element(self, labels: Labels | None) -> bool:
        """Return whether a term's elements are wanted, and not its sum alone."""
        return labels is not None and len(labels.distinct) > 1

    def record(self, number: int, elements: int, labels: Labels | None) -> None:
        """Note a term, and the array that it is the sum of: of the labels' size, or of one number."""
        if self.wanted and not (labels is not None and labels.nothing):
            self._terms.append(_Term(number, elements, labels))

    def emit(self, core: _core.Model, factor: Factor, number: int, log_q: int) -> None:
        """Give a factor its score.

        Parameters
        ----------
        core : klqp._core.Model
        factor : Factor
        number : int
            Of the factor in the core.
        log_q : int
            Array of the log density of each of its events.
        """
        core.score(number, log_q)
        first, n = self._events[factor]
        for term in self._terms:
            if term.labels is None:
                core.scored_term(number, term.number, term.elements, [], [], [])
                continue
            found = blanket(term.labels, first, n)
            if not found.nothing:
                core.scored_term(number, term.number, term.elements, found.block_of, found.begin, found.blocks)
