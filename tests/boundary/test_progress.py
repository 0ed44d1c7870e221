"""The progress bar: when there is one, what it shows, and how often it is drawn."""

import io
import os
import re
import struct
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tqdm.auto
import tqdm.std

import klqp


def normal(z):
    return -0.5 * (z**2).sum(1), -z


class Stream(io.StringIO):
    """A standard error for tqdm, a terminal or not."""

    def __init__(self, monkeypatch, terminal):
        super().__init__()
        self._terminal = terminal
        # pytest puts its own sys.stderr back between the fixtures and the test.
        seen = {**vars(sys), "stderr": self}
        monkeypatch.setattr(tqdm.std, "sys", types.SimpleNamespace(**seen))

    def isatty(self):
        return self._terminal

    def clear(self):
        self.seek(0)
        self.truncate()


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def stream(request, monkeypatch):
    return Stream(monkeypatch, terminal=request.param)


@pytest.fixture
def terminal(monkeypatch):
    return Stream(monkeypatch, terminal=True)


@pytest.fixture(autouse=True)
def _no_bar_is_left_open():
    yield
    assert not tqdm.std.tqdm._instances


def fit(fn=normal, **options):
    return klqp.fit(fn, 2, **{"n_iter": 103, "n_samples": 2, "seed": 1, **options})


def drawn(stream):
    """Return the successive texts of the bar."""
    return [text for text in re.split(r"[\r\n]", stream.getvalue()) if text.strip()]


def check_last(stream, inference, n_steps=103, total=103):
    """Check that the last line is complete and ended."""
    assert stream.getvalue().endswith("\n")
    last = drawn(stream)[-1]
    assert f"{100 * n_steps / total:3.0f}%" in last
    assert f" {n_steps}/{total} " in last
    assert f"loss {inference.losses[-1]:.5g}" in last
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d,.*step/s", last)


# --- when there is one ---
def test_there_is_a_bar_on_terminals_only(stream):
    inference = fit()
    if stream.isatty():
        check_last(stream, inference)
    else:
        assert stream.getvalue() == ""


def test_progress_true_shows_it_everywhere(stream):
    check_last(stream, fit(progress=True))


@pytest.mark.parametrize("options", [{"progress": False}, {"n_print": 0}, {"n_print": 0, "progress": True}])
def test_it_can_be_turned_off(stream, options):
    inference = fit(**options)
    for _ in range(3):
        inference.print_progress(inference.update())
    inference.finalize()
    assert stream.getvalue() == ""


def test_a_run_of_one_step_is_complete(terminal):
    check_last(terminal, fit(n_iter=1), 1, 1)


@pytest.mark.parametrize("n_print", [None, 1, 10, 103, 104, 10**9])
def test_the_last_line_is_complete_for_any_n_print(terminal, n_print):
    check_last(terminal, fit(n_print=n_print))


# --- what it shows ---
def test_each_run_has_its_own_bar(terminal):
    inference = fit(n_iter=7)
    check_last(terminal, inference, 7, 7)
    terminal.clear()
    inference.run(n_iter=5, n_samples=2)
    check_last(terminal, inference, 5, 5)
    assert len(inference.losses) == 12


def test_a_stop_rule_leaves_the_bar_where_the_run_stopped(terminal):
    inference = fit(stop=klqp.Steps(50))
    check_last(terminal, inference, 50)


def test_rejected_draws_are_shown_in_words(terminal):
    def density(z):
        density.calls += 1
        logp, grad = normal(z)
        return (np.full_like(logp, np.nan), grad) if density.calls == 103 else (logp, grad)

    density.calls = 0
    inference = fit(density)
    assert np.isnan(inference.losses[-1])
    assert "draws rejected" in drawn(terminal)[-1]
    assert " 103/103 " in drawn(terminal)[-1]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_the_bar_is_closed_after_an_exception_and_opened_again(terminal, error):
    def density(z):
        density.calls += 1
        if density.calls == 60:
            raise error
        return normal(z)

    density.calls = 0
    inference = klqp.KLqp([klqp.LogDensity(density, shape=2)])
    inference.initialize(n_iter=103, n_samples=2, seed=1)
    caught = pytest.warns(klqp.InterruptedRunWarning) if error is KeyboardInterrupt else pytest.raises(error)
    with caught:
        inference.resume()
    check_last(terminal, inference, 59)
    terminal.clear()
    inference.resume()
    check_last(terminal, inference)


def test_a_start_that_is_not_finite_shows_no_loss(terminal):
    with pytest.raises(klqp.TargetError):
        fit(lambda z: (np.full(len(z), -np.inf), z))
    assert "loss" not in terminal.getvalue()


