"""The approximation to the posterior of a model: draws and densities by its program, moments by formula or draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.approximation import (
    _ELBO_STREAM,
    _POSTERIOR_STREAM,
    MOMENT_KEY,
    N_DRAWS,
    Approximation,
    pieces,
)
from klqp.families import n_unconstrained
from klqp.family_parts import Marginals
from klqp.inference.compiled import CompiledModel, is_structured
from klqp.inference.latents import Factor
from klqp.inference.plan import Plan
from klqp.inference.problem import Problem, shares_space
from klqp.model.distributions.normal import Normal
from klqp.model.distributions.positive import LogNormal
from klqp.model.emitter import Emitter, ancestors
from klqp.model.expression import Expression
from klqp.model.parameter import Parameter, Placeholder
from klqp.model.random_variable import Distribution, RandomVariable
from klqp.normal_coordinates import is_identity, moments_in_space, quantile_in_space, to_unconstrained

__all__ = ["ModelApproximation"]

Float64 = npt.NDArray[np.float64]


class ModelApproximation(Approximation):
    """A q of several factors, at given parameters.

    Moments are exact, or by quadrature to 1e-12, where a variable's q is a ready-made family or a distribution that
    does not depend on other draws, and its transform, if it has one, acts on each element alone; elsewhere, and for
    transforms of Student-t draws, from 20,000 draws of a fixed seed.
    """

    def __init__(self, problem: Problem, plan: Plan, params: Float64, feeds: Mapping[Placeholder, Float64]) -> None:
        self._problem, self._plan, self._params, self._feeds = problem, plan, params, dict(feeds)
        self.latents = problem.latents
        self._compile()

    def move(self, params: Float64, feeds: Mapping[Placeholder, Float64]) -> None:
        """Become the q with other parameters and data of the same model."""
        self._params, self._feeds = params, dict(feeds)
        self._cache.clear()
        self._compiled.feed(self._feeds)

    def _compile(self) -> None:
        self._compiled = CompiledModel(self._problem, Plan.of_draws(self._problem, self._plan.scale))
        self._compiled.feed(self._feeds)
        self._factor = {z: f for f in self._problem.factors for z in f.latents}
        self._cache: dict[Any, Any] = {}

    # --- draws -------------------------------------------------------------------------------------------------
    def draws(self, n: int, key: int, in_own_space: bool) -> dict[str, Float64]:
        """Return joint draws by name."""
        if in_own_space:
            slots = [self._compiled.values[z] for z in self.latents]
        else:
            slots = [self._compiled.unconstrained[z][0] for z in self.latents]
        out = self._evaluate(n, key, _POSTERIOR_STREAM, slots)
        draws = {}
        for z, values in zip(self.latents, out, strict=True):
            if in_own_space:
                draws[z.name] = np.broadcast_to(values, (n, z.size)).reshape(n, *z.shape).copy()
            else:
                begin = self._compiled.unconstrained[z][1]
                width = z.size if self._is_own(z) else self.n_unconstrained(z)
                draws[z.name] = np.broadcast_to(values, (n, values.shape[1]))[:, begin : begin + width].copy()
                if self._is_own(z) and not z.discrete:
                    draws[z.name] = z.space.transform(z.shape).inverse(draws[z.name])
        return draws

    def log_ratio(self, n: int, key: int) -> tuple[Float64, Float64]:
        """Return log p and log q of fresh draws."""
        return self._log_ratio(n, key, [])[:2]

    def weighted_draws(self, n: int, key: int) -> tuple[dict[str, Float64], Float64, Float64]:
        """Return draws by name, log p and log q."""
        log_p, log_q, values = self._log_ratio(n, key, [self._compiled.values[z] for z in self.latents])
        draws = {}
        for z, v in zip(self.latents, values, strict=True):
            draws[z.name] = np.broadcast_to(v, (n, z.size)).reshape(n, *z.shape).copy()
        return draws, log_p, log_q

    def _log_ratio(self, n: int, key: int, others: list[int]) -> tuple[Float64, Float64, list[Float64]]:
        """Return log p, log q, and the arrays `others` (n, size) of the program at the same draws."""
        log_p, log_q = self._compiled.log_p, self._compiled.log_q
        out = self._evaluate(n, key, _ELBO_STREAM, [*log_p, *log_q, *others])
        end = len(log_p) + len(log_q)
        totals = [
            np.zeros(n) + sum(np.broadcast_to(v[:, 0], n) for v in part)
            for part in (out[: len(log_p)], out[len(log_p) : end])
        ]
        return totals[0], totals[1], out[end:]

    def _evaluate(self, n: int, key: int, stream: int, slots: list[int]) -> list[Float64]:
        core = self._compiled.core
        out: list[list[Float64]] = [[] for _ in slots]
        for rows, m in pieces(n, max(1, core.noise_dim)):
            noise = core.draw_noise(key, stream, rows.start, m)
            for kept, values in zip(out, core.evaluate(m, self._params, noise, [], slots), strict=True):
                kept.append(np.broadcast_to(values, (m, values.shape[1])))
        return [np.concatenate(kept) for kept in out]

    # --- moments -----------------------------------------------------------------------------------------------
    def n_unconstrained(self, z: RandomVariable) -> int:
        """Return the number of a variable's unconstrained coordinates."""
        return n_unconstrained(z)

    def moments(self, z: RandomVariable, in_own_space: bool) -> tuple[Float64, Float64]:
        """Return means and standard deviations, flat."""
        if ("moments", z, in_own_space) not in self._cache:
            self._cache["moments", z, in_own_space] = self._find_moments(z, in_own_space)
        return self._cache["moments", z, in_own_space]  # type: ignore[no-any-return]

    def _find_moments(self, z: RandomVariable, in_own_space: bool) -> tuple[Float64, Float64]:
        known, plain = self._marginals(z), not in_own_space or is_identity(z)
        if known is None or (not plain and (z.space.event_ndim > 0 or math.isfinite(known.df))):
            by_formula = self._formulas(z) if in_own_space else None
            if by_formula is not None:
                return by_formula
            draws = self._fixed_draws(in_own_space)[z.name].reshape(N_DRAWS, -1)
            return draws.mean(0), draws.std(0, ddof=1)
        if plain:
            return self._plain_moments(z, known)
        parts = [moments_in_space(z, loc, scale) for loc, scale in zip(known.loc, known.scale, strict=True)]
        means, stddevs = (np.array([part[k] for part in parts if part is not None]) for k in range(2))
        if len(parts) == 1:
            return means[0], stddevs[0]
        mean = known.weights @ means
        return mean, np.sqrt(known.weights @ (stddevs**2 + (means - mean) ** 2))

    def _plain_moments(self, z: RandomVariable, known: Marginals) -> tuple[Float64, Float64]:
        """Return means and standard deviations of the unconstrained coordinates."""
        member = self._member(z)
        if member is None:
            return known.loc[0], known.scale[0]
        part = self._part(z)
        return member.mean()[part], member.stddev()[part]

    def _formulas(self, z: RandomVariable) -> tuple[Float64, Float64] | None:
        """Return means and standard deviations by formula, where q has them and is in the variable's space."""
        factor = self._factor[z]
        q = factor.q
        if not isinstance(q, Distribution) or is_structured(factor, self._problem) or not shares_space(q, z):
            return None
        rules = [getattr(q, name, None) for name in ("_mean", "_variance")]
        if None in rules:
            return None
        parameters = self._parameter_values(q)
        with np.errstate(all="ignore"):
            mean, variance = (np.broadcast_to(rule(**parameters), q.shape).ravel() for rule in rules)  # type: ignore[misc]
        return mean.copy(), np.sqrt(variance)

    def _parameter_values(self, q: Distribution) -> dict[str, Float64]:
        """Return the values of parameters that depend on no draws."""
        slots = [self._compiled.values[p] for p in q.parameters.values()]
        noise = np.full((1, max(1, self._compiled.core.noise_dim)), 0.5)
        values = self._compiled.core.evaluate(1, self._params, noise, [], slots)
        return {k: v.reshape(p.shape) for (k, p), v in zip(q.parameters.items(), values, strict=True)}

    def quantile(self, z: RandomVariable, probability: float) -> Float64:
        """Return quantiles of the variable's elements."""
        known = self._marginals(z)
        if known is None or (z.space.event_ndim > 0 and not is_identity(z)):
            draws = self._fixed_draws(True)[z.name].reshape(N_DRAWS, -1)
            return np.asarray(np.quantile(draws, probability, axis=0))
        if len(known.weights) == 1 and math.isinf(known.df):
            found = quantile_in_space(z, known.loc[0], known.scale[0], probability)
            assert found is not None
            return found
        u = known.quantile(1.0 - probability if z.space.bijector == "upper" else probability)  # the one map that falls
        return u if is_identity(z) else z.space.transform(z.shape).forward(u[None])[0][0]

    def covariance(self, z: RandomVariable, in_own_space: bool) -> Float64:
        """Return the covariance matrix of the variable's coordinates, flat in C order."""
        if not in_own_space or is_identity(z):
            member = self._member(z)
            if member is not None:
                part = self._part(z)
                return member.covariance()[part, part]
            known = self._marginals(z)
            if known is not None:
                return np.diag(known.scale[0] ** 2)
        draws = self._fixed_draws(in_own_space)[z.name].reshape(N_DRAWS, -1)
        return np.atleast_2d(np.cov(draws, rowvar=False))

    def _fixed_draws(self, in_own_space: bool) -> dict[str, Float64]:
        if in_own_space not in self._cache:
            self._cache[in_own_space] = self.draws(N_DRAWS, MOMENT_KEY, in_own_space)
        return self._cache[in_own_space]  # type: ignore[no-any-return]

    def _is_own(self, z: RandomVariable) -> bool:
        """Return whether q's draws are the variable's values although these may have a transform."""
        q = self._factor[z].q
        return isinstance(q, RandomVariable) and not is_identity(z) and shares_space(q, z)

    def _member(self, z: RandomVariable) -> _core.Member | None:
        layout, factor = self._compiled.layout, self._factor[z]
        if factor not in layout.families:
            return None
        if factor not in self._cache:
            spec, offset = layout.families[factor]
            self._cache[factor] = _core.Member(spec, self._params[offset : offset + spec.n_params])
        return self._cache[factor]  # type: ignore[no-any-return]

    def _part(self, z: RandomVariable) -> slice:
        """Return where a variable's coordinates are among those of its family."""
        begin = self._compiled.unconstrained[z][1]
        return slice(begin, begin + self.n_unconstrained(z))

    def _marginals(self, z: RandomVariable) -> Marginals | None:
        """Return the marginals of the unconstrained coordinates where these are known."""
        if self._factor[z] in self._compiled.layout.families:
            spec, offset = self._compiled.layout.families[self._factor[z]]
            return Marginals.of(spec, self._params[offset : offset + spec.n_params])[self._part(z)]
        factor = self._factor[z]
        # The logarithm of a LogNormal is what the positive numbers' transform starts from.
        logarithm = isinstance(factor.q, LogNormal) and z.space.bijector == "positive"
        if not (isinstance(factor.q, Normal) or logarithm) or is_structured(factor, self._problem):
            return None
        assert isinstance(factor.q, (Normal, LogNormal))
        values = self._parameter_values(factor.q)
        loc, scale = (np.broadcast_to(values[key], factor.q.shape).ravel() for key in ("loc", "scale"))
        return Marginals(np.ones(1), loc[None].copy(), scale[None].copy())

    # --- density -----------------------------------------------------------------------------------------------
    def log_density(self, draws: Mapping[str, Float64]) -> Float64:
        """Return log q of joint values: of their unconstrained coordinates, less the log-Jacobians."""
        n = len(next(iter(draws.values())))
        total, inside = np.zeros(n), np.ones(n, np.bool_)
        coordinates: dict[RandomVariable, Float64] = {}
        given: dict[Expression, Float64] = {}
        for z in self.latents:
            flat = draws[z.name].reshape(n, -1)
            given[z] = flat.reshape(n, *z.shape)
            factor = self._factor[z]
            if self._is_own(z):
                coordinates[z] = flat
            else:
                coordinates[z], log_jacobian, within = to_unconstrained(z, flat)
                inside &= within
                total -= log_jacobian
            if isinstance(factor.q, RandomVariable):
                given[factor.q] = coordinates[z].reshape(n, *factor.q.shape)
        for factor in self._problem.factors:
            total += self._factor_log_density(factor, coordinates, given, n)
        return np.where(inside, total, -np.inf)

    def _factor_log_density(
        self, factor: Factor, coordinates: dict[RandomVariable, Float64], given: dict[Expression, Float64], n: int
    ) -> Float64:
        if factor.family is not None:
            u = np.concatenate([coordinates[z] for z in factor.latents], axis=1)
            return self._member(factor.latents[0]).log_density(u)  # type: ignore[union-attr]
        q: Any = factor.q
        if not getattr(q, "has_density", True):
            raise TypeError(f"q of {factor.name!r} is a {type(q).__name__}, which has no density")
        core = _core.Model()
        known = {e: v for e, v in given.items() if e is not q}
        order = ancestors(q.inputs, lambda e: () if e in known else e.inputs)
        offsets = {e: self._compiled.layout.offsets[e] for e in order if isinstance(e, Parameter)}
        emitter = Emitter(core, offsets)
        inputs = []
        for e in order:
            if e in known:
                emitter.arrays[e] = core.input(e.size)
                inputs.append(np.ascontiguousarray(known[e]).reshape(n, -1))
        value = core.input(q.size)
        inputs.append(np.ascontiguousarray(given[q]).reshape(n, -1))
        slot = q.emit_log_prob(emitter, value, [emitter.emit(p) for p in q.inputs])
        for p, slots in emitter.placeholders.items():
            for s in slots:
                core.set_data(s, self._feeds[p])
        result = core.evaluate(n, self._params, np.zeros((n, 1)), inputs, [slot])[0]
        return np.broadcast_to(result[:, 0], n)

    def describe(self) -> str:
        """Return q in words."""
        return "; ".join(f"{f.name}: {f.describe()}" for f in self._problem.factors)

    def family_name(self) -> str | None:
        """Return the core's name of the family; None where q is not one ready-made family."""
        families = list(self._compiled.layout.families.values())
        return families[0][0].name if len(families) == len(self._problem.factors) == 1 else None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_compiled", "_cache", "_factor")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()
