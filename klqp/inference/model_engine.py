"""Assembly of the core's run from settings and a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._sobol import make_noise
from klqp.families import n_unconstrained
from klqp.inference.compiled import CompiledModel
from klqp.inference.engine import Engine
from klqp.inference.estimator import Demand
from klqp.inference.plan import Plan
from klqp.inference.planner import make_plan
from klqp.inference.problem import Problem
from klqp.inference.settings import Settings
from klqp.model.log_density import LogDensity
from klqp.model.parameter import Placeholder
from klqp.model.random_variable import RandomVariable

__all__ = ["ModelEngine"]

Float64 = npt.NDArray[np.float64]


class ModelEngine:
    """The parts of one run of a model, and the run made from them.

    Takes the place of `klqp.inference.engine.Engine` where there is more than one log density.

    Parameters
    ----------
    problem : Problem
    settings : Settings
    demand : Demand
        What a named class forces.
    feeds : dict
        Data of placeholders.
    kept : dict
        Data that placeholders got in earlier runs; those that this model does not have are left out.
    objective : callable, optional
        Another objective than the ELBO, see `VariationalInference.objective`.
    """

    def __init__(
        self,
        problem: Problem,
        settings: Settings,
        demand: Demand,
        feeds: Mapping[Placeholder, Float64],
        kept: Mapping[Placeholder, Float64],
        objective: Callable[[Float64], tuple[float, Float64]] | None = None,
    ) -> None:
        self.problem, self.settings = problem, settings
        self._objective = objective
        self.gives_gradient = self._ask_for_gradients(demand, {**kept, **feeds})
        self.choice = None  # the plan says it
        self.plan = make_plan(problem, settings, demand, self.gives_gradient, objective is not None)
        self.compiled = CompiledModel(problem, self.plan)
        self.feeds: dict[Placeholder, Float64] = {}
        self._unfed = set(self.compiled.placeholders)
        self._start = self.start(settings)
        self._seen = {p: p._version for p in self.compiled.layout.offsets}
        self._fixed = set(problem.frozen_parameters())
        self.feed({**feeds, **{p: values for p, values in kept.items() if p in self.compiled.placeholders}})
        self.run = self._make_run()
        self._try_callbacks()

    @property
    def own_objective(self) -> bool:
        """Whether the objective is another than the ELBO."""
        return self._objective is not None

    # --- data and parameters -----------------------------------------------------------------------------------
    def feed(self, feeds: Mapping[Placeholder, Float64]) -> None:
        """Give placeholders their data; where one is refused, all keep what they had.

        Raises
        ------
        ValueError
            If the model does not have one of them, or an index is out of bounds.
        """
        known = self.compiled.placeholders if feeds else ()
        for p in feeds:
            if p not in known:
                raise ValueError(f"feed_dict: {p!r} is not a placeholder of this model")
        done: list[Placeholder] = []
        try:
            for p, values in feeds.items():
                done.append(p)
                self.compiled.feed({p: values})
        except ValueError as error:
            for p in done:
                self.compiled.feed({p: self.feeds.get(p, np.zeros(p.shape))})
            raise ValueError(f"the data of {done[-1]!r} do not fit: {error}") from None
        self.feeds.update(feeds)
        self._unfed -= set(feeds)

    def start(self, settings: Settings) -> Float64:
        """Return the flat vector that a run with these settings starts from."""
        return self.compiled.start_params(settings)

    def require_feeds(self) -> None:
        """Raise ValueError if a placeholder has no data yet."""
        if self._unfed:
            names = sorted(str(p.name) for p in self._unfed)
            raise ValueError(
                f"the placeholders {names} have no data: pass feed_dict={{placeholder: array}} to update(), "
                "or feeds=... to run()"
            )

    def pull(self) -> bool:
        """Take over parameters that another inference, or the user, has changed; return whether there are any."""
        changed = [p for p in self._seen if p._version != self._seen[p]]
        if not changed:
            return False
        params = self.run.params
        for p in changed:
            offset = self.compiled.layout.offsets[p]
            params[offset : offset + p.n_unconstrained] = p.unconstrained
            self._seen[p] = p._version
        self.run.set_params(params)
        return True

    def push(self) -> None:
        """Give the parameters the values that the run has reached."""
        solution = self.run.solution if self._seen else None
        for p in self._seen:
            if p in self.plan.frozen or solution is None or p in self._fixed:
                continue
            offset = self.compiled.layout.offsets[p]
            p._set_unconstrained(solution[offset : offset + p.n_unconstrained])
            self._seen[p] = p._version

    @contextmanager
    def first_parameters(self) -> Iterator[None]:
        """Return all parameters that this run moves to their first values; undone where the body raises."""
        moved = [p for p in self._seen if p not in self._fixed and p not in self.plan.frozen]
        before = [(p.unconstrained, p._version) for p in moved]
        for p in moved:
            p.reset()
        try:
            yield
        except BaseException:
            for p, (u, version) in zip(moved, before, strict=True):
                p._u, p._version = u, version
            raise

    # --- as Engine ---------------------------------------------------------------------------------------------
    @property
    def words(self) -> str:
        """The estimator in words, one line for each factor."""
        if not self.problem.factors:
            return "no latent variables: maximum likelihood by exact gradients"
        factors = [f"{f.name}: {f.describe()}; {self.plan.words(f)}" for f in self.problem.factors]
        fused = [f"{y.name}: fused likelihood, {words}" for y, words in self.compiled.fused.items()]
        return "\n".join(factors + fused)

    def fingerprint(self) -> str:
        """Return what a snapshot must agree in to be continued by this run, as text."""
        s = self.settings
        # Names may be made up anew in another process, shapes and kinds are not.
        factors = "; ".join(
            f"{[(type(z).__name__, z.shape) for z in f.latents]}: {type(f.q).__name__} "
            f"{self.plan.factors[f].gradient} {self.plan.factors[f].entropy}"
            for f in self.problem.factors
        )
        observed = [(type(variable).__name__, variable.shape) for variable in self.problem.observed]
        return (
            f"model n_params={self.compiled.layout.n_params} noise={self.compiled.core.noise_dim} [{factors}] "
            f"data={observed} baseline={self.plan.baseline} blankets={self.plan.markov_blankets} "
            f"draws={s.draws} n_samples={s.n_samples} seed={s.key} optimizer={s.optimizer.fingerprint()}"
        )

    def adopt(self, earlier: Engine | ModelEngine) -> None:
        """Go on from the q, the step count and the traces of another engine's run.

        The optimizer's memory comes along where the two runs agree in everything.
        """
        new, old = self.run.snapshot(), earlier.run.snapshot()
        if self.fingerprint() != earlier.fingerprint():
            kept = ("step", "any_good", "trace/", "rejections/")
            old = {name: values for name, values in old.items() if name.startswith(kept)}
            params = self._start_from(earlier)
            old |= {"params": params, "last_good": params}
        self.run.restore(new | old)
        if isinstance(earlier, ModelEngine):  # changed since by others?
            self._seen = {p: earlier._seen.get(p, version) for p, version in self._seen.items()}
        self.pull()

    def unconstrained_normals(self) -> dict[RandomVariable, tuple[Float64, Float64]]:
        """Return locations and standard deviations of latent variables whose q has them, in unconstrained space."""
        params, out = self.run.params, {}
        for factor, (spec, offset) in self.compiled.layout.families.items():
            member = _core.Member(spec, params[offset : offset + spec.n_params])
            loc, scale, begin = member.mean(), member.stddev(), 0
            for z in factor.latents:
                end = begin + n_unconstrained(z)
                out[z] = (loc[begin:end], scale[begin:end])
                begin = end
        for factor in self.problem.factors:
            if factor.stands_in:
                loc, scale = (self._parameter(p, params) for p in factor.q.inputs)  # type: ignore[union-attr]
                out[factor.latents[0]] = (loc, scale)
        return out

    def _parameter(self, p: Any, params: Float64) -> Float64:
        offset = self.compiled.layout.offsets[p]
        value: Float64 = p._bijector.forward(params[None, offset : offset + p.n_unconstrained])[0][0]
        return value

    def _start_from(self, earlier: Engine | ModelEngine) -> Float64:
        """Return parameters that say what those of another run say, as far as both have them."""
        params = self._start.copy()
        known = earlier.unconstrained_normals()
        theirs = earlier.compiled.layout.families if isinstance(earlier, ModelEngine) else {}
        for factor, (spec, offset) in self.compiled.layout.families.items():
            part = slice(offset, offset + spec.n_params)
            if factor in theirs:
                begin = theirs[factor][1]
                params[part] = earlier.run.params[begin : begin + spec.n_params]
            elif all(z in known for z in factor.latents):
                loc, scale = (np.concatenate([known[z][i] for z in factor.latents]) for i in range(2))
                params[part] = spec.start(loc, scale, self.settings.key)
        for factor in self.problem.factors:
            z = factor.latents[0]
            if factor.stands_in and z in known:
                for p, values in zip(factor.q.inputs, known[z], strict=True):  # type: ignore[union-attr]
                    offset = self.compiled.layout.offsets[p]
                    u = p._to_unconstrained(values.reshape(p.shape), "value")
                    params[offset : offset + u.size] = u
        for p, offset in self.compiled.layout.offsets.items():
            if isinstance(earlier, ModelEngine) and p in earlier.compiled.layout.offsets and p not in self._fixed:
                begin = earlier.compiled.layout.offsets[p]
                params[offset : offset + p.n_unconstrained] = earlier.run.params[begin : begin + p.n_unconstrained]
        return params

    # --- inside ------------------------------------------------------------------------------------------------
    def _ask_for_gradients(self, demand: Demand, feeds: Mapping[Placeholder, Float64]) -> bool:
        """Return whether the user's log densities give gradients; they are called once where that is to be known.

        Those of data that have not come yet are taken to give them.
        """
        problem = self.problem
        asked = [e for e in problem.model if isinstance(e, LogDensity) and not e.is_native]
        if not asked or not problem.factors or demand.gradient is not None or self.settings.gradient != "auto":
            return True
        trial = CompiledModel(problem, Plan.of_draws(problem))
        if trial.placeholders - set(feeds):
            return True
        trial.feed({p: values for p, values in feeds.items() if p in trial.placeholders})
        params = trial.start_params(self.settings)
        return trial.asks_gradients(params, self.settings.key, self.settings.n_samples)

    def _make_run(self) -> _core.Run:
        s, core = self.settings, self.compiled.core
        noise = make_noise(s.draws, s.n_samples, max(1, core.noise_dim), s.key, self.plan.n_groups, core.uniforms)
        return _core.model_run(
            self.compiled.core,
            self.plan.baseline,
            noise,
            s.optimizer.spec(),
            s.run_config(),
            self._start,
            self._objective,
        )

    def _try_callbacks(self) -> None:
        """Call the user's own functions once, so that their mistakes show before the first step."""
        core = self.compiled.core
        if core.native or self._unfed:
            return
        noise = core.draw_noise(self.settings.key, 0, 0, self.settings.n_samples)
        core.evaluate(self.settings.n_samples, self._start, noise, [], self.compiled.log_p)
