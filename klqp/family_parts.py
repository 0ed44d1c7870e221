"""Members of families that are not Normal, taken apart: the Normals in them, degrees of freedom, weights, marginals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klqp import _core

__all__ = [
    "Marginals",
    "df_information",
    "df_of",
    "is_normal",
    "join_mixture",
    "normal_part",
    "rho_of_df",
    "richer_family",
    "split_mixture",
]

Float64 = npt.NDArray[np.float64]

_NORMAL_PART = {
    "student_t": "full_rank",
    "mean_field_student_t": "mean_field",
    "mixture": "full_rank",
    "mean_field_mixture": "mean_field",
}
_LEAST_DF, _SMALLEST_INVERSE = 2.001, 1e-6  # as in csrc/core/family/student_t.hpp
_NO_WEIGHT = -1e3  # log weight of a component that is not used, below the largest
_BISECTIONS = 100


def normal_part(spec: _core.FamilySpec) -> _core.FamilySpec:
    """Return the Normal family in a family: that of location and factor, or of one component; or itself."""
    name = _NORMAL_PART.get(spec.name)
    return spec if name is None else _core.FamilySpec(name, spec.dim, scale=spec.scale)


def is_normal(spec: _core.FamilySpec) -> bool:
    """Return whether a family is Normal, by its name: `spec.normal` asks the family itself, which has to be made."""
    return spec.name not in _NORMAL_PART


def df_of(spec: _core.FamilySpec, params: Float64) -> float:
    """Return the degrees of freedom of a Student-t member, as docs/maths.md 2.9 has them."""
    return spec.df or _LEAST_DF + 1.0 / (math.exp(-float(params[-1])) + _SMALLEST_INVERSE)


def df_information(dim: int, df: float) -> float:
    """Return the Fisher information of the parameter of the degrees of freedom, location and factor known.

    Source: Lange, Little and Taylor, *Robust statistical modeling using the t distribution* (1989).
    """
    from scipy.special import polygamma  # slow to import

    trigamma = float(polygamma(1, 0.5 * df) - polygamma(1, 0.5 * (df + dim)))
    by_df = 0.25 * trigamma - 0.5 * dim * (df + dim + 4.0) / (df * (df + dim) * (df + dim + 2.0))
    above = df - _LEAST_DF
    slope = above - _SMALLEST_INVERSE * above**2  # of df by its parameter
    return max(1e-300, by_df) * slope**2


def rho_of_df(df: float) -> float:
    """Return the parameter that stands for degrees of freedom."""
    return -math.log(1.0 / (df - _LEAST_DF) - _SMALLEST_INVERSE)


def split_mixture(spec: _core.FamilySpec, params: Float64) -> tuple[Float64, list[Float64]]:
    """Return the weights (K,) of a mixture and the parameters of each component."""
    k = spec.components
    weights = np.exp(params[:k] - params[:k].max())
    return weights / weights.sum(), list(params[k:].reshape(k, -1))


def join_mixture(spec: _core.FamilySpec, weights: Float64, parts: Sequence[Float64]) -> Float64:
    """Return the parameters of a mixture of up to K components; what is missing gets the weight 0.

    A component of weight 0 is a copy of the first one.
    """
    missing = spec.components - len(parts)
    logits = np.concatenate([np.log(weights / weights.max()), np.full(missing, _NO_WEIGHT)])
    return np.concatenate([np.maximum(logits, _NO_WEIGHT), *parts, *[parts[0]] * missing])


def richer_family(name: str | None) -> str:
    """Return in words what to try where the best q of a family is far from the posterior.

    Parameters
    ----------
    name : str or None
        The core's name of the family; None where q is not one family.
    """
    if name == "full_rank":
        return "try q='student_t' for heavy tails, q='mixture' for bends and skew, other coordinates, or a sampler"
    if name in ("student_t", "mean_field_student_t"):
        return "try q='mixture', other coordinates, or a sampler"
    if name in ("mixture", "mean_field_mixture"):
        return "use more components (klqp.NormalMixture(n_components=)), other coordinates, or a sampler"
    return "use a richer family, such as q='full_rank'"


@dataclass(frozen=True)
class Marginals:
    """The marginals of a member's coordinates: mixtures of Normals, or Student-t's.

    Attributes
    ----------
    weights : ndarray (K,)
    loc, scale : ndarray (K, D)
    df : float
        Infinite for Normals.
    """

    weights: Float64
    loc: Float64
    scale: Float64
    df: float = math.inf

    @classmethod
    def of(cls, spec: _core.FamilySpec, params: Float64) -> Marginals:
        """Return the marginals of a member."""
        normal, parts, weights, df = normal_part(spec), [params], np.ones(1), math.inf
        if spec.components:
            weights, parts = split_mixture(spec, params)
            parts = [part for part, weight in zip(parts, weights, strict=True) if weight > 0]
            weights = weights[weights > 0]
        elif not spec.normal:
            parts, df = [params[: normal.n_params]], df_of(spec, params)
        members = [_core.Member(normal, np.ascontiguousarray(part)) for part in parts]
        return cls(weights, np.array([m.mean() for m in members]), np.array([m.stddev() for m in members]), df)

    def __getitem__(self, part: slice) -> Marginals:
        """Return those of some coordinates."""
        return Marginals(self.weights, self.loc[:, part], self.scale[:, part], self.df)

    def quantile(self, probability: float) -> Float64:
        """Return the quantiles (D,): of mixtures by bisection, to full precision."""
        from scipy import special  # slow to import

        if math.isfinite(self.df):
            return np.asarray(self.loc[0] + self.scale[0] * special.stdtrit(self.df, probability))
        each = self.loc + self.scale * special.ndtri(probability)
        low, high = each.min(0), each.max(0)
        for _ in range(_BISECTIONS if len(each) > 1 else 0):
            middle = 0.5 * (low + high)
            below = self.weights @ special.ndtr((middle - self.loc) / self.scale) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray(0.5 * (low + high))
