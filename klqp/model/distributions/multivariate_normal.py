"""Multivariate normal distributions, by what their covariance is given by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.entropy import EntropyByFormula
from klqp.model.distributions.event import (
    EventDistribution,
    as_vector,
    check_events,
    check_square,
    diagonal,
    event_total,
    last_size,
    swapped,
)
from klqp.model.distributions.normal import HALF_LOG_2_PI_E
from klqp.model.expression import Expression
from klqp.model.nodes import cholesky, log
from klqp.model.random_variable import ElementwiseDistribution, Shape
from klqp.model.supports import CHOLESKY_COV, COVARIANCE, POSITIVE_VECTOR, REAL_MATRIX, REAL_VECTOR, Support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = [
    "MultivariateNormalDiag",
    "MultivariateNormalDiagPlusLowRank",
    "MultivariateNormalFullCovariance",
    "MultivariateNormalTriL",
]

Float64 = npt.NDArray[np.float64]


class MultivariateNormalDiag(ElementwiseDistribution, EntropyByFormula):
    """Normal vectors with independent elements.

    Parameters
    ----------
    loc : array_like or expression (..., D), default 0
        Means.
    scale_diag : array_like or expression (..., D), default 1
        Standard deviations, positive.
    shape : int or tuple of int, optional
        Shape of the variable, D last; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"loc": REAL_VECTOR, "scale_diag": POSITIVE_VECTOR}
    kernel = "normal"

    def __init__(
        self, loc: Any = 0.0, scale_diag: Any = 1.0, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        size = last_size(loc, scale_diag, shape=shape)
        loc, scale_diag = as_vector(loc, size), as_vector(scale_diag, size)
        check_events(
            type(self).__name__,
            {"loc": (loc.shape[-1:], (size,)), "scale_diag": (scale_diag.shape[-1:], (size,))},
        )
        parameters = {"loc": loc, "scale_diag": scale_diag}
        super().__init__(parameters, shape=shape, name=name, support=REAL_VECTOR, event_shape=(size,))

    def emit_log_prob(
        self,
        emitter: Emitter,
        value: int,
        args: Sequence[int],
        *,
        scale: int | None = None,
        summed: bool = True,
        log_q: bool = False,
    ) -> int:
        """Add the log density to a program."""
        if scale is None and summed:
            return super().emit_log_prob(emitter, value, args, log_q=log_q)
        each = super().emit_log_prob(emitter, value, args, summed=False, log_q=log_q)
        return event_total(emitter, each, self.n_events, self.event_shape[0], scale, summed)

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, scale_diag: Float64) -> Float64:
        return loc + scale_diag * rng.standard_normal(shape)

    def _mean(self, loc: Float64, scale_diag: Float64) -> Float64:
        return loc

    def _variance(self, loc: Float64, scale_diag: Float64) -> Float64:
        return scale_diag**2

    def _entropy(self, loc: Float64, scale_diag: Float64) -> Float64:
        return np.asarray((np.log(scale_diag) + HALF_LOG_2_PI_E).sum(-1))

    # --- as q ------------------------------------------------------------------------------------------------
    @property
    def noise_size(self) -> int:
        """Number of standard normals that make a draw."""
        return self.size

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program."""
        fitted = [self._fit(emitter, p, slot) for p, slot in zip(self.inputs, args, strict=True)]
        return emitter.core.draw([*fitted, noise], self.size)

    def _entropy_expression(self) -> Expression:
        return (log(self.parameters["scale_diag"]) + HALF_LOG_2_PI_E).sum(-1)


class MultivariateNormalTriL(EventDistribution, EntropyByFormula):
    """Normal vectors whose covariance is ``scale_tril @ scale_tril.T``.

    Parameters
    ----------
    loc : array_like or expression (..., D)
        Means; a number stands for all elements.
    scale_tril : array_like or expression (..., D, D)
        Lower triangular, with a positive diagonal.
    shape : int or tuple of int, optional
        Shape of the variable, D last; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"loc": REAL_VECTOR, "scale_tril": CHOLESKY_COV}
    law = "mvn_tril"

    def __init__(self, loc: Any, scale_tril: Any, *, shape: int | Shape | None = None, name: str | None = None) -> None:
        kind = type(self).__name__
        check_square(kind, "scale_tril", scale_tril)
        size = last_size(scale_tril)
        loc = as_vector(loc, size)
        check_events(kind, {"loc": (loc.shape[-1:], (size,))})
        parameters = {"loc": loc, "scale_tril": scale_tril}
        super().__init__(parameters, shape=shape, name=name, support=REAL_VECTOR, event_shape=(size,))

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, scale_tril: Float64) -> Float64:
        return loc + (scale_tril @ rng.standard_normal(shape)[..., None])[..., 0]

    def _mean(self, loc: Float64, scale_tril: Float64) -> Float64:
        return loc

    def _variance(self, loc: Float64, scale_tril: Float64) -> Float64:
        return np.asarray((np.tril(scale_tril) ** 2).sum(-1))

    def _entropy(self, loc: Float64, scale_tril: Float64) -> Float64:
        return np.asarray((np.log(diagonal(scale_tril)) + HALF_LOG_2_PI_E).sum(-1))

    # --- as q ------------------------------------------------------------------------------------------------
    @property
    def noise_size(self) -> int:
        """Number of standard normals that make a draw."""
        return self.size

    def emit_draw(self, emitter: Emitter, noise: int, args: list[int]) -> int:
        """Add a draw made from standard normals to a program."""
        sizes = {"n": [self.n_events], "size": [self.event_shape[0]]}
        return emitter.core.node("tril_draw", [*self._law_args(emitter, args), noise], self.size, sizes)

    def _entropy_expression(self) -> Expression:
        return entropy_of_factor(self.parameters["scale_tril"])


