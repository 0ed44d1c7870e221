"""fit_many: wrong arguments, problems that fail, what comes back, pickling."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import klqp

N = 6


def normal_mean(n: int = N):
    """Return a latent mean and the data around it."""
    mu = klqp.Normal(0.0, 10.0, name="mu")
    return mu, klqp.Normal(mu, 1.0, shape=n, name="y")


def data(n_problems: int = 4, n: int = N) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n_problems, n))


def fit(y_all=None, **options):
    mu, y = normal_mean()
    return klqp.fit_many([mu], {y: data() if y_all is None else y_all}, **{"n_iter": 20, "seed": 1, **options})


# --- wrong arguments ---
def test_data_must_have_the_variables_shape_or_a_row_for_each_problem():
    mu, y = normal_mean()
    message = r"the data of 'y' must have shape \(6,\), the same for all problems, or \(B, 6\) with a row for each, but"
    for wrong in (np.zeros((4, 5)), np.zeros((2, 4, 6)), np.zeros(5), 1.0):
        with pytest.raises(ValueError, match=message):
            klqp.fit_many([mu], {y: wrong})
    with pytest.raises(ValueError, match=r"of different shapes; .* give a function model\(n\)"):
        klqp.fit_many([mu], {y: [np.zeros(6), np.zeros(5)]})
    x = klqp.placeholder((), name="x")
    with pytest.raises(ValueError, match=r"the data of 'x' must have shape \(\), .* or \(B,\) with a row"):
        klqp.fit_many([klqp.Normal(x, 1.0)], {x: np.zeros((2, 2))})


def test_the_number_of_problems_must_be_one():
    mu, y = normal_mean()
    with pytest.raises(ValueError, match=r"no data differ; give n_problems"):
        klqp.fit_many([mu], {y: np.zeros(6)})
    with pytest.raises(ValueError, match="numbers of problems differ: n_problems 3, the data of 'y' 4"):
        klqp.fit_many([mu], {y: data()}, n_problems=3)
    x = klqp.placeholder((6,), name="x")
    z = klqp.Normal(mu + x, 1.0, name="z")
    with pytest.raises(ValueError, match="the data of 'x' 2, the data of 'z' 4"):
        klqp.fit_many([mu], {x: np.zeros((2, 6)), z: data()})
    with pytest.raises(ValueError, match="n_problems must be a positive integer"):
        klqp.fit_many([mu], {y: np.zeros(6)}, n_problems=0)
    with pytest.raises(ValueError, match=r"must have elements|differ"):
        klqp.fit_many([mu], {y: np.zeros((0, 6))})


def test_data_that_no_variable_can_take_are_refused_with_the_problem():
    bad = data()
    bad[2, 3] = np.nan
    with pytest.raises(ValueError, match=r"the data of 'y' must not hold NaN, but problem 2 has one"):
        fit(bad)
    w = klqp.Normal(0.0, 1.0, name="w")
    y = klqp.Bernoulli(logits=klqp.broadcast_to(w, (3,)), name="y")
    with pytest.raises(ValueError, match=r"problem 1: the data of 'y' must be .*Bernoulli.*, but it holds 2"):
        klqp.fit_many([w], {y: [[0, 1, 1], [0, 2, 1]]})
    u = klqp.Normal(0.0, 1.0, shape=4, name="u")
    index = klqp.placeholder(3, dtype=int, name="index")
    y = klqp.Normal(u[index], 1.0, name="y")
    with pytest.raises(ValueError, match=r"problem 1: the data of placeholder 'index' must be indices in \[0, 4\)"):
        klqp.fit_many([u], {y: np.zeros(3), index: [[0, 1, 3], [0, 4, 1]]})
    with pytest.raises(TypeError, match="the data of 'index' must be integers"):
        klqp.fit_many([u], {y: np.zeros(3), index: [[0, 1, 3], [0, 0.5, 1]]})
    with pytest.raises(TypeError, match="must hold real numbers"):
        fit([["a"] * 6])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"logdir": "x"}, ValueError, "logdir is for single runs"),
        ({"debug": True}, ValueError, "debug is for single runs"),
        ({"n_iter": 0}, ValueError, "n_iter"),
        ({"seeds": [1, 2]}, ValueError, r"seeds must have one integer for each of 4 problems, not shape \(2,\)"),
        ({"seed": "a"}, TypeError, "seed must be an int"),
        ({"seeds": [1, 2, 3, -1]}, ValueError, "an integer seed"),
        ({"seeds": [1.0] * 4}, TypeError, "seed must be an int"),
        ({"traces": 1}, TypeError, "traces must be True or False"),
        ({"user_data": [1]}, TypeError, "user_data goes with dim"),
        ({"nonsense": 1}, TypeError, "unknown keyword 'nonsense'"),
        ({"stop": 3}, TypeError, "stop must be a stop rule"),
        ({"dim": 2}, TypeError, "a log density takes no data"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        fit(**options)


def test_wrong_keys_of_data():
    mu, y = normal_mean()
    with pytest.raises(TypeError, match="the keys of data must be random variables or placeholders, but 'y'"):
        klqp.fit_many([mu], {"y": data()})
    with pytest.raises(TypeError, match="data must be a dict by random variable or placeholder, not ndarray"):
        klqp.fit_many([mu], data())
    with pytest.raises(ValueError, match="is not a placeholder of this model"):
        klqp.fit_many([mu], {y: data(), klqp.placeholder(2): np.zeros((4, 2))})


def test_wrong_log_densities():
    def fn(z, problems):
        return -0.5 * (z**2).sum(-1), -z

    with pytest.raises(ValueError, match="give n_problems"):
        klqp.fit_many(fn, dim=2)
    with pytest.raises(TypeError, match="user_data is for native log densities"):
        klqp.fit_many(fn, dim=2, user_data=[1])
    with pytest.raises(TypeError, match="must be callable or a native function, not int"):
        klqp.fit_many(3, dim=2, n_problems=2)
    with pytest.raises(ValueError, match="dim must be a positive integer"):
        klqp.fit_many(fn, dim=0, n_problems=2)
    with pytest.raises(TypeError, match=r"must return the pair \(logp, grad\), but it returned .*ndarray"):
        klqp.fit_many(lambda z, p: fn(z, p)[0], dim=2, n_problems=3)
    with pytest.raises(ValueError, match=r"logp must have shape \(3, 10\), but it has shape \(3, 10, 2\)"):
        klqp.fit_many(lambda z, p: (z, z), dim=2, n_problems=3)
    with pytest.raises(ValueError, match=r"grad must have shape \(3, 10, 2\), but it has shape \(3, 10\)"):
        klqp.fit_many(lambda z, p: (z.sum(-1), z.sum(-1)), dim=2, n_problems=3)
    with pytest.raises(ZeroDivisionError):
        klqp.fit_many(lambda z, p: 1 / 0, dim=2, n_problems=3)


def test_wrong_lengths():
    def model(n):
        mu, y = normal_mean(n)
        return [mu], {"y": y}

    ragged = [np.zeros(3), np.zeros(2)]
    with pytest.raises(TypeError, match=r"with a function model\(n\), data must be a dict by name"):
        klqp.fit_many(model, {normal_mean()[1]: ragged})
    with pytest.raises(ValueError, match="must hold a list with one array for each problem"):
        klqp.fit_many(model, {"y": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="problem 1 has length 2 in 'y', but 3 in 'x'"):
        klqp.fit_many(model, {"y": ragged, "x": [np.zeros(3)] * 2})
    with pytest.raises(ValueError, match="'y' has arrays for 2 problems, but 'x' for 3"):
        klqp.fit_many(model, {"y": ragged, "x": [np.zeros(3)] * 3})
    with pytest.raises(ValueError, match="n_problems is 5, but 'y' has arrays for 2 problems"):
        klqp.fit_many(model, {"y": ragged}, n_problems=5)
    with pytest.raises(ValueError, match=r"must hold arrays with elements, but one has shape \(\)"):
        klqp.fit_many(model, {"y": [1.0, np.zeros(3)]})
    with pytest.raises(ValueError, match=r"model\(n\) names \['y'\], but data has \['x', 'y'\]"):
        klqp.fit_many(model, {"y": ragged, "x": 1.0})
    with pytest.raises(TypeError, match=r"model\(n\) must return the pair \(latent_vars, names\)"):
        klqp.fit_many(lambda n: model(n)[0], {"y": ragged})
    with pytest.raises(ValueError, match="the same names and shapes for all lengths"):
        klqp.fit_many(lambda n: ([w := klqp.Normal(0.0, 1.0, shape=n)], {"y": klqp.Normal(w, 1.0)}), {"y": ragged})


# --- failures ---
def test_a_problem_that_fails_leaves_the_others_alone():
    scale = klqp.placeholder(name="scale")
    mu = klqp.Normal(0.0, scale, name="mu")
    y = klqp.Normal(mu, 1.0, shape=N, name="y")
    scales = np.array([1.0, -1.0, 2.0, 0.5])
    for n_threads in (1, 2):
        result = klqp.fit_many([mu], {scale: scales, y: data()}, n_iter=30, seed=1, traces=True, n_threads=n_threads)
        assert result.status.tolist() == ["steps", "failed", "steps", "steps"]
        assert "the log density is not finite at any of the 10 draws" in result.messages[1]
        assert [bool(m) for m in result.messages] == [False, True, False, False]
        assert result.failed.tolist() == [1]
        assert result.n_steps.tolist() == [30, 0, 30, 30]
        good = [0, 2, 3]
        for values in (result.params, result["mu"].mean(), result["mu"].stddev(), result["mu"].sample(2, seed=1)):
            assert np.isnan(values[1]).all()
            assert np.isfinite(values[good]).all()
        assert np.isnan(result.losses[1])
        assert np.isnan(result.traces[1]).all()
        with pytest.raises(klqp.TargetError, match=r"problem 1 has no posterior: failed\. the log density is not"):
            result[1]
        alone = klqp.fit_many(
            [mu], {scale: scales[good], y: data()[good]}, n_iter=30, seeds=result.seeds[good].tolist()
        )
        np.testing.assert_array_equal(alone.params, result.params[good])


def test_a_problem_that_fails_in_a_batch_leaves_the_others_alone():
    def fn(z, problems):
        logp = -0.5 * (z**2).sum(-1)
        logp[problems == 1] = np.nan
        return logp, -z

    result = klqp.fit_many(fn, dim=2, n_problems=3, n_iter=20, seed=1)
    assert result.status.tolist() == ["steps", "failed", "steps"]
    assert np.isnan(result.params[1]).all()
    assert np.isfinite(result.params[[0, 2]]).all()
    assert result.n_steps.tolist() == [20, 0, 20]


# --- results ---
def test_what_comes_back():
    mu, y = normal_mean()
    y_all = data()
    y_all.flags.writeable = False
    before = y_all.copy()
    result = klqp.fit_many([mu], {y: y_all}, n_iter=20, seed=1)
    np.testing.assert_array_equal(y_all, before)
    assert len(result) == 4
    assert result.names == ["mu"]
    assert result.traces is None
    assert result["mu"].mean().shape == result[mu].stddev().shape == result.losses.shape == result.n_steps.shape == (4,)
    assert result[mu].shape == (4,)
    np.testing.assert_array_equal(result["mu"].variance(), result["mu"].stddev() ** 2)
    assert list(result.mean()) == list(result.stddev()) == list(result.sample(2)) == ["mu"]
    np.testing.assert_array_equal(result.sample(2, seed=5)["mu"], result["mu"].sample(2, seed=5))
    assert len(list(result)) == 4
    assert repr(result) == "<posteriors of ['mu'] in 4 problems: 4 steps>"
    assert repr(result["mu"]) == "<posteriors of 'mu', shape (4,)>"
    np.testing.assert_array_equal(result[-1]["mu"].mean(), result["mu"].mean()[3])
    with pytest.raises(IndexError, match="there are 4 problems, and no number 4"):
        result[4]
    with pytest.raises(KeyError, match="no latent variable 'nu'; there is 'mu'"):
        result["nu"]
    with pytest.raises(TypeError, match="the key must be the number of a problem"):
        result[1.5]
    assert np.isfinite(result[2].elbo(20, seed=1).value)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_data_of_other_dtypes_and_layouts_are_those_of_float64(dtype):
    y_all = (data() > 0).astype(dtype)
    expected = fit(y_all.astype(float)).params
    for same in (y_all, np.asfortranarray(y_all), y_all.tolist(), np.repeat(y_all, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(fit(same).params, expected)


def test_problems_may_differ_in_their_noise_alone():
    mu, y = normal_mean()
    result = klqp.fit_many([mu], {y: np.ones(N)}, n_problems=3, n_iter=10, seed=1)
    assert len(np.unique(result["mu"].mean())) == 3
    z = klqp.LogDensity(lambda z: (-0.5 * (z**2).sum(1), -z), shape=2)
    assert klqp.fit_many([z], n_problems=3, n_iter=10).params.shape == (3, 4)


def test_a_model_with_python_functions_works_too():
    y_all = data()
    w = klqp.Normal(0.0, 1.0, name="w")
    twice = klqp.Deterministic(lambda v: 2 * v, lambda cot, v: (2 * cot,), w, shape=())
    y = klqp.Normal(twice, 1.0, shape=N, name="y")
    result = klqp.fit_many([w], {y: y_all}, n_iter=20, seed=1, n_threads=2)
    plain = klqp.fit_many([w], {klqp.Normal(2 * w, 1.0, shape=N, name="y"): y_all}, n_iter=20, seed=1)
    np.testing.assert_allclose(result.params, plain.params, rtol=1e-12)


def test_seeds_follow_from_one():
    one, same, other = fit(), fit(), fit(seed=2)
    np.testing.assert_array_equal(one.params, same.params)
    assert not np.intersect1d(one.params, other.params).size
    assert fit(seed=np.random.SeedSequence(3)).seeds.tolist() == fit(seed=np.random.SeedSequence(3)).seeds.tolist()
    assert fit(seed=None).seeds.tolist() != fit(seed=None).seeds.tolist()
    assert fit(seeds=[1, 2, 3, 4]).seeds.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_results_can_be_copied_and_pickled(again):
    result = fit(traces=True)
    other = again(result)
    for name in ("params", "losses", "traces", "n_steps", "status", "seeds"):
        np.testing.assert_array_equal(getattr(other, name), getattr(result, name))
    np.testing.assert_array_equal(other["mu"].mean(), result["mu"].mean())
    assert other[1].elbo(10, seed=1) == result[1].elbo(10, seed=1)
    flat = again(klqp.fit_many(lambda z, p: (-0.5 * (z**2).sum(-1), -z), dim=2, n_problems=3, n_iter=10))
    assert flat["z"].mean().shape == (3, 2)


def test_unreached_latent_variables_warn_once():
    mu, y = normal_mean()
    idle = klqp.Normal(0.0, 1.0, name="idle")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        klqp.fit_many([mu, idle], {y: data()}, n_iter=5)
    assert [w.category for w in caught] == [klqp.UnreachedLatentWarning]
