"""Native log densities: carriers of a C function, wrong types, return codes, ownership, threads, docs/native.md."""

import ctypes
import gc
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import klqp
from klqp import testing

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
pytestmark = needs_compiler

D = 3
INT, DOUBLES, VOID = ctypes.c_int64, ctypes.POINTER(ctypes.c_double), ctypes.c_void_p
BATCHED = [INT, INT, INT, DOUBLES, DOUBLES, DOUBLES, VOID]
POINTWISE = [INT, DOUBLES, DOUBLES, DOUBLES, VOID]
BOTH = ("int f(int64_t n, int64_t d, int64_t order, const double *z", "int f(int64_t d, const double *z, double *grad")

C_SOURCE = r"""
#include <math.h>
#include <stdint.h>
#include <time.h>
#include "klqp/native.h"

typedef struct {
  double loc;
  int64_t calls, rows, order_0, order_1, grad_given; /* what came */
  int64_t at, code, leave;                           /* what to do in which call */
  int64_t inside, most_inside, most_rows, flag;
} state;

static double point(int64_t d, const double* z, double* grad, double loc) {
  double sum = 0.0;
  for (int64_t i = 0; i < d; ++i) {
    const double r = z[i] - loc;
    sum += r * r;
    if (grad) grad[i] = -r;
  }
  return -0.5 * sum;
}

int normal(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad, void* user_data) {
  const double loc = user_data ? *(const double*)user_data : 1.0;
  for (int64_t s = 0; s < n; ++s) logp[s] = point(d, z + s * d, order ? grad + s * d : 0, loc);
  return 0;
}

int normal_pointwise(int64_t d, const double* z, double* grad, double* logp, void* user_data) {
  *logp = point(d, z, grad, user_data ? *(const double*)user_data : 1.0);
  return 0;
}

/* Notes what comes and leaves alone or returns what the state asks for. */
int recorder(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad, void* user_data) {
  state* const s = user_data;
  const int64_t inside = __atomic_add_fetch(&s->inside, 1, __ATOMIC_SEQ_CST);
  int64_t most = __atomic_load_n(&s->most_inside, __ATOMIC_SEQ_CST);
  while (inside > most && !__atomic_compare_exchange_n(&s->most_inside, &most, inside, 0, __ATOMIC_SEQ_CST,
                                                       __ATOMIC_SEQ_CST)) {}
  most = __atomic_load_n(&s->most_rows, __ATOMIC_SEQ_CST);
  while (n > most && !__atomic_compare_exchange_n(&s->most_rows, &most, n, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
  const int64_t call = __atomic_fetch_add(&s->calls, 1, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&s->rows, n, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(order ? &s->order_1 : &s->order_0, 1, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&s->grad_given, grad != 0, __ATOMIC_SEQ_CST);
  int code = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (call == s->at && i < s->leave) continue;
    logp[i] = point(d, z + i * d, order ? grad + i * d : 0, s->loc);
  }
  if (call == s->at) code = (int)s->code;
  __atomic_sub_fetch(&s->inside, 1, __ATOMIC_SEQ_CST);
  return code;
}

int recorder_pointwise(int64_t d, const double* z, double* grad, double* logp, void* user_data) {
  state* const s = user_data;
  s->grad_given += grad != 0;
  if (s->calls++ == s->at) return (int)s->code;
  *logp = point(d, z, grad, s->loc);
  return 0;
}

/* (y, a, b) of sizes (d - 2, 1, 1): y_i ~ Normal(a + b i, 1); no gradient in y. */
int line(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad, void* user_data) {
  for (int64_t s = 0; s < n; ++s, z += d) {
    const double *const a = z + d - 2, *const b = z + d - 1;
    double sum = 0.0, ga = 0.0, gb = 0.0;
    for (int64_t i = 0; i < d - 2; ++i) {
      const double r = z[i] - *a - *b * (double)i;
      sum += r * r;
      ga += r;
      gb += r * (double)i;
    }
    logp[s] = -0.5 * sum;
    if (order) grad[s * d + d - 2] = ga, grad[s * d + d - 1] = gb;
  }
  return 0;
}

int forgets_logp(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad, void* user_data) {
  for (int64_t i = 0; order && i < n * d; ++i) grad[i] = -z[i];
  return 0;
}

int forgets_grad(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad, void* user_data) {
  for (int64_t s = 0; s < n; ++s) logp[s] = point(d, z + s * d, 0, 0.0);
  return 0;
}

/* Slow at first; later each call waits until another one is inside, for ten seconds at the most. */
int meets(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad, void* user_data) {
  state* const s = user_data;
  const struct timespec pause = {0, 1000000};
  const int64_t call = __atomic_fetch_add(&s->calls, 1, __ATOMIC_SEQ_CST);
  if (call < 20) {
    nanosleep(&pause, 0);
  } else {
    const int64_t pair = call - call % 2 + 2;
    __atomic_add_fetch(&s->inside, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 10000 && __atomic_load_n(&s->inside, __ATOMIC_SEQ_CST) < pair - 20; ++i) nanosleep(&pause, 0);
    if (__atomic_load_n(&s->inside, __ATOMIC_SEQ_CST) < pair - 20) return -1;
  }
  return normal(n, d, order, z, logp, grad, 0);
}

/* Waits until another thread has raised the flag, for ten seconds at the most. */
int waits(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad, void* user_data) {
  state* const s = user_data;
  const struct timespec pause = {0, 1000000};
  __atomic_store_n(&s->inside, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < 10000 && !__atomic_load_n(&s->flag, __ATOMIC_SEQ_CST); ++i) nanosleep(&pause, 0);
  if (!s->flag) return -1;
  return normal(n, d, order, z, logp, grad, 0);
}

const char* capsule_name(void) { return KLQP_CAPSULE_NAME; }
unsigned flags(void) { return KLQP_REENTRANT | KLQP_POINTWISE << 8; }
"""


