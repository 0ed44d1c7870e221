"""Inference and VariationalInference: what a fit is made of, and the steps of its run."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
import numpy.typing as npt

from klqp.errors import InterruptedRunWarning
from klqp.families import Family
from klqp.inference.engine import Engine, as_state
from klqp.inference.estimator import Demand
from klqp.inference.latents import LatentVars, read_latent_vars
from klqp.inference.settings import RunOptions, Settings
from klqp.model.random_variable import RandomVariable
from klqp.posterior import Posterior
from klqp.progress import Progress
from klqp.schedules import as_schedule, factors

__all__ = ["Inference", "VariationalInference"]

Float64 = npt.NDArray[np.float64]

_CHUNK = 65536  # steps whose learning rates are worked out at once


class Inference:
    """Latent variables with their approximations, and data.

    Parameters
    ----------
    latent_vars : list of random variables, or dict
        The quantities a posterior is wanted of; in a dict, with the family for each one or for a tuple of them.
    data : dict, optional
        Observed values by random variable.
    q : {"mean_field", "full_rank", "low_rank"} or Family, default "mean_field"
        The family when `latent_vars` is a list.
    rank : int, optional
        Of the low-rank family.

    Raises
    ------
    TypeError, ValueError
        If a key is not a random variable, names clash, or data are given that the model does not have.
    """

    def __init__(
        self,
        latent_vars: LatentVars = None,
        data: Mapping[Any, Any] | None = None,
        *,
        q: str | Family | None = None,
        rank: int | None = None,
    ) -> None:
        self._latent, self._family = read_latent_vars(latent_vars, q, rank)
        if data is not None and not isinstance(data, Mapping):
            raise TypeError(f"data must be a dict by random variable, not {type(data).__name__}")
        for key in data or {}:
            name = getattr(key, "name", repr(key))
            raise ValueError(f"data has the key {name!r}, which no latent variable of this inference depends on")

    @property
    def latent_vars(self) -> dict[RandomVariable, Family]:
        """The latent variables and their families."""
        return {self._latent: self._family}


class VariationalInference(Inference):
    """Minimises a loss over the parameters of q by stochastic gradients.

    The steps of `run` can be taken by hand: ``initialize``, any number of ``update`` with ``print_progress``, and
    ``finalize``. Takes the parameters of `Inference`.
    """

    _demand: ClassVar[Demand] = Demand()  # what a named class forces

    def __init__(
        self,
        latent_vars: LatentVars = None,
        data: Mapping[Any, Any] | None = None,
        *,
        q: str | Family | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(latent_vars, data, q=q, rank=rank)
        self._engine: Engine | None = None
        # First step and length of the run asked for last: what the schedule sees.
        self._cycle = (0, 1)
        self._progress = Progress()
        self._posterior: tuple[int, Posterior] | None = None
        self.stop_reason: str | None = None

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

        Returns
        -------
        dict
            ``t``, the number of steps so far; ``loss``, this step's estimate of minus the ELBO (NaN when too many
            draws were rejected); and the other quantities of `history` for this step.
        """
        if feed_dict:
            raise ValueError("feed_dict: this model has no placeholders")
        run = self._require_engine().run
        run.until(self._rates(1), [], None)
        return {"t": run.step_count, **run.last}

    def print_progress(self, info: Mapping[str, Any]) -> None:
        """Show the step and loss of `info`, what `update` returned, in the progress bar."""
        s = self._require_engine().settings
        self._progress.start(s.n_iter, s.n_print, s.progress)
        self._progress.show(int(info["t"]) - self._cycle[0], float(info["loss"]))

    def finalize(self) -> None:
        """Close the progress bar."""
        self._progress.close()

    def run(self, *, restart: bool = False, **options: Unpack[RunOptions]) -> None:
        """Fit q: `n_iter` steps, or fewer when a stop rule says so.

        A second call goes on from the q that the first one reached; the steps, `losses` and `history` count on.

        Parameters
        ----------
        restart : bool, default False
            Forget the q of an earlier run and start anew.
        n_iter : int, default 5000
            Steps of this run; the learning rate's schedule spans them.
        n_samples : int, default 10
            Draws a step, S.
        stop : StopRule, optional
            `klqp.Steps`, `klqp.TimeLimit`, `klqp.Plateau`, joined by ``|``; stops before `n_iter`.
        optimizer : str or Optimizer, optional
            See `klqp.optimizers`; default ``Adam()``.
        entropy : {"auto", "adaptive", "sticking", "closed_form", "monte_carlo", "proximal"}
            Treatment of the entropy, docs/maths.md section 3. "auto" is "adaptive" for reparameterised gradients
            and "monte_carlo" for score-function gradients.
        gradient : {"auto", "reparameterised", "score"}
            "auto" takes reparameterised gradients when the log density gives gradients.
        baseline : {"mean", "optimal"}, default "mean"
            Control variate of score-function gradients.
        draws : {"mc", "antithetic", "sobol"}, default "mc"
            Kind of base draws.
        init_loc, init_scale : float or array of the latent variable's shape, default 0.0 and 0.1
            Location and standard deviations of the q to start from.
        seed : int, SeedSequence, Generator or None
            Same seed, same bits, for any number of threads.
        n_threads : int, optional
            Most threads to use; default `klqp.get_num_threads()`.
        dtype : dtype, default float64
            What the log density is called with: float64 or float32. klqp's own sums are in float64 always.
        progress : bool, optional
            Show a progress bar; default: on terminals and in notebooks.
        n_print : int, optional
            Steps between refreshes of the bar, default ``n_iter // 100``; 0 shows none.
        kl_scaling : None
            For models with closed-form divergences, which a log density has not.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or the log density returns the wrong thing; before any step.
        TargetError
            If the log density is not finite at the start, or too often later. The state is that after the last
            whole step.

        Warns
        -----
        InterruptedRunWarning
            On Ctrl-C: the run stops and keeps its state.
        """
        self._prepare(options, earlier=None if restart else self._engine)
        self.resume()

    def resume(self) -> None:
        """Finish the run that was asked for last: after an interrupt, or after `restore`."""
        engine = self._require_engine()
        settings, run = engine.settings, engine.run
        rules = settings.stop.specs() if settings.stop is not None else []
        self._progress.start(settings.n_iter, settings.n_print, settings.progress)
        self.stop_reason, started, met = None, time.monotonic(), ""
        try:
            while not met and (left := self._steps_left()) > 0:
                elapsed = time.monotonic() - started
                met = run.until(self._rates(min(left, _CHUNK)), rules, self._observe, elapsed)
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
        """The posterior approximation after the steps so far."""
        engine = self._require_engine()
        step = engine.run.step_count
        if self._posterior is None or self._posterior[0] != step:
            posterior = Posterior(self._latent, self._family, engine.run.solution, engine.settings.dtype)
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

    @property
    def estimator(self) -> str:
        """What gradient estimator was chosen for each factor of q, and why."""
        choice = self._require_engine().choice
        return f"{self._latent.name}: {self._family.describe()}; {choice.words}"

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
        kept = {k: v for k, v in self.__dict__.items() if k not in ("_engine", "_progress", "_posterior")}
        if self._engine is None:
            return {**kept, "_engine": None}
        return {**kept, "_engine": (self._engine.settings, self._engine.choice, self.snapshot())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _engine=None, _progress=Progress(), _posterior=None)
        if state["_engine"] is not None:
            settings, choice, snapshot = state["_engine"]
            self._engine = Engine(self._latent, self._family, settings, self._demand, choice)
            self.restore(snapshot)

    # --- inside ----------------------------------------------------------------------------------------------
    def _prepare(self, options: Mapping[str, Any], earlier: Engine | None) -> None:
        """Build the run for `options`, going on from an `earlier` one if there is one."""
        settings = Settings.read(options, self._latent.shape)
        known = earlier.gives_gradient if earlier is not None else None
        engine = Engine(self._latent, self._family, settings, self._demand, gives_gradient=known)
        if earlier is not None:
            engine.adopt(earlier)
        engine.run.begin()
        self._engine, self._posterior = engine, None
        self._cycle = (engine.run.step_count, settings.n_iter)

    def _require_engine(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("there is no run yet: call run() or initialize() first")
        return self._engine

    def _steps_left(self) -> int:
        return sum(self._cycle) - self._require_engine().run.step_count

    def _rates(self, n: int) -> Float64:
        """Learning rates of the next `n` steps."""
        engine = self._require_engine()
        rule, (first, n_iter) = engine.settings.optimizer, self._cycle
        at = engine.run.step_count - first
        return rule.learning_rate * factors(as_schedule(rule.schedule), at, n, n_iter)

    def _observe(self) -> None:
        run = self._require_engine().run
        if self._progress.active and run.step_count > self._cycle[0]:
            self._progress.show(run.step_count - self._cycle[0], run.last["loss"])
