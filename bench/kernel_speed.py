"""Group "kernels": nanoseconds an element of every kernel in every instruction-set table."""

from functools import partial

import numpy as np

from bench.kernels import densities
from bench.kernels.speed import N, rows
from bench.report import Table
from bench.timing import interleaved, summary
from klqp import _core

kernels = _core.kernels


def vector_rows():
    """Yield (name, kernel as a function of the table, peer's name, peer) of the vector kernels."""
    a, b, c, d = np.abs(np.random.default_rng(1).normal(size=(4, N))) + 0.1

    def numpy_axpy():
        return b + 0.5 * a

    def numpy_multiply_add():
        return c + 0.5 * a * b

    def numpy_pullback():
        return c + a, d + a * b

    def numpy_adam():
        m = 0.9 * b + 0.1 * a
        v = 0.999 * c + 0.001 * a * a
        return d - 0.01 * m / (np.sqrt(v * 2.0) + 1e-8), m, v

    yield "scale", lambda t: kernels.scale(t, 0.5, a), "0.5 * a", lambda: 0.5 * a
    yield "axpy", lambda t: kernels.axpy(t, 0.5, a, b), "NumPy", numpy_axpy
    yield (
        "multiply_add",
        lambda t: kernels.multiply_add(t, 0.5, a, b, c),
        "NumPy",
        numpy_multiply_add,
    )
    yield "affine", lambda t: kernels.affine(t, a, b, c), "NumPy", lambda: a + b * c
    yield (
        "location_scale_pullback",
        lambda t: kernels.location_scale_pullback(t, a, b, c, d),
        "NumPy",
        numpy_pullback,
    )
    yield (
        "adam",
        lambda t: kernels.adam(t, a, 0.9, 0.999, 1e-8, 0.01, 2.0, b, c, d),
        "NumPy",
        numpy_adam,
    )


def run(settings):
    """Yield the table."""
    tables = kernels.tables()
    table = Table(
        f"Nanoseconds an element, arrays of {N}, with the call from Python",
        ["kernel", *tables, "peer", "which is", "ratio"],
        notes=[
            f"ratio: peer / {tables[-1]}, within a round. Kernels that work in place (axpy,",
            "multiply_add, location_scale_pullback, adam) are timed with copies of their outputs,",
            "which fits do not make. Densities have arrays for all arguments; SciPy's include what",
            "depends on counts alone, which is a kernel of its own here.",
        ],
    )
    for name, kernel, peer_name, peer in (*rows(), *vector_rows(), *densities.rows()):
        contenders = {t: partial(kernel, t) for t in tables}
        times = interleaved({**contenders, "peer": peer}, settings, batch=0.002)
        each = [float(np.median(times[t])) * 1e9 / N for t in (*tables, "peer")]
        ratio = float(np.median(times["peer"] / times[tables[-1]]))
        table.rows.append([name, *each, peer_name, ratio])
        table.details.append({"kernel": name, **{t: summary(v) for t, v in times.items()}})
    yield table