class State(ctypes.Structure):
    _fields_ = [
        ("loc", ctypes.c_double),
        *((name, INT) for name in ("calls", "rows", "order_0", "order_1", "grad_given")),
        *((name, INT) for name in ("at", "code", "leave")),
        *((name, INT) for name in ("inside", "most_inside", "most_rows", "flag")),
    ]


def python_normal(z):
    r = z - 1.0
    return -0.5 * (r * r).sum(1), -r


def fit(fn, dim=D, **options):
    return klqp.fit(fn, dim, **{"n_iter": 50, "n_samples": 6, "seed": 3, "progress": False, **options})


def same_run(a, b):
    for name in ("loss", "grad_norm", "n_rejected"):
        np.testing.assert_array_equal(a.history[name], b.history[name])
    np.testing.assert_array_equal(a.posterior["z"].mean(), b.posterior["z"].mean())
    np.testing.assert_array_equal(a.posterior["z"].stddev(), b.posterior["z"].stddev())


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    (folder / "native.c").write_text(C_SOURCE)
    path = folder / "native.so"
    command = [COMPILER, "-std=c99", "-D_POSIX_C_SOURCE=199309L", "-pedantic", "-O2", "-ffp-contract=off", "-shared"]
    command += ["-fPIC", "-I", klqp.get_include(), folder / "native.c", "-o", path]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def c(library):
    """Return a function that gives a C function by name, with its types set."""

    def load(name, restype=ctypes.c_int, argtypes=None):
        function = getattr(ctypes.CDLL(str(library)), name)
        function.restype = restype
        function.argtypes = argtypes or (POINTWISE if name.endswith("pointwise") else BATCHED)
        return function

    return load


@pytest.fixture
def state():
    return State(loc=1.0, at=-1)


def recorder(c, state, name="recorder", **options):
    return klqp.NativeLogDensity(c(name), user_data=ctypes.pointer(state), **options)


def make_capsule(struct, name=b"klqp.logdensity.v1", destructor=None):
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [VOID, ctypes.c_char_p, VOID]
    return new(ctypes.addressof(struct), name, ctypes.cast(destructor, VOID) if destructor else None)


class Density(ctypes.Structure):
    """klqp_logdensity_v1."""

    _fields_ = [("fn", VOID), ("user_data", VOID), ("flags", ctypes.c_uint32)]


# --- the same bits as the Python function, by every carrier ---
FORMS = pytest.mark.parametrize("name", ["normal", "normal_pointwise"])


@FORMS
@pytest.mark.parametrize("gradient", ["reparameterised", "score"])
@pytest.mark.parametrize("q", ["mean_field", "full_rank", "low_rank"])
def test_ctypes(c, name, gradient, q):
    native = fit(c(name), gradient=gradient, q=q)
    same_run(native, fit(python_normal, gradient=gradient, q=q))
    assert native.posterior.elbo(100, seed=1) == fit(python_normal, gradient=gradient, q=q).posterior.elbo(100, seed=1)


@FORMS
def test_ctypes_prototypes(c, name):
    """Other spellings of the same types."""
    pointer = np.ctypeslib.ndpointer(np.float64, flags="C")
    for integer in (ctypes.c_longlong, ctypes.c_ssize_t, ctypes.c_long):
        if ctypes.sizeof(integer) != 8:
            continue
        for doubles in (DOUBLES, VOID, pointer):
            n = 3 if name == "normal" else 1
            argtypes = [integer] * n + [doubles] * 3 + [VOID]
            same_run(fit(c(name, argtypes=argtypes), n_iter=3), fit(python_normal, n_iter=3))
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, *(BATCHED if name == "normal" else POINTWISE))
    same_run(fit(prototype(ctypes.cast(c(name), VOID).value), n_iter=3), fit(python_normal, n_iter=3))


