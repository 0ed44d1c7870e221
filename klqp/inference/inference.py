"""Inference: latent variables with their approximations, and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from klqp.families import Family
from klqp.inference.compiled import sort_factors
from klqp.inference.latents import LatentVars, read_latent_vars
from klqp.inference.problem import (
    Problem,
    check_feeds,
    read_data,
    read_factors,
    read_penalties,
)

__all__ = ["Inference"]


class Inference:
    """Latent variables with their approximations, and data.

    Parameters
    ----------
    latent_vars : list of random variables, or dict
        The quantities a posterior is wanted of. In a dict, with q: a ready-made family for one or a tuple of them, or a
        random variable whose parameters are `Parameter` objects, or expressions of them, of data and of other latent
        variables. Without latent variables the model's parameters are fitted by maximum likelihood.
    data : dict, optional
        Observed values by random variable, or placeholders for them; a random variable as value is a q that is not
        optimised, of which every draw takes a fresh value; a placeholder as key gets its first value.
    q : str or Family, default "mean_field"
        "mean_field", "full_rank", "low_rank", "block", "student_t", "mean_field_student_t", "mixture", or a family:
        the family over all latent variables when `latent_vars` is a list.
    rank : int, optional
        Of the low-rank family; default: see `klqp.LowRankNormal`.
    regularizers : dict or list, optional
        Losses to be added: expressions of one number in `Parameter` objects, or by parameter a callable that makes one
        of it.

    Raises
    ------
    TypeError, ValueError
        If a key is not a random variable, names clash, q and its variable do not fit, or data do not fit the model.

    Warns
    -----
    UnreachedLatentWarning
        If no data depend on a latent variable.
    """

    def __init__(
        self,
        latent_vars: LatentVars = None,
        data: Mapping[Any, Any] | None = None,
        *,
        q: str | Family | None = None,
        rank: int | None = None,
        regularizers: Mapping[Any, Any] | Sequence[Any] | None = None,
    ) -> None:
        factors = read_latent_vars(latent_vars, q, rank)
        given = read_data(data)
        self._problem = Problem(factors, given.observed, given.conditional, read_penalties(regularizers))
        self._feeds = given.feeds
        check_feeds(self._problem, self._feeds)
        for z in self._problem.latents:
            if z in given.observed or z in given.conditional:
                raise ValueError(f"{z.name!r} is both a latent variable and among the data")
        read_factors(factors)
        self._problem.check()
        sort_factors(self._problem)  # refuses a q that depends on itself

    @property
    def latent_vars(self) -> dict[Any, Any]:
        """The latent variables and their approximations."""
        return {f.latents[0] if len(f.latents) == 1 else f.latents: f.q for f in self._problem.factors}
