"""Times the fits and holds the ratio against its target."""

import numpy as np

from bench.many.klqp_fit import KlqpFit
from bench.many.problems import Problems, Shape
from bench.report import Table, verdict
from bench.timing import interleaved, seconds_of, summary

try:
    from bench.many.jax_fit import VARIANTS, JaxFit
except ImportError:
    JaxFit = None

# Fewer problems than the 10,000 that the target names, for the time it takes; the time for each does not depend on it.
SHAPES = [Shape(1000, 200, 5, 1, 500), Shape(500, 200, 5, 10, 500)]
QUICK = [Shape(100, 200, 5, 1, 500)]
TRIAL = 50  # steps, of the trials of JAX's variants
TARGET = 20.0
TOLERANCES = 0.6, 0.3  # means in posterior sds, sds relative: 500 steps leave noise


def fastest_jax(shape):
    """Return the variant that JAX is fastest with, by trying all with fewer steps."""
    trial = Problems(Shape(shape.n_problems, shape.n_rows, shape.dim, shape.n_draws, TRIAL))
    best, chosen = float("inf"), None
    for variant in VARIANTS:
        fit = JaxFit(trial, *variant)
        fit()
        seconds = min(seconds_of(fit) for _ in range(2))
        if seconds < best:
            best, chosen = seconds, variant
    return chosen


def run(settings):
    """Yield the table."""
    threads = settings.threads or None
    table = Table(
        f"Many logistic regressions in one call, {settings.threads or 'all'} thread(s)",
        ["problems", "klqp: posteriors / s", "us a step", "JAX: posteriors / s", "us a step", "JAX / klqp (target)"],
        notes=[
            "All but JAX's compilation is timed; klqp compiles its model in the time shown. JAX: the fastest",
            "of two layouts, three sizes of batches under vmap and two generators.",
        ],
    )
    for shape in QUICK if settings.quick else SHAPES:
        problems = Problems(shape)
        contenders = {"klqp": KlqpFit(problems, threads)}
        if JaxFit is not None:
            contenders["JAX"] = JaxFit(problems, *fastest_jax(shape))
        times = interleaved(contenders, settings, batch=0.0, pause=0.05, budget=60.0)
        cells = []
        for name in ("klqp", "JAX"):
            seconds = float(np.median(times[name])) if name in times else None
            cells += [
                seconds and shape.n_problems / seconds,
                seconds and seconds / (shape.n_problems * shape.steps) * 1e6,
            ]
        ratio = float(np.median(times["JAX"] / times["klqp"])) if "JAX" in times else None
        table.rows.append([str(shape), *cells, verdict(ratio, TARGET)])
        table.details.append({"shape": str(shape), **{name: summary(t) for name, t in times.items()}})
        if "JAX" in contenders:
            jax = contenders["JAX"]
            table.notes.append(f"{shape}: JAX with {jax.label}, compiled in {jax.compile_seconds:.1f} s.")
            table.failures += compare(problems, contenders["klqp"](), jax())
    yield table


def compare(problems, ours, theirs):
    """Return what is wrong with the answers."""
    means = np.abs(ours.mean - theirs.mean) / problems.stddev
    sds = np.abs(ours.stddev / theirs.stddev - 1)
    off = [float(np.quantile(values, 0.99)) for values in (means, sds)]
    if off[0] <= TOLERANCES[0] and off[1] <= TOLERANCES[1]:
        return []
    return [f"{problems.shape}: klqp and JAX differ by {off[0]:.2f} sd, their sds by {off[1]:.1%}"]
