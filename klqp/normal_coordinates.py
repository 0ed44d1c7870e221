"""Variables whose unconstrained coordinates are Normal: their moments and quantiles, and the way back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from klqp.approximation import gauss_hermite, normal_quantile
from klqp.model.random_variable import RandomVariable

__all__ = ["is_identity", "moments_in_space", "quantile_in_space", "to_unconstrained"]

Float64 = npt.NDArray[np.float64]


def is_identity(z: RandomVariable) -> bool:
    """Return whether the variable's values are its unconstrained coordinates."""
    return z.space.bijector == "identity"


def moments_in_space(z: RandomVariable, loc: Float64, scale: Float64) -> tuple[Float64, Float64] | None:
    """Return means and standard deviations, flat; None where the transform mixes elements.

    Parameters
    ----------
    z : RandomVariable
    loc, scale : ndarray (n_unconstrained,)
        Means and standard deviations of the coordinates.
    """
    if is_identity(z):
        return loc, scale
    if z.space.event_ndim > 0:
        return None
    bijector = z.space.transform(z.shape)
    return gauss_hermite(loc, scale, lambda u: bijector.forward(np.ascontiguousarray(u))[0])


def quantile_in_space(z: RandomVariable, loc: Float64, scale: Float64, probability: float) -> Float64 | None:
    """Return quantiles of the elements, flat; None where the transform mixes elements."""
    if z.space.event_ndim > 0 and not is_identity(z):
        return None
    sign = -1.0 if z.space.bijector == "upper" else 1.0  # the one map that falls
    u = loc + sign * scale * normal_quantile(probability)
    return u if is_identity(z) else z.space.transform(z.shape).forward(u[None])[0][0]


def to_unconstrained(z: RandomVariable, values: Float64) -> tuple[Float64, Float64, npt.NDArray[np.bool_]]:
    """Return the coordinates of values (n, size), the log-Jacobians (n,) there, and where the values are inside.

    Where they are not, the coordinates are 0.
    """
    if is_identity(z):
        return values, np.zeros(len(values)), np.ones(len(values), np.bool_)
    bijector = z.space.transform(z.shape)
    u = bijector.inverse(values)
    inside = np.asarray(np.isfinite(u).all(1))
    u = np.where(inside[:, None], u, 0.0)
    return u, bijector.forward(u)[1].sum(1), inside
