"""Mean-field families taken apart into one normal random variable for each latent variable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from klqp.families import MeanFieldNormal, n_unconstrained
from klqp.inference.latents import Factor
from klqp.inference.problem import Problem
from klqp.inference.settings import Settings
from klqp.model.distributions.normal import Normal
from klqp.model.parameter import Parameter
from klqp.model.random_variable import RandomVariable

__all__ = ["with_own_normals"]


def with_own_normals(
    problem: Problem, wanted: Iterable[RandomVariable], settings: Settings, kept: dict[RandomVariable, Factor]
) -> Problem:
    """Return the problem with a normal q of its own for each wanted variable that a mean-field family holds.

    What needs them: scales that differ between variables, and divergences by formula.

    Parameters
    ----------
    problem : Problem
    wanted : iterable of RandomVariable
    settings : Settings
    kept : dict
        The factors made before, which are used again; new ones are added.

    Raises
    ------
    TypeError
        If another joint family holds one.
    """
    wanted = set(wanted)
    factors: list[Factor] = []
    for factor in problem.factors:
        apart = [z for z in factor.latents if z in wanted]
        if factor.family is None or not apart:
            factors.append(factor)
            continue
        if not isinstance(factor.family, MeanFieldNormal):
            raise TypeError(
                f"scale and divergences by formula need a q of its own for each variable, but {factor.describe()} is "
                f"over {factor.name}"
            )
        rest = tuple(z for z in factor.latents if z not in wanted)
        if rest:
            factors.append(Factor(rest, MeanFieldNormal(rest, scale=factor.family.scale)))
        for z in apart:
            if z not in kept:
                kept[z] = _own_normal(z, settings)
            factors.append(kept[z])
    return replace(problem, factors=tuple(factors))


def _own_normal(z: RandomVariable, settings: Settings) -> Factor:
    n = n_unconstrained(z)
    shape = z.shape if z.space.bijector == "identity" else (n,)
    loc = Parameter(settings.start_of("init_loc", z, n).reshape(shape), name=f"{z.name}/loc")
    scale = Parameter(settings.start_of("init_scale", z, n).reshape(shape), support="positive", name=f"{z.name}/scale")
    return Factor((z,), Normal(loc, scale, name=f"q({z.name})"), stands_in=True)
