"""The groups of measurements: a row each. A module has ``run(settings)``, which yields tables."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """A group.

    Attributes
    ----------
    module : str
        Imported when the group runs, after the threads are set.
    what : str
        What it measures, in a line.
    threads : tuple of int
        Numbers of threads it is run with if the command line names none, each in a process of its own.
    by_default : bool
        Whether it runs when no group is named.
    """

    module: str
    what: str
    threads: tuple[int, ...] = (1,)
    by_default: bool = True


GROUPS = {
    "kernels": Group("bench.kernel_speed", "the C++ kernels beside NumPy and SciPy"),
    "matrices": Group("bench.matrix_speed", "the C++ matrix kernels beside NumPy"),
    "draws": Group("bench.draws", "draws with pathwise gradients, beside JAX"),
    "steps": Group("bench.steps", "the engine's time for a step beyond the user's function"),
    "overhead": Group("bench.overhead", "what a fit costs beside its steps"),
    "peers": Group("bench.peers", "the same fits by hand-written NumPy and by JAX"),
    "regression": Group("bench.regression", "logistic regressions beside JAX, NumPy and NumPyro", threads=(2, 1)),
    "many": Group("bench.many", "thousands of regressions in one call, beside JAX under vmap", threads=(2, 1)),
    "models": Group("bench.models", "models in random variables, by klqp and by NumPyro"),
    "gradients": Group("bench.gradients", "the noise that each gradient estimator leaves, factor by factor"),
    "busy": Group(
        "bench.busy", "steps with two threads while other processes spin on every core", threads=(2,), by_default=False
    ),
    "fleet": Group("bench.fleet", "fits in 1 to 8 Python threads at once", threads=(0,), by_default=False),
    "startup": Group("bench.startup", "import and whole processes"),
    "counts": Group("bench.counts", "instructions of a step, by valgrind", by_default=False),
}
DEFAULT = [name for name, group in GROUPS.items() if group.by_default]
