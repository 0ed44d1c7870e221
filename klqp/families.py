"""Ready-made posterior families for one or several latent variables at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from klqp import _core
from klqp._checks import positive_int
from klqp.model.random_variable import RandomVariable

__all__ = ["Family", "FullRankNormal", "LowRankNormal", "MeanFieldNormal"]


@dataclass(frozen=True, init=False)
class Family:
    """What all families share; not used by itself."""

    latents: tuple[RandomVariable, ...]
    scale: str

    core_name: ClassVar[str] = ""

    def __init__(self, latents: RandomVariable | Iterable[RandomVariable] = (), *, scale: str = "exp") -> None:
        if not isinstance(latents, Iterable):
            latents = (latents,)
        given = tuple(latents)
        for z in given:
            if not isinstance(z, RandomVariable):
                raise TypeError(f"a family takes random variables, not {type(z).__name__}")
        if not isinstance(scale, str):
            raise TypeError(f"scale must be 'exp', 'softplus' or 'linear', not {scale!r}")
        object.__setattr__(self, "latents", given)
        object.__setattr__(self, "scale", scale)
        self.spec(1)

    def spec(self, dim: int) -> _core.FamilySpec:
        """Return the family over `dim` coordinates for the core."""
        return _core.FamilySpec(self.core_name, dim, scale=self.scale)

    def describe(self) -> str:
        """Return the family in words."""
        return f"{self.core_name.replace('_', '-')} Normal, scale through {self.scale}"


class MeanFieldNormal(Family):
    """Independent Normals: 2 D parameters.

    Parameters
    ----------
    latents : random variable or iterable of them
        What the family is over.
    scale : {"exp", "softplus", "linear"}, default "exp"
        How the scales follow from unconstrained parameters. "linear" scales are kept at 1e-5 or more by projection.
    """

    core_name: ClassVar[str] = "mean_field"


class FullRankNormal(Family):
    """One Normal with a full covariance matrix, by its Cholesky factor: D + D (D + 1) / 2 parameters.

    Parameters
    ----------
    latents : random variable or iterable of them
        What the family is over.
    scale : {"exp", "softplus", "linear"}, default "exp"
        How the factor's diagonal follows from unconstrained parameters.
    """

    core_name: ClassVar[str] = "full_rank"


@dataclass(frozen=True, init=False)
class LowRankNormal(Family):
    """One Normal with covariance diag(d**2) + B B^T, B (D, rank): (2 + rank) D parameters.

    Time and memory are linear in D. Source: methods in docs/maths.md, section 2.6.

    Parameters
    ----------
    latents : random variable or iterable of them
        What the family is over.
    rank : int, optional
        Number of columns of B. Default: chosen by the fit where `method` is "auto" or "saa" and this is the one family
        over all latent variables, see docs/maths.md 11.9; for steps of an optimizer the square root of D, rounded, at
        most 50.
    scale : {"exp", "softplus", "linear"}, default "exp"
        How d follows from unconstrained parameters.
    """

    rank: int | None

    core_name: ClassVar[str] = "low_rank"

    def __init__(
        self,
        latents: RandomVariable | Iterable[RandomVariable] = (),
        *,
        rank: int | None = None,
        scale: str = "exp",
    ) -> None:
        object.__setattr__(self, "rank", None if rank is None else positive_int("rank", rank))
        super().__init__(latents, scale=scale)

    def spec(self, dim: int) -> _core.FamilySpec:
        """Return the family over `dim` coordinates for the core."""
        return _core.FamilySpec(self.core_name, dim, rank=self.rank_for(dim), scale=self.scale)

    def rank_for(self, dim: int) -> int:
        """Return the rank over `dim` coordinates, where no method chooses it."""
        return self.rank if self.rank is not None else min(50, max(1, round(dim**0.5)))


_BY_NAME: dict[str, type[Family]] = {
    "mean_field": MeanFieldNormal,
    "full_rank": FullRankNormal,
    "low_rank": LowRankNormal,
}


def as_family(q: str | Family, latents: tuple[RandomVariable, ...], rank: int | None = None) -> Family:
    """Return the family over `latents`: `q` itself when it was made for them, or the one of that name."""
    if isinstance(q, Family):
        if rank is not None:
            raise ValueError("rank goes with q='low_rank'; give it to LowRankNormal(..., rank=) here")
        if q.latents and q.latents != latents:
            names = [z.name for z in q.latents]
            raise ValueError(f"the family was made for {names}, not for {[z.name for z in latents]}")
        return q
    if not isinstance(q, str) or q not in _BY_NAME:
        raise ValueError(f"q must be one of {sorted(_BY_NAME)} or a family such as klqp.FullRankNormal, not {q!r}")
    if q == "low_rank":
        return LowRankNormal(latents, rank=rank)
    if rank is not None:
        raise ValueError(f"rank goes with q='low_rank', not with q={q!r}")
    return _BY_NAME[q](latents)
