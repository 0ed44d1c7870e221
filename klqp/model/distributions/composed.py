"""Distributions made from others, whose parameters they take over."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.categorical import Categorical
from klqp.model.expression import Expression
from klqp.model.random_variable import Distribution, RandomVariable, Shape
from klqp.model.supports import Support

__all__ = ["ComposedDistribution", "check_batch", "check_parts", "moment"]

Float64 = npt.NDArray[np.float64]


class ComposedDistribution(Distribution):
    """A distribution whose parameters are those of its parts, under the part's name and theirs; not used by itself."""

    def _setup(
        self,
        parts: Mapping[str, Distribution],
        axes: Mapping[str, int],
        shape: Shape,
        event_shape: Shape,
        name: str | None,
        support: Support,
    ) -> None:
        """Take over the parameters of the parts, of whose batch axes the last `axes` are not of one's own batch."""
        self._parts = dict(parts)
        self.parameters: dict[str, Expression] = {}
        supports: dict[str, Support] = {}
        for prefix, part in self._parts.items():
            for key, parameter in part.parameters.items():
                own = part.parameter_supports[key]
                self.parameters[f"{prefix}_{key}"] = parameter
                supports[f"{prefix}_{key}"] = replace(own, event_ndim=own.event_ndim + axes.get(prefix, 0))
        self.parameter_supports = supports  # type: ignore[misc]
        self.event_shape = event_shape
        RandomVariable.__init__(self, shape, tuple(self.parameters.values()), name=name, support=support)

    def _split(self, values: Sequence[Any]) -> list[list[Any]]:
        """Return what belongs to the parameters of each part."""
        rest = iter(values)
        return [list(itertools.islice(rest, len(part.parameters))) for part in self._parts.values()]

    def _split_parameters(self, parameters: Mapping[str, Float64]) -> list[dict[str, Float64]]:
        groups = self._split([parameters[key] for key in self.parameters])
        return [
            dict(zip(part.parameters, group, strict=True))
            for part, group in zip(self._parts.values(), groups, strict=True)
        ]


def moment(part: Distribution, which: str, values: Mapping[str, Float64]) -> Float64:
    """Return a moment of a part, with the part's shape, perhaps after an axis of draws.

    Raises
    ------
    TypeError
        If there is no formula for it.
    """
    rule = getattr(part, which, None)
    if rule is None:
        raise TypeError(f"the {which[1:]} of {type(part).__name__} has no formula here")
    found = np.asarray(rule(**values), np.float64)
    return np.broadcast_to(found, np.broadcast_shapes(found.shape, part.shape))


def check_parts(kind: str, categoricals: Mapping[str, Any], others: Mapping[str, Sequence[Any]]) -> None:
    """Refuse parts, given by how messages call them, that are not Categoricals or not distributions."""
    for words, part in categoricals.items():
        if not isinstance(part, Categorical):
            raise TypeError(f"{words} of {kind} must be a Categorical, not {type(part).__name__}")
    for words, parts in others.items():
        for part in parts:
            if not isinstance(part, Distribution):
                raise TypeError(f"{words} of {kind} must be distributions, not {type(part).__name__}")


def check_batch(words: str, came: Shape, batch: Shape) -> None:
    """Refuse a part whose batch does not broadcast to the distribution's."""
    try:
        fits = np.broadcast_shapes(came, batch) == batch
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{words} has batch shape {came}, which does not broadcast to {batch}")
