"""A log density in C behind cffi: the library is opened with its C declaration, and its data are a C struct.

Normal data with unknown location and log scale, both with wide priors.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cffi
import numpy as np

import klqp

DECLARATION = """
typedef struct { int64_t n; double mean, mean_square; } summary;
int log_density(int64_t n, int64_t d, int64_t order, const double *z, double *logp, double *grad, void *user_data);
"""

SOURCE = """
#include <math.h>
#include <stdint.h>

typedef struct { int64_t n; double mean, mean_square; } summary;

int log_density(int64_t n, int64_t d, int64_t order, const double *z, double *logp, double *grad, void *user_data) {
  const summary *y = user_data;
  for (int64_t s = 0; s < n; ++s) {
    const double loc = z[s * d], log_scale = z[s * d + 1], precision = exp(-2.0 * log_scale);
    const double square = y->mean_square - 2.0 * loc * y->mean + loc * loc; /* mean of (y - loc)^2 */
    logp[s] = -y->n * (log_scale + 0.5 * precision * square) - 0.005 * (loc * loc + log_scale * log_scale);
    if (order) {
      grad[s * d] = y->n * precision * (y->mean - loc) - 0.01 * loc;
      grad[s * d + 1] = y->n * (precision * square - 1.0) - 0.01 * log_scale;
    }
  }
  return 0;
}
"""


def compile_library(folder):
    """Return the path of the shared library, or stop with a message where there is no compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        sys.exit("this example needs a C compiler: no cc, gcc or clang was found, and CC is not set")
    source, library = Path(folder, "log_density.c"), Path(folder, "log_density.so")
    source.write_text(SOURCE)
    subprocess.run([*compiler.split(), "-O3", "-shared", "-fPIC", str(source), "-o", str(library), "-lm"], check=True)
    return str(library)


y = np.random.default_rng(1).normal(5.0, 2.0, size=1000)
ffi = cffi.FFI()
ffi.cdef(DECLARATION)

with tempfile.TemporaryDirectory() as folder:
    library = ffi.dlopen(compile_library(folder))
    data = ffi.new("summary *", [len(y), y.mean(), (y * y).mean()])
    density = klqp.NativeLogDensity(library.log_density, user_data=data, reentrant=True)
    inference = klqp.fit(density, 2, n_iter=3000, seed=1, progress=False)

mean, sd = inference.posterior["z"].mean(), inference.posterior["z"].stddev()
print(f"location  {mean[0]:.3f} +- {sd[0]:.3f}, of the data {y.mean():.3f} +- {y.std() / 1000**0.5:.3f}")
print(f"log scale {mean[1]:.3f} +- {sd[1]:.3f}, of the data {np.log(y.std()):.3f} +- {2000**-0.5:.3f}")
