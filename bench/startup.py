"""Group "startup": the import beside NumPy's, and whole processes from start to posterior, in fresh interpreters.

Processes run in turn, with the environment of the command line: thread settings of the harness do not reach them. Wall
and processor time are shown, because a busy machine stretches the first. Peers that are not installed beside klqp are
run by an interpreter of their own: ``--python PyMC=PATH``.
"""

import importlib.util
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.report import Table, verdict
from bench.timing import interleaved, summary

IMPORTS = {
    "python": "pass",
    "import numpy": "import numpy",
    "import klqp": "import numpy, klqp",
    "import scipy.special": "import numpy, scipy.special",
    "import jax": "import numpy, jax",
}


@dataclass(frozen=True)
class Script:
    """A process from start to posterior.

    Attributes
    ----------
    file : str
        In bench/processes; prints the posterior mean.
    package : str
        What it imports.
    tolerance : float
        How far its means may be from klqp's; the posterior's sds are about 0.1. PyMC's gradient keeps noise at the
        optimum, and its ADVI has no schedule.
    """

    file: str
    package: str
    tolerance: float = 0.02


OURS = "klqp"
SCRIPTS = {
    OURS: Script("model_klqp.py", "klqp"),
    "klqp, log density in NumPy": Script("logistic_klqp.py", "klqp"),
    "klqp, a lean one": Script("logistic_klqp_lean.py", "klqp"),
    "JAX": Script("logistic_jax.py", "jax"),
    "NumPyro": Script("model_numpyro.py", "numpyro"),
    "PyMC": Script("model_pymc.py", "pymc", 0.06),
}
IMPORT_TARGET_MS, PROCESS_TARGET_MS, PEER_RATIO = 80.0, 500.0, 20.0
ROUNDS, BUDGET = 12, 240.0  # most rounds of both tables, seconds of the second


class Process:
    """A fresh interpreter away from the checkout, launched at every call.

    Attributes
    ----------
    cpu : list of float
        Processor seconds of each launch, children of the process included.
    printed : str
        What the last launch printed.
    """

    def __init__(self, arguments, environment, python=sys.executable):
        self._command = [python, *map(str, arguments)]
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


def measure(processes, settings, **limits):
    """Return name -> (wall, cpu), seconds of each round."""
    wall = interleaved(processes, settings, batch=0.0, **limits)
    return {name: (wall[name], np.array(one.cpu[-len(wall[name]) :])) for name, one in processes.items()}


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


def interpreters(settings):
    """Return name -> the interpreter of each script that can run."""
    there = {}
    for name, script in SCRIPTS.items():
        if name in settings.pythons:
            there[name] = settings.pythons[name]
        elif importlib.util.find_spec(script.package) is not None:
            there[name] = sys.executable
    return there


def process_table(settings):
    """Return the table of whole processes."""
    table = Table(
        "From process start to posterior: import, build, 2,000 steps of a regression with N=1000, D=10, S=10, print",
        ["process", "wall ms", "cpu ms", "target", "met", "wall / klqp", "cpu / klqp"],
        notes=[
            "klqp, NumPyro and PyMC: random variables. The other rows of klqp: its engine with a log density as one",
            "writes it in NumPy, and with one exponential. Peers compile in each process; PyMC finds the C code that",
            "an earlier one compiled. In parentheses: the target of the ratio, and whether it is met.",
        ],
    )
    folder, pythons = Path(__file__).parent / "processes", interpreters(settings)
    processes = {
        name: Process([folder / SCRIPTS[name].file], settings.environment, python) for name, python in pythons.items()
    }
    times = measure(processes, settings, budget=BUDGET)
    for name, (wall, cpu) in times.items():
        ratio = verdict(float(np.median(wall / times[OURS][0])), None if "klqp" in name else PEER_RATIO)
        target = PROCESS_TARGET_MS if name == OURS else None
        value = milliseconds(wall)
        cpu_ratio = float(np.median(cpu / times[OURS][1]))
        table.rows.append([name, value, milliseconds(cpu), target, met(value, target), ratio, cpu_ratio])
        table.details.append({"process": name, "wall": summary(wall), "cpu": summary(cpu)})
    table.failures += different_means({name: np.array(one.printed.split(), float) for name, one in processes.items()})
    table.notes += [f"{name} is not there: left out." for name in SCRIPTS if name not in pythons]
    return table


def different_means(means):
    """Return what is to be said of means that differ from klqp's."""
    off = {name: float(np.max(np.abs(mean - means[OURS]))) for name, mean in means.items()}
    return [f"process {name}: its mean is off by {x:.3f}" for name, x in off.items() if x > SCRIPTS[name].tolerance]


def run(settings):
    """Yield the tables."""
    rounds = settings.rounds if settings.quick else ROUNDS
    outside = replace(settings, rounds=rounds, clock="wall")
    yield import_table(outside)
    yield process_table(outside)
