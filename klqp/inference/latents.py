"""Reading of the latent variables an inference is given: the factors of q."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from klqp.families import Family, as_family
from klqp.model.distributions.categorical import Categorical, OneHotCategorical
from klqp.model.distributions.discrete import Bernoulli
from klqp.model.parameter import Parameter
from klqp.model.random_variable import RandomVariable

__all__ = ["Factor", "LatentVars", "read_latent_vars"]

LatentVars: TypeAlias = "Mapping[Any, Family | RandomVariable] | Iterable[RandomVariable] | None"


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor of q: a ready-made family over some latent variables, or a random variable in the place of one.

    `stands_in` marks the normal variables that take the place of a ready-made family, see `klqp.inference.normals`.
    """

    latents: tuple[RandomVariable, ...]
    q: Family | RandomVariable
    stands_in: bool = False

    @property
    def name(self) -> str:
        """Names of its variables."""
        return ", ".join(z.name for z in self.latents)

    @property
    def family(self) -> Family | None:
        """The ready-made family, if it is one."""
        return self.q if isinstance(self.q, Family) else None

    def describe(self) -> str:
        """Return q in words."""
        return self.q.describe() if isinstance(self.q, Family) else f"{type(self.q).__name__} {self.q.name!r}"


def read_latent_vars(latent_vars: LatentVars, q: str | Family | None, rank: int | None) -> tuple[Factor, ...]:
    """Return the factors of q.

    Raises
    ------
    TypeError
        If a latent variable is not a random variable, or an approximation neither a family nor a random variable.
    ValueError
        If a variable or a name occurs twice, shapes differ, or `q` or `rank` contradict the dict.
    """
    if isinstance(latent_vars, Mapping):
        if q is not None or rank is not None:
            raise ValueError("q and rank go with a list of latent variables; a dict names its families itself")
        factors = tuple(_factor(key, given) for key, given in latent_vars.items())
    else:
        if isinstance(latent_vars, RandomVariable):
            raise TypeError("latent_vars must be a list or a dict: write [z]")
        if latent_vars is not None and not isinstance(latent_vars, Iterable):
            raise TypeError(f"latent_vars must be a list or a dict, not {type(latent_vars).__name__}")
        latents = _checked(tuple(latent_vars or ()))
        # Discrete variables get a q of their own; the family is over the others.
        own = {z: discrete_q(z) for z in latents if z.discrete}
        rest = tuple(z for z in latents if own.get(z) is None)
        family = as_family("mean_field" if q is None else q, rest, rank)
        factors = ((Factor(rest, family),) if rest else ()) + tuple(
            Factor((z,), q) for z, q in own.items() if q is not None
        )
    _refuse_repeats([z for factor in factors for z in factor.latents])
    return factors


def discrete_q(z: RandomVariable) -> RandomVariable | None:
    """Return the q that a discrete variable of finitely many values gets where none is given; None for others.

    All values are equally probable at first.
    """
    name = f"q({z.name})"
    if isinstance(z, Bernoulli):
        return Bernoulli(logits=Parameter(np.zeros(z.shape), name=f"{z.name}/logits"), name=name)
    if isinstance(z, (Categorical, OneHotCategorical)):
        logits = Parameter(np.zeros((*z.batch_shape, z.n_categories)), name=f"{z.name}/logits")
        return type(z)(logits=logits, name=name)
    return None


def _factor(key: Any, given: Any) -> Factor:
    latents = _checked(key if isinstance(key, tuple) else (key,))
    if not latents:
        raise ValueError("a key of latent_vars is an empty tuple; it must be a latent variable or a tuple of them")
    if isinstance(given, Family):
        return Factor(latents, as_family(given, latents))
    if not isinstance(given, RandomVariable):
        raise TypeError(
            "the approximation must be a family such as klqp.MeanFieldNormal or a random variable such as "
            f"klqp.Normal(...), not {given!r}"
        )
    if len(latents) != 1:
        raise TypeError(f"{given!r} is an approximation of one variable, not of {[z.name for z in latents]}")
    if given is latents[0]:
        raise ValueError(f"the approximation of {given.name!r} is the variable itself")
    return Factor(latents, given)


def _checked(latents: tuple[Any, ...]) -> tuple[RandomVariable, ...]:
    for z in latents:
        if not isinstance(z, RandomVariable):
            raise TypeError(f"latent variables must be random variables, not {type(z).__name__}")
    return latents


def _refuse_repeats(latents: list[RandomVariable]) -> None:
    names: dict[str, RandomVariable] = {}
    for z in latents:
        if z.name in names:
            same = "twice" if names[z.name] is z else "for two variables: give them other names"
            raise ValueError(f"the latent variable {z.name!r} occurs {same}")
        names[z.name] = z
