"""Clock: processor time, compilers included, and wall-clock time, side by side."""

from __future__ import annotations

import resource
import time
from typing import NamedTuple


class Times(NamedTuple):
    """Seconds of processor time, of this process and the compilers that it has waited for, and of wall-clock time."""

    cpu: float
    wall: float

    def since(self, start: Times) -> Times:
        """Return what has passed."""
        return Times(self.cpu - start.cpu, self.wall - start.wall)


def now() -> Times:
    """Return both clocks."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Times(time.process_time() + children.ru_utime + children.ru_stime, time.perf_counter())