def test_steps_by_hand(terminal):
    inference = klqp.KLqp([klqp.LogDensity(normal, shape=2)])
    inference.initialize(n_iter=103, n_print=10, n_samples=2, seed=1)
    for _ in range(103):
        info = inference.update()
        before = dict(info)
        inference.print_progress(info)
        assert info == before
    inference.finalize()
    check_last(terminal, inference)
    text = terminal.getvalue()
    inference.finalize()  # again does nothing
    assert terminal.getvalue() == text
    terminal.clear()
    inference.initialize(n_iter=4, n_samples=2, seed=1)
    for _ in range(4):
        inference.print_progress(inference.update())
    inference.finalize()
    check_last(terminal, inference, 4, 4)


def test_steps_by_hand_without_a_bar(stream):
    inference = klqp.KLqp([klqp.LogDensity(normal, shape=2)])
    inference.initialize(n_iter=3, progress=False, seed=1)
    for _ in range(3):
        inference.print_progress(inference.update())
    inference.finalize()
    assert stream.getvalue() == ""


# --- notebooks ---
@pytest.fixture
def notebook(monkeypatch):
    """Return the bars of a pretended Jupyter kernel, where tqdm.auto's class derives from the notebook's."""

    class Base(tqdm.std.tqdm):
        __module__ = "tqdm.notebook"
        bars = ()

        def __init__(self, *args, **kwargs):
            super().__init__(*args, file=io.StringIO(), **kwargs)
            Base.bars = (*Base.bars, self)

    class Auto(Base):
        __module__ = "tqdm.auto"

    monkeypatch.setattr(tqdm.auto, "tqdm", Auto)
    return Base


@pytest.mark.parametrize(("progress", "shown"), [(None, True), (True, True), (False, False)])
def test_notebooks_show_their_own_bar(notebook, stream, progress, shown):
    inference = fit(progress=progress)
    assert stream.getvalue() == ""
    assert len(notebook.bars) == shown
    for bar in notebook.bars:
        assert (bar.n, bar.total, bar.disable) == (103, 103, True)  # closed
        assert f"loss {inference.losses[-1]:.5g}" in bar.postfix


def test_outside_notebooks_the_bar_is_the_terminals(terminal, monkeypatch):
    class Auto(tqdm.std.tqdm):
        def __init__(self, *args, **kwargs):
            raise AssertionError("not in a notebook")

    monkeypatch.setattr(tqdm.auto, "tqdm", Auto)
    check_last(terminal, fit())


# --- how often ---
def test_fast_steps_are_drawn_ten_times_a_second_at_the_most(terminal):
    start = time.monotonic()
    inference = fit(n_iter=30_000, n_print=1)
    seconds = time.monotonic() - start
    check_last(terminal, inference, 30_000, 30_000)
    assert len(drawn(terminal)) <= 10 * seconds + 4  # one at the start, up to three at the end


def test_slow_steps_are_drawn_every_n_print(terminal):
    def density(z):
        time.sleep(0.02)
        return normal(z)

    check_last(terminal, fit(density, n_iter=30, n_print=10), 30, 30)
    few = len(drawn(terminal))
    assert few <= 3 + 4
    terminal.clear()
    fit(density, n_iter=30, n_print=1)
    assert len(drawn(terminal)) > few


def test_the_bar_costs_nothing_that_changes_the_run(terminal):
    np.testing.assert_array_equal(fit(progress=True).losses, fit(progress=False).losses)


# --- a real terminal ---
CHILD = """
import time
import klqp

def density(z):
    time.sleep(0.01)
    return -0.5 * (z**2).sum(1), -z

klqp.fit(density, 2, n_iter=47, n_samples=2, seed=1, n_print=10{})
print("done")
"""


def run_under_pty(options=""):
    pty, fcntl, termios = map(pytest.importorskip, ("pty", "fcntl", "termios"))
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CHILD.format(options)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        cwd=os.path.dirname(sys.executable),
        text=True,
    )
    os.close(terminal)
    chunks = []
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(controller)
    with child:
        assert child.stdout.read() == "done\n"
    assert child.returncode == 0
    return b"".join(chunks).decode()


def test_under_a_pseudo_terminal():
    lines = [line for line in re.split(r"[\r\n]+", run_under_pty()) if line.strip()]
    under_way = [line for line in lines if re.search(r" ([1-9]|[123]\d|4[0-6])/47 ", line)]
    assert under_way
    for line in under_way:
        assert re.search(r"\[\d\d:\d\d<\d\d:\d\d, .*(step/s|s/step), loss -?\d", line), line
    assert "100%" in lines[-1]
    assert " 47/47 " in lines[-1]


def test_under_a_pseudo_terminal_without_a_bar():
    assert run_under_pty(", progress=False") == ""
