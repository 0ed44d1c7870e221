"""linear_response(): exact on Normals, the derivative of the optimum elsewhere, and error bars that hold."""

import math
import pickle
import warnings

import numpy as np
import pytest
from scipy import stats

import klqp
from klqp import _core
from klqp.inference import response as response_module
from klqp.inference.auto import saa
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.saa import Frame, Objective
from klqp.inference.flat_view import FlatView
from klqp.inference.gaussian import pack, unpack
from klqp.inference.response import Response
from klqp.targets import make_target

FAMILIES = [("mean_field", None), ("low_rank", 1), ("full_rank", None)]


def correlated(dim, correlation=0.95):
    """A Normal with one correlation, and units from a hundredth to a thousand."""
    units = np.geomspace(1e-2, 1e3, dim)
    cov = (correlation * np.ones((dim, dim)) + (1 - correlation) * np.eye(dim)) * np.outer(units, units)
    precision, loc = np.linalg.inv(cov), 3.0 * units

    def fn(z):
        g = -(z - loc) @ precision
        return 0.5 * ((z - loc) * g).sum(1), g

    return fn, cov


FACTOR = np.array([1.0, -0.8, 0.6])
# The root of (I + b b^T)^-1, so that a low-rank q with one column suits the covariance.
MIX = np.eye(3) - np.outer(FACTOR, FACTOR) / (FACTOR @ FACTOR) * (1 - 1 / math.sqrt(1 + FACTOR @ FACTOR))


def skewed(z):
    """Logarithms of Gamma(3, 1) numbers, mixed: correlated and far from Normal."""
    y = z @ MIX
    return (3 * y - np.exp(y)).sum(1), (3 - np.exp(y)) @ MIX.T


def tilted(direction):
    return lambda z: (skewed(z)[0] + z @ direction, skewed(z)[1] + direction)


def separate(z):
    """Logarithms of Gamma(3, 1) numbers."""
    return (3 * z - np.exp(z)).sum(1), 3 - np.exp(z)


