"""VariationalInference: a fit in one call, and what can be said of it."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from klqp._checks import positive_int
from klqp._seeds import Seed, as_key
from klqp.approximation import Approximation
from klqp.errors import PoorFitWarning
from klqp.family_parts import is_normal
from klqp.inference.auto.budget import Budget
from klqp.inference.auto.choice import choose
from klqp.inference.automatic import AutomaticRuns
from klqp.inference.coverage import missing_mass
from klqp.inference.diagnosis import Draws, check_gradients, evidence, fresh_draws, still_rising
from klqp.inference.engine import Engine
from klqp.inference.feeds import Feeds, FeedSource
from klqp.inference.flat_view import ALONE, FlatView, flat_view
from klqp.inference.gradient_noise import GradientNoise, measure, places
from klqp.inference.inference import Inference
from klqp.inference.model_engine import ModelEngine
from klqp.inference.runs import users_level
from klqp.inference.settings import RunOptions
from klqp.inference.verdict import MORE_DRAWS, Evidence, Verdict, judge, no_convergence

if TYPE_CHECKING:
    from klqp.linear_response import LinearResponse

__all__ = ["Inference", "VariationalInference"]

Float64 = npt.NDArray[np.float64]

_CONVERGENCE_DRAWS = 1000  # with which `linear_response` looks whether q is an optimum
_NOISE_STEPS = 20  # gradients from which `diagnose` takes their signal and noise


class VariationalInference(AutomaticRuns):
    """Minimises a loss over the parameters of q, and of the model, by stochastic gradients.

    The steps of `run` can be taken by hand: ``initialize``, any number of ``update`` with ``print_progress``, and
    ``finalize``. Takes the parameters of `Inference`.
    """

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
        again, budget = earlier is not None, Budget.of(self._require_engine().settings.stop)
        if how == "adam" or not self._find_by(how, again, budget):
            self._descend(again or options.get("init_scale") is not None, budget)
        if method == "auto" and self._outcome is not None and not self._outcome.interrupted:
            self._warn_of_poor_fit()

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
        from klqp.inference.response import respond  # slow to import

        if n_draws is not None and positive_int("n_draws", n_draws) < 16:
            raise ValueError(f"n_draws must be at least 16, not {n_draws}")
        engine = self._require_engine()
        engine.require_feeds()
        engine.pull()
        view, key = flat_view(self._problem, engine), as_key(seed)
        if view is None or not is_normal(view.spec):
            raise ValueError(f"linear_response() needs one Normal family {ALONE}")
        found = self._evidence(engine, _CONVERGENCE_DRAWS, key)
        if found.converged is False:
            message = f"the run did not converge ({found.stopped}): linear response holds at an optimum alone"
            warnings.warn(message, PoorFitWarning, stacklevel=2)
        n_fitted = self._outcome.n_draws if self._outcome is not None else None
        return respond(self._problem.latents, view, engine.run.solution, n_draws, n_fitted, key)

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

    def _warn_of_poor_fit(self) -> None:
        """Warn where the verdict is not "ok"; with one batch of the data at hand, only where it did not converge."""
        assert self._outcome is not None
        if not self._problem.latents or self._source is not None:
            if not self._outcome.converged:
                warnings.warn(
                    f"fail: {no_convergence(self._outcome.why, self._outcome.remaining)}",
                    PoorFitWarning,
                    stacklevel=users_level(),
                )
            return
        verdict = self.diagnose(seed=self._require_engine().settings.key)
        if verdict.word != "ok":
            warnings.warn(f"{verdict.word}: {'; '.join(verdict.reasons)}", PoorFitWarning, stacklevel=users_level())


def _ended(n_steps: int, reason: str | None) -> str:
    """Return in words how a run ended."""
    if reason == "steps":
        return f"it ended after {n_steps} steps"
    return f"it stopped after {n_steps} steps ({reason})" if reason else f"it has taken {n_steps} steps so far"
