"""Forms of problems: what is compiled once, and how a problem's own data enter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core, _native
from klqp._sobol import make_noise
from klqp.inference.engine import Engine
from klqp.inference.estimator import Demand, choose_estimator
from klqp.inference.klqp import KLqp
from klqp.inference.latents import Factor, LatentVars
from klqp.inference.many_data import ManyData, Problems
from klqp.inference.model_engine import ModelEngine
from klqp.inference.plan import Plan
from klqp.inference.problem import Problem
from klqp.inference.settings import RunOptions, Settings
from klqp.many_approximations import FlatApproximations, ManyApproximations, ModelApproximations
from klqp.model.log_density import LogDensity
from klqp.model.parameter import Placeholder
from klqp.model.random_variable import RandomVariable
from klqp.native import NativeLogDensity, capsule_of
from klqp.targets import coerce

__all__ = ["BatchForm", "Form", "ModelForm", "NativeForm"]

Float64 = npt.NDArray[np.float64]

_NOT_FOR_MANY = ("logdir", "log_vars", "debug")


class Form(ABC):
    """Problems that differ in their data alone.

    Attributes
    ----------
    n : int
    problems : ndarray (n,)
        Their numbers among all.
    settings : Settings
    shapes : dict
        The shapes of the latent variables, by name.
    """

    def __init__(
        self, latent_vars: LatentVars, data: ManyData, q: Any, rank: Any, options: RunOptions, problems: Any = None
    ) -> None:
        for name in _NOT_FOR_MANY:
            if options.get(name):
                raise ValueError(f"{name} is for single runs")
        self.n = data.n
        self.problems: Problems = np.arange(data.n) if problems is None else problems
        self._inference = KLqp(latent_vars, data.first(), q=q, rank=rank)
        self._own_normals: dict[RandomVariable, Factor] = {}
        self.settings = replace(Settings.read(options, self._inference._problem), progress=False)

    @property
    def latents(self) -> tuple[RandomVariable, ...]:
        """The latent variables."""
        return self._inference._problem.latents

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Their shapes by name."""
        return {z.name: z.shape for z in self.latents}

    @abstractmethod
    def approximations(self, params: Float64) -> ManyApproximations:
        """Return the q's with parameters (n, P)."""

    def _starts(self, of_seed: Callable[[int], Float64], seeds: npt.NDArray[np.uint64]) -> Float64:
        """Return the starts of the problems, one for all of them where the seed plays no part."""
        families = [f.family for f in self._inference._problem.factors if f.family is not None]
        if not any(family.spec(1).rank or family.spec(1).components for family in families):
            return of_seed(0)[None]
        return np.stack([of_seed(int(seed)) for seed in seeds])


class WorkerForm(Form):
    """Problems that threads work on one by one, each with an engine of its own.

    Attributes
    ----------
    reentrant : bool
        Whether several threads may do so; known after `workers`.
    """

    reentrant = False

    def workers(self, n_threads: int, seeds: npt.NDArray[np.uint64]) -> tuple[Any, ...]:
        """Return the form as the core takes it, with engines for some threads."""
        settings = replace(self.settings, n_threads=1)
        engines = [self._inference._make_engine(settings, self._own_normals)]
        self.reentrant = self._is_reentrant(engines[0])
        wanted = min(n_threads, self.n) if self.reentrant else 1
        engines += [self._inference._make_engine(settings, self._own_normals) for _ in range(1, wanted)]
        starts = self._starts(lambda seed: engines[0].start(replace(settings, key=seed)), seeds)
        self._keep(engines[0])
        return self.problems, [(engine.run, self._feeds(engine)) for engine in engines], starts

    def _is_reentrant(self, engine: Engine | ModelEngine) -> bool:
        densities = [e for e in self._inference._problem.model if isinstance(e, LogDensity)]
        return engine.run.native and all(_is_reentrant(e.fn) for e in densities)

    def _keep(self, engine: Engine | ModelEngine) -> None:
        """Keep what the approximations need of an engine; the engine itself is too large to be kept."""

    @abstractmethod
    def _feeds(self, engine: Any) -> list[_core.Feed]:
        """Return what gives an engine's run the data of a problem."""


def _is_reentrant(fn: Any) -> bool:
    capsule = capsule_of(fn)
    return capsule is None or bool(_native.logdensity_capsule(capsule)[2] & _native.REENTRANT)


