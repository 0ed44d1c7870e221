"""Processes and threads: Ctrl-C, fork, many fits at once, pickling, instruction sets, memory, and what import loads."""

import copy
import gc
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import klqp
from klqp import _threads

posix_only = pytest.mark.skipif(os.name != "posix", reason="signals and fork are tested on POSIX systems")

# A Normal around 1; when told so, it says that it runs and is slow.
C_SOURCE = """
#include <stdint.h>
#include <time.h>
#include <unistd.h>

typedef struct { int64_t calls, slow, say_at; } state;

int normal(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad, void* user_data) {
  state* s = (state*)user_data;
  if (s) {
    struct timespec pause = {0, 100000};
    if (s->slow) nanosleep(&pause, 0);
    if (++s->calls == s->say_at && write(1, "running\\n", 8) != 8) return -1;
  }
  for (int64_t i = 0; i < n; ++i) {
    logp[i] = 0.0;
    for (int64_t j = 0; j < d; ++j) {
      const double r = z[i * d + j] - 1.0;
      logp[i] -= 0.5 * r * r;
      if (order) grad[i * d + j] = -r;
    }
  }
  return 0;
}
"""

# What the children and this module share; written to a module that can be imported.
SHARED = '''
import ctypes
import sys

import numpy as np

import klqp


class State(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("calls", "slow", "say_at")]


def load(path):
    """Return the C function."""
    library = ctypes.CDLL(path)
    doubles, integer = ctypes.POINTER(ctypes.c_double), ctypes.c_int64
    library.normal.argtypes = [integer, integer, integer, doubles, doubles, doubles, ctypes.c_void_p]
    return library.normal


def normal(z):
    r = z - 1.0
    return -0.5 * (r * r).sum(1), -r


def bits(inference):
    """Return everything that a run computed, as text."""
    posterior = inference.posterior["z"]
    arrays = [inference.losses, posterior.mean(), posterior.stddev()]
    return b"".join(a.tobytes() for a in arrays).hex()
'''
_names: dict = {}
exec(SHARED, _names)
normal, bits = _names["normal"], _names["bits"]

SMALL = {"dim": 3, "n_iter": 2000, "n_samples": 4}
LARGE = {"dim": 20_000, "n_iter": 12, "n_samples": 8, "n_threads": 2}  # enough work for threads


def fit(fn, dim, **options):
    return klqp.fit(fn, dim, **{"seed": 5, "progress": False, **options})


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Return the path of the compiled C function."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("native")
    (folder / "normal.c").write_text(C_SOURCE)
    path = folder / "normal.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", folder / "normal.c", "-o", path], check=True)
    return str(path)


