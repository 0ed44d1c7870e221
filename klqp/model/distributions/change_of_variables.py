"""Densities of functions of other variables, composed of nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from klqp.model.distributions.event import event_total
from klqp.model.random_variable import Distribution

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["as_log_q", "change_variables"]


def as_log_q(emitter: Emitter, variable: Distribution, value: int, args: Sequence[int]) -> tuple[int, list[int]]:
    """Return the arrays of a value and of the parameters through gates that sort the cotangents of a log q."""

    def gate(slot: int, size: int, is_value: bool) -> int:
        return emitter.core.node("log_q_gate", [slot], size, {"value": [int(is_value)]})

    parameters = [gate(slot, e.size, False) for slot, e in zip(args, variable.inputs, strict=True)]
    return gate(value, variable.size, True), parameters


def change_variables(
    emitter: Emitter,
    variable: Distribution,
    inverse: Sequence[int],
    base: Callable[[int], int],
    *,
    scale: int | None,
    summed: bool,
    bijector: str,
) -> int:
    """Add the log density of y = f(x), log p(x) + log |dx/dy|.

    Parameters
    ----------
    emitter : Emitter
    variable : Distribution
        Of y.
    inverse : sequence of int
        Numbers of the arrays of y and of the bijector's constants.
    base : callable
        From the number of the array of x to that of its log density, scaled and summed alike.
    scale, summed
        As in `RandomVariable.emit_log_prob`.
    bijector : str
        Name of f.
    """
    n, n_events = variable.size, variable.n_events
    both = emitter.core.node(f"inverse_{bijector}", list(inverse), 2 * n)
    x = emitter.core.node("slice", [both], n, {"begin": [0]})
    slopes = emitter.core.node("slice", [both], n, {"begin": [n]})
    log_jacobian = event_total(emitter, slopes, n_events, n // n_events, scale, summed)
    return emitter.node("add", [base(x), log_jacobian], 1 if summed else n_events)
