"""Fit every posterior with both families and print how many nats each stays below its family's best ELBO.

    python -m bench.posteriors [--method auto] [--path FOLDER] [--only TEXT] [--seeds 1 2 3] [--json FILE]

FOLDER holds ``posteriors.py``, ``best_gaussian.json`` and the data they need; default: the environment variable
KLQP_POSTERIORDB, or ``../shared/posteriordb`` beside the checkout. Without --method: stochastic gradients with the
settings of ``settings.py``. Times are of the process; calls and points are of the log density during the fit.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
# `python -m` puts the checkout first, whose klqp/ folder would hide the installed package; at the end of the path it
# still serves for `bench` itself.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != CHECKOUT] + [str(CHECKOUT)]

import numpy as np  # noqa: E402

import klqp  # noqa: E402
from bench.posteriors.settings import N_ITER, settings_of  # noqa: E402

N_DRAWS = 20_000
SMALL = 0.1  # nats
FAMILIES = {"mean_field": "meanfield", "full_rank": "fullrank"}


class Counted:
    """A log density that counts its calls and points."""

    def __init__(self, log_density: Callable[[Any], Any]) -> None:
        self.log_density, self.calls, self.points = log_density, 0, 0

    def __call__(self, z: Any) -> Any:
        self.calls += 1
        self.points += len(z)
        return self.log_density(z)


def shortfall(posterior: Any, q: str, best: dict[str, Any], seed: int, method: str | None) -> dict[str, Any]:
    """Fit one posterior with one family; return how its ELBO compares with the best one."""
    target = Counted(posterior.log_density)
    options = {"method": method} if method else {"n_iter": N_ITER, **settings_of(posterior.name)}
    row: dict[str, Any] = {"posterior": posterior.name, "q": q, "dim": posterior.dim, "best": best["elbo"]}
    row |= {"seed": seed, "is_ess": best["is_ess"]}
    started = time.process_time()
    try:
        fit = klqp.fit(target, posterior.dim, q=q, seed=seed, progress=False, **options)
    except klqp.TargetError as error:
        return row | {"elbo": None, "error": str(error)}
    seconds = time.process_time() - started
    row |= {"calls": target.calls, "points": target.points}
    elbo = fit.posterior.elbo(N_DRAWS, seed=seed + 1)
    verdict = fit.diagnose(seed=seed)
    scale = np.asarray(best["sd"])
    return row | {
        "elbo": elbo.value,
        "std_error": elbo.std_error,
        "short": best["elbo"] - elbo.value,
        "loc_error": float((np.abs(fit.posterior["z"].mean() - best["mu"]) / scale).max()),
        "scale_error": float(np.abs(fit.posterior["z"].stddev() / scale - 1.0).max()),
        "rejected": fit.rejections,
        "seconds": seconds,
        "verdict": verdict.word,
        "k_hat": verdict.evidence.k_hat,
        "ess": verdict.evidence.ess,
        "remaining": verdict.evidence.remaining,
        "reasons": verdict.reasons,
    }


def within(row: dict[str, Any]) -> bool:
    """Return whether a fit is within 0.1 nat of the best, plus two standard errors."""
    return row["elbo"] is not None and row["short"] < SMALL + 2.0 * row["std_error"]


def main() -> None:
    """Run the fits and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.posteriors", description=__doc__.splitlines()[0])
    default = os.environ.get("KLQP_POSTERIORDB", CHECKOUT.parent / "shared" / "posteriordb")
    parser.add_argument("--path", type=Path, default=Path(default))
    parser.add_argument("--only", default="", help="posteriors whose name contains this")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--method", choices=["auto", "adam", "saa", "pathfinder", "bam"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sys.path.insert(0, str(args.path))
    posteriors = importlib.import_module("posteriors")
    best = json.loads((args.path / "best_gaussian.json").read_text())
    warnings.simplefilter("ignore", klqp.RejectedDrawsWarning)
    warnings.simplefilter("ignore", klqp.PoorFitWarning)

    rows = []
    print(
        f"{'posterior':50s} {'q':10s} {'D':>3s} {'seed':>4s} {'best':>10s} {'short':>8s} {'+-':>6s} {'loc':>5s} "
        f"{'scale':>5s} {'calls':>6s} {'points':>8s} {'s':>6s} {'k_hat':>5s} {'ess':>4s} verdict"
    )
    for q in args.families:
        for name in (n for n in best if args.only in n):
            for seed in args.seeds:
                row = shortfall(posteriors.make(name), q, best[name][FAMILIES[q]], seed, args.method)
                rows.append(row)
                _print_row(row)
        _print_summary(q, [r for r in rows if r["q"] == q])
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1, default=str))


def _print_summary(q: str, rows: list[dict[str, Any]]) -> None:
    good, done = sum(within(r) for r in rows), [r for r in rows if r["elbo"] is not None]
    print(
        f"{q}: {good} of {len(rows)} within {SMALL} nats (plus two standard errors); medians: "
        f"{np.median([r['calls'] for r in done]):.0f} calls, {np.median([r['points'] for r in done]):.0f} points, "
        f"{np.median([r['seconds'] for r in done]):.2f} s"
    )
    false_ok = [r for r in rows if r.get("verdict") == "ok" and (r["is_ess"] < 0.1 or not within(r))]
    false_alarm = [r for r in rows if r.get("verdict") != "ok" and r["is_ess"] > 0.7 and within(r)]
    print(f"{q}: {len(false_ok)} wrong 'ok', {len(false_alarm)} wrong warnings\n", flush=True)


def _print_row(row: dict[str, Any]) -> None:
    head = f"{row['posterior']:50s} {row['q']:10s} {row['dim']:3d} {row['seed']:4d} {row['best']:10.2f} "
    if row["elbo"] is None:
        print(head + row["error"], flush=True)
        return
    print(
        head + f"{row['short']:8.3f} {row['std_error']:6.3f} {row['loc_error']:5.2f} {row['scale_error']:5.2f} "
        f"{row['calls']:6d} {row['points']:8d} {row['seconds']:6.2f} {row['k_hat']:5.2f} {row['ess']:4.2f} "
        f"{row['verdict']}{'' if within(row) else '  *'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
