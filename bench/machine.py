"""Describes the machine and what runs on it, and measures its ceilings: dgemm and copying."""

import os
import platform
import time
from importlib import metadata

import numpy as np

from bench.timing import interleaved
from klqp import _core, get_num_threads


def cpu_model():
    """Return the processor's name."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores():
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def load():
    """Return the load averages, or None."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return None


def versions(names=("klqp", "numpy", "scipy", "jax", "jaxlib", "numpyro")):
    """Return the versions of the packages that are there."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def blas():
    """Return the name and version of NumPy's BLAS."""
    try:
        about = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{about['name']} {about['version']}"
    except (KeyError, TypeError):
        return "unknown"


def ceilings(settings):
    """Return this machine's GFLOP/s of a dgemm and GB/s of a copy, both as NumPy does them now."""
    n = 512
    a = np.random.default_rng(0).normal(size=(n, n))
    source = np.ones(1 << 22)
    product, target = np.empty_like(a), np.empty_like(source)
    times = interleaved(
        {"dgemm": lambda: np.matmul(a, a, out=product), "copy": lambda: np.copyto(target, source)},
        settings,
    )
    return {
        "dgemm_gflops": round(2 * n**3 / np.median(times["dgemm"]) * 1e-9, 1),
        "copy_gb_per_s": round(2 * source.nbytes / np.median(times["copy"]) * 1e-9, 1),
    }


def describe(settings):
    """Return the machine as a dict."""
    return {
        "time": time.strftime("%Y%m%dT%H%M%S"),
        "cpu": cpu_model(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "instruction_set": _core.kernels.active(),
        "threads": settings.threads or "each library's default",
        "klqp_threads": get_num_threads(),
        "blas": blas(),
        "versions": versions(),
        "load": load(),
        "rounds": settings.rounds,
        "clock": settings.clock,
        "ceilings": ceilings(settings),
    }
