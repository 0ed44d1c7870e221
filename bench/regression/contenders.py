"""Who takes part: the fits of a problem by name, and what was compiled for how long."""

from dataclasses import dataclass, field
from functools import partial

from bench.regression import numpy_fit
from bench.regression.klqp_fit import KlqpFit
from bench.timing import seconds_of

try:
    from bench.regression.jax_fit import VARIANTS, JaxFit
except ImportError:
    JaxFit = None
try:
    from bench.regression.numpyro_fit import NumPyroFit
except ImportError:
    NumPyroFit = None

RBG = "JAX, rbg"
TRIES = 3  # timed calls of each of JAX's variants, of which the best counts


def fastest_jax(problem, n_steps):
    """Return the names of the layout and the gradient that JAX is fastest with, by trying all."""
    best, chosen = float("inf"), None
    for variant in VARIANTS:
        fit = JaxFit(problem, n_steps, *variant)
        fit()
        seconds = min(seconds_of(fit) for _ in range(TRIES))
        if seconds < best:
            best, chosen = seconds, variant
    return chosen


@dataclass
class Field:
    """The contenders of a problem.

    Attributes
    ----------
    timed : dict of str to callable
        The fits that are timed, without arguments.
    checked : dict of str to callable
        Functions that make and run a fit of so many steps and return its `Answer`.
    notes : dict
        For the JSON file: what JAX was compiled to and how long it took.
    """

    timed: dict = field(default_factory=dict)
    checked: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)


def assemble(problem):
    """Return the contenders that are installed."""
    n, there = problem.shape.steps, Field()
    ours = KlqpFit(problem)
    there.timed = {"klqp": partial(ours, n + 1), "klqp, once": partial(ours, 1)}
    there.checked = {"NumPy": lambda steps: numpy_fit.make_fit(problem, steps)(), "klqp": ours}
    there.timed["NumPy"] = numpy_fit.make_fit(problem, n)
    if JaxFit is not None:
        choice = fastest_jax(problem, n)
        there.timed["JAX"] = JaxFit(problem, n, *choice)
        there.timed[RBG] = JaxFit(problem, n, *choice, keys="unsafe_rbg")
        there.checked["JAX"] = lambda steps: JaxFit(problem, steps, *choice)()
        there.notes = {"JAX": ", ".join(choice), "JAX compiles": there.timed["JAX"].compile_seconds}
    if NumPyroFit is not None:
        there.timed["NumPyro"] = NumPyroFit(problem, n)
        there.checked["NumPyro"] = lambda steps: NumPyroFit(problem, steps)()
        there.notes["NumPyro compiles"] = there.timed["NumPyro"].compile_seconds
    return there
