"""Compilation of a problem: its model and q as one program of the core, with terms and factors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.latents import Factor
from klqp.inference.problem import Problem, shares_space
from klqp.inference.settings import Settings
from klqp.model import nodes
from klqp.model.distributions.normal import Normal
from klqp.model.emitter import Emitter, ancestors
from klqp.model.expression import Expression, Node
from klqp.model.log_density import LogDensity
from klqp.model.parameter import Parameter, Placeholder
from klqp.model.prior_draw import PriorDraw
from klqp.model.random_variable import RandomVariable

__all__ = ["CompiledModel", "Layout", "Plan", "is_structured", "sort_factors"]

Float64 = npt.NDArray[np.float64]
Scale = Float64 | Placeholder


@dataclass(frozen=True)
class Plan:
    """How the gradient of a problem is to be estimated.

    Attributes
    ----------
    entropies : dict
        Treatment of the entropy by factor.
    score : bool
        Score-function gradients, not pathwise ones.
    by_formula : dict
        Factors of the divergences from the prior that are taken by formula, by latent variable.
    scale : dict
        Factors of log densities by random variable.
    frozen : frozenset of Parameter
        Parameters that are not optimised.
    """

    entropies: Mapping[Factor, str]
    score: bool = False
    by_formula: Mapping[RandomVariable, Float64] = field(default_factory=dict)
    scale: Mapping[RandomVariable, Scale] = field(default_factory=dict)
    frozen: frozenset[Parameter] = frozenset()


class Layout:
    """Where the parameters of families, and `Parameter`s, lie in the flat vector.

    Attributes
    ----------
    families : dict
        The family and its offset by factor.
    offsets : dict
        The offset of each parameter.
    n_params : int
    """

    def __init__(self, problem: Problem) -> None:
        self.families: dict[Factor, tuple[_core.FamilySpec, int]] = {}
        self.offsets: dict[Parameter, int] = {}
        at = 0
        for factor in problem.factors:
            if factor.family is not None:
                spec = factor.family.spec(sum(n_unconstrained(z) for z in factor.latents))
                self.families[factor] = (spec, at)
                at += spec.n_params
        for parameter in [*problem.parameters(), *problem.frozen_parameters()]:
            self.offsets[parameter] = at
            at += parameter.n_unconstrained
        self.n_params = at


def n_unconstrained(z: RandomVariable) -> int:
    """Return the number of unconstrained coordinates of a variable."""
    return z.size if z.space.bijector == "identity" else z.space.transform(z.shape).n_unconstrained


def n_events(z: RandomVariable) -> int:
    """Return the number of events of a variable: what a scale applies to."""
    return int(getattr(z, "n_events", 1))


def is_structured(factor: Factor, problem: Problem) -> bool:
    """Return whether q's parameters depend on draws of other factors."""
    if factor.family is not None:
        return False
    return any(e in problem.drawn for e in ancestors(factor.q.inputs, lambda e: e.inputs))  # type: ignore[union-attr]


def is_amortised(factor: Factor) -> bool:
    """Return whether q's parameters come out of matrix products or gathers."""
    if factor.family is not None:
        return False
    parts = ancestors(factor.q.inputs, lambda e: e.inputs)  # type: ignore[union-attr]
    return any(isinstance(e, Node) and e.op in ("matmul", "gather") for e in parts)


def sort_factors(problem: Problem) -> list[Factor]:
    """Return the factors of q, those that others depend on first.

    Raises
    ------
    ValueError
        If one depends on itself.
    """
    owner: dict[Expression, Factor] = {}
    for factor in problem.factors:
        owner.update(dict.fromkeys(factor.latents, factor))
        if isinstance(factor.q, RandomVariable):
            owner[factor.q] = factor
    parents: dict[Factor, list[Factor]] = {}
    for factor in problem.factors:
        inputs = factor.q.inputs if isinstance(factor.q, RandomVariable) else ()
        parts = ancestors(inputs, lambda e: () if e in owner else e.inputs)
        parents[factor] = list(dict.fromkeys(owner[e] for e in parts if e in owner))
    order: dict[Factor, None] = {}
    left = list(problem.factors)
    while left:
        ready = [f for f in left if all(p in order for p in parents[f])]
        if not ready:
            seen = [left[0]]
            while (parent := next(p for p in parents[seen[-1]] if p in left)) not in seen:
                seen.append(parent)
            raise ValueError(f"the approximation of {parent.name!r} depends on itself")
        order |= dict.fromkeys(ready)
        left = [f for f in left if f not in order]
    return list(order)


