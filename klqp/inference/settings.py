"""Settings of a run: read from keywords, checked once, with every default stated here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from klqp._seeds import Seed, as_key
from klqp._threads import check_num_threads, get_num_threads
from klqp.optimizers import Optimizer, as_optimizer
from klqp.stopping import StopRule
from klqp.targets import check_dtype

__all__ = ["RunOptions", "Settings"]


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
    draws: str
    init_loc: npt.ArrayLike
    init_scale: npt.ArrayLike
    seed: Seed
    n_threads: int | None
    dtype: npt.DTypeLike
    progress: bool | None
    kl_scaling: None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checked settings; see `VariationalInference.run`."""

    n_iter: int = 1000
    n_samples: int = 10
    n_print: int | None = None
    stop: StopRule | None = None
    optimizer: str | Optimizer | None = None
    entropy: str = "auto"
    gradient: str = "auto"
    baseline: str = "mean"
    draws: str = "mc"
    init_loc: Any = 0.0
    init_scale: Any = 1.0
    seed: Seed = None
    n_threads: int | None = None
    dtype: Any = np.float64
    progress: bool | None = None
    kl_scaling: None = None

    @classmethod
    def read(cls, options: Mapping[str, Any], shape: tuple[int, ...]) -> Settings:
        """Return the settings for keywords given by the user, with nothing left to be decided.

        `shape` is that of the latent variable.
        """
        names = [f.name for f in fields(cls)]
        for name in options:
            if name not in names:
                raise TypeError(f"unknown keyword {name!r}; there are {', '.join(names)}")
        asked = cls(**options)
        if asked.kl_scaling is not None:
            raise TypeError("kl_scaling is for closed-form divergences, and a log density has none")
        n_iter = _positive("n_iter", asked.n_iter)
        return cls(
            n_iter=n_iter,
            n_samples=_positive("n_samples", asked.n_samples),
            n_print=_n_print(asked.n_print, n_iter),
            stop=_stop(asked.stop),
            optimizer=as_optimizer(asked.optimizer),
            entropy=asked.entropy,
            gradient=_one_of("gradient", asked.gradient, ("auto", "reparameterised", "score")),
            baseline=_one_of("baseline", asked.baseline, ("mean", "optimal")),
            draws=_one_of("draws", asked.draws, ("mc", "antithetic", "sobol")),
            init_loc=_start("init_loc", asked.init_loc, shape),
            init_scale=_start("init_scale", asked.init_scale, shape, positive=True),
            seed=as_key(asked.seed),
            n_threads=get_num_threads() if asked.n_threads is None else check_num_threads(asked.n_threads),
            dtype=check_dtype(asked.dtype),
            progress=asked.progress,
        )

    @property
    def key(self) -> int:
        """The seed as a 64-bit key."""
        return as_key(self.seed)

    @property
    def rule(self) -> Optimizer:
        """The optimizer."""
        return as_optimizer(self.optimizer)


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value.__index__() < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return int(value.__index__())


def _n_print(value: Any, n_iter: int) -> int:
    if value is None:
        return max(1, n_iter // 100)
    return 0 if value == 0 else _positive("n_print", value)


def _stop(rule: Any) -> StopRule | None:
    if rule is not None and not isinstance(rule, StopRule):
        raise TypeError(f"stop must be a stop rule such as klqp.Plateau(), not {type(rule).__name__}")
    return rule


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return str(value)


def _start(name: str, value: Any, shape: tuple[int, ...], positive: bool = False) -> npt.NDArray[np.float64]:
    array = np.asarray(value, np.float64)
    try:
        full = np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} must be a number or have shape {shape}, but it has shape {array.shape}") from None
    if not np.all(np.isfinite(full)) or (positive and not np.all(full > 0)):
        raise ValueError(f"{name} must be finite{' and positive' if positive else ''}")
    return full.ravel().copy()
