"""Relaxations of Bernoulli and categorical variables: continuous, with reparameterised draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.alternatives import exactly_one
from klqp.model.distributions.change_of_variables import as_log_q, change_variables
from klqp.model.distributions.draws import UniformDraws
from klqp.model.distributions.event import EventDistribution, last_size
from klqp.model.fitting import fit_events
from klqp.model.random_variable import Shape
from klqp.model.supports import POSITIVE, REAL, REAL_VECTOR, SIMPLEX, UNIT_INTERVAL, Support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["RelaxedBernoulli", "RelaxedOneHotCategorical"]

Float64 = npt.NDArray[np.float64]

_SMALLEST, _BELOW_1 = 2.0**-1022, 1 - 2.0**-53


class RelaxedBernoulli(UniformDraws):
    """Independent relaxed Bernoulli (binary concrete) variables: numbers in (0, 1) in place of 0 and 1.

    A value is sigmoid((logits + l) / temperature) with a standard logistic l; it is above 1/2 with the probability
    that the Bernoulli variable is 1, and goes to 0 or 1 as the temperature goes to 0 (Maddison, Mnih and Teh 2017,
    "The concrete distribution"; Jang, Gu and Poole 2017, "Categorical reparameterization with Gumbel-softmax").

    Parameters
    ----------
    temperature : array_like or expression
        Positive.
    logits : array_like or expression
        Log odds of 1. Exactly one of `logits` and `probs` is given.
    probs : array_like or expression
        Probabilities of 1, in (0, 1).
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameters, broadcast.
    name : str, optional

    Notes
    -----
    It is another model than the one with a Bernoulli variable: as a stand-in for it, its gradients are biased, the less
    so (and the noisier) the lower the temperature. There is no formula for its mean.
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {
        "temperature": POSITIVE,
        "logits": REAL,
        "probs": UNIT_INTERVAL,
    }

    def __init__(
        self,
        temperature: Any,
        logits: Any = None,
        probs: Any = None,
        *,
        shape: int | Shape | None = None,
        name: str | None = None,
    ) -> None:
        _, weights = exactly_one("RelaxedBernoulli", logits=logits, probs=probs)
        super().__init__({"temperature": temperature, **weights}, shape=shape, name=name, support=UNIT_INTERVAL)

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
        """Add the log density to a program: that of the logit, which is logistic, and of the change of variables."""
        if log_q:
            value, args = as_log_q(emitter, self, value, args)
        temperature, weights = (self._fit(emitter, p, slot) for p, slot in zip(self.inputs, args, strict=True))
        spread = emitter.node("reciprocal", [temperature], self._n_of(0))
        loc = emitter.node("divide", [self._logits(emitter, weights), temperature], max(self._n_of(0), self._n_of(1)))
        factors = [] if scale is None else [scale]

        def logistic(x: int) -> int:
            return emitter.core.density("logistic", [x, loc, spread, *factors], self.size, summed, bool(factors), False)

        return change_variables(emitter, self, [value], logistic, scale=scale, summed=summed, bijector="sigmoid")

    def _emit_draw(self, emitter: Emitter, noise: int, fitted: list[int]) -> int:
        temperature, weights = fitted
        n = self.size
        logits = self._logits(emitter, weights)
        shifted = emitter.node("add", [logits, emitter.node("logit", [noise], n)], n)
        return emitter.node("sigmoid_inside", [emitter.node("divide", [shifted, temperature], n)], n)

    def _logits(self, emitter: Emitter, weights: int) -> int:
        return weights if "logits" in self.parameters else emitter.node("logit", [weights], self._n_of(1))

    def _n_of(self, k: int) -> int:
        return 1 if self.inputs[k].size == 1 else self.size

    def _sample(
        self,
        rng: np.random.Generator,
        shape: Shape,
        *,
        temperature: Float64,
        logits: Float64 | None = None,
        probs: Float64 | None = None,
    ) -> Float64:
        from scipy.special import expit, logit

        centre = logit(probs) if logits is None else logits
        return np.asarray(np.clip(expit((centre + rng.logistic(size=shape)) / temperature), _SMALLEST, _BELOW_1))


