"""Group "startup": the import beside NumPy's, and whole processes, in fresh interpreters in turn.

Processes run with the environment of the command line: thread settings of the harness do not reach
them. Wall and processor time are shown, because a busy machine stretches the first.
"""

import importlib.util
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import klqp
from bench.report import Table
from bench.timing import interleaved, summary

IMPORTS = {
    "python": "pass",
    "import numpy": "import numpy",
    "import klqp": "import numpy, klqp",
    "import scipy.special": "import numpy, scipy.special",
    "import jax": "import numpy, jax",
}
SCRIPTS = {
    "klqp": "logistic_klqp.py",
    "klqp, lean function": "logistic_klqp_lean.py",
    "JAX": "logistic_jax.py",
}
MODEL_SCRIPTS = {"klqp": "model_klqp.py", "NumPyro": "model_numpyro.py"}
IMPORT_TARGET_MS, PROCESS_TARGET_MS = 80.0, 1000.0
ROUNDS = 12
TOLERANCE = 0.02  # between the means that the two processes print; the posterior's sds are about 0.1


class Process:
    """A fresh interpreter away from the checkout, launched at every call.

    Attributes
    ----------
    cpu : list of float
        Processor seconds of each launch, children of the process included.
    printed : str
        What the last launch printed.
    """

    def __init__(self, arguments, environment):
        self._command = [sys.executable, *map(str, arguments)]
        self._environment = environment
        self.cpu, self.printed = [], ""

    def __call__(self):
        """Launch it and wait for its end."""
        before = self._children()
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(self._command, cwd=folder, env=self._environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(self._command)} failed:\n{done.stderr}")
        self.cpu.append(self._children() - before)
        self.printed = done.stdout

    @staticmethod
    def _children():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime


def measure(processes, settings):
    """Return name -> (wall, cpu), seconds of each round."""
    wall = interleaved(processes, settings, batch=0.0)
    return {name: (wall[name], np.array(one.cpu[-settings.rounds :])) for name, one in processes.items()}


def milliseconds(seconds):
    """Return the median in milliseconds."""
    return float(np.median(seconds)) * 1e3


def met(value, target):
    """Return whether a target was met, in a word."""
    return None if target is None else "yes" if value <= target else "no"


def import_table(settings):
    """Return the table of imports."""
    table = Table(
        "Fresh processes: milliseconds, and beyond `import numpy`",
        ["process", "wall", "cpu", "wall beyond", "cpu beyond", "target", "met"],
        notes=["`import klqp` and the lines below it import numpy first. Targets are for the wall."],
    )
    processes = {
        name: Process(["-c", code], settings.environment)
        for name, code in IMPORTS.items()
        if name != "import jax" or importlib.util.find_spec("jax") is not None
    }
    times = measure(processes, settings)
    numpy_wall, numpy_cpu = times["import numpy"]
    for name, (wall, cpu) in times.items():
        beyond = [None, None]
        if name not in ("python", "import numpy"):
            beyond = [milliseconds(wall - numpy_wall), milliseconds(cpu - numpy_cpu)]
        target = IMPORT_TARGET_MS if name == "import klqp" else None
        row = [name, milliseconds(wall), milliseconds(cpu), *beyond, target, met(beyond[0], target)]
        table.rows.append(row)
        table.details.append({"process": name, "wall": summary(wall), "cpu": summary(cpu)})
    return table


def timed_processes(scripts, settings):
    """Return name -> (wall, cpu) of scripts in bench/processes, and the means that they print."""
    folder = Path(__file__).parent / "processes"
    processes = {name: Process([folder / script], settings.environment) for name, script in scripts.items()}
    times = measure(processes, settings)
    return times, {name: np.array(one.printed.split(), float) for name, one in processes.items()}


def compare_means(means, reference, table):
    """Note as a failure of the table every mean that differs from the reference's."""
    for name, mean in means.items():
        off = float(np.max(np.abs(mean - means[reference])))
        if off > TOLERANCE:
            table.failures.append(f"process {name}: its mean differs from {reference}'s by {off:.3f}")


def model_table(settings):
    """Return the table of whole processes with a model in random variables."""
    table = Table(
        "Fresh process: import, build the model of the logistic regression, 2,000 steps with S=10, print",
        ["process", "wall ms", "cpu ms", "/ klqp, wall"],
    )
    there = {"klqp": hasattr(klqp, "Normal"), "NumPyro": importlib.util.find_spec("numpyro") is not None}
    times, means = timed_processes({k: v for k, v in MODEL_SCRIPTS.items() if there[k]}, settings)
    for name, (wall, cpu) in times.items():
        ratio = float(np.median(wall / times["klqp"][0])) if "klqp" in times else None
        table.rows.append([name, milliseconds(wall), milliseconds(cpu), ratio])
        table.details.append({"process": name, "wall": summary(wall), "cpu": summary(cpu)})
    if "klqp" in means:
        compare_means(means, "klqp", table)
    else:
        table.notes.append("The installed klqp has no random variables: its process is left out.")
    if not there["NumPyro"]:
        table.notes.append("NumPyro is not installed: its process is left out.")
    return table


def process_table(settings):
    """Return the table of whole processes."""
    table = Table(
        "Fresh process: import, fit a logistic regression (N=1000, D=10, 2,000 steps, S=10), print",
        ["process", "wall ms", "cpu ms", "target", "met"],
        notes=["Both klqp rows are the same fit: the log density as one writes it, and with one exponential."],
    )
    scripts = {k: v for k, v in SCRIPTS.items() if k != "JAX" or importlib.util.find_spec("jax") is not None}
    times, means = timed_processes(scripts, settings)
    for name, (wall, cpu) in times.items():
        target = None if name == "JAX" else PROCESS_TARGET_MS
        value = milliseconds(wall)
        table.rows.append([name, value, milliseconds(cpu), target, met(value, target)])
        table.details.append({"process": name, "wall": summary(wall), "cpu": summary(cpu)})
    compare_means(means, "klqp", table)
    if "JAX" not in times:
        table.notes.append("JAX is not installed: its process is left out.")
    return table


def run(settings):
    """Yield the tables."""
    rounds = settings.rounds if settings.quick else ROUNDS
    outside = replace(settings, rounds=rounds, clock="wall")
    yield import_table(outside)
    yield process_table(outside)
    yield model_table(outside)
