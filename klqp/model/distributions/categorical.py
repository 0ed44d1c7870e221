"""Distributions over categories: one of them, how often each came, and ordered ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.alternatives import exactly_one
from klqp.model.distributions.entropy import EntropyByFormula
from klqp.model.distributions.event import EventDistribution, last_size
from klqp.model.expression import Expression
from klqp.model.glm import GLM, given
from klqp.model.nodes import exp, log_softmax, xlogy
from klqp.model.random_variable import Shape
from klqp.model.supports import COUNT, COUNT_VECTOR, INTEGER, ONE_HOT, ORDERED, REAL, REAL_VECTOR, SIMPLEX, Support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Categorical", "Multinomial", "OneHotCategorical", "OrderedLogistic"]

Float64 = npt.NDArray[np.float64]


class _OverCategories(EventDistribution):
    """A distribution given logits or probabilities of K categories; not used by itself."""

    @property
    def n_categories(self) -> int:
        """Number of categories."""
        return self.inputs[-1].shape[-1]

    def _law_sizes(self) -> dict[str, int]:
        return {"size": self.n_categories, "probs": int("probs" in self.parameters)}


class _OneCategory(_OverCategories, EntropyByFormula):
    """One category for each event, drawn from one uniform; not used by itself."""

    noise_kind: ClassVar[str] = "uniform"
    pathwise: ClassVar[bool] = False

    @property
    def noise_size(self) -> int:
        """Number of uniforms that make a draw."""
        return self.n_events

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from uniforms on (0, 1) to a program."""
        sizes = {key: [n] for key, n in self._law_sizes().items()}
        return emitter.core.discrete_draw(self.law, [*self._law_args(emitter, args), noise], self.size, sizes)

    def _outcome_probs(self) -> Expression:
        """Return the probabilities (..., K), which add up to one."""
        if "logits" in self.parameters:
            return exp(log_softmax(self.parameters["logits"]))
        probs = self.parameters["probs"]
        return probs / probs.sum(-1).reshape(*probs.shape[:-1], 1)

    def _mean_log_prob(self, of: Expression) -> Expression:
        """Return the mean log probability of categories that come with other probabilities (..., K)."""
        if "logits" in self.parameters:
            return (of * log_softmax(self.parameters["logits"])).sum(-1)
        return xlogy(of, self._outcome_probs()).sum(-1)

    def _entropy_expression(self) -> Expression:
        return -self._mean_log_prob(self._outcome_probs())


def probabilities(logits: Float64 | None, probs: Float64 | None) -> Float64:
    """Return the probabilities of categories, which add up to one."""
    if logits is not None:
        probs = np.exp(logits - logits.max(-1, keepdims=True))
    assert probs is not None
    return np.asarray(probs / probs.sum(-1, keepdims=True))


def draw_categories(rng: np.random.Generator, shape: Shape, p: Float64) -> npt.NDArray[np.int64]:
    """Return categories of a shape, drawn with probabilities p (..., K) that broadcast to it."""
    p = np.broadcast_to(p, (*shape, p.shape[-1]))
    below = np.cumsum(p, -1)
    u = rng.random(shape)[..., None] * below[..., -1:]
    return np.asarray((u >= below[..., :-1]).sum(-1), np.int64)


def _entropy(p: Float64) -> Float64:
    return np.asarray(-np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(-1))


