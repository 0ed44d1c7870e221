"""Fit every posterior with both families and print how many nats each stays below its family's best ELBO.

    python -m bench.posteriors [--path FOLDER] [--only TEXT] [--seed 1] [--json FILE]

FOLDER holds ``posteriors.py``, ``best_gaussian.json`` and the data they need; default: the environment variable
KLQP_POSTERIORDB, or ``../shared/posteriordb`` beside the checkout.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
# `python -m` puts the checkout first, whose klqp/ folder would hide the installed package; at the end of the path it
# still serves for `bench` itself.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != CHECKOUT] + [str(CHECKOUT)]

import klqp  # noqa: E402
from bench.posteriors.settings import N_ITER, settings_of  # noqa: E402

N_DRAWS = 20_000
SMALL = 0.1  # nats
FAMILIES = {"mean_field": "meanfield", "full_rank": "fullrank"}


def shortfall(posterior: Any, q: str, best: dict[str, float], seed: int) -> dict[str, Any]:
    """Fit one posterior with one family; return how its ELBO compares with the best one."""
    started = time.perf_counter()
    options = settings_of(posterior.name)
    row: dict[str, Any] = {"posterior": posterior.name, "q": q, "dim": posterior.dim, "best": best["elbo"]}
    try:
        fit = klqp.fit(posterior.log_density, posterior.dim, q=q, n_iter=N_ITER, seed=seed, progress=False, **options)
        elbo = fit.posterior.elbo(N_DRAWS, seed=seed + 1)
    except klqp.TargetError as error:
        return row | {"elbo": None, "error": str(error)}
    seconds = time.perf_counter() - started
    return row | {
        "elbo": elbo.value,
        "std_error": elbo.std_error,
        "short": best["elbo"] - elbo.value,
        "rejected": fit.rejections,
        "seconds": seconds,
    }


def main() -> None:
    """Run the fits and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.posteriors", description=__doc__.splitlines()[0])
    default = os.environ.get("KLQP_POSTERIORDB", CHECKOUT.parent / "shared" / "posteriordb")
    parser.add_argument("--path", type=Path, default=Path(default))
    parser.add_argument("--only", default="", help="posteriors whose name contains this")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sys.path.insert(0, str(args.path))
    posteriors = importlib.import_module("posteriors")
    best = json.loads((args.path / "best_gaussian.json").read_text())
    warnings.simplefilter("ignore", klqp.RejectedDrawsWarning)

    rows = []
    print(f"{'posterior':50s} {'q':10s} {'D':>3s} {'best':>10s} {'short':>8s} {'+-':>6s} {'rejected':>8s} {'s':>6s}")
    for q in args.families:
        for name in (n for n in best if args.only in n):
            row = shortfall(posteriors.make(name), q, best[name][FAMILIES[q]], args.seed)
            rows.append(row)
            _print_row(row)
        mine = [r for r in rows if r["q"] == q]
        within = sum(r["elbo"] is not None and r["short"] < SMALL for r in mine)
        print(f"{q}: {within} of {len(mine)} within {SMALL} nats\n", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


def _print_row(row: dict[str, Any]) -> None:
    head = f"{row['posterior']:50s} {row['q']:10s} {row['dim']:3d} {row['best']:10.2f} "
    if row["elbo"] is None:
        print(head + row["error"], flush=True)
        return
    rejected = row["rejected"]["minus_inf"] + row["rejected"]["invalid"]
    flag = "" if row["short"] < SMALL else "  *"
    print(head + f"{row['short']:8.3f} {row['std_error']:6.3f} {rejected:8d} {row['seconds']:6.1f}{flag}", flush=True)


if __name__ == "__main__":
    main()
