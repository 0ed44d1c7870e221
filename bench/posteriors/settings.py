"""Settings of the fits: one for all posteriors, and the exceptions with their reasons."""

from __future__ import annotations

from typing import Any

from klqp.optimizers import Adam
from klqp.schedules import Cosine, Exponential

N_ITER = 20_000

_COMMON: dict[str, Any] = {
    "n_samples": 10,
    "entropy": "sticking",
    "optimizer": Adam(learning_rate=0.1, schedule=Exponential(1e-3)),
}

# Where the posterior lies tens of units from the start, the common step sizes add up to too short a way.
_FAR = {"optimizer": Adam(learning_rate=0.3, schedule=Cosine(0.01))}

# Far away, and with correlations of .99: long steps, with a shorter memory of the gradient's size.
_FAR_AND_CORRELATED = {
    "optimizer": Adam(learning_rate=0.25, schedule=Cosine(1e-3), beta1=0.95, beta2=0.99),
    "entropy": "adaptive",
}

# Counts of exp(cubic): where the steps are long the iterates leave the region that has any density.
_STEEP = {"optimizer": Adam(learning_rate=0.02, schedule=Exponential(1e-2))}

# In 90 dimensions, full rank, sticking the landing is unstable from a cold start: its L^-T eps has a large variance
# while L is ill-conditioned.
_LARGE = {"entropy": "adaptive"}

_EXCEPTIONS: dict[str, dict[str, Any]] = {
    "kidiq-kidscore_momhs": _FAR,
    "kidiq-kidscore_interaction": _FAR_AND_CORRELATED,
    "GLM_Poisson_Data-GLM_Poisson_model": _STEEP,
    "radon_mn-radon_hierarchical_intercept_noncentered": _LARGE,
}


def settings_of(posterior: str) -> dict[str, Any]:
    """Return the keywords of `klqp.fit` for a posterior."""
    return _COMMON | _EXCEPTIONS.get(posterior, {})
