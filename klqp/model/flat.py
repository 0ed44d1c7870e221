"""Flat: a random variable with the improper prior that is constant on its support."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from klqp._checks import positive_int
from klqp.model.random_variable import RandomVariable, Shape
from klqp.model.supports import as_support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Flat"]


class Flat(RandomVariable):
    """A variable whose prior is constant: log p(x) = 0 everywhere in its support.

    The prior is improper unless the support is bounded; the data have to make the posterior a proper one. It cannot be
    drawn from.

    Parameters
    ----------
    shape : int or tuple of int, default ()
        Shape of one value; ``D`` means ``(D,)``, ``()`` a scalar.
    support : str or tuple, default "real"
        Where values lie, as for `klqp.Parameter`: "positive", "ordered", "simplex", ("interval", a, b), ...
    name : str, optional

    Raises
    ------
    TypeError, ValueError
        If shape or support are not as above.

    Notes
    -----
    A Normal prior on an increasing vector is a flat variable on "ordered" and an observation: by symmetry
    ``klqp.Normal(x, s)``, observed at m, has the density of x under ``klqp.Normal(m, s)``.

    Examples
    --------
    >>> import klqp
    >>> sigma = klqp.Flat(support="positive", name="sigma")
    >>> sigma.support
    'positive'
    """

    def __init__(self, shape: int | Shape = (), *, support: Any = "real", name: str | None = None) -> None:
        sizes = shape if isinstance(shape, tuple) else (shape,)
        total = tuple(positive_int("each size in shape", n) for n in sizes)
        super().__init__(total, name=name, support=as_support(support))
        self.space.bijector_args(total)  # refuses shapes that are none of its values
        self.n_events = math.prod(total[: len(total) - self.space.event_ndim])

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
        """Add zeros to a program."""
        if log_q:
            raise TypeError(f"the flat variable {self.name!r} cannot be an approximation: it cannot be drawn from")
        return emitter.core.data(np.zeros(1 if summed else self.n_events))
