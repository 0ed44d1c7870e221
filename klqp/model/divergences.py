"""Kullback-Leibler divergences between distributions by their formulas: docs/maths.md, section 10.2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from klqp.model.distributions.bounded import Beta
from klqp.model.distributions.categorical import Categorical, OneHotCategorical
from klqp.model.distributions.dirichlet import Dirichlet
from klqp.model.distributions.discrete import Bernoulli
from klqp.model.distributions.location_scale import Laplace
from klqp.model.distributions.multivariate_normal import (
    MultivariateNormalDiag,
    MultivariateNormalFullCovariance,
    MultivariateNormalTriL,
    diagonals,
)
from klqp.model.distributions.normal import Normal
from klqp.model.distributions.positive import Chi2, Exponential, Gamma, InverseGamma, LogNormal
from klqp.model.expression import Constant, Expression
from klqp.model.nodes import (
    absolute,
    broadcast_to,
    cholesky,
    concatenate,
    diag,
    digamma,
    exp,
    lgamma,
    log,
    solve_triangular,
    square,
)
from klqp.model.random_variable import RandomVariable

__all__ = ["DIVERGENCES", "divergence", "has_divergence", "known_pairs"]

Formula = Callable[[Any, Any], Expression]


def divergence(q: RandomVariable, p: RandomVariable) -> Expression | None:
    """Return KL(q || p) of each event, given the values of all that the parameters depend on.

    Parameters
    ----------
    q, p : RandomVariable
        Of one shape.

    Returns
    -------
    Expression or None
        Of p's batch shape; None where there is no formula.
    """
    formula = _formula(q, p)
    return None if formula is None else broadcast_to(formula(q, p), p.batch_shape)  # type: ignore[attr-defined]


def has_divergence(q: RandomVariable, p: RandomVariable) -> bool:
    """Return whether KL(q || p) has a formula."""
    return _formula(q, p) is not None


def known_pairs() -> str:
    """Return in words what pairs have a formula."""
    kinds = [[kind.__name__ for kind in row] for row, _ in DIVERGENCES]
    alone = [names[0] for names in kinds if len(names) == 1]
    among = [f"one of {', '.join(names)} each" for names in kinds if len(names) > 1]
    return f"both {', '.join(alone)}; {'; '.join(among)}"


def _formula(q: RandomVariable, p: RandomVariable) -> Formula | None:
    if q.shape != p.shape:
        return None
    return next((formula for kinds, formula in DIVERGENCES if isinstance(q, kinds) and isinstance(p, kinds)), None)


# --- normals ---------------------------------------------------------------------------------------------------
def _normal(q: Normal | LogNormal, p: Normal | LogNormal) -> Expression:
    (loc, scale), (q_loc, q_scale) = p.inputs, q.inputs
    spread = (square(q_scale) + square(q_loc - loc)) / (2.0 * square(scale))
    return log(scale) - log(q_scale) + spread - 0.5


def _multivariate_normal(q: Any, p: Any) -> Expression:
    """By x = L_p^-1 L_q and y = L_p^-1 (loc_q - loc_p): (|x|^2 + |y|^2 - D) / 2 + log det L_p - log det L_q."""
    size = p.event_shape[0]
    gap = q.parameters["loc"] - p.parameters["loc"]
    if isinstance(q, MultivariateNormalDiag) and isinstance(p, MultivariateNormalDiag):
        ratio = q.parameters["scale_diag"] / p.parameters["scale_diag"]
        each = (square(ratio) + square(gap / p.parameters["scale_diag"])) * 0.5 - log(ratio)
        return cast(Expression, each.sum(-1) - 0.5 * size)
    (q_factor, q_diagonal), (p_factor, p_diagonal) = _factor(q), _factor(p)
    logs = log(p_diagonal).sum(-1) - log(q_diagonal).sum(-1)
    if isinstance(p, MultivariateNormalDiag):
        x, y = q_factor / p_diagonal.reshape(*p_diagonal.shape, 1), gap / p_diagonal
    else:
        batch = np.broadcast_shapes(gap.shape[:-1], q_factor.shape[:-2], p_factor.shape[:-2])
        both = [broadcast_to(gap.reshape(*gap.shape, 1), (*batch, size, 1))]
        both.append(broadcast_to(q_factor, (*batch, size, size)))
        if p_factor.ndim > 2:
            p_factor = broadcast_to(p_factor, (*batch, size, size))
        solved = solve_triangular(p_factor, concatenate(both, -1))
        x, y = solved[..., 1:], solved[..., 0]
    return logs + 0.5 * (square(x).sum(-1).sum(-1) + square(y).sum(-1) - float(size))


def _factor(d: Any) -> tuple[Expression, Expression]:
    """Return the Cholesky factor of the covariance of a normal vector, and its diagonal."""
    if isinstance(d, MultivariateNormalDiag):
        scale = d.parameters["scale_diag"]
        return diag(scale), scale
    if isinstance(d, MultivariateNormalFullCovariance):
        factor = cholesky(d.parameters["covariance_matrix"])
        return factor, diagonals(factor)
    scale_tril = d.parameters["scale_tril"]
    return scale_tril * np.tril(np.ones(scale_tril.shape[-2:])), diagonals(scale_tril)


# --- gamma functions ---------------------------------------------------------------------------------------------
def _above_tangent(x: Expression, y: Expression) -> Expression:
    """Return how far log Gamma is, at x, above its tangent at y."""
    return lgamma(x) - lgamma(y) - (x - y) * digamma(y)


def _rates(a: Expression, b: Expression, c: Expression, d: Expression) -> Expression:
    """Return KL(Gamma(a, rate b) || Gamma(c, rate d))."""
    ratio = d / b
    return _above_tangent(c, a) - c * log(ratio) + a * (ratio - 1.0)


def _gamma(q: Any, p: Any) -> Expression:
    if isinstance(q, Exponential) and isinstance(p, Exponential):
        ratio = p.parameters["rate"] / q.parameters["rate"]
        return ratio - log(ratio) - 1.0
    return _rates(*_as_gamma(q), *_as_gamma(p))


def _as_gamma(d: Any) -> tuple[Expression, Expression]:
    """Return the concentration and the rate."""
    if isinstance(d, Exponential):
        return Constant(1.0), d.parameters["rate"]
    if isinstance(d, Chi2):
        return d.parameters["df"] * 0.5, Constant(0.5)
    return d.parameters["concentration"], d.parameters["rate"]


def _inverse_gamma(q: InverseGamma, p: InverseGamma) -> Expression:
    return _rates(*q.inputs, *p.inputs)


def _beta(q: Beta, p: Beta) -> Expression:
    (a, b), (c, d) = q.inputs, p.inputs
    return _above_tangent(c, a) + _above_tangent(d, b) - _above_tangent(c + d, a + b)


def _dirichlet(q: Dirichlet, p: Dirichlet) -> Expression:
    a, c = q.parameters["concentration"], p.parameters["concentration"]
    return _above_tangent(c, a).sum(-1) - _above_tangent(c.sum(-1), a.sum(-1))


# --- others ------------------------------------------------------------------------------------------------------
def _by_outcomes(q: Any, p: Any) -> Expression:
    probs = q._outcome_probs()
    return cast(Expression, q._mean_log_prob(probs) - p._mean_log_prob(probs))


def _laplace(q: Laplace, p: Laplace) -> Expression:
    (loc, scale), (q_loc, q_scale) = p.inputs, q.inputs
    gap = absolute(q_loc - loc)
    return log(scale) - log(q_scale) + (q_scale * exp(-gap / q_scale) + gap) / scale - 1.0


# Kinds of distributions, any of which may be q and any p, with the formula for them.
DIVERGENCES: tuple[tuple[tuple[type[RandomVariable], ...], Formula], ...] = (
    ((Normal,), _normal),
    ((LogNormal,), _normal),
    ((Laplace,), _laplace),
    ((InverseGamma,), _inverse_gamma),
    ((Beta,), _beta),
    ((Dirichlet,), _dirichlet),
    ((Bernoulli,), _by_outcomes),
    ((Categorical,), _by_outcomes),
    ((OneHotCategorical,), _by_outcomes),
    ((Gamma, Exponential, Chi2), _gamma),
    ((MultivariateNormalDiag, MultivariateNormalTriL, MultivariateNormalFullCovariance), _multivariate_normal),
)
