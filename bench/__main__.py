"""Command line: reads the options, runs the groups asked for, prints tables and writes JSON."""

import argparse
import sys
from pathlib import Path

import bench
from bench import runner
from bench.groups import DEFAULT, GROUPS


def parse(arguments):
    """Return the options."""
    groups = "\n".join(f"  {name:12}{group.what}" for name, group in GROUPS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Benchmarks of klqp.",
        epilog=f"groups:\n{groups}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("groups", nargs="*", metavar="group", help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--rounds", type=int, default=None, help="default 25, with --quick 5")
    parser.add_argument("--quick", action="store_true", help="few rounds, small problems only")
    parser.add_argument(
        "--threads",
        type=int,
        default=None,
        help="for klqp, BLAS and XLA alike; default: what the group is meant for; 0 leaves each at its own default",
    )
    parser.add_argument(
        "--clock",
        choices=("cpu", "wall"),
        default=None,
        help="default: cpu time with one thread, which other processes disturb less; else wall",
    )
    parser.add_argument("--check", action="store_true", help="counts: fail where a count is above its baseline")
    parser.add_argument("--save", action="store_true", help="counts: make these counts the baseline")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="startup: the interpreter that has a peer installed, such as PyMC=/somewhere/bin/python",
    )
    parser.add_argument("--json", type=Path, default=None, metavar="PATH", help="default bench/results/TIME.json")
    options = parser.parse_args(arguments)
    for name in options.groups:
        if name not in GROUPS:
            parser.error(f"unknown group {name!r}; there are {', '.join(GROUPS)}")
    if not all("=" in each for each in options.python):
        parser.error("--python wants NAME=PATH")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def main(arguments=None):
    """Run the groups asked for; each number of threads of each group has a process of its own."""
    options = parse(arguments)
    names = options.groups or DEFAULT
    plan = [(name, n) for name in names for n in threads_of(name, options.threads)]
    one = len(plan) == 1
    result = runner.run_here(*plan[0], options) if one else runner.run_apart(plan, options)
    path = options.json or bench.CHECKOUT / "bench" / "results" / f"{result['machine']['time']}.json"
    runner.write_json(path, result)
    print(f"\nwritten to {path}")
    failures = runner.failures(result)
    for note in failures:
        print(f"FAILED: {note}")
    return 1 if failures else 0


def threads_of(name, asked):
    """Return the numbers of threads to run a group with."""
    return GROUPS[name].threads if asked is None else (asked,)


if __name__ == "__main__":
    sys.exit(main())
