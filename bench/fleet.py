"""Group "fleet": fits in 1 to 8 Python threads at once, all at klqp's default number of threads: steps a second."""

import threading
import time

import numpy as np

from bench.logistic_steps import SHAPES, Steps, make_data
from bench.report import Table
from bench.timing import summary

N_FITS = (1, 2, 4, 8)
_SECONDS = 0.5  # of one measurement
_CALL = 0.05  # seconds of one call into C++


def throughput(runs, steps):
    """Return the steps a second of these runs together, each in a thread of its own."""
    done, barrier, end = [0] * len(runs), threading.Barrier(len(runs) + 1), [0.0]

    def work(i):
        barrier.wait()
        while time.perf_counter() < end[0]:
            runs[i](steps)
            done[i] += steps

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(runs))]
    for thread in threads:
        thread.start()
    start = time.perf_counter()
    end[0] = start + _SECONDS
    barrier.wait()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - start)


def run(settings):
    """Yield the table."""
    table = Table(
        "Steps a second of all fits together, logistic regression",
        ["N", "D", "S", *(f"{n} fits" if n > 1 else "1 fit" for n in N_FITS), "8 fits / best", "met"],
        notes=["Target: eight fits reach at least 90 % of the best. `--threads 0` is klqp's own default."],
    )
    for shape in SHAPES[:3] if settings.quick else SHAPES[:-1]:
        n, dim, n_draws = shape
        data = make_data(n, dim)
        runs = [Steps(data, n_draws) for _ in range(max(N_FITS))]
        steps = runs[0].that_fill(_CALL)
        rates = {n: np.empty(max(3, settings.rounds // 3)) for n in N_FITS}
        for r in range(len(rates[1])):
            for n in N_FITS:
                rates[n][r] = throughput(runs[:n], steps)
        median = {n: float(np.median(rate)) for n, rate in rates.items()}
        share = median[8] / max(median.values())
        table.rows.append([*shape, *median.values(), share, "yes" if share >= 0.9 else "no"])
        table.details += [{"shape": shape, "fits": n, **summary(rate)} for n, rate in rates.items()]
    yield table