def fit(fn, dim, q="mean_field", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", klqp.PoorFitWarning)  # mean field is a poor fit to all of these
        return klqp.fit(fn, dim, q=q, **({"seed": 1} | options))


# --- exact ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("q", "dim"), [(q, dim) for q, _ in FAMILIES for dim in (2, 5, 50) if (q, dim) != ("full_rank", 50)]
)
def test_the_covariance_of_a_normal_is_exact(q, dim):
    fn, cov = correlated(dim)
    inference = fit(fn, dim, q, rank=1 if q == "low_rank" and dim < 50 else None)
    response, sd = inference.linear_response(seed=2), np.sqrt(np.diag(cov))
    np.testing.assert_allclose(response["z"].covariance() / np.outer(sd, sd), cov / np.outer(sd, sd), atol=1e-8)
    np.testing.assert_allclose(response["z"].stddev(), sd, rtol=1e-8)
    np.testing.assert_allclose(response["z"].variance(), sd**2, rtol=1e-8)
    np.testing.assert_array_equal(response["z"].mean(), inference.posterior["z"].mean())
    # With exact moments of the base draws any of them lead to the same optimum.
    np.testing.assert_allclose(response.std_error()["z"] / sd, 0.0, atol=1e-8)


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_an_ill_conditioned_normal():
    """Variances from 1 to a million along random axes; mean field finds less than a tenth of the deviations."""
    dim = 50
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))[0]
    variances = np.geomspace(1.0, 1e6, dim)
    cov, precision = (axes * variances) @ axes.T, (axes / variances) @ axes.T
    inference = fit(lambda z: (-0.5 * ((z @ precision) * z).sum(1), -z @ precision), dim)
    sd = np.sqrt(np.diag(cov))
    assert np.all(inference.posterior["z"].stddev() < 0.1 * sd)
    np.testing.assert_allclose(inference.linear_response(seed=2)["z"].stddev(), sd, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_a_model_with_a_normal_posterior():
    """Linear regression with known noise, by latent variable and by linear combination."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 2)) + 2.0
    w, b = klqp.Normal(0.0, 2.0, shape=2, name="w"), klqp.Normal(0.0, 5.0, name="b")
    y = klqp.Normal(x @ w + b, 0.5)
    inference = klqp.KLqp([w, b], data={y: x @ [1.0, -1.0] + rng.normal(size=40)})
    inference.run(seed=1)
    design = np.column_stack([x, np.ones(40)])
    cov = np.linalg.inv(design.T @ design / 0.25 + np.diag([1 / 4, 1 / 4, 1 / 25]))
    response = inference.linear_response(seed=2)
    assert set(response) == {"w", "b"}
    np.testing.assert_allclose(response[w].covariance(), cov[:2, :2], rtol=1e-7)
    np.testing.assert_allclose(response["b"].stddev(), math.sqrt(cov[2, 2]), rtol=1e-7)
    line = np.array([1.5, 0.5, 1.0])
    predicted = response.along({w: line[None, :2], "b": line[None, 2:]})
    np.testing.assert_allclose(predicted, [[line @ cov @ line]], rtol=1e-7)
    np.testing.assert_allclose(response.along({"b": [[2.0]]}), [[4 * cov[2, 2]]], rtol=1e-7)
    draws = response.sample(20_000, seed=4)
    joint = np.column_stack([draws["w"], draws["b"]])
    units = np.outer(*2 * [np.sqrt(np.diag(cov))])
    np.testing.assert_allclose(np.cov(joint.T) / units, cov / units, atol=6 / math.sqrt(20_000))
    exact = stats.multivariate_normal([*response[w].mean(), response[b].mean()], cov)
    np.testing.assert_allclose(response.log_prob({k: v[:5] for k, v in draws.items()}), exact.logpdf(joint[:5]))
    # The Normal is the posterior: its weights are all one.
    assert response.elbo(1000, seed=5).std_error < 1e-5
    assert inference.posterior.elbo(1000, seed=5).std_error > 0.01


# --- the derivative of the optimum ----------------------------------------------------------------------------
N_DRAWS = 128


def view_of(fn, q, rank, units=None):
    scaled = fn if units is None else lambda z: (fn(z / units)[0], fn(z / units)[1] / units)
    return FlatView(make_target(scaled, (3,), np.float64), _core.FamilySpec(q, 3, rank=rank or 0), (("z", 3),))


def start_of(q, rank):
    rest = np.zeros((3, 3)) if q == "full_rank" else np.array([[0.4], [-0.2], [0.1]])[:, : rank or 0]
    return Candidate(np.array([0.5, 0.2, 0.5]), np.full(3, 0.4), rest, "a test", 0)


def differences(objective, params, h=1e-5):
    gradients = [objective(params + step)[1] - objective(params - step)[1] for step in h * np.eye(len(params))]
    hessian = np.array(gradients) / (2 * h)
    return 0.5 * (hessian + hessian.T)


def optimum(fn, q, rank, key):
    """Return parameters, in z, of the optimum over the draws that `Response` takes with this key, by Newton steps."""
    view = view_of(fn, q, rank)
    one = Candidate(np.zeros(3), np.ones(3), np.zeros((3, 3)), "units", 0)
    frame = Frame.of(view.spec, one)  # y = z
    noise = base_draws(N_DRAWS, view.spec.noise_dim, key, response_module._FIRST_SCRAMBLE)
    objective, start = Objective(Counted(view), frame, noise), start_of(q, rank)
    params = pack(frame.spec, start.loc, start.scale, start.rest)
    for _ in range(60):
        _, gradient = objective(params)
        values, vectors = np.linalg.eigh(differences(objective, params))
        step = vectors @ (vectors.T @ gradient / np.maximum(np.abs(values), 1e-3))
        params = params - step * min(1.0, 0.5 / np.linalg.norm(step))
    assert np.linalg.norm(gradient) < 1e-9
    return view, params, objective


@pytest.mark.parametrize(("q", "rank"), FAMILIES)
def test_it_is_the_inverse_of_the_hessian(q, rank, monkeypatch):
    """In another parameterisation, by logarithms of scales, from a dense Hessian of the objective."""
    monkeypatch.setattr(response_module, "_RIDGE", 0.0)
    view, params, objective = optimum(skewed, q, rank, key=7)
    found = Response(view, params, N_DRAWS, None, key=7)
    exact = np.linalg.inv(differences(objective, params))[:3, :3]
    np.testing.assert_allclose(found.covariance(slice(0, 3)), exact, rtol=1e-5)
    np.testing.assert_allclose(found.variance(slice(1, 3)), np.diag(exact)[1:], rtol=1e-5)
    own = np.diag(_core.Member(view.spec, params).covariance())
    assert np.abs(np.diag(exact) / own - 1.0).max() > 0.02  # there is something to respond


@pytest.mark.parametrize(("q", "rank"), FAMILIES)
def test_it_is_how_the_location_moves_under_a_tilt(q, rank, monkeypatch):
    monkeypatch.setattr(response_module, "_RIDGE", 0.0)
    view, params, _ = optimum(skewed, q, rank, key=8)
    direction, t = np.array([1.0, 0.0, -0.5]), 1e-3
    up, down = (optimum(tilted(sign * t * direction), q, rank, key=8)[1][:3] for sign in (1, -1))
    found = Response(view, params, N_DRAWS, None, key=8)
    moved = found.along(np.concatenate([direction[None], np.eye(3)]))[0, 1:]
    np.testing.assert_allclose((up - down) / (2 * t), moved, rtol=1e-4, atol=1e-5)


def test_weak_columns_of_a_low_rank_q_are_held():
    """More columns than the posterior needs have no curvature of their own; they do not disturb the rest."""
    _, params, objective = optimum(separate, "mean_field", None, key=9)
    exact = np.linalg.inv(differences(objective, params))[:3, :3]
    wide = view_of(separate, "low_rank", 2)
    columns = pack(wide.spec, np.zeros(3), np.ones(3), 1e-3 * FACTOR[:, None] * [1.0, 2.0])[6:]
    found = Response(wide, np.concatenate([params, columns]), N_DRAWS, None, key=9).covariance(slice(0, 3))
    sd = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(found / np.outer(sd, sd), exact / np.outer(sd, sd), atol=0.02)


@pytest.mark.parametrize(("q", "rank"), FAMILIES)
def test_units_do_not_matter(q, rank):
    units = np.array([1e4, 1.0, 1e-5])
    plain, params, _ = optimum(skewed, q, rank, key=3)
    scaled = view_of(skewed, q, rank, units)
    loc, scale, rest = unpack(plain.spec, params)
    params = [params, pack(scaled.spec, loc * units, scale * units, rest * units[:, None])]
    a, b = (Response(view, p, N_DRAWS, N_DRAWS, key=3) for view, p in zip((plain, scaled), params, strict=True))
    whole = slice(0, 3)
    np.testing.assert_allclose(b.covariance(whole) / np.outer(units, units), a.covariance(whole), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(b.std_error / units, a.std_error, rtol=1e-5)


def test_it_repairs_what_mean_field_loses():
    """Against moments of the posterior itself: those of log-gamma numbers, unmixed."""
    cov = np.linalg.inv(MIX).T @ np.linalg.inv(MIX) * float(np.pi**2 / 6 - 1 - 1 / 4)  # trigamma(3)
    sd = np.sqrt(np.diag(cov))
    inference = fit(skewed, 3)
    own, response = inference.posterior["z"].stddev(), inference.linear_response(seed=2)["z"]
    assert np.abs(own / sd - 1.0).max() > 0.2
    assert np.abs(response.stddev() / sd - 1.0).max() < 0.05
    assert np.abs(response.covariance() - cov).max() < 0.05 * sd.max() ** 2


# --- error bars -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("q", "rank"), [("mean_field", None), ("low_rank", 1)])
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_standard_errors_are_the_spread_of_optima(q, rank, monkeypatch):
    """Over 40 seeds with 32 draws: the mean square of each is known to 2 / 39, that of the errors to 2 / 31 / 5."""
    monkeypatch.setattr(saa, "n_draws_at_first", lambda spec: 32)
    for name, value in (("GOAL", math.inf), ("MOST", math.inf), ("TOLERANCE", 1e-10)):
        monkeypatch.setattr(saa, name, value)
    fits = [fit(skewed, 3, q, rank=rank, method="saa", seed=s) for s in range(40)]
    optima = np.array([f.posterior["z"].mean() for f in fits])
    spread = optima.var(0, ddof=1)
    errors = np.array([f.linear_response(seed=100 + i).std_error()["z"] for i, f in enumerate(fits[:5])])
    said = (errors**2).mean(0)
    assert np.all(np.abs(spread / said - 1.0) < 4 * math.sqrt(2 / 39 + 2 / 31 / 5))


# --- constrained variables ------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_constrained_variables_come_back_in_their_space():
    mu, sigma = klqp.Normal(0.0, 10.0, name="mu"), klqp.HalfCauchy(0.0, 1.0, name="sigma")
    p = klqp.Dirichlet(np.full(3, 4.0), name="p")
    x, n = klqp.Normal(mu, sigma, shape=20), klqp.Multinomial(20, probs=p)
    data = np.random.default_rng(5).normal(1.0, 2.0, size=20)
    inference = klqp.KLqp([mu, sigma, p], data={x: data, n: [4, 6, 10]})
    inference.run(seed=1)
    response = inference.linear_response(seed=2)
    loc, v = response[sigma].unconstrained.mean(), response[sigma].unconstrained.variance()
    assert np.shape(response[sigma].mean()) == ()
    np.testing.assert_allclose(response[sigma].mean(), np.exp(loc + v / 2).item(), rtol=1e-10)
    np.testing.assert_allclose(
        response[sigma].stddev(), (np.exp(loc + v / 2) * np.sqrt(np.expm1(v))).item(), rtol=1e-10
    )
    assert response[sigma].sample(100, seed=1).min() > 0
    # A Dirichlet(8, 10, 14): its fixed draws and others agree, and the simplex is one.
    alpha = np.array([8.0, 10.0, 14.0])
    np.testing.assert_allclose(response["p"].mean(), alpha / 32, atol=0.005)
    np.testing.assert_allclose(response["p"].stddev(), np.sqrt(alpha * (32 - alpha) / 32**2 / 33), rtol=0.05)
    draws = response["p"].sample(20_000, seed=3)
    np.testing.assert_allclose(draws.sum(1), 1.0)
    np.testing.assert_allclose(draws.mean(0), response["p"].mean(), atol=8 * 0.09 / math.sqrt(20_000))
    np.testing.assert_allclose(np.diag(response["p"].covariance()), response["p"].variance(), rtol=1e-10)
    assert response["p"].unconstrained.covariance().shape == (2, 2)
    assert response.std_error()["p"].shape == (2,)
    assert "sigma" in str(response.summary())


# --- many dimensions ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("q", "rank"), [("mean_field", None), ("low_rank", 2)])
def test_many_dimensions_pay_for_what_is_asked_alone(q, rank):
    dim, points = 700, []  # beyond the (D, D) matrices of smaller problems
    u = np.sin(np.arange(dim))
    scale = np.geomspace(0.1, 10.0, dim)

    def fn(z):  # precision I + u u^T / 100, in units
        points.append(len(z))
        y = z / scale
        g = -y - 0.01 * (y @ u)[:, None] * u
        return 0.5 * (y * g).sum(1), g / scale

    inference = klqp.KLqp([klqp.LogDensity(fn, shape=dim)], q=q, rank=rank)
    inference.initialize(seed=1, init_scale=scale / np.sqrt(1 + 0.01 * u**2))
    response = inference.linear_response(64, seed=2)
    points.clear()
    directions = np.zeros((2, dim))
    directions[0, 3], directions[1] = 1.0, u / scale
    found = response.along(directions)
    assert sum(points) < 2 * 2 * 64 * 20
    assert len(points) < 20
    inverse = 0.01 / (1 + 0.01 * u @ u)
    np.testing.assert_allclose(found[0, 0], scale[3] ** 2 * (1 - inverse * u[3] ** 2), rtol=1e-7)
    np.testing.assert_allclose(found[1, 1], u @ u - inverse * (u @ u) ** 2, rtol=1e-7)
    assert response._approximation.response._columns is None


# --- the object -----------------------------------------------------------------------------------------------
def test_same_seed_same_bits():
    inference = fit(skewed, 3)
    one, two = (inference.linear_response(seed=s)["z"].covariance() for s in (3, 3))
    assert np.array_equal(one, two)
    again = fit(skewed, 3, n_threads=2).linear_response(seed=3)
    assert np.array_equal(one, again["z"].covariance())
    other = inference.linear_response(seed=4)["z"].covariance()
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, rtol=0.05)


def test_steps_have_no_error_bars():
    inference = fit(skewed, 3, n_iter=4000)
    response = inference.linear_response(seed=2)
    assert response.std_error() is None
    exact = fit(skewed, 3).linear_response(seed=2)["z"].stddev()
    np.testing.assert_allclose(response["z"].stddev(), exact, rtol=0.05)


def test_pickles():
    response = fit(lambda z: skewed(z), 3).linear_response(seed=2)  # a lambda: lost in the pickle
    other = pickle.loads(pickle.dumps(response))
    assert np.array_equal(other["z"].covariance(), response["z"].covariance())
    assert np.array_equal(other.std_error()["z"], response.std_error()["z"])
    assert np.array_equal(other.sample(5, seed=1)["z"], response.sample(5, seed=1)["z"])
    with pytest.raises(ValueError, match="could not be pickled"):
        other.along(np.ones((1, 3)))
    kept = pickle.loads(pickle.dumps(fit(skewed, 3).linear_response(seed=2)))
    np.testing.assert_allclose(kept.along(np.eye(3)), kept["z"].covariance(), rtol=1e-6)


def test_a_pickled_response_of_a_model():
    rate = klqp.Gamma(2.0, 1.0, name="rate")
    y = klqp.Poisson(rate, shape=4)
    inference = klqp.KLqp([rate], data={y: [3, 1, 4, 2]})
    inference.run(seed=1)
    response = inference.linear_response(seed=2)
    other = pickle.loads(pickle.dumps(response))
    assert other["rate"].stddev() == response[rate].stddev()
    assert other.elbo(100, seed=1) == response.elbo(100, seed=1)


# --- refusals -------------------------------------------------------------------------------------------------
def test_no_optimum_is_refused():
    def two_modes(z):
        return (np.logaddexp(5 * z, -5 * z) - 0.5 * z**2).sum(1), 5 * np.tanh(5 * z) - z

    inference = klqp.KLqp([klqp.LogDensity(two_modes, shape=2)])
    inference.initialize(seed=1, init_scale=0.1)
    with (
        pytest.warns(klqp.PoorFitWarning, match="did not converge"),
        pytest.raises(RuntimeError, match="not at an optimum"),
    ):
        inference.linear_response(seed=2)


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_improper_posteriors_are_refused():
    inference = fit(lambda z: (-0.5 * (z.sum(1) - 1) ** 2, (1 - z.sum(1))[:, None] + 0 * z), 2)
    with pytest.raises(RuntimeError, match="not at an optimum"):
        inference.linear_response(seed=2)


def test_a_run_that_is_too_short_is_warned_of():
    inference = fit(skewed, 3, n_iter=5)
    with pytest.warns(klqp.PoorFitWarning, match="did not converge .*linear response holds at an optimum alone"):
        inference.linear_response(seed=2)


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_draws_without_a_log_density_are_refused():
    inference = fit(skewed, 3, n_iter=4000)

    def half(z):
        logp, grad = skewed(z)
        return np.where(z[:, 0] > inference.posterior["z"].mean()[0], np.nan, logp), grad

    other = klqp.KLqp([klqp.LogDensity(half, shape=3, name="z")])
    other.initialize(seed=1)
    other._engine.run.set_params(inference._engine.run.params)
    with pytest.raises(klqp.TargetError, match=r"not finite at \d+ of 128 draws of q"):
        other.linear_response(seed=2)


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_systems_that_are_not_solved_are_warned_of(monkeypatch):
    monkeypatch.setattr(response_module, "_MAX_ITER", 1)
    with pytest.warns(klqp.PoorFitWarning, match="were not solved in 1 iterations"):
        fit(skewed, 3).linear_response(seed=2)


def test_arguments():
    inference = fit(skewed, 3)
    with pytest.raises(ValueError, match="at least 16, not 15"):
        inference.linear_response(15)
    with pytest.raises(TypeError, match="positive integer"):
        inference.linear_response(64.5)
    with pytest.raises(RuntimeError, match="no run yet"):
        klqp.KLqp([klqp.LogDensity(skewed, shape=3)]).linear_response()
    with pytest.raises(ValueError, match="log density with gradients"):
        fit(lambda z: skewed(z)[0], 3, n_iter=10).linear_response()
    response = inference.linear_response(64, seed=1)
    with pytest.raises(KeyError, match="no latent variable 'y'"):
        response["y"]
    with pytest.raises(KeyError, match="no latent variable 'y'"):
        response.along({"y": np.eye(3)})
    with pytest.raises(ValueError, match="shape"):
        response.along(np.ones((2, 2)))
    with pytest.raises(ValueError, match="directions is empty"):
        response.along({})
    p = klqp.Beta(1.0, 1.0, name="p")
    y = klqp.Bernoulli(probs=p, shape=3)
    q = klqp.Beta(klqp.Parameter(1.0, support="positive"), klqp.Parameter(1.0, support="positive"))
    other = klqp.KLqp({p: q}, data={y: [1, 0, 1]})
    other.run(n_iter=10, seed=1)
    with pytest.raises(ValueError, match="needs one Normal family"):
        other.linear_response()
