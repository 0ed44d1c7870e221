"""Fit targets with klqp and with peers, and print how close each comes to the best q of its family.

    python -m bench.posteriors                               # klqp on the folder of posteriors
    python -m bench.posteriors --hard --seeds 5              # on the hard targets that are built in
    python -m bench.posteriors --targets mine.py --methods auto numpyro pymc blackjax viabel

Targets: a folder with ``posteriors.py``, ``best_gaussian.json`` and the data they need (``--path``; default: the
environment variable KLQP_POSTERIORDB, or ``../shared/posteriordb`` beside the checkout); a user's own (``--targets``,
see the package's text); or hard ones (``--hard``). ``--json FILE`` adds a line of JSON for each fit as soon as it is
done, and leaves out the fits that FILE has already, so that a long run can be cut and taken up again; ``--tables``
prints the tables of such a file and fits nothing. Peers that are not installed are left out
(``pip install ".[peers]"``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
# `python -m` puts the checkout first, whose klqp/ folder would hide the installed package; at the end of the path it
# still serves for `bench` itself.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != CHECKOUT] + [str(CHECKOUT)]

from bench.posteriors.hard import hard_targets  # noqa: E402
from bench.posteriors.measure import METHODS, contender, measured  # noqa: E402
from bench.posteriors.report import HEAD, line, tables  # noqa: E402
from bench.posteriors.targets import FAMILIES, Target, from_folder, from_module  # noqa: E402


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.posteriors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--path", type=Path, help="a folder of posteriors")
    parser.add_argument("--targets", action="append", default=[], metavar="FILE.py[:NAME]", help="your own")
    parser.add_argument("--hard", action="store_true", help="the hard targets that are built in")
    parser.add_argument("--only", default="", help="targets whose name contains this")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--methods", nargs="+", default=["auto"], choices=METHODS, metavar="METHOD", help=f"{METHODS}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="N: 1 to N; several: these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="lines of JSON; what FILE has is not fitted again")
    parser.add_argument("--tables", action="store_true", help="no fits: print the tables of --json's FILE")
    return parser.parse_args(arguments)


def read_targets(options: argparse.Namespace) -> list[Target]:
    """Return the targets asked for."""
    found = [target for where in options.targets for target in from_module(where)]
    found += hard_targets() if options.hard else []
    default = os.environ.get("KLQP_POSTERIORDB", CHECKOUT.parent / "shared" / "posteriordb")
    folder = options.path or (None if found else Path(default))
    if folder is not None:
        if not (folder / "posteriors.py").is_file():
            raise SystemExit(f"no posteriors.py in {folder}: give --path, --targets or --hard")
        found += from_folder(folder)
    names = [target.name for target in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SystemExit(f"several targets have the name {', '.join(twice)}: rows are told apart by it")
    return [target for target in found if options.only in target.name]


def main(arguments: list[str] | None = None) -> None:
    """Run the fits and print the tables."""
    options = parse(arguments)
    targets = read_targets(options)
    rows = _read(options.json)
    if not options.tables:
        rows = _fit_all(options, targets, rows)
    wanted = {target.name for target in targets}
    rows = [row for row in rows if row["target"] in wanted and row["family"] in options.families]
    known = {(target.name, family): best for target in targets for family, best in target.best.items()}
    if rows:
        print("\n" + tables(rows, known))


def _fit_all(options: argparse.Namespace, targets: list[Target], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    contenders = []
    for method in options.methods:
        found = contender(method)
        if found is None:
            print(f"{method}: left out, it is not installed")
        else:
            contenders.append(found)
    seeds = range(1, options.seeds[0] + 1) if len(options.seeds) == 1 else options.seeds
    plan = [
        (what, target, family, seed)
        for what in contenders
        for target in targets
        for family in options.families
        if family in what.families
        for seed in seeds
    ]
    done = {_key(row) for row in rows}
    print(f"{'':12s}{HEAD}")
    for i, (what, target, family, seed) in enumerate(plan, 1):
        if (target.name, family, what.name, seed) in done:
            continue
        row = measured(what, target, family, seed)
        rows.append(row)
        print(f"{f'[{i}/{len(plan)}]':12s}{line(row)}", flush=True)
        if options.json:
            with options.json.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return rows


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["target"], row["family"], row["contender"], row["seed"]


def _read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    return [json.loads(text) for text in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
