"""Group "counts": instructions of a step, by valgrind; other processes do not disturb that figure.

Two fits that differ in their number of steps are counted: what a process and a fit cost once
cancels in the difference.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.report import Table

DIMS = (10, 100, 1000)
STEPS = (100, 600)
_SCRIPT = Path(__file__).parent / "processes" / "count.py"


def instructions(dim, n_steps, environment):
    """Return the instructions of a whole process."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, _SCRIPT, str(dim), str(n_steps)],
            cwd=folder,
            env={**environment, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def run(settings):
    """Yield the table."""
    table = Table(
        "Instructions a step: mean field, S=10, a Python function that returns ready arrays",
        ["D", "instructions", "per draw and coordinate"],
    )
    if shutil.which("valgrind") is None:
        table.notes.append("valgrind was not found: nothing is counted.")
        yield table
        return
    for dim in DIMS[:1] if settings.quick else DIMS:
        few, many = (instructions(dim, n, settings.environment) for n in STEPS)
        each = (many - few) / (STEPS[1] - STEPS[0])
        table.rows.append([dim, round(each), each / (10 * dim)])
    yield table
