"""Models: the same bits however a run is cut up, shared parameters, and results against exact Gaussian algebra."""

import gc
import math
import pickle
import re
import resource

import numpy as np
import pytest

import klqp
from klqp import optimizers

FAST = {"n_samples": 8, "seed": 3, "progress": False}
DATA = np.array([0.3, 1.9, 2.4, 3.3, 1.2, 2.2])


def positive(value, **options):
    return klqp.Parameter(value, support="positive", **options)


class Hierarchy:
    """mu ~ N(0, 2), tau ~ Gamma(2, 1), theta_i ~ N(mu, 1), x_i ~ N(theta_i, tau), with several kinds of q."""

    def __init__(self, q="mean_field"):
        self.mu = klqp.Normal(0.0, 2.0, name="mu")
        self.tau = klqp.Gamma(2.0, 1.0, name="tau")
        self.theta = klqp.Normal(self.mu, 1.0, shape=6, name="theta")
        self.x = klqp.Normal(self.theta, self.tau, name="x")
        latents = [self.mu, self.tau, self.theta]
        if q == "own":
            self.loc, self.slope = klqp.Parameter(np.zeros(6), name="loc"), klqp.Parameter(0.0, name="slope")
            latents = {
                self.mu: klqp.Normal(klqp.Parameter(0.0), positive(0.5)),
                self.tau: klqp.LogNormal(klqp.Parameter(0.0), positive(0.5)),
                self.theta: klqp.Normal(self.loc + self.slope * self.mu, positive(np.full(6, 0.5))),
            }
        self.inference = klqp.KLqp(latents, {self.x: DATA}, **({} if q == "own" else {"q": q}))


KINDS = ["mean_field", "full_rank", "own"]


def ran(kind, n_iter=40, **options):
    inference = Hierarchy(kind).inference
    inference.run(n_iter=n_iter, **{**FAST, **options})
    return inference


def assert_same(one, other):
    """Check that two runs have the same bits."""
    a, b = one.snapshot(), other.snapshot()
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    draws, others = one.posterior.sample(7, seed=2), other.posterior.sample(7, seed=2)
    for name in draws:
        np.testing.assert_array_equal(draws[name], others[name])


# --- the same bits -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{}, {"gradient": "score"}, {"draws": "sobol"}, {"optimizer": "rmsprop"}])
@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bits_on_any_number_of_threads(kind, options):
    one = ran(kind, n_threads=1, **options)
    for n_threads in (1, 2, 3):
        assert_same(one, ran(kind, n_threads=n_threads, **options))
    assert not np.array_equal(one.losses, ran(kind, **{**options, "seed": 4}).losses)


@pytest.mark.parametrize("gradient", ["reparameterised", "score"])
def test_same_bits_where_threads_share_the_work(gradient):
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(400, 150)), rng.integers(0, 2, 400)

    def fitted(n_threads):
        w = klqp.Normal(0.0, 1.0, shape=150, name="w")
        inference = klqp.KLqp([w], {klqp.Bernoulli(logits=features @ w, name="y"): y})
        inference.run(n_iter=40, n_samples=16, seed=1, gradient=gradient, n_threads=n_threads, progress=False)
        return inference

    one = fitted(1)
    for n_threads in (2, 3, 8):
        assert_same(one, fitted(n_threads))


