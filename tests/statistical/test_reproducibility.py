"""The same bits over threads, interruptions and restarts; stop rules; rejected draws."""

import ctypes
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import klqp
from klqp import _core, optimizers

State = dict[str, Any]


def curved(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a log density that is not Normal, elementwise: the same bits on any number of threads."""
    return (-0.5 * z**2 + np.sin(z) - 0.05 * z**4).sum(1), -z + np.cos(z) - 0.2 * z**3


def values_of_curved(z: np.ndarray) -> np.ndarray:
    return curved(z)[0]


def inference_of(fn: Callable | Any, dim: int, q: str = "mean_field", rank: int | None = None):
    return klqp.KLqp([klqp.LogDensity(fn, shape=dim)], q=q, rank=rank)


def assert_same_state(one: State, other: State) -> None:
    """Check that everything two runs remember has the same bits."""
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


# --- threads ---------------------------------------------------------------------------------------

# (family, rank, D): large enough that a step is shared out and helpers are started, see below.
LARGE = {"mean_field": (None, 2000), "full_rank": (None, 150), "low_rank": (5, 1000)}
N_STEPS, N_SAMPLES = 64, 16


def n_tasks() -> int:
    """Return the number of threads of this process."""
    return len(os.listdir("/proc/self/task"))


def work_per_step(q: str) -> int:
    rank, dim = LARGE[q]
    spec = _core.FamilySpec(q, dim, rank=rank or 0)
    return N_SAMPLES * (spec.noise_dim + spec.dim + spec.n_params)


def print_tasks(q: str) -> None:
    """Print the numbers of threads that the process has in runs with one thread and with three."""
    rank, dim = LARGE[q]
    for n_threads in (1, 3):
        counts = []

        def counting(z, counts=counts):
            counts.append(n_tasks())
            return curved(z)

        inference = inference_of(counting, dim, q, rank)
        inference.run(n_iter=N_STEPS, n_samples=N_SAMPLES, seed=1, n_threads=n_threads)
        print(counts[-1])


@pytest.mark.parametrize("q", LARGE)
def test_these_runs_use_threads(q):
    """Above the sizes that csrc/core/run.cpp asks for; seen where the system tells, in a process of its own.

    Helpers stay for later runs, so that only the first run that needs them shows.
    """
    assert work_per_step(q) >= 2**16
    assert work_per_step(q) * N_STEPS >= 2**18
    if not os.path.isdir("/proc/self/task"):
        return
    folder, name = os.path.split(os.path.splitext(os.path.abspath(__file__))[0])
    code = f"import sys; sys.path.append({folder!r}); import {name} as these; these.print_tasks({q!r})"
    child = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    alone, three = map(int, child.stdout.split())
    assert three == alone + 2


@pytest.mark.parametrize("q", LARGE)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"entropy": "sticking", "draws": "antithetic"},
        {"entropy": "closed_form", "draws": "sobol", "optimizer": "momentum"},
        {"gradient": "score", "optimizer": "rmsprop"},
    ],
    ids=lambda o: "-".join(map(str, o.values())) or "default",
)
def test_same_bits_on_any_number_of_threads(q, options):
    rank, dim = LARGE[q]
    states = {}
    for n_threads in (1, 2, 3, 8):
        inference = inference_of(curved, dim, q, rank)
        inference.run(n_iter=N_STEPS, n_samples=N_SAMPLES, seed=5, n_threads=n_threads, **options)
        states[n_threads] = inference.snapshot()
    assert np.all(np.isfinite(states[1]["trace/loss"]))
    for n_threads in (2, 3, 8):
        assert_same_state(states[1], states[n_threads])


@pytest.mark.parametrize("q", ["mean_field", "low_rank"])
def test_same_bits_with_optimal_baselines(q):
    """Fewer draws: every draw has a score of its own."""
    rank, dim = LARGE[q]
    states = []
    for n_threads in (1, 3):
        inference = inference_of(values_of_curved, dim, q, rank)
        inference.run(n_iter=80, n_samples=8, seed=5, n_threads=n_threads, baseline="optimal")
        states.append(inference.snapshot())
    assert_same_state(*states)


NATIVE = """
#include <math.h>
#include <stdint.h>

int log_density(int64_t n, int64_t d, int64_t order, const double* z, double* logp, double* grad, void* user_data) {
  (void)user_data;
  for (int64_t s = 0; s < n; ++s) {
    double total = 0.0;
    for (int64_t i = 0; i < d; ++i) {
      const double x = z[s * d + i];
      total += -0.5 * x * x + sin(x) - 0.05 * x * x * x * x;
      if (order) grad[s * d + i] = -x + cos(x) - 0.2 * x * x * x;
    }
    logp[s] = total;
  }
  return 0;
}
"""


@pytest.fixture(scope="module")
def native(tmp_path_factory) -> Any:
    """Return `curved` as a C function."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    folder: Path = tmp_path_factory.mktemp("native")
    (folder / "target.c").write_text(NATIVE)
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", "target.so", "target.c", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    function = ctypes.CDLL(str(folder / "target.so")).log_density
    pointer = ctypes.POINTER(ctypes.c_double)
    function.argtypes = [ctypes.c_int64] * 3 + [pointer] * 3 + [ctypes.c_void_p]
    function.restype = ctypes.c_int
    return function


@pytest.mark.parametrize("q", LARGE)
@pytest.mark.parametrize("n_samples", [16, 50])
def test_same_bits_with_a_native_target(native, q, n_samples):
    """Reentrant or called from one thread at a time; 50 draws make four pieces."""
    rank, dim = LARGE[q]
    states = []
    for n_threads in (1, 2, 3, 8):
        for reentrant in (False, True):
            target = klqp.NativeLogDensity(native, reentrant=reentrant)
            inference = inference_of(target, dim, q, rank)
            inference.run(n_iter=N_STEPS, n_samples=n_samples, seed=5, n_threads=n_threads)
            states.append(inference.snapshot())
    for state in states[1:]:
        assert_same_state(states[0], state)


def test_native_and_python_targets_agree(native):
    """Up to the rounding of two mathematics libraries."""
    runs = [inference_of(fn, 5) for fn in (native, curved)]
    for run in runs:
        run.run(n_iter=200, seed=3)
    np.testing.assert_allclose(runs[0].losses, runs[1].losses, rtol=1e-9)


# --- seeds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", ["mean_field", "full_rank", "low_rank"])
def test_seeds(q):
    def state(seed):
        inference = inference_of(curved, 4, q)
        inference.run(n_iter=50, seed=seed)
        return inference.snapshot()

    assert_same_state(state(7), state(7))
    assert_same_state(state(np.random.SeedSequence(7)), state(np.random.SeedSequence(7)))
    assert_same_state(state(np.random.default_rng(7)), state(np.random.default_rng(7)))
    for other in (8, 7 + 2**32, None):
        assert not np.any(state(other)["trace/loss"] == state(7)["trace/loss"])
    posterior = inference_of(curved, 4, q)
    posterior.run(n_iter=50, seed=7)
    draws = posterior.posterior["z"].sample(5, seed=1)
    np.testing.assert_array_equal(draws, posterior.posterior["z"].sample(5, seed=1))
    np.testing.assert_array_equal(draws[:2], posterior.posterior["z"].sample(2, seed=1))
    assert not np.any(draws == posterior.posterior["z"].sample(5, seed=2))


# --- stopping and going on -------------------------------------------------------------------------

TOTAL, BREAK = 60, 33  # past the adaptive estimator's first steps

ESTIMATORS = [{"entropy": e} for e in ("adaptive", "sticking", "closed_form", "monte_carlo")] + [
    {"gradient": "score", "entropy": entropy, "baseline": baseline}
    for entropy in ("monte_carlo", "closed_form")
    for baseline in ("mean", "optimal")
]
VARIANTS: list[State] = [
    *ESTIMATORS,
    *({"optimizer": name} for name in _core.OPTIMIZERS),
    *({"draws": kind, "n_samples": 8} for kind in ("antithetic", "sobol")),
    {"optimizer": optimizers.Adam(average=True, clip_norm=0.5, schedule="exponential")},
    {"optimizer": optimizers.FTRL(l1=0.1, l2=0.1)},
    {"optimizer": optimizers.Momentum(nesterov=True, clip_value=0.1)},
    {"entropy": "proximal", "optimizer": "sgd"},
    {"entropy": "proximal", "optimizer": "dowg"},
]
each_variant = pytest.mark.parametrize(
    "options", VARIANTS, ids=lambda o: "-".join(str(v).split("(")[0] for v in o.values())
)


def variant(options: State) -> klqp.KLqp:
    """Return an inference for these options."""
    if options.get("entropy") == "proximal":
        latent = klqp.LogDensity(curved, shape=3)
        return klqp.KLqp({latent: klqp.MeanFieldNormal(latent, scale="linear")})
    return inference_of(curved, 3, "full_rank")


def unbroken(options: State) -> klqp.KLqp:
    inference = variant(options)
    inference.run(n_iter=TOTAL, seed=3, **options)
    return inference


@each_variant
def test_update_gives_the_bits_of_run(options):
    whole, by_hand = unbroken(options), variant(options)
    by_hand.initialize(n_iter=TOTAL, seed=3, **options)
    infos = [by_hand.update() for _ in range(TOTAL)]
    assert_same_state(whole.snapshot(), by_hand.snapshot())
    assert [info["t"] for info in infos] == list(range(1, TOTAL + 1))
    np.testing.assert_array_equal([info["loss"] for info in infos], whole.losses)
    for name in ("mean", "stddev", "covariance"):
        moments = [getattr(i.posterior["z"], name)() for i in (whole, by_hand)]
        np.testing.assert_array_equal(*moments)


@each_variant
def test_restored_runs_give_the_bits_of_an_unbroken_one(options, tmp_path):
    """Broken by hand or by a stop rule; kept in a dict or in a file; gone on with in the same way."""
    expected = unbroken(options).snapshot()

    first = variant(options)
    first.run(n_iter=TOTAL, seed=3, stop=klqp.Steps(BREAK), **options)
    assert first.stop_reason == "steps"
    assert len(first.losses) == BREAK
    kept = first.snapshot()

    by_hand = variant(options)
    by_hand.initialize(n_iter=TOTAL, seed=3, **options)
    for _ in range(BREAK):
        by_hand.update()
    assert_same_state(kept, by_hand.snapshot())

    second = variant(options)
    second.initialize(n_iter=TOTAL, seed=3, **options)
    second.restore(kept)
    assert_same_state(kept, second.snapshot())
    second.resume()
    assert_same_state(expected, second.snapshot())

    first.save(tmp_path / "state.npz")
    third = variant(options)
    third.initialize(n_iter=1, seed=3, **options)  # the length of the run is part of the snapshot
    third.restore(tmp_path / "state.npz")
    for _ in range(TOTAL - BREAK):
        third.update()
    assert_same_state(expected, third.snapshot())
    # What was kept does not change with the run it came from.
    for _ in range(3):
        first.update()
    assert len(kept["trace/loss"]) == BREAK


def ball(radius: float) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a Normal that has no density beyond a radius."""

    def log_density(z):
        value = np.where((z**2).sum(1) < radius**2, -0.5 * (z**2).sum(1), -np.inf)
        return value, -z

    return log_density


@pytest.mark.parametrize("options", [{}, {"optimizer": "dowg"}, {"gradient": "score"}], ids=str)
def test_restoring_after_backing_off(options):
    """The start is far too wide: the first steps back off, and the broken run is still at it."""
    settings = {"n_iter": TOTAL, "seed": 3, "init_scale": 4.0} | options
    whole = inference_of(ball(2.0), 2)
    whole.run(**settings)
    assert np.count_nonzero(np.isnan(whole.losses)) >= 2
    for cut in range(1, 20):
        part = inference_of(ball(2.0), 2)
        part.run(**settings, stop=klqp.Steps(cut))
        if cut == 2:
            assert part.snapshot()["rate_factor"] < 1
        rest = inference_of(ball(2.0), 2)
        rest.initialize(**settings)
        rest.restore(part.snapshot())
        rest.resume()
        assert_same_state(whole.snapshot(), rest.snapshot())


def test_going_on_counts_on():
    """A second run keeps q, traces and, with the same settings, the optimizer's memory."""
    inference = inference_of(curved, 3)
    inference.run(n_iter=40, seed=3, optimizer=optimizers.Adam(schedule="constant"))
    inference.run(n_iter=20, seed=3, optimizer=optimizers.Adam(schedule="constant"))
    whole = inference_of(curved, 3)
    whole.run(n_iter=60, seed=3, optimizer=optimizers.Adam(schedule="constant"))
    np.testing.assert_array_equal(inference.losses, whole.losses)
    np.testing.assert_array_equal(inference.posterior["z"].stddev(), whole.posterior["z"].stddev())
    inference.run(n_iter=20, seed=3, restart=True)
    assert len(inference.losses) == 20


@pytest.mark.parametrize("average", [False, True])
def test_reset_forgets_all_but_q(average):
    rule = optimizers.Adam(average=average)
    inference = inference_of(curved, 3)
    inference.run(n_iter=40, seed=3, optimizer=rule)
    reached = inference.snapshot()["params"]
    inference.reset()
    assert len(inference.losses) == 0
    fresh = inference_of(curved, 3)
    fresh.initialize(n_iter=40, seed=3, optimizer=rule)
    state = fresh.snapshot() | {"params": reached}
    ignored = {"last_good", "cycle"}  # not looked at before the first step
    after = inference.snapshot()
    assert_same_state(
        {k: v for k, v in after.items() if k not in ignored},
        {k: v for k, v in state.items() if k not in ignored | {"optimizer/start"}},
    )
    np.testing.assert_array_equal(after["cycle"], [0, 40])
    inference.resume()
    assert len(inference.losses) == 40


CHANGES: list[State] = [
    {"seed": 4},
    {"n_samples": 11},
    {"optimizer": "sgd"},
    {"optimizer": optimizers.Adam(beta1=0.8)},
    {"optimizer": optimizers.Adam(average=True)},
    {"entropy": "closed_form"},
    {"gradient": "score"},
    {"draws": "antithetic"},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_snapshots_of_other_settings_are_refused(change):
    settings: State = {"n_iter": 20, "seed": 3, "n_samples": 10}
    one, other = inference_of(curved, 3), inference_of(curved, 3)
    one.run(**settings)
    other.run(**settings | change)
    before = one.snapshot()
    with pytest.raises(ValueError, match="the snapshot is of another run"):
        one.restore(other.snapshot())
    assert_same_state(before, one.snapshot())


@pytest.mark.parametrize(("q", "dim"), [("full_rank", 3), ("low_rank", 3), ("mean_field", 4)])
def test_snapshots_of_other_families_are_refused(q, dim):
    one, other = inference_of(curved, 3), inference_of(curved, dim, q)
    for inference in (one, other):
        inference.run(n_iter=20, seed=3)
    before = one.snapshot()
    with pytest.raises(ValueError, match="the snapshot is of another run"):
        one.restore(other.snapshot())
    assert_same_state(before, one.snapshot())


@pytest.mark.parametrize("name", ["params", "optimizer/second_moment", "step", "fingerprint"])
def test_broken_snapshots_are_refused(name, tmp_path):
    """With an array that is missing or of another length nothing is changed, not even before it."""
    one, other = inference_of(curved, 3), inference_of(curved, 3)
    one.run(n_iter=20, seed=3)
    other.run(n_iter=30, seed=3)
    before, state = one.snapshot(), other.snapshot()
    missing = {k: v for k, v in state.items() if k != name}
    with pytest.raises(ValueError, match=f"no '{name}'"):
        one.restore(missing)
    assert_same_state(before, one.snapshot())
    np.savez(tmp_path / "state.npz", **missing)
    with pytest.raises(ValueError, match=f"no '{name}'"):
        one.restore(tmp_path / "state.npz")
    if name != "fingerprint":
        with pytest.raises(ValueError, match=f"'{name}' has .* numbers where this run has"):
            one.restore(state | {name: np.zeros(99)})
    assert_same_state(before, one.snapshot())


# --- stop rules ------------------------------------------------------------------------------------

CONSTANT = optimizers.Adam(learning_rate=0.02, schedule="constant")


def test_steps():
    inference = inference_of(curved, 2)
    inference.run(n_iter=100, seed=1, stop=klqp.Steps(10))
    assert (len(inference.losses), inference.stop_reason) == (10, "steps")
    inference.run(n_iter=100, seed=1, stop=klqp.Steps(10))  # of this run
    assert len(inference.losses) == 20
    inference.run(n_iter=5, seed=1, stop=klqp.Steps(10))
    assert (len(inference.losses), inference.stop_reason) == (25, "steps")


def test_time_limit():
    """It holds over the whole run, not for each stretch that the core is asked for at once."""
    inference = inference_of(curved, 1)
    started = time.monotonic()
    inference.run(n_iter=10**9, n_samples=1, seed=1, stop=klqp.TimeLimit(0.5))
    assert inference.stop_reason == "time"
    assert 0.5 <= time.monotonic() - started < 5


def test_time_limit_over_several_stretches(native):
    """A native step takes a microsecond or two, a stretch of 65536 steps less than the limit."""
    inference = inference_of(native, 1)
    inference.run(n_iter=10**9, n_samples=1, seed=1, stop=klqp.TimeLimit(1.0))
    assert inference.stop_reason == "time"
    assert len(inference.losses) > 2 * 65536


def test_plateau_stops_a_converged_run():
    inference = inference_of(curved, 2)
    rule = klqp.Plateau(window=100, patience=2)
    inference.run(n_iter=100_000, seed=1, optimizer=CONSTANT, stop=rule)
    assert inference.stop_reason == "plateau"
    assert len(inference.losses) % 100 == 0
    assert 300 <= len(inference.losses) < 20_000
    # What it stopped at: no window of the last two is better by more than a standard error.
    windows = inference.losses.reshape(-1, 10, 10).mean(2)
    means, variances = windows.mean(1), windows.var(1, ddof=1) / 10
    gains = means[:-1] - means[1:]
    flat = gains <= np.sqrt(variances[:-1] + variances[1:])
    assert np.all(flat[-2:])
    assert not np.any(flat[:-2] & np.roll(flat, -1)[:-2])


def test_plateau_does_not_stop_an_improving_run():
    """Gradient descent with a small rate from far away is still falling after all its steps."""
    inference = inference_of(curved, 2)
    slow = optimizers.SGD(learning_rate=1e-4, schedule="constant")
    rule = klqp.Plateau(window=50, patience=1)
    inference.run(n_iter=2000, seed=1, init_loc=4.0, optimizer=slow, stop=rule)
    assert (len(inference.losses), inference.stop_reason) == (2000, "steps")
    assert inference.losses[-1] < inference.losses[0] - 1


def test_plateau_needs_whole_windows_of_this_run():
    """Windows of an earlier run do not count."""
    inference = inference_of(curved, 2)
    rule = klqp.Plateau(window=100, patience=2, n_se=1e9)  # met as soon as it is looked at
    inference.run(n_iter=1000, seed=1, optimizer=CONSTANT, stop=rule)
    assert len(inference.losses) == 300
    inference.run(n_iter=1000, seed=1, optimizer=CONSTANT, stop=rule)
    assert len(inference.losses) == 600


def test_rules_in_combination():
    """The first one met stops the run, in any order."""
    plateau, late = klqp.Plateau(window=20, patience=1, n_se=1e9), klqp.TimeLimit(1000)
    for rule, expected in [
        (klqp.Steps(30) | plateau, (30, "steps")),
        (plateau | klqp.Steps(30) | late, (30, "steps")),
        (late | (klqp.Steps(70) | plateau), (40, "plateau")),
        (plateau | klqp.TimeLimit(1e-9), (1, "time")),
    ]:
        inference = inference_of(curved, 2)
        inference.run(n_iter=1000, seed=1, optimizer=CONSTANT, stop=rule)
        assert (len(inference.losses), inference.stop_reason) == expected
    with pytest.raises(TypeError):
        plateau | 3


@pytest.mark.parametrize(
    ("rule", "arguments", "value"),
    [
        (klqp.Steps, {"n": 0}, "0"),
        (klqp.TimeLimit, {"seconds": 0}, "0"),
        (klqp.TimeLimit, {"seconds": math.inf}, "inf"),
        (klqp.Plateau, {"window": 19}, "19"),
        (klqp.Plateau, {"patience": 0}, "0"),
        (klqp.Plateau, {"n_se": math.nan}, "nan"),
    ],
)
def test_bad_rules_are_refused(rule, arguments, value):
    with pytest.raises(ValueError, match=f"must be .*, not {value}"):
        rule(**arguments)


def test_other_things_are_no_rules():
    with pytest.raises(TypeError, match="stop must be a stop rule"):
        klqp.fit(curved, 2, stop="plateau")


# --- rejected draws --------------------------------------------------------------------------------


def spoilt(value: float, where: str, draw: int = 2, every: int = 1):
    """Return `curved` with one value replaced, in the given draw of every so many calls."""
    calls = []

    def log_density(z):
        logp, grad = curved(z)
        if len(calls) % every == 0:
            (logp if where == "logp" else grad[:, 1])[draw] = value
        calls.append(1)
        return logp, grad

    return log_density


@pytest.mark.parametrize(
    ("value", "where", "kind", "words"),
    [
        (-math.inf, "logp", "minus_inf", "log density -inf"),
        (math.inf, "logp", "invalid", "log density inf"),
        (math.nan, "logp", "invalid", "log density nan"),
        (-math.nan, "logp", "invalid", "log density nan"),
        (math.nan, "grad", "invalid", "gradient nan in coordinate 1"),
        (-math.inf, "grad", "invalid", "gradient -inf in coordinate 1"),
    ],
)
@pytest.mark.parametrize("gradient", ["reparameterised", "score"])
def test_rejected_draws_are_counted_and_named(value, where, kind, words, gradient):
    inference = inference_of(spoilt(value, where, every=2), 3)
    inference.run(n_iter=10, n_samples=8, seed=1, gradient=gradient)
    assert np.all(np.isfinite(inference.losses))
    if gradient == "score" and where == "grad":  # which is not looked at
        assert inference.rejections == {"minus_inf": 0, "invalid": 0, "first": None}
        return
    np.testing.assert_array_equal(inference.history["n_rejected"], [1, 0] * 5)
    other = "invalid" if kind == "minus_inf" else "minus_inf"
    expected = {kind: 5, other: 0, "first": f"first at step 0, draw 2: {words}"}
    assert inference.rejections == expected


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_the_other_draws_make_the_gradient(estimator):
    """A rejected draw is as good as none: the gradient is that of the draws left, by hand."""
    spec = _core.FamilySpec("full_rank", 2)
    params = spec.start(np.array([0.3, -0.2]), np.array([0.7, 0.4]), 0)
    gradient, baseline = estimator.get("gradient", "reparameterised"), estimator.get("baseline", "mean")

    def run_of(fn, noise):
        return _core.Run(
            spec,
            _core.PythonTarget(fn, [2], np.dtype(float), None),
            noise,
            _core.EstimatorSpec(gradient, estimator["entropy"], baseline),
            _core.OptimizerSpec("sgd", {}),
            _core.RunConfig(math.inf, math.inf, False, 1),
            params,
        )

    # The last draw is rejected, so that the others are those of a run with one draw less.
    with_one_more = run_of(spoilt(-math.inf, "logp", draw=5), _core.Noise("mc", 6, 2, 1))
    without = run_of(curved, _core.Noise("mc", 5, 2, 1))
    for step in range(3):
        (elbo, actual), (expected_elbo, expected) = with_one_more.gradient(step), without.gradient(step)
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)
        assert elbo == pytest.approx(expected_elbo, rel=1e-13)


def test_exactly_half_is_too_many():
    """A step needs more usable draws than unusable ones; otherwise it changes nothing but the rate."""
    for n_bad, usable in [(3, True), (4, False)]:

        def log_density(z, n_bad=n_bad):
            logp, grad = curved(z)
            logp[:n_bad] = np.nan
            return logp, grad

        inference = inference_of(log_density, 2)
        inference.initialize(n_iter=10, n_samples=8, seed=1)
        info = inference.update()
        assert math.isfinite(info["loss"]) == usable
        assert inference.snapshot()["rate_factor"] == (1.0 if usable else 0.5)


def test_backing_off_and_recovery():
    """A start that is far too wide ends at the right place, with hardly a draw rejected."""
    inference = inference_of(ball(2.5), 2)
    rule = optimizers.Adam(learning_rate=0.05, schedule="cosine")
    inference.run(n_iter=3000, n_samples=16, seed=1, init_scale=10.0, optimizer=rule)
    lost = np.isnan(inference.losses)
    assert lost[0]
    assert not np.any(lost[100:])
    assert inference.rejections["invalid"] == 0
    assert inference.rejections["minus_inf"] == inference.history["n_rejected"].sum()
    # With half a rate after each step lost, and 2 % more after each good one.
    rates, factor = inference.history["learning_rate"], 1.0
    scheduled = 0.05 * klqp.schedules.Cosine()(np.arange(3000), 3000)
    for t in range(3000):
        assert rates[t] == pytest.approx(scheduled[t] * factor, rel=1e-12)
        factor = factor / 2 if lost[t] else min(1.0, factor * 1.02)
    assert factor == 1.0
    z = inference.posterior["z"]
    assert np.max(np.abs(z.mean())) < 0.1
    assert np.all((z.stddev() > 0.5) & (z.stddev() < 1.05))
    np.testing.assert_array_equal(inference.history["n_rejected"][lost] >= 8, True)


def test_a_lost_step_returns_to_the_last_good_one():
    """And from the second one in a row on shrinks q towards its location."""
    bad_calls: list[bool] = []

    def log_density(z):
        logp, grad = curved(z)
        return (np.full(len(z), np.nan), grad) if bad_calls else (logp, grad)

    inference = inference_of(log_density, 3)
    inference.initialize(n_iter=50, seed=1)
    for _ in range(10):
        good = inference.snapshot()["params"]  # at last: where the last good step began
        inference.update()
    bad_calls.append(True)
    assert math.isnan(inference.update()["loss"])
    first = inference.snapshot()
    np.testing.assert_array_equal(first["params"], good)
    assert np.all(first["optimizer/second_moment"] == 0)
    inference.update()
    second = inference.posterior["z"]
    np.testing.assert_array_equal(second.mean(), good[:3])
    np.testing.assert_allclose(second.stddev(), np.exp(good[3:]) / 4, rtol=1e-13)
    bad_calls.clear()
    assert math.isfinite(inference.update()["loss"])


def test_a_hopeless_run_stops_with_the_culprit():
    """Good for five steps, never again: the error comes after 25 lost steps in a row."""
    calls: list[int] = []

    def log_density(z):
        calls.append(1)
        logp, grad = curved(z)
        if len(calls) > 5:
            grad[1, 2] = np.nan
            logp[3:] = np.inf
        return logp, grad

    inference = inference_of(log_density, 3)
    culprit = r"first at step 5, draw 1: gradient nan in coordinate 2"
    with pytest.raises(klqp.TargetError, match=rf"the run cannot go on: .* 25 steps in a row; {culprit}"):
        inference.run(n_iter=1000, n_samples=8, seed=1)
    lost = np.isnan(inference.losses)
    assert len(calls) == 31
    np.testing.assert_array_equal(lost, [False] * 5 + [True] * 25)
    assert np.all(np.isfinite(inference.posterior["z"].mean()))


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("q", ["mean_field", "low_rank"])
def test_a_start_where_nothing_is_finite(value, q):
    """The error comes before any step, and q is still the start."""
    inference = inference_of(lambda z: (np.full(len(z), value), -z), 3, q)
    inference.initialize(n_iter=100, n_samples=4, seed=1, init_loc=0.5)
    start = inference.snapshot()["params"]
    text = rf"not finite at any of the 4 draws from the starting q \(first at step 0, draw 0: log density {value}\)"
    for _ in range(2):
        with pytest.raises(klqp.TargetError, match=rf"{text}; start where it is finite: init_loc, init_scale"):
            inference.resume()
        assert len(inference.losses) == 0
        np.testing.assert_array_equal(inference.snapshot()["params"], start)


def test_an_exception_leaves_the_last_whole_step():
    """The user's own exception passes through, and the run can be finished with the same bits."""
    calls: list[int] = []

    def log_density(z):
        calls.append(1)
        if len(calls) == 21:
            raise KeyError("once")
        return curved(z)

    inference, whole = inference_of(log_density, 3), inference_of(curved, 3)
    with pytest.raises(KeyError, match="once"):
        inference.run(n_iter=TOTAL, seed=3)
    assert len(inference.losses) == 20
    inference.resume()
    whole.run(n_iter=TOTAL, seed=3)
    assert_same_state(whole.snapshot(), inference.snapshot())
