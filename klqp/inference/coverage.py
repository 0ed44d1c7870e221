"""Coverage: the share of the posterior's mass that a mixture leaves to its tails, seen by draws with wider ones.

Draws of q itself cannot show what q does not reach: a mixture that fits the posterior well wherever it draws has even
weights. Half of the draws here are of Student-t's in the places of its components (docs/maths.md 11.8).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.family_parts import normal_part, split_mixture
from klqp.inference.flat_view import FlatView
from klqp.psis import smooth_weights

__all__ = ["missing_mass"]

Float64 = npt.NDArray[np.float64]

_DF = 3.0
_HALF = math.log(0.5)


def missing_mass(view: FlatView, params: Float64, log_p: Float64, noise: Float64, key: int) -> float:
    """Return the share of the posterior's mass to which a mixture gives less than half of its due.

    Parameters
    ----------
    view : FlatView
    params : ndarray (P,)
        Of the mixture.
    log_p : ndarray (S,)
        The log density at its draws.
    noise : ndarray (S, E)
        Of these draws.
    key : int
        Of as many wide draws.

    Returns
    -------
    float
        NaN where the log density is finite at no draw.
    """
    member, wide = _core.Member(view.spec, params), _Wide(view.spec, params)
    z = np.concatenate([member.transform(noise), wide.draws(len(noise), key)])
    n = len(noise)
    with np.errstate(all="ignore"):
        log_p = np.concatenate([log_p, view.evaluate(z[n:])[0]])
    usable = np.isfinite(log_p) & np.isfinite(z).all(1)
    if not usable.any():
        return math.nan
    log_q = member.log_density(z[usable])
    log_r = np.logaddexp(log_q, wide.log_density(z[usable])) + _HALF
    ratio = log_p[usable] - log_r
    log_evidence = float(np.logaddexp.reduce(ratio)) - math.log(len(z))
    weights = smooth_weights(ratio).weights
    return float(weights[log_q < log_p[usable] - log_evidence + _HALF].sum())


class _Wide:
    """The mixture of Student-t's in the places of a mixture's Normals."""

    def __init__(self, spec: _core.FamilySpec, params: Float64) -> None:
        weights, parts = split_mixture(spec, params)
        used = [k for k, weight in enumerate(weights) if weight > 0]
        self._weights = weights[used]
        name = "student_t" if normal_part(spec).name == "full_rank" else "mean_field_student_t"
        wide = _core.FamilySpec(name, spec.dim, scale=spec.scale, df=_DF)
        self._members = [_core.Member(wide, np.ascontiguousarray(parts[k])) for k in used]
        self._width = wide.noise_dim

    def draws(self, n: int, key: int) -> Float64:
        """Return n draws (n, D)."""
        rng = np.random.Generator(np.random.Philox(key=key))
        counts = rng.multinomial(n, self._weights / self._weights.sum())
        noise = [rng.standard_normal((count, self._width)) for count in counts]
        return np.concatenate([m.transform(e) for m, e in zip(self._members, noise, strict=True) if len(e)])

    def log_density(self, z: Float64) -> Float64:
        """Return the log densities (n,)."""
        logs = [np.log(w) + m.log_density(z) for w, m in zip(self._weights, self._members, strict=True)]
        return np.asarray(np.logaddexp.reduce(logs, axis=0))
