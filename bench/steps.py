"""Group "steps": the engine's time for one step beyond the user's function.

A step is the difference between a fit of many steps and a fit of one, so that what a fit costs once
is left out.
"""

from functools import partial

import numpy as np

import klqp
from bench.native_targets import NativeTarget, library
from bench.report import Table
from bench.targets import Gaussian, Nothing
from bench.timing import interleaved, seconds_of, summary

N_DRAWS = 10
CASES = [  # family, D, rank
    ("mean_field", 10, None),
    ("mean_field", 100, None),
    ("mean_field", 1000, None),
    ("full_rank", 10, None),
    ("full_rank", 100, None),
    ("low_rank", 1000, 10),
]
# Microseconds: beyond the function for NumPy's, of a whole step for C's.
TARGETS = {("mean_field", 10, "NumPy"): 10.0, ("mean_field", 1000, "NumPy"): 40.0, ("mean_field", 10, "C"): 3.0}
_BATCH = 0.01  # seconds of a timed fit
_RATE = 1e-3  # a learning rate that leaves q where it is, more or less


def fit(log_density, dim, q, rank, n_iter):
    """Fit in the way that is timed here."""
    return klqp.fit(
        log_density,
        dim,
        q=q,
        rank=rank,
        n_iter=n_iter,
        n_samples=N_DRAWS,
        optimizer=klqp.optimizers.Adam(learning_rate=_RATE),
        seed=1,
        progress=False,
    )


def steps_that_fill(fit_n, seconds, clock):
    """Return a number of steps that takes about so long by a clock."""
    fit_n(10)
    n = 10
    while (elapsed := seconds_of(partial(fit_n, n), clock=clock)) < seconds / 4 and n < 100_000:
        n *= 2
    return max(10, int(n * seconds / elapsed))


def repeat(function, times, z):
    """Call a Python function again and again."""
    for _ in range(times):
        function(z)


def measure(case, log_density, repeat_function, settings):
    """Return seconds of a step, of the function, and of a step with `Nothing`, (rounds,) each."""
    q, dim, rank = case
    z = np.random.default_rng(1).normal(size=(N_DRAWS, dim))
    fits = {
        "real": partial(fit, log_density, dim, q, rank),
        "nothing": partial(fit, Nothing(N_DRAWS, dim), dim, q, rank),
    }
    n = {name: steps_that_fill(one, _BATCH, settings.clock) for name, one in fits.items()}
    contenders = {"function": lambda: repeat_function(n["real"], z)}
    for name, one in fits.items():
        contenders[name] = partial(one, n[name] + 1)
        contenders[f"{name}, once"] = partial(one, 1)
    times = interleaved(contenders, settings, batch=0.0)
    steps = {name: (times[name] - times[f"{name}, once"]) / n[name] for name in fits}
    return steps["real"], times["function"] / n["real"], steps["nothing"]


def run(settings):
    """Yield the table."""
    table = Table(
        f"One Adam step, S={N_DRAWS}, sticking the landing, Gaussian target: microseconds",
        ["q", "D", "function in", "step", "function", "beyond it", "with no-op", "target", "met"],
        notes=[
            "beyond it: step - function, within a round; with no-op: a step of a Python function",
            "that returns ready arrays. Targets are for `beyond it` with NumPy functions, for `step` with C.",
        ],
    )
    if library() is None:
        table.notes.append("No C compiler was found: rows for native functions are left out.")
    for case in CASES[:3] if settings.quick else CASES:
        q, dim, rank = case
        target = Gaussian(dim)
        entries = [("NumPy", target, partial(repeat, target))]
        if library() is not None:
            native = NativeTarget(target)
            entries.append(("C", native.log_density, native.repeat))
        for language, log_density, repeat_function in entries:
            step, function, nothing = measure(case, log_density, repeat_function, settings)
            beyond = step - function
            values = [float(np.median(v)) * 1e6 for v in (step, function, beyond, nothing)]
            python = language == "NumPy"
            limit = TARGETS.get((q, dim, language))
            met = None if limit is None else "yes" if values[2 if python else 0] <= limit else "no"
            name = q if rank is None else f"{q}, r={rank}"
            shown = values if python else [*values[:3], None]
            table.rows.append([name, dim, language, *shown, limit, met])
            table.details.append({"q": name, "dim": dim, "function": language, "beyond": summary(beyond)})
    yield table
