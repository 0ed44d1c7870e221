"""One fit: runs a contender on a target and measures the answer from fresh draws, the same for all contenders."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.posteriors import klqp_fit
from bench.posteriors.answer import Answer
from bench.posteriors.clock import Times, now
from bench.posteriors.targets import Counted, Target

N_DRAWS = 20_000
_AT_ONCE = 2_000
PEERS = {
    "pymc": "pymc_advi",
    "numpyro": "numpyro_svi",
    "blackjax": "blackjax_pathfinder",
    "viabel": "viabel_bbvi",
}
METHODS = (*klqp_fit.METHODS, *PEERS)

Row = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A method of klqp, or a peer."""

    name: str
    families: tuple[str, ...]
    fit: Callable[[Counted, str, int], Answer]
    opinion: Callable[[Answer, int], dict[str, Any]]


def contender(method: str) -> Contender | None:
    """Return the contender of a name in METHODS; None where its packages are not installed."""
    if method in klqp_fit.METHODS:
        klqp_fit.warm_up()
        return Contender(
            f"klqp {method}",
            klqp_fit.families(method),
            lambda target, family, seed: klqp_fit.fit(method, target, family, seed),
            klqp_fit.opinion,
        )
    try:
        module = importlib.import_module(f"bench.posteriors.peers.{PEERS[method]}")
    except ImportError:
        return None
    return Contender(module.NAME, module.FAMILIES, module.fit, lambda answer, seed: {})


def measured(what: Contender, target: Target, family: str, seed: int) -> Row:
    """Return the row of one fit: counts, times, ELBO and effective draws of fresh draws, and the contender's opinion.

    A contender's error is its answer: it goes into the row.
    """
    counted = Counted(target)
    row: Row = {"target": target.name, "dim": target.dim, "family": family, "contender": what.name, "seed": seed}
    row["has_optimum"] = target.has_optimum
    started = now()
    try:
        answer = what.fit(counted, family, seed)
        error = None
    except Exception as problem:
        answer, error = None, f"{type(problem).__name__}: {problem}"
    took = now().since(started)
    row |= {"calls": counted.calls, "points": counted.points, "seconds": took.cpu, "wall_seconds": took.wall}
    if answer is None:
        return row | {"error": error, "verdict": "error"}
    before = Times(0.0, 0.0) if counted.first is None else counted.first.since(started)
    compiling = answer.compiling or before
    row["compile_seconds"] = compiling.cpu
    row["inside"] = counted.seconds / max(took.wall - compiling.wall, counted.seconds)
    row |= {"loc": answer.loc.tolist(), "sd": answer.sd.tolist(), **quality(target, answer, seed)}
    return row | what.opinion(answer, seed)


def quality(target: Target, answer: Answer, seed: int) -> Row:
    """Return ELBO, its standard error, and the share of effective draws, over the draws with a finite log density."""
    if not (np.isfinite(answer.loc).all() and np.isfinite(answer.factor).all()):
        return {"elbo": None, "error": "q is not finite"}
    z, log_q = answer.draws(N_DRAWS, np.random.default_rng([seed, target.dim]))
    with np.errstate(all="ignore"):
        log_p = np.concatenate(
            [np.asarray(target.log_density(z[i : i + _AT_ONCE])[0]) for i in range(0, N_DRAWS, _AT_ONCE)]
        )
    log_ratio = (log_p - log_q)[np.isfinite(log_p)]
    n = len(log_ratio)
    if n < 2:
        return {"elbo": None, "error": "the log density is finite at none of the draws of q", "rejected": N_DRAWS - n}
    weights = np.exp(log_ratio - log_ratio.max())
    return {
        "elbo": float(log_ratio.mean()),
        "std_error": float(log_ratio.std(ddof=1) / math.sqrt(n)),
        "rejected": N_DRAWS - n,
        "is_ess": float(weights.sum() ** 2 / (weights**2).sum() / N_DRAWS),
    }
