"""Optimizers: settings of the update rules that the C++ core runs.

Every optimizer minimises the loss (minus the ELBO) and takes these keywords beside its own:

learning_rate : float
    Step size before the schedule's factor.
schedule : {"exponential", "cosine", "constant"} or callable
    Factor on the learning rate over the run, see `klqp.schedules`.
clip_norm, clip_value : float, optional
    Clip the gradient to this Euclidean norm, or each coordinate to this size. Default: no clipping.
average : bool, default False
    Take the posterior from a polynomial average of the iterates, weight 9 / (t + 8) on the newest.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import ClassVar

from klqp import _core
from klqp.schedules import Schedule, as_schedule

__all__ = ["FTRL", "SGD", "Adadelta", "Adagrad", "Adam", "DoWG", "Momentum", "Optimizer", "RMSprop"]

_COMMON = ("learning_rate", "schedule", "clip_norm", "clip_value", "average")


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Optimizer:
    """What all optimizers share; not used by itself."""

    learning_rate: float = 0.1
    schedule: str | Schedule = "exponential"
    clip_norm: float | None = None
    clip_value: float | None = None
    average: bool = False

    core_name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        _check_range(self, "learning_rate", 0, math.inf)
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                _check_range(self, name, 0, math.inf)
        if not isinstance(self.average, bool):
            raise TypeError(f"average must be True or False, not {self.average!r}")
        as_schedule(self.schedule)

    # Written once: dataclass would compile them for every class, at 3 ms of the import of klqp.
    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in fields(self))})"

    def __eq__(self, other: object) -> bool:
        return self._settings() == other._settings() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._settings())

    def _settings(self) -> tuple[object, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))

    def fingerprint(self) -> str:
        """Return the settings as text that is the same in every process, also with a function as schedule."""
        named = callable(self.schedule) and not is_dataclass(self.schedule)
        schedule = getattr(self.schedule, "__qualname__", type(self.schedule).__name__) if named else self.schedule
        return repr(replace(self, schedule="constant")).replace("schedule='constant'", f"schedule={schedule!r}")

    def spec(self) -> _core.OptimizerSpec:
        """Return the update rule for the core."""
        own = {f.name: float(getattr(self, f.name)) for f in fields(self) if f.name not in _COMMON}
        return _core.OptimizerSpec(self.core_name, own)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1): steps of a running mean over a running size of the gradient.

    The size's memory is 100 steps, not the authors' 1000: the first gradients of a fit are often a thousand times the
    last ones, and until they are forgotten steps are far too short.
    """

    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8

    core_name: ClassVar[str] = "adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self, "beta1", 0, 1, low_included=True)
        _check_range(self, "beta2", 0, 1, low_included=True)
        _check_range(self, "epsilon", 0, math.inf)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent (Robbins & Monro 1951)."""

    learning_rate: float = 0.01

    core_name: ClassVar[str] = "sgd"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Momentum(Optimizer):
    """Gradient descent with classical or Nesterov momentum (Sutskever et al. 2013)."""

    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False

    core_name: ClassVar[str] = "momentum"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self, "momentum", 0, 1, low_included=True)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011): steps over the root of the sum of squared gradients."""

    learning_rate: float = 0.5
    initial_accumulator: float = 0.0
    epsilon: float = 1e-10

    core_name: ClassVar[str] = "adagrad"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self, "initial_accumulator", 0, math.inf, low_included=True)
        _check_range(self, "epsilon", 0, math.inf, low_included=True)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012): step sizes from a running size of past updates."""

    learning_rate: float = 1.0
    decay: float = 0.95
    epsilon: float = 1e-6

    core_name: ClassVar[str] = "adadelta"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self, "decay", 0, 1, low_included=True)
        _check_range(self, "epsilon", 0, math.inf)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012): steps over a running root mean square of the gradient."""

    learning_rate: float = 0.01
    decay: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-8

    core_name: ClassVar[str] = "rmsprop"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self, "decay", 0, 1, low_included=True)
        _check_range(self, "momentum", 0, 1, low_included=True)
        _check_range(self, "epsilon", 0, math.inf)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class FTRL(Optimizer):
    """FTRL-Proximal (McMahan et al. 2013, algorithm 1), started at the run's own start.

    `learning_rate` is the paper's alpha. `l1` and `l2` pull every parameter of q towards 0: leave them at 0 unless
    that is what you want.
    """

    learning_rate: float = 0.5
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 0.0

    core_name: ClassVar[str] = "ftrl"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta", "l1", "l2"):
            _check_range(self, name, 0, math.inf, low_included=True)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class DoWG(Optimizer):
    """DoWG (Khaled, Mishchenko & Jin 2023): gradient descent that finds its own step size.

    `learning_rate` multiplies the step and is 1 in the paper; `epsilon` sets the first distance,
    ``epsilon * (1 + |x0|)``.
    """

    learning_rate: float = 1.0
    schedule: str | Schedule = "constant"
    epsilon: float = 1e-6

    core_name: ClassVar[str] = "dowg"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self, "epsilon", 0, math.inf)


_BY_NAME: dict[str, Callable[[], Optimizer]] = {
    "adam": Adam,
    "sgd": SGD,
    "gradientdescent": SGD,
    "momentum": Momentum,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "rmsprop": RMSprop,
    "ftrl": FTRL,
    "dowg": DoWG,
}


def as_optimizer(optimizer: str | Optimizer | None) -> Optimizer:
    """Return the optimizer itself, the one of that name with its defaults, or Adam for None."""
    if optimizer is None:
        return Adam()
    if isinstance(optimizer, str):
        if optimizer not in _BY_NAME:
            raise ValueError(f"optimizer must be one of {sorted(_BY_NAME)} or an Optimizer, not {optimizer!r}")
        return _BY_NAME[optimizer]()
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a name or an Optimizer, not {type(optimizer).__name__}")
    return optimizer


def _check_range(owner: object, name: str, low: float, high: float, low_included: bool = False) -> None:
    value = getattr(owner, name)
    ok = isinstance(value, numbers.Real) and not isinstance(value, bool)
    ok = ok and value < high and (value > low or (low_included and value == low))
    if not ok:
        left = "[" if low_included else "("
        raise ValueError(f"{name} must be in {left}{low}, {high}), not {value!r}")
