"""The contender klqp: its automatic method, its parts by name, or stochastic gradients with chosen settings."""

from __future__ import annotations

import warnings
from typing import Any

import klqp
from bench.posteriors.answer import Answer, from_covariance
from bench.posteriors.settings import N_ITER, settings_of
from bench.posteriors.targets import FAMILIES, Counted

METHODS = ("auto", "adam", "saa", "pathfinder", "bam", "tuned")


def warm_up() -> None:
    """Fit something small, so that no fit that is timed pays for imports."""
    klqp.fit(lambda z: (-0.5 * (z**2).sum(1), -z), 1, seed=1, progress=False)


def families(method: str) -> tuple[str, ...]:
    """Return the families that a method fits."""
    return ("full_rank",) if method == "bam" else tuple(FAMILIES)


def fit(method: str, target: Counted, family: str, seed: int) -> Answer:
    """Fit with nothing else given; "tuned" takes 20,000 steps with the settings of `settings.py`.

    Raises
    ------
    klqp.TargetError
        If the log density is finite nowhere.
    """
    how: dict[str, Any] = {"method": method}
    if method == "tuned":
        how = {"n_iter": N_ITER, **settings_of(target.target.name)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", klqp.RejectedDrawsWarning)
        warnings.simplefilter("ignore", klqp.PoorFitWarning)
        run = klqp.fit(target, target.dim, q=family, seed=seed, progress=False, **how)
    z = run.posterior["z"]
    found = Answer(z.mean(), z.stddev()) if family == "mean_field" else from_covariance(z.mean(), z.covariance())
    found.says = {"inference": run}
    return found


def opinion(found: Answer, seed: int) -> dict[str, Any]:
    """Return klqp's verdict on an answer of its own; not part of the time of the fit, which has one inside."""
    verdict = found.says["inference"].diagnose(seed=seed)
    e = verdict.evidence
    return {
        "verdict": verdict.word,
        "reasons": list(verdict.reasons),
        "k_hat": e.k_hat,
        "ess": e.ess,
        "remaining": e.remaining,
        "stopped": e.stopped,
        "starts": list(e.starts),
        "other_mode": e.other_mode,
    }
