"""Group "busy": steps with two threads while other processes spin on every core, beside the same steps without them.

The other processes are stopped and continued by signals, so that idle and busy are measured in turn.
"""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import numpy as np

from bench.logistic_steps import SHAPES, Steps, make_data
from bench.report import Table
from bench.timing import seconds_of, summary

N_THREADS = 2
_LIMIT = 4.0  # times slower at most
_SECONDS = 0.4  # of one measurement


@contextmanager
def spinning(n):
    """Keep n other processes that spin, stopped at first; yields a function that starts or stops them."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]

    def spin(on):
        for other in others:
            other.send_signal(signal.SIGCONT if on else signal.SIGSTOP)

    try:
        spin(False)
        yield spin
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(shape, spin, rounds):
    """Return seconds of a step: idle and busy by number of threads, (rounds,) each."""
    n, dim, n_draws = shape
    data = make_data(n, dim)
    runs = {threads: Steps(data, n_draws, threads) for threads in (1, N_THREADS)}
    calls = {threads: run.that_fill(_SECONDS) for threads, run in runs.items()}
    times = {(threads, busy): np.empty(rounds) for threads in runs for busy in (False, True)}
    for r in range(rounds):
        for busy in (False, True):
            spin(busy)
            for threads, run in runs.items():
                steps = calls[threads]
                times[threads, busy][r] = seconds_of(partial(run, steps)) / steps
        spin(False)
    return times


def run(settings):
    """Yield the table."""
    if not hasattr(signal, "SIGSTOP"):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    table = Table(
        f"One Adam step of logistic regression, {cores} processes spinning on {cores} cores: microseconds",
        ["N", "D", "S", "idle, 1 thread", "idle, 2", "busy, 1", "busy, 2", "slower, 1", "slower, 2", "met"],
        notes=[f"Target: with {N_THREADS} threads at most {_LIMIT:g} times slower than on the idle machine."],
    )
    with spinning(cores) as spin:
        for shape in SHAPES[:3] if settings.quick else SHAPES:
            times = measure(shape, spin, max(3, settings.rounds // 3))
            median = {key: float(np.median(values)) * 1e6 for key, values in times.items()}
            slower = {t: float(np.median(times[t, True] / times[t, False])) for t in (1, N_THREADS)}
            table.rows.append(
                [
                    *shape,
                    *(median[key] for key in ((1, False), (N_THREADS, False), (1, True), (N_THREADS, True))),
                    slower[1],
                    slower[N_THREADS],
                    "yes" if slower[N_THREADS] <= _LIMIT else "no",
                ]
            )
            table.details += [
                {"shape": shape, "threads": t, "busy": busy, **summary(v)} for (t, busy), v in times.items()
            ]
    yield table
