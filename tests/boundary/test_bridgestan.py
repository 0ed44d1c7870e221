"""BridgeStan models: the C interface of their library, behind bridgestan.StanModel and without that package."""

import ctypes
import gc
import shutil
import subprocess
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import klqp
from klqp import testing
from klqp.adapters.bridgestan import StanLogDensity

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")

D = 8
NO_LIMIT, LIMIT_2 = '{"limit": 1e300}', '{"limit": 2}'
NAMES = ["mu", "sigma", "b.1.1", "b.2.1", "b.1.2", "b.2.2", "w.real", "w.imag"]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """Return the stub's paths: compiled without and with STAN_THREADS."""
    folder = tmp_path_factory.mktemp("stan")
    source = Path(__file__).with_name("stan_stub.c")
    command = [COMPILER, "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-shared", "-fPIC", source, "-lm"]
    for name, flags in (("serial", []), ("threads", ["-DSTAN_THREADS"])):
        subprocess.run([*command, *flags, "-o", folder / f"{name}_model.so"], check=True)
    return {name: folder / f"{name}_model.so" for name in ("serial", "threads")}


@pytest.fixture
def counters(libraries):
    """Return a function that reads and resets a counter of the stub."""

    def read(library, name):
        counter = ctypes.c_long.in_dll(ctypes.CDLL(str(libraries[library])), f"stub_{name}")
        value, counter.value = counter.value, 0 if name in ("calls", "most_inside") else counter.value
        return value

    for library in libraries:
        read(library, "calls")
        read(library, "most_inside")
    return read


def log_density(z, jacobian=True):
    """Return the stub's log density without constants, in NumPy."""
    sigma = np.array([np.exp(u) for u in z[:, 1]])
    sums = -0.125 * z[:, 0] * z[:, 0] - sigma + (z[:, 1] if jacobian else 0.0)
    grad = -z
    grad[:, 0] = -0.25 * z[:, 0]
    grad[:, 1] = -sigma + (1.0 if jacobian else 0.0)
    for i in range(2, D):
        sums = sums - 0.5 * z[:, i] * z[:, i]
    return sums, grad


def fit(density, dim=None, **options):
    return klqp.fit(density, dim, **{"n_iter": 60, "n_samples": 6, "seed": 3, "progress": False, **options})