class CompiledModel:
    """A program for a problem.

    Attributes
    ----------
    core : klqp._core.Model
    layout : Layout
    values : dict
        Number of the array of each random variable's value.
    unconstrained : dict
        Number of the array that holds a latent variable's unconstrained coordinates, and where they begin in it.
    """

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.problem, self.plan = problem, plan
        self.layout = Layout(problem)
        self.core = _core.Model()
        frozen = {*plan.frozen, *problem.frozen_parameters()}
        trainable = {p for p in self.layout.offsets if p not in frozen}
        self._emitter = Emitter(self.core, self.layout.offsets, trainable, gradients=not plan.score)
        self.values = self._emitter.arrays
        self.unconstrained: dict[RandomVariable, tuple[int, int]] = {}
        self._noise = 0
        self._dependence: dict[Expression, frozenset[int]] = {}
        self.log_q: list[int] = []
        self.log_p: list[int] = []
        self.factors: list[Factor] = []
        self._place_data()
        for beta, q in problem.conditional.items():
            self._draw_fixed(beta, q)
        self.factors = sort_factors(problem)
        for index, factor in enumerate(self.factors):
            self._depend(index, factor)
            if factor.family is not None:
                self._add_family(index, factor)
            else:
                self._add_distribution(index, factor)
        self._add_model_terms()
        for penalty in problem.penalties:
            self.core.term("penalty", "penalty", self._emitter.emit(penalty), -1, self._no_factor)
        if self._noise == 0:
            self.core.noise(0, 1)

    def feed(self, feeds: Mapping[Placeholder, Float64]) -> None:
        """Give placeholders their data."""
        for placeholder, values in feeds.items():
            self._emitter.set_placeholder(placeholder, values)

    @property
    def placeholders(self) -> set[Placeholder]:
        """The placeholders that the program uses."""
        return set(self._emitter.placeholders)

    def start_params(self, settings: Settings) -> Float64:
        """Return the flat vector that a run starts from."""
        start = np.zeros(max(1, self.layout.n_params))
        for factor, (spec, offset) in self.layout.families.items():
            loc, scale = (
                np.concatenate([settings.start_of(which, z, n_unconstrained(z)) for z in factor.latents])
                for which in ("init_loc", "init_scale")
            )
            start[offset : offset + spec.n_params] = spec.start(loc, scale, settings.key)
        for p, offset in self.layout.offsets.items():
            start[offset : offset + p.n_unconstrained] = p.unconstrained
        return start

    def asks_gradients(self, params: Float64, key: int, n_draws: int) -> bool:
        """Call the user's log densities once, and return whether all of them give gradients."""
        targets = [(t, z) for t, z in self._emitter.targets if isinstance(t, _core.PythonTarget)]
        noise = self.core.draw_noise(key, 0, 0, n_draws)
        values = self.core.evaluate(n_draws, params, noise, [], [*(z for _, z in targets), *self.log_p])
        primed = [t.prime(z) for (t, _), z in zip(targets, values, strict=False)]
        return all(primed) and all(call.gave_gradients for call in self._emitter.calls)

    # --- values of random variables ----------------------------------------------------------------------------
    def _place_data(self) -> None:
        for variable, value in self.problem.observed.items():
            is_fed = isinstance(value, Placeholder)
            self.values[variable] = self._emitter.emit(value) if is_fed else self.core.data(value)  # type: ignore

    def _new_noise(self, n: int) -> int:
        slot = self.core.noise(self._noise, n)
        self._noise += n
        return slot

    def _draw_fixed(self, beta: RandomVariable, q: Any) -> None:
        fixed = self._emitter.frozen()
        draw = q.emit_draw(fixed, self._new_noise(q.noise_size), [fixed.emit(p) for p in q.inputs])
        self.values[q] = draw
        same = shares_space(q, beta)
        self.values[beta] = draw if same else self._emitter.transform(beta.space, beta.shape, draw)[0]

    def _depend(self, index: int, factor: Factor) -> None:
        """Note which factors' draws the draws of one depend on: its own, and those of its parents."""
        q = factor.q
        parents = self._depends(q.inputs) if isinstance(q, RandomVariable) else self._no_factor
        on = frozenset({index, *(i for i, yes in enumerate(parents) if yes)})
        for e in (*factor.latents, *((q,) if isinstance(q, RandomVariable) else ())):
            self._dependence[e] = on

    def _depends(self, roots: Iterable[Expression]) -> list[bool]:
        """Return which factors' draws some expressions depend on; nothing where only scores would ask."""
        if not self.plan.score:
            return []
        roots = list(roots)
        for e in ancestors(roots, lambda e: () if e in self._dependence else e.inputs):
            if e not in self._dependence:
                self._dependence[e] = frozenset().union(*(self._dependence[x] for x in e.inputs))
        on = frozenset().union(*(self._dependence[e] for e in roots)) if roots else frozenset()
        return [i in on for i in range(len(self.factors))]

    @property
    def _no_factor(self) -> list[bool]:
        return [False] * len(self.factors) if self.plan.score else []

    # --- factors of q ------------------------------------------------------------------------------------------
    def _add_family(self, index: int, factor: Factor) -> None:
        spec, offset = self.layout.families[factor]
        params = self.core.parameter(offset, spec.n_params)
        uniform = self._uniform_scale(factor)
        u, log_q, entropy, score = self.core.family(spec, params, self._new_noise(spec.noise_dim), uniform)
        begin = 0
        for z in factor.latents:
            n = n_unconstrained(z)
            self.unconstrained[z] = (u, begin)
            if z.space.bijector == "identity":
                whole = n == spec.dim
                self.values[z] = u if whole else self.core.node("slice", [u], n, {"begin": [begin]}, {})
            else:
                self._add_transform(z, u, begin)
            begin += n
        depends = self._depends(factor.latents)
        self.core.factor(factor.name, self.plan.entropies[factor], u, offset, False)
        self.log_q.append(log_q)
        self.core.term("log_q", factor.name, log_q, index, depends)
        self.core.term("score", factor.name, score, index, depends)
        self.core.term("entropy", factor.name, entropy, index, self._no_factor)

    def _uniform_scale(self, factor: Factor) -> float:
        factors = [np.unique(self.plan.scale.get(z, np.ones(()))) for z in factor.latents]  # type: ignore[arg-type]
        values = np.unique(np.concatenate(factors))
        if values.size != 1:
            raise ValueError(
                f"a joint {factor.describe()} over {factor.name} needs one scale for all of them; give variables with "
                "scales of their own their own q"
            )
        return float(values[0])

    def _add_transform(self, z: RandomVariable, u: int, begin: int) -> None:
        """Add the variable's value, and the log-Jacobian as a part of its prior."""
        self.values[z], log_jacobian = self._emitter.transform(z.space, z.shape, u, begin)
        n = z.space.transform(z.shape).n_events
        scale = self._scale(z, n)
        if scale is not None:
            log_jacobian = self._emitter.node("multiply", [log_jacobian, scale], n)
        total = self._emitter.total(log_jacobian, n)
        self.log_p.append(total)
        self.core.term("prior", z.name, total, -1, self._depends([z]))

    def _add_distribution(self, index: int, factor: Factor) -> None:
        (z,), q = factor.latents, factor.q
        args = [self._emitter.emit(p) for p in q.inputs]  # type: ignore[union-attr]
        noise = self._new_noise(q.noise_size) if q.noise_size else -1  # type: ignore[union-attr]
        draw = q.emit_draw(self._emitter, noise, args)  # type: ignore[union-attr]
        self.values[q] = draw  # type: ignore[index]
        if shares_space(q, z):  # type: ignore[arg-type]
            self.values[z] = draw
        else:
            self._add_transform(z, draw, 0)
        self.unconstrained[z] = (draw, 0)
        by_formula = z in self.plan.by_formula
        self.core.factor(factor.name, self.plan.entropies[factor], draw, 0, by_formula)
        if getattr(q, "has_density", True):
            self._add_log_q(index, factor, draw, args)

    def _add_log_q(self, index: int, factor: Factor, draw: int, args: list[int]) -> None:
        (z,), q = factor.latents, factor.q
        scale = self._scale(z, n_events(q))  # type: ignore[arg-type]
        depends = self._depends(factor.latents)
        # The landing is stuck by parameters without gradient; where they depend on other draws, these still get theirs.
        apart = is_structured(factor, self.problem) and not self.plan.score
        if apart and self.plan.entropies[factor] == "sticking":
            frozen = self._emitter.frozen()
            inputs = [frozen.emit(p) for p in q.inputs]  # type: ignore[union-attr]
            log_q = q.emit_log_prob(frozen, draw, inputs, scale=scale)  # type: ignore[union-attr]
        else:
            log_q = q.emit_log_prob(self._emitter, draw, args, scale=scale, log_q=True)  # type: ignore[union-attr]
        self.log_q.append(log_q)
        self.core.term("log_q", factor.name, log_q, index, depends)
        if self.plan.score:
            unscaled = log_q if scale is None else q.emit_log_prob(self._emitter, draw, args, log_q=True)  # type: ignore[union-attr]
            self.core.term("score", factor.name, unscaled, index, depends)
        if hasattr(q, "emit_entropy"):
            entropy = q.emit_entropy(self._emitter, args, scale)
            self.core.term("entropy", factor.name, entropy, index, self._depends(q.inputs))  # type: ignore
        if z in self.plan.by_formula:
            kl = self._emitter.emit(self._divergence(z, q))
            self.core.term("kl", z.name, kl, -1, self._depends([*z.inputs, *q.inputs]))  # type: ignore[union-attr]

    def _divergence(self, z: RandomVariable, q: Any) -> Expression:
        """KL(q || p(z | parents)) between normals, given the draws of the parents: docs/maths.md, section 9."""
        if not (isinstance(z, Normal) and isinstance(q, Normal)):
            raise TypeError(
                f"the divergence of {q!r} from {z!r} has no formula here: both must be klqp.Normal (kl_scaling and the "
                "...KLKLqp classes need one)"
            )
        (loc, scale), (q_loc, q_scale) = z.inputs, q.inputs
        each = (
            nodes.log(scale)
            - nodes.log(q_scale)
            + (nodes.square(q_scale) + nodes.square(q_loc - loc)) / (2.0 * nodes.square(scale))
            - 0.5
        )
        each = nodes.broadcast_to(each, z.shape)
        factors: list[Any] = [self.plan.by_formula[z], self.plan.scale.get(z, np.ones(()))]
        for given in factors:
            if isinstance(given, Placeholder) or not np.all(given == 1.0):
                each = each * (given if isinstance(given, Placeholder) or given.size == 1 else given.reshape(z.shape))
        return nodes.sum(each)

    # --- the model ---------------------------------------------------------------------------------------------
    def _scale(self, z: RandomVariable, n: int) -> int | None:
        """Return the number of the array of a variable's factors, n numbers or one; None where they are 1."""
        given = self.plan.scale.get(z)
        if given is None:
            return None
        if isinstance(given, Placeholder):
            return self._emitter.emit(given)
        if np.all(given == 1.0):
            return None
        if given.size not in (1, n):
            raise ValueError(f"the scale of {z.name!r} must be one number or have {n} for it, not shape {given.shape}")
        return self.core.data(given)

    def _add_model_terms(self) -> None:
        problem = self.problem
        unlisted = set(problem.unlisted)
        densities = {*problem.latents, *problem.observed, *problem.conditional}
        for e in problem.model:
            if e in unlisted:
                self._draw_prior(e)
            if e in densities and not (e in problem.latents and e in self.plan.by_formula):
                self._add_density(e)

    def _draw_prior(self, variable: Any) -> None:
        args = [self._emitter.emit(p) for p in variable.inputs]
        if hasattr(variable, "emit_draw"):
            self.values[variable] = variable.emit_draw(self._emitter, self._new_noise(variable.noise_size), args)
        else:
            self.values[variable] = PriorDraw.emit(self._emitter, variable, args, self._new_noise(2))

    def _add_density(self, variable: RandomVariable) -> None:
        args = [self._emitter.emit(p) for p in variable.inputs]
        scale = self._scale(variable, n_events(variable))
        slot = variable.emit_log_prob(self._emitter, self.values[variable], args, scale=scale)
        observed = variable in self.problem.observed or isinstance(variable, LogDensity)
        kind = "likelihood" if observed else "prior"
        roots = [*variable.inputs] if variable in self.problem.observed else [variable, *variable.inputs]
        self.log_p.append(slot)
        self.core.term(kind, variable.name, slot, -1, self._depends(roots))