def test_ctypes_callback():
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, *BATCHED)

    def callback(n, d, order, z, logp, grad, user_data):
        values, slopes = python_normal(np.ctypeslib.as_array(z, (n, d)))
        np.ctypeslib.as_array(logp, (n,))[:] = values
        if order:
            np.ctypeslib.as_array(grad, (n, d))[:] = slopes
        assert bool(grad) == bool(order)
        assert user_data is None
        return 0

    inference = klqp.KLqp([klqp.LogDensity(prototype(callback), shape=D)])
    gc.collect()  # nobody but klqp has the callback now
    inference.run(n_iter=50, n_samples=6, seed=3)
    same_run(inference, fit(python_normal))
    assert np.isfinite(inference.posterior.elbo(10).value)


@FORMS
def test_cffi(c, library, name):
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    integers, order = ("int64_t, int64_t, int64_t", "const double *, double *, double *")
    arguments = f"{integers if name == 'normal' else 'int64_t'}, {order}, void *"
    ffi.cdef(f"int {name}({arguments});")
    opened = ffi.dlopen(str(library))
    same_run(fit(getattr(opened, name)), fit(python_normal))
    address = int(ffi.cast("intptr_t", getattr(opened, name)))
    pointer = ffi.cast(f"int(*)({arguments.replace('int64_t', 'long long')})", address)
    same_run(fit(pointer), fit(python_normal))
    loc = ffi.new("double *", 4.0)
    same_run(
        fit(klqp.NativeLogDensity(getattr(opened, name), user_data=loc)),
        fit(klqp.NativeLogDensity(c(name), user_data=ctypes.pointer(ctypes.c_double(4.0)))),
    )


def test_cffi_callback_is_kept():
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()

    def callback(n, d, order, z, logp, grad, user_data):
        values, slopes = python_normal(np.frombuffer(ffi.buffer(z, 8 * n * d)).reshape(n, d))
        ffi.memmove(logp, values, 8 * n)
        if order:
            ffi.memmove(grad, np.ascontiguousarray(slopes), 8 * n * d)
        return 0

    kind = "int(int64_t, int64_t, int64_t, const double *, double *, double *, void *)"
    inference = klqp.KLqp([klqp.LogDensity(ffi.callback(kind, callback), shape=D)])
    gc.collect()
    inference.run(n_iter=50, n_samples=6, seed=3)
    same_run(inference, fit(python_normal))


def numba_functions():
    numba = pytest.importorskip("numba")
    doubles = numba.types.CPointer(numba.types.double)
    integer = numba.types.int64

    def batched(n, d, order, z, logp, grad, user_data):
        for s in range(n):
            total = 0.0
            for i in range(d):
                r = z[s * d + i] - 1.0
                total += r * r
                if order:
                    grad[s * d + i] = -r
            logp[s] = -0.5 * total
        return 0

    def pointwise(d, z, grad, logp, user_data):
        total = 0.0
        for i in range(d):
            r = z[i] - 1.0
            total += r * r
            grad[i] = -r
        logp[0] = -0.5 * total
        return 0

    three = (doubles, doubles, doubles, numba.types.voidptr)
    return numba, [(batched, (integer, integer, integer, *three)), (pointwise, (integer, *three))]


def test_numba():
    numba, functions = numba_functions()
    nothing = [lambda n, d, order, z, logp, grad, user_data: None, lambda d, z, grad, logp, user_data: None]
    for (function, arguments), void in zip(functions, nothing, strict=True):
        compiled = numba.cfunc(numba.types.intc(*arguments))(function)
        same_run(fit(compiled), fit(python_normal))
        inference = klqp.KLqp([klqp.LogDensity(compiled, shape=D)])
        del compiled
        gc.collect()
        inference.run(n_iter=50, n_samples=6, seed=3)
        same_run(inference, fit(python_normal))
        check_refused(numba.cfunc(numba.types.void(*arguments))(void), "None (")


@FORMS
def test_low_level_callable_of_ctypes(c, name):
    scipy = pytest.importorskip("scipy")
    same_run(fit(scipy.LowLevelCallable(c(name))), fit(python_normal))
    loc = ctypes.c_double(4.0)
    data = ctypes.cast(ctypes.pointer(loc), VOID)
    expected = fit(klqp.NativeLogDensity(c(name), user_data=data))
    assert expected.losses[0] != fit(python_normal).losses[0]
    same_run(fit(scipy.LowLevelCallable(c(name), data)), expected)
    # The user data given beside it come first.
    other = klqp.NativeLogDensity(scipy.LowLevelCallable(c(name), data), user_data=ctypes.pointer(ctypes.c_double(1.0)))
    same_run(fit(other), fit(python_normal))


def test_low_level_callable_of_cffi(library):
    scipy, cffi = pytest.importorskip("scipy"), pytest.importorskip("cffi")
    ffi = cffi.FFI()
    ffi.cdef("int normal(int64_t, int64_t, int64_t, const double *, double *, double *, void *);")
    opened = ffi.dlopen(str(library))
    same_run(fit(scipy.LowLevelCallable(opened.normal)), fit(python_normal))
    loc = ffi.new("double *", 1.0)
    same_run(fit(scipy.LowLevelCallable(opened.normal, ffi.cast("void *", loc))), fit(python_normal))


