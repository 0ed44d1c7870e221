"""Times klqp and its peers on the same problems, and checks that all give the same answer."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.native_targets import NativeTarget, library
from bench.peers import klqp_advi, numpy_advi
from bench.report import Table
from bench.targets import Gaussian, Logistic
from bench.timing import interleaved, summary

try:
    from bench.peers.jax_advi import JaxFit
except ImportError:
    JaxFit = None

N_DRAWS = 10
# How far an answer may be off: means in posterior standard deviations; those themselves, relative.
# Sticking the landing leaves no noise where q equals the posterior. In the logistic problems the
# last learning rates leave noise of about 0.015 and 0.003 in a coordinate, and two are compared.
EXACT, NOISY = (0.001, 0.001), (0.1, 0.02)


@dataclass(frozen=True)
class Problem:
    """A target, the steps of a timed fit and those of the fit that is checked."""

    target: object
    timed_steps: int
    checked_steps: int
    tolerances: tuple[float, float]


def problems(quick):
    """Return the problems."""
    small = [
        Problem(Gaussian(10), 2000, 2000, EXACT),
        Problem(Gaussian(1000), 500, 2000, EXACT),
        Problem(Logistic(1000, 10), 500, 2000, NOISY),
    ]
    return small if quick else [*small, Problem(Logistic(10_000, 100), 20, 1000, NOISY)]


def contenders(target, n_steps):
    """Return the fits by name, and the seconds that JAX compiled for."""
    sizes = target.dim, n_steps, N_DRAWS
    fits = {
        "klqp": partial(klqp_advi.fit, target, *sizes),
        "NumPy": partial(numpy_advi.fit, target, *sizes),
    }
    if library() is not None:
        native = NativeTarget(target)
        fits["klqp, C"] = partial(klqp_advi.fit, native.log_density, *sizes)
    compiled = None
    if JaxFit is not None:
        fits["JAX"] = JaxFit(target, n_steps, N_DRAWS)
        fits["JAX, rbg"] = JaxFit(target, n_steps, N_DRAWS, implementation="unsafe_rbg")
        compiled = fits["JAX"].compile_seconds
    return fits, compiled


def check(problem):
    """Return (worst difference of means, of standard deviations, failures) over the contenders."""
    target = problem.target
    answers = {name: fit() for name, fit in contenders(target, problem.checked_steps)[0].items()}
    # A Gaussian's posterior is known; otherwise the hand-written NumPy is the reference.
    reference = target if isinstance(target, Gaussian) else answers["NumPy"]
    worst, failures = [0.0, 0.0], []
    for name, answer in answers.items():
        off = [
            float(np.max(np.abs(answer.mean - reference.mean) / reference.stddev)),
            float(np.max(np.abs(answer.stddev / reference.stddev - 1))),
        ]
        worst = np.maximum(worst, off).tolist()
        if off[0] > problem.tolerances[0] or off[1] > problem.tolerances[1]:
            failures.append(
                f"{target.name}: {name} is off by {off[0]:.3f} standard deviations in the mean "
                f"and by {off[1]:.1%} in the standard deviation"
            )
    return worst, failures


def run(settings):
    """Yield the tables."""
    names = ["klqp", "klqp, C", "NumPy", "JAX", "JAX, rbg"]
    table = Table(
        f"One Adam step, mean field, S={N_DRAWS}, sticking the landing: microseconds",
        ["problem", *names, "NumPy / klqp", "JAX / klqp", "JAX compiles (ms)"],
        notes=[
            "klqp and NumPy call the same NumPy log density; `klqp, C` a C function. JAX is one",
            "compiled scan, its compilation not included; rbg: with keys of type unsafe_rbg, not",
            "the default. Whole fits are timed, set-up included, and divided by their steps. Ratios",
            "above 1: klqp with the NumPy function is faster.",
        ],
    )
    answers = Table(
        "Answers: largest difference over coordinates and contenders",
        ["problem", "steps", "means, in sd", "sds, relative", "tolerances", "agree"],
        notes=[
            "From the exact posterior in the Gaussian problems, from the NumPy fit in the others.",
        ],
    )
    if library() is None:
        table.notes.append("No C compiler was found: `klqp, C` is left out.")
    if JaxFit is None:
        table.notes.append("JAX is not installed: its columns are left out.")
    for problem in problems(settings.quick):
        fits, compiled = contenders(problem.target, problem.timed_steps)
        times = interleaved(fits, settings, batch=0.0)
        micro = {name: 1e6 * t / problem.timed_steps for name, t in times.items()}
        ratios = [float(np.median(times[peer] / times["klqp"])) if peer in times else None for peer in ("NumPy", "JAX")]
        values = [float(np.median(micro[name])) if name in micro else None for name in names]
        milliseconds = None if compiled is None else compiled * 1e3
        table.rows.append([problem.target.name, *values, *ratios, milliseconds])
        table.details.append(
            {
                "problem": problem.target.name,
                "flops_per_step": N_DRAWS * problem.target.flops_per_draw,
                **{name: summary(v) for name, v in micro.items()},
            }
        )
        worst, failures = check(problem)
        agree = "no" if failures else "yes"
        answers.rows.append(
            [
                problem.target.name,
                problem.checked_steps,
                *(f"{w:.5f}" for w in worst),
                str(problem.tolerances),
                agree,
            ]
        )
        answers.failures += failures
    yield table
    yield answers
