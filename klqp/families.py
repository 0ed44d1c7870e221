"""Ready-made posterior families for one or several latent variables at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from klqp import _core
from klqp._checks import positive_int
from klqp.model.random_variable import RandomVariable

__all__ = [
    "Family",
    "FullRankNormal",
    "FullRankStudentT",
    "LowRankNormal",
    "MeanFieldNormal",
    "MeanFieldStudentT",
    "NormalMixture",
]

DEFAULT_COMPONENTS = 8  # of a mixture


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

    @property
    def pathwise(self) -> bool:
        """Whether draws have a derivative in all parameters."""
        return self.spec(1).pathwise

    @property
    def has_entropy(self) -> bool:
        """Whether the entropy has a formula."""
        return self.spec(1).has_entropy

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
        Number of columns of B; default: the square root of D, rounded, at most 50.
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
        """Return the rank over `dim` coordinates."""
        return self.rank if self.rank is not None else min(50, max(1, round(dim**0.5)))


@dataclass(frozen=True, init=False)
class _StudentT(Family):
    """What the Student-t families share."""

    df: float | None

    def __init__(
        self,
        latents: RandomVariable | Iterable[RandomVariable] = (),
        *,
        df: float | None = None,
        scale: str = "exp",
    ) -> None:
        if df is not None and (isinstance(df, bool) or not isinstance(df, (int, float)) or not 2.0 < df <= 1e6):
            raise ValueError(f"df must be a number above 2, at most 1e6, or None to learn it, not {df!r}")
        object.__setattr__(self, "df", None if df is None else float(df))
        super().__init__(latents, scale=scale)

    def spec(self, dim: int) -> _core.FamilySpec:
        """Return the family over `dim` coordinates for the core."""
        return _core.FamilySpec(self.core_name, dim, scale=self.scale, df=self.df or 0.0)

    def describe(self) -> str:
        """Return the family in words."""
        kind = "mean-field" if self.core_name.startswith("mean_field") else "full-rank"
        degrees = "learnt" if self.df is None else f"{self.df:g}"
        return f"{kind} Student-t with {degrees} degrees of freedom, scale through {self.scale}"


class FullRankStudentT(_StudentT):
    """One multivariate Student-t distribution with a full scale matrix: for posteriors with heavy tails.

    ``z = loc + L eps sqrt(df / g)`` with a standard normal `eps` and `g` of the chi-squared distribution with `df`
    degrees of freedom; one more parameter than the full-rank Normal where `df` is learnt. A variable that is the
    exponential of a coordinate has no mean under it: look at quantiles. Source: docs/maths.md, 2.9.

    Parameters
    ----------
    latents : random variable or iterable of them
        What the family is over.
    df : float, optional
        Degrees of freedom, above 2, so that variances exist, and at most a million; default: learnt.
    scale : {"exp", "softplus", "linear"}, default "exp"
        How the diagonal of L follows from unconstrained parameters.
    """

    core_name: ClassVar[str] = "student_t"


class MeanFieldStudentT(_StudentT):
    """One multivariate Student-t distribution with a diagonal scale matrix.

    All coordinates share the factor ``sqrt(df / g)``: they are uncorrelated, but large together.

    Parameters
    ----------
    latents : random variable or iterable of them
        What the family is over.
    df : float, optional
        Degrees of freedom, above 2, so that variances exist, and at most a million; default: learnt.
    scale : {"exp", "softplus", "linear"}, default "exp"
        How the scales follow from unconstrained parameters.
    """

    core_name: ClassVar[str] = "mean_field_student_t"


@dataclass(frozen=True, init=False)
class NormalMixture(Family):
    """A mixture of Normals: for posteriors with several modes, or bent ones. Source: docs/maths.md, 2.10.

    Parameters
    ----------
    latents : random variable or iterable of them
        What the family is over.
    n_components : int, optional
        The most components; default 8. An automatic fit uses as many of them as pay, the weights of others are 0; a
        run of steps uses all.
    components : {"full_rank", "mean_field"}, default "full_rank"
        What each component is.
    scale : {"exp", "softplus", "linear"}, default "exp"
        How the components' scales follow from unconstrained parameters.
    """

    n_components: int | None
    components: str

    def __init__(
        self,
        latents: RandomVariable | Iterable[RandomVariable] = (),
        *,
        n_components: int | None = None,
        components: Literal["full_rank", "mean_field"] = "full_rank",
        scale: str = "exp",
    ) -> None:
        if components not in ("full_rank", "mean_field"):
            raise ValueError(f"components must be 'full_rank' or 'mean_field', not {components!r}")
        n = None if n_components is None else positive_int("n_components", n_components)
        object.__setattr__(self, "n_components", n)
        object.__setattr__(self, "components", components)
        super().__init__(latents, scale=scale)

    def spec(self, dim: int) -> _core.FamilySpec:
        """Return the family over `dim` coordinates for the core."""
        name = "mixture" if self.components == "full_rank" else "mean_field_mixture"
        return _core.FamilySpec(name, dim, scale=self.scale, components=self.n_components or DEFAULT_COMPONENTS)

    def describe(self) -> str:
        """Return the family in words."""
        n, kind = self.n_components or DEFAULT_COMPONENTS, self.components.replace("_", "-")
        return f"mixture of at most {n} {kind} Normals, scale through {self.scale}"


_BY_NAME: dict[str, type[Family]] = {
    "mean_field": MeanFieldNormal,
    "full_rank": FullRankNormal,
    "low_rank": LowRankNormal,
    "student_t": FullRankStudentT,
    "mean_field_student_t": MeanFieldStudentT,
    "mixture": NormalMixture,
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
