"""Exact sums over the states of discrete factors of q, for all of a plate at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klqp.inference.dependence import Dependence, Labels
from klqp.inference.latents import Factor
from klqp.inference.problem import Problem, n_events
from klqp.model.emitter import Emitter, ancestors
from klqp.model.expression import Expression
from klqp.model.random_variable import RandomVariable

__all__ = ["Enumeration", "Expectations", "Impossible", "enumerate_factors", "states_of"]

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

AUTOMATIC = 16  # terms are evaluated at most this often where nobody asked for exact sums
MOST = 4096  # ... and where somebody did


class Impossible(ValueError):
    """Factors cannot be summed over; says why."""


def states_of(factor: Factor) -> Float64 | None:
    """Return all values (K, *event_shape) that an event of a factor can have, if they are finite in number."""
    return getattr(factor.q, "states", None) if factor.latents[0].discrete else None


@dataclass(frozen=True)
class _Summed:
    """A factor that is summed over: its values (n_states, *shape), and the events that they number.

    ``joint``: the states are those of the whole variable. Otherwise all events have the same state at once, and each
    element of a term takes the weight of the one event that it depends on.
    """

    factor: Factor
    values: Float64
    joint: bool
    first_event: int
    n_events: int


State = tuple[int, int]  # number of a factor, number of its state


class Enumeration:
    """The factors that are summed over, and how.

    A term of the ELBO that depends on some of them is replaced by its expectation: the sum over their states of its
    elements, each times the probability of the state of the event it depends on. That is exact, given the draws of the
    other factors, and has an exact gradient (local expectations: Titsias & Lazaro-Gredilla 2015).
    """

    def __init__(self, summed: Sequence[_Summed], dependence: Dependence) -> None:
        self._summed = list(summed)
        self._dependence = dependence
        self._numbers = {s.factor: i for i, s in enumerate(summed)}
        self._known: dict[tuple[RandomVariable, Expression | None], tuple[Labels, list[int]]] = {}

    @property
    def factors(self) -> list[Factor]:
        """The factors, those that others depend on first."""
        return [s.factor for s in self._summed]

    def describe(self, factor: Factor) -> str:
        """Return how a factor is summed over, in words."""
        s = self._summed[self._numbers[factor]]
        return f"all {len(s.values)} states of the whole" if s.joint else f"{len(s.values)} states of each element"

    def needs(self, variable: RandomVariable, value: Expression | None) -> tuple[Labels, list[int]]:
        """Return which events the elements of a log density depend on, and the numbers of their factors."""
        if (variable, value) not in self._known:
            labels = self._dependence.of_events(variable, value)
            self._known[variable, value] = labels, self.numbers(labels)
        return self._known[variable, value]

    def numbers(self, labels: Labels) -> list[int]:
        """Return the numbers of the factors that an array depends on."""
        return [i for i, s in enumerate(self._summed) if _most_events(labels, s.first_event, s.n_events) > 0]

    def is_joint(self, number: int) -> bool:
        """Return whether a factor's states are those of the whole variable."""
        return self._summed[number].joint

    def n_events(self, number: int) -> int:
        """Return the number of a factor's events."""
        return self._summed[number].n_events

    def combinations(self, numbers: Iterable[int]) -> Iterator[tuple[State, ...]]:
        """Iterate over the joint states of some factors."""
        chosen = list(numbers)
        for states in itertools.product(*(range(len(self._summed[i].values)) for i in chosen)):
            yield tuple(zip(chosen, states, strict=True))

    def values(self, state: State) -> dict[Expression, Float64]:
        """Return the values of a factor's variable and q in a state."""
        s = self._summed[state[0]]
        value = s.values[state[1]]
        return {s.factor.latents[0]: value, s.factor.q: value}  # type: ignore[dict-item]

    def events(self, number: int, labels: Labels) -> Ints | None:
        """Return the event of a factor that each element depends on, or 0; None where the whole has one state."""
        s = self._summed[number]
        if s.joint:
            return None
        used, inverse = np.unique(labels.labels.ravel(), return_inverse=True)
        smallest = labels.sets.sizes_within(used, s.first_event, s.n_events)[1]
        return (smallest - s.first_event)[inverse]


