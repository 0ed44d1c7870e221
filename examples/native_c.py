"""A log density in C, compiled at run time and handed over through ctypes: the run never enters Python.

The density is that of an autoregressive process with Normal steps: z_0 ~ N(0, 1), z_i ~ N(0.8 z_(i-1), 0.6), whose
marginal standard deviations are all 1.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import klqp

SOURCE = """
#include <klqp/native.h>

int log_density(int64_t n, int64_t d, int64_t order, const double *z, double *logp, double *grad, void *user_data) {
  const double phi = ((const double *)user_data)[0], precision = 1.0 / (1.0 - phi * phi);
  for (int64_t s = 0; s < n; ++s) {
    const double *x = z + s * d;
    double *g = order ? grad + s * d : 0;
    double sum = -0.5 * x[0] * x[0];
    if (order) g[0] = -x[0];
    for (int64_t i = 1; i < d; ++i) {
      const double step = x[i] - phi * x[i - 1];
      sum -= 0.5 * precision * step * step;
      if (order) {
        g[i] = -precision * step;
        g[i - 1] += phi * precision * step;
      }
    }
    logp[s] = sum;
  }
  return 0;
}
"""


def compile_log_density(folder):
    """Return the C function, or stop with a message where there is no compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        sys.exit("this example needs a C compiler: no cc, gcc or clang was found, and CC is not set")
    source, library = Path(folder, "log_density.c"), Path(folder, "log_density.so")
    source.write_text(SOURCE)
    flags = ["-O3", "-shared", "-fPIC", f"-I{klqp.get_include()}"]
    subprocess.run([*compiler.split(), *flags, str(source), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).log_density
    pointer = ctypes.POINTER(ctypes.c_double)
    function.argtypes = [*[ctypes.c_int64] * 3, pointer, pointer, pointer, ctypes.c_void_p]
    function.restype = ctypes.c_int
    return function


with tempfile.TemporaryDirectory() as folder:
    phi = np.array([0.8])  # what the function finds behind user_data; it must live as long as the fit
    native = klqp.NativeLogDensity(compile_log_density(folder), user_data=phi.ctypes.data, reentrant=True)
    check = klqp.testing.check_gradient(native, 10)
    print(f"largest relative error of the gradient: {check.max_relative_error:.0e}")

    inference = klqp.fit(native, 50, q="full_rank", n_iter=3000, seed=1, progress=False)

sd = inference.posterior["z"].stddev()
covariance = inference.posterior["z"].covariance()
print(f"standard deviations between {sd.min():.3f} and {sd.max():.3f}, exact 1")
print(f"correlation of neighbours {covariance[10, 11] / (sd[10] * sd[11]):.3f}, exact {phi[0]}")
