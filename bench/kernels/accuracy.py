"""Measures the worst error of each special function in units in the last place, against mpmath.

usage: python bench/kernels/accuracy.py [points per region, default 2000]
"""

import sys

import mpmath as mp
import numpy as np

from klqp import _core

kernels = _core.kernels
mp.mp.dps = 45
ROOT = 1.4616321449683623


def norm_ppf_reference(p, start):
    """Return the quantile of p by Newton's method on log Phi from a good start."""
    p, z, sign = mp.mpf(p), mp.mpf(start), 1
    if p > 0.5:
        p, z, sign = 1 - p, -z, -1
    for _ in range(4):
        cdf = mp.erfc(-z / mp.sqrt(2)) / 2
        z -= mp.log(cdf / p) * cdf / mp.npdf(z)
    return sign * z


REFERENCE = {
    "exp": mp.exp,
    "log": mp.log,
    "log1p": mp.log1p,
    "expm1": mp.expm1,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "lgamma": lambda x: mp.loggamma(x) if x > 0 else mp.log(abs(mp.gamma(x))),
    "digamma": mp.digamma,
    "trigamma": lambda x: mp.psi(1, x),
}


def regions(n, rng):
    """Return name -> list of (region, points)."""

    def log_uniform(low, high):
        return np.exp(rng.uniform(np.log(low), np.log(high), n))

    def both(x):
        return np.concatenate([x, -x])

    def uniform(low, high):
        return rng.uniform(low, high, n)

    return {
        "exp": [
            ("normal results", uniform(-708, 709.7)),
            ("small", both(log_uniform(1e-20, 1))),
            ("subnormal results", uniform(-745, -708.4)),
        ],
        "log": [
            ("all", log_uniform(1e-307, 1e308)),
            ("near 1", 1 + both(log_uniform(1e-15, 0.5))),
            ("subnormal", log_uniform(1e-323, 1e-308)),
        ],
        "log1p": [
            ("small", both(log_uniform(1e-300, 1e-3))),
            ("middle", uniform(-1, 3)),
            ("large", log_uniform(1, 1e300)),
            ("near -1", log_uniform(1e-16, 0.5) - 1),
        ],
        "expm1": [
            ("small", both(log_uniform(1e-300, 1e-3))),
            ("middle", uniform(-2, 2)),
            ("all", uniform(-40, 709.7)),
        ],
        "sigmoid": [("middle", uniform(-20, 20)), ("negative", uniform(-708, 0))],
        "softplus": [
            ("middle", uniform(-20, 20)),
            ("negative", uniform(-708, 0)),
            ("positive", uniform(0, 800)),
        ],
        "norm_ppf": [
            ("centre", uniform(0.075, 0.925)),
            ("lower tail", log_uniform(1e-300, 0.1)),
            ("upper tail", 1 - log_uniform(1e-16, 0.1)),
            ("near 1/2", 0.5 + both(log_uniform(1e-16, 0.1))),
        ],
        "lgamma": [
            ("(0, 1/2)", log_uniform(1e-300, 0.5)),
            ("(1/2, 8)", uniform(0.5, 8)),
            ("near 1 and 2", (1 + rng.integers(0, 2, 2 * n)) + both(log_uniform(1e-15, 0.1))),
            ("above 8", log_uniform(8, 1e300)),
            ("(8, 30)", uniform(8, 30)),
            ("(-30, 0)", uniform(-30, 0)),
        ],
        "digamma": [
            ("(0, 1)", log_uniform(1e-300, 1)),
            ("(0.1, 8)", uniform(0.1, 8)),
            ("near the root", ROOT + both(log_uniform(1e-15, 0.1))),
            ("above 8", log_uniform(8, 1e300)),
            ("(8, 30)", uniform(8, 30)),
            ("(-30, 0)", uniform(-30, 0)),
        ],
        "trigamma": [
            ("(0, 1)", log_uniform(1e-153, 1)),
            ("(0.1, 4)", uniform(0.1, 4)),
            ("above 4", log_uniform(4, 1e300)),
            ("(4, 30)", uniform(4, 30)),
            ("(-30, 0)", uniform(-30, 0)),
        ],
    }


def worst(table, function, x):
    """Return the largest error in ulp and in units of eps (1 + |reference|)."""
    y = kernels.evaluate(table, function, x)
    ulp = mixed = 0.0
    for xi, yi in zip(x, y, strict=True):
        if function == "norm_ppf":
            exact = norm_ppf_reference(float(xi), float(yi))
        else:
            exact = REFERENCE[function](mp.mpf(float(xi)))
        error = abs(float(mp.mpf(float(yi)) - exact))
        ulp = max(ulp, error / np.spacing(abs(float(exact))))
        mixed = max(mixed, error / (2.0**-52 * (1 + abs(float(exact)))))
    return ulp, mixed


def main():
    """Print a Markdown table."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    tables = kernels.tables()
    print("| function | region | " + " | ".join(f"{t}: ulp (eps)" for t in tables) + " |")
    print("| --- | --- |" + " --- |" * len(tables))
    for function, parts in regions(n, np.random.default_rng(1)).items():
        for region, x in parts:
            cells = ["{:.2f} ({:.2f})".format(*worst(t, function, x)) for t in tables]
            print(f"| {function} | {region} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
