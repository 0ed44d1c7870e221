"""Inference and VariationalInference: what a fit is made of, and the steps of its run."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Unpack

import numpy as np
import numpy.typing as npt

from klqp._checks import positive_int
from klqp._seeds import Seed, as_key
from klqp.adapters.tensorboard import TensorBoardLog
from klqp.approximation import Approximation, FlatApproximation
from klqp.errors import InterruptedRunWarning, PoorFitWarning, TargetError
from klqp.families import Family, LowRankNormal
from klqp.family_parts import is_normal
from klqp.inference.auto.budget import Budget
from klqp.inference.auto.method import Start, choose, find, start_of_steps
from klqp.inference.auto.outcome import Outcome
from klqp.inference.auto.stepper import MOST_STEPS, Stepper
from klqp.inference.auto.stochastic import Metric, descend
from klqp.inference.auto.units import family_units, is_location, locations_of, model_units
from klqp.inference.compiled import sort_factors
from klqp.inference.coverage import missing_mass
from klqp.inference.diagnosis import Draws, check_gradients, evidence, fresh_draws, still_rising
from klqp.inference.engine import Engine, as_state
from klqp.inference.estimator import Demand
from klqp.inference.feeds import Feeds, FeedSource
from klqp.inference.flat_view import FlatView, flat_view
from klqp.inference.gradient_noise import GradientNoise, measure, places
from klqp.inference.latents import Factor, LatentVars, read_latent_vars
from klqp.inference.model_engine import ModelEngine
from klqp.inference.normals import with_own_normals
from klqp.inference.problem import (
    Problem,
    check_feeds,
    checked_feeds,
    read_data,
    read_factors,
    read_penalties,
    require_divergences,
)
from klqp.inference.response import respond
from klqp.inference.settings import RunOptions, Settings
from klqp.inference.verdict import MORE_DRAWS, Evidence, Verdict, judge, no_convergence
from klqp.linear_response import LinearResponse
from klqp.model.callbacks import ObjectiveCall
from klqp.model.parameter import Placeholder
from klqp.model.random_variable import RandomVariable
from klqp.model_approximation import ModelApproximation
from klqp.posterior import Posterior
from klqp.progress import Progress
from klqp.schedules import Constant, Cosine, Exponential, as_schedule, factors

__all__ = ["Inference", "VariationalInference"]

Float64 = npt.NDArray[np.float64]

_NO_RATES = (None, np.empty(0))
_AHEAD = 256  # steps whose learning rates `update` works out at once
_CONVERGENCE_DRAWS = 1000  # with which `linear_response` looks whether q is an optimum
_ALONE = (
    "over all latent variables, full data without scale or parameters to be learnt, and a log density with gradients"
)
_NOISE_STEPS = 20  # gradients from which `diagnose` takes their signal and noise
_CHUNK = 65536  # steps whose learning rates are worked out at once


class Inference:
    """Latent variables with their approximations, and data.

    Parameters
    ----------
    latent_vars : list of random variables, or dict
        The quantities a posterior is wanted of. In a dict, with q: a ready-made family for one or a tuple of them, or a
        random variable whose parameters are `Parameter` objects, or expressions of them, of data and of other latent
        variables. Without latent variables the model's parameters are fitted by maximum likelihood.
    data : dict, optional
        Observed values by random variable, or placeholders for them; a random variable as value is a q that is not
        optimised, of which every draw takes a fresh value; a placeholder as key gets its first value.
    q : str or Family, default "mean_field"
        "mean_field", "full_rank", "low_rank", "block", "student_t", "mean_field_student_t", "mixture", or a family:
        the family over all latent variables when `latent_vars` is a list.
    rank : int, optional
        Of the low-rank family; default: see `klqp.LowRankNormal`.
    regularizers : dict or list, optional
        Losses to be added: expressions of one number in `Parameter` objects, or by parameter a callable that makes one
        of it.

    Raises
    ------
    TypeError, ValueError
        If a key is not a random variable, names clash, q and its variable do not fit, or data do not fit the model.

    Warns
    -----
    UnreachedLatentWarning
        If no data depend on a latent variable.
    """

    def __init__(
        self,
        latent_vars: LatentVars = None,
        data: Mapping[Any, Any] | None = None,
        *,
        q: str | Family | None = None,
        rank: int | None = None,
        regularizers: Mapping[Any, Any] | Sequence[Any] | None = None,
    ) -> None:
        factors = read_latent_vars(latent_vars, q, rank)
        given = read_data(data)
        self._problem = Problem(factors, given.observed, given.conditional, read_penalties(regularizers))
        self._feeds = given.feeds
        check_feeds(self._problem, self._feeds)
        for z in self._problem.latents:
            if z in given.observed or z in given.conditional:
                raise ValueError(f"{z.name!r} is both a latent variable and among the data")
        read_factors(factors)
        self._problem.check()
        sort_factors(self._problem)  # refuses a q that depends on itself

    @property
    def latent_vars(self) -> dict[Any, Any]:
        """The latent variables and their approximations."""
        return {f.latents[0] if len(f.latents) == 1 else f.latents: f.q for f in self._problem.factors}


class VariationalInference(Inference):
    """Minimises a loss over the parameters of q, and of the model, by stochastic gradients.

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
        return type(self).objective is not VariationalInference.objective

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

    def run(
        self,
        *,
        restart: bool = False,
        method: str = "auto",
        feeds: Feeds | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        """Fit q: with nothing else given to the best of its family, or by `n_iter` steps.

        A second call goes on from the q that the first one reached; the steps, `losses` and `history` count on.

        Parameters
        ----------
        restart : bool, default False
            Forget the q of an earlier run and start anew; parameters return to their first values.
        method : {"auto", "adam", "saa", "pathfinder", "bam"}, default "auto"
            "adam" takes steps of stochastic gradients until few nats remain: it finds their size, averages the
            iterates, and stops by itself. The others are for one ready-made family over all latent variables, full
            data and a log density with gradients, and `history` has one row for each of their iterations: "saa"
            maximises the ELBO over fixed scrambled Sobol draws, "pathfinder" takes the best Normal along paths to the
            modes, "bam" is batch and match, for q="full_rank". "auto" takes "saa" where it can and "adam" elsewhere, or
            where keywords are given that are about steps. With `n_iter`, `n_samples` or `optimizer` both take that
            optimizer's steps in that number. `estimator` says what was done. See docs/diagnostics.md.
        feeds : iterable of dict, or callable, optional
            Data by placeholder for each step: an iterable of feed_dicts, or a callable without arguments that returns
            one. They are taken one at a time, when a step (or an evaluation of the loss in between) needs them; the run
            ends where there are no more.
        n_iter : int, default 5000
            Steps of this run; the learning rate's schedule spans them.
        n_samples : int, default 10
            Draws a step, S.
        stop : StopRule, optional
            `klqp.Steps`, `klqp.TimeLimit`, `klqp.Plateau`, joined by ``|``; stops before `n_iter`, or is the budget of
            a run that stops by itself.
        optimizer : str or Optimizer, optional
            See `klqp.optimizers`; default ``Adam()``.
        entropy : {"auto", "adaptive", "sticking", "closed_form", "monte_carlo", "proximal"}
            Treatment of the entropy, docs/maths.md section 3. "auto" is "adaptive" for reparameterised gradients of
            Normal q's, "sticking" for those of others, and "monte_carlo" for score-function gradients.
        gradient : {"auto", "reparameterised", "score"}
            "auto" chooses for each factor of q: reparameterised gradients where the draws have them and the model gives
            its gradient, exact sums (see `enumerate`) or score functions elsewhere.
        baseline : {"mean", "optimal", "running", "none"}, default "mean"
            Control variate of score-function gradients: a leave-one-out mean over draws, the leave-one-out coefficient
            of least variance for each parameter (two sweeps for each draw), or an average over past steps, which
            n_samples=1 can do with; its first step only teaches it. Without one the noise is the greatest.
        enumerate : "auto", bool or list of random variables, default "auto"
            Discrete latent variables (with Bernoulli, Categorical or OneHotCategorical q's) to sum over exactly instead
            of drawing them. "auto" takes those where terms of the model are evaluated at most 16 times for it, True
            all, up to 4,096 evaluations; ValueError says why where it cannot be done.
        draws : {"mc", "antithetic", "sobol"}, default "mc"
            Kind of base draws.
        init_loc, init_scale : float, array, or dict by latent variable; default 0.0 and 0.1
            Location and standard deviations of the ready-made families to start from, in unconstrained coordinates. A q
            made of `Parameter` objects starts from their values.
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
        scale : dict, optional
            Factors of log densities by random variable: numbers, arrays of one for each event (0 masks one), or
            placeholders. Those of a latent variable hold for its log q, entropy and divergence too. With a minibatch of
            M out of N give ``{y: N / M}``.
        kl_scaling : dict, optional
            Factors of divergences from the prior by latent variable; these are then taken by formula.
        var_list : list of Parameter, optional
            The parameters to optimise; default: all that the model, q and the regularizers have.
        auto_transform : bool, default True
            Let a q on the reals stand for a variable on another space, through the transform of its support.
        logdir : path, optional
            Write TensorBoard summaries there (needs tensorboardX).
        log_timestamp : bool, default True
            ... in a folder named by the time.
        log_vars : list of Parameter, optional
            The parameters whose values and gradients are logged; default all.
        debug : bool, default False
            Stop at the first draw that is not finite, instead of leaving it out.

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
        PoorFitWarning
            Where "auto" looked for q by itself: if `diagnose` does not say "ok".
        """
        how = choose(method, options, feeds is not None)
        source = None if feeds is None else FeedSource(feeds, self._problem)
        earlier = None if restart else self._engine
        if restart and isinstance(self._engine, ModelEngine):
            with self._engine.first_parameters():
                self._prepare(options, earlier=None)
        else:
            self._prepare(options, earlier=None if restart else self._engine)
        self._source = source
        if how == "steps":
            self.resume()
            return
        again = earlier is not None
        if how == "adam" or not self._find_by(how, again):
            self._descend(again or options.get("init_scale") is not None)
        if method == "auto" and self._outcome is not None and not self._outcome.interrupted:
            self._warn_of_poor_fit()

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

    @property
    def estimator(self) -> str:
        """What gradient estimator was chosen for each factor of q, and why; or what other method found q."""
        engine = self._require_engine()
        if self._outcome is None:
            return engine.words
        if self._outcome.by_steps:
            return f"{engine.words}\n{self._outcome.words}"
        (factor,) = self._problem.factors
        return f"{factor.name}: {factor.describe()}; {self._outcome.words}"

    def gradient_noise(self, n_steps: int = 200, seed: Seed = None) -> dict[str, GradientNoise]:
        """Measure the signal and the noise in the gradient at the present parameters, which stay.

        Parameters
        ----------
        n_steps : int, default 200
            Gradients to compute, at least 2, with the run's settings and fresh noise; after 50 more from which adaptive
            estimators learn.
        seed : int, SeedSequence, Generator or None

        Returns
        -------
        dict of GradientNoise
            By the name of each factor of q, with fields ``signal``, ``noise`` and ``signal_to_noise``; of parameters
            that belong to none under ``"model"``.
        """
        if positive_int("n_steps", n_steps) < 2:
            raise ValueError("n_steps must be at least 2: one gradient has no spread")
        engine = self._require_engine()
        engine.require_feeds()
        engine.pull()
        settings = replace(engine.settings, key=as_key(seed))
        other = self._make_engine(settings, dict(self._own_normals), gives_gradient=engine.gives_gradient)
        if isinstance(other, ModelEngine) and isinstance(engine, ModelEngine):
            other.feed(engine.feeds)
        other.run.set_params(engine.run.params)
        if isinstance(other, ModelEngine):
            where = places(other.problem, other.compiled)
        else:
            where = {self._problem.latents[0].name: np.arange(len(other.run.params))}
        return measure(other.run, n_steps, where)

    def diagnose(self, n_draws: int = 1000, seed: Seed = None) -> Verdict:
        """Measure how far q, as it is now, can be relied on; print the result, or read its fields.

        Parameters
        ----------
        n_draws : int, default 1000
            Fresh draws of q, at least 100. Where they leave a doubt, because k_hat says that q is bad and the effective
            draws that it is good, or because these are 50 to 85 % (then 70 %), 4 (then 32) times as many are taken: of
            heavy tails few draws see nothing, and k_hat has a large error.
        seed : int, SeedSequence, Generator or None

        Returns
        -------
        Verdict
            Its ``word`` is "ok", "warn" or "fail", with ``reasons`` and the numbers in ``evidence``. It is never "ok"
            where k_hat is 0.7 or more, or the run did not converge.

        Raises
        ------
        ValueError
            If there are no latent variables, or fewer than 100 draws are asked for.
        """
        if positive_int("n_draws", n_draws) < 100:
            raise ValueError(f"n_draws must be at least 100, not {n_draws}")
        if not self._problem.latents:
            raise ValueError("there are no latent variables, so there is no q to diagnose")
        engine = self._require_engine()
        engine.require_feeds()
        engine.pull()
        found = self._evidence(engine, n_draws, as_key(seed))
        for times, sure_ess in MORE_DRAWS:
            if found.doubtful(sure_ess):
                found = self._evidence(engine, times * n_draws, as_key(seed))
        return judge(found)

    def linear_response(self, n_draws: int | None = None, seed: Seed = None) -> LinearResponse:
        """Return the Normal with q's location and the linear-response covariance, from gradients alone.

        It repairs variances that q is too simple for: where the posterior is a Normal its covariance is exact, for a
        mean-field q too. For one ready-made Normal family over all latent variables, at its optimum. See
        docs/diagnostics.md.

        Parameters
        ----------
        n_draws : int, optional
            Base draws, at least 16, over which the Hessian is averaged, rounded up to a power of two; default: those of
            the fit, or of the first stage of ``method="saa"``.
        seed : int, SeedSequence, Generator or None

        Returns
        -------
        LinearResponse
            A mapping from each latent variable, or its name, to its marginal, as `posterior` is; moments are computed
            when they are asked for, and its documentation says at what cost. The call itself takes 1,000 draws, to see
            whether q is an optimum, and one linear system.

        Raises
        ------
        RuntimeError
            If there is no run yet, or minus the ELBO has no positive curvature at q.
        TargetError
            If the log density is not finite at some draw of q.
        ValueError
            If q is not one Normal family, the log density has no gradient, or `n_draws` is too small.

        Warns
        -----
        PoorFitWarning
            If the run did not converge.
        """
        if n_draws is not None and positive_int("n_draws", n_draws) < 16:
            raise ValueError(f"n_draws must be at least 16, not {n_draws}")
        engine = self._require_engine()
        engine.require_feeds()
        engine.pull()
        view, key = flat_view(self._problem, engine), as_key(seed)
        if view is None or not is_normal(view.spec):
            raise ValueError(f"linear_response() needs one Normal family {_ALONE}")
        found = self._evidence(engine, _CONVERGENCE_DRAWS, key)
        if found.converged is False:
            message = f"the run did not converge ({found.stopped}): linear response holds at an optimum alone"
            warnings.warn(message, PoorFitWarning, stacklevel=2)
        n_fitted = self._outcome.n_draws if self._outcome is not None else None
        return respond(self._problem.latents, view, engine.run.solution, n_draws, n_fitted, key)

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

    def _evidence(self, engine: Engine | ModelEngine, n_draws: int, key: int) -> Evidence:
        view, params = flat_view(self._problem, engine), engine.run.solution
        approximation = self.posterior._approximation
        draws = fresh_draws(approximation, view, params, n_draws, key)
        check = check_gradients(view.spec, params, draws) if view is not None else None
        first, known = self.rejections["first"], self._known_of_q(approximation, view, params, draws, key)
        if self._outcome is not None:
            return evidence(draws, check, first_rejected=first, **known, **self._outcome.record(check))
        n_steps = engine.run.step_count - self._cycle[0]
        rising = still_rising(engine.run.trace["loss"][self._cycle[0] :])
        record: dict[str, Any] = {"stopped": _ended(n_steps, self.stop_reason)}
        record["converged"] = check.converged if check is not None else None if rising is None else not rising
        if rising:
            record["converged"] = False
            record["stopped"] += ", while the ELBO was still rising"
        if check is None:
            noise = self.gradient_noise(_NOISE_STEPS, seed=key)
            signal, power = (math.hypot(*(getattr(m, name) for m in noise.values())) for name in ("signal", "noise"))
            record["signal_to_noise"] = signal / power if power > 0 else math.inf
        return evidence(draws, check, first_rejected=first, **known, **record)

    @staticmethod
    def _known_of_q(
        approximation: Approximation, view: FlatView | None, params: Float64, draws: Draws, key: int
    ) -> dict[str, Any]:
        """Return what a verdict needs to know of q's family."""
        known: dict[str, Any] = {"family": approximation.family_name()}
        if view is not None and view.spec.components and draws.noise is not None:
            known["missing"] = missing_mass(view, params, draws.log_p, draws.noise, key)
        return known

    def _find_by(self, method: str, again: bool) -> bool:
        """Find q by a method without steps; return False where "auto" leaves it to steps.

        Raises
        ------
        ValueError
            If another method cannot fit this q.
        """
        engine = self._require_engine()
        engine.require_feeds()
        view = flat_view(self._problem, engine) if self._demand == Demand() else None
        if view is None:
            if method == "auto":
                return False
            raise ValueError(
                f"method={method!r} needs one Normal family (or Student-t, or mixture) {_ALONE}; use method='adam'"
            )
        start = Start(engine.run.params, again, chooses_rank=self._chooses_rank)
        if again and self._found is not None:
            start = replace(start, modes=self._found.modes, n_draws=(self._found.n_draws or 0) // 4)
        try:
            outcome = find(view, method, start, engine.settings.key, Budget.of(engine.settings.stop))
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

    def _descend(self, from_given: bool) -> None:
        """Find q by stochastic gradients that stop by themselves; `from_given`: q as it is may be the best start."""
        engine = self._require_engine()
        fed = self._feed_first(engine)
        engine.require_feeds()
        engine.pull()
        settings, run, first = engine.settings, engine.run, engine.run.step_count
        self._cycle = (first, MOST_STEPS)
        self._progress.start(MOST_STEPS, settings.n_print, settings.progress)
        rules = settings.stop.specs() if settings.stop is not None else []
        feed = fed if self._source is not None else None
        stepper = Stepper(run, rules, feed, self._observe, lambda: self._after_steps(engine), self._chunk())
        try:
            origin, improper = self._go_to_start(engine, from_given)
            outcome = descend(stepper, _metric(engine), settings.key, not origin, origin)
        except KeyboardInterrupt:  # before there was a start
            self._cycle, self.stop_reason = (first, run.step_count - first), "interrupted"
            self._warn_of_interrupt("interrupted before there was a new q; the one before was kept")
            return
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

    def _go_to_start(self, engine: Engine | ModelEngine, from_given: bool) -> tuple[str, str]:
        """Move q to the best start that the log density's gradients lead to.

        Returns where that is, in words, "" where it stays where it is; and along what the posterior is improper.
        """
        view = flat_view(self._problem, engine) if self._source is None and self._demand == Demand() else None
        if view is None or not is_normal(view.spec) or engine.settings.gradient == "score":
            return "", ""
        best, improper = start_of_steps(view, Start(engine.run.params, from_given), engine.settings.key)
        engine.run.set_params(best.params(view.spec))
        return best.origin, improper

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
        warnings.warn(message, InterruptedRunWarning, stacklevel=_users_level())

    def _warn_of_poor_fit(self) -> None:
        """Warn where the verdict is not "ok"; with one batch of the data at hand, only where it did not converge."""
        assert self._outcome is not None
        if not self._problem.latents or self._source is not None:
            if not self._outcome.converged:
                warnings.warn(
                    f"fail: {no_convergence(self._outcome.why, self._outcome.remaining)}",
                    PoorFitWarning,
                    stacklevel=_users_level(),
                )
            return
        verdict = self.diagnose(seed=self._require_engine().settings.key)
        if verdict.word != "ok":
            warnings.warn(f"{verdict.word}: {'; '.join(verdict.reasons)}", PoorFitWarning, stacklevel=_users_level())

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


def _users_level() -> int:
    """Return the stack level, as a caller's `warnings.warn` takes it, of the first frame outside klqp."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("klqp."):
        frame, level = frame.f_back, level + 1
    return level


def _ended(n_steps: int, reason: str | None) -> str:
    """Return in words how a run ended."""
    if reason == "steps":
        return f"it ended after {n_steps} steps"
    return f"it stopped after {n_steps} steps ({reason})" if reason else f"it has taken {n_steps} steps so far"


def _metric(engine: Engine | ModelEngine) -> Metric:
    """Return what the steps of an engine's run are measured in."""
    if isinstance(engine, ModelEngine):
        problem, layout = engine.problem, engine.compiled.layout
        return Metric(lambda params: model_units(problem, layout, params), is_location(layout))
    spec = engine.spec
    where = np.isin(np.arange(spec.n_params), locations_of(spec))
    return Metric(lambda params: family_units(spec, params), where)
