"""Mixtures, with the component summed out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.categorical import Categorical, draw_categories, probabilities
from klqp.model.distributions.composed import ComposedDistribution, check_batch, check_parts, moment
from klqp.model.distributions.event import event_total
from klqp.model.distributions.normal import Normal
from klqp.model.fitting import fit_events
from klqp.model.random_variable import Distribution, Shape

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Mixture", "MixtureSameFamily"]

Float64 = npt.NDArray[np.float64]


class _Mixture(ComposedDistribution):
    """What the two have in common; its parameters are those of the categorical and of the components."""

    cat: Categorical
    n_components: int

    def _emit_mixture(
        self,
        emitter: Emitter,
        weights: int,
        components: list[int],
        scale: int | None,
        summed: bool,
        log_q: bool,
    ) -> int:
        n = self.n_events
        weights = fit_events(emitter, weights, self.cat.inputs[0], 1, self.batch_shape)
        options = {
            "n": [n],
            "size": [self.n_components],
            "probs": [int("probs" in self.cat.parameters)],
            "stacked": [int(len(components) == 1)],
            "log_q": [int(log_q)],
        }
        each = emitter.core.node("log_mixture", [weights, *components], n, options)
        return event_total(emitter, each, n, 1, scale, summed)

    # --- draws of numbers from normal components ---------------------------------------------------------------
    noise_kind: ClassVar[str] = "uniform"

    @property
    def noise_size(self) -> int:
        """Number of uniforms that make a draw: one for the component and one for its value."""
        return 2 * self.size

    @property
    def emit_draw(self) -> Callable[[Emitter, int, list[int]], int]:
        """Adds a draw made from uniforms on (0, 1) to a program; there is none unless components are Normal."""
        if not all(isinstance(part, Normal) for part in self._parts.values() if part is not self.cat):
            raise AttributeError("only mixtures of Normal components have draws inside programs")
        return self._emit_draw

    def _emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        core, n = emitter.core, self.size
        (weights,), *groups = self._split(args)
        weights = fit_events(emitter, weights, self.cat.inputs[0], 1, self.batch_shape)
        u, v = (core.node("slice", [noise], n, {"begin": [begin]}) for begin in (0, n))
        options = {"size": [self.n_components], "probs": [int("probs" in self.cat.parameters)]}
        component = core.discrete_draw("categorical", [weights, u], n, options)
        loc, scale = self._component_parameters(emitter, groups)
        return core.node("normal_mixture_draw", [weights, loc, scale, component, v], n, options)

    def _component_parameters(self, emitter: Emitter, groups: list[list[int]]) -> list[int]:
        """Return the arrays of the normal components' locs and scales, (n, K) each."""
        raise NotImplementedError

    def _component_moments(self, which: str, values: list[dict[str, Float64]]) -> list[Float64]:
        """Return a moment of each component, with the mixture's shape, perhaps after an axis of draws."""
        raise NotImplementedError

    def _weights(self, values: list[dict[str, Float64]]) -> list[Float64]:
        """Return the weight of each component, to multiply arrays of the mixture's shape."""
        p = probabilities(values[0].get("logits"), values[0].get("probs"))
        axes = (1,) * len(self.event_shape)
        return [p[..., k].reshape(p.shape[:-1] + axes) for k in range(self.n_components)]

    def _mean(self, **parameters: Float64) -> Float64:
        values = self._split_parameters(parameters)
        means = self._component_moments("_mean", values)
        return np.asarray(sum(w * m for w, m in zip(self._weights(values), means, strict=True)))

    def _variance(self, **parameters: Float64) -> Float64:
        values = self._split_parameters(parameters)
        means = self._component_moments("_mean", values)
        spreads = self._component_moments("_variance", values)
        weights = self._weights(values)
        mean = sum(w * m for w, m in zip(weights, means, strict=True))
        return np.asarray(sum(w * (v + (m - mean) ** 2) for w, m, v in zip(weights, means, spreads, strict=True)))