def enumerate_factors(problem: Problem, order: Sequence[Factor], wanted: Sequence[Factor], most: int) -> Enumeration:
    """Return the enumeration of some factors.

    Parameters
    ----------
    problem : Problem
    order : sequence of Factor
        All factors, those that others depend on first.
    wanted : sequence of Factor
        Those to be summed over.
    most : int
        How often a term may be evaluated.

    Raises
    ------
    Impossible
        If one has too many states, or others are drawn given it.
    """
    chosen = [f for f in order if f in set(wanted)]
    _refuse_parents(problem, order, chosen)
    first_events, n = {}, 0
    for f in chosen:
        first_events[f] = n
        n += n_events(f.q)  # type: ignore[arg-type]
    dependence = Dependence(problem.observed)
    dependence.add_q(problem, order, first_events)
    terms = [dependence.of_events(v, value) for v, value in _terms(problem, chosen)]
    summed = [_summed(f, first_events[f], terms, most) for f in chosen]
    enumeration = Enumeration(summed, dependence)
    for labels in terms:
        numbers = enumeration.numbers(labels)
        n_states = math.prod(len(summed[i].values) for i in numbers)
        if n_states > most:
            names = [summed[i].factor.name for i in numbers]
            raise Impossible(f"{names} have {n_states} states together in one term, more than {most}")
    return enumeration


def _terms(problem: Problem, chosen: Sequence[Factor]) -> Iterator[tuple[RandomVariable, Expression | None]]:
    """Iterate over the densities of a problem with the values they are taken at, None for data."""
    densities = {*problem.latents, *problem.observed, *problem.conditional}
    for e in problem.model:
        if e in densities:
            yield e, None if e in problem.observed else e
    for factor in chosen:
        yield factor.q, factor.latents[0]  # type: ignore[misc]


def _refuse_parents(problem: Problem, order: Sequence[Factor], chosen: Sequence[Factor]) -> None:
    own = {e: f for f in chosen for e in (*f.latents, f.q)}
    for factor in order:
        if factor in chosen or not isinstance(factor.q, RandomVariable):
            continue
        for e in ancestors(factor.q.inputs, lambda e: e.inputs):
            if e in own:
                raise Impossible(f"q of {factor.name!r} is drawn given {own[e].name!r}")
    for e in problem.unlisted:
        for x in ancestors(e.inputs, lambda e: e.inputs):
            if x in own:
                raise Impossible(f"{e.name!r} is drawn given {own[x].name!r}")


def _summed(factor: Factor, first: int, terms: Sequence[Labels], most: int) -> _Summed:
    states, n = states_of(factor), n_events(factor.q)  # type: ignore[arg-type]
    if states is None:
        raise Impossible(f"{factor.name!r} has infinitely many states")
    z = factor.latents[0]
    if max((_most_events(labels, first, n) for labels in terms), default=0) <= 1:
        values = np.broadcast_to(states.reshape(len(states), *(1,) * (z.ndim - states.ndim + 1), *states.shape[1:]),
                                 (len(states), *z.shape))  # fmt: skip
        return _Summed(factor, values, False, first, n)
    if n * math.log(len(states)) > math.log(most) + 1e-9:
        raise Impossible(
            f"single elements of a term depend on several of the {n} elements of {factor.name!r}, and together these "
            f"have {len(states)}**{n} states, more than {most}"
        )
    values = np.array(list(itertools.product(states, repeat=n)))
    return _Summed(factor, values.reshape(-1, *z.shape), True, first, n)


def _most_events(labels: Labels, first: int, n: int) -> int:
    """Return the largest number of a factor's events that one element depends on."""
    return int(labels.sets.sizes_within(labels.distinct, first, n)[0].max())


