"""Deterministic: the user's own function of random variables, with its derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from klqp._checks import positive_int
from klqp.model.callbacks import DeterministicCall
from klqp.model.expression import Expression, as_expression

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Deterministic"]


class Deterministic(Expression):
    """A function of expressions that the vocabulary does not have, written in NumPy for all draws at once.

    Parameters
    ----------
    forward : callable
        ``forward(*inputs)`` returns the values ``(S, *shape)``. Random variables, parameters and what depends on them
        come with a leading axis of S draws; data come without it (and with no input that varies, so does the result).
    vjp : callable or None
        ``vjp(cotangent, *inputs)`` with ``cotangent (S, *shape)`` returns a tuple of cotangents, each of its input's
        shape, for the inputs that have a draw axis (a bare array when there is just one). None will do for
        score-function gradients only.
    *inputs : expressions or arrays
    shape : int or tuple of int
        Shape of one value.

    Examples
    --------
    >>> import numpy as np, klqp
    >>> z = klqp.Normal(0.0, 1.0, shape=3)
    >>> y = klqp.Deterministic(lambda z: np.cumsum(z, 1), lambda c, z: np.cumsum(c[:, ::-1], 1)[:, ::-1], z, shape=3)
    >>> y.shape
    (3,)
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        vjp: Callable[..., Any] | None,
        *inputs: Any,
        shape: int | tuple[int, ...],
    ) -> None:
        if not callable(forward) or not (vjp is None or callable(vjp)):
            raise TypeError("forward and vjp must be callable: Deterministic(forward, vjp, *inputs, shape=...)")
        if not inputs:
            raise ValueError("a Deterministic needs at least one input")
        sizes = shape if isinstance(shape, tuple) else (shape,)
        super().__init__(
            tuple(positive_int("each size in shape", n) for n in sizes), [as_expression(x) for x in inputs]
        )
        self.forward, self.vjp = forward, vjp

    def emit(self, emitter: Emitter, inputs: Sequence[int]) -> int:
        """Add the call to a program."""
        varies = [not emitter.core.flags(slot)[2] for slot in inputs]
        states = [emitter.is_state(x) for x in self.inputs]
        call = DeterministicCall(self.forward, self.vjp, [x.shape for x in self.inputs], varies, states, self.shape)
        return emitter.core.python(call, list(inputs), self.size)
