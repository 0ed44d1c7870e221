"""Settings of a run: read from keywords, checked once, with every default stated here."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._checks import positive_int
from klqp._seeds import Seed, as_key
from klqp._threads import get_num_threads
from klqp.inference.problem import Problem, require_divergences
from klqp.model.expression import as_data
from klqp.model.parameter import Parameter, Placeholder
from klqp.model.random_variable import RandomVariable
from klqp.optimizers import Optimizer, as_optimizer
from klqp.stopping import StopRule
from klqp.targets import check_dtype

__all__ = ["DEFAULTS", "RunOptions", "Settings"]

Float64 = npt.NDArray[np.float64]


class RunOptions(TypedDict, total=False):
    """The keywords of ``initialize`` and ``run``; `VariationalInference.run` says what they mean."""

    n_iter: int
    n_samples: int
    n_print: int | None
    stop: StopRule | None
    optimizer: str | Optimizer | None
    entropy: str
    gradient: str
    baseline: str
    enumerate: bool | str | Sequence[Any]
    draws: str
    init_loc: npt.ArrayLike
    init_scale: npt.ArrayLike
    seed: Seed
    n_threads: int | None
    dtype: npt.DTypeLike
    progress: bool | None
    scale: Mapping[Any, Any] | None
    kl_scaling: Mapping[Any, Any] | None
    var_list: Sequence[Any] | None
    auto_transform: bool
    logdir: str | None
    log_timestamp: bool
    log_vars: Sequence[Any] | None
    debug: bool


DEFAULTS: RunOptions = {
    "n_iter": 5000,
    "n_samples": 10,
    "n_print": None,
    "stop": None,
    "optimizer": None,
    "entropy": "auto",
    "gradient": "auto",
    "baseline": "mean",
    "enumerate": "auto",
    "draws": "mc",
    "init_loc": 0.0,
    "init_scale": 0.1,
    "seed": None,
    "n_threads": None,
    "dtype": np.float64,
    "progress": None,
    "scale": None,
    "kl_scaling": None,
    "var_list": None,
    "auto_transform": True,
    "logdir": None,
    "log_timestamp": True,
    "log_vars": None,
    "debug": False,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checked settings with nothing left to be decided; see `VariationalInference.run`."""

    n_iter: int
    n_samples: int
    n_print: int
    stop: StopRule | None
    optimizer: Optimizer
    entropy: str
    gradient: str
    baseline: str
    enumerate: bool | str | tuple[RandomVariable, ...]
    draws: str
    starts: Mapping[tuple[str, RandomVariable], Float64]  # flat, by keyword and latent variable
    key: int  # of the noise
    n_threads: int
    dtype: np.dtype[Any]
    progress: bool | None
    scale: Mapping[RandomVariable, Any] = field(default_factory=dict)
    kl_scaling: Mapping[RandomVariable, Float64] = field(default_factory=dict)
    var_list: tuple[Parameter, ...] | None = None
    auto_transform: bool = True
    logdir: str | None = None
    log_timestamp: bool = True
    log_vars: tuple[Parameter, ...] | None = None
    debug: bool = False

    def start_of(self, which: str, z: RandomVariable, n: int) -> Float64:
        """Return ``init_loc`` or ``init_scale`` of a latent variable with n unconstrained coordinates."""
        given = self.starts[which, z]
        return np.full(n, given[0]) if given.size == 1 else given

    def run_config(self) -> _core.RunConfig:
        """Return what the core's run needs of the settings beside its parts."""
        rule = self.optimizer
        return _core.RunConfig(
            clip_value=math.inf if rule.clip_value is None else rule.clip_value,
            clip_norm=math.inf if rule.clip_norm is None else rule.clip_norm,
            average=rule.average,
            n_threads=self.n_threads,
            n_cpus=get_num_threads(),
        )

    @classmethod
    def read(cls, options: Mapping[str, Any], problem: Problem) -> Settings:
        """Return the settings for keywords given by the user.

        Raises
        ------
        TypeError, ValueError
            If a keyword is unknown or its value wrong.
        """
        for name in options:
            if name not in DEFAULTS:
                raise TypeError(f"unknown keyword {name!r}; there are {', '.join(DEFAULTS)}")
        asked: dict[str, Any] = {**DEFAULTS, **options}
        latents = problem.latents
        known = (*latents, *problem.observed, *problem.conditional)
        kl_scaling = _by_variable("kl_scaling", asked["kl_scaling"], latents)
        require_divergences(problem, kl_scaling, "kl_scaling")
        log_vars = _parameters("log_vars", asked["log_vars"], problem)
        _check_logging(asked["logdir"], log_vars)
        for name in ("init_loc", "init_scale"):
            _check_start_keys(name, asked[name], latents)
        n_iter, n_threads = positive_int("n_iter", asked["n_iter"]), asked["n_threads"]
        return cls(
            n_iter=n_iter,
            n_samples=positive_int("n_samples", asked["n_samples"]),
            n_print=_n_print(asked["n_print"], n_iter),
            stop=_stop(asked["stop"]),
            optimizer=as_optimizer(asked["optimizer"]),
            entropy=asked["entropy"],
            gradient=_one_of("gradient", asked["gradient"], ("auto", "reparameterised", "score")),
            baseline=_one_of("baseline", asked["baseline"], ("mean", "optimal", "running", "none")),
            enumerate=_enumerate(asked["enumerate"], latents),
            draws=_one_of("draws", asked["draws"], ("mc", "antithetic", "sobol")),
            starts={
                (name, z): _start(name, _own(name, asked[name], z), z, positive=name == "init_scale")
                for name in ("init_loc", "init_scale")
                for z in latents
            },
            key=as_key(asked["seed"]),
            n_threads=get_num_threads() if n_threads is None else positive_int("n_threads", n_threads),
            dtype=check_dtype(asked["dtype"]),
            progress=_progress(asked["progress"]),
            scale=_by_variable("scale", asked["scale"], known),
            kl_scaling=kl_scaling,
            var_list=_var_list(asked["var_list"], problem),
            auto_transform=_boolean("auto_transform", asked["auto_transform"]),
            logdir=asked["logdir"],
            log_timestamp=_boolean("log_timestamp", asked["log_timestamp"]),
            log_vars=log_vars,
            debug=_boolean("debug", asked["debug"]),
        )