@pytest.mark.parametrize("kind", KINDS)
def test_updates_by_hand_are_a_run(kind):
    inference = Hierarchy(kind).inference
    inference.initialize(n_iter=40, **FAST)
    seen = [inference.update() for _ in range(40)]
    inference.finalize()
    whole = ran(kind)
    assert_same(inference, whole)
    assert [info["t"] for info in seen] == list(range(1, 41))
    np.testing.assert_array_equal([info["loss"] for info in seen], whole.losses)
    np.testing.assert_array_equal([info["kl"] for info in seen], whole.history["kl"])
    some = Hierarchy(kind).inference
    some.initialize(n_iter=40, **FAST)
    for _ in range(13):
        some.update()
    some.resume()
    assert_same(some, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_snapshots_continue_with_the_same_bits(kind, tmp_path):
    whole = ran(kind)
    broken = Hierarchy(kind).inference
    broken.initialize(n_iter=40, **FAST)
    for _ in range(17):
        broken.update()
    broken.save(tmp_path / "state.npz")
    for state in (broken.snapshot(), tmp_path / "state.npz"):
        other = Hierarchy(kind).inference
        other.initialize(n_iter=40, **FAST)
        other.restore(state)
        other.resume()
        assert_same(other, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_continue_with_the_same_bits(kind):
    whole = ran(kind)
    broken = Hierarchy(kind).inference
    broken.initialize(n_iter=40, **FAST)
    for _ in range(17):
        broken.update()
    other = pickle.loads(pickle.dumps(broken))
    posterior = pickle.loads(pickle.dumps(broken.posterior))
    for name, values in broken.posterior.sample(5, seed=1).items():
        np.testing.assert_array_equal(values, other.posterior.sample(5, seed=1)[name])
        np.testing.assert_array_equal(values, posterior.sample(5, seed=1)[name])
    np.testing.assert_array_equal(posterior["tau"].mean(), broken.posterior["tau"].mean())
    assert posterior.elbo(100, seed=1) == broken.posterior.elbo(100, seed=1)
    other.resume()
    assert_same(other, whole)
    broken.resume()  # was not touched
    assert_same(broken, whole)


def test_pickles_keep_fed_data():
    w, batch = klqp.Normal(0.0, 1.0, name="w"), klqp.placeholder(3)
    inference = klqp.KLqp([w], {klqp.Normal(w, 1.0, shape=3): batch})
    inference.initialize(n_iter=10, **FAST)
    inference.update({batch: [1.0, 2.0, 3.0]})
    other = pickle.loads(pickle.dumps(inference))
    assert other.update() == inference.update()
    assert other.posterior.elbo(50, seed=1) == inference.posterior.elbo(50, seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_reset_restarts_the_count_and_the_optimizer_but_not_q(kind):
    inference = ran(kind)
    means = inference.posterior.mean()
    inference.reset()
    assert len(inference.losses) == 0
    for name, mean in inference.posterior.mean().items():
        np.testing.assert_array_equal(mean, means[name])
    info = inference.update()
    assert info["t"] == 1
    twin = ran(kind)
    twin.reset()
    assert twin.update() == info


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_goes_on(kind):
    inference = ran(kind)
    first = inference.losses.copy()
    mean = inference.posterior["mu"].mean()
    inference.run(n_iter=20, **{**FAST, "optimizer": optimizers.SGD(learning_rate=1e-12)})
    assert len(inference.losses) == 60
    np.testing.assert_array_equal(inference.losses[:40], first)
    np.testing.assert_allclose(inference.posterior["mu"].mean(), mean, rtol=1e-6)
    constant = {**FAST, "optimizer": optimizers.Adam(schedule="constant")}
    parts, whole = Hierarchy(kind).inference, Hierarchy(kind).inference
    for n_iter in (15, 25):
        parts.run(n_iter=n_iter, **constant)
    whole.run(n_iter=40, **constant)
    np.testing.assert_array_equal(parts.losses, whole.losses)


@pytest.mark.parametrize("kind", KINDS)
def test_restart_is_a_new_run(kind):
    inference = ran(kind)
    inference.run(n_iter=40, restart=True, **FAST)
    assert_same(inference, ran(kind))


def test_restart_returns_parameters_to_their_first_values():
    model = Hierarchy("own")
    model.inference.run(n_iter=30, **FAST)
    assert np.any(model.loc.value != 0.0)
    model.inference.run(n_iter=1, restart=True, **{**FAST, "optimizer": optimizers.SGD(learning_rate=1e-300)})
    np.testing.assert_allclose(model.loc.value, 0.0, atol=1e-290)
    np.testing.assert_allclose(model.slope.value, 0.0, atol=1e-290)


@pytest.mark.parametrize("options", [{"scale": {"mu": 2.0}}, {"kl_scaling": {"theta": 1.0}}, {"scale": {"tau": 3.0}}])
@pytest.mark.parametrize("link", ["exp", "softplus"])
def test_a_run_with_another_layout_goes_on_from_the_same_q(options, link):
    """A scale or a divergence by formula takes a mean-field family apart."""
    model = Hierarchy(klqp.MeanFieldNormal(scale=link))
    inference = model.inference
    inference.run(n_iter=60, **FAST)
    means, stddevs = inference.posterior.mean(), inference.posterior.stddev()
    given = {key: {getattr(model, name): v for name, v in by.items()} for key, by in options.items()}
    still = {**FAST, "n_iter": 1, "optimizer": optimizers.SGD(learning_rate=1e-300)}
    for more in (given, {}, given):
        inference.run(**still, **more)
        for name in means:
            np.testing.assert_allclose(inference.posterior[name].mean(), means[name], rtol=1e-12)
            np.testing.assert_allclose(inference.posterior[name].stddev(), stddevs[name], rtol=1e-12)
    inference.run(restart=True, init_loc=0.5, **still, **given)  # nothing is left of it
    np.testing.assert_allclose(inference.posterior["mu"].mean(), 0.5, rtol=1e-12)


def test_a_value_set_between_two_runs_counts():
    model = Hierarchy("own")
    model.inference.run(n_iter=30, **FAST)
    model.loc.value = np.full(6, 7.0)
    model.inference.run(n_iter=1, **{**FAST, "optimizer": optimizers.SGD(learning_rate=1e-300)})
    np.testing.assert_array_equal(model.loc.value, 7.0)


# --- parameters shared and frozen ----------------------------------------------------------------------------
def test_two_inferences_in_turn_agree_with_one():
    """Alternating updates of two that share the model's parameter reach what the joint one does."""

    def model(theta):
        z = klqp.Normal(theta, 1.0, shape=6, name="z")
        return z, klqp.Normal(z, 1.0, name="x")

    theta = klqp.Parameter(0.0)
    z, x = model(theta)
    joint = klqp.KLqp([z], {x: DATA})
    joint.run(n_iter=3000, **FAST)
    # The marginal likelihood is that of N(theta, 2): its maximum is the mean.
    np.testing.assert_allclose(theta.value, DATA.mean(), atol=0.01)

    shared = klqp.Parameter(0.0)
    q_loc, q_scale = klqp.Parameter(np.zeros(6)), positive(np.ones(6))
    z, x = model(shared)
    q = klqp.Normal(q_loc, q_scale)
    e_step, m_step = klqp.KLqp({z: q}, {x: DATA}), klqp.KLqp(data={x: DATA, z: q})
    e_step.initialize(n_iter=3000, var_list=[q_loc, q_scale], **FAST)
    m_step.initialize(n_iter=3000, var_list=[shared], **{**FAST, "seed": 4})
    for _ in range(3000):
        e_step.update()
        m_step.update()
    np.testing.assert_allclose(shared.value, DATA.mean(), atol=0.02)
    np.testing.assert_allclose(q_loc.value, (DATA + shared.value) / 2, atol=0.03)
    np.testing.assert_allclose(q_scale.value, math.sqrt(0.5), rtol=0.02)


def test_var_list_freezes_the_rest():
    model = Hierarchy("own")
    before = {name: q.inputs[0].unconstrained for name, q in _qs(model).items() if name != "theta"}
    slope = model.slope.value
    model.inference.run(n_iter=30, var_list=[model.loc], **FAST)
    assert np.all(model.loc.value != 0.0)
    np.testing.assert_array_equal(model.slope.value, slope)
    for name, u in before.items():
        np.testing.assert_array_equal(_qs(model)[name].inputs[0].unconstrained, u)


def _qs(model):
    return {z.name: q for z, q in model.inference.latent_vars.items()}


# --- exact answers -------------------------------------------------------------------------------------------
LONG = {"n_iter": 4000, "n_samples": 16, "seed": 1, "progress": False}


def test_conditional_inference_against_gaussian_algebra():
    """beta ~ N(0, 1) fixed at q(beta) = N(1.5, .6); z ~ N(beta, 1); x_i ~ N(z, 1).

    The optimal q(z) maximises E_q(beta)[log p(x, z | beta)] + H: normal, of precision 1 + n, with mean
    (1.5 + sum x) / (1 + n).
    """
    beta = klqp.Normal(0.0, 1.0, name="beta")
    z = klqp.Normal(beta, 1.0, name="z")
    x = klqp.Normal(z, 1.0, shape=6)
    loc, scale = klqp.Parameter(1.5), positive(0.6)
    inference = klqp.KLqp([z], {x: DATA, beta: klqp.Normal(loc, scale)})
    inference.run(**LONG)
    assert loc.value == 1.5
    np.testing.assert_allclose(scale.value, 0.6, rtol=1e-15)
    np.testing.assert_allclose(inference.posterior["z"].mean(), (1.5 + DATA.sum()) / 7, atol=0.01)
    np.testing.assert_allclose(inference.posterior["z"].stddev(), 7**-0.5, rtol=0.02)
    # log p(beta) and log p(z | beta) both belong to the objective; log q(beta) does not.
    mean, var = (1.5 + DATA.sum()) / 7, 1 / 7
    exact = -0.5 * (math.log(2 * math.pi) + 1.5**2 + 0.36)  # log p(beta)
    exact += -0.5 * (math.log(2 * math.pi) + (mean - 1.5) ** 2 + var + 0.36)
    exact += -0.5 * (6 * math.log(2 * math.pi) + ((DATA - mean) ** 2).sum() + 6 * var)
    exact += 0.5 * math.log(2 * math.pi * math.e * var)
    elbo = inference.posterior.elbo(20_000, seed=1)
    assert abs(elbo.value - exact) < 5 * elbo.std_error + 1e-3
    # Fresh draws of beta in every step: the loss varies more than with beta known.
    assert inference.history["std_error"][-1] > 0.05


def exact_pair(a=0.8):
    """Return mean, covariance and log evidence of z1 ~ N(0, 1), z2 ~ N(a z1, .5), x = 2 ~ N(z1 + z2, 1)."""
    prior = np.array([[1.0, a], [a, a * a + 0.25]])
    h = np.ones(2)
    s = h @ prior @ h + 1.0
    gain = prior @ h / s
    return gain * 2.0, prior - np.outer(gain, h @ prior), -0.5 * (math.log(2 * math.pi * s) + 4.0 / s)


@pytest.mark.parametrize("entropy", ["auto", "sticking", "closed_form", "monte_carlo"])
def test_structured_q_reaches_the_exact_joint(entropy):
    z1 = klqp.Normal(0.0, 1.0, name="z1")
    z2 = klqp.Normal(0.8 * z1, 0.5, name="z2")
    x = klqp.Normal(z1 + z2, 1.0)
    a, b = klqp.Parameter(0.0), klqp.Parameter(0.0)
    q1 = klqp.Normal(klqp.Parameter(0.0), positive(1.0))
    q2 = klqp.Normal(a + b * z1, positive(1.0))
    inference = klqp.KLqp({z1: q1, z2: q2}, {x: 2.0})
    inference.run(**{**LONG, "entropy": entropy})
    mean, cov, log_evidence = exact_pair()
    tolerance = 1e-3 if entropy in ("auto", "sticking") else 0.03
    np.testing.assert_allclose(b.value, cov[0, 1] / cov[0, 0], atol=tolerance)
    draws = inference.posterior.sample(100_000, seed=1)
    joint = np.stack([draws["z1"], draws["z2"]])
    np.testing.assert_allclose(joint.mean(1), mean, atol=0.01 + tolerance)
    np.testing.assert_allclose(np.cov(joint), cov, atol=0.01 + tolerance)
    elbo = inference.posterior.elbo(1000, seed=1)
    np.testing.assert_allclose(elbo.value, log_evidence, atol=5 * elbo.std_error + tolerance)
    # log q of its draws is the exact log density, joint as q is.
    few = inference.posterior.sample(100, seed=3)
    r = np.stack([few["z1"], few["z2"]]).T - mean
    exact = -0.5 * np.einsum("si,ij,sj->s", r, np.linalg.inv(cov), r) - 0.5 * np.log(np.linalg.det(2 * np.pi * cov))
    np.testing.assert_allclose(inference.posterior.log_prob(few), exact, atol=30 * tolerance)


def test_amortised_q_with_minibatches():
    """z_i ~ N(0, 1), x_i ~ N(z_i, 1): q(z_i) = N(a x_i + b, s) with a = 1/2, b = 0, s = sqrt(1/2) is exact."""
    rng = np.random.default_rng(2)
    data = rng.normal(size=500) * math.sqrt(2)
    batch = klqp.placeholder((20, 1), name="batch")
    z = klqp.Normal(0.0, 1.0, shape=(20, 1), name="z")
    x = klqp.Normal(z, 1.0, name="x")
    a, b, s = klqp.Parameter(np.zeros((1, 1))), klqp.Parameter(0.0), positive(1.0)
    inference = klqp.KLqp({z: klqp.Normal(batch @ a + b, s, shape=(20, 1))}, {x: batch})
    inference.initialize(n_iter=3000, n_samples=4, seed=1, scale={z: 25.0, x: 25.0})
    for _ in range(3000):
        inference.update({batch: data[rng.integers(0, 500, (20, 1))]})
    np.testing.assert_allclose(a.value, 0.5, atol=2e-3)
    np.testing.assert_allclose(b.value, 0.0, atol=2e-3)
    np.testing.assert_allclose(s.value, math.sqrt(0.5), atol=2e-3)
    # Where q is exact, minus the loss is the log evidence of the batch times N / M.
    values = data[:20, None]
    info = inference.update({batch: values})
    exact = 25 * (-0.5 * (values**2).sum() / 2 - 10 * math.log(2 * math.pi * 2))
    np.testing.assert_allclose(-info["loss"], exact, rtol=1e-3)


@pytest.mark.parametrize("gradient", ["reparameterised", "score"])
def test_unlisted_latents_are_drawn_from_their_prior(gradient):
    """nu ~ N(z, 1) is not listed: q(z) sees E_nu[log N(x | nu, 1)], so that nu is a fresh draw from its prior.

    The objective is E[-z^2 / 2 - (x - z)^2 / 2 - 1 / 2] + H: q(z) = N(x / 2, sqrt(1/2)).
    """
    z = klqp.Normal(0.0, 1.0, name="z")
    nu = klqp.Normal(z, 1.0, name="nu")
    x = klqp.Normal(nu, 1.0)
    inference = klqp.KLqp([z], {x: 2.0})
    inference.run(**{**LONG, "n_samples": 32, "gradient": gradient})
    assert list(inference.posterior) == ["z"]
    np.testing.assert_allclose(inference.posterior["z"].mean(), 1.0, atol=0.03)
    np.testing.assert_allclose(inference.posterior["z"].stddev(), math.sqrt(0.5), rtol=0.05)


@pytest.mark.parametrize("gradient", ["reparameterised", "score"])
def test_parameters_behind_unlisted_latents_are_learnt(gradient):
    theta = klqp.Parameter(0.0)
    z = klqp.Normal(0.0, 1.0, name="z")
    nu = klqp.Normal(theta, 0.1, name="nu")
    inference = klqp.KLqp([z], {klqp.Normal(nu, 1.0, shape=6): DATA, klqp.Normal(z, 1.0): 1.0})
    inference.run(**{**LONG, "n_iter": 2000, "gradient": gradient})
    np.testing.assert_allclose(theta.value, DATA.mean(), atol=0.02)


@pytest.mark.parametrize(
    "cls",
    [
        klqp.KLqp,
        klqp.ReparameterizationKLqp,
        klqp.ReparameterizationKLKLqp,
        klqp.ReparameterizationEntropyKLqp,
        klqp.ScoreKLqp,
        klqp.ScoreKLKLqp,
        klqp.ScoreEntropyKLqp,
        klqp.ScoreRBKLqp,
    ],
)
def test_maximum_likelihood_without_latents(cls):
    data = np.array([0, 1, 0, 0, 0, 0, 0, 0, 0, 1])
    logit = klqp.Parameter(0.0)
    inference = cls([], {klqp.Bernoulli(logits=logit, shape=10): data})
    inference.run(n_iter=1000, seed=1, progress=False)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit.value)), 0.2, atol=1e-4)
    np.testing.assert_allclose(inference.losses[-1], -(2 * math.log(0.2) + 8 * math.log(0.8)), atol=1e-6)
    assert "maximum likelihood" in inference.estimator


