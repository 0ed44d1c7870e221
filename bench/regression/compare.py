"""Times the shapes, holds the ratios against their targets, and compares the answers."""

import sys
from pathlib import Path

import numpy as np

from bench.regression import ceilings, memory
from bench.regression.contenders import RBG, JaxFit, NumPyroFit, assemble
from bench.regression.problem import Problem, Shape
from bench.report import Table, cell, verdict
from bench.timing import interleaved, summary

SHAPES = [
    Shape(200, 5, 1, 4000, 4000),
    Shape(1000, 10, 10, 400, 1000),
    Shape(10_000, 100, 8, 20, 200),
    Shape(10_000, 100, 32, 8, 100),
    Shape(100_000, 50, 8, 4, 100),
    Shape(1_000_000, 50, 8, 2, 0),
    Shape(1_000_000, 50, 1, 4, 0),
]
QUICK = SHAPES[:3]
PAUSE, BUDGET = 0.05, 10.0  # seconds before each batch of calls, and for the rounds of a shape
BLAS_FRACTION, COPY_FRACTION, MEMORY_RATIO = 0.6, 0.7, 1.2
MANY_DRAWS, MANY_COEFFICIENTS = 16, 100  # from here the BLAS's rate is the target
LARGE = 1_000_000  # rows from which memory is what matters
# Locations in posterior sds, sds relative. The gradients of NumPyro keep noise at the optimum; where steps are costly
# the checked fits are short, and the scales are still on their way.
TOLERANCES, SHORT_TOLERANCES = (0.3, 0.1), (1.0, 0.5)
SHORT = 200  # steps


def ratio_targets(shape, dtype):
    """Return peer -> least ratio of its time and klqp's."""
    if dtype == np.float32:
        return {"JAX": 1.5}
    return {"JAX": 1.5 if shape == SHAPES[0] else 3.0, "NumPy": 4.0, "NumPyro": 20.0}


class Timing:
    """A shape's measurements: seconds of a step by contender, and the machine's ceilings in the same rounds."""

    def __init__(self, problem, field, settings):
        shape, dtype = problem.shape, problem.x.dtype
        product, self.product_flops = ceilings.dgemm(shape.flops, dtype)
        large, self.large_flops = ceilings.dgemm(2.0 * ceilings.LARGE**3, dtype)
        copy = ceilings.Copy(max(1, settings.threads))
        limits = {"product": product, "large product": large, "copy": copy}
        times = interleaved({**field.timed, **limits}, settings, batch=0.01, pause=PAUSE, budget=BUDGET)
        once = times.pop("klqp, once")
        self.limits = {name: times.pop(name) for name in limits}
        self.copied = copy.nbytes
        times["klqp"] = times["klqp"] - once
        self.steps = {name: t / shape.steps for name, t in times.items()}
        self.once = once

    def ratio(self, *peers):
        """Return how much longer the fastest of some peers takes than klqp, or None if none is there."""
        there = [float(np.median(self.steps[p] / self.steps["klqp"])) for p in peers if p in self.steps]
        return min(there, default=None)

    def blas_gflops(self):
        """Return the BLAS's GFLOP/s in the better of the two products."""
        rates = self.product_flops / self.limits["product"], self.large_flops / self.limits["large product"]
        return max(float(np.median(rate)) for rate in rates) * 1e-9


def times_row(problem, timing):
    """Return the row of a shape in the table of times."""
    shape, dtype = problem.shape, problem.x.dtype
    micro = {name: float(np.median(t)) * 1e6 for name, t in timing.steps.items()}
    targets = ratio_targets(shape, dtype)
    ratios = {"JAX": timing.ratio("JAX", RBG), "NumPy": timing.ratio("NumPy"), "NumPyro": timing.ratio("NumPyro")}
    cells = [verdict(ratio, targets.get(peer)) for peer, ratio in ratios.items()]
    return [str(shape), *(micro.get(name) for name in ("klqp", "JAX", RBG, "NumPy", "NumPyro")), *cells]


def times_detail(problem, field, timing):
    """Return everything about a shape for the JSON file."""
    shape, dtype = problem.shape, problem.x.dtype
    return {
        "shape": [shape.n_rows, shape.dim, shape.n_draws],
        "dtype": str(dtype),
        "targets": ratio_targets(shape, dtype),
        "ratios": {name: timing.ratio(name) for name in timing.steps if name != "klqp"},
        "fit of one step": summary(timing.once),
        **{name: summary(t) for name, t in timing.steps.items()},
        **field.notes,
    }


