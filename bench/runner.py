"""Runs groups, in this process or each in one of its own, and collects their tables.

The number of threads of a BLAS and of XLA is read once, when they are loaded. So a group that is run with two numbers
of threads needs two processes, and other groups get theirs too: nobody finds caches, heaps or threads that others left.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import bench
from bench.groups import GROUPS
from bench.settings import Settings


def limit_threads(n):
    """Set the number of threads of every library; only before NumPy is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):  # the last is XLA's
        os.environ[name] = str(n)
    if n == 1:
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()


def run_here(name, threads, options):
    """Run a group in this process and return what the JSON file holds; prints the tables as they come."""
    environment = dict(os.environ)
    if threads > 0:
        limit_threads(threads)
    rounds = options.rounds or (5 if options.quick else 25)
    clock = options.clock or ("cpu" if threads == 1 else "wall")
    baseline = "save" if options.save else "check" if options.check else "show"
    pythons = dict(each.split("=", 1) for each in options.python)
    settings = Settings(rounds, options.quick, threads, clock, environment, baseline, pythons)

    from bench import machine, report  # after the threads are set: they import NumPy

    about = machine.describe(settings)
    print(f"\n# {name}: {GROUPS[name].what}\n\n{report.format_machine(about)}", flush=True)
    tables = []
    for table in importlib.import_module(GROUPS[name].module).run(settings):
        print("\n" + report.format_table(table), flush=True)
        tables.append({**asdict(table), "threads": threads, "clock": clock, "rounds": rounds})
    return {"machine": {**about, "load_at_end": machine.load()}, "groups": {name: tables}}


def run_apart(plan, options):
    """Run each (group, threads) in a process of its own and return what the JSON file holds."""
    result = {"machine": None, "groups": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        for name, threads in plan:
            command = [sys.executable, "-m", "bench", name, "--threads", str(threads), "--json", str(path)]
            command += [f"--{flag}" for flag in ("quick", "check", "save") if getattr(options, flag)]
            command += [
                f"--{name}={value}" for name in ("rounds", "clock") if (value := getattr(options, name)) is not None
            ]
            command += [f"--python={each}" for each in options.python]
            path.unlink(missing_ok=True)
            subprocess.run(command, cwd=bench.CHECKOUT, check=False)
            merge(result, name, threads, json.loads(path.read_text()) if path.exists() else None)
    return result


def merge(result, name, threads, part):
    """Add what a process measured, or that it broke off."""
    tables = result["groups"].setdefault(name, [])
    if part is None:
        tables.append({"title": name, "failures": [f"{name} with {threads} thread(s) broke off"], "threads": threads})
        return
    result["machine"] = result["machine"] or part["machine"]
    result["machine"]["load_at_end"] = part["machine"]["load_at_end"]
    tables += part["groups"][name]


def failures(result):
    """Return what must not be, over all tables."""
    return [note for tables in result["groups"].values() for table in tables for note in table["failures"]]


def write_json(path, result):
    """Write everything to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