class Expectations:
    """Emits terms as expectations over enumerated states.

    Parameters
    ----------
    enumeration : Enumeration
    emitter : Emitter
        Of all that does not depend on the states.
    """

    def __init__(self, enumeration: Enumeration, emitter: Emitter) -> None:
        self._enumeration, self._emitter = enumeration, emitter
        self._emitters: dict[tuple[State, ...], Emitter] = {(): emitter}
        self._log_q: dict[tuple[int, tuple[State, ...]], int] = {}
        owners = (e for f in enumeration.factors for e in (*f.latents, f.q))
        self._owned = set(owners)
        self._varies: dict[Expression, bool] = {}

    def depends_on_states(self, variable: RandomVariable, value: Expression | None) -> bool:
        """Return whether a log density depends on the states."""
        return bool(self._enumeration.needs(variable, value)[1])

    def emit(self, variable: RandomVariable, value: Expression | None, scale: int | None, n: int) -> int:
        """Add the expectation of a log density, an array of one number for each of its n events.

        Parameters
        ----------
        variable : RandomVariable
            Of p, or the q of an enumerated factor.
        value : Expression or None
            What its density is taken at; None for data.
        scale : int, optional
            Number of the array of factors.
        n : int
        """
        labels, numbers = self._enumeration.needs(variable, value)
        elements, weights = [], []
        self._emit_shared(variable)
        index = {number: self._index(number, labels, n) for number in numbers}
        for states in self._enumeration.combinations(numbers):
            emitter = self._given(states)
            at = emitter.arrays[variable if value is None else value]
            args = [emitter.emit(p) for p in variable.inputs]
            elements.append(variable.emit_log_prob(emitter, at, args, scale=scale, summed=False))
            weights.append(self._log_weight(states, index, n))
        return self._emitter.core.node("expectation", [*elements, *weights], n, {}, {})

    def _emit_shared(self, variable: RandomVariable) -> None:
        """Emit the parts of the parameters that are the same in all states once."""
        for e in ancestors(variable.inputs, lambda e: e.operands):
            if e not in self._varies:
                self._varies[e] = e in self._owned or any(self._varies[x] for x in e.operands)
            if not self._varies[e]:
                self._emitter.emit(e)

    def _given(self, states: tuple[State, ...]) -> Emitter:
        if states not in self._emitters:
            values = self._enumeration.values(states[-1])
            (array,) = {id(v): v for v in values.values()}.values()
            slot = self._emitter.core.data(np.ascontiguousarray(array, np.float64))
            self._emitters[states] = self._given(states[:-1]).given(dict.fromkeys(values, slot))
        return self._emitters[states]

    def _index(self, number: int, labels: Labels, n: int) -> int | None:
        """Return the array of the events of a factor that elements depend on; None where it would change nothing."""
        events = self._enumeration.events(number, labels)
        n_events = self._enumeration.n_events(number)
        if events is None or (n_events == n and np.array_equal(events, np.arange(n))):
            return None
        return self._emitter.core.data(events.astype(np.float64))

    def _log_weight(self, states: tuple[State, ...], index: Mapping[int, int | None], n: int) -> int:
        """Return the array of the log probabilities of the states of those events that the elements depend on."""
        total: int | None = None
        for number, _ in states:
            log_q, at = self._log_probability(number, states), index[number]
            if at is not None:
                log_q = self._emitter.core.node("gather", [log_q, at], n, {"width": [1]}, {})
            total = log_q if total is None else self._emitter.node("add", [total, log_q], n)
        assert total is not None
        return total

    def _log_probability(self, number: int, states: tuple[State, ...]) -> int:
        """Return the array of log q of a factor in some states, of each event or of the whole."""
        factor = self._enumeration.factors[number]
        q = factor.q
        assert isinstance(q, RandomVariable)
        own = self._enumeration.needs(q, factor.latents[0])[1]
        key = (number, tuple(s for s in states if s[0] in own))
        if key not in self._log_q:
            self._emit_shared(q)
            emitter = self._given(key[1])
            args = [emitter.emit(p) for p in q.inputs]
            joint = self._enumeration.is_joint(number)
            self._log_q[key] = q.emit_log_prob(emitter, emitter.arrays[q], args, summed=joint)
        return self._log_q[key]
