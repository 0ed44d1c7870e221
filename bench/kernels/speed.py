"""Times every kernel of every table beside NumPy's or SciPy's function, in nanoseconds an element.

usage: python bench/kernels/speed.py
"""

import time

import numpy as np
from scipy import special

from klqp import _core

kernels = _core.kernels
N, REPEATS, ROUNDS = 4096, 20, 25


def nanoseconds(function):
    """Return the best round's time for one element."""
    best = np.inf
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        for _ in range(REPEATS):
            function()
        best = min(best, time.perf_counter_ns() - start)
    return best / (REPEATS * N)


def rows():
    """Yield (name, kernel as a function of the table, peer's name, peer)."""
    rng = np.random.default_rng(0)
    x, p, y = rng.uniform(0.01, 12, N), rng.uniform(size=N), rng.normal(size=N)
    elementwise = [
        ("exp", y, "numpy.exp", np.exp),
        ("log", x, "numpy.log", np.log),
        ("log1p", x, "numpy.log1p", np.log1p),
        ("expm1", y, "numpy.expm1", np.expm1),
        ("sigmoid", y, "scipy expit", special.expit),
        ("softplus", y, "numpy.logaddexp(0, x)", lambda v: np.logaddexp(0, v)),
        ("lgamma", x, "scipy gammaln", special.gammaln),
        ("digamma", x, "scipy digamma", special.digamma),
        ("trigamma", x, "scipy polygamma(1, x)", lambda v: special.polygamma(1, v)),
        ("norm_ppf", p, "scipy ndtri", special.ndtri),
    ]
    for name, points, peer_name, peer in elementwise:
        yield (
            name,
            lambda t, f=name, v=points: kernels.evaluate(t, f, v),
            peer_name,
            lambda g=peer, v=points: g(v),
        )
    generator = np.random.Generator(np.random.Philox(1))
    for name, peer in [("uniforms", generator.random), ("normals", generator.standard_normal)]:
        kernel = getattr(kernels, name)
        yield (
            name,
            lambda t, k=kernel: k(t, 1, 0, 0, 0, 0, N),
            f"numpy Philox {name}",
            lambda g=peer: g(N),
        )
    yield "sum", lambda t: kernels.sum(t, x), "numpy.sum", lambda: x.sum()
    yield "dot", lambda t: kernels.dot(t, x, y), "numpy.dot", lambda: x @ y


def main():
    """Print a Markdown table."""
    tables = kernels.tables()
    print("| kernel | " + " | ".join(tables) + " | peer | ns |")
    print("| --- |" + " --- |" * (len(tables) + 2))
    for name, kernel, peer_name, peer in rows():
        cells = [f"{nanoseconds(lambda t=t, k=kernel: k(t)):.2f}" for t in tables]
        print(
            f"| {name} | " + " | ".join(cells) + f" | {peer_name} | {nanoseconds(peer):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
