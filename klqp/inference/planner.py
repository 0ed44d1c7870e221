"""The choice of a gradient estimator for each factor of q of a model (docs/gradients.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from klqp.inference.compiled import is_amortised, is_structured, sort_factors
from klqp.inference.enumeration import AUTOMATIC, MOST, Enumeration, Impossible, enumerate_factors, states_of
from klqp.inference.estimator import ENTROPIES, Demand, agree
from klqp.inference.latents import Factor
from klqp.inference.plan import FactorPlan, Plan
from klqp.inference.problem import Problem
from klqp.inference.settings import Settings
from klqp.model.distributions.normal import Normal, NormalDraws
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
    forced = gradient != "auto"
    enumeration = None if forced or own_objective else _enumeration(problem, settings, gives_gradient)
    if forced and settings.enumerate is True:
        raise ValueError(f"enumerate=True asks for exact sums, but {gradient} gradients are forced")
    summed = set(enumeration.factors) if enumeration is not None else set()
    factors = {}
    for f in problem.factors:
        if f in summed:
            assert enumeration is not None
            factors[f] = FactorPlan("enumerated", "monte_carlo", enumeration.describe(f))
        else:
            kind, reason = _gradient(f, gradient, gives_gradient)
            factors[f] = FactorPlan(kind, reason=reason)
    if own_objective and any(plan.gradient == "score" for plan in factors.values()):
        name = next(f.name for f in factors if factors[f].gradient == "score")
        raise TypeError(f"another objective than the ELBO needs reparameterisation gradients, which {name!r} has not")
    kinds = {plan.gradient for plan in factors.values()}
    if settings.baseline != "mean" and factors and "score" not in kinds:
        raise ValueError("baseline is for score-function gradients, but these are reparameterised")
    for f, plan in factors.items():
        if plan.gradient != "enumerated":
            factors[f] = replace(
                plan, entropy=_entropy(f, plan.gradient, kinds, problem, settings, demand, own_objective)
            )
    blankets = demand.markov_blankets if demand.gradient is not None else True
    by_formula = {z: settings.kl_scaling.get(z, np.ones(())) for z in _by_formula(problem, settings, demand)}
    frozen = _frozen(problem, settings)
    return Plan(factors, settings.baseline, blankets, enumeration, by_formula, settings.scale, frozen)


def _frozen(problem: Problem, settings: Settings) -> frozenset[Parameter]:
    """Return the parameters that are not optimised; ready-made families, and what stands in for them, always are."""
    if settings.var_list is None:
        return frozenset()
    stand_ins = {p for f in problem.factors if f.stands_in for p in f.q.inputs}  # type: ignore[union-attr]
    return frozenset(p for p in problem.parameters() if p not in settings.var_list and p not in stand_ins)


def _by_formula(problem: Problem, settings: Settings, demand: Demand) -> list[RandomVariable]:
    return list(problem.latents) if demand.by_formula else list(settings.kl_scaling)


# --- gradients -----------------------------------------------------------------------------------------------------
def _gradient(factor: Factor, wanted: str, gives_gradient: bool) -> tuple[str, str]:
    """Return the kind of a factor's gradient, and why."""
    can_score = getattr(factor.q, "has_density", True)
    pathwise = factor.family is not None or getattr(factor.q, "pathwise", False)
    kind = type(factor.q).__name__
    if wanted == "reparameterised" and not pathwise:
        raise TypeError(
            f"reparameterisation gradients are forced, but draws of q of {factor.name!r}, a {kind}, have no "
            "derivative; KLqp takes score functions for it"
        )
    if wanted == "score" and not can_score:
        raise TypeError(f"q of {factor.name!r} is a point, which has no score: use reparameterisation gradients")
    if wanted != "auto":
        return wanted, "asked for"
    if not pathwise:
        return "score", f"draws of a {kind} have no derivative"
    if gives_gradient:
        return "reparameterised", "the model gives its gradient"
    if not can_score:
        raise TypeError(f"q of {factor.name!r} is a point, which needs gradients, but the model gives values only")
    return "score", "the model gives values only"


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
def _entropy(
    factor: Factor,
    gradient: str,
    kinds: set[str],
    problem: Problem,
    settings: Settings,
    demand: Demand,
    own_objective: bool,
) -> str:
    """Return the treatment of a factor's entropy."""
    if own_objective:
        return "monte_carlo"
    asked = agree("entropy", settings.entropy, demand.entropy)
    by_formula = demand.by_formula or any(z in settings.kl_scaling for z in factor.latents)
    if asked == "auto" or (
        asked not in ENTROPIES[gradient] and any(asked in ENTROPIES[kind] for kind in kinds - {"enumerated"})
    ):
        return _best_entropy(factor, gradient, problem)
    if asked not in ENTROPIES[gradient]:
        allowed = ", ".join(map(repr, ("auto", *ENTROPIES[gradient])))
        raise ValueError(f"with {gradient} gradients entropy must be one of {allowed}, not {asked!r}")
    if asked == "adaptive" and is_structured(factor, problem):
        raise ValueError(f"entropy='adaptive' is not for {factor.name!r}, whose q depends on other draws")
    if asked in ("adaptive", "closed_form") and not by_formula and not _has_entropy(factor):
        raise TypeError(
            f"the entropy of {type(factor.q).__name__} {factor.name!r} has no formula: choose another entropy"
        )
    return asked


def _has_entropy(factor: Factor) -> bool:
    has_none = not getattr(factor.q, "has_density", True)  # nothing to treat
    return factor.family is not None or has_none or hasattr(factor.q, "emit_entropy")


def _best_entropy(factor: Factor, gradient: str, problem: Problem) -> str:
    if gradient == "score":
        return "monte_carlo"
    plain = factor.family is not None or isinstance(factor.q, (Normal, NormalDraws)) or not _has_density(factor)
    heavy = not plain or is_structured(factor, problem) or is_amortised(factor)
    return "sticking" if heavy or not _has_entropy(factor) else "adaptive"


def _has_density(factor: Factor) -> bool:
    return bool(getattr(factor.q, "has_density", True))
