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

# Counts of exp(cubic): where the steps are long the iterates leave the region that has any density.
_STEEP = {"optimizer": Adam(learning_rate=0.02, schedule=Exponential(1e-2))}

_EXCEPTIONS: dict[str, dict[str, Any]] = {
    "kidiq-kidscore_momhs": _FAR,
    "kidiq-kidscore_interaction": _FAR,
    "GLM_Poisson_Data-GLM_Poisson_model": _STEEP,
}


def settings_of(posterior: str) -> dict[str, Any]:
    """Return the keywords of `klqp.fit` for a posterior."""
    return _COMMON | _EXCEPTIONS.get(posterior, {})
