"""Ready-made posterior families for one or several latent variables at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from klqp import _core
from klqp._checks import positive_int
from klqp.model.random_variable import RandomVariable

__all__ = [
    "BlockNormal",
    "Family",
    "FullRankNormal",
    "FullRankStudentT",
    "LowRankNormal",
    "MeanFieldNormal",
    "MeanFieldStudentT",
    "NormalMixture",
    "n_unconstrained",
]

DEFAULT_COMPONENTS = 8  # of a mixture
MOST_IN_A_BLOCK = 500  # coordinates of a variable that is one block where no blocks are given


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
        self._smallest()

    def spec(self, dim: int) -> _core.FamilySpec:
        """Return the family over `dim` coordinates for the core."""
        return _core.FamilySpec(self.core_name, dim, scale=self.scale)

    @property
    def pathwise(self) -> bool:
        """Whether draws have a derivative in all parameters."""
        return self._smallest().pathwise

    @property
    def has_entropy(self) -> bool:
        """Whether the entropy has a formula."""
        return self._smallest().has_entropy

    def _smallest(self) -> _core.FamilySpec:
        """Return the family over one coordinate."""
        return self.spec(1)

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


@dataclass(frozen=True, init=False)
class BlockNormal(Family):
    """One Normal with a block-diagonal covariance: a full-rank Normal for each block, independent of the others.

    A block of b coordinates has b + b (b + 1) / 2 parameters.

    Parameters
    ----------
    latents : random variable or iterable of them
        What the family is over.
    blocks : sequence, optional
        Numbers of coordinates (their sum is D), or lists of latent variables, each of which is one block; either way
        the blocks follow each other in the order of the latent variables. Default: each latent variable is a block; one
        of more than 500 coordinates has blocks of one coordinate each, that is, a mean-field q.
    scale : {"exp", "softplus", "linear"}, default "exp"
        How the diagonals of the factors follow from unconstrained parameters.

    Raises
    ------
    TypeError, ValueError
        If blocks are neither numbers nor lists of the latent variables in their order.
    """

    blocks: tuple[int | tuple[RandomVariable, ...], ...] | None

    core_name: ClassVar[str] = "block"

    def __init__(
        self,
        latents: RandomVariable | Iterable[RandomVariable] = (),
        *,
        blocks: Iterable[int | RandomVariable | Iterable[RandomVariable]] | None = None,
        scale: str = "exp",
    ) -> None:
        object.__setattr__(self, "blocks", None if blocks is None else tuple(_as_block(b) for b in blocks))
        super().__init__(latents, scale=scale)
        if self.blocks is not None and self.latents:
            self._sizes()

    def spec(self, dim: int) -> _core.FamilySpec:
        """Return the family over `dim` coordinates for the core."""
        return _core.FamilySpec(self.core_name, dim, scale=self.scale, blocks=self.sizes_for(dim))

    def _smallest(self) -> _core.FamilySpec:
        return _core.FamilySpec(self.core_name, 1, scale=self.scale, blocks=[1])

    def sizes_for(self, dim: int) -> list[int]:
        """Return the sizes of the blocks over `dim` coordinates.

        Raises
        ------
        ValueError
            If the blocks given have another number of coordinates.
        """
        sizes = self._sizes() if self.latents or _are_sizes(self.blocks) else [dim]
        if sum(sizes) != dim:
            raise ValueError(f"the blocks have {sum(sizes)} coordinates, but q is over {dim}")
        return sizes

    def _sizes(self) -> list[int]:
        """Return the sizes that the blocks, or the latent variables, say."""
        if self.blocks is None:
            each = [n_unconstrained(z) for z in self.latents]
            return [size for n in each for size in ([n] if n <= MOST_IN_A_BLOCK else [1] * n)]
        if _are_sizes(self.blocks):
            return [b for b in self.blocks if isinstance(b, int)]
        groups = [b if isinstance(b, tuple) else () for b in self.blocks]
        if tuple(z for group in groups for z in group) != self.latents:
            names = [[z.name for z in group] for group in groups]
            raise ValueError(
                f"blocks must name all latent variables once, in their order {[z.name for z in self.latents]}, "
                f"not {names}"
            )
        return [sum(n_unconstrained(z) for z in group) for group in groups]


def n_unconstrained(z: RandomVariable) -> int:
    """Return the number of unconstrained coordinates of a variable; its size where it is discrete."""
    return z.size if z.space.bijector in ("identity", None) else z.space.transform(z.shape).n_unconstrained


def _as_block(given: object) -> int | tuple[RandomVariable, ...]:
    """Return a block as a number of coordinates, or as a tuple of variables."""
    if isinstance(given, RandomVariable):
        return (given,)
    if isinstance(given, Iterable) and not isinstance(given, str):
        variables = tuple(given)
        if variables and all(isinstance(z, RandomVariable) for z in variables):
            return variables
        raise TypeError(f"a block must be a number of coordinates or a list of latent variables, not {given!r}")
    return positive_int("a block", given)


def _are_sizes(blocks: tuple[int | tuple[RandomVariable, ...], ...] | None) -> bool:
    """Return whether blocks are given as numbers of coordinates.

    Raises
    ------
    TypeError
        If only some of them are.
    """
    kinds = {isinstance(b, int) for b in blocks or ()}
    if len(kinds) > 1:
        raise TypeError("blocks must all be numbers of coordinates, or all be lists of latent variables")
    return kinds == {True}


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
    "block": BlockNormal,
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
