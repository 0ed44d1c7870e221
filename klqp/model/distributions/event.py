"""What distributions of vectors and matrices share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from klqp.model.expression import Expression, as_expression
from klqp.model.fitting import fit_events
from klqp.model.random_variable import Distribution, Shape

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["EventDistribution", "as_vector", "event_total", "fit_events"]

Float64 = npt.NDArray[np.float64]


class EventDistribution(Distribution):
    """A distribution of events whose log density is a native law; not used by itself.

    `law` names it in csrc/model/nodes/events; the law's parameters are `parameters`, in order.
    """

    law: str

    def _law_sizes(self) -> dict[str, int]:
        """Return the configuration of the law."""
        return {"size": self.event_shape[-1]}

    def _law_args(self, emitter: Emitter, args: Sequence[int]) -> list[int]:
        """Return the arrays of the law's parameters, for every event or one for all."""
        return [self._fit(emitter, key, slot) for key, slot in zip(self.parameters, args, strict=True)]

    def _fit(self, emitter: Emitter, key: str, slot: int) -> int:
        return fit_events(
            emitter, slot, self.parameters[key], self.parameter_supports[key].event_ndim, self.batch_shape
        )

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
        inputs = [value, *self._law_args(emitter, args)] + ([] if scale is None else [scale])
        sizes = {key: [n] for key, n in self._law_sizes().items()}
        return emitter.core.event_density(self.law, inputs, self.n_events, sizes, summed, scale is not None, log_q)


def event_total(emitter: Emitter, x: int, n: int, width: int, scale: int | None, summed: bool) -> int:
    """Add the sums over the `width` elements of n events, each times its factor; their sum if `summed`."""
    inputs = [x] if scale is None else [x, scale]
    options = {"n": [n], "width": [width], "summed": [int(summed)]}
    return emitter.core.node("event_total", inputs, 1 if summed else n, options)


def as_vector(value: Any, size: int) -> Expression:
    """Return a parameter of vectors, one number repeated to a size."""
    from klqp.model.nodes import broadcast_to

    expression = as_expression(value)
    return broadcast_to(expression, (size,)) if expression.ndim == 0 else expression


def last_size(*values: Any, shape: int | Shape | None = None) -> int:
    """Return the size of the last axis of a shape, or of the first argument that has one; 1 if none has."""
    if shape is not None and shape != ():
        return shape[-1] if isinstance(shape, tuple) else shape
    for value in values:
        axes = value.shape if isinstance(value, Expression) else np.shape(value)
        if axes:
            return int(axes[-1])
    return 1


def check_events(kind: str, shapes: dict[str, tuple[Shape, Shape]]) -> None:
    """Refuse parameters whose events do not fit together.

    Parameters
    ----------
    kind : str
    shapes : dict
        The shape of the event of each parameter that came, and the expected one.
    """
    for key, (came, expected) in shapes.items():
        if came != expected:
            raise ValueError(f"{key} of {kind} must end in axes {expected}, but they are {came}")


def check_square(kind: str, key: str, value: Any) -> None:
    """Refuse a matrix that is not square."""
    shape = value.shape if isinstance(value, Expression) else np.shape(value)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"{key} of {kind} must be square matrices, not of shape {shape}")


def swapped(x: Float64) -> Float64:
    """Return the transposes of matrices."""
    return np.swapaxes(x, -1, -2)


def diagonal(x: Float64) -> Float64:
    """Return the diagonals of matrices."""
    return np.diagonal(x, axis1=-2, axis2=-1)
