"""Entropies in a program, from their formulas as expressions of a distribution's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klqp.model.expression import Expression
from klqp.model.nodes import broadcast_to
from klqp.model.random_variable import Distribution

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["EntropyByFormula"]


class EntropyByFormula(Distribution):
    """A distribution whose entropy is an expression of its parameters; not used by itself.

    Subclasses give ``_entropy_expression()``: the entropy of each event in nats, of a shape that broadcasts to the
    batch's. The formulas are in docs/maths.md, section 10.
    """

    def _entropy_expression(self) -> Expression:
        raise NotImplementedError

    def emit_entropy(self, emitter: Emitter, args: list[int], scale: int | None) -> int:
        """Add the sum of the events' entropies, each times its factor, to a program.

        Parameters
        ----------
        emitter : Emitter
        args : list of int
            Numbers of the arrays of `inputs`.
        scale : int, optional
            Number of an array of factors, one for each event or one for all.
        """
        emitter = emitter.given(dict(zip(self.inputs, args, strict=True)))
        entropy, n = self._entropy_expression(), self.n_events
        if scale is None and entropy.size == 1:
            one = emitter.emit(entropy)
            return one if n == 1 else emitter.node("multiply_constant", [one], 1, float(n))
        each = emitter.emit(broadcast_to(entropy, self.batch_shape))
        if scale is not None:
            each = emitter.node("multiply", [each, scale], n)
        return emitter.total(each, n)
