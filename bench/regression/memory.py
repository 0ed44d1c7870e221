"""Peak memory of a fit beside its data, in a process of its own."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

_SCRIPT = Path(__file__).parent.parent / "processes" / "regression_memory.py"


def peak(shape, environment, dtype="float64"):
    """Return the bytes of X and y, and the bytes above the imports that a process with these and a fit had at most."""
    command = [sys.executable, _SCRIPT, *map(str, (shape.n_rows, shape.dim, shape.n_draws)), dtype]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    return measured["data"], measured["peak"]