def test_regularizers_are_subtracted():
    """A quadratic penalty is a normal prior: the mode of a regression's posterior, by a dict and by a list."""
    rng = np.random.default_rng(1)
    features, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    exact = np.linalg.solve(features.T @ features + 2.0 * np.eye(3), features.T @ y)
    for make in (lambda w: {w: lambda p: klqp.sum(klqp.square(p))}, lambda w: [klqp.sum(klqp.square(w))]):
        w = klqp.Parameter(np.zeros(3))
        inference = klqp.KLqp([], {klqp.Normal(features @ w, 1.0): y}, regularizers=make(w))
        inference.run(n_iter=3000, seed=1, progress=False)
        np.testing.assert_allclose(w.value, exact, atol=1e-4)
        np.testing.assert_allclose(inference.history["penalty"][-1], (w.value**2).sum(), rtol=1e-3)


# --- posteriors in their own spaces ----------------------------------------------------------------------------
def constrained():
    a = klqp.Gamma(2.0, 1.0, shape=2, name="a")
    b = klqp.Beta(2.0, 3.0, name="b")
    c = klqp.Normal(0.0, 1.0, shape=(2, 2), name="c")
    u = klqp.Uniform(-1.0, 3.0, name="u")
    x = klqp.Normal(klqp.sum(a) + b + klqp.sum(c) + u, 0.5)
    return [a, b, c, u], {x: 3.0}


