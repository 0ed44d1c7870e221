"""LogDensity: a random variable whose log density is the user's own function."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from klqp._checks import positive_int
from klqp.model.callbacks import LogDensityCall
from klqp.model.expression import as_expression
from klqp.model.random_variable import RandomVariable
from klqp.model.supports import as_support
from klqp.native import capsule_of
from klqp.targets import make_target

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["LogDensity"]


class LogDensity(RandomVariable):
    """A random variable whose log density, up to a constant, is the user's own function.

    Parameters
    ----------
    fn : callable or native function
        ``fn(value, *inputs)`` for S draws at once. The value, and inputs that depend on random variables or
        parameters, have a leading axis of draws ``(S, *shape)``; data have not. It returns ``logp (S,)`` and the
        gradients as a pair: a tuple of one array for each argument that has a draw axis, or the bare array when there
        is just one; or ``logp`` alone when only score-function gradients are to be used. -inf says that a value is
        outside the support. A native function (see `klqp.native`) sees ``(S, D)``: the value, then each input, each in
        C order, data included; what it writes to the gradients of data is ignored.
    *inputs : expressions or arrays
        What the density depends on.
    shape : int or tuple of int
        Shape of one value; ``D`` means ``(D,)``, ``()`` a scalar.
    support : str or tuple, default "real"
        Where values lie, as for `klqp.Parameter`; q then goes through a transform, whose log-Jacobian is added.
    name : str, default "z"
        Key of the variable in ``inference.posterior``.

    Raises
    ------
    TypeError, ValueError
        If `fn` is not callable, or shape or support are not as above.
    """

    def __init__(
        self, fn: Any, *inputs: Any, shape: int | tuple[int, ...], support: Any = "real", name: str = "z"
    ) -> None:
        if capsule_of(fn) is None and not callable(fn):
            raise TypeError(f"the log density must be callable or a native function, not {type(fn).__name__}")
        if name is None:
            raise ValueError("name must be a string that is not empty, not None")
        sizes = shape if isinstance(shape, tuple) else (shape,)
        total = tuple(positive_int("each size in shape", n) for n in sizes)
        super().__init__(total, [as_expression(x) for x in inputs], name=name, support=as_support(support))
        self.space.bijector_args(total)  # refuses shapes that are none of its values
        self.fn = fn

    @property
    def is_native(self) -> bool:
        """Whether the log density is a native function."""
        return capsule_of(self.fn) is not None

    @property
    def is_flat(self) -> bool:
        """Whether it is a log density on R^D that depends on nothing else."""
        return not self.inputs and self.support == "real"

    def emit_log_prob(
        self,
        emitter: Emitter,
        value: int,
        args: Sequence[int],
        *,
        scale: int | None = None,
        summed: bool = True,
        log_q: bool = False,
    ) -> int:
        """Add the log density to a program."""
        if log_q:
            raise TypeError(f"the log density {self.name!r} cannot be an approximation: it cannot be drawn from")
        varies = [not emitter.core.flags(slot)[2] for slot in (value, *args)]
        if self.is_native:
            size = self.size + sum(x.size for x in self.inputs)
            point = emitter.core.node("concatenate", [value, *args], size, {"outer": [1]}, {}) if args else value
            slot = emitter.core.target(make_target(self.fn, (size,), np.float64), emitter.gradients, point)
        elif not self.inputs and varies[0]:
            target = make_target(self.fn, self.shape, np.float64)
            emitter.targets.append((target, value))
            slot = emitter.core.target(target, emitter.gradients, value)
        else:
            states = [emitter.is_state(x) for x in (self, *self.inputs)]
            call = LogDensityCall(self.fn, [self.shape, *(x.shape for x in self.inputs)], varies, states)
            emitter.calls.append(call)
            slot = emitter.core.python(call, [value, *args], 1)
        return slot if scale is None else emitter.node("multiply", [slot, scale], 1)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if not _can_be_pickled(self.fn):
            state["fn"] = LostLogDensity()
        return state


class LostLogDensity:
    """Stands for a log density that could not be pickled with its results."""

    def __call__(self, *_: Any) -> Any:
        """Raise ValueError."""
        raise ValueError(
            "the log density could not be pickled with these results (a lambda or a nested function, perhaps): "
            "moments and draws are here, but nothing that evaluates it"
        )


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
