"""A small fit of a function that returns ready arrays, to be counted: count.py DIM STEPS."""

import sys

import numpy as np

import klqp

dim, n_steps = map(int, sys.argv[1:])
ready = np.zeros(10), np.zeros((10, dim))
klqp.fit(lambda z: ready, dim, n_iter=n_steps, n_samples=10, seed=1, n_threads=1, progress=False)
