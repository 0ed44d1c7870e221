"""How many threads a run may use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from klqp import _core
from klqp._checks import positive_int

_chosen: int | None = None
_CGROUPS = "/sys/fs/cgroup"
_REREAD_QUOTA_AFTER = 1.0  # seconds: reading takes as long as a small fit
_quota: tuple[float, float] = (-float("inf"), 0.0)  # when it was read, and the CPUs it allows


def get_num_threads() -> int:
    """Return the number of threads that runs use by default.

    Unless `set_num_threads` chose it, this is the least of the CPUs this process may run on, the CPU quota of its
    control group and of those above it (versions 1 and 2, rounded up, read at most once a second), ``OMP_NUM_THREADS``
    and the limit of OpenMP in the calling thread, which ``threadpoolctl.threadpool_limits`` sets, each at the time of
    the call.
    """
    if _chosen is not None:
        return _chosen
    return max(1, min(_affinity(), _quota_cpus(), _omp_num_threads(), _core.openmp_max_threads()))


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


def _omp_num_threads() -> int:
    try:
        return max(1, int(os.environ["OMP_NUM_THREADS"].split(",")[0]))
    except (KeyError, ValueError):
        return _affinity()


def _quota_cpus() -> int:
    global _quota
    now = time.monotonic()
    if now - _quota[0] > _REREAD_QUOTA_AFTER:
        _quota = (now, min(_quotas(), default=float("inf")))
    cpus = _quota[1]
    return _affinity() if cpus == float("inf") else max(1, -int(-cpus // 1))


def _quotas(own: str = "/proc/self/cgroup", root: str = _CGROUPS) -> Iterator[float]:
    """Yield the CPUs that each control group of this process allows: its own and all above it.

    A line of ``/proc/self/cgroup`` is ``number:controllers:path``; version 2 has no controllers. In a container the
    path may lie outside of what is mounted; what is mounted is then the container's own group.
    """
    try:
        with open(own) as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers == "":
            mounts, read = [root, f"{root}/unified"], _quota_v2
        elif "cpu" in controllers.split(","):
            mounts, read = [f"{root}/{controllers}", f"{root}/cpu"], _quota_v1
        else:
            continue
        for mount in mounts:
            for folder in _upwards(path):
                if (cpus := read(mount + folder)) is not None:
                    yield cpus


def _upwards(path: str) -> Iterator[str]:
    """Yield ``/a/b``, ``/a`` and the root, which is empty."""
    while path.strip("/"):
        yield path.rstrip("/")
        path = os.path.dirname(path.rstrip("/"))
    yield ""


def _quota_v2(folder: str) -> float | None:
    words = _words(f"{folder}/cpu.max")
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: str) -> float | None:
    quota, period = _words(f"{folder}/cpu.cfs_quota_us"), _words(f"{folder}/cpu.cfs_period_us")
    return _ratio(quota[0], period[0]) if len(quota) == len(period) == 1 else None


def _words(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return []


def _ratio(quota: str, period: str) -> float | None:
    """Return the CPUs; None without a limit: "max" in version 2, -1 in version 1."""
    try:
        allowed, of = int(quota), int(period)
    except ValueError:
        return None
    return allowed / of if allowed > 0 and of > 0 else None