def close_runs(a, b):
    """C's exp and NumPy's may differ in the last place."""
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-12)
    np.testing.assert_allclose(a.posterior["z"].mean(), b.posterior["z"].mean(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("gradient", ["reparameterised", "score"])
@pytest.mark.parametrize("library", ["serial", "threads"])
def test_a_loaded_library(libraries, library, gradient):
    density = StanLogDensity.load(libraries[library], NO_LIMIT)
    assert (density.dim, density.threads, density.name) == (D, library == "threads", "stub_model")
    close_runs(fit(density, gradient=gradient), fit(log_density, D, gradient=gradient))


def test_a_stan_model_is_taken_as_it_is(libraries, counters, capfd):
    bridgestan = pytest.importorskip("bridgestan")
    model = bridgestan.StanModel(libraries["threads"], NO_LIMIT, warn=False)
    close_runs(fit(model), fit(log_density, D))
    close_runs(fit(klqp.NativeLogDensity(model), D), fit(log_density, D))
    z = klqp.LogDensity(model, shape=D)
    inference = klqp.KLqp([z])
    inference.run(n_iter=60, n_samples=6, seed=3)
    close_runs(inference, fit(log_density, D))
    assert testing.check_gradient(model, D).max_relative_error < 1e-6
    assert capfd.readouterr().out == "hello\n"  # what the model prints comes out of Python, in the middle of a run
    assert model.log_density(np.zeros(D)) == -1.0  # the model's own prototypes are still there
    alive = weakref.ref(model)
    del model, z
    gc.collect()
    assert alive() is not None
    assert np.isfinite(inference.posterior.elbo(10).value)
    del inference
    gc.collect()
    assert alive() is None


def test_constants_and_jacobians(libraries):
    values = {}
    for propto in (True, False):
        for jacobian in (True, False):
            density = StanLogDensity.load(libraries["serial"], NO_LIMIT, propto=propto, jacobian=jacobian)
            values[propto, jacobian] = fit(density, n_iter=1).losses[0]
    constant = 3.5 * np.log(2 * np.pi) + np.log(2)
    for jacobian in (True, False):
        expected = fit(lambda z, jacobian=jacobian: log_density(z, jacobian), D, n_iter=1).losses[0]
        assert values[True, jacobian] == pytest.approx(expected, rel=1e-13)
        assert values[False, jacobian] - values[True, jacobian] == pytest.approx(constant, rel=1e-13)


def test_draws_at_which_stan_throws_are_rejected_and_the_first_says_why(libraries, counters):
    def limited(z):
        values, grad = log_density(z)
        values[z[:, 0] > 2] = np.nan
        return values, grad

    for library in libraries:
        inference = fit(StanLogDensity.load(libraries[library], LIMIT_2), n_iter=200)
        expected = fit(limited, D, n_iter=200)
        close_runs(inference, expected)
        assert inference.rejections["invalid"] == expected.rejections["invalid"] > 0
        said = " (Exception: stub: mu is too large (in 'stub.stan', line 4))"
        assert inference.rejections["first"] == expected.rejections["first"] + said
        assert counters(library, "messages") == 0  # all of them were freed


def test_a_run_that_cannot_start_says_why(libraries):
    density = StanLogDensity.load(libraries["serial"], LIMIT_2)
    with pytest.raises(klqp.TargetError, match=r"not finite at any.*\(Exception: stub: mu is too large"):
        fit(density, init_loc=np.full(D, 100.0))


def test_a_term_of_a_model_says_why(libraries):
    z = klqp.LogDensity(StanLogDensity.load(libraries["serial"], LIMIT_2), shape=D, name="z")
    y = klqp.Normal(z[0], 1.0, name="y")
    inference = klqp.KLqp([z], data={y: 3.0})
    inference.run(n_iter=200, n_samples=6, seed=3)
    assert "log density of 'z' nan (Exception: stub: mu is too large" in inference.rejections["first"]


def test_names_and_the_way_back(libraries):
    density = StanLogDensity.load(libraries["serial"], LIMIT_2)
    assert density.names == density.unconstrained_names == NAMES
    z = np.random.default_rng(1).uniform(-1, 1, (5, D))
    draws = density.constrain(z)
    assert list(draws) == ["mu", "sigma", "b", "w.real", "w.imag"]
    np.testing.assert_array_equal(draws["mu"], z[:, 0])
    np.testing.assert_allclose(draws["sigma"], np.exp(z[:, 1]), rtol=1e-15)
    np.testing.assert_array_equal(draws["b"], z[:, [[2, 4], [3, 5]]])  # Stan's order: the first index the fastest
    np.testing.assert_array_equal(draws["w.imag"], z[:, 7])
    with pytest.raises(ValueError, match=r"draws must have shape \(n, 8\), not \(8,\)"):
        density.constrain(z[0])
    with pytest.raises(ValueError, match=r"^write_array: mu is too large$"):
        density.constrain(z + 5)


def test_wrong_dimensions_models_and_data_are_refused(libraries):
    density = StanLogDensity.load(libraries["serial"], NO_LIMIT)
    with pytest.raises(ValueError, match="the Stan model has 8 unconstrained coordinates, not 3"):
        fit(density, 3)
    with pytest.raises(ValueError, match="the Stan model has 8 unconstrained coordinates, not 9"):
        fit(klqp.NativeLogDensity(density), 9)
    with pytest.raises(TypeError, match=r"expected a bridgestan.StanModel, not int"):
        StanLogDensity(3)
    with pytest.raises(ValueError, match=r"^variable does not exist.*variable name=limit$"):
        StanLogDensity.load(libraries["serial"])
    with pytest.raises(TypeError, match="dim, the number of coordinates, is missing"):
        fit(log_density)


def test_models_are_kept_and_freed(libraries, counters):
    inference = fit(StanLogDensity.load(libraries["serial"], NO_LIMIT))
    gc.collect()
    assert counters("serial", "alive") >= 1
    before = counters("serial", "alive")
    assert np.isfinite(inference.posterior.elbo(10).value)
    del inference
    gc.collect()
    assert counters("serial", "alive") == before - 1


# --- threads ---
@pytest.mark.parametrize("library", ["serial", "threads"])
def test_runs_in_many_threads(libraries, library, counters):
    """Models without STAN_THREADS never run at the same time; results are those of one run after the other."""
    densities = [StanLogDensity.load(libraries[library], NO_LIMIT) for _ in range(4)]
    options = {"n_iter": 300, "n_samples": 40, "n_threads": 2}
    serial = [fit(d, seed=i, **options).losses for i, d in enumerate(densities)]
    results = [None] * 4

    def work(i):
        results[i] = fit(densities[i], seed=i, **options).losses

    counters(library, "most_inside")
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(results, serial)
    if library == "serial":
        assert counters(library, "most_inside") == 1


def test_any_object_with_the_two_attributes_of_a_stan_model(libraries):
    library = ctypes.CDLL(str(libraries["threads"]))
    construct = library["bs_model_construct"]
    construct.restype, construct.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_uint, ctypes.c_void_p]
    model = SimpleNamespace(stanlib=library, model=construct(NO_LIMIT.encode(), 1, None))
    close_runs(fit(model), fit(log_density, D))
