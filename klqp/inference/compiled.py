"""Compilation of a problem: its model and q as one program of the core, with terms and factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.families import n_unconstrained
from klqp.inference.dependence import Labels
from klqp.inference.enumeration import Expectations
from klqp.inference.latents import Factor
from klqp.inference.plan import Plan
from klqp.inference.problem import Problem, n_events, shares_space
from klqp.inference.scores import Scores
from klqp.inference.settings import Settings
from klqp.model.distributions.normal import NormalDraws
from klqp.model.divergences import divergence
from klqp.model.emitter import Emitter, ancestors
from klqp.model.expression import Expression, Node
from klqp.model.fused import emit_total
from klqp.model.log_density import LogDensity
from klqp.model.parameter import Parameter, Placeholder
from klqp.model.prior_draw import PriorDraw
from klqp.model.random_variable import RandomVariable

__all__ = ["CompiledModel", "Layout", "is_structured", "sort_factors"]

Float64 = npt.NDArray[np.float64]


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
        Number of the array of each random variable's value; not of enumerated ones.
    unconstrained : dict
        Number of the array that holds a latent variable's unconstrained coordinates, and where they begin in it.
    factors : list of Factor
        Those that are drawn, in the core's order.
    """

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.problem, self.plan = problem, plan
        self.layout = Layout(problem)
        self.core = _core.Model()
        frozen = {*plan.frozen, *problem.frozen_parameters()}
        trainable = {p for p in self.layout.offsets if p not in frozen}
        self._emitter = Emitter(self.core, self.layout.offsets, trainable, plan.wants_gradients, problem.shared)
        self.values = self._emitter.arrays
        self.unconstrained: dict[RandomVariable, tuple[int, int]] = {}
        self._noise = 0
        self.log_q: list[int] = []
        self.log_p: list[int] = []
        order = sort_factors(problem)
        self.factors = [f for f in order if plan.factors[f].gradient != "enumerated"]
        self._scores = Scores(problem, plan, order)
        self._scored: dict[Factor, int] = {}
        self._place_data()
        for beta, q in problem.conditional.items():
            self._draw_fixed(beta, q)
        self._sums = Expectations(plan.enumeration, self._emitter) if plan.enumeration is not None else None
        for index, factor in enumerate(self.factors):
            if factor.family is not None:
                self._add_family(index, factor)
            else:
                self._add_distribution(index, factor)
        self._add_model_terms()
        for factor in plan.enumeration.factors if plan.enumeration is not None else ():
            self._add_enumerated(factor)
        for penalty in problem.penalties:
            self.core.term("penalty", "penalty", self._emitter.emit(penalty))
        for factor, log_q in self._scored.items():
            self._scores.emit(self.core, factor, self.factors.index(factor), log_q)
        if self._noise == 0:
            self.core.noise(0, 1)

    def feed(self, feeds: Mapping[Placeholder, Float64]) -> None:
        """Give placeholders their data."""
        for placeholder, values in feeds.items():
            self._emitter.set_placeholder(placeholder, values)

    def feeds(self, values: Mapping[Placeholder, Float64]) -> list[_core.Feed]:
        """Return what gives placeholders the data of one of many problems, whose rows are in `values`."""
        return [
            self.core.feed(slot, rows.reshape(len(rows), -1))
            for placeholder, rows in values.items()
            for slot in self._emitter.placeholders.get(placeholder, ())
        ]

    @property
    def fused(self) -> dict[RandomVariable, str]:
        """The observed variables whose likelihood is one node, with what that is made of in words."""
        return self._emitter.fused

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

    def _draw(self, q: Any, emitter: Emitter) -> int:
        """Add a draw of a distribution from noise of its own."""
        args = [emitter.emit(p) for p in q.inputs]
        return q.emit_draw(emitter, self._new_noise(q.noise_size, q.noise_kind), args)  # type: ignore[no-any-return]

    def _new_noise(self, n: int, kind: str = "normal") -> int:
        """Add columns of noise; runs of uniform ones begin and end at even numbers."""
        if n == 0:
            return -1
        uniform = kind == "uniform"
        begin = self._noise + self._noise % 2 if uniform else self._noise
        self._noise = begin + n + (n % 2 if uniform else 0)
        return self.core.noise(begin, n, kind)

    def _draw_fixed(self, beta: RandomVariable, q: Any) -> None:
        draw = self._draw(q, self._emitter.frozen())
        self.values[q] = draw
        same = shares_space(q, beta)
        self.values[beta] = draw if same else self._emitter.transform(beta.space, beta.shape, draw)[0]

    # --- factors of q ------------------------------------------------------------------------------------------
    def _add_family(self, index: int, factor: Factor) -> None:
        spec, offset = self.layout.families[factor]
        params = self.core.parameter(offset, spec.n_params)
        uniform = self._uniform_scale(factor)
        u, log_q, entropy = self.core.family(spec, params, self._new_noise(spec.noise_dim), uniform)
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
        self.core.factor(factor.name, self.plan.factors[factor].entropy, u, offset, False)
        self.log_q.append(log_q)
        labels = self._scores.labels_of(factor.latents)
        self._scores.record(self.core.term("log_q", factor.name, log_q, index), log_q, labels)
        self.core.term("entropy", factor.name, entropy, index)
        if self.plan.factors[factor].gradient == "score":
            self._scored[factor] = self.core.family_score(u, params)

    def _uniform_scale(self, factor: Factor) -> float:
        factors = [np.unique(self.plan.scale.get(z, np.ones(()))) for z in factor.latents]
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
        self._scores.record(self.core.term("prior", z.name, total), total, self._scores.labels_of([z]))

    def _add_distribution(self, index: int, factor: Factor) -> None:
        (z,), q = factor.latents, factor.q
        draw = self._draw(q, self._emitter)
        self.values[q] = draw  # type: ignore[index]
        if shares_space(q, z):  # type: ignore[arg-type]
            self.values[z] = draw
        else:
            self._add_transform(z, draw, 0)
        self.unconstrained[z] = (draw, 0)
        by_formula = z in self.plan.by_formula
        self.core.factor(factor.name, self._entropy_of(factor), draw, 0, by_formula)
        if getattr(q, "has_density", True):
            self._add_log_q(index, factor, draw)

    def _entropy_of(self, factor: Factor) -> str:
        """Return the treatment of the entropy for the core."""
        return "sticking" if self._goes_both_ways(factor) else self.plan.factors[factor].entropy

    def _goes_both_ways(self, factor: Factor) -> bool:
        """Return whether cotangents of -log q go to its value and to its parameters: Monte Carlo in full.

        What is made of normals needs it not: there the gradient is that of the entropy's formula.
        """
        plan = self.plan.factors[factor]
        pathwise = plan.gradient == "reparameterised" and plan.entropy == "monte_carlo"
        return pathwise and not isinstance(factor.q, NormalDraws)

    def _add_log_q(self, index: int, factor: Factor, draw: int) -> None:
        (z,), plan = factor.latents, self.plan.factors[factor]
        q: Any = factor.q
        scale = self._scale(z, n_events(q))
        labels = self._scores.labels(q, z)
        # The landing is stuck by parameters without gradient; where they depend on other draws, these still get theirs.
        sticks = plan.gradient == "reparameterised" and plan.entropy == "sticking"
        apart = sticks and is_structured(factor, self.problem)
        emitter = self._emitter.frozen() if apart else self._emitter
        one_way = not apart and not self._goes_both_ways(factor)
        if plan.gradient == "score":
            args = [self._emitter.emit(p) for p in q.inputs]
            self._scored[factor] = q.emit_log_prob(self._emitter, draw, args, summed=False)
        if factor in self._scored and scale is None and self._scores.by_element(labels):
            elements = self._scored[factor]  # log q itself is never differentiated
            log_q = self._emitter.total(elements, n_events(q))
        else:
            log_q, elements = self._emit_density(q, draw, labels, scale, emitter, log_q=one_way)
        self.log_q.append(log_q)
        self._scores.record(self.core.term("log_q", factor.name, log_q, index), elements, labels)
        if hasattr(q, "emit_entropy") and self._needs_entropy(factor):
            args = [self._emitter.emit(p) for p in q.inputs]
            entropy = q.emit_entropy(self._emitter, args, scale)
            self._scores.record(
                self.core.term("entropy", factor.name, entropy, index), entropy, self._scores.labels_of(q.inputs)
            )

    def _needs_entropy(self, factor: Factor) -> bool:
        """Return whether the formula of an entropy has a part in the value or in gradients."""
        if factor.latents[0] in self.plan.by_formula:
            return False
        treatment = self._entropy_of(factor)
        pathwise = self.plan.factors[factor].gradient == "reparameterised"
        return treatment in ("closed_form", "adaptive") or (treatment == "monte_carlo" and pathwise)

    def _emit_density(
        self,
        variable: RandomVariable,
        value: int,
        labels: Labels | None,
        scale: int | None,
        emitter: Emitter,
        log_q: bool = False,
    ) -> tuple[int, int]:
        """Add a log density; return the arrays of its sum, and of its elements where scores ask for them."""
        if not self._scores.by_element(labels):
            total = emit_total(emitter, variable, value, scale, log_q)
            return total, total
        args = [emitter.emit(p) for p in variable.inputs]
        elements = variable.emit_log_prob(emitter, value, args, scale=scale, summed=False, log_q=log_q)
        return emitter.total(elements, n_events(variable)), elements

    def _add_enumerated(self, factor: Factor) -> None:
        """Add the expected log density of an enumerated factor."""
        (z,) = factor.latents
        labels = self._scores.labels(factor.q, z)  # type: ignore[arg-type]
        total, elements = self._emit_expectation(factor.q, z, labels, z)  # type: ignore[arg-type]
        self.log_q.append(total)
        self._scores.record(self.core.term("log_q", factor.name, total), elements, labels)

    def _emit_expectation(
        self, variable: RandomVariable, value: Expression | None, labels: Labels | None, scaled_as: RandomVariable
    ) -> tuple[int, int]:
        assert self._sums is not None
        n = n_events(variable)
        elements = self._sums.emit(variable, value, self._scale(scaled_as, n), n)
        total = self._emitter.total(elements, n)
        return total, elements if self._scores.by_element(labels) else total

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
        qs: dict[Expression, Any] = {z: factor.q for factor in problem.factors for z in factor.latents}
        for e in problem.model:
            if e in unlisted:
                self._draw_prior(e)
            if e in self.plan.by_formula:
                self._add_divergence(e, qs[e])
            elif e in densities:
                self._add_density(e)

    def _draw_prior(self, variable: Any) -> None:
        if not hasattr(variable, "emit_draw"):
            args = [self._emitter.emit(p) for p in variable.inputs]
            self.values[variable] = PriorDraw.emit(self._emitter, variable, args, self._new_noise(2))
            return
        if not variable.pathwise:
            PriorDraw.require_no_gradient(self._emitter, variable, [self._emitter.emit(p) for p in variable.inputs])
        self.values[variable] = self._draw(variable, self._emitter)

    def _add_divergence(self, z: Any, q: Any) -> None:
        """Add KL(q || p(z | parents)) given the draws of the parents: docs/maths.md, section 9.4."""
        each = divergence(q, z)
        assert each is not None, "pairs without a formula are refused before"
        factors: list[Any] = [self.plan.by_formula[z], self.plan.scale.get(z, np.ones(()))]
        for given in factors:
            if isinstance(given, Placeholder) or not np.all(given == 1.0):
                shaped = given if isinstance(given, Placeholder) or given.size == 1 else given.reshape(each.shape)
                each = each * shaped
        elements = self._emitter.emit(each)
        total = self._emitter.total(elements, each.size)
        labels = self._scores.labels_of_each(each)
        kept = elements if self._scores.by_element(labels) else total
        self._scores.record(self.core.term("kl", z.name, total), kept, labels)

    def _add_density(self, variable: RandomVariable) -> None:
        is_data = variable in self.problem.observed
        value = None if is_data else variable
        labels = self._scores.labels(variable, value)
        if self._sums is not None and self._sums.depends_on_states(variable, value):
            total, elements = self._emit_expectation(variable, value, labels, variable)
        else:
            scale = self._scale(variable, n_events(variable))
            total, elements = self._emit_density(variable, self.values[variable], labels, scale, self._emitter)
        self.log_p.append(total)
        kind = "likelihood" if is_data or isinstance(variable, LogDensity) else "prior"
        self._scores.record(self.core.term(kind, variable.name, total), elements, labels)