class Categorical(_OneCategory):
    """One of K categories, numbered from 0.

    Parameters
    ----------
    logits : array_like or expression (..., K), optional
        Logarithms of the probabilities, up to a constant.
    probs : array_like or expression (..., K), optional
        Probabilities; give these or logits.
    shape : int or tuple of int, optional
        Shape of the variable; default: that of the parameter without its last axis.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"logits": REAL_VECTOR, "probs": SIMPLEX}
    law = "categorical"
    glm = (GLM("categorical_logits", given("logits"), columns=True),)

    def __init__(
        self, logits: Any = None, probs: Any = None, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        _, parameters = exactly_one("Categorical", logits=logits, probs=probs)
        super().__init__(parameters, shape=shape, name=name, support=INTEGER)

    @property
    def states(self) -> Float64:
        """All values (K,) that an event can have."""
        return np.arange(float(self.n_categories))

    def _sample(
        self, rng: np.random.Generator, shape: Shape, *, logits: Float64 | None = None, probs: Float64 | None = None
    ) -> Float64:
        return draw_categories(rng, shape, probabilities(logits, probs)).astype(np.float64)

    def _mean(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Float64:
        return np.asarray(probabilities(logits, probs) @ np.arange(self.n_categories))

    def _variance(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Float64:
        p, k = probabilities(logits, probs), np.arange(self.n_categories)
        return np.asarray((p * (k - (p @ k)[..., None]) ** 2).sum(-1))

    def _entropy(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Float64:
        return _entropy(probabilities(logits, probs))


class OneHotCategorical(_OneCategory):
    """One of K categories, as a vector with a 1 at its place.

    Parameters
    ----------
    logits : array_like or expression (..., K), optional
        Logarithms of the probabilities, up to a constant.
    probs : array_like or expression (..., K), optional
        Probabilities; give these or logits.
    shape : int or tuple of int, optional
        Shape of the variable, K last; default: that of the parameter.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"logits": REAL_VECTOR, "probs": SIMPLEX}
    law = "one_hot_categorical"

    def __init__(
        self, logits: Any = None, probs: Any = None, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        _, parameters = exactly_one("OneHotCategorical", logits=logits, probs=probs)
        event = (last_size(*parameters.values()),)
        super().__init__(parameters, shape=shape, name=name, support=ONE_HOT, event_shape=event)

    @property
    def states(self) -> Float64:
        """All values (K, K) that an event can have."""
        return np.eye(self.n_categories)

    def _sample(
        self, rng: np.random.Generator, shape: Shape, *, logits: Float64 | None = None, probs: Float64 | None = None
    ) -> Float64:
        chosen = draw_categories(rng, shape[:-1], probabilities(logits, probs))
        return np.asarray(chosen[..., None] == np.arange(shape[-1]), np.float64)

    def _mean(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Float64:
        return probabilities(logits, probs)

    def _variance(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Float64:
        p = probabilities(logits, probs)
        return p * (1 - p)

    def _entropy(self, logits: Float64 | None = None, probs: Float64 | None = None) -> Float64:
        return _entropy(probabilities(logits, probs))


class Multinomial(_OverCategories):
    """How often each of K categories came in a number of trials.

    Parameters
    ----------
    total_count : array_like or expression (...)
        Numbers of trials.
    logits : array_like or expression (..., K), optional
        Logarithms of the probabilities, up to a constant.
    probs : array_like or expression (..., K), optional
        Probabilities; give these or logits.
    shape : int or tuple of int, optional
        Shape of the variable, K last; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {
        "total_count": COUNT,
        "logits": REAL_VECTOR,
        "probs": SIMPLEX,
    }
    law = "multinomial"

    def __init__(
        self,
        total_count: Any,
        logits: Any = None,
        probs: Any = None,
        *,
        shape: int | Shape | None = None,
        name: str | None = None,
    ) -> None:
        _, weights = exactly_one("Multinomial", logits=logits, probs=probs)
        parameters = {"total_count": total_count, **weights}
        event = (last_size(*weights.values()),)
        super().__init__(parameters, shape=shape, name=name, support=COUNT_VECTOR, event_shape=event)

    def _sample(
        self,
        rng: np.random.Generator,
        shape: Shape,
        *,
        total_count: Float64,
        logits: Float64 | None = None,
        probs: Float64 | None = None,
    ) -> Float64:
        p = np.broadcast_to(probabilities(logits, probs), shape)
        n = np.broadcast_to(total_count, shape[:-1]).astype(np.int64)
        return rng.multinomial(n, p).astype(np.float64)

    def _mean(self, total_count: Float64, logits: Float64 | None = None, probs: Float64 | None = None) -> Float64:
        return total_count[..., None] * probabilities(logits, probs)

    def _variance(self, total_count: Float64, logits: Float64 | None = None, probs: Float64 | None = None) -> Float64:
        p = probabilities(logits, probs)
        return total_count[..., None] * p * (1 - p)


class OrderedLogistic(EventDistribution):
    """One of K ordered categories, numbered from 0: ``P(x <= k) = sigmoid(cutpoints[k] - loc)``.

    Parameters
    ----------
    cutpoints : array_like or expression (..., K - 1)
        Increasing.
    loc : array_like or expression (...)
    shape : int or tuple of int, optional
        Shape of the variable; default: that of loc and of the cutpoints without their last axis, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"cutpoints": ORDERED, "loc": REAL}
    law = "ordered_logistic"
    glm = (GLM("ordered_logistic", given("loc"), ("cutpoints",), vector="cutpoints"),)

    def __init__(self, cutpoints: Any, loc: Any, *, shape: int | Shape | None = None, name: str | None = None) -> None:
        super().__init__({"cutpoints": cutpoints, "loc": loc}, shape=shape, name=name, support=INTEGER)

    def _law_sizes(self) -> dict[str, int]:
        return {"size": self.inputs[0].shape[-1]}

    def _sample(self, rng: np.random.Generator, shape: Shape, *, cutpoints: Float64, loc: Float64) -> Float64:
        latent = loc + rng.logistic(size=shape)
        return np.asarray((latent[..., None] > cutpoints).sum(-1), np.float64)

    def _probabilities(self, cutpoints: Float64, loc: Float64) -> Float64:
        from scipy.special import expit

        c = cutpoints - loc[..., None]
        edge = np.ones((*c.shape[:-1], 1))
        up, down = np.concatenate([expit(c), edge], -1), np.concatenate([edge, expit(-c)], -1)
        # P(x = k) = P(x <= k) - P(x <= k - 1), from the smaller tails
        above = np.concatenate([expit(-c), 0 * edge], -1)
        below = np.concatenate([0 * edge, expit(c)], -1)
        return np.asarray(np.where(up < 0.5, up - below, down - above))

    def _mean(self, cutpoints: Float64, loc: Float64) -> Float64:
        p = self._probabilities(cutpoints, loc)
        return np.asarray(p @ np.arange(p.shape[-1]))

    def _variance(self, cutpoints: Float64, loc: Float64) -> Float64:
        p = self._probabilities(cutpoints, loc)
        k = np.arange(p.shape[-1])
        return np.asarray((p * (k - (p @ k)[..., None]) ** 2).sum(-1))

    def _entropy(self, cutpoints: Float64, loc: Float64) -> Float64:
        return _entropy(self._probabilities(cutpoints, loc))
