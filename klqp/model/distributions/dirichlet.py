"""The Dirichlet distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.entropy import EntropyByFormula
from klqp.model.distributions.event import EventDistribution, last_size
from klqp.model.distributions.gamma_draws import GammaDraws
from klqp.model.expression import Expression
from klqp.model.fitting import fit_events
from klqp.model.nodes import digamma, lgamma
from klqp.model.random_variable import Shape
from klqp.model.supports import POSITIVE_VECTOR, SIMPLEX, Support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["Dirichlet"]

Float64 = npt.NDArray[np.float64]


class Dirichlet(GammaDraws, EventDistribution, EntropyByFormula):
    """Vectors of probabilities.

    Parameters
    ----------
    concentration : array_like or expression (..., K)
        Positive.
    shape : int or tuple of int, optional
        Shape of the variable, K last; default: that of the concentration.
    name : str, optional

    Notes
    -----
    Elements of draws inside a fit are at least 2**-1022.
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"concentration": POSITIVE_VECTOR}
    law = "dirichlet"

    def __init__(self, concentration: Any, *, shape: int | Shape | None = None, name: str | None = None) -> None:
        event = (last_size(concentration),)
        super().__init__({"concentration": concentration}, shape=shape, name=name, support=SIMPLEX, event_shape=event)

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program: gamma draws over their sum, by logarithms."""
        (parameter,), (concentration,) = self.inputs, args
        concentration = fit_events(emitter, concentration, parameter, 1, self.batch_shape, one_for_all=False)
        logs = self._emit_log_gamma(emitter, concentration, noise, self.size)
        axis = {"outer": [self.n_events], "n": [self.event_shape[-1]], "inner": [1]}
        return emitter.node("exp_above_0", [emitter.core.node("log_softmax", [logs], self.size, axis)], self.size)

    # Gamma(a) = Gamma(a + 1) U^(1/a), by logarithms: small concentrations underflow.
    def _sample(self, rng: np.random.Generator, shape: Shape, *, concentration: Float64) -> Float64:
        a = np.broadcast_to(concentration, shape)
        logs = np.log(rng.standard_gamma(a + 1.0)) - rng.standard_exponential(shape) / a
        weights = np.exp(logs - logs.max(-1, keepdims=True))
        return np.asarray(weights / weights.sum(-1, keepdims=True))

    def _mean(self, concentration: Float64) -> Float64:
        return np.asarray(concentration / concentration.sum(-1, keepdims=True))

    def _variance(self, concentration: Float64) -> Float64:
        total = concentration.sum(-1, keepdims=True)
        mean = concentration / total
        return np.asarray(mean * (1 - mean) / (total + 1))

    def _entropy(self, concentration: Float64) -> Float64:
        from scipy import special

        total = concentration.sum(-1)
        each = special.gammaln(concentration) - (concentration - 1) * special.digamma(concentration)
        size = concentration.shape[-1]
        return np.asarray(each.sum(-1) - special.gammaln(total) + (total - size) * special.digamma(total))

    def _entropy_expression(self) -> Expression:
        a = self.parameters["concentration"]
        total, size = a.sum(-1), a.shape[-1]
        each = lgamma(a) - (a - 1.0) * digamma(a)
        return each.sum(-1) - lgamma(total) + (total - float(size)) * digamma(total)
