"""fit_many: Ctrl-C, and forked children."""

import os
import signal
import subprocess
import sys
import time

import pytest

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

COMMON = """
import sys
import warnings

import numpy as np

import klqp

kind, n_threads = sys.argv[1], int(sys.argv[2])
mu = klqp.Normal(0.0, 1.0, shape=200, name="mu")
y = klqp.Normal(mu, 1.0, name="y")
data = np.random.default_rng(1).normal(size=(1000 if kind == "model" else 40, 200))

def log_density(z, problems):
    return -0.5 * (z**2).sum(-1), -z

def fit(n_iter, n_threads=n_threads):
    options = {"n_iter": n_iter, "seed": 1, "n_threads": n_threads}
    if kind == "python":
        return klqp.fit_many(log_density, dim=3, n_problems=40, **options)
    return klqp.fit_many([mu], {y: data}, **options)
"""

INTERRUPTED = """
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background without it
n_iter = {"model": 2000, "long": 500_000, "python": 500_000}[kind]
fit(1)  # imports what the next call shall not have to
print("running", flush=True)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    result = fit(n_iter)
print("stopped", flush=True)
(warning,) = caught
assert warning.category is klqp.InterruptedRunWarning
words = set(result.status)
done = int((result.status == "steps").sum())
assert str(warning.message) == f"interrupted when {done} of {len(result)} problems were done; what is done was kept"
assert words <= {"steps", "interrupted", "not started"} and "interrupted" in words, words
if kind == "model":
    assert 0 < done < 1000, done
not_started = result.status == "not started"
assert not_started.any() == (kind != "python")
assert (result.n_steps[not_started] == 0).all() and np.isnan(result.params[not_started]).all()
assert (result.n_steps[~not_started] > 0).all() and np.isfinite(result.params[~not_started]).all()
for b in np.flatnonzero(result.status == "steps")[:2]:
    again = klqp.fit_many([mu], {y: data[b : b + 1]}, n_iter=n_iter, seeds=[int(result.seeds[b])], n_threads=1)
    assert np.array_equal(again.params[0], result.params[b])
print("same")
"""


@posix_only
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", ["model", "long", "python"])
def test_interrupt_stops_within_a_second_and_keeps_what_is_done(kind, n_threads, tmp_path):
    script = tmp_path / "many.py"
    script.write_text(COMMON + INTERRUPTED)
    command = [sys.executable, str(script), kind, str(n_threads)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, cwd=tmp_path) as process:
        assert process.stdout.readline() == "running\n", process.communicate()[1]
        time.sleep(2.0 if kind == "model" else 0.7)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        stopped = process.stdout.readline()
        seconds = time.monotonic() - start
        # Not communicate(): it would not see what readline() has read ahead.
        out, err = process.stdout.read(), process.stderr.read()
    assert (stopped, out, process.returncode) == ("stopped\n", "same\n", 0), err
    assert seconds < 1.0


FORKED = """
import os

whole = fit(30).params
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, fit(30).params.tobytes())
    os._exit(0)
os.close(writer)
received = b"".join(iter(lambda: os.read(reader, 1 << 16), b""))
assert os.waitpid(child, 0)[1] == 0
assert received == whole.tobytes()
print("same")
"""


@posix_only
def test_a_forked_child_gets_the_same_bits(tmp_path):
    script = tmp_path / "many.py"
    script.write_text(COMMON + FORKED)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script), "model", "2"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert (done.stdout, done.returncode) == ("same\n", 0), done.stderr
