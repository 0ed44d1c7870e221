"""fit_many: the same bits as single runs, for any number of threads; and the right posteriors."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

import klqp

B, N, D = 7, 30, 3


def regressions(n_problems: int = B, n: int = N, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_problems, n, D))
    logits = np.einsum("bnd,bd->bn", x, rng.normal(size=(n_problems, D)))
    return x, (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)


def logistic(n: int = N):
    """Return latent variables, the placeholder for X, and what is observed."""
    w, b = klqp.Normal(0.0, 1.0, shape=D, name="w"), klqp.Normal(0.0, 2.0, name="b")
    x = klqp.placeholder((n, D), name="x")
    return [w, b], x, klqp.Bernoulli(logits=x @ w + b, name="y")


def assert_same(result, b: int, single: klqp.KLqp) -> None:
    """Check that problem b of many has the bits of a run of its own."""
    for name in result.names:
        for moment in ("mean", "stddev"):
            alone = getattr(single.posterior[name], moment)()
            np.testing.assert_array_equal(getattr(result[name], moment)()[b], alone)
            np.testing.assert_array_equal(getattr(result[b][name], moment)(), alone)
        np.testing.assert_array_equal(result[b][name].sample(4, seed=9), single.posterior[name].sample(4, seed=9))
    assert result.losses[b] == single.losses[-1]
    assert result.n_steps[b] == len(single.losses)
    assert result.status[b] == single.stop_reason
    if result.traces is not None:
        np.testing.assert_array_equal(result.traces[b, : len(single.losses)], single.losses)
        assert np.isnan(result.traces[b, len(single.losses) :]).all()


CASES = {
    "mean_field": {},
    "one draw": {"n_samples": 1},
    "full_rank": {"q": "full_rank", "n_samples": 6, "draws": "antithetic"},
    "low_rank": {"q": "low_rank", "rank": 2, "n_samples": 8, "draws": "sobol"},
    "score": {"gradient": "score", "n_samples": 16, "baseline": "running"},
    "plateau": {"stop": klqp.Plateau(20, 1), "n_iter": 400},
    "averaged": {"optimizer": klqp.optimizers.SGD(learning_rate=0.01, average=True)},
    "clipped": {"optimizer": klqp.optimizers.RMSprop(learning_rate=0.02, clip_norm=1.0), "entropy": "sticking"},
}


@pytest.mark.parametrize("case", CASES)
def test_every_problem_has_the_bits_of_a_run_of_its_own(case):
    options = {"n_iter": 60, "n_samples": 4, **CASES[case]}
    family = {key: options.pop(key) for key in ("q", "rank") if key in options}
    x_all, y_all = regressions()
    latents, x, y = logistic()
    result = klqp.fit_many(latents, {x: x_all, y: y_all}, seed=3, traces=True, **family, **options)
    assert result.params.shape[0] == len(result) == B
    assert len(np.unique(result.seeds)) == B
    y_given = klqp.placeholder(N)
    for b in (0, B - 1):
        single = klqp.KLqp(latents, {x: x_all[b], y: y_given, y_given: y_all[b]}, **family)
        single.run(seed=int(result.seeds[b]), **options)
        assert_same(result, b, single)
    if case == "plateau":
        assert len(set(result.n_steps)) > 1


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_threads_do_not_change_a_bit(n_threads):
    x_all, y_all = regressions(40)
    latents, x, y = logistic()

    def run(n):
        return klqp.fit_many(
            latents, {x: x_all, y: y_all}, n_iter=150, stop=klqp.Plateau(20, 1), seed=4, traces=True, n_threads=n
        )

    one, more = run(1), run(n_threads)
    for name in ("params", "losses", "traces", "n_steps", "status", "seeds"):
        np.testing.assert_array_equal(getattr(one, name), getattr(more, name), err_msg=name)


def test_problems_do_not_depend_on_their_neighbours():
    x_all, y_all = regressions()
    latents, x, y = logistic()
    all_of_them = klqp.fit_many(latents, {x: x_all, y: y_all}, n_iter=50, seed=5, n_threads=1)
    kept = [5, 2]
    some = klqp.fit_many(
        latents, {x: x_all[kept], y: y_all[kept]}, n_iter=50, seeds=all_of_them.seeds[kept].tolist(), n_threads=1
    )
    np.testing.assert_array_equal(some.params, all_of_them.params[kept])


def test_problems_of_different_lengths_have_the_bits_of_problems_of_one_length():
    x_all, y_all = regressions()
    lengths = [30, 12, 30, 7, 12, 1, 30]
    data = {
        "x": [x[:n] for x, n in zip(x_all, lengths, strict=True)],
        "y": [y[:n] for y, n in zip(y_all, lengths, strict=True)],
    }
    asked = []

    def model(n):
        asked.append(n)
        latents, x, y = logistic(n)
        return latents, {"x": x, "y": y}

    for n_threads in (1, 2):
        asked.clear()
        result = klqp.fit_many(model, data, n_iter=50, seed=6, traces=True, n_threads=n_threads)
        assert asked == [30, 12, 7, 1]
        for b, n in enumerate(lengths):
            latents, x, y = logistic(n)
            y_given = klqp.placeholder(n)
            single = klqp.KLqp(latents, {x: x_all[b, :n], y: y_given, y_given: y_all[b, :n]})
            single.run(n_iter=50, seed=int(result.seeds[b]))
            assert_same(result, b, single)


def test_lengths_may_come_with_data_that_are_shared_or_differ_without_a_length():
    scales = np.array([0.5, 1.0, 2.0])

    def model(n):
        prior, noise = klqp.placeholder(), klqp.placeholder()
        mu = klqp.Normal(0.0, prior, name="mu")
        return [mu], {"prior": prior, "noise": noise, "y": klqp.Normal(mu, noise, shape=n)}

    data = {"y": [np.full(n, 3.0) for n in (2, 5, 2)], "prior": scales, "noise": 1.0}
    result = klqp.fit_many(model, data, n_iter=600, seed=1, optimizer="adam")
    precision = 1 / scales**2 + np.array([2, 5, 2])
    np.testing.assert_allclose(result["mu"].stddev(), precision**-0.5, rtol=0.02)
    np.testing.assert_allclose(result["mu"].mean(), 3 * np.array([2, 5, 2]) / precision, rtol=0.02)


def test_many_conjugate_problems_reach_their_posteriors():
    rng = np.random.default_rng(8)
    n_problems, n = 200, 25
    loc, scale = rng.normal(size=n_problems), rng.uniform(0.5, 2.0, n_problems)
    y_all = rng.normal(rng.normal(size=(n_problems, 1)), 1.0, (n_problems, n))
    prior_loc, prior_scale = klqp.placeholder(), klqp.placeholder()
    mu = klqp.Normal(prior_loc, prior_scale, name="mu")
    y = klqp.Normal(mu, 1.0, shape=n)
    result = klqp.fit_many([mu], {y: y_all, prior_loc: loc, prior_scale: scale}, n_iter=1500, seed=2)
    precision = scale**-2 + n
    # Sticking the landing leaves no noise at the solution: what remains is the optimizer's distance to it.
    np.testing.assert_allclose(result["mu"].mean(), (loc / scale**2 + y_all.sum(1)) / precision, atol=2e-3)
    np.testing.assert_allclose(result["mu"].stddev(), precision**-0.5, rtol=1e-2)
    draws = result["mu"].sample(400, seed=3)
    assert draws.shape == (n_problems, 400)
    z = (draws.mean(1) - result["mu"].mean()) / (result["mu"].stddev() / 20)
    assert np.abs(z).max() < 4.5  # of 200 standard normals
    assert abs(np.var(z) - 1) < 4 * (2 / n_problems) ** 0.5


def test_transformed_and_own_qs_have_moments_in_their_own_space():
    rng = np.random.default_rng(3)
    y_all = rng.gamma(3.0, 1.0, (5, 40))
    rate, mix = klqp.Gamma(2.0, 1.0, name="rate"), klqp.Dirichlet(np.ones(3), name="mix")
    loc, scale = klqp.Parameter(0.0), klqp.Parameter(1.0, support="positive")
    y, counts = klqp.Gamma(3.0, rate, shape=40), klqp.Multinomial(total_count=20, probs=mix)
    c = rng.multinomial(20, [0.2, 0.3, 0.5], 5)
    own = {rate: klqp.LogNormal(loc, scale), mix: klqp.MeanFieldNormal(mix)}
    for latents in ([rate, mix], own):
        result = klqp.fit_many(latents, {y: y_all, counts: c}, n_iter=80, seed=1, n_threads=2)
        for b in (0, 4):
            for name in ("rate", "mix"):
                for moment in ("mean", "stddev"):
                    alone = getattr(result[b][name], moment)()
                    np.testing.assert_allclose(getattr(result[name], moment)()[b], alone, rtol=1e-13)
                seed = int(klqp._core.problem_seeds(11, 5)[b])
                np.testing.assert_array_equal(result[name].sample(3, seed=11)[b], result[b][name].sample(3, seed=seed))
    assert loc.value == 0.0  # the user's parameters stay what they were
    assert scale.value == 1.0
    assert len(np.unique(result.params[:, -2:])) == 10


# --- log densities ---
def shifted(z: np.ndarray, problems: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a density around the problem's own number that is not Normal, elementwise."""
    r = z - problems[:, None, None]
    return (-0.5 * r**2 - 0.05 * r**4).sum(-1), -r - 0.2 * r**3


