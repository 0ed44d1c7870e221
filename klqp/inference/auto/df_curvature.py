"""Curvature of the ELBO in the degrees of freedom of a Student-t: how they and the scales stand for each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.family_parts import df_information, df_of

__all__ = ["with_df"]

Float64 = npt.NDArray[np.float64]

_STEP = 1e-4  # of differences
_LEAST_SHARE = 0.02  # of the information that the scales leave, and
_LEAST = 1e-4  # the least of it


def with_df(
    inverse: Callable[[Float64], Float64], spec: _core.FamilySpec, params: Float64, noise: Float64
) -> Callable[[Float64], Float64]:
    """Return an approximate inverse Hessian that knows of the last parameter, that of the degrees of freedom.

    The Hessian of KL(q, p) at q = p is the Fisher information. Its last column is E[s s_last] with the score s, here
    over draws; the other columns are those of `inverse`.

    Parameters
    ----------
    inverse : callable
        Of the other parameters; what it makes of the last one is not used.
    spec : FamilySpec
    params : ndarray (P,)
    noise : ndarray (S, E)
        Of the draws.
    """
    member, step = _core.Member(spec, params), np.zeros_like(params)
    step[-1] = _STEP
    y = member.transform(noise)
    above, below = (_core.Member(spec, params + sign * step).log_density(y) for sign in (1.0, -1.0))
    column = member.score(y, (above - below) / (2.0 * _STEP * len(y)))
    column[-1] = 0.0
    own = df_information(spec.dim, df_of(spec, params))
    spread = inverse(column)
    spread[-1] = 0.0
    left = max(own - float(column @ spread), _LEAST_SHARE * own, _LEAST)

    def times(v: Float64) -> Float64:
        out = inverse(v)
        last = (float(v[-1]) - float(spread @ v)) / left
        out -= last * spread
        out[-1] = last
        return out

    return times
