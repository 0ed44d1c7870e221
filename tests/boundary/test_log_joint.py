"""klqp.LogJoint: values and gradients of whole models, coordinates, what it refuses; and klqp.Flat."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import optimize, stats

import klqp
from klqp.testing import check_gradient

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(30, 3)), rng.normal(size=30)
GROUP = rng.integers(0, 4, 30)


def regression():
    w = klqp.Normal(0.0, 2.0, shape=3, name="w")
    sigma = klqp.HalfNormal(3.0, name="sigma")
    return [w, sigma], {klqp.Normal(X @ w, sigma): Y}


def hierarchy():
    """Every part of the vocabulary at once: gathers, native and NumPy nodes, supports with and without a transform."""
    mu, tau = klqp.Flat(name="mu"), klqp.Flat(support="positive", name="tau")
    a = klqp.Normal(mu, tau, shape=4, name="a")
    share = klqp.Flat(3, support="simplex", name="share")
    cuts = klqp.Flat((2, 3), support="ordered", name="cuts")
    bent = klqp.Deterministic(np.sin, lambda cot, v: cot * np.cos(v), a, shape=4)
    total = klqp.LogDensity(
        lambda v, s: (-((s[:, 0] - v) ** 2), np.stack([-2 * (s[:, 0] - v), 0 * s[:, 1], 0 * s[:, 2]], 1)),
        share,
        shape=(),
        name="total",
    )
    y = klqp.StudentT(4.0, bent[GROUP] + klqp.sum(cuts * share), 1.5)
    return [mu, tau, a, share, cuts], {y: Y, total: 0.3, klqp.Normal(cuts, 1.0): np.zeros((2, 3))}


def test_value_is_the_sum_of_its_parts():
    log_joint = klqp.LogJoint(*regression())
    u = rng.normal(size=(7, 4))
    logp, _ = log_joint(u)
    for row, value in zip(u, logp, strict=True):
        w, sigma = row[:3], np.exp(row[3])
        prior = stats.norm(0, 2).logpdf(w).sum() + stats.halfnorm(scale=3).logpdf(sigma)
        likelihood = stats.norm(X @ w, sigma).logpdf(Y).sum()
        assert value == pytest.approx(prior + likelihood + row[3], rel=1e-12)


@pytest.mark.parametrize("model", [regression, hierarchy])
def test_gradient(model):
    log_joint = klqp.LogJoint(*model())
    check_gradient(log_joint, log_joint.dim, scale=0.5, rtol=1e-7)


def test_rows_do_not_know_of_each_other():
    log_joint = klqp.LogJoint(*hierarchy())
    u = rng.normal(size=(9, log_joint.dim))
    logp, grad = log_joint(u)
    for i in range(9):
        one, one_grad = log_joint(u[i : i + 1])
        np.testing.assert_allclose(one[0], logp[i], rtol=1e-14)
        np.testing.assert_allclose(one_grad[0], grad[i], rtol=1e-12, atol=1e-12)
    assert np.array_equal(log_joint(u)[1], grad)


@pytest.mark.parametrize("bijector", ["exp", "softplus", "sigmoid", ("affine", 1.0, -2.0)])
def test_transformed_latents(bijector):
    z = klqp.TransformedDistribution(klqp.Normal(0.3, 0.8), bijector, name="z")
    log_joint = klqp.LogJoint([z], {klqp.Normal(z, 0.5, shape=30): Y})
    check_gradient(log_joint, 1, scale=0.5, rtol=1e-7)


def test_mixture_is_its_sum():
    """More events than the kernel works on at once."""
    mu = klqp.Normal(0.0, 1.0, shape=2, name="mu")
    y = rng.normal(size=700)
    parts = [klqp.Normal(mu[0], 1.0, shape=700), klqp.Normal(mu[1], 2.0, shape=700)]
    weights = np.array([0.3, 0.7])
    log_joint = klqp.LogJoint([mu], {klqp.Mixture(klqp.Categorical(probs=weights), parts): y})
    u = rng.normal(size=(3, 2))
    logp, _ = log_joint(u)
    for row, value in zip(u, logp, strict=True):
        density = 0.3 * stats.norm(row[0], 1).pdf(y) + 0.7 * stats.norm(row[1], 2).pdf(y)
        assert value == pytest.approx(np.log(density).sum() + stats.norm.logpdf(row).sum(), rel=1e-12)
    check_gradient(log_joint, 2, rtol=1e-7)


def test_results_are_the_callers():
    log_joint = klqp.LogJoint(*regression())
    u = np.zeros((2, 4))
    logp, grad = log_joint(u)
    kept = logp.copy(), grad.copy()
    log_joint(u + 1)
    assert np.array_equal(logp, kept[0])
    assert np.array_equal(grad, kept[1])
    assert not u.any()


def test_no_points():
    log_joint = klqp.LogJoint(*regression())
    logp, grad = log_joint(np.zeros((0, 4)))
    assert logp.shape == (0,)
    assert grad.shape == (0, 4)


def test_coordinates():
    log_joint = klqp.LogJoint(*hierarchy())
    assert log_joint.dim == 1 + 1 + 4 + 2 + 6
    assert list(log_joint.slices) == ["mu", "tau", "a", "share", "cuts"]
    assert log_joint.slices["share"] == slice(6, 8)
    u = rng.normal(size=(5, log_joint.dim))
    values = log_joint.constrain(u)
    assert values["mu"].shape == (5,)
    assert values["cuts"].shape == (5, 2, 3)
    assert np.all(values["tau"] > 0)
    assert np.all(np.diff(values["cuts"]) > 0)
    np.testing.assert_allclose(values["share"].sum(1), 1.0)
    np.testing.assert_allclose(log_joint.unconstrain(values), u, rtol=1e-8, atol=1e-10)


def test_unconstrain_by_variable():
    latent_vars, data = regression()
    log_joint = klqp.LogJoint(latent_vars, data)
    w, sigma = latent_vars
    u = log_joint.unconstrain({sigma: [1.0, np.e], w: np.ones((2, 3))})
    np.testing.assert_allclose(u, [[1, 1, 1, 0], [1, 1, 1, 1]], atol=1e-15)
    assert np.isnan(log_joint.unconstrain({sigma: [-1.0], w: np.ones((1, 3))})[0, 3])
    with pytest.raises(ValueError, match=r"keys \['w', 'sigma'\]"):
        log_joint.unconstrain({w: np.ones((1, 3))})
    with pytest.raises(ValueError, match=r"values of 'sigma' must have shape \(1,\)"):
        log_joint.unconstrain({sigma: [1.0, 1.0], w: np.ones((1, 3))})


@pytest.mark.parametrize("model", [regression, hierarchy])
def test_fit_takes_it(model):
    """The density of the model is what an inference of the model sees: the same ELBO at the same q."""
    latent_vars, data = model()
    log_joint = klqp.LogJoint(latent_vars, data)
    settings = {"n_iter": 300, "seed": 1, "entropy": "sticking"}
    flat = klqp.fit(log_joint, log_joint.dim, **settings)
    inference = klqp.KLqp(latent_vars, data)
    inference.run(**settings)
    np.testing.assert_allclose(flat.losses, inference.losses, rtol=1e-9)


def test_mode_by_an_optimizer():
    log_joint = klqp.LogJoint(*regression())

    def loss(u):
        logp, grad = log_joint(u[None])
        return -logp[0], -grad[0]

    found = optimize.minimize(loss, np.zeros(4), jac=True)
    assert np.abs(log_joint(found.x[None])[1]).max() < 1e-4


def test_parameters_and_placeholders():
    x, scale = klqp.placeholder(30), klqp.Parameter(2.0, support="positive")
    w = klqp.Normal(0.0, scale, name="w")
    y, seen = klqp.Normal(w * x, 1.0), klqp.placeholder(30)
    log_joint = klqp.LogJoint([w], {y: seen, x: X[:, 0], seen: Y})
    expected = stats.norm(0, 2).logpdf(0.5) + stats.norm(0.5 * X[:, 0], 1).logpdf(Y).sum()
    assert log_joint([[0.5]])[0][0] == pytest.approx(expected)
    scale.value = 3.0
    assert log_joint([[0.5]])[0][0] == pytest.approx(expected)


def test_outside_the_support():
    w = klqp.Normal(0.0, 1.0, name="w")
    log_joint = klqp.LogJoint([w], {klqp.Poisson(rate=w): 2})
    logp, grad = log_joint([[-1.0], [1.0]])
    assert not np.isfinite(logp[0])
    assert np.isfinite(logp[1])
    assert np.isfinite(grad[1, 0])


def test_exceptions_pass_through():
    def fails(v):
        raise KeyError("mine")

    log_joint = klqp.LogJoint([klqp.LogDensity(fails, shape=2)])
    with pytest.raises(KeyError, match="mine"):
        log_joint(np.zeros((1, 2)))


def test_pickle_and_threads():
    log_joint = klqp.LogJoint(*regression())
    again = pickle.loads(pickle.dumps(log_joint))
    u = rng.normal(size=(50, 4))
    assert np.array_equal(log_joint(u)[1], again(u)[1])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: log_joint(u[: i % 5 + 1])[0], range(200)))
    expected = log_joint(u)[0]
    for i, logp in enumerate(results):
        np.testing.assert_allclose(logp, expected[: i % 5 + 1], rtol=1e-13)


def test_refuses():
    latent_vars, data = regression()
    w, sigma = latent_vars
    with pytest.raises(ValueError, match=r"\['sigma'\] are neither latent nor observed"):
        klqp.LogJoint([w], data)
    with pytest.raises(ValueError, match="at least one"):
        klqp.LogJoint([], data)
    with pytest.raises(TypeError, match="must be a list"):
        klqp.LogJoint({w: klqp.Normal(0.0, 1.0, shape=3)}, data)
    with pytest.raises(TypeError, match="must be numbers"):
        klqp.LogJoint([w], {**data, sigma: klqp.LogNormal(0.0, 1.0)})
    with pytest.raises(ValueError, match="both latent and observed"):
        klqp.LogJoint([w, sigma], {**data, sigma: 1.0})
    with pytest.raises(TypeError, match="unconstrained"):
        klqp.LogJoint([klqp.Poisson(1.0)])
    x = klqp.placeholder(3, name="x")
    with pytest.raises(ValueError, match=r"\['x'\] have no data"):
        klqp.LogJoint([w], {klqp.Normal(w * x, 1.0): np.zeros(3)})
    log_joint = klqp.LogJoint(latent_vars, data)
    for wrong in (np.zeros(4), np.zeros((2, 3)), np.zeros((2, 4, 1))):
        with pytest.raises(ValueError, match="u must have shape"):
            log_joint(wrong)
    with pytest.raises(TypeError, match="real numbers"):
        log_joint([["a"] * 4])
    with pytest.raises(ValueError, match="has 4 coordinates"):
        klqp.fit(log_joint, 3, n_iter=1)
    with pytest.raises(ValueError, match="float64"):
        klqp.fit(log_joint, 4, n_iter=1, dtype=np.float32)


def test_flat_prior_leaves_the_likelihood():
    """Normal data of known scale: the posterior of the mean is Normal(mean, scale / sqrt(n))."""
    mu = klqp.Flat(name="mu")
    inference = klqp.KLqp([mu], {klqp.Normal(mu, 2.0, shape=30): Y})
    inference.run(n_iter=2000, n_samples=4, seed=1)
    assert inference.posterior[mu].mean() == pytest.approx(Y.mean(), abs=0.01)
    assert inference.posterior[mu].stddev() == pytest.approx(2 / np.sqrt(30), rel=0.02)


def test_flat_refuses():
    with pytest.raises(ValueError, match="support must be one of"):
        klqp.Flat(support="nowhere")
    with pytest.raises(ValueError, match="needs at least 1 axes"):
        klqp.Flat(support="simplex")
    z, q = klqp.Normal(0.0, 1.0), klqp.Flat()
    with pytest.raises(TypeError, match="no draws inside a program"):
        klqp.KLqp({z: q})
