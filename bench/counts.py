"""Group "counts": instructions of a step, by valgrind; other processes do not disturb that figure.

Two fits that differ in their number of steps are counted: what a fit costs once cancels in the difference. The counts
that are kept in counts.json are a baseline to see regressions by: ``python -m bench counts --check`` fails when a step
needs more, ``--save`` makes the present counts the baseline. They hold for one instruction set, and nearly for one
compiler.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.report import Table
from klqp import _core

# kind, sizes (D, or N x D x S), steps of both fits
CASES = [
    ("engine", "10", 100, 600),
    ("engine", "100", 100, 600),
    ("engine", "1000", 100, 600),
    ("regression", "200x5x1", 200, 1200),
    ("regression", "1000x10x10", 10, 60),
    ("regression", "10000x100x8", 2, 6),
    ("regression", "10000x100x32", 2, 4),
]
QUICK = [CASES[0], CASES[3], CASES[4]]
TOLERANCE = 0.02
BASELINE = Path(__file__).parent / "counts.json"
_SCRIPT = Path(__file__).parent / "processes" / "count.py"
_MARK = "getppid"


def instructions(cases, environment):
    """Return the instructions of a step of each case."""
    arguments = [",".join(map(str, case)) for case in cases]
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", f"--dump-before={_MARK}"]
        subprocess.run(
            [*command, sys.executable, _SCRIPT, *arguments],
            cwd=folder,
            env={**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            capture_output=True,
            check=True,
        )
        parts = sorted((p for p in Path(folder).iterdir() if p.suffix[1:].isdigit()), key=lambda p: int(p.suffix[1:]))
        totals = [int(re.search(r"^(?:summary|totals): (\d+)", p.read_text(), re.M)[1]) for p in parts]
    # Of each case: what came before, the fit of few steps, the fit of many.
    fits = zip(totals[1::3], totals[2::3], strict=False)
    return [round((high - low) / (case[3] - case[2])) for case, (low, high) in zip(cases, fits, strict=True)]


def compiler():
    """Return the version of the compiler that this environment would take, as text."""
    found = shutil.which(os.environ.get("CXX", "c++"))
    if found is None:
        return "unknown"
    return subprocess.run([found, "--version"], capture_output=True, text=True).stdout.partition("\n")[0]


def read_baseline():
    """Return the baseline's counts by case, of the instruction set in use; none if there are none."""
    kept = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    return kept.get(_core.kernels.active(), {}).get("counts", {})


def save_baseline(counts):
    """Keep counts by case, those of other instruction sets as they are."""
    kept = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    kept[_core.kernels.active()] = {"compiler": compiler(), "counts": counts}
    BASELINE.write_text(json.dumps(kept, indent=1) + "\n")


def run(settings):
    """Yield the table."""
    table = Table(
        "Instructions a step, mean field: the engine with S=10 and a Python function that returns ready arrays, and "
        "logistic regressions N x D x S in random variables",
        ["case", "size", "instructions", "baseline", "ratio"],
        notes=[f"Kernel table {_core.kernels.active()}; --check allows {TOLERANCE:.0%} above the baseline."],
    )
    if shutil.which("valgrind") is None:
        table.notes.append("valgrind was not found: nothing is counted.")
        table.failures += ["counts: valgrind was not found"] if settings.baseline == "check" else []
        yield table
        return
    cases, kept = QUICK if settings.quick else CASES, read_baseline()
    counts = instructions(cases, settings.environment)
    for (kind, size, *_), count in zip(cases, counts, strict=True):
        before = kept.get(f"{kind} {size}")
        ratio = None if before is None else count / before
        table.rows.append([kind, size, count, before, None if ratio is None else f"{ratio:.3f}"])
        if settings.baseline == "check" and ratio is not None and ratio > 1 + TOLERANCE:
            table.failures.append(f"counts: {kind} {size} needs {ratio:.3f} times the instructions of the baseline")
    if settings.baseline == "save":
        save_baseline({**kept, **{f"{c[0]} {c[1]}": n for c, n in zip(cases, counts, strict=True)}})
    if settings.baseline == "check" and not kept:
        table.failures.append(f"counts: the baseline has no counts of the kernel table {_core.kernels.active()}")
    yield table
