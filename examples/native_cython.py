"""A log density in Cython, with the types from `cimport klqp.native`: compiled here, called without Python.

Poisson regression, y ~ Poisson(exp(a + b x)) with wide priors, in the form that computes one point at a time.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import klqp

SOURCE = """
# cython: language_level=3, boundscheck=False, wraparound=False
from libc.math cimport exp
from libc.stdint cimport int64_t
from klqp cimport native

cdef double[::1] x, y

def set_data(double[::1] x_, double[::1] y_):
    global x, y
    x, y = x_, y_

cdef api int log_density(int64_t d, const double* z, double* grad, double* logp, void* user_data) noexcept nogil:
    cdef int64_t i
    cdef double eta, residual, total = -0.005 * (z[0] * z[0] + z[1] * z[1])
    grad[0], grad[1] = -0.01 * z[0], -0.01 * z[1]
    for i in range(x.shape[0]):
        eta = z[0] + z[1] * x[i]
        residual = y[i] - exp(eta)
        total += y[i] * eta - exp(eta)
        grad[0] += residual
        grad[1] += residual * x[i]
    logp[0] = total
    return 0

cdef native.klqp_pointwise_fn checked = log_density  # the compiler compares the types
"""


def compile_module(folder):
    """Return the extension module, or stop with a message where there is no compiler."""
    if not (os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang")))):
        sys.exit("this example needs a C compiler: no cc, gcc or clang was found, and CC is not set")
    Path(folder, "poisson.pyx").write_text(SOURCE)
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "poisson.pyx"]
    environment = {**os.environ, "CFLAGS": f"-O3 -I{klqp.get_include()}"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    path = next(path for path in Path(folder).iterdir() if path.suffix in (".so", ".pyd"))
    spec = importlib.util.spec_from_file_location("poisson", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rng = np.random.default_rng(1)
x = np.linspace(-1.0, 1.0, 500)
y = rng.poisson(np.exp(1.0 + 0.5 * x)).astype(float)

with tempfile.TemporaryDirectory() as folder:
    poisson = compile_module(folder)
    poisson.set_data(x, y)
    capsule = poisson.__pyx_capi__["log_density"]
    inference = klqp.fit(klqp.NativeLogDensity(capsule, reentrant=True), 2, n_iter=2000, seed=1, progress=False)

mean, sd = inference.posterior["z"].mean(), inference.posterior["z"].stddev()
print(f"log rate at 0 {mean[0]:.3f} +- {sd[0]:.3f}, true 1.0")
print(f"slope         {mean[1]:.3f} +- {sd[1]:.3f}, true 0.5")
