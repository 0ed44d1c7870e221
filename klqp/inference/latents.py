"""Reading of the latent variables an inference is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from klqp.families import Family, as_family
from klqp.model.log_density import LogDensity, RandomVariable

LatentVars: TypeAlias = "Mapping[Any, Family] | Iterable[RandomVariable] | None"


def read_latent_vars(latent_vars: LatentVars, q: str | Family | None, rank: int | None) -> tuple[LogDensity, Family]:
    """Return the latent variable and its family.

    Raises
    ------
    TypeError
        If a latent variable is not a random variable, or an approximation not a family.
    ValueError
        If there is not exactly one latent variable, or `q` or `rank` contradict the dict.
    """
    if isinstance(latent_vars, Mapping):
        if q is not None or rank is not None:
            raise ValueError("q and rank go with a list of latent variables; a dict names its families itself")
        latents = [z for key in latent_vars for z in (key if isinstance(key, tuple) else (key,))]
        for given in latent_vars.values():
            if not isinstance(given, Family):
                raise TypeError(f"the approximation must be a family such as klqp.MeanFieldNormal, not {given!r}")
        latent = _only(latents)
        return latent, as_family(next(iter(latent_vars.values())), (latent,))
    if isinstance(latent_vars, RandomVariable):
        raise TypeError("latent_vars must be a list or a dict: write [z]")
    if latent_vars is not None and not isinstance(latent_vars, Iterable):
        raise TypeError(f"latent_vars must be a list or a dict, not {type(latent_vars).__name__}")
    latent = _only(list(latent_vars or ()))
    return latent, as_family("mean_field" if q is None else q, (latent,), rank)


def _only(latents: list[Any]) -> LogDensity:
    for z in latents:
        if not isinstance(z, LogDensity):
            raise TypeError(f"latent variables must be klqp.LogDensity, not {type(z).__name__}")
    if len(latents) != 1:
        raise ValueError(
            f"there must be one latent variable, not {len(latents)}: write the joint log density of several as one"
        )
    latent: LogDensity = latents[0]
    return latent
