"""Runs: the steps of an inference, their record, and its saving."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import numpy as np
import numpy.typing as npt

from klqp.adapters.tensorboard import TensorBoardLog
from klqp.approximation import Approximation, FlatApproximation
from klqp.errors import InterruptedRunWarning, TargetError
from klqp.families import Family
from klqp.inference.engine import Engine, as_state
from klqp.inference.estimator import Demand
from klqp.inference.feeds import FeedSource
from klqp.inference.inference import Inference
from klqp.inference.latents import Factor, LatentVars
from klqp.inference.model_engine import ModelEngine
from klqp.inference.normals import with_own_normals
from klqp.inference.problem import (
    check_feeds,
    checked_feeds,
    read_factors,
    require_divergences,
)
from klqp.inference.settings import RunOptions, Settings
from klqp.model.callbacks import ObjectiveCall
from klqp.model.parameter import Placeholder
from klqp.model.random_variable import RandomVariable
from klqp.model_approximation import ModelApproximation
from klqp.posterior import Posterior
from klqp.progress import Progress
from klqp.schedules import Constant, Cosine, Exponential, as_schedule, factors

if TYPE_CHECKING:
    from klqp.inference.auto.outcome import Outcome

__all__ = ["Runs", "users_level"]

Float64 = npt.NDArray[np.float64]

_NO_RATES = (None, np.empty(0))
_AHEAD = 256  # steps whose learning rates `update` works out at once
_CHUNK = 65536  # steps whose learning rates are worked out at once


class Runs(Inference):
    """The steps of an inference, taken one by one or many at once, their record, and its saving."""

    _demand: ClassVar[Demand] = Demand()  # what a named class forces

    def __init__(
        self,
        latent_vars: LatentVars = None,
        data: Mapping[Any, Any] | None = None,
        *,
        q: str | Family | None = None,
        rank: int | None = None,
        regularizers: Mapping[Any, Any] | Sequence[Any] | None = None,
    ) -> None:
        super().__init__(latent_vars, data, q=q, rank=rank, regularizers=regularizers)
        if self._demand.by_formula:
            require_divergences(self._problem, self._problem.latents, type(self).__name__)
        self._given = self._problem  # before a method has chosen a rank
        self._engine: Engine | ModelEngine | None = None
        # First step and length of the run asked for last: what the schedule sees.
        self._cycle = (0, 1)
        self._ahead: tuple[Any, Float64] = _NO_RATES
        self._progress = Progress()
        self._posterior: tuple[int, Posterior] | None = None
        self._own_normals: dict[RandomVariable, Factor] = {}
        self._fed: dict[Placeholder, Float64] = {}  # by update()
        self._log: TensorBoardLog | None = None
        self._source: FeedSource | None = None  # of the data of the last run's steps
        self._outcome: Outcome | None = None  # of the last run, where it found its end by itself
        self._found: Outcome | None = None  # by the last automatic fit without steps
        self.stop_reason: str | None = None

    def objective(self, log_ratio: Float64) -> tuple[float, Float64]:
        """Return the loss of a step and its derivatives; override it for another objective than the ELBO.

        Parameters
        ----------
        log_ratio : ndarray (S,)
            log p(x, z_s) - log q(z_s) of the step's draws.

        Returns
        -------
        loss : float
        derivatives : ndarray (S,)
            Of the loss in each log ratio; gradients then flow through the draws and through log q.
        """
        return -float(log_ratio.mean()), np.full(log_ratio.shape, -1.0 / log_ratio.size)

    @property
    def _own_objective(self) -> bool:
        return type(self).objective is not Runs.objective

    # --- the steps -------------------------------------------------------------------------------------------
    def initialize(self, **options: Unpack[RunOptions]) -> None:
        """Prepare a run from its start; takes the keywords of `run`.

        A Python log density is called once, with the draws of the first step, so that its mistakes show here; the
        first step does not repeat that call (it does for Sobol draws and a log density of values only, which come
        in two scrambles then).
        """
        self._prepare(options, earlier=None)

    def update(self, feed_dict: Mapping[Any, Any] | None = None) -> dict[str, Any]:
        """Take one step.

        Parameters
        ----------
        feed_dict : dict, optional
            Data by placeholder; they stay until others come.

        Returns
        -------
        dict
            ``t``, the number of steps so far; ``loss``, this step's estimate of minus the ELBO (NaN when too many
            draws were rejected); and the other quantities of `history` for this step.
        """
        engine = self._require_engine()
        feeds = checked_feeds(feed_dict)
        check_feeds(self._problem, feeds)
        engine.feed(feeds)
        self._fed.update(feeds)
        engine.require_feeds()
        engine.pull()
        self._outcome = None
        try:
            engine.run.until(self._rates(1), [], None)
        finally:
            engine.push()
        self._after_steps(engine)
        return {"t": engine.run.step_count, **engine.run.last}

    def print_progress(self, info: Mapping[str, Any]) -> None:
        """Show the step and loss of `info`, what `update` returned, in the progress bar."""
        s = self._require_engine().settings
        self._progress.start(s.n_iter, s.n_print, s.progress)
        self._progress.show(int(info["t"]) - self._cycle[0], float(info["loss"]))

    def finalize(self) -> None:
        """Close the progress bar and the log."""
        self._progress.close()
        if self._log is not None:
            self._log.flush()

    def resume(self) -> None:
        """Finish the run that was asked for last: after an interrupt, or after `restore`."""
        engine = self._require_engine()
        fed = self._feed_first(engine)
        engine.require_feeds()
        engine.pull()
        settings, run = engine.settings, engine.run
        rules = settings.stop.specs() if settings.stop is not None else []
        self._progress.start(settings.n_iter, settings.n_print, settings.progress)
        self.stop_reason, started, met = None, time.monotonic(), ""
        self._outcome = self._outcome if self._steps_left() <= 0 else None
        try:
            while not met and (left := self._steps_left()) > 0:
                if not fed():
                    met = "feeds"
                    break
                elapsed = time.monotonic() - started
                met = run.until(self._rates(min(left, self._chunk())), rules, self._observe, elapsed)
                self._after_steps(engine)
            self.stop_reason = met or "steps"
        except KeyboardInterrupt:
            self.stop_reason = "interrupted"
            done = settings.n_iter - self._steps_left()
            warnings.warn(
                f"interrupted after {done} of {settings.n_iter} steps; the state was kept",
                InterruptedRunWarning,
                stacklevel=3,
            )
        finally:
            engine.push()
            self._observe()
            self.finalize()

    def reset(self) -> None:
        """Restart the step counter, the traces and the optimizer; q stays."""
        engine = self._require_engine()
        engine.run.reset()
        self._cycle = (0, engine.settings.n_iter)
        self._posterior = None

    # --- results ---------------------------------------------------------------------------------------------
    @property
    def posterior(self) -> Posterior:
        """The posterior approximation after the steps so far, with what others did to shared parameters."""
        engine = self._require_engine()
        step, moved = engine.run.step_count, engine.pull()
        if self._posterior is None or self._posterior[0] != step or moved:
            posterior = Posterior(self._approximation(engine))
            self._posterior = (step, posterior)
        return self._posterior[1]

    @property
    def losses(self) -> Float64:
        """Estimates of minus the ELBO, one per step; NaN where too many draws were rejected."""
        return self.history["loss"]

    @property
    def history(self) -> dict[str, Float64]:
        """Everything that was measured, one array of a value per step for each.

        ``loss``, ``std_error`` (of the loss), ``log_p`` (mean log density), ``entropy``, ``grad_norm`` (before
        clipping), ``learning_rate`` (as used) and ``n_rejected`` (draws left out).
        """
        return self._require_engine().run.trace

    @property
    def rejections(self) -> dict[str, Any]:
        """Draws left out so far: ``minus_inf``, ``invalid`` (NaN or +inf), and the ``first`` culprit in words."""
        return self._require_engine().run.rejections

    # --- saving ----------------------------------------------------------------------------------------------
    def snapshot(self) -> dict[str, Any]:
        """Return the state after the last step as a dict of arrays, for `restore` or ``numpy.savez``."""
        engine = self._require_engine()
        cycle, fingerprint = np.array(self._cycle, np.int64), np.array(engine.fingerprint())
        return {**engine.run.snapshot(), "cycle": cycle, "fingerprint": fingerprint}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `snapshot` to an ``.npz`` file."""
        with open(path, "wb") as file:
            np.savez(file, **self.snapshot())

    def restore(self, state: Mapping[str, Any] | str | os.PathLike[str]) -> None:
        """Return to a snapshot, a dict or the path of an ``.npz`` file; call it after `initialize`.

        The steps that follow, by `update` or `resume`, give the same bits as if the run had not been broken.

        Raises
        ------
        ValueError
            If the snapshot is of a run with other settings; nothing is changed then.
        """
        engine = self._require_engine()
        if not isinstance(state, Mapping):
            with np.load(state, allow_pickle=False) as file:
                state = dict(file)
        for key in ("cycle", "fingerprint"):
            if key not in state:
                raise ValueError(f"the snapshot has no {key!r}: it is not from klqp, or incomplete")
        theirs, ours = str(state["fingerprint"]), engine.fingerprint()
        if theirs != ours:
            raise ValueError(f"the snapshot is of another run:\n  {theirs}\nwhile this one is\n  {ours}")
        engine.run.restore(as_state({k: v for k, v in state.items() if k not in ("cycle", "fingerprint")}))
        self._cycle = (int(state["cycle"][0]), int(state["cycle"][1]))
        self._posterior = None

    def __getstate__(self) -> dict[str, Any]:
        kept = {k: v for k, v in self.__dict__.items() if k not in ("_engine", "_ahead", "_progress", "_posterior")}
        kept["_log"] = kept["_source"] = None
        if self._engine is None:
            return {**kept, "_engine": None}
        return {**kept, "_engine": (self._engine.settings, self._known(), self.snapshot())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _engine=None, _ahead=_NO_RATES, _progress=Progress(), _posterior=None)
        if state["_engine"] is not None:
            settings, known, snapshot = state["_engine"]
            self._engine = self._make_engine(settings, self._own_normals, **known)
            self.restore(snapshot)

    # --- inside ----------------------------------------------------------------------------------------------
    def _known(self) -> dict[str, Any]:
        """Return what an engine need not find out again."""
        engine = self._require_engine()
        return {"choice": engine.choice, "gives_gradient": engine.gives_gradient}

    def _prepare(self, options: Mapping[str, Any], earlier: Engine | ModelEngine | None) -> None:
        """Build the run for `options`, going on from an `earlier` one if there is one."""
        if earlier is None:
            self._problem = self._given
        settings = Settings.read(options, self._problem)
        read_factors(self._problem.factors, settings.auto_transform)
        known = earlier.gives_gradient if earlier is not None else None
        own_normals = dict(self._own_normals) if earlier is not None else {}
        engine = self._make_engine(settings, own_normals, gives_gradient=known)
        if earlier is not None:
            engine.adopt(earlier)
        log = None
        if settings.logdir is not None:
            log = TensorBoardLog(settings.logdir, settings.log_timestamp, settings.log_vars)
        engine.run.begin()
        self._engine, self._own_normals, self._log, self._posterior = engine, own_normals, log, None
        self._outcome = None
        self._cycle = (engine.run.step_count, settings.n_iter)

    def _make_engine(
        self, settings: Settings, own_normals: dict[RandomVariable, Factor], **known: Any
    ) -> Engine | ModelEngine:
        flat, problem = self._problem.flat, self._problem
        if (
            flat is not None
            and not self._own_objective
            and not settings.scale
            and not settings.kl_scaling
            and not self._demand.by_formula
        ):
            family = problem.factors[0].family
            assert family is not None
            return Engine(flat, family, settings, self._demand, **known)
        apart = set(problem.latents) if self._demand.by_formula else {*settings.kl_scaling, *settings.scale}
        problem = with_own_normals(problem, apart, settings, own_normals)
        objective = ObjectiveCall(self.objective) if self._own_objective else None
        return ModelEngine(problem, settings, self._demand, self._feeds, self._fed, objective)

    def _approximation(self, engine: Engine | ModelEngine) -> Approximation:
        if isinstance(engine, ModelEngine):
            return ModelApproximation(engine.problem, engine.plan, engine.run.solution, engine.feeds)
        flat, family = self._problem.flat, self._problem.factors[0].family
        assert flat is not None
        assert family is not None
        return FlatApproximation(flat, family, engine.run.solution, engine.settings.dtype)

    def _feed_first(self, engine: Engine | ModelEngine) -> Callable[[], bool]:
        """Give the engine its first data; return what gives the data of each step, and whether there are more."""
        source = self._source
        if source is None:
            return lambda: True

        def give() -> bool:
            feeds = source.next()
            if feeds is None:
                return False
            engine.feed(feeds)
            self._fed.update(feeds)
            return True

        if not give():
            raise ValueError("feeds has no data, not even for one step")
        ready = True

        def fed() -> bool:
            nonlocal ready
            if ready:
                ready = False
                return True
            return give()

        return fed

    @staticmethod
    def _warn_of_interrupt(message: str) -> None:
        warnings.warn(message, InterruptedRunWarning, stacklevel=users_level())

    def _chunk(self) -> int:
        """Return how many steps may be taken before somebody looks."""
        settings = self._require_engine().settings
        if settings.debug or self._source is not None:
            return 1
        return max(1, settings.n_print) if self._log is not None else _CHUNK

    def _after_steps(self, engine: Engine | ModelEngine) -> None:
        if engine.settings.debug and engine.run.last["n_rejected"] > 0:
            raise TargetError(f"debug: a draw is not finite: {engine.run.rejections['first']}")
        if self._log is not None and isinstance(engine, (Engine, ModelEngine)):
            self._log.write(engine)

    def _require_engine(self) -> Engine | ModelEngine:
        if self._engine is None:
            raise RuntimeError("there is no run yet: call run() or initialize() first")
        return self._engine

    def _steps_left(self) -> int:
        return sum(self._cycle) - self._require_engine().run.step_count

    def _rates(self, n: int) -> Float64:
        """Learning rates of the next `n` steps."""
        engine = self._require_engine()
        rule, (first, n_iter) = engine.settings.optimizer, self._cycle
        at, schedule = engine.run.step_count - first, as_schedule(rule.schedule)
        if n > 1 or not isinstance(schedule, (Constant, Exponential, Cosine)):
            return rule.learning_rate * factors(schedule, at, n, n_iter)
        # Single steps: factors of many at once. Schedules of the user's own may change their minds between steps.
        if self._ahead[0] != (schedule, n_iter, at // _AHEAD):
            values = factors(schedule, at // _AHEAD * _AHEAD, _AHEAD, n_iter)
            self._ahead = ((schedule, n_iter, at // _AHEAD), values)
        return rule.learning_rate * self._ahead[1][at % _AHEAD : at % _AHEAD + 1]

    def _observe(self) -> None:
        run = self._require_engine().run
        if self._progress.active and run.step_count > self._cycle[0]:
            self._progress.show(run.step_count - self._cycle[0], run.last["loss"])


def users_level() -> int:
    """Return the stack level, as a caller's `warnings.warn` takes it, of the first frame outside klqp."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("klqp."):
        frame, level = frame.f_back, level + 1
    return level
