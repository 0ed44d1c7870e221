"""What a case is: sizes and settings, and functions for its data, its twin and its klqp version."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

INITIAL_SCALE = 0.1  # of every q, at location 0


@dataclass(frozen=True)
class Case:
    """A model to be timed.

    Attributes
    ----------
    name : str
    n_samples : int
        Draws a step, S.
    timed_steps : int
        Steps of a timed fit.
    checked_fits : int
        The fit whose loss is compared has this many times the timed steps.
    learning_rate : float
        Of Adam, constant.
    data : callable
        ``data() -> dict`` of arrays; the same at each call.
    twin : callable
        ``twin() -> Twin``; NumPyro is imported inside.
    model : callable
        ``model(data) -> Model``; klqp's random variables.
    edward_ms : float, optional
        Milliseconds of a step of Edward's KLqp, TensorFlow 1.5 on two cores of another machine.
    tolerance : float, optional
        How far the losses of two fits may be apart, relative; None where fits end in different optima.
    small : bool
        Whether it runs with --quick.
    """

    name: str
    n_samples: int
    timed_steps: int
    checked_fits: int
    learning_rate: float
    data: Callable[[], dict[str, Any]]
    twin: Callable[[], "Twin"]
    model: Callable[[dict[str, Any]], "Model"]
    edward_ms: float | None = None
    tolerance: float | None = 0.01
    small: bool = True


@dataclass(frozen=True)
class Twin:
    """A NumPyro model.

    Attributes
    ----------
    model : callable
        ``model(data)``, with the arrays of the case.
    latents : dict of str to tuple
        Shapes of the latent variables by site; the guide is made from them.
    select : callable, optional
        ``select(key, data) -> data`` of one step, for minibatches.
    """

    model: Callable[[dict[str, Any]], None]
    latents: dict[str, tuple[int, ...]]
    select: Callable[[Any, dict[str, Any]], dict[str, Any]] | None = None


@dataclass(frozen=True)
class Model:
    """A klqp model.

    Attributes
    ----------
    latents : list
        Random variables.
    observed : dict
        Observed values by random variable.
    scale : dict, optional
        Factors on log densities by random variable.
    feed : callable, optional
        ``feed(rng) -> feed_dict`` of one step, for minibatches.
    """

    latents: list
    observed: dict
    scale: dict | None = None
    feed: Callable[[Any], dict] | None = None
