"""The choice of a gradient estimator for each factor of q of a model (docs/gradients.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from klqp.inference.compiled import is_amortised, is_structured, sort_factors
from klqp.inference.enumeration import AUTOMATIC, MOST, Enumeration, Impossible, enumerate_factors, states_of
from klqp.inference.estimator import ENTROPIES, Demand, agree
from klqp.inference.latents import Factor
from klqp.inference.plan import FactorPlan, Plan
from klqp.inference.problem import Problem
from klqp.inference.settings import Settings
from klqp.model.distributions.normal import NormalDraws
from klqp.model.emitter import ancestors
from klqp.model.parameter import Parameter
from klqp.model.random_variable import RandomVariable

__all__ = ["make_plan"]


def make_plan(
    problem: Problem, settings: Settings, demand: Demand, gives_gradient: bool, own_objective: bool = False
) -> Plan:
    """Choose from what is asked for, what a named class demands, what the model gives, and what q can do.

    Parameters
    ----------
    problem : Problem
    settings : Settings
    demand : Demand
    gives_gradient : bool
        Whether all log densities of the model give gradients.
    own_objective : bool
        Another objective than the ELBO is maximised, which needs pathwise gradients.

    Raises
    ------
    TypeError
        If a factor cannot do what is forced.
    ValueError
        If the arguments contradict each other.
    """
    gradient = agree("gradient", settings.gradient, demand.gradient)
    if gradient == "reparameterised" and not gives_gradient:
        raise TypeError(
            "reparameterisation gradients need the gradient of the log density, but it returned logp alone; "
            "return (logp, grad), or use score-function gradients"
        )
    enumeration = None
    if gradient == "auto" and not own_objective:
        enumeration = _enumeration(problem, settings, gives_gradient)
    elif settings.enumerate not in ("auto", False):
        raise ValueError("enumerate asks for exact sums, but other gradients are forced")
    kinds = {f: _kind(f, gradient, gives_gradient, enumeration) for f in problem.factors}
    _check_kinds(kinds, settings, own_objective)
    entropies = _Entropies(problem, settings, demand, own_objective, {plan.gradient for plan in kinds.values()})
    factors = {f: replace(plan, entropy=entropies.of(f, plan.gradient)) for f, plan in kinds.items()}
    blankets = demand.markov_blankets if demand.gradient is not None else True
    formulas = problem.latents if demand.by_formula else settings.kl_scaling
    by_formula = {z: settings.kl_scaling.get(z, np.ones(())) for z in formulas}
    frozen = _frozen(problem, settings)
    return Plan(factors, settings.baseline, blankets, enumeration, by_formula, settings.scale, frozen)


def _check_kinds(kinds: Mapping[Factor, FactorPlan], settings: Settings, own_objective: bool) -> None:
    scored = [f.name for f, plan in kinds.items() if plan.gradient == "score"]
    if own_objective and scored:
        raise TypeError(
            f"another objective than the ELBO needs reparameterisation gradients, which {scored[0]!r} has not"
        )
    if settings.baseline != "mean" and kinds and not scored:
        raise ValueError("baseline is for score-function gradients, but no factor of q has them")


def _frozen(problem: Problem, settings: Settings) -> frozenset[Parameter]:
    """Return the parameters that are not optimised; ready-made families, and what stands in for them, always are."""
    if settings.var_list is None:
        return frozenset()
    stand_ins = {p for f in problem.factors if f.stands_in for p in f.q.inputs}  # type: ignore[union-attr]
    return frozenset(p for p in problem.parameters() if p not in settings.var_list and p not in stand_ins)


# --- gradients -----------------------------------------------------------------------------------------------------
def _kind(factor: Factor, wanted: str, gives_gradient: bool, enumeration: Enumeration | None) -> FactorPlan:
    """Return the kind of a factor's gradient, and why."""
    if enumeration is not None and factor in enumeration.factors:
        return FactorPlan("enumerated", reason=enumeration.describe(factor))
    pathwise = bool(getattr(factor.q, "pathwise", False))
    kind = type(factor.q).__name__
    if wanted == "reparameterised" and not pathwise:
        raise TypeError(
            f"reparameterisation gradients are forced, but draws of q of {factor.name!r}, a {kind}, have no "
            "derivative; KLqp takes score functions for it"
        )
    if wanted == "score" and not _has_density(factor):
        raise TypeError(f"q of {factor.name!r} is a point, which has no score: use reparameterisation gradients")
    if wanted != "auto":
        return FactorPlan(wanted, reason="asked for")
    if not pathwise:
        return FactorPlan("score", reason=f"draws of a {kind} have no derivative")
    if gives_gradient:
        return FactorPlan("reparameterised", reason="the model gives its gradient")
    if not _has_density(factor):
        raise TypeError(f"q of {factor.name!r} is a point, which needs gradients, but the model gives values only")
    return FactorPlan("score", reason="the model gives values only")


