"""The memory that a logistic regression needs: regression_memory.py N D S DTYPE prints bytes of data and at the peak.

Linux only: it reads the peak of its resident memory from /proc, above what it had when everything was imported.
"""

import json
import sys

import numpy as np

import klqp


def status(name):
    """Return bytes of a line of /proc/self/status."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def fit(x, y, n_iter, n_draws):
    """Fit as a user does."""
    w = klqp.Normal(0.0, 1.0, shape=x.shape[1], name="w")
    outcome = klqp.Bernoulli(logits=x @ w, name="outcome")
    inference = klqp.KLqp([w], data={outcome: y})
    inference.run(n_iter=n_iter, n_samples=n_draws, seed=1, progress=False)


n_rows, dim, n_draws = map(int, sys.argv[1:4])
rng = np.random.default_rng(0)
fit(rng.normal(size=(10, dim)), np.ones(10), 2, n_draws)  # what is loaded late is loaded now
before = status("VmRSS")
x = np.empty((n_rows, dim), sys.argv[4])
rng.standard_normal(out=x, dtype=x.dtype.type)
y = (rng.random(n_rows) < 0.5).astype(x.dtype)
fit(x, y, 3, n_draws)
print(json.dumps({"data": x.nbytes + y.nbytes, "peak": status("VmHWM") - before}))