class MultivariateNormalFullCovariance(EventDistribution, EntropyByFormula):
    """Normal vectors by their covariance matrix.

    Parameters
    ----------
    loc : array_like or expression (..., D)
        Means; a number stands for all elements.
    covariance_matrix : array_like or expression (..., D, D)
        Symmetric and positive definite.
    shape : int or tuple of int, optional
        Shape of the variable, D last; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {"loc": REAL_VECTOR, "covariance_matrix": COVARIANCE}
    law = "mvn_tril"

    def __init__(
        self, loc: Any, covariance_matrix: Any, *, shape: int | Shape | None = None, name: str | None = None
    ) -> None:
        kind = type(self).__name__
        check_square(kind, "covariance_matrix", covariance_matrix)
        size = last_size(covariance_matrix)
        loc = as_vector(loc, size)
        check_events(kind, {"loc": (loc.shape[-1:], (size,))})
        parameters = {"loc": loc, "covariance_matrix": covariance_matrix}
        super().__init__(parameters, shape=shape, name=name, support=REAL_VECTOR, event_shape=(size,))

    def _law_args(self, emitter: Emitter, args: Sequence[int]) -> list[int]:
        factor = emit_cholesky(emitter, args[1], self.inputs[1].size, self.event_shape[0])
        return super()._law_args(emitter, [args[0], factor])

    def _sample(self, rng: np.random.Generator, shape: Shape, *, loc: Float64, covariance_matrix: Float64) -> Float64:
        return loc + (np.linalg.cholesky(covariance_matrix) @ rng.standard_normal(shape)[..., None])[..., 0]

    def _mean(self, loc: Float64, covariance_matrix: Float64) -> Float64:
        return loc

    def _variance(self, loc: Float64, covariance_matrix: Float64) -> Float64:
        return diagonal(covariance_matrix)

    def _entropy(self, loc: Float64, covariance_matrix: Float64) -> Float64:
        factor = np.asarray(np.linalg.cholesky(covariance_matrix), np.float64)
        return np.asarray((np.log(diagonal(factor)) + HALF_LOG_2_PI_E).sum(-1))

    def _entropy_expression(self) -> Expression:
        return entropy_of_factor(cholesky(self.parameters["covariance_matrix"]))


class MultivariateNormalDiagPlusLowRank(EventDistribution):
    """Normal vectors with covariance ``diag(scale_diag**2) + W @ W.T`` for a factor W of few columns.

    Densities cost O(D r**2).

    Parameters
    ----------
    loc : array_like or expression (..., D)
        Means; a number stands for all elements.
    scale_diag : array_like or expression (..., D)
        Positive: standard deviations without W.
    scale_perturb_factor : array_like or expression (..., D, r)
        W.
    shape : int or tuple of int, optional
        Shape of the variable, D last; default: that of the parameters, broadcast.
    name : str, optional
    """

    parameter_supports: ClassVar[Mapping[str, Support]] = {
        "loc": REAL_VECTOR,
        "scale_diag": POSITIVE_VECTOR,
        "scale_perturb_factor": REAL_MATRIX,
    }
    law = "mvn_low_rank"

    def __init__(
        self,
        loc: Any,
        scale_diag: Any,
        scale_perturb_factor: Any,
        *,
        shape: int | Shape | None = None,
        name: str | None = None,
    ) -> None:
        kind = type(self).__name__
        factor = scale_perturb_factor
        axes = factor.shape if hasattr(factor, "shape") else np.shape(factor)
        if len(axes) < 2:
            raise ValueError(f"scale_perturb_factor of {kind} must be matrices (D, r), not of shape {axes}")
        size = int(axes[-2])
        loc, scale_diag = as_vector(loc, size), as_vector(scale_diag, size)
        check_events(kind, {"loc": (loc.shape[-1:], (size,)), "scale_diag": (scale_diag.shape[-1:], (size,))})
        parameters = {"loc": loc, "scale_diag": scale_diag, "scale_perturb_factor": factor}
        super().__init__(parameters, shape=shape, name=name, support=REAL_VECTOR, event_shape=(size,))

    def _law_sizes(self) -> dict[str, int]:
        return {"size": self.event_shape[0], "rank": self.inputs[2].shape[-1]}

    def _sample(
        self,
        rng: np.random.Generator,
        shape: Shape,
        *,
        loc: Float64,
        scale_diag: Float64,
        scale_perturb_factor: Float64,
    ) -> Float64:
        shared = rng.standard_normal((*shape[:-1], scale_perturb_factor.shape[-1], 1))
        return loc + scale_diag * rng.standard_normal(shape) + (scale_perturb_factor @ shared)[..., 0]

    def _mean(self, loc: Float64, scale_diag: Float64, scale_perturb_factor: Float64) -> Float64:
        return loc

    def _variance(self, loc: Float64, scale_diag: Float64, scale_perturb_factor: Float64) -> Float64:
        return np.asarray(scale_diag**2 + (scale_perturb_factor**2).sum(-1))

    def _entropy(self, loc: Float64, scale_diag: Float64, scale_perturb_factor: Float64) -> Float64:
        v = scale_perturb_factor / scale_diag[..., None]
        _, log_det = np.linalg.slogdet(swapped(v) @ v + np.eye(v.shape[-1]))
        return np.asarray((np.log(scale_diag) + HALF_LOG_2_PI_E).sum(-1) + 0.5 * log_det)


def emit_cholesky(emitter: Emitter, x: int, total: int, size: int) -> int:
    """Add the Cholesky factors of (size, size) matrices with `total` elements to a program."""
    return emitter.core.node("cholesky", [x], total, {"n": [total // size**2], "size": [size]})


def entropy_of_factor(factor: Expression) -> Expression:
    """Return the entropies of normal vectors by the Cholesky factors (..., D, D) of their covariances."""
    return (log(diagonals(factor)) + HALF_LOG_2_PI_E).sum(-1)


def diagonals(x: Expression) -> Expression:
    """Return the diagonals (..., D) of matrices (..., D, D)."""
    at = np.arange(x.shape[-1])
    return x[..., at, at]