def _has_density(factor: Factor) -> bool:
    return bool(getattr(factor.q, "has_density", True))


# --- exact sums ----------------------------------------------------------------------------------------------------
def _enumeration(problem: Problem, settings: Settings, gives_gradient: bool) -> Enumeration | None:
    """Return the enumeration of the factors that are to be summed over; None if there are none."""
    if settings.enumerate is False:
        return None
    finite = [f for f in problem.factors if states_of(f) is not None]
    named = settings.enumerate if isinstance(settings.enumerate, tuple) else ()
    # Divergences by formula are taken given the draws of what priors depend on, not in expectation over their states.
    priors = [x for z in settings.kl_scaling for x in z.inputs]
    by_formula = {*settings.kl_scaling, *ancestors(priors, lambda e: () if isinstance(e, RandomVariable) else e.inputs)}
    finite = [f for f in finite if f.latents[0] not in by_formula]
    order = sort_factors(problem)
    if settings.enumerate != "auto":
        wanted = [f for f in finite if not named or f.latents[0] in named]
        missing = [z.name for z in named if z not in {f.latents[0] for f in wanted}]
        if missing:
            raise ValueError(f"enumerate names {missing}, whose q's do not have finitely many states")
        if not wanted:
            raise ValueError("enumerate=True, but no q has finitely many states")
        return enumerate_factors(problem, order, wanted, MOST)
    return _those_possible(problem, order, finite) if gives_gradient else None


def _those_possible(problem: Problem, order: Sequence[Factor], finite: Iterable[Factor]) -> Enumeration | None:
    """Return the enumeration of as many factors as there may be without being asked for."""
    chosen: list[Factor] = []
    best: Enumeration | None = None
    # Those that others depend on come last: they can only be summed over where these are.
    for factor in reversed([f for f in order if f in set(finite)]):
        try:
            best = enumerate_factors(problem, order, [*chosen, factor], AUTOMATIC)
        except Impossible:
            continue
        chosen.append(factor)
    return best


# --- entropies -----------------------------------------------------------------------------------------------------
class _Entropies:
    """The treatments of entropies that a run was asked for, or the best."""

    def __init__(
        self, problem: Problem, settings: Settings, demand: Demand, own_objective: bool, kinds: set[str]
    ) -> None:
        self._problem, self._own_objective = problem, own_objective
        self._asked = agree("entropy", settings.entropy, demand.entropy)
        self._by_formula = set(problem.latents if demand.by_formula else settings.kl_scaling)
        # What some kinds of gradients allow is for the factors that have these.
        self._allowed = {asked for kind in kinds for asked in ENTROPIES.get(kind, ())}

    def of(self, factor: Factor, gradient: str) -> str:
        """Return the treatment of a factor's entropy."""
        if gradient == "enumerated" or self._own_objective:
            return "monte_carlo"
        asked, allowed = self._asked, ENTROPIES[gradient]
        if asked == "auto" or (asked not in allowed and asked in self._allowed):
            return self._best(factor, gradient)
        if asked not in allowed:
            words = ", ".join(map(repr, ("auto", *allowed)))
            raise ValueError(f"with {gradient} gradients entropy must be one of {words}, not {asked!r}")
        if asked == "adaptive" and is_structured(factor, self._problem):
            raise ValueError(f"entropy='adaptive' is not for {factor.name!r}, whose q depends on other draws")
        if asked in ("adaptive", "closed_form") and not self._has_formula(factor):
            raise TypeError(
                f"the entropy of {type(factor.q).__name__} {factor.name!r} has no formula: choose another entropy"
            )
        return asked

    def _has_formula(self, factor: Factor) -> bool:
        treated = _has_density(factor) and not all(z in self._by_formula for z in factor.latents)
        if factor.family is not None:
            return factor.family.has_entropy
        return not treated or hasattr(factor.q, "emit_entropy")

    def _best(self, factor: Factor, gradient: str) -> str:
        if gradient == "score":
            return "monte_carlo"
        plain = factor.family is not None or isinstance(factor.q, NormalDraws) or not _has_density(factor)
        heavy = not plain or is_structured(factor, self._problem) or is_amortised(factor)
        return "sticking" if heavy or not self._has_formula(factor) else "adaptive"
