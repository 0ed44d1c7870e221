"""Group "matrices": GFLOP/s of the matrix products and triangular kernels beside NumPy."""

from functools import partial

import numpy as np

from bench.report import Table
from bench.timing import interleaved, summary
from klqp import _core

kernels = _core.kernels

# (m, n, k): a data matrix against draws, its pullback, layers of a network, matrix times vector, square.
SHAPES = [
    (8, 10_000, 100),
    (32, 10_000, 100),
    (8, 100_000, 50),
    (8, 100, 10_000),
    (10, 1000, 10),
    (50, 10, 10),
    (1, 100_000, 50),
    (50, 1, 100_000),
    (512, 512, 512),
]
QUICK = [(8, 10_000, 100), (10, 1000, 10), (50, 10, 10)]
ORDERS = [10, 100, 300]


def products(shapes):
    """Yield (name, flops, kernel as a function of the table, peer, whether the answers agree)."""
    rng = np.random.default_rng(0)
    for name in ("nt", "nn", "tn"):
        kernel = getattr(kernels, f"matmul_{name}")
        for m, n, k in shapes:
            a = rng.normal(size=(k, m) if name == "tn" else (m, k))
            b = rng.normal(size=(n, k) if name == "nt" else (k, n))
            c, out = np.zeros((m, n)), np.empty((m, n))
            left, right = (a.T if name == "tn" else a), (b.T if name == "nt" else b)
            kernel(kernels.active(), a, b, c)
            agree = np.allclose(c, left @ right, atol=1e-8)
            yield (
                f"{name} {m} x {n} x {k}",
                2.0 * m * n * k,
                lambda t, kernel=kernel, a=a, b=b, c=c: kernel(t, a, b, c),
                partial(np.matmul, left, right, out=out),
                agree,
            )


def factors():
    """Yield the same for Cholesky factors."""
    rng = np.random.default_rng(1)
    for n in ORDERS:
        x = rng.normal(size=(n, 2 * n))
        a = x @ x.T
        agree = np.allclose(kernels.cholesky(kernels.active(), a)[0], np.linalg.cholesky(a))
        yield (
            f"cholesky {n}",
            n**3 / 3.0,
            lambda t, a=a: kernels.cholesky(t, a),
            partial(np.linalg.cholesky, a),
            agree,
        )


def run(settings):
    """Yield the table."""
    tables = kernels.tables()
    table = Table(
        "GFLOP/s, with the call from Python; m x n x k",
        ["kernel", *tables, "NumPy", "ratio"],
        notes=[
            f"ratio: {tables[-1]} / NumPy in speed, within a round. The products add to C in place;",
            "NumPy's overwrite theirs.",
        ],
    )
    for name, flops, kernel, peer, agree in (*products(QUICK if settings.quick else SHAPES), *factors()):
        contenders = {t: partial(kernel, t) for t in tables}
        times = interleaved({**contenders, "peer": peer}, settings, batch=0.005)
        speeds = [flops * 1e-9 / float(np.median(times[t])) for t in (*tables, "peer")]
        ratio = float(np.median(times["peer"] / times[tables[-1]]))
        table.rows.append([name, *speeds, ratio])
        table.details.append({"kernel": name, **{t: summary(v) for t, v in times.items()}})
        if not agree:
            table.failures.append(f"{name} differs from NumPy")
    yield table