FAMILIES = ["mean_field", "full_rank", "low_rank"]


@pytest.mark.parametrize("q", FAMILIES)
def test_moments_of_joint_families_against_draws(q):
    latents, data = constrained()
    inference = klqp.KLqp(latents, data, q=q)
    inference.run(n_iter=500, **FAST)
    n = 200_000
    draws = inference.posterior.sample(n, seed=5)
    assert (draws["a"] > 0).all()
    assert ((draws["b"] > 0) & (draws["b"] < 1)).all()
    assert ((draws["u"] > -1) & (draws["u"] < 3)).all()
    for z in latents:
        marginal, values = inference.posterior[z], draws[z.name]
        assert values.shape == (n, *z.shape)
        assert marginal.mean().shape == marginal.stddev().shape == z.shape
        error = values.std(0) / math.sqrt(n)
        assert np.all(np.abs(marginal.mean() - values.mean(0)) < 5 * error)
        np.testing.assert_allclose(marginal.stddev(), values.std(0), rtol=0.02)
        np.testing.assert_allclose(marginal.variance(), marginal.stddev() ** 2, rtol=1e-12)
        flat = values.reshape(n, -1)
        cov = np.atleast_2d(np.cov(flat, rowvar=False))
        np.testing.assert_allclose(marginal.covariance(), cov, atol=0.04 * cov.diagonal().max())
        assert marginal.unconstrained.mean().shape == (z.size,)
    if q == "full_rank":  # the sum is known better than its parts, which must therefore vary together
        total = draws["a"].sum(1) + draws["b"] + draws["c"].sum((1, 2)) + draws["u"]
        apart = draws["a"].var(0).sum() + draws["b"].var() + draws["c"].var(0).sum() + draws["u"].var()
        assert total.var() < 0.5 * apart


