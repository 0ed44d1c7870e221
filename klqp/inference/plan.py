"""The plan of a run: how each factor's share of the gradient is estimated, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from klqp.inference.latents import Factor
from klqp.inference.problem import Problem
from klqp.model.parameter import Parameter, Placeholder
from klqp.model.random_variable import RandomVariable

if TYPE_CHECKING:
    from klqp.inference.enumeration import Enumeration

__all__ = ["FactorPlan", "Plan"]

Float64 = npt.NDArray[np.float64]

_ENTROPY_WORDS = {
    "sticking": "entropy by sticking the landing: no variance left where q equals the posterior",
    "closed_form": "entropy by its formula",
    "monte_carlo": "entropy by Monte Carlo",
    "adaptive": "entropy by an adaptive mixture of its formula and sticking the landing",
    "proximal": "entropy by proximal steps on the scales",
}
_BASELINE_WORDS = {
    "mean": "leave-one-out averaged baselines",
    "optimal": "leave-one-out per-coordinate optimal baselines",
    "running": "baselines averaged over past steps",
    "none": "no baselines",
}


def entropy_words(entropy: str) -> str:
    """Return a treatment of the entropy in words."""
    return _ENTROPY_WORDS[entropy]


def score_words(baseline: str, markov_blankets: bool) -> str:
    """Return a score-function estimator in words."""
    how = f"score-function gradients with {_BASELINE_WORDS[baseline]}"
    return f"{how}, Rao-Blackwellised over Markov blankets" if markov_blankets else how


@dataclass(frozen=True)
class FactorPlan:
    """How the gradient of one factor of q is estimated.

    Attributes
    ----------
    gradient : {"reparameterised", "score", "enumerated", "none"}
        ``"none"``: it is only drawn.
    entropy : str
        Treatment of its entropy.
    reason : str
        Why, in words.
    """

    gradient: str
    entropy: str = "monte_carlo"
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """How the gradient of a problem is estimated.

    Attributes
    ----------
    factors : dict
        By factor.
    baseline : {"mean", "optimal", "running", "none"}
        Of score functions.
    markov_blankets : bool
        Whether the weights of scores have only those elements of terms that depend on the event.
    enumeration : Enumeration, optional
        Of the states of the enumerated factors.
    by_formula : dict
        Factors of the divergences from the prior that are taken by formula, by latent variable.
    scale : dict
        Factors of log densities by random variable.
    frozen : frozenset of Parameter
        Parameters that are not optimised.
    """

    factors: Mapping[Factor, FactorPlan]
    baseline: str = "mean"
    markov_blankets: bool = False
    enumeration: Enumeration | None = None
    by_formula: Mapping[RandomVariable, Float64] = field(default_factory=dict)
    scale: Mapping[RandomVariable, Float64 | Placeholder] = field(default_factory=dict)
    frozen: frozenset[Parameter] = frozenset()

    @classmethod
    def of_draws(cls, problem: Problem, scale: Mapping[RandomVariable, Float64 | Placeholder] | None = None) -> Plan:
        """Return the plan of a program that only draws and evaluates."""
        return cls(dict.fromkeys(problem.factors, FactorPlan("none")), scale=scale or {})

    def has(self, gradient: str) -> bool:
        """Return whether some factor has a kind of gradient."""
        return any(plan.gradient == gradient for plan in self.factors.values())

    @property
    def wants_gradients(self) -> bool:
        """Whether cotangents of the model's densities are used, so that the user's functions must give them."""
        return not self.factors or self.has("reparameterised") or self.has("enumerated")

    @property
    def n_groups(self) -> int:
        """Independent scrambles that Sobol draws must come in."""
        return 2 if self.has("score") else 1

    def words(self, factor: Factor) -> str:
        """Return what is done for a factor, in words."""
        plan = self.factors[factor]
        if plan.gradient == "enumerated":
            return f"exact sums over its states ({plan.reason})"
        how = "reparameterisation gradients"
        if plan.gradient == "score":
            how = score_words(self.baseline, self.markov_blankets)
        by_formula = all(z in self.by_formula for z in factor.latents)
        rest = (
            "divergence from the prior by its formula, given the draws of its parents"
            if by_formula
            else entropy_words(plan.entropy)
        )
        return f"{how} ({plan.reason}); {rest}"
