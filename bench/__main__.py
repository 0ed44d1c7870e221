"""Command line: reads the options, runs the groups asked for, prints tables and writes JSON."""

import argparse
import importlib
import os
import sys
from pathlib import Path

import bench
from bench.settings import Settings

GROUPS = {  # name -> (module, what it measures)
    "kernels": ("bench.kernel_speed", "the C++ kernels beside NumPy and SciPy"),
    "matrices": ("bench.matrix_speed", "the C++ matrix kernels beside NumPy"),
    "draws": ("bench.draws", "draws with pathwise gradients, beside JAX"),
    "steps": ("bench.steps", "the engine's time for a step beyond the user's function"),
    "overhead": ("bench.overhead", "what a fit costs beside its steps"),
    "peers": ("bench.peers", "the same fits by hand-written NumPy and by JAX"),
    "models": ("bench.models", "models in random variables, by klqp and by NumPyro"),
    "gradients": ("bench.gradients", "the noise that each gradient estimator leaves, factor by factor"),
    "startup": ("bench.startup", "import and whole processes"),
    "counts": ("bench.counts", "instructions of a step, by valgrind; not run by default"),
}
DEFAULT = [name for name in GROUPS if name != "counts"]


def parse(arguments):
    """Return the options."""
    groups = "\n".join(f"  {name:10}{what}" for name, (_, what) in GROUPS.items())
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
        default=1,
        help="for klqp, BLAS and XLA alike, default 1; 0 leaves each at its own default",
    )
    parser.add_argument(
        "--clock",
        choices=("cpu", "wall"),
        default=None,
        help="default: cpu time with one thread, which other processes disturb less; else wall",
    )
    parser.add_argument("--json", type=Path, default=None, metavar="PATH", help="default bench/results/TIME.json")
    options = parser.parse_args(arguments)
    for name in options.groups:
        if name not in GROUPS:
            parser.error(f"unknown group {name!r}; there are {', '.join(GROUPS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def limit_threads(n):
    """Set the number of threads of every library; only before NumPy is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(n)
    if n == 1:
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()


def main(arguments=None):
    """Run the groups asked for."""
    options = parse(arguments)
    environment = dict(os.environ)
    if options.threads > 0:
        limit_threads(options.threads)
    rounds = options.rounds or (5 if options.quick else 25)
    clock = options.clock or ("cpu" if options.threads == 1 else "wall")
    settings = Settings(rounds, options.quick, options.threads, clock, environment)

    from bench import machine, report  # after the threads are set: they import NumPy

    about = machine.describe(settings)
    print(report.format_machine(about), flush=True)
    tables = {}
    for group in options.groups or DEFAULT:
        print(f"\n# {group}: {GROUPS[group][1]}", flush=True)
        tables[group] = []
        for table in importlib.import_module(GROUPS[group][0]).run(settings):
            print("\n" + report.format_table(table), flush=True)
            tables[group].append(table)
    path = options.json or bench.CHECKOUT / "bench" / "results" / f"{about['time']}.json"
    report.write_json(path, {**about, "load_at_end": machine.load()}, tables)
    print(f"\nwritten to {path}")
    missed = [note for each in tables.values() for table in each for note in table.failures]
    for note in missed:
        print(f"FAILED: {note}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
