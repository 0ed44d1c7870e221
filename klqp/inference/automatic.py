"""AutomaticRuns: fits that find their start and their end by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from klqp.families import LowRankNormal
from klqp.family_parts import is_normal
from klqp.inference.auto.budget import Budget, BudgetSpent
from klqp.inference.engine import Engine
from klqp.inference.estimator import Demand
from klqp.inference.flat_view import ALONE, flat_view
from klqp.inference.model_engine import ModelEngine
from klqp.inference.runs import Runs

if TYPE_CHECKING:
    from klqp.inference.auto.outcome import Outcome
    from klqp.inference.auto.stochastic import Metric

__all__ = ["AutomaticRuns"]


class AutomaticRuns(Runs):
    """Fits that find their start and their end by themselves, with steps or without."""

    def _find_by(self, method: str, again: bool, budget: Budget) -> bool:
        """Find q by a method without steps; return False where "auto" leaves it to steps.

        Raises
        ------
        ValueError
            If another method cannot fit this q.
        """
        from klqp.inference.auto.method import Start, find  # slow to import

        engine = self._require_engine()
        engine.require_feeds()
        view = flat_view(self._problem, engine) if self._demand == Demand() else None
        if view is None:
            if method == "auto":
                return False
            raise ValueError(
                f"method={method!r} needs one Normal family (or Student-t, or mixture) {ALONE}; use method='adam'"
            )
        start = Start(engine.run.params, again, chooses_rank=self._chooses_rank)
        if again and self._found is not None:
            start = replace(start, modes=self._found.modes, n_draws=(self._found.n_draws or 0) // 4)
        try:
            outcome = find(view, method, start, engine.settings.key, budget)
        except KeyboardInterrupt:
            self._cycle, self.stop_reason = (engine.run.step_count, 0), "interrupted"
            self._warn_of_interrupt("interrupted before there was a new q; the one before was kept")
            return True
        if outcome is None:
            return False
        if outcome.rank != view.spec.rank:
            engine = self._with_rank(engine, outcome.rank)
        self._adopt(engine, outcome)
        if outcome.interrupted:
            self.stop_reason = "interrupted"
            self._warn_of_interrupt("interrupted; the best q until then was kept: run() goes on from it")
        return True

    @property
    def _chooses_rank(self) -> bool:
        """Whether a method may choose the rank of the family."""
        families = [factor.family for factor in self._given.factors]
        return len(families) == 1 and isinstance(families[0], LowRankNormal) and families[0].rank is None

    def _with_rank(self, engine: Engine | ModelEngine, rank: int) -> Engine | ModelEngine:
        """Take the low-rank family with another rank for q, and return an engine with it and the traces of another."""
        (factor,) = self._problem.factors
        assert factor.family is not None
        family = LowRankNormal(factor.latents, rank=rank, scale=factor.family.scale)
        self._problem = replace(self._problem, factors=(replace(factor, q=family),))
        new = self._make_engine(engine.settings, dict(self._own_normals), gives_gradient=engine.gives_gradient)
        kept = ("step", "any_good", "trace/", "rejections/")
        old = {name: values for name, values in engine.run.snapshot().items() if name.startswith(kept)}
        new.run.restore(new.run.snapshot() | old)
        self._engine = new
        return new

    def _adopt(self, engine: Engine | ModelEngine, outcome: Outcome) -> None:
        """Take an outcome's q for the run's, and its losses for steps."""
        state, n = engine.run.snapshot(), len(outcome.losses)
        rows = {"loss": outcome.losses, "std_error": np.full(n, np.nan)}
        for name in (name for name in state if name.startswith("trace/")):
            state[name] = np.concatenate([state[name], rows.get(name.removeprefix("trace/"), np.zeros(n))])
        state |= {"params": outcome.params, "last_good": outcome.params, "any_good": np.ones(1)}
        state["step"] = state["step"] + n
        engine.run.restore(state)
        engine.push()
        self._cycle = (engine.run.step_count - n, n)
        self._outcome, self._posterior, self.stop_reason = outcome, None, outcome.why
        self._found = outcome

    def _descend(self, from_given: bool, budget: Budget) -> None:
        """Find q by stochastic gradients that stop by themselves; `from_given`: q as it is may be the best start."""
        from klqp.inference.auto.outcome import Outcome  # slow to import
        from klqp.inference.auto.stepper import MOST_STEPS, Stepper
        from klqp.inference.auto.stochastic import descend

        engine = self._require_engine()
        fed = self._feed_first(engine)
        engine.require_feeds()
        engine.pull()
        settings, run, first = engine.settings, engine.run, engine.run.step_count
        self._cycle = (first, MOST_STEPS)
        self._progress.start(MOST_STEPS, settings.n_print, settings.progress)
        rules = settings.stop.specs() if settings.stop is not None else []
        feed = fed if self._source is not None else None
        after, n = (lambda: self._after_steps(engine)), settings.n_samples
        stepper = Stepper(run, rules, budget, n, feed, self._observe, after, self._chunk())
        try:
            origin, improper = self._go_to_start(engine, from_given, budget)
            outcome = descend(stepper, _metric(engine), settings.key, not origin, origin)
        except KeyboardInterrupt:  # before there was a start
            self._cycle, self.stop_reason = (first, run.step_count - first), "interrupted"
            self._warn_of_interrupt("interrupted before there was a new q; the one before was kept")
            return
        except BudgetSpent as spent:  # likewise
            improper = ""
            outcome = Outcome(run.params, False, str(spent), None, "nothing was found", by_steps=True)
        finally:
            self._cycle = (first, run.step_count - first)
            engine.push()
            self._posterior = None
            self.finalize()
        if improper:
            outcome = replace(outcome, converged=False, why=improper)
        self._outcome, self.stop_reason = outcome, outcome.why
        if outcome.interrupted:
            self.stop_reason = "interrupted"
            steps = run.step_count - first
            self._warn_of_interrupt(f"interrupted after {steps} steps; the best q until then was kept: run() goes on")

    def _go_to_start(self, engine: Engine | ModelEngine, from_given: bool, budget: Budget) -> tuple[str, str]:
        """Move q to the best start that the log density's gradients lead to.

        Returns where that is, in words, "" where it stays where it is; and along what the posterior is improper.
        """
        from klqp.inference.auto.method import Start, start_of_steps  # slow to import

        view = flat_view(self._problem, engine) if self._source is None and self._demand == Demand() else None
        if view is None or not is_normal(view.spec) or engine.settings.gradient == "score":
            return "", ""
        best, improper = start_of_steps(view, Start(engine.run.params, from_given), engine.settings.key, budget)
        engine.run.set_params(best.params(view.spec))
        return best.origin, improper


def _metric(engine: Engine | ModelEngine) -> Metric:
    """Return what the steps of an engine's run are measured in."""
    from klqp.inference.auto.stochastic import Metric  # slow to import
    from klqp.inference.auto.units import family_units, is_location, locations_of, model_units

    if isinstance(engine, ModelEngine):
        problem, layout = engine.problem, engine.compiled.layout
        return Metric(lambda params: model_units(problem, layout, params), is_location(layout))
    spec = engine.spec
    where = np.isin(np.arange(spec.n_params), locations_of(spec))
    return Metric(lambda params: family_units(spec, params), where)