class ModelForm(WorkerForm):
    """A model of random variables, with placeholders for what differs."""

    def __init__(
        self, latent_vars: LatentVars, data: ManyData, q: Any, rank: Any, options: RunOptions, problems: Any = None
    ) -> None:
        super().__init__(latent_vars, data, q, rank, options, problems)
        self._kept: tuple[Problem, Plan, dict[Placeholder, Float64]] | None = None
        self._data = data
        data.check(self._inference._problem)

    def _feeds(self, engine: Any) -> list[_core.Feed]:
        return engine.compiled.feeds(self._data.by_problem) if isinstance(engine, ModelEngine) else []

    def approximations(self, params: Float64) -> ManyApproximations:
        """Return the q's with parameters (n, P)."""
        if self._kept is None:  # its turn never came
            self._keep(self._inference._make_engine(self.settings, self._own_normals))
        if self._kept is not None:
            problem, plan, feeds = self._kept
            return ModelApproximations(problem, plan, params, feeds, self._data.by_problem)
        flat, family = self._inference._problem.flat, self._inference._problem.factors[0].family
        assert flat is not None
        assert family is not None
        return FlatApproximations([flat] * self.n, family, params, self.settings.dtype)

    def _keep(self, engine: Engine | ModelEngine) -> None:
        if isinstance(engine, ModelEngine):
            self._kept = (engine.problem, engine.plan, engine.feeds)


class NativeForm(WorkerForm):
    """A native log density with one address of user data for each problem."""

    def __init__(
        self,
        fn: Any,
        dim: int,
        user_data: Sequence[Any] | None,
        n: int | None,
        q: Any,
        rank: Any,
        options: RunOptions,
    ) -> None:
        if user_data is None:
            raise TypeError("a native log density needs user_data: an address for each problem")
        if isinstance(user_data, (str, bytes)) or not hasattr(user_data, "__len__"):
            raise TypeError(f"user_data must be a sequence of addresses, not {type(user_data).__name__}")
        if n is not None and n != len(user_data):
            raise ValueError(f"n_problems is {n}, but user_data has {len(user_data)} addresses")
        if len(user_data) == 0:
            raise ValueError("user_data has no addresses: there must be one for each problem")
        reentrant = _is_reentrant(fn)
        functions = [NativeLogDensity(fn, user_data=one, reentrant=reentrant) for one in user_data]
        self._densities = [LogDensity(function, shape=dim) for function in functions]
        super().__init__([self._densities[0]], ManyData(len(user_data)), q, rank, options)
        self._addresses = [_native.logdensity_capsule(f.__klqp_logdensity__())[1] for f in functions]

    def _feeds(self, engine: Any) -> list[_core.Feed]:
        return [engine.user_data_feed(self._addresses)]

    def approximations(self, params: Float64) -> ManyApproximations:
        """Return the q's with parameters (n, P)."""
        family = self._inference._problem.factors[0].family
        assert family is not None
        return FlatApproximations(self._densities, family, params, self.settings.dtype)


class BatchForm(Form):
    """A Python log density of many problems at once."""

    def __init__(self, fn: Any, dim: int, n: int, q: Any, rank: Any, options: RunOptions) -> None:
        self._fn = fn
        self._densities = [LogDensity(OneOfMany(fn, b), shape=dim) for b in range(n)]
        super().__init__([self._densities[0]], ManyData(n), q, rank, options)
        family = self._inference._problem.factors[0].family
        assert family is not None
        self._choice = choose_estimator(self.settings, Demand(gradient="reparameterised"), True, family.spec(dim))

    def lockstep(self, seeds: npt.NDArray[np.uint64], plan: _core.ManyPlan) -> dict[str, Any]:
        """Run all problems, whose seeds these are, and return the core's results."""
        s, factor = self.settings, self._inference._problem.factors[0]
        z = self._densities[0]
        assert factor.family is not None
        spec = factor.family.spec(z.size)
        loc, scale = s.start_of("init_loc", z, z.size), s.start_of("init_scale", z, z.size)
        noise = make_noise(s.draws, s.n_samples, spec.noise_dim, s.key, self._choice.n_groups)
        fn = self._fn if s.dtype == np.float64 else _Converted(self._fn, s.dtype)
        return _core.run_lockstep(
            fn,
            coerce,
            spec,
            self._choice.spec(),
            noise,
            s.optimizer.spec(),
            self._starts(lambda seed: spec.start(loc, scale, seed), seeds),
            plan,
        )

    def approximations(self, params: Float64) -> ManyApproximations:
        """Return the q's with parameters (n, P)."""
        family = self._inference._problem.factors[0].family
        assert family is not None
        return FlatApproximations(self._densities, family, params, self.settings.dtype)


class OneOfMany:
    """A log density of many problems as that of one, for its ordinary posterior."""

    def __init__(self, fn: Any, problem: int) -> None:
        self._fn, self._problem = fn, problem

    def __call__(self, z: Float64) -> tuple[Any, Any]:
        """Return log densities (S,) and gradients (S, D)."""
        logp, grad = self._fn(z[None], np.array([self._problem]))
        return np.asarray(logp)[0], np.asarray(grad)[0]


class _Converted:
    """Calls a log density with points of another dtype."""

    def __init__(self, fn: Any, dtype: npt.DTypeLike) -> None:
        self._fn, self._dtype = fn, dtype

    def __call__(self, z: Float64, problems: Problems) -> Any:
        return self._fn(z.astype(self._dtype), problems)