@pytest.fixture
def child(tmp_path):
    """Return a function that starts a child process with the shared module at hand."""
    (tmp_path / "shared.py").write_text(SHARED)
    started = []

    def start(code, *args, env=None):
        (tmp_path / "script.py").write_text(code)
        command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "script.py", *args]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def output_of(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def run_child(child, code, *args, **options):
    return output_of(child(code, *args, **options))


# --- Ctrl-C ---
INTERRUPTED = """
import signal, time, warnings
from shared import *

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background without it

kind, path = sys.argv[1:]
options = dict(n_iter=20_000, n_samples=4, seed=5, progress=False)
dim, slow = 3, True
if kind == "native":
    state = State(0, 1, 50)
    fn = klqp.NativeLogDensity(load(path), ctypes.addressof(state))
else:
    calls = 0
    if kind == "large":
        dim, options = 20_000, {**options, "n_iter": 60, "n_threads": 2}

    def fn(z):
        global calls
        calls += 1
        if slow:
            time.sleep(1e-4 if dim == 3 else 0.1)
        if slow and calls == 5:
            print("running", flush=True)
        return normal(z)

inference = klqp.KLqp([klqp.LogDensity(fn, shape=dim)])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    inference.run(**options)
print("stopped", flush=True)

(warning,) = caught
done = len(inference.losses)
assert warning.category is klqp.InterruptedRunWarning
assert warning.filename == __file__, warning.filename
assert str(warning.message) == f"interrupted after {done} of {options['n_iter']} steps; the state was kept"
assert inference.stop_reason == "interrupted"
assert 0 < done < options["n_iter"]
assert np.isfinite(inference.losses).all()
assert np.isfinite(inference.posterior["z"].mean()).all()
assert inference.posterior["z"].sample(3).shape == (3, dim)

slow = False
if kind == "native":
    state.slow = 0
assert np.isfinite(inference.posterior.elbo(10).value)
inference.resume()
assert inference.stop_reason == "steps"
whole = klqp.fit(fn, dim, **options)
assert bits(inference) == bits(whole)
print("same")
"""


@posix_only
@pytest.mark.parametrize("kind", ["python", "large", "native"])
def test_interrupt_stops_within_a_second_keeps_the_state_and_resumes_with_the_same_bits(kind, child, request):
    path = request.getfixturevalue("library") if kind == "native" else ""
    process = child(INTERRUPTED, kind, path)
    assert process.stdout.readline() == "running\n", process.communicate()[1]
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    stopped = process.stdout.readline()
    seconds = time.monotonic() - start
    out, err = process.communicate(timeout=60)
    assert (stopped, out, process.returncode) == ("stopped\n", "same\n", 0), err
    assert seconds < 1.0


HANDLED = """
import signal
from shared import *

state = State(0, 1, 50)
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(len(inference.losses)))
inference = klqp.KLqp([klqp.LogDensity(klqp.NativeLogDensity(load(sys.argv[1]), ctypes.addressof(state)), shape=3)])
inference.run(n_iter=5000, n_samples=4, seed=5, progress=False)
assert inference.stop_reason == "steps"
assert len(seen) == 1 and 0 < seen[0] < 5000, seen
"""


@posix_only
def test_other_signals_are_handled_during_a_native_run(child, library):
    process = child(HANDLED, library)
    assert process.stdout.readline() == "running\n", process.communicate()[1]
    process.send_signal(signal.SIGUSR1)
    output_of(process)


# --- fork ---
FORK = """
import os
from shared import *

large = dict(n_iter=12, n_samples=8, n_threads=2, seed=5, progress=False)
expected = [bits(klqp.fit(normal, 20_000, **large)), bits(klqp.fit(normal, 3, seed=1, n_iter=50))]


def work(_=None):
    return [bits(klqp.fit(normal, 20_000, **large)), bits(klqp.fit(normal, 3, seed=1, n_iter=50))]
"""
OS_FORK = """
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if work() == expected else 7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert work() == expected
"""
FORK_DURING_A_RUN = """
import threading

inside, go_on = threading.Event(), threading.Event()


def density(z):
    inside.set()
    go_on.wait()
    return normal(z)


results = []
thread = threading.Thread(target=lambda: results.append(bits(klqp.fit(density, 20_000, **large))))
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    os._exit(0 if work() == expected else 7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
go_on.set()
thread.join()
assert results == expected[:1]
"""
POOL = """
import multiprocessing

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(work, range(3), chunksize=1) == [expected] * 3
"""
CONTINUE_IN_CHILD = """
inference = klqp.KLqp([klqp.LogDensity(normal, shape=20_000)])
inference.initialize(**large)
for _ in range(5):
    inference.update()
child = os.fork()
inference.resume()
if child == 0:
    os._exit(0 if bits(inference) == expected[0] else 7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert bits(inference) == expected[0]
"""


@posix_only
@pytest.mark.parametrize(
    "code",
    [OS_FORK, FORK_DURING_A_RUN, POOL, CONTINUE_IN_CHILD],
    ids=["os.fork", "during a run", "pool", "a run continued"],
)
def test_a_forked_child_works_and_gives_the_same_bits(code, child):
    run_child(child, FORK + code)


# --- a run in a daemon thread when the interpreter exits ---
AT_EXIT = """
import threading
import time

from shared import *

kind, path = sys.argv[1:]
inside = threading.Event()
state = State(0, 1, 50)


def density(z):
    inside.set()
    time.sleep(1e-4)
    return normal(z)


class Last:
    # At the end of the interpreter this gives the GIL away for a while: the run asks for it then.
    def __del__(self, sleep=time.sleep):
        sleep(0.4)


def work():
    if kind == "native":
        klqp.fit(klqp.NativeLogDensity(load(path), ctypes.addressof(state)), 3, n_iter=10**7, progress=False)
    elif kind == "model":
        z = klqp.LogDensity(density, shape=2, name="z")
        y = klqp.Normal(z, 1.0)
        klqp.KLqp([z], data={y: np.ones(2)}).run(n_iter=10**7, progress=False)
    else:
        klqp.fit(density, 3 if kind == "python" else 20_000, n_iter=10**7, n_threads=2, progress=False)


last = Last()
threading.Thread(target=work, daemon=True).start()
while not (state.calls > 50 or inside.is_set()):
    time.sleep(0.01)
print("leaving", flush=True)
"""


@pytest.mark.parametrize("kind", ["native", "python", "large", "model"])
def test_the_interpreter_exits_while_a_daemon_thread_is_in_a_run(kind, child, library):
    process = child(AT_EXIT, kind, library)
    out, err = process.communicate(timeout=60)
    assert (out.removeprefix("running\n"), err, process.returncode) == ("leaving\n", "", 0)


# --- many fits at once ---
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", ["python", "native", "reentrant"])
def test_eight_threads_give_the_same_bits_as_one_after_the_other(kind, size, request):
    if kind == "python":
        fn = normal
    else:
        function = _names["load"](request.getfixturevalue("library"))
        fn = klqp.NativeLogDensity(function, reentrant=kind == "reentrant")
    serial = [bits(fit(fn, **size, seed=seed)) for seed in range(8)]
    results, barrier = [None] * 8, threading.Barrier(8)

    def work(seed):
        barrier.wait()
        results[seed] = bits(fit(fn, **size, seed=seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == serial
    assert len(set(serial)) == 8


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted on Linux")
def test_helpers_stay_for_the_next_run_and_hear_no_signals(child):
    code = """
import os, signal
from shared import *

before = set(os.listdir("/proc/self/task"))
for n_threads in (1, 3, 3, 2, 3):
    klqp.fit(normal, 20_000, n_iter=12, n_samples=8, n_threads=n_threads, seed=5, progress=False)
helpers = set(os.listdir("/proc/self/task")) - before
assert len(helpers) == 2, helpers
for helper in helpers:
    with open(f"/proc/self/task/{helper}/status") as file:
        blocked = next(int(line.split()[1], 16) for line in file if line.startswith("SigBlk"))
    assert blocked >> (signal.SIGINT - 1) & 1
    assert not blocked >> (signal.SIGSEGV - 1) & 1
"""
    run_child(child, code, env={"OPENBLAS_NUM_THREADS": "1"})


# --- pickling ---
def test_a_pickled_run_goes_on_in_another_process(child, tmp_path):
    save = """
import pickle
from shared import *

inference = klqp.KLqp([klqp.LogDensity(normal, shape=3, name="height")], q="full_rank")
inference.initialize(n_iter=50, n_samples=4, seed=5)
for _ in range(20):
    inference.update()
with open("state.pickle", "wb") as file:
    pickle.dump([inference, inference.posterior], file)
"""
    load = """
import pickle
from shared import *

with open("state.pickle", "rb") as file:
    inference, posterior = pickle.load(file)
whole = klqp.KLqp([klqp.LogDensity(normal, shape=3)], q="full_rank")
whole.initialize(n_iter=50, n_samples=4, seed=5)
for _ in range(20):
    whole.update()
assert posterior["height"].mean().tobytes() == whole.posterior["z"].mean().tobytes()
assert posterior["height"].sample(5, seed=2).tobytes() == whole.posterior["z"].sample(5, seed=2).tobytes()
assert posterior.elbo(9, seed=3) == whole.posterior.elbo(9, seed=3)
assert inference.losses.tobytes() == whole.losses.tobytes()
assert inference.estimator.replace("height", "z") == whole.estimator
inference.resume()
whole.resume()
assert inference.losses.tobytes() == whole.losses.tobytes()
inference.run(n_iter=10, n_samples=4, seed=6)
whole.run(n_iter=10, n_samples=4, seed=6)
assert inference.losses.tobytes() == whole.losses.tobytes()
assert len(whole.losses) == 60
"""
    run_child(child, save)
    run_child(child, load)


def again(value):
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("kind", ["lambda", "native"])
def test_a_log_density_that_cannot_be_pickled_is_lost_with_a_clear_error(kind, request):
    native = _names["load"](request.getfixturevalue("library")) if kind == "native" else None
    inference = fit(native or (lambda z: normal(z)), 3, n_iter=20)
    posterior, other = again(inference.posterior), again(inference)
    for copied in (posterior, other.posterior):
        np.testing.assert_array_equal(copied["z"].mean(), inference.posterior["z"].mean())
        np.testing.assert_array_equal(copied.sample(3, seed=1)["z"], inference.posterior.sample(3, seed=1)["z"])
        np.testing.assert_array_equal(copied.log_prob(np.ones((2, 3))), inference.posterior.log_prob(np.ones((2, 3))))
        with pytest.raises(ValueError, match=r"log density could not be pickled.*lambda"):
            copied.elbo(10)
    assert bits(other) == bits(inference)
    for go_on in (other.update, lambda: other.run(n_iter=5), lambda: other.run(n_iter=5, restart=True)):
        with pytest.raises(ValueError, match=r"log density could not be pickled.*lambda"):
            go_on()
    assert np.isfinite(inference.posterior.elbo(10).value)  # the original keeps it


def test_an_inference_is_pickled_at_every_stage():
    z = klqp.LogDensity(np.sum, shape=2)
    assert again(klqp.KLqp([z])).stop_reason is None
    with pytest.raises(RuntimeError, match="no run yet"):
        _ = again(klqp.KLqp([z])).losses
    interrupted = again(fit(lambda z: normal(z), 2, n_iter=7, stop=klqp.Steps(3)))
    assert interrupted.stop_reason == "steps"
    assert len(interrupted.losses) == 3
    assert list(interrupted.posterior) == ["z"]


def test_copies_go_their_own_way_and_keep_the_log_density():
    z = klqp.LogDensity(lambda z: normal(z), shape=3)
    inference = klqp.KLqp([z])
    inference.initialize(n_iter=40, n_samples=4, seed=5)
    for _ in range(10):
        inference.update()
    copies = [copy.deepcopy(inference), copy.copy(inference)]
    for other in copies:
        assert other.posterior[z].mean().shape == (3,)  # by the variable itself
        other.resume()
    assert len(inference.losses) == 10
    inference.resume()
    assert {bits(other) for other in copies} == {bits(inference)}
    posterior = copy.deepcopy(inference.posterior)
    assert posterior.elbo(10, seed=1) == inference.posterior.elbo(10, seed=1)


# --- instruction sets ---
ISA = """
import json
from shared import *

out = {"active": klqp._core.kernels.active(), "tables": klqp._core.kernels.tables()}
for q in ("mean_field", "full_rank", "low_rank"):
    for gradient in ("reparameterised", "score"):
        run = klqp.fit(normal, 13, q=q, gradient=gradient, n_iter=60, n_samples=6, seed=5, progress=False)
        out[f"{q} {gradient}"] = [run.losses.tolist(), run.posterior["z"].stddev().tolist()]
print(json.dumps(out))
"""


def test_instruction_sets_agree_to_rounding(child):
    def run(isa):
        env = {"KLQP_ISA": isa} if isa else {}
        return json.loads(run_child(child, ISA, env=env))

    default = run("")
    tables = default.pop("tables")
    assert default.pop("active") == tables[-1]
    for isa in ("base", "v3"):
        other = run(isa)
        assert other.pop("tables") == tables
        assert other.pop("active") == (isa if isa in tables else tables[-1])
        assert other.keys() == default.keys()
        for name in default:
            for ours, theirs in zip(default[name], other[name], strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=f"{isa}: {name}")


# --- threads to use ---
@pytest.mark.parametrize(
    ("value", "expected"), [("1", 1), ("1,4", 1), ("0", 1), ("-3", 1), ("many", None), ("", None), ("100000", None)]
)
def test_omp_num_threads_is_respected(monkeypatch, value, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    free = klqp.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert klqp.get_num_threads() == (expected if expected is not None else free)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is tested on Linux")
def test_affinity_is_respected(child):
    code = """
import os
import klqp
assert klqp.get_num_threads() <= len(os.sched_getaffinity(0))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
assert klqp.get_num_threads() == 1
klqp.set_num_threads(3)
assert klqp.get_num_threads() == 3
"""
    run_child(child, code, env={"OMP_NUM_THREADS": "64"})


def test_limits_by_threadpoolctl_are_respected():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    free = klqp.get_num_threads()
    with threadpoolctl.threadpool_limits(1):
        assert klqp.get_num_threads() == 1
    assert klqp.get_num_threads() == free
    libraries = {info["user_api"] for info in threadpoolctl.threadpool_info()}
    if "openmp" in libraries:
        with threadpoolctl.threadpool_limits(1, user_api="openmp"):
            assert klqp.get_num_threads() == 1


V2_NESTED = {"cgroup": "0::/a/b.slice/c\n", "a/cpu.max": "max 100000", "a/b.slice/cpu.max": "250000 100000"}
V2_CONTAINER = {"cgroup": "0::/\n", "cpu.max": "400000 100000"}
V1 = {
    "cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/1\n0::/\n",
    "cpu,cpuacct/cpu.cfs_quota_us": "-1",
    "cpu,cpuacct/cpu.cfs_period_us": "100000",
    "cpu,cpuacct/docker/1/cpu.cfs_quota_us": "150000",
    "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000",
}
V1_CONTAINER = {
    "cgroup": "3:cpuacct,cpu:/docker/1\n",
    "cpu/cpu.cfs_quota_us": "50000",
    "cpu/cpu.cfs_period_us": "100000",
}
NO_LIMIT = {"cgroup": "0::/a\n", "a/cpu.max": "max 100000", "cpu.max": "broken"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (V2_NESTED, [2.5]),
        (V2_NESTED | {"a/cpu.max": "120000 100000"}, [2.5, 1.2]),
        (V2_CONTAINER, [4.0]),
        (V1, [1.5]),
        (V1_CONTAINER, [0.5]),
        (NO_LIMIT, []),
        ({}, []),
    ],
)
def test_quotas_of_control_groups(files, expected, tmp_path):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert list(_threads._quotas(str(tmp_path / "cgroup"), str(tmp_path))) == expected


@pytest.mark.parametrize(("cpus", "expected"), [(0.5, 1), (1.0, 1), (1.2, 2), (float("inf"), None)])
def test_quotas_are_rounded_up(cpus, expected, monkeypatch):
    monkeypatch.setattr(_threads, "_quota", (time.monotonic(), cpus))
    assert _threads._quota_cpus() == (expected or _threads._affinity())


# --- memory ---
MEMORY = """
import gc
from shared import *


def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


kind, path = sys.argv[1:]
fn, n = (load(path), 200_000) if kind == "native" else (normal, 20_000)
inference = klqp.KLqp([klqp.LogDensity(fn, shape=3)])
inference.initialize(n_iter=n, n_samples=2, seed=5, progress=False)
for _ in range(1000):
    inference.update()
before = resident()
inference.resume()
assert inference.stop_reason == "steps"
print(resident() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is measured on Linux")
@pytest.mark.parametrize(("kind", "n_steps"), [("native", 200_000), ("python", 20_000)])
def test_memory_grows_by_the_traces_alone(kind, n_steps, child, request):
    path = request.getfixturevalue("library") if kind == "native" else ""
    megabytes = float(run_child(child, MEMORY, kind, path))
    traces = 7 * 8 * n_steps / 2**20
    assert megabytes < 1.5 * traces + 3  # vectors grow by doubling


REGRESSION = """
import sys, tracemalloc
import numpy as np
import klqp


def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024


N, D = 200_000, 50
layout, source = sys.argv[1:]
rng = np.random.default_rng(0)


def regress(X, y):
    w, b = klqp.Normal(0.0, 1.0, shape=D, name="w"), klqp.Normal(0.0, 1.0, name="b")
    inference = klqp.KLqp([w, b], data={klqp.Bernoulli(logits=X @ w + b): y})
    inference.run(n_iter=3, n_samples=8, seed=1, progress=False)
    assert "fused" in inference.estimator


y = rng.random(N) < 0.5
regress(rng.normal(size=(500, D)), y[:500])  # the libraries' own memory
if layout == "mapped":
    X = np.memmap(source, np.float32, "r", shape=(N, D))
else:
    X = np.empty((N, D), {"float32": np.float32}.get(layout, np.float64), order="F" if layout == "columns" else "C")
    for begin in range(0, N, 1000):
        X[begin : begin + 1000] = rng.normal(size=(1000, D))
before = peak()
tracemalloc.start()
regress(X, y)
print(max(tracemalloc.get_traced_memory()[1], 0 if layout == "mapped" else peak() - before) / X.nbytes)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is measured on Linux")
@pytest.mark.parametrize("layout", ["rows", "columns", "float32", "mapped"])
def test_a_regression_takes_a_fifth_of_its_data_beside_them(layout, child, tmp_path):
    path = tmp_path / "X"
    if layout == "mapped":
        np.zeros((200_000, 50), np.float32).tofile(path)
    assert float(run_child(child, REGRESSION, layout, str(path))) < 0.2


def test_runs_are_freed(library):
    function, calls = _names["load"](library), []

    class Density:
        def __call__(self, z):
            calls.append(1)
            return normal(z)

    for make in (Density, lambda: klqp.NativeLogDensity(function)):
        fn = make()
        inference = fit(fn, 3, n_iter=5)
        alive = weakref.ref(fn)
        posterior = inference.posterior
        del inference, fn
        gc.collect()
        assert alive() is not None  # the posterior has it for elbo
        assert np.isfinite(posterior.elbo(3).value)
        del posterior
        gc.collect()
        assert alive() is None
    assert calls


# --- import ---
def test_import_is_quiet_and_light(child):
    code = """
import sys
import klqp
heavy = {"scipy", "tqdm", "pandas", "matplotlib", "cffi", "numba", "IPython", "jax", "torch", "sklearn"}
assert not heavy & {name.split(".")[0] for name in sys.modules}, heavy & set(sys.modules)
klqp.fit(lambda z: (-0.5 * (z**2).sum(1), -z), 2, n_iter=5, progress=False)
assert not heavy & {name.split(".")[0] for name in sys.modules}, heavy & set(sys.modules)
assert "klqp.testing" in sys.modules
"""
    assert run_child(child, code) == ""


def test_import_does_not_touch_signals_threads_or_numpy_settings(child):
    code = """
import ctypes, os, signal, sys, threading, warnings
import numpy as np
handlers = {s: signal.getsignal(s) for s in signal.valid_signals()}
errors, state, filters = np.geterr(), np.random.get_state()[1].tobytes(), list(warnings.filters)
n_tasks = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else None
tiny = 5e-324
import klqp
assert handlers == {s: signal.getsignal(s) for s in signal.valid_signals()}
assert (errors, state, filters) == (np.geterr(), np.random.get_state()[1].tobytes(), list(warnings.filters))
assert threading.active_count() == 1
if n_tasks is not None:
    assert len(os.listdir("/proc/self/task")) == n_tasks
assert tiny * 1.0 != 0.0 and np.array([tiny])[0] * np.float64(1.0) != 0.0  # no flush to zero
"""
    run_child(child, code)
