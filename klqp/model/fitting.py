"""Repetition of parameters' arrays in a program, where broadcasting is not a matter of one number for all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from klqp.model.expression import Expression

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["fit_events"]


def fit_events(
    emitter: Emitter,
    slot: int,
    parameter: Expression,
    event_ndim: int,
    batch: tuple[int, ...],
    *,
    one_for_all: bool = True,
) -> int:
    """Repeat a parameter's array for every event of a batch where it is not one for each already.

    Parameters
    ----------
    emitter : Emitter
    slot : int
        Number of the parameter's array.
    parameter : Expression
    event_ndim : int
        Number of the parameter's last axes that belong to an event; 0 for distributions of numbers.
    batch : tuple of int
        The batch's shape.
    one_for_all : bool
        Whether one event's parameter may stay as it is, for all events.

    Returns
    -------
    int
        Number of the repeated array.
    """
    split = parameter.ndim - event_ndim
    own, n, width = parameter.shape[:split], math.prod(batch), math.prod(parameter.shape[split:])
    size = math.prod(own)
    if size == n or (one_for_all and size == 1):
        return slot
    index = emitter.core.data(np.broadcast_to(np.arange(size).reshape(own), batch).astype(np.float64))
    return emitter.core.node("gather", [slot, index], n * width, {"width": [width]})