CYTHON = """
# cython: language_level=3
from klqp cimport native
from libc.stdint cimport int64_t

ctypedef double number

cdef api int normal(int64_t n, int64_t d, int64_t order, const number* z, number* logp, number* grad,
                    void* user_data) noexcept nogil:
    cdef int64_t s, i
    cdef double r, total
    for s in range(n):
        total = 0.0
        for i in range(d):
            r = z[s * d + i] - (1.0 if user_data is NULL else (<double*>user_data)[0])
            total += r * r
            if order:
                grad[s * d + i] = -r
        logp[s] = -0.5 * total
    return 0

cdef api int pointwise(int64_t d, const double* z, double* grad, double* logp, void* user_data) noexcept nogil:
    return normal(1, d, 1, z, logp, grad, user_data)

cdef api double wrong(double x, void* user_data) noexcept nogil:
    return x

cdef api void wrong_result(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad,
                           void* user_data) noexcept nogil:
    pass

cdef api int narrow(int n, int d, int order, const double* z, double* logp, double* grad,
                    void* user_data) noexcept nogil:
    return 0

cdef native.klqp_logdensity_v1 density
density.fn = <void*>normal
density.user_data = NULL
density.flags = native.KLQP_REENTRANT
cdef native.klqp_logdensity_fn checked = normal
cdef native.klqp_pointwise_fn checked_too = pointwise

from cpython.pycapsule cimport PyCapsule_New

class Model:
    def __klqp_logdensity__(self):
        return PyCapsule_New(&density, native.KLQP_CAPSULE_NAME, NULL)
"""