@pytest.mark.parametrize("q", FAMILIES)
def test_log_prob_is_the_density_of_the_draws(q):
    """E_q[p~(z) / q(z)] = Z for any q: here for a normalised test density in the variables' own spaces."""
    latents, data = constrained()
    inference = klqp.KLqp(latents, data, q=q)
    inference.run(n_iter=300, **FAST)
    posterior = inference.posterior
    n = 20_000
    # The ELBO's own log q: log p - log q over the same draws.
    draws = posterior.sample(n, seed=5)
    log_p = sum(z.log_prob(draws[z.name]).reshape(n, -1).sum(1) for z in latents)
    mean = draws["a"].sum(1) + draws["b"] + draws["c"].sum((1, 2)) + draws["u"]
    log_p = log_p - 0.5 * ((3.0 - mean) / 0.5) ** 2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
    ratio = log_p - posterior.log_prob(draws)
    elbo = posterior.elbo(n, seed=6)
    error = math.hypot(elbo.std_error, ratio.std() / math.sqrt(n))
    assert abs(ratio.mean() - elbo.value) < 5 * error


@pytest.mark.parametrize("make_q", [None, "own"])
def test_log_prob_integrates_to_one(make_q):
    tau = klqp.Gamma(2.0, 1.0, name="tau")
    q = klqp.MeanFieldNormal() if make_q is None else klqp.LogNormal(klqp.Parameter(0.0), positive(0.5))
    inference = klqp.KLqp({tau: q}, {klqp.Normal(0.0, tau, shape=6): DATA})
    inference.run(n_iter=200, **FAST)
    grid = np.linspace(1e-4, 40.0, 400_001)
    density = np.exp(inference.posterior.log_prob(grid))
    assert abs(np.trapezoid(density, grid) - 1.0) < 1e-6
    np.testing.assert_allclose(np.trapezoid(density * grid, grid), inference.posterior["tau"].mean(), rtol=1e-2)
    np.testing.assert_array_equal(inference.posterior.log_prob([-1.0, 0.0]), -np.inf)


