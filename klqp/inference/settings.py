"""Settings of a run: read from keywords, checked once, with every default stated here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from klqp._checks import positive_int
from klqp._seeds import Seed, as_key
from klqp._threads import get_num_threads
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
    draws: str
    init_loc: npt.ArrayLike
    init_scale: npt.ArrayLike
    seed: Seed
    n_threads: int | None
    dtype: npt.DTypeLike
    progress: bool | None
    kl_scaling: None


DEFAULTS: RunOptions = {
    "n_iter": 5000,
    "n_samples": 10,
    "n_print": None,
    "stop": None,
    "optimizer": None,
    "entropy": "auto",
    "gradient": "auto",
    "baseline": "mean",
    "draws": "mc",
    "init_loc": 0.0,
    "init_scale": 0.1,
    "seed": None,
    "n_threads": None,
    "dtype": np.float64,
    "progress": None,
    "kl_scaling": None,
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
    draws: str
    init_loc: Float64  # flat
    init_scale: Float64  # flat
    key: int  # of the noise
    n_threads: int
    dtype: np.dtype[Any]
    progress: bool | None

    @classmethod
    def read(cls, options: Mapping[str, Any], shape: tuple[int, ...]) -> Settings:
        """Return the settings for keywords given by the user, for a latent variable of that shape.

        Raises
        ------
        TypeError, ValueError
            If a keyword is unknown or its value wrong.
        """
        for name in options:
            if name not in DEFAULTS:
                raise TypeError(f"unknown keyword {name!r}; there are {', '.join(DEFAULTS)}")
        asked: dict[str, Any] = {**DEFAULTS, **options}
        if asked["kl_scaling"] is not None:
            raise TypeError("kl_scaling is for closed-form divergences, and a log density has none")
        n_iter, n_threads = positive_int("n_iter", asked["n_iter"]), asked["n_threads"]
        return cls(
            n_iter=n_iter,
            n_samples=positive_int("n_samples", asked["n_samples"]),
            n_print=_n_print(asked["n_print"], n_iter),
            stop=_stop(asked["stop"]),
            optimizer=as_optimizer(asked["optimizer"]),
            entropy=asked["entropy"],
            gradient=_one_of("gradient", asked["gradient"], ("auto", "reparameterised", "score")),
            baseline=_one_of("baseline", asked["baseline"], ("mean", "optimal")),
            draws=_one_of("draws", asked["draws"], ("mc", "antithetic", "sobol")),
            init_loc=_start("init_loc", asked["init_loc"], shape),
            init_scale=_start("init_scale", asked["init_scale"], shape, positive=True),
            key=as_key(asked["seed"]),
            n_threads=get_num_threads() if n_threads is None else positive_int("n_threads", n_threads),
            dtype=check_dtype(asked["dtype"]),
            progress=_progress(asked["progress"]),
        )


def _n_print(value: Any, n_iter: int) -> int:
    if value is None:
        return max(1, n_iter // 100)
    return 0 if value == 0 else positive_int("n_print", value)


def _stop(rule: Any) -> StopRule | None:
    if rule is not None and not isinstance(rule, StopRule):
        raise TypeError(f"stop must be a stop rule such as klqp.Plateau(), not {type(rule).__name__}")
    return rule


def _progress(value: Any) -> bool | None:
    if value is not None and not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"progress must be True, False or None, not {value!r}")
    return None if value is None else bool(value)


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return str(value)


def _start(name: str, value: Any, shape: tuple[int, ...], positive: bool = False) -> Float64:
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
