"""Interleaved timing: every contender once a round, then medians over the rounds.

On a shared machine speeds drift and other processes interrupt. Contenders that are timed in turn,
in short batches of calls and in another order each round, see the same drift; the median leaves the
interrupted batches out; and what is compared, a difference or a ratio, is taken within one round
before the median. With one thread the processor time of the process is measured, which stands still
while another process has the core.
"""

import gc
import math
import time

import numpy as np

CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}


def seconds_of(function, calls=1, clock="wall"):
    """Return the seconds that `calls` calls of a function take."""
    now = CLOCKS[clock]
    start = now()
    for _ in range(calls):
        function()
    return (now() - start) * 1e-9


def interleaved(contenders, settings, batch=0.01, pause=0.0, budget=math.inf):
    """Time functions in turn.

    Parameters
    ----------
    contenders : dict of str to callable
        Functions without arguments. Each is called at least once, unmeasured, to warm up.
    settings : Settings
        Its rounds and its clock.
    batch : float
        Seconds that a contender is called for in a round, at least once.
    pause : float
        Seconds of sleep before each batch: idle threads of the contender before, which spin for a while, do not take
        a core from the next one.
    budget : float
        Seconds in all, more or less: fewer rounds are taken if the settings' would last longer, but at least three.

    Returns
    -------
    dict of str to ndarray (rounds,)
        Seconds a call.
    """
    names = list(contenders)
    calls, round_seconds = {}, 0.0
    for name in names:
        wall = seconds_of(contenders[name])
        calls[name] = 1
        if batch > 0.0:
            start = time.perf_counter()
            calls[name] = math.ceil(batch / max(seconds_of(contenders[name], clock=settings.clock), 1e-9))
            wall = time.perf_counter() - start
        round_seconds += calls[name] * wall + pause
    rounds = int(min(settings.rounds, max(3.0, budget / round_seconds)))
    times = {name: np.empty(rounds) for name in names}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for r in range(rounds):
            shift = r % len(names)
            for name in names[shift:] + names[:shift]:
                time.sleep(pause)
                elapsed = seconds_of(contenders[name], calls[name], settings.clock)
                times[name][r] = elapsed / calls[name]
    finally:
        if collecting:
            gc.enable()
    return times


def summary(values):
    """Return minimum, quartiles and maximum for the JSON file."""
    quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    names = ("minimum", "lower_quartile", "median", "upper_quartile", "maximum")
    return {"rounds": len(values), **dict(zip(names, quantiles.tolist(), strict=True))}