# --- logs, checks and memory -----------------------------------------------------------------------------------
def tags_of(folder):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    tags = {}
    for path in folder.rglob("events.out.tfevents.*"):
        blob, at = path.read_bytes(), 0
        while at < len(blob):
            length = int.from_bytes(blob[at : at + 8], "little")
            event = Event.FromString(blob[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                tags.setdefault(value.tag, []).append((event.step, value.simple_value))
    return tags


SCALARS = ("loss", "p_log_prob", "q_log_prob", "p_log_lik", "kl_penalty", "q_entropy", "reg_penalty")


def test_tensorboard_summaries_have_edwards_tags(tmp_path):
    pytest.importorskip("tensorboardX")
    model = Hierarchy("own")
    model.inference.run(n_iter=20, n_print=5, logdir=tmp_path, log_timestamp=False, **FAST)
    tags = tags_of(tmp_path)
    for name in SCALARS:
        assert (name if name == "loss" else f"loss/{name}") in tags
    for name in ("loc", "slope"):
        for kind in ("parameter", "gradient", "gradient_norm"):
            assert f"{kind}/{name}" in tags
    history = model.inference.history
    assert [step for step, _ in tags["loss"]] == [5, 10, 15, 20]
    for step, value in tags["loss"]:
        np.testing.assert_allclose(value, history["loss"][step - 1], rtol=1e-6)
    for step, value in tags["loss/p_log_prob"]:
        np.testing.assert_allclose(value, history["log_p"][step - 1], rtol=1e-6)
    assert all(value > 0 for _, value in tags["gradient_norm/loc"])
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    # What is logged does not change the run.
    plain = Hierarchy("own")
    plain.inference.run(n_iter=20, n_print=5, **FAST)
    assert_same(model.inference, plain.inference)


def test_tensorboard_log_vars_and_timestamp(tmp_path):
    pytest.importorskip("tensorboardX")
    model = Hierarchy("own")
    model.inference.initialize(n_iter=20, logdir=str(tmp_path), log_vars=[model.loc], **FAST)
    for _ in range(3):
        model.inference.update()
    model.inference.finalize()
    (folder,) = tmp_path.iterdir()
    assert re.fullmatch(r"\d{8}_\d{6}", folder.name)
    tags = tags_of(folder)
    assert len(tags["loss"]) == 3
    assert {tag for tag in tags if tag.startswith("parameter/")} == {"parameter/loc"}


def test_debug_stops_at_the_first_draw_that_is_not_finite():
    def inference():
        z = klqp.Normal(0.0, 1.0, name="z")
        return klqp.KLqp([z], {klqp.Normal(klqp.log(z + 2.5), 1.0, name="x"): 0.0})

    options = {"n_iter": 200, "n_samples": 8, "seed": 1, "progress": False, "init_scale": 1.0}
    tolerant = inference()
    tolerant.run(**options)
    first = int(np.flatnonzero(tolerant.history["n_rejected"])[0])
    strict = inference()
    with pytest.raises(klqp.TargetError, match=r"debug.*not finite.*'x'"):
        strict.run(debug=True, **options)
    assert len(strict.losses) == first + 1
    np.testing.assert_array_equal(strict.losses, tolerant.losses[: first + 1])
    assert_same(ran("own", debug=True), ran("own"))


def test_memory_does_not_grow():
    w, index, batch = klqp.Normal(0.0, 1.0, shape=50), klqp.placeholder(20, dtype=int), klqp.placeholder(20)
    y = klqp.Deterministic(lambda z: z**2, lambda c, z: 2 * z * c, w[index], shape=20)
    inference = klqp.KLqp([w], {klqp.Normal(y, 1.0): batch})
    inference.initialize(n_iter=10_000, n_samples=4, seed=1)
    rng = np.random.default_rng(0)

    def steps(n):
        for _ in range(n):
            inference.update({index: rng.integers(0, 50, 20), batch: rng.normal(size=20)})
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(gc.get_objects())

    kib, objects = steps(2000)
    more_kib, more_objects = steps(6000)
    assert more_objects - objects < 100
    assert more_kib - kib < 3000  # ten numbers a step are kept: 0.5 MB