def ceiling_rows(problem, timing):
    """Yield the rows of a shape in the table of ceilings."""
    shape, x = problem.shape, problem.x
    step = float(np.median(timing.steps["klqp"]))
    name = [str(shape), str(x.dtype)]
    if shape.n_draws >= MANY_DRAWS and shape.dim >= MANY_COEFFICIENTS:
        rate, best = shape.flops / step * 1e-9, timing.blas_gflops()
        limit = BLAS_FRACTION if x.dtype == np.float64 else None
        yield [*name, "GFLOP/s of both products", rate, "BLAS", best, verdict(rate / best, limit)]
    if shape.n_rows >= LARGE and shape.n_draws == 1:
        rate = x.nbytes / step * 1e-9
        best = timing.copied / float(np.median(timing.limits["copy"])) * 1e-9
        limit = COPY_FRACTION if x.dtype == np.float64 else None
        yield [*name, "GB/s of X, read once", rate, "copy, read and written", best, verdict(rate / best, limit)]


def answer_row(problem, field):
    """Return the row of a shape in the table of answers, and failures."""
    shape = problem.shape
    answers = {name: fit(shape.checked_steps) for name, fit in field.checked.items()}
    reference, tolerances = answers["NumPy"], SHORT_TOLERANCES if shape.checked_steps <= SHORT else TOLERANCES
    worst, failures = [0.0, 0.0], []
    for name, answer in answers.items():
        off = [
            float(np.max(np.abs(answer.mean - reference.mean))) / problem.stddev,
            float(np.max(np.abs(answer.stddev / reference.stddev - 1))),
        ]
        worst = np.maximum(worst, off).tolist()
        if not (off[0] <= tolerances[0] and off[1] <= tolerances[1]):
            failures.append(f"{shape} {problem.x.dtype}: {name} is off by {off[0]:.2f} sd, its sds by {off[1]:.1%}")
    row = [str(shape), str(problem.x.dtype), shape.checked_steps, *(f"{w:.3f}" for w in worst), str(tolerances)]
    return [*row, "no" if failures else "yes"], failures


def memory_table(settings):
    """Return the table of peak memory."""
    table = Table(
        "Peak memory of a fit in a process of its own",
        ["shape", "dtype", "X and y (MB)", "peak above imports (MB)", "peak / data", "target", "met"],
    )
    if not Path("/proc/self/status").exists():
        table.notes.append("There is no /proc here: nothing is measured.")
        return table
    for shape in SHAPES[2:3] if settings.quick else (SHAPES[4], SHAPES[5]):
        for dtype in ("float64", "float32"):
            data, peak = memory.peak(shape, settings.environment, dtype)
            ratio = peak / data
            met = "yes" if ratio <= MEMORY_RATIO else "no"
            table.rows.append([str(shape), dtype, data * 1e-6, peak * 1e-6, ratio, MEMORY_RATIO, met])
    return table


def times_table(settings, dtype):
    """Return the table of times, still empty."""
    table = Table(
        f"One Adam step of a logistic regression N x D, {np.dtype(dtype)}, {threads(settings)}: microseconds",
        ["shape", "klqp", "JAX", RBG, "NumPy", "NumPyro", "JAX / klqp", "NumPy / klqp", "NumPyro / klqp"],
        notes=[
            "klqp: random variables, a fit of n + 1 steps less one of one step. JAX and NumPyro: one compiled scan,",
            "compilation not included; JAX in the fastest of three layouts with the faster gradient, rbg: with keys of",
            "type unsafe_rbg. Ratios above 1: klqp is faster; that to JAX is to the faster column. In parentheses: the",
            "target, and whether it is met.",
        ],
    )
    if JaxFit is None:
        table.notes.append("JAX is not installed: its columns are left out.")
    if NumPyroFit is None:
        table.notes.append("NumPyro is not installed: its column is left out.")
    return table


def threads(settings):
    """Return the number of threads in words."""
    return {0: "all threads", 1: "1 thread"}.get(settings.threads, f"{settings.threads} threads")


def run(settings):
    """Yield the tables."""
    limits = Table(
        f"klqp's steps beside the machine's ceilings, {threads(settings)}",
        ["shape", "dtype", "klqp's", "rate", "ceiling", "its rate", "part"],
    )
    answers = Table(
        "Answers: largest difference from NumPy's over coordinates and contenders",
        ["shape", "dtype", "steps", "means, in sd", "sds, relative", "tolerances", "agree"],
    )
    for dtype in (np.float64,) if settings.quick else (np.float64, np.float32):
        times = times_table(settings, dtype)
        for shape in QUICK if settings.quick else SHAPES:
            problem = Problem(shape, dtype)
            field = assemble(problem)
            timing = Timing(problem, field, settings)
            times.rows.append(times_row(problem, timing))
            times.details.append(times_detail(problem, field, timing))
            limits.rows += ceiling_rows(problem, timing)
            print(*map(cell, times.rows[-1]), sep="  ", file=sys.stderr, flush=True)
            if shape.checked_steps > 0:
                row, failures = answer_row(problem, field)
                answers.rows.append(row)
                answers.failures += failures
        yield times
    yield limits
    yield memory_table(settings)
    yield answers
