"""The user's own NumPy operations as a program calls them: shapes, and checks of what they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp.targets import coerce

__all__ = ["DeterministicCall", "LogDensityCall", "ObjectiveCall"]

Float64 = npt.NDArray[np.float64]
Shape = tuple[int, ...]


class _Call:
    """Gives flat arrays (rows, size) from the core their shapes, and back.

    Parameters
    ----------
    shapes : sequence of tuple
    varies : sequence of bool
        Which arguments have rows of their own in the core.
    states : sequence of bool
        Which are data for the core, but values of random variables for the user: the states of a sum. They have a draw
        axis for the user.
    """

    def __init__(self, shapes: Sequence[Shape], varies: Sequence[bool], states: Sequence[bool]) -> None:
        self._shapes = list(shapes)
        self._varies = list(varies)
        self._states = list(states)

    def _rows(self, args: Sequence[Float64]) -> int | None:
        """Return the number of rows; None where all arguments are data."""
        rows = next((len(a) for a, varies in zip(args, self._varies, strict=True) if varies), None)
        return 1 if rows is None and any(self._states) else rows

    def _shaped(self, args: Sequence[Float64]) -> list[Float64]:
        rows, out = self._rows(args), []
        for a, shape, varies, state in zip(args, self._shapes, self._varies, self._states, strict=True):
            if state:
                out.append(np.broadcast_to(a.reshape(shape), (rows or 1, *shape)))
            else:
                out.append(a.reshape((len(a), *shape) if varies else shape))
        return out

    def _gradients(self, given: Any, rows: int, what: str) -> list[Float64 | None]:
        """Return one gradient, flat, for each argument; None for data."""
        has_draws = [varies or state for varies, state in zip(self._varies, self._states, strict=True)]
        wanted = [shape for shape, has in zip(self._shapes, has_draws, strict=True) if has]
        if not isinstance(given, tuple):
            given = (given,) if len(wanted) == 1 else None
        if given is None or len(given) != len(wanted):
            raise ValueError(
                f"{what} must return a tuple of {len(wanted)} gradients, one for each argument that has a draw axis"
            )
        checked = iter([coerce(g, (rows, *shape), what) for g, shape in zip(given, wanted, strict=True)])
        every = [next(checked).reshape(rows, -1) if has else None for has in has_draws]
        return [g if varies else None for g, varies in zip(every, self._varies, strict=True)]


class DeterministicCall(_Call):
    """``forward(*inputs)`` and ``vjp(cotangent, *inputs)`` of `klqp.Deterministic`."""

    def __init__(
        self,
        forward: Callable[..., Any],
        vjp: Callable[..., Any] | None,
        shapes: Sequence[Shape],
        varies: Sequence[bool],
        states: Sequence[bool],
        shape: Shape,
    ) -> None:
        super().__init__(shapes, varies, states)
        self._forward, self._vjp, self._shape = forward, vjp, shape

    def forward(self, args: list[Float64]) -> Float64:
        """Return the values (rows, size)."""
        rows = self._rows(args)
        value = self._forward(*self._shaped(args))
        expected = self._shape if rows is None else (rows, *self._shape)
        return coerce(value, expected, "what forward returns").reshape(rows or 1, -1)

    def backward(self, args: list[Float64], cot: Float64) -> list[Float64 | None]:
        """Return the cotangents of the arguments."""
        if self._vjp is None:
            raise TypeError("this Deterministic has no vjp, which reparameterisation gradients need")
        given = self._vjp(cot.reshape(len(cot), *self._shape), *self._shaped(args))
        return self._gradients(given, len(cot), "vjp")


class LogDensityCall(_Call):
    """``fn(value, *inputs)`` of `klqp.LogDensity`."""

    def __init__(
        self, fn: Callable[..., Any], shapes: Sequence[Shape], varies: Sequence[bool], states: Sequence[bool]
    ) -> None:
        super().__init__(shapes, varies, states)
        self._fn = fn
        self._grads: list[Float64 | None] | None = None

    def forward(self, args: list[Float64]) -> Float64:
        """Return logp (rows, 1); keeps the gradients for `backward`."""
        rows = self._rows(args) or 1
        result = self._fn(*self._shaped(args))
        self._grads = None
        if isinstance(result, tuple):
            if len(result) != 2:
                raise ValueError(f"the log density must return logp or (logp, gradients), not {len(result)} things")
            result, grads = result
            self._grads = self._gradients(grads, rows, "the log density's gradients")
        return coerce(result, (rows,), "logp").reshape(rows, 1)

    @property
    def gave_gradients(self) -> bool:
        """Whether the last call returned gradients."""
        return self._grads is not None

    def backward(self, args: list[Float64], cot: Float64) -> list[Float64 | None]:
        """Return the cotangents of the arguments."""
        if self._grads is None:
            raise TypeError(
                "reparameterisation gradients need the gradients of the log density, but it returned logp alone; "
                "return (logp, gradients), or use score-function gradients"
            )
        return [None if g is None else cot * g for g in self._grads]


class ObjectiveCall:
    """``objective(log_ratio)`` of `klqp.VariationalInference`, checked."""

    def __init__(self, objective: Callable[[Float64], Any]) -> None:
        self._objective = objective

    def __call__(self, log_ratio: Float64) -> tuple[float, Float64]:
        """Return the loss and its derivatives (S,)."""
        result = self._objective(log_ratio)
        if not isinstance(result, tuple) or len(result) != 2:
            came = f"{len(result)} things" if isinstance(result, tuple) else type(result).__name__
            raise TypeError(f"objective must return the pair (loss, derivatives), not {came}")
        loss = coerce(result[0], (), "the objective's loss")
        return float(loss.reshape(())), coerce(result[1], log_ratio.shape, "the objective's derivatives")
