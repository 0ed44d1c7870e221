"""How many threads a run may use."""

from __future__ import annotations

import os

from klqp._checks import positive_int

_chosen: int | None = None


def get_num_threads() -> int:
    """Return the number of threads that runs use by default.

    Unless `set_num_threads` chose it, this is the least of the CPUs this process may run on, the CPU quota of its
    control group (rounded up) and ``OMP_NUM_THREADS``, read at the time of the call.
    """
    return _chosen if _chosen is not None else min(_affinity(), _quota(), _omp_num_threads())


def set_num_threads(n: int | None) -> None:
    """Set the number of threads that runs use by default; None returns to what the machine says.

    Raises
    ------
    ValueError
        If `n` is not a positive integer or None.
    """
    global _chosen
    _chosen = None if n is None else positive_int("the number of threads", n)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> int:
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return _affinity() if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return _affinity()


def _omp_num_threads() -> int:
    try:
        return max(1, int(os.environ["OMP_NUM_THREADS"].split(",")[0]))
    except (KeyError, ValueError):
        return _affinity()
