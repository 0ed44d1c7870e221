"""Distributions of correlation and covariance matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp._checks import positive_int
from klqp.model.distributions.alternatives import exactly_one
from klqp.model.distributions.event import EventDistribution, check_square, diagonal, last_size, swapped
from klqp.model.distributions.multivariate_normal import emit_cholesky
from klqp.model.expression import Constant
from klqp.model.random_variable import Shape
from klqp.model.supports import CHOLESKY_CORR, CHOLESKY_COV, COVARIANCE, POSITIVE, Support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["LKJCholesky", "Wishart"]

Float64 = npt.NDArray[np.float64]


class LKJCholesky(EventDistribution):
    """Cholesky factors of correlation matrices R with density proportional to ``det(R) ** (concentration - 1)``.

    Densities are over the entries below the diagonal (Lewandowski, Kurowicka & Joe 2009).

    Parameters
    ----------
    dimension : int
        Number of rows D.
    concentration : array_like or expression (...), default 1
        Positive; 1 is uniform over correlation matrices.
    shape : int or tuple of int, optional
        Shape of the variable, (D, D) last; default: that of the concentration before (D, D).
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"concentration": POSITIVE}
    law = "lkj_cholesky"

    def __init__(
        self, dimension: int, concentration: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        self.dimension = positive_int("dimension", dimension)
        event = (self.dimension, self.dimension)
        super().__init__(
            {"concentration": concentration}, shape=shape, name=name, support=CHOLESKY_CORR, event_shape=event
        )

    def _betas(self, concentration: Float64) -> Float64:
        """Return b (..., D - 1): partial correlations of column j are 2 Beta(b_j, b_j) - 1."""
        return concentration[..., None] + 0.5 * (self.dimension - 2 - np.arange(self.dimension - 1))

    def _sample(self, rng: np.random.Generator, shape: Shape, *, concentration: Float64) -> Float64:
        d = self.dimension
        b = np.broadcast_to(self._betas(concentration), (*shape[:-2], d - 1))[..., None, :]
        share = rng.beta(b, b, (*shape[:-1], d - 1))
        partial, rest = 2 * share - 1, np.sqrt(4 * share * (1 - share))
        out = np.zeros(shape)
        for i in range(d):
            left = np.ones(shape[:-2])
            for j in range(i):
                out[..., i, j] = partial[..., i, j] * left
                left = left * rest[..., i, j]
            out[..., i, i] = left
        return out

    def _mean(self, concentration: Float64) -> Float64:
        from scipy.special import betaln

        b = self._betas(concentration)
        root = 2 * np.exp(betaln(b + 0.5, b + 0.5) - betaln(b, b))  # E sqrt(1 - w^2)
        diagonals = np.concatenate([np.ones((*root.shape[:-1], 1)), np.cumprod(root, -1)], -1)
        return np.asarray(diagonals[..., None] * np.eye(self.dimension))

    def _variance(self, concentration: Float64) -> Float64:
        d, b = self.dimension, self._betas(concentration)
        square = 1 / (2 * b + 1)  # E w^2
        left = np.concatenate([np.ones((*b.shape[:-1], 1)), np.cumprod(1 - square, -1)], -1)
        second = np.zeros((*b.shape[:-1], d, d))
        for i in range(d):
            second[..., i, :i] = square[..., :i] * left[..., :i]
            second[..., i, i] = left[..., i]
        return second - self._mean(concentration) ** 2


class Wishart(EventDistribution):
    """Covariance matrices: sums of `df` outer products of normal vectors with covariance `scale`.

    Densities are over the entries of the lower triangle.

    Parameters
    ----------
    df : array_like or expression (...)
        Degrees of freedom, above D - 1.
    scale : array_like or expression (..., D, D), optional
        Symmetric and positive definite; the mean is df times it.
    scale_tril : array_like or expression (..., D, D), optional
        Its lower Cholesky factor; give this or the scale.
    shape : int or tuple of int, optional
        Shape of the variable, (D, D) last; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {
        "df": POSITIVE,
        "scale": COVARIANCE,
        "scale_tril": CHOLESKY_COV,
    }
    law = "wishart"

    def __init__(
        self,
        df: Any,
        scale: Any = None,
        scale_tril: Any = None,
        *,
        shape: int | Shape | None = None,
        name: str | None = None,
    ) -> None:
        _, spread = exactly_one("Wishart", scale=scale, scale_tril=scale_tril)
        for key, value in spread.items():
            check_square("Wishart", key, value)
        size = last_size(*spread.values())
        super().__init__({"df": df, **spread}, shape=shape, name=name, support=COVARIANCE, event_shape=(size, size))
        given = self.parameters["df"]
        if isinstance(given, Constant) and not (given.value > size - 1).all():
            raise ValueError(f"df of Wishart must be above {size - 1} for {size} rows, not {given.value}")

    def _law_args(self, emitter: Emitter, args: Sequence[int]) -> list[int]:
        factor = args[1]
        if "scale" in self.parameters:
            factor = emit_cholesky(emitter, factor, self.inputs[1].size, self.event_shape[0])
        return super()._law_args(emitter, [args[0], factor])

    # Bartlett's decomposition
    def _sample(
        self,
        rng: np.random.Generator,
        shape: Shape,
        *,
        df: Float64,
        scale: Float64 | None = None,
        scale_tril: Float64 | None = None,
    ) -> Float64:
        size = shape[-1]
        factor = np.tril(rng.standard_normal(shape), -1)
        freedom = np.broadcast_to(df[..., None] - np.arange(size), shape[:-1])
        factor[..., np.arange(size), np.arange(size)] = np.sqrt(rng.chisquare(freedom))
        root = _factor(scale, scale_tril) @ factor
        return np.asarray(root @ swapped(root))

    def _mean(self, df: Float64, scale: Float64 | None = None, scale_tril: Float64 | None = None) -> Float64:
        return df[..., None, None] * _matrix(scale, scale_tril)

    def _variance(self, df: Float64, scale: Float64 | None = None, scale_tril: Float64 | None = None) -> Float64:
        v = _matrix(scale, scale_tril)
        return df[..., None, None] * (v**2 + diagonal(v)[..., :, None] * diagonal(v)[..., None, :])

    def _entropy(self, df: Float64, scale: Float64 | None = None, scale_tril: Float64 | None = None) -> Float64:
        from scipy.special import digamma, multigammaln

        size = self.event_shape[0]
        half_log_det = np.log(diagonal(_factor(scale, scale_tril))).sum(-1)
        slopes = digamma(0.5 * (df[..., None] - np.arange(size))).sum(-1)
        return np.asarray(
            (size + 1) * half_log_det
            + 0.5 * size * (size + 1) * np.log(2)
            + np.vectorize(lambda x: multigammaln(x, size), otypes=[np.float64])(0.5 * df)
            - 0.5 * (df - size - 1) * slopes
            + 0.5 * df * size
        )


def _factor(scale: Float64 | None, scale_tril: Float64 | None) -> Float64:
    if scale_tril is not None:
        return scale_tril
    assert scale is not None
    return np.asarray(np.linalg.cholesky(scale), np.float64)


def _matrix(scale: Float64 | None, scale_tril: Float64 | None) -> Float64:
    if scale is not None:
        return scale
    assert scale_tril is not None
    return np.asarray(scale_tril @ swapped(scale_tril))
