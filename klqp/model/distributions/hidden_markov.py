"""Hidden Markov models, with the states summed out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.model.ancestral import evaluate
from klqp.model.distributions.categorical import Categorical, draw_categories, probabilities
from klqp.model.distributions.composed import ComposedDistribution, check_batch, check_parts, moment
from klqp.model.distributions.event import event_total, fit_events
from klqp.model.emitter import Emitter, ancestors
from klqp.model.expression import Expression, as_data
from klqp.model.random_variable import Distribution, RandomVariable, Shape

__all__ = ["HiddenMarkov"]

Float64 = npt.NDArray[np.float64]


class HiddenMarkov(ComposedDistribution):
    """Sequences observed from a Markov chain of K hidden states, which are summed out by the forward algorithm.

    ``log_prob`` is one number for each sequence: log of the sum over z of
    ``p(z[0]) p(x[0] | z[0]) prod_t p(z[t] | z[t-1]) p(x[t] | z[t])``. It takes a time of T K**2.

    Parameters
    ----------
    initial : Categorical
        The first state, of K categories; its batch shape broadcasts to the sequences'.
    transition : Categorical
        The next state given the present one: K categories, and a last batch axis K, the state one comes from. So its
        logits or probs are (K, K) matrices with a row for each state one comes from.
    emission : Distribution
        What is observed in each state, of batch shape (T, K), or (n, T, K) for n sequences.
    lengths : array_like of int, optional
        Length of each sequence, of the batch's shape; default: T. What is observed later does not matter. Draws have
        T steps all the same.
    name : str, optional

    Notes
    -----
    The three parts give the sequences their parameters, such as ``initial_probs``, and are no variables of the model
    themselves. Impossible first states and transitions, of probability 0, stay so: their derivatives are 0.

    References
    ----------
    .. [1] L. R. Rabiner, "A tutorial on hidden Markov models and selected applications in speech recognition",
       Proceedings of the IEEE 77 (1989).
    """

    def __init__(
        self,
        initial: Categorical,
        transition: Categorical,
        emission: Distribution,
        *,
        lengths: npt.ArrayLike | None = None,
        name: str | None = None,
    ) -> None:
        categoricals = {"initial": initial, "transition": transition}
        check_parts("HiddenMarkov", categoricals, {"emission": [emission]})
        n_states = initial.n_categories
        if transition.inputs[0].shape[-2:] != (n_states, n_states):
            raise ValueError(
                f"transition of HiddenMarkov must have one row of {n_states} for each of the {n_states} states, not "
                f"parameters of shape {transition.inputs[0].shape}"
            )
        if len(emission.batch_shape) < 2 or emission.batch_shape[-1] != n_states:
            raise ValueError(
                f"the last two axes of the emission's batch must be steps and {n_states} states, but the batch is "
                f"{emission.batch_shape}"
            )
        *batch, self.n_steps = emission.batch_shape[:-1]
        check_batch("initial of HiddenMarkov", initial.batch_shape, tuple(batch))
        check_batch("transition of HiddenMarkov", transition.batch_shape[:-1], tuple(batch))
        self.n_states = n_states
        self.initial, self.transition, self.emission = initial, transition, emission
        self.lengths = _read_lengths(lengths, tuple(batch), self.n_steps)
        event = (self.n_steps, *emission.event_shape)
        self._setup(
            categoricals | {"emission": emission},
            {"transition": 1, "emission": 2},
            (*batch, *event),
            event,
            name,
            emission.space,
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
        (first,), (following,), group = self._split(args)
        each = self._emit_emission(emitter, value, group, log_q)
        out = self._emit_chain(emitter, first, following, each, log_q)
        return event_total(emitter, out, self.n_events, 1, scale, summed)

    def _emit_emission(self, emitter: Emitter, value: int, args: Sequence[int], log_q: bool = False) -> int:
        """Add the log densities (n, T, K) of the observations in each state."""
        index = np.repeat(np.arange(self.n_events * self.n_steps), self.n_states).astype(np.float64)
        width = math.prod(self.emission.event_shape)
        size = self.size * self.n_states
        repeated = emitter.core.node("gather", [value, emitter.core.data(index)], size, {"width": [width]})
        return self.emission.emit_log_prob(emitter, repeated, args, summed=False, log_q=log_q)

    def _emit_chain(self, emitter: Emitter, first: int, following: int, each: int, log_q: bool = False) -> int:
        """Add the log densities (n) of the sequences."""
        fitted = [
            fit_events(emitter, slot, part.inputs[0], ndim, self.batch_shape)
            for slot, part, ndim in ((first, self.initial, 1), (following, self.transition, 2))
        ]
        options = {
            "size": [self.n_states],
            "lengths": [int(n) for n in self.lengths.ravel()],
            "first_probs": [int("probs" in self.initial.parameters)],
            "next_probs": [int("probs" in self.transition.parameters)],
            "log_q": [int(log_q)],
        }
        return emitter.core.node("hidden_markov", [*fitted, each], self.n_events, options)

    # --- the states ------------------------------------------------------------------------------------------
    def posterior_states(
        self, x: npt.ArrayLike, draws: Mapping[RandomVariable, Any] | Mapping[str, Any] | None = None
    ) -> Float64:
        r"""Return the probabilities of the states given whole sequences, by the forward-backward algorithm.

        Parameters
        ----------
        x : array_like
            Observed sequences, of the variable's shape.
        draws : dict, optional
            Draws ``(n, *shape)`` of the random variables that the parameters depend on, by variable or by name, such
            as ``inference.posterior.sample(n)``; others among them are ignored. Default: there are none.

        Returns
        -------
        ndarray (n, \*batch, T, K), without the first axis if there are no draws
            NaN for sequences of probability 0, and 0 from their `lengths` on.

        Raises
        ------
        ValueError
            If x has another shape, or a random variable has no draws.
        """
        value = as_data(x, f"the value of {self.name!r}")
        if value.shape != self.shape:
            raise ValueError(f"the value of {self.name!r} must have shape {self.shape}, not {value.shape}")
        given = _read_draws(self, draws or {})
        n = len(next(iter(given.values()))) if given else 1
        arrays = evaluate([self.initial.inputs[0], self.transition.inputs[0], _EmissionLogProb(self, value)], given, n)
        p = self._smooth([np.broadcast_to(a.reshape(-1, e), (n, e)) for a, e in zip(arrays, self._sizes, strict=True)])
        p = p.reshape(n, *self.batch_shape, self.n_steps, self.n_states)
        return p if given else p[0]

    @property
    def _sizes(self) -> tuple[int, int, int]:
        """Numbers of elements of the node's inputs."""
        each = self.n_events * self.n_steps * self.n_states
        return self.initial.inputs[0].size, self.transition.inputs[0].size, each

    def _smooth(self, arrays: Sequence[Float64]) -> Float64:
        """Return posterior probabilities: the derivatives of log densities by those of the observations."""
        core, n = _core.Model(), len(arrays[0])
        slots = [core.input(size) for size in self._sizes]
        out = self._emit_chain(Emitter(core, {}), slots[0], slots[1], slots[2])
        inputs, nothing = [np.ascontiguousarray(a) for a in arrays], (n, np.zeros(1), np.zeros((n, 1)))
        (log_p,) = core.evaluate(*nothing, inputs, [out])
        p = core.pullback(*nothing, inputs, out, np.ones(log_p.shape))[1][2]
        return np.where(np.isfinite(log_p)[..., None], p.reshape(*log_p.shape, -1), np.nan)

    # --- values ----------------------------------------------------------------------------------------------
    def _chain(self, first: Mapping[str, Float64], following: Mapping[str, Float64]) -> tuple[Float64, Float64]:
        """Return the probabilities of the first state (..., K) and of transitions (..., K, K)."""
        return probabilities(first.get("logits"), first.get("probs")), probabilities(
            following.get("logits"), following.get("probs")
        )

    def _weights(self, first: Mapping[str, Float64], following: Mapping[str, Float64]) -> Float64:
        """Return the probabilities (..., T, K) of the state at each step, to multiply (..., T, K, *event)."""
        p, transition = self._chain(first, following)
        steps = [np.broadcast_to(p, np.broadcast_shapes(p.shape, transition.shape[:-1]))]
        for _ in range(self.n_steps - 1):
            steps.append((steps[-1][..., None, :] @ transition)[..., 0, :])
        out = np.stack(steps, -2)
        return out.reshape(out.shape + (1,) * len(self.emission.event_shape))

    def _mean(self, **parameters: Float64) -> Float64:
        first, following, rest = self._split_parameters(parameters)
        axis = -1 - len(self.emission.event_shape)
        return np.asarray((self._weights(first, following) * moment(self.emission, "_mean", rest)).sum(axis))

    def _variance(self, **parameters: Float64) -> Float64:
        first, following, rest = self._split_parameters(parameters)
        axis, weights = -1 - len(self.emission.event_shape), self._weights(first, following)
        mean, variance = (moment(self.emission, which, rest) for which in ("_mean", "_variance"))
        centre = (weights * mean).sum(axis, keepdims=True)
        return np.asarray((weights * (variance + (mean - centre) ** 2)).sum(axis))

    def _sample(self, rng: np.random.Generator, shape: Shape, **parameters: Float64) -> Float64:
        first, following, rest = self._split_parameters(parameters)
        event = self.emission.event_shape
        batch = shape[: len(shape) - len(self.event_shape)]
        p, transition = self._chain(first, following)
        transition = np.broadcast_to(transition, (*batch, self.n_states, self.n_states))
        states = np.empty((*batch, self.n_steps), np.int64)
        for t in range(self.n_steps):
            states[..., t] = draw_categories(rng, batch, p)
            p = np.take_along_axis(transition, states[..., t, None, None], -2)[..., 0, :]
        every = self.emission._sample(rng, (*batch, self.n_steps, self.n_states, *event), **rest)
        index = states.reshape((*states.shape, 1) + (1,) * len(event))
        return np.take_along_axis(every, index, states.ndim).reshape(shape)