@pytest.mark.parametrize("q", ["mean_field", "full_rank", "low_rank"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_python_log_density_of_many_problems_has_the_bits_of_single_fits(q, dtype):
    options = {"q": q, "n_iter": 120, "n_samples": 4, "stop": klqp.Plateau(20, 1), "dtype": dtype}
    results = [
        klqp.fit_many(shifted, dim=3, n_problems=40, seed=3, traces=True, n_threads=t, **options) for t in (1, 2)
    ]
    np.testing.assert_array_equal(results[0].params, results[1].params)
    assert len(set(results[0].n_steps)) > 1
    for b in (0, 17):
        single = klqp.fit(
            lambda z, b=b: tuple(x[0] for x in shifted(z[None], np.array([b]))),
            3,
            seed=int(results[0].seeds[b]),
            **options,
        )
        assert_same(results[0], b, single)
        assert results[0][b].elbo(50, seed=1) == single.posterior.elbo(50, seed=1)


def test_problems_that_have_stopped_drop_out_of_the_batch():
    seen = []

    def fn(z, problems):
        seen.append(problems.copy())
        assert z.shape == (len(problems), 4, 2)
        return shifted(z, problems)

    result = klqp.fit_many(fn, dim=2, n_problems=6, n_iter=300, n_samples=4, seed=2, stop=klqp.Plateau(20, 1))
    assert (result.status == "plateau").all()
    assert len(seen) == result.n_steps.max()
    for step, problems in enumerate(seen):
        np.testing.assert_array_equal(problems, np.flatnonzero(result.n_steps > step))


C_SOURCE = r"""
#include <stdint.h>
int normal(int64_t n, int64_t d, int64_t order, const double *z, double *logp, double *grad, void *user_data) {
  const double *loc = user_data;
  for (int64_t s = 0; s < n; ++s) {
    logp[s] = 0.0;
    for (int64_t i = 0; i < d; ++i) {
      const double r = z[s * d + i] - loc[i];
      logp[s] -= 0.5 * r * r + 0.1 * r * r * r * r;
      if (order) grad[s * d + i] = -r - 0.4 * r * r * r;
    }
  }
  return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_native_log_density_gets_the_user_data_of_each_problem(tmp_path, reentrant):
    (tmp_path / "normal.c").write_text(C_SOURCE)
    library = tmp_path / "normal.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(tmp_path / "normal.c"), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).normal
    pointer = ctypes.POINTER(ctypes.c_double)
    function.argtypes, function.restype = [ctypes.c_int64] * 3 + [pointer] * 3 + [ctypes.c_void_p], ctypes.c_int
    locs = np.random.default_rng(1).normal(size=(30, 3))
    addresses = [row.ctypes.data for row in locs]
    fn = klqp.NativeLogDensity(function, reentrant=reentrant)
    results = [
        klqp.fit_many(fn, dim=3, user_data=addresses, n_iter=200, n_samples=4, seed=1, n_threads=t) for t in (1, 2)
    ]
    np.testing.assert_array_equal(results[0].params, results[1].params)
    for b in (0, 29):
        one = klqp.NativeLogDensity(function, user_data=addresses[b])
        single = klqp.fit(one, 3, n_iter=200, n_samples=4, seed=int(results[0].seeds[b]))
        assert_same(results[0], b, single)
        assert results[0][b].elbo(20, seed=1) == single.posterior.elbo(20, seed=1)


def test_many_different_lengths_run_a_hundred_forms_at_a_time():
    def model(n):
        mu = klqp.Normal(0.0, 10.0, name="mu")
        return [mu], {"y": klqp.Normal(mu, 1.0, shape=n)}

    y = [np.full(n, float(n % 7)) for n in range(1, 121)]
    result = klqp.fit_many(model, {"y": y}, n_iter=1000, n_samples=4, seed=1, traces=True, n_threads=2)
    precision = 0.01 + np.arange(1, 121)
    np.testing.assert_allclose(result["mu"].mean(), [v.sum() / p for v, p in zip(y, precision, strict=True)], atol=5e-3)
    np.testing.assert_allclose(result["mu"].stddev(), precision**-0.5, rtol=2e-2)
    assert set(result.status) == {"steps"}
    assert (result.n_steps == 1000).all()
    assert np.isfinite(result.traces).all()
    np.testing.assert_array_equal(result.losses, result.traces[:, -1])
