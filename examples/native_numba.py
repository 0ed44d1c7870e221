"""A log density compiled by numba: a cfunc with klqp's signature, called from C++ without Python.

Robust regression: y ~ StudentT(4, a + b x, 1) with wide priors. numba compiles the data in as constants.
"""

import numba
import numpy as np
from numba import types

import klqp

rng = np.random.default_rng(2)
x = np.linspace(-1.0, 1.0, 200)
y = 2.0 + 3.0 * x + rng.standard_t(4, size=200)

doubles = types.CPointer(types.double)
signature = types.intc(types.int64, types.int64, types.int64, doubles, doubles, doubles, types.voidptr)


@numba.cfunc(signature)
def robust_line(n, d, order, points, logp, gradients, user_data):
    """Log density and gradient at the rows of z (n, d)."""
    z, grad = numba.carray(points, (n, d)), numba.carray(gradients, (n, d))
    for s in range(n):
        a, b = z[s]
        total, da, db = -0.005 * (a * a + b * b), -0.01 * a, -0.01 * b
        for i in range(len(x)):
            r = y[i] - a - b * x[i]
            total -= 2.5 * np.log1p(r * r / 4.0)
            slope = 5.0 * r / (4.0 + r * r)
            da += slope
            db += slope * x[i]
        logp[s] = total
        if order:
            grad[s, 0], grad[s, 1] = da, db
    return 0


density = klqp.NativeLogDensity(robust_line, reentrant=True)
print(f"largest relative error of the gradient: {klqp.testing.check_gradient(density, 2).max_relative_error:.0e}")
inference = klqp.fit(density, 2, q="full_rank", n_iter=2000, seed=1, progress=False)

mean, sd = inference.posterior["z"].mean(), inference.posterior["z"].stddev()
print(f"intercept {mean[0]:.3f} +- {sd[0]:.3f}, true 2.0")
print(f"slope     {mean[1]:.3f} +- {sd[1]:.3f}, true 3.0")