class _EmissionLogProb(Expression):
    """The log densities (n, T, K) of observations in each state, as an expression of the emission's parameters."""

    def __init__(self, chain: HiddenMarkov, value: Float64) -> None:
        super().__init__((*chain.batch_shape, chain.n_steps, chain.n_states), chain.emission.inputs)
        self._chain, self._value = chain, value

    def emit(self, emitter: Emitter, inputs: Sequence[int]) -> int:
        """Add them to a program."""
        return self._chain._emit_emission(emitter, emitter.core.data(self._value), inputs)


def _read_draws(variable: HiddenMarkov, draws: Mapping[Any, Any]) -> dict[Expression, Float64]:
    """Return the draws of what a variable depends on."""
    given: dict[Expression, Float64] = {}
    for e in ancestors(variable.inputs, lambda e: e.inputs):
        key = e if e in draws else getattr(e, "name", None)
        if isinstance(e, RandomVariable) and key in draws:
            given[e] = np.asarray(draws[key], np.float64)
    return given


def _read_lengths(lengths: npt.ArrayLike | None, batch: Shape, n_steps: int) -> npt.NDArray[np.int64]:
    if lengths is None:
        return np.full(batch, n_steps)
    came = as_data(lengths, "lengths of HiddenMarkov")
    if came.shape != batch:
        raise ValueError(f"lengths of HiddenMarkov must have the batch's shape {batch}, not {came.shape}")
    if not ((came >= 1) & (came <= n_steps) & (came == np.floor(came))).all():
        raise ValueError(f"lengths of HiddenMarkov must be integers from 1 to {n_steps}, not {came}")
    return came.astype(np.int64)