class Mixture(_Mixture):
    """A mixture of components that may be of different distributions.

    Parameters
    ----------
    cat : Categorical
        Which component; its batch shape broadcasts to the components'.
    components : sequence of Distribution
        One for each category, all of one shape and support. They give the mixture their parameters and are no
        variables of the model themselves.
    name : str, optional
    """

    def __init__(self, cat: Categorical, components: Sequence[Distribution], *, name: str | None = None) -> None:
        components = list(components)
        check_parts("Mixture", {"the first argument": cat}, {"components": components})
        if len(components) != cat.n_categories:
            raise ValueError(
                f"Mixture needs {cat.n_categories} components, one for each category, not {len(components)}"
            )
        first = components[0]
        for component in components[1:]:
            if (component.shape, component.event_shape) != (first.shape, first.event_shape):
                raise ValueError(f"components of Mixture must have one shape, not {[c.shape for c in components]}")
            if component.space != first.space:
                raise ValueError(f"components of Mixture must have one support, not {[c.support for c in components]}")
        check_batch("the Categorical of Mixture", cat.batch_shape, first.batch_shape)
        self.cat, self.components, self.n_components = cat, tuple(components), len(components)
        parts = {"cat": cat} | {f"component{k}": c for k, c in enumerate(components)}
        self._setup(parts, {}, first.shape, first.event_shape, name, first.space)

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
        (weights,), *groups = self._split(args)
        each = [
            component.emit_log_prob(emitter, value, group, summed=False, log_q=log_q)
            for component, group in zip(self.components, groups, strict=True)
        ]
        return self._emit_mixture(emitter, weights, each, scale, summed, log_q)

    def _component_parameters(self, emitter: Emitter, groups: list[list[int]]) -> list[int]:
        out = []
        for which in range(2):
            columns = [
                fit_events(emitter, group[which], c.inputs[which], 0, self.shape, one_for_all=False)
                for c, group in zip(self.components, groups, strict=True)
            ]
            n = self.size * self.n_components
            out.append(emitter.core.node("concatenate", columns, n, {"outer": [self.size]}))
        return out

    def _component_moments(self, which: str, values: list[dict[str, Float64]]) -> list[Float64]:
        return [moment(c, which, v) for c, v in zip(self.components, values[1:], strict=True)]

    def _sample(self, rng: np.random.Generator, shape: Shape, **parameters: Float64) -> Float64:
        first, *rest = self._split_parameters(parameters)
        batch = shape[: len(shape) - len(self.event_shape)]
        chosen = draw_categories(rng, batch, probabilities(first.get("logits"), first.get("probs")))
        chosen = chosen.reshape(batch + (1,) * len(self.event_shape))
        out = np.empty(shape)
        for k, (component, values) in enumerate(zip(self.components, rest, strict=True)):
            np.copyto(out, component._sample(rng, shape, **values), where=chosen == k)
        return out


class MixtureSameFamily(_Mixture):
    """A mixture of components that one distribution holds, along the last axis of its batch.

    Parameters
    ----------
    mixture_distribution : Categorical
        Which component; its batch shape broadcasts to the mixture's.
    components_distribution : Distribution
        Of batch shape (..., K). It gives the mixture its parameters and is no variable of the model itself.
    name : str, optional
    """

    def __init__(
        self, mixture_distribution: Categorical, components_distribution: Distribution, *, name: str | None = None
    ) -> None:
        cat, components = mixture_distribution, components_distribution
        check_parts("MixtureSameFamily", {"the first argument": cat}, {"components": [components]})
        if components.batch_shape[-1:] != (cat.n_categories,):
            raise ValueError(
                f"the last axis of the components' batch must have {cat.n_categories} elements, one for each category, "
                f"but the batch is {components.batch_shape}"
            )
        batch = components.batch_shape[:-1]
        check_batch("the Categorical of MixtureSameFamily", cat.batch_shape, batch)
        self.cat, self.components_distribution, self.n_components = cat, components, cat.n_categories
        # The axis of components is one of their parameters, not of the batch.
        self._setup(
            {"cat": cat, "components": components},
            {"components": 1},
            batch + components.event_shape,
            components.event_shape,
            name,
            components.space,
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
        (weights,), group = self._split(args)
        width = math.prod(self.event_shape)
        index = emitter.core.data(np.repeat(np.arange(self.n_events), self.n_components).astype(np.float64))
        size = self.size * self.n_components
        repeated = emitter.core.node("gather", [value, index], size, {"width": [width]})
        each = self.components_distribution.emit_log_prob(emitter, repeated, group, summed=False, log_q=log_q)
        return self._emit_mixture(emitter, weights, [each], scale, summed, log_q)

    def _component_parameters(self, emitter: Emitter, groups: list[list[int]]) -> list[int]:
        c = self.components_distribution
        return [
            fit_events(emitter, slot, p, 0, c.shape, one_for_all=False)
            for slot, p in zip(groups[0], c.inputs, strict=True)
        ]

    def _component_moments(self, which: str, values: list[dict[str, Float64]]) -> list[Float64]:
        all_of_them = moment(self.components_distribution, which, values[1])
        axis = -1 - len(self.event_shape)
        return [np.take(all_of_them, k, axis) for k in range(self.n_components)]

    def _sample(self, rng: np.random.Generator, shape: Shape, **parameters: Float64) -> Float64:
        first, rest = self._split_parameters(parameters)
        batch = shape[: len(shape) - len(self.event_shape)]
        chosen = draw_categories(rng, batch, probabilities(first.get("logits"), first.get("probs")))
        every = self.components_distribution._sample(rng, (*batch, self.n_components, *self.event_shape), **rest)
        index = chosen.reshape((*batch, 1) + (1,) * len(self.event_shape))
        return np.take_along_axis(every, index, len(batch)).reshape(shape)