class RelaxedOneHotCategorical(EventDistribution):
    """A relaxed one-hot categorical (concrete, Gumbel-softmax) variable: a point of the simplex in place of a corner.

    A value is softmax((logits + g) / temperature) with independent standard Gumbel numbers g; its largest element is at
    k with the probability of category k, and it goes to that corner as the temperature goes to 0 (Maddison, Mnih and
    Teh 2017, "The concrete distribution"; Jang, Gu and Poole 2017, "Categorical reparameterization with
    Gumbel-softmax").

    Parameters
    ----------
    temperature : array_like or expression (...)
        Positive.
    logits : array_like or expression (..., K), optional
        Logarithms of the probabilities, up to a constant.
    probs : array_like or expression (..., K), optional
        Probabilities; give these or logits.
    shape : int or tuple of int, optional
        Shape of the variable, K last; default: that of the parameters, broadcast.
    name : str, optional

    Notes
    -----
    It is another model than the one with a OneHotCategorical variable: as a stand-in for it, its gradients are biased,
    the less so (and the noisier) the lower the temperature. There is no formula for its mean.
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {
        "temperature": POSITIVE,
        "logits": REAL_VECTOR,
        "probs": SIMPLEX,
    }
    law = "relaxed_one_hot_categorical"
    noise_kind: ClassVar[str] = "uniform"

    def __init__(
        self,
        temperature: Any,
        logits: Any = None,
        probs: Any = None,
        *,
        shape: int | Shape | None = None,
        name: str | None = None,
    ) -> None:
        _, weights = exactly_one("RelaxedOneHotCategorical", logits=logits, probs=probs)
        event = (last_size(*weights.values()),)
        parameters = {"temperature": temperature, **weights}
        super().__init__(parameters, shape=shape, name=name, support=SIMPLEX, event_shape=event)

    def _law_sizes(self) -> dict[str, int]:
        return {"size": self.event_shape[0], "probs": int("probs" in self.parameters)}

    @property
    def noise_size(self) -> int:
        """Number of uniforms that make a draw."""
        return self.size

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from uniforms on (0, 1) to a program."""
        n, k = self.size, self.event_shape[0]
        temperature, weights = self.inputs
        rows = fit_events(emitter, args[1], weights, 1, self.batch_shape, one_for_all=False)
        logits = rows if "logits" in self.parameters else emitter.node("log", [rows], n)
        shifted = emitter.node("add", [logits, emitter.node("gumbel_ppf", [noise], n)], n)
        divisor = fit_events(emitter, args[0], temperature, 0, self.batch_shape)
        if temperature.size > 1:  # one for each element
            index = emitter.core.data(np.repeat(np.arange(self.n_events, dtype=np.float64), k))
            divisor = emitter.core.node("gather", [divisor, index], n, {"width": [1]})
        scaled = emitter.node("divide", [shifted, divisor], n)
        axis = {"outer": [self.n_events], "n": [k], "inner": [1]}
        return emitter.node("exp_above_0", [emitter.core.node("log_softmax", [scaled], n, axis)], n)

    def _sample(
        self,
        rng: np.random.Generator,
        shape: Shape,
        *,
        temperature: Float64,
        logits: Float64 | None = None,
        probs: Float64 | None = None,
    ) -> Float64:
        from scipy.special import log_softmax

        with np.errstate(divide="ignore"):
            centre = np.log(probs) if logits is None else logits  # type: ignore[arg-type]
        scaled = (centre + rng.gumbel(size=shape)) / temperature[..., None]
        return np.asarray(np.maximum(np.exp(log_softmax(scaled, axis=-1)), _SMALLEST))
