"""Fits to be counted by callgrind: count.py CASE ... where a case is KIND,SIZES,FEW,MANY.

KIND is `engine` (a Python function that returns ready arrays; SIZES is D) or `regression` (a model in random variables;
SIZES is NxDxS). Of each case a fit of FEW and one of MANY steps run between calls of `getppid`, at which callgrind is
told to write what it counted.
"""

import os
import sys

import numpy as np

import klqp


def engine(dim):
    """Return the fit as a function of its steps."""
    ready = np.zeros(10), np.zeros((10, dim))
    return lambda n: klqp.fit(lambda z: ready, dim, n_iter=n, n_samples=10, seed=1, n_threads=1, progress=False)


def regression(n_rows, dim, n_draws):
    """Return the fit as a function of its steps."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n_rows, dim))
    w = klqp.Normal(0.0, 1.0, shape=dim, name="w")
    y = klqp.Bernoulli(logits=x @ w, name="y")
    inference = klqp.KLqp([w], data={y: rng.random(n_rows) < 0.5})
    options = {"n_samples": n_draws, "seed": 1, "n_threads": 1, "progress": False}
    return lambda n: inference.run(n_iter=n, restart=True, **options)


for case in sys.argv[1:]:
    kind, sizes, few, many = case.split(",")
    fit = {"engine": engine, "regression": regression}[kind](*map(int, sizes.split("x")))
    fit(1)
    for steps in (few, many):
        os.getppid()
        fit(int(steps))
    os.getppid()