def _n_print(value: Any, n_iter: int) -> int:
    if value is None:
        return max(1, n_iter // 100)
    return 0 if value == 0 else positive_int("n_print", value)


def _enumerate(value: Any, latents: Sequence[RandomVariable]) -> bool | str | tuple[RandomVariable, ...]:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str) and value == "auto":
        return value
    given = tuple(value) if isinstance(value, (list, tuple)) else None
    if given is None:
        raise TypeError(f"enumerate must be True, False, 'auto' or a list of latent variables, not {value!r}")
    for z in given:
        if not any(z is x for x in latents):
            raise ValueError(f"enumerate holds {z!r}, which is none of {[x.name for x in latents]}")
    return given or False


def _stop(rule: Any) -> StopRule | None:
    if rule is not None and not isinstance(rule, StopRule):
        raise TypeError(f"stop must be a stop rule such as klqp.Plateau(), not {type(rule).__name__}")
    return rule


def _progress(value: Any) -> bool | None:
    if value is not None and not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"progress must be True, False or None, not {value!r}")
    return None if value is None else bool(value)


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return str(value)


def _check_start_keys(name: str, value: Any, latents: Sequence[RandomVariable]) -> None:
    for key in value if isinstance(value, Mapping) else ():
        if not any(key is z or (isinstance(key, str) and key == z.name) for z in latents):
            raise ValueError(f"{name} has the key {key!r}, which is none of {[z.name for z in latents]}")


def _own(name: str, value: Any, z: RandomVariable) -> Any:
    """Return what a setting by variable says of one, or the setting itself."""
    if not isinstance(value, Mapping):
        return value
    return next((v for key, v in value.items() if key is z or (isinstance(key, str) and key == z.name)), DEFAULTS[name])  # type: ignore[literal-required]


def _start(name: str, value: Any, z: RandomVariable, positive: bool = False) -> Float64:
    shape = z.shape if z.space.bijector in ("identity", None) else (z.space.transform(z.shape).n_unconstrained,)
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged lists
        raise ValueError(f"{name} must be a number or have shape {shape}, but it is ragged: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, but its dtype is {array.dtype}")
    array = array.astype(np.float64)
    try:
        full = np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} must be a number or have shape {shape}, but it has shape {array.shape}") from None
    bad = full[~(np.isfinite(full) & (full > 0 if positive else True))]
    if bad.size:
        raise ValueError(f"{name} must be finite{' and positive' if positive else ''}, not {bad[0]}")
    return full.ravel().copy()


def _by_variable(name: str, value: Any, known: Sequence[RandomVariable]) -> dict[RandomVariable, Any]:
    """Return factors by random variable: arrays, or placeholders for them."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict by random variable, not {type(value).__name__}")
    out: dict[RandomVariable, Any] = {}
    for key, factor in value.items():
        if not isinstance(key, RandomVariable) or key not in known:
            raise ValueError(f"{name} has the key {key!r}, which is none of {[z.name for z in known]}")
        batch = getattr(key, "batch_shape", ())
        if isinstance(factor, Placeholder):
            if factor.shape not in ((), batch):
                raise ValueError(
                    f"{name} of {key.name!r} must be one number or have shape {batch}, but the placeholder has "
                    f"{factor.shape}"
                )
            out[key] = factor
            continue
        array = as_data(factor, f"{name} of {key.name!r}")
        bad = array[~(np.isfinite(array) & (array >= 0))]
        if bad.size:
            raise ValueError(f"{name} of {key.name!r} must be finite and at least 0, not {bad[0]}")
        try:
            array = array.reshape(()) if array.size == 1 else np.broadcast_to(array, batch)
        except ValueError:
            raise ValueError(
                f"{name} of {key.name!r} must be one number or have shape {batch}, but it has shape {array.shape}"
            ) from None
        out[key] = array.copy()
    return out


def _parameters(name: str, value: Any, problem: Problem) -> tuple[Parameter, ...] | None:
    if value is None:
        return None
    if not isinstance(value, Iterable) or isinstance(value, (str, Parameter)):
        raise TypeError(f"{name} must be a list of klqp.Parameter, not {type(value).__name__}")
    given, known = tuple(value), problem.parameters()
    for p in given:
        if not isinstance(p, Parameter) or p not in known:
            raise ValueError(f"{name} must hold parameters of this inference, not {p!r}")
    return given


def _var_list(value: Any, problem: Problem) -> tuple[Parameter, ...] | None:
    given = _parameters("var_list", value, problem)
    # A ready-made family has parameters of its own, which var_list does not name.
    if given == () and not any(factor.family for factor in problem.factors):
        raise ValueError("var_list is empty, so there is nothing to optimise: leave it out to optimise all parameters")
    return given


def _check_logging(logdir: Any, log_vars: tuple[Parameter, ...] | None) -> None:
    if logdir is not None and not isinstance(logdir, (str, os.PathLike)):
        raise TypeError(f"logdir must be a path, not {logdir!r}")
    if log_vars and logdir is None:
        raise ValueError("log_vars says what to log: give logdir too")