@pytest.fixture(scope="module")
def cython_module(tmp_path_factory):
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("cython")
    (folder / "klqp_test_density.pyx").write_text(CYTHON)
    env = {**os.environ, "CFLAGS": f"-O1 -ffp-contract=off -I{klqp.get_include()}"}
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "klqp_test_density.pyx"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (p for p in folder.iterdir() if p.suffix in (".so", ".pyd"))
    spec = importlib.util.spec_from_file_location("klqp_test_density", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cython(cython_module):
    expected = fit(python_normal)
    for name in ("normal", "pointwise"):
        capsule = cython_module.__pyx_capi__[name]
        same_run(fit(capsule), expected)
        same_run(fit(klqp.NativeLogDensity(capsule, reentrant=True)), expected)
    same_run(fit(cython_module.Model()), expected)
    for name in ("wrong", "wrong_result", "narrow"):
        check_refused(cython_module.__pyx_capi__[name])


def test_low_level_callable_of_cython(cython_module):
    scipy = pytest.importorskip("scipy")
    same_run(fit(scipy.LowLevelCallable.from_cython(cython_module, "normal")), fit(python_normal))
    loc = ctypes.pointer(ctypes.c_double(1.0))
    data = ctypes.cast(loc, VOID)
    for name in ("normal", "pointwise"):
        same_run(fit(scipy.LowLevelCallable.from_cython(cython_module, name, data)), fit(python_normal))
    check_refused(scipy.LowLevelCallable.from_cython(cython_module, "wrong"))


# --- capsules and the protocol ---
def test_the_header_says_what_the_tests_assume(library):
    opened = ctypes.CDLL(str(library))
    opened.capsule_name.restype = ctypes.c_char_p
    assert opened.capsule_name() == b"klqp.logdensity.v1"
    assert opened.flags() == 1 | 2 << 8
    assert Path(klqp.get_include(), "klqp", "native.h").is_file()


@pytest.mark.parametrize("flags", [0, 1])
@FORMS
def test_a_capsule_made_by_hand(c, name, flags):
    function = c(name)
    density = Density(ctypes.cast(function, VOID), None, flags | (2 if name == "normal_pointwise" else 0))
    capsule = make_capsule(density)
    expected = fit(python_normal)
    same_run(fit(capsule), expected)
    same_run(fit(klqp.NativeLogDensity(capsule)), expected)
    same_run(fit(klqp.NativeLogDensity(klqp.NativeLogDensity(capsule), reentrant=True)), expected)

    class Model:
        def __klqp_logdensity__(self):
            return capsule

    same_run(fit(Model()), expected)
    same_run(fit(klqp.NativeLogDensity(Model())), expected)
    loc = ctypes.c_double(4.0)
    same_run(
        fit(klqp.NativeLogDensity(capsule, user_data=ctypes.pointer(loc))),
        fit(klqp.NativeLogDensity(function, user_data=ctypes.pointer(loc))),
    )


def test_a_capsule_is_kept_as_long_as_something_may_call_it(c):
    function, released = c("normal"), []
    destructor = ctypes.PYFUNCTYPE(None, VOID)(released.append)
    density = Density(ctypes.cast(function, VOID), None, 0)
    inference = klqp.KLqp([klqp.LogDensity(make_capsule(density, destructor=destructor), shape=D)])
    gc.collect()
    inference.run(n_iter=50, n_samples=6, seed=3)
    same_run(inference, fit(python_normal))
    posterior = inference.posterior
    del inference
    gc.collect()
    assert np.isfinite(posterior.elbo(10).value)
    assert not released
    del posterior
    gc.collect()
    assert len(released) == 1


@pytest.mark.parametrize("wrap", [lambda f: f, klqp.NativeLogDensity])
def test_everything_is_kept_alive_that_a_run_needs(c, state, wrap):
    scipy = pytest.importorskip("scipy")
    data = ctypes.cast(ctypes.pointer(state), VOID)
    low_level = wrap(scipy.LowLevelCallable(c("recorder"), data))
    inference = klqp.KLqp([klqp.LogDensity(low_level, shape=D)])
    del low_level, data
    gc.collect()
    inference.run(n_iter=50, n_samples=6, seed=3)
    same_run(inference, fit(python_normal))
    assert state.calls == 50


def test_user_data_behind_a_pointer_is_kept(c):
    def make():
        loc = ctypes.c_double(1.0)
        return klqp.NativeLogDensity(c("normal"), user_data=ctypes.pointer(loc))

    density = make()
    gc.collect()
    garbage = [ctypes.c_double(77.0) for _ in range(1000)]  # would take the memory if it were free
    same_run(fit(density), fit(python_normal))
    assert len(garbage) == 1000


def test_user_data_in_every_form(c):
    expected = fit(klqp.NativeLogDensity(c("normal"), user_data=ctypes.pointer(ctypes.c_double(4.0))))
    loc, array = ctypes.c_double(4.0), np.array([4.0])
    for data in (
        ctypes.addressof(loc),
        ctypes.c_void_p(ctypes.addressof(loc)),
        ctypes.byref(loc),
        array.ctypes.data,
        array.ctypes.data_as(DOUBLES),
    ):
        same_run(fit(klqp.NativeLogDensity(c("normal"), user_data=data)), expected)
    for data in (4.0, "4", array, True, object()):
        with pytest.raises(TypeError, match="user_data must be an address.*" + type(data).__name__):
            klqp.NativeLogDensity(c("normal"), user_data=data)


@pytest.mark.parametrize("given", [None, 3, "x", lambda: None])
def test_the_protocol_must_return_a_capsule(given):
    class Model:
        def __klqp_logdensity__(self):
            return given

    with pytest.raises(TypeError, match=r"__klqp_logdensity__ must return a capsule 'klqp.logdensity.v1', not "):
        fit(Model())


def test_the_protocol_must_return_a_capsule_of_that_name(c):
    density = Density(ctypes.cast(c("normal"), VOID), None, 0)
    capsule = make_capsule(density, b"klqp.logdensity.v0")

    class Model:
        def __klqp_logdensity__(self):
            return capsule

    with pytest.raises(TypeError, match=r"not a capsule 'klqp.logdensity.v0'"):
        fit(Model())


# --- wrong types ---
def check_refused(carrier, *words):
    for use in (fit, klqp.NativeLogDensity, lambda f: klqp.LogDensity(f, shape=D)):
        with pytest.raises(TypeError) as caught:
            use(carrier)
        for word in (*BOTH, *words):
            assert word in str(caught.value)


INT32, UINT64, FLOATS = ctypes.c_int32, ctypes.c_uint64, ctypes.POINTER(ctypes.c_float)
WRONG_CTYPES = {
    "one argument less": (ctypes.c_int, BATCHED[:-1], "c_void_p" if False else "LP_c_double"),
    "one argument more": (ctypes.c_int, [*BATCHED, VOID], "c_void_p, c_void_p"),
    "no argument": (ctypes.c_int, [], "c_int ()"),
    "int n": (ctypes.c_int, [INT32, *BATCHED[1:]], "c_int"),
    "size_t order": (ctypes.c_int, [INT, INT, UINT64, *BATCHED[3:]], "c_ulong"),
    "double order": (ctypes.c_int, [INT, INT, ctypes.c_double, *BATCHED[3:]], "c_double"),
    "float *z": (ctypes.c_int, [INT, INT, INT, FLOATS, DOUBLES, DOUBLES, VOID], "LP_c_float"),
    "double user_data": (ctypes.c_int, [*BATCHED[:-1], ctypes.c_double], "c_double"),
    "py_object user_data": (ctypes.c_int, [*BATCHED[:-1], ctypes.py_object], "py_object"),
    "void result": (None, BATCHED, "None ("),
    "double result": (ctypes.c_double, BATCHED, "c_double ("),
    "pointer result": (VOID, BATCHED, "c_void_p ("),
    "pointwise with order": (ctypes.c_int, [INT, INT, DOUBLES, DOUBLES, DOUBLES, VOID], "c_long, c_long, LP"),
    "quadrature": (ctypes.c_double, [ctypes.c_int, DOUBLES], "c_double (c_int, LP_c_double)"),
}


@pytest.mark.parametrize("case", WRONG_CTYPES)
def test_wrong_ctypes_functions(c, case):
    restype, argtypes, words = WRONG_CTYPES[case]
    function = c("normal")
    function.restype, function.argtypes = restype, argtypes
    check_refused(function, words)


def test_a_ctypes_function_needs_its_types(library):
    check_refused(ctypes.CDLL(str(library)).normal, "set argtypes")


def test_a_function_that_needs_the_gil_is_refused():
    function = ctypes.PYFUNCTYPE(ctypes.c_int, *BATCHED)(lambda *_: 0)
    with pytest.raises(TypeError, match="GIL"):
        fit(function)


def test_a_null_pointer_is_refused():
    with pytest.raises(ValueError, match="NULL"):
        fit(ctypes.CFUNCTYPE(ctypes.c_int, *BATCHED)())
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    with pytest.raises(ValueError, match="NULL"):
        fit(ffi.cast("int(*)(int64_t, const double *, double *, double *, void *)", 0))


@pytest.mark.parametrize(
    "declaration",
    [
        "int(*)(int64_t, int64_t, const double *, double *, double *, void *)",
        "int(*)(int, int, int, const double *, double *, double *, void *)",
        "int(*)(double, double, double, const double *, double *, double *, void *)",
        "int(*)(int64_t, int64_t, int64_t, const float *, double *, double *, void *)",
        "void(*)(int64_t, int64_t, int64_t, const double *, double *, double *, void *)",
        "double(*)(int64_t, const double *, double *, double *, void *)",
        "int64_t(*)(int64_t, const double *, double *, double *, void *)",
        "double(*)(double)",
    ],
)
def test_wrong_cffi_functions(c, declaration):
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    pointer = ffi.cast(declaration, ctypes.cast(c("normal"), VOID).value)
    check_refused(pointer, declaration.split("(")[0])
    scipy = pytest.importorskip("scipy")
    check_refused(scipy.LowLevelCallable(pointer))


@pytest.mark.parametrize(
    ("signature", "good"),
    [
        (b"int (int64_t, int64_t, int64_t, double const *, double *, double *, void *)", True),
        (b"int(long long,long,Py_ssize_t,const double*,double*,double*,struct data *)", True),
        (b"int (__pyx_t_5mine_index, long int, ptrdiff_t, number const *, number *, number *, void *)", True),
        (b"int (int64_t, double const *, double *, double *, void *)", False),
        (b"double (double, void *)", False),
        (b"int (int, int, int, double *, double *, double *, void *)", False),
        (b"void (int64_t, int64_t, int64_t, double *, double *, double *, void *)", False),
        (b"int * (int64_t, int64_t, int64_t, double *, double *, double *, void *)", False),
        (b"int (int64_t, int64_t, int64_t, float *, double *, double *, void *)", False),
        (b"int ()", False),
        (b"nonsense", False),
        (b"", False),
        (None, False),
    ],
)
def test_signatures_of_capsules(c, signature, good):
    function = c("normal")
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [VOID, ctypes.c_char_p, VOID]
    if signature == b"int (int64_t, double const *, double *, double *, void *)":
        function, good = c("normal_pointwise"), True
    capsule = new(ctypes.cast(function, VOID), signature, None)
    if good:
        same_run(fit(capsule), fit(python_normal))
    else:
        check_refused(capsule, (signature or b"").decode())


def test_native_log_density_wants_a_native_function():
    for value in (python_normal, 3, None, "f", object()):
        with pytest.raises(TypeError) as caught:
            klqp.NativeLogDensity(value)
        assert all(word in str(caught.value) for word in (*BOTH, "no native function"))


def test_native_functions_work_in_float64(c):
    with pytest.raises(ValueError, match=r"float64.*float32 is for Python functions"):
        fit(c("normal"), dtype=np.float32)


# --- what it is called with ---
def test_it_is_called_once_a_step_with_all_draws(c, state):
    inference = fit(recorder(c, state))
    assert (state.calls, state.rows, state.order_0, state.order_1, state.grad_given) == (50, 300, 0, 50, 50)
    assert state.most_rows == 6
    same_run(inference, fit(python_normal))


def test_initialize_does_not_call_it(c, state):
    inference = klqp.KLqp([klqp.LogDensity(recorder(c, state), shape=D)])
    inference.initialize(n_iter=5, n_samples=6, seed=3)
    assert state.calls == 0
    inference.update()
    assert state.calls == 1


def test_score_function_gradients_ask_for_values_only(c, state):
    fit(recorder(c, state), gradient="score")
    assert (state.calls, state.order_0, state.order_1, state.grad_given) == (50, 50, 0, 0)


def test_elbo_asks_for_values_only(c, state):
    posterior = fit(recorder(c, state)).posterior
    before = state.calls
    posterior.elbo(1500, seed=1)
    assert state.order_0 == state.calls - before > 0
    assert state.order_1 == before


def test_the_pointwise_form_always_gets_the_gradient(c, state):
    fit(recorder(c, state, "recorder_pointwise"), gradient="score")
    assert state.calls == state.grad_given == 300


def test_shapes_are_flat(c):
    inference = klqp.KLqp([klqp.LogDensity(c("normal"), shape=(3, 4))])
    inference.run(n_iter=20, n_samples=6, seed=3)
    flat = fit(c("normal"), 12, n_iter=20)
    np.testing.assert_array_equal(inference.losses, flat.losses)
    assert inference.posterior["z"].mean().shape == (3, 4)


def test_check_gradient_takes_native_functions(c):
    assert testing.check_gradient(c("normal"), D).max_relative_error < 1e-8
    with pytest.raises(AssertionError, match="not finite"):
        testing.check_gradient(c("forgets_grad"), D)


# --- return codes and outputs that were forgotten ---
@pytest.mark.parametrize("name", ["recorder", "recorder_pointwise"])
@pytest.mark.parametrize("gradient", ["reparameterised", "score"])
def test_a_negative_code_stops_the_run_and_keeps_the_state(c, state, name, gradient):
    pointwise = name == "recorder_pointwise"
    state.at, state.code = (30 * 6 + 2 if pointwise else 30), -7
    inference = klqp.KLqp([klqp.LogDensity(recorder(c, state, name), shape=D)])
    with pytest.raises(klqp.TargetError, match=r"asked to stop.*-7"):
        inference.run(n_iter=50, n_samples=6, seed=3, gradient=gradient)
    assert inference.stop_reason is None
    assert len(inference.losses) == 30
    assert np.isfinite(inference.posterior["z"].mean()).all()
    inference.resume()  # the state's call is past
    same_run(inference, fit(python_normal, gradient=gradient))


def test_a_negative_code_of_one_piece_of_many_stops_too(c, state):
    state.at, state.code = 50, -2
    inference = klqp.KLqp([klqp.LogDensity(recorder(c, state, reentrant=True), shape=20_000)])
    with pytest.raises(klqp.TargetError, match="-2"):
        inference.run(n_iter=12, n_samples=32, n_threads=2, seed=3)
    assert len(inference.losses) == 3  # 16 pieces a step


def test_a_negative_code_in_elbo(c, state):
    posterior = fit(recorder(c, state)).posterior
    state.at, state.code = state.calls, -1
    with pytest.raises(klqp.TargetError, match="-1"):
        posterior.elbo(10)


@pytest.mark.parametrize("code", [0, 1, 1000])
def test_rows_left_alone_are_rejected_whatever_is_returned(c, state, code):
    state.at, state.code, state.leave = 30, code, 2
    inference = fit(recorder(c, state))
    assert inference.rejections == {
        "minus_inf": 0,
        "invalid": 2,
        "first": "first at step 30, draw 0: log density nan",
    }
    np.testing.assert_array_equal(inference.history["n_rejected"], 2 * np.eye(50)[30])
    np.testing.assert_array_equal(inference.losses[:30], fit(python_normal).losses[:30])


def test_a_positive_code_rejects_no_row_that_was_written(c, state):
    state.at, state.code = 30, 5
    same_run(fit(recorder(c, state)), fit(python_normal))


def test_a_positive_code_of_the_pointwise_form(c, state):
    state.at, state.code = 30 * 6 + 4, 1
    inference = fit(recorder(c, state, "recorder_pointwise"))
    assert inference.rejections["first"] == "first at step 30, draw 4: log density nan"
    assert inference.history["n_rejected"].sum() == 1


def test_forgotten_outputs_are_caught(c):
    with pytest.raises(klqp.TargetError, match="draw 0: log density nan"):
        fit(c("forgets_logp"))
    with pytest.raises(klqp.TargetError, match="draw 0: gradient nan in coordinate 0"):
        fit(c("forgets_grad"))
    assert np.isfinite(fit(c("forgets_grad"), gradient="score").losses).all()


# --- in models of random variables ---
def python_line(y, a, b):
    a, b, i = a[:, None], b[:, None], np.arange(y.shape[-1])
    r = y - a - b * i
    return -0.5 * (r * r).sum(1), (r.sum(1), (r * i).sum(1))


def model_run(latents, data, **options):
    inference = klqp.KLqp(latents, data=data)
    inference.run(**{"n_iter": 60, "n_samples": 6, "seed": 3, "progress": False, **options})
    return inference


@FORMS
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_prior_beside_other_terms(c, name, reentrant):
    design, y = np.random.default_rng(1).normal(size=(20, D)), np.arange(20.0) / 10

    def run(fn, **options):
        w = klqp.LogDensity(fn, shape=D, name="z")
        return model_run([w], {klqp.Normal(design @ w, 1.0): y}, **options)

    expected = run(python_normal)
    same_run(run(klqp.NativeLogDensity(c(name), reentrant=reentrant)), expected)
    same_run(run(klqp.NativeLogDensity(c(name), reentrant=reentrant), n_threads=2), expected)


def test_a_prior_on_a_constrained_space(c):
    def run(fn):
        s = klqp.LogDensity(fn, shape=D, support="positive", name="z")
        return model_run([s], {klqp.Normal(0.0, s): np.ones(D)})

    same_run(run(c("normal")), run(python_normal))


def test_a_likelihood_sees_its_value_and_then_its_inputs(c):
    y = 1.0 + 0.5 * np.arange(5.0)

    def run(fn):
        a, b = klqp.Normal(0.0, 3.0, name="a"), klqp.Normal(0.0, 3.0, name="b")
        return model_run([a, b], {klqp.LogDensity(fn, a, b, shape=5, name="y"): y}, n_iter=300)

    def values_of(run):
        return [run.losses, run.history["grad_norm"], *(run.posterior[n].mean() for n in ("a", "b"))]

    native = run(c("line"))
    assert native.estimator == run(python_line).estimator
    for ours, theirs in zip(values_of(native), values_of(run(python_line)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert native.posterior["b"].mean() == pytest.approx(0.5, abs=0.2)


def test_a_latent_variable_with_inputs(c):
    """The value's own gradient is wanted then; this function leaves it alone, which is seen."""
    a, b = klqp.Normal(0.0, 3.0, name="a"), klqp.Normal(0.0, 3.0, name="b")
    y = klqp.LogDensity(c("line"), a, b, shape=5, name="y")
    with pytest.raises(klqp.TargetError, match="gradient nan in coordinate 2 of 'a, b, y'"):
        model_run([a, b, y], {})


def test_parameters_are_inputs(c):
    """Maximum likelihood without any draw: the exact least squares."""
    y = np.array([1.0, 1.4, 2.2, 2.4, 3.1])
    a, b = klqp.Parameter(0.0, name="a"), klqp.Parameter(0.0, name="b")
    inference = model_run([], {klqp.LogDensity(c("line"), a, b, shape=5, name="y"): y}, n_iter=4000)
    slope, intercept = np.polyfit(np.arange(5.0), y, 1)
    assert inference.rejections["first"] is None
    np.testing.assert_allclose([float(a.value), float(b.value)], [intercept, slope], atol=2e-3)


# --- threads ---
LARGE = {"dim": 20_000, "n_iter": 12, "n_samples": 40}  # enough work for threads


def test_a_function_that_is_not_reentrant_is_called_by_one_thread_at_a_time(c, state):
    fit(recorder(c, state), n_threads=4, **LARGE)
    assert (state.most_inside, state.calls, state.most_rows) == (1, 12, 40)


def test_a_reentrant_function_gets_pieces_of_whole_rows(c, state):
    runs = [fit(recorder(c, state), n_threads=1, **LARGE)]
    for n_threads in (1, 2, 3, 8):
        own = State(loc=1.0, at=-1)
        runs.append(fit(recorder(c, own, reentrant=True), n_threads=n_threads, **LARGE))
        assert own.rows == 12 * 40
        assert own.most_rows == 3  # 40 rows in at most 16 pieces
        assert own.most_inside <= n_threads
        assert own.inside == 0
    for run in runs[1:]:
        same_run(runs[0], run)


def test_a_slow_reentrant_function_gets_threads_however_small_its_batch_is(c, state):
    """What it costs is measured. From call 20 on each call returns only when its neighbour is inside."""
    slow = klqp.NativeLogDensity(c("meets"), user_data=ctypes.pointer(state), reentrant=True)
    same_run(fit(slow, n_samples=2, n_threads=2), fit(python_normal, n_samples=2))
    assert (state.calls, state.inside) == (100, 80)


def test_a_run_does_not_hold_the_gil(c, state):
    def raise_flag():
        while not state.inside:
            time.sleep(0.001)
        state.flag = 1

    thread = threading.Thread(target=raise_flag)
    thread.start()
    try:
        same_run(fit(recorder(c, state, "waits")), fit(python_normal))
    finally:
        state.inside = 1
        thread.join()


# --- docs/native.md ---
DOC = Path(__file__).resolve().parents[2] / "docs" / "native.md"
NEEDS = {"C, through ctypes": (), "cffi": ("cffi",), "numba": ("numba",), "Cython": ("Cython", "setuptools")}


def sections():
    text = DOC.read_text(encoding="utf-8") if DOC.exists() else ""
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return {
        title.strip(): re.findall(r"^```(\w+)\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.fixture(scope="module")
def doc_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("doc")


def test_every_section_with_code_is_run():
    if not DOC.exists():
        pytest.skip("docs/native.md is not part of this installation")
    with_code = {title for title, blocks in sections().items() if any(kind == "python" for kind, _ in blocks)}
    assert with_code == set(NEEDS)


def run_section(title, folder):
    env = {**os.environ, "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]}
    for kind, code in sections()[title]:
        if kind in ("c", "cython"):
            name = re.match(r"(?:/\*|#) (\w+\.\w+)", code)[1]
            (folder / name).write_text(code)
            continue
        command = ["sh", "-e", "-c", code] if kind == "sh" else [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("title", NEEDS)
def test_the_examples_of_the_documentation_run(title, doc_folder):
    if not DOC.exists():
        pytest.skip("docs/native.md is not part of this installation")
    for package in NEEDS[title]:
        pytest.importorskip(package)
    if title == "cffi" and not (doc_folder / "regression.so").exists():
        run_section("C, through ctypes", doc_folder)
    run_section(title, doc_folder)
