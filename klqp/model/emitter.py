"""The emitter: turns expressions into the nodes of a program of the core, each once."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.model.callbacks import LogDensityCall
from klqp.model.expression import Expression
from klqp.model.parameter import Parameter, Placeholder

if TYPE_CHECKING:
    from klqp.model.random_variable import RandomVariable

__all__ = ["Emitter", "ancestors"]

Float64 = npt.NDArray[np.float64]


def ancestors(roots: Iterable[Expression], inputs: Callable[[Expression], Iterable[Expression]]) -> list[Expression]:
    """Return the roots and all they depend on, dependencies first; `inputs` gives an expression's own."""
    order: list[Expression] = []
    done: set[Expression] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in done:
            done.add(node)
            stack.append((node, True))
            stack.extend((x, False) for x in inputs(node) if x not in done)
    return order


class Emitter:
    """Adds expressions to a program.

    Parameters
    ----------
    core : klqp._core.Model
    offsets : dict
        Where the unconstrained coordinates of each parameter begin in the flat vector.
    trainable : set of Parameter, optional
        The parameters that are optimised; default all.
    gradients : bool
        Whether gradients of the user's log densities are wanted.
    shared : collection of Expression
        What several others need, so that it is computed once on its own.

    Attributes
    ----------
    arrays : dict
        The number of the array of each expression that has one. Values of random variables are put here by the
        caller: draws, data.
    fused : dict
        Variables whose log density and linear predictor are one node, with what it is made of in words.
    """

    fuses = True  # whether that is done: tests compare

    def __init__(
        self,
        core: _core.Model,
        offsets: dict[Parameter, int],
        trainable: set[Parameter] | None = None,
        gradients: bool = True,
        shared: Collection[Expression] = (),
    ) -> None:
        self.core = core
        self.gradients = gradients
        self.offsets = offsets
        self.trainable = set(offsets) if trainable is None else trainable
        self.shared = shared
        self.arrays: MutableMapping[Expression, int] = {}
        self.fused: dict[RandomVariable, str] = {}
        # The user's log densities, and those of one variable alone with the number of its array.
        self.calls: list[LogDensityCall] = []
        self.targets: list[tuple[_core.Target, int]] = []
        self.placeholders: dict[Placeholder, list[int]] = {}
        self._states: frozenset[Expression] = frozenset()  # random variables whose arrays are states of a sum

    def emit(self, expression: Expression) -> int:
        """Return the number of the expression's array, adding what it needs to the program."""
        for node in ancestors([expression], lambda e: () if e in self.arrays else e.operands):
            if node not in self.arrays:
                self.arrays[node] = node.emit(self, [self.arrays[x] for x in node.operands])
        return self.arrays[expression]

    def frozen(self) -> Emitter:
        """Return an emitter into the same program whose parameters get no gradient; values of random variables stay."""
        copy = Emitter(self.core, self.offsets, set(), self.gradients)
        copy.placeholders = self.placeholders
        copy.arrays = {e: slot for e, slot in self.arrays.items() if _stays(e)}
        return copy

    def given(self, values: Mapping[Expression, int]) -> Emitter:
        """Return an emitter into the same program in which some random variables have a state of a sum as their value.

        What depends on them must not have been emitted; all else is shared.
        """
        copy = Emitter(self.core, self.offsets, self.trainable, self.gradients)
        copy.calls, copy.targets, copy.placeholders = self.calls, self.targets, self.placeholders
        copy.arrays = ChainMap(dict(values), self.arrays)
        copy._states = self._states.union(values)
        return copy

    def is_state(self, expression: Expression) -> bool:
        """Return whether an array is data for the program only because it is made of states of a sum and of data."""
        from klqp.model.random_variable import RandomVariable

        if not self._states or not self.core.flags(self.arrays[expression])[2]:
            return False
        own = ancestors([expression], lambda e: () if isinstance(e, RandomVariable) else e.inputs)
        return any(e in self._states for e in own)

    def parameter(self, parameter: Parameter) -> int:
        """Add a parameter: its slice of the flat vector, through the map to its space."""
        frozen = parameter not in self.trainable
        u = self.core.parameter(self.offsets[parameter], parameter.n_unconstrained, frozen)
        return u if parameter.is_real else self.transform(parameter.support, parameter.shape, u)[0]

    def transform(self, support: object, shape: tuple[int, ...], u: int, begin: int = 0) -> tuple[int, int]:
        """Add the map to a support; return the numbers of the values and of the log-Jacobians."""
        name, options = support.bijector_args(shape)  # type: ignore[attr-defined]
        return self.core.transform(
            name, options["n_events"], options["size"], options["lower"], options["upper"], u, begin
        )

    def node(self, op: str, inputs: list[int], size: int, constant: float | None = None) -> int:
        """Add an elementwise operation."""
        return self.core.node(op, inputs, size, {}, {} if constant is None else {"constant": [constant]})

    def total(self, x: int, n: int) -> int:
        """Add the sum of an array of n numbers."""
        return x if n == 1 else self.core.node("sum", [x], 1, {"outer": [1], "n": [n], "inner": [1]}, {})

    def set_placeholder(self, placeholder: Placeholder, values: Float64) -> None:
        """Give a placeholder its data, wherever it is used."""
        for slot in self.placeholders.get(placeholder, ()):
            self.core.set_data(slot, values)


def _stays(e: Expression) -> bool:
    """Return whether an expression's array does not depend on parameters other than by draws."""
    from klqp.model.random_variable import RandomVariable

    return isinstance(e, RandomVariable) or not (e.inputs or isinstance(e, Parameter))
