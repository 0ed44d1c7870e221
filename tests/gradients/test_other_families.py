"""Gradients in families that are not Normal: zero where q is the posterior, unbiased against quadrature, refusals."""

import math

import numpy as np
import pytest

import klqp
from klqp import _core
from klqp._sobol import directions

STUDENT_T = ("student_t", "mean_field_student_t")
REPARAMETERISED = [("reparameterised", e, "mean") for e in ("monte_carlo", "closed_form", "sticking", "adaptive")]
SCORES = [("score", "monte_carlo", baseline) for baseline in ("mean", "optimal")]
ESTIMATORS = [(name, e) for name in STUDENT_T for e in [*REPARAMETERISED, *SCORES, ("score", "closed_form", "mean")]]
ESTIMATORS += [(name, e) for name in ("mixture", "mean_field_mixture") for e in SCORES]
N_STEPS, N_DRAWS = 3000, 8


def spec_of(name, dim, scale="exp"):
    return _core.FamilySpec(name, dim, scale=scale, components=2 if name.endswith("mixture") else 0)


def make_run(spec, params, log_density, estimator, kind="mc", n_draws=N_DRAWS, seed=1):
    groups = 2 if kind == "sobol" and estimator[0] == "score" else 1
    table = directions(spec.noise_dim, int(math.log2(n_draws // groups))) if kind == "sobol" else None
    noise = _core.Noise(kind, n_draws, spec.noise_dim, seed, groups, *([] if table is None else [table]))
    return _core.Run(
        spec,
        _core.PythonTarget(log_density, [spec.dim], np.dtype(float), None),
        noise,
        _core.EstimatorSpec(*estimator),
        _core.OptimizerSpec("sgd", {}),
        _core.RunConfig(math.inf, math.inf, False, 1),
        params,
    )


@pytest.mark.parametrize("name", STUDENT_T)
@pytest.mark.parametrize("scale", ["exp", "softplus", "linear"])
@pytest.mark.parametrize("dim", [1, 3, 40])
def test_sticking_is_zero_where_q_is_the_target(name, scale, dim):
    """Degrees of freedom, location and factor: not a draw moves them."""
    spec, rng = spec_of(name, dim, scale), np.random.default_rng(dim)
    params = spec.start(rng.normal(size=dim), np.full(dim, 0.8), 0)
    params = spec.project(params + 0.2 * rng.normal(size=params.size))
    member = _core.Member(spec, params)
    run = make_run(
        spec, params, lambda z: (member.log_density(z), -member.precision_times(z)), ("reparameterised", "sticking")
    )
    gradients = np.array([run.gradient(step)[1] for step in range(30)])
    assert np.max(np.abs(gradients)) <= 1e-12 * dim


def log_target(z):
    """Two unequal bumps on a line, with tails that a Student-t's moments can bear."""
    x = z[:, 0]
    log_p = np.logaddexp(-0.5 * (x - 1.5) ** 2, -0.3 * (x + 1.0) ** 2 - 0.5)
    share = np.exp(-0.5 * (x - 1.5) ** 2 - log_p)
    return log_p, (share * (1.5 - x) + (1 - share) * -0.6 * (x + 1.0))[:, None]


def exact_elbo(spec, params):
    x = np.sinh(np.linspace(-9, 9, 40_001))
    member = _core.Member(spec, params)
    log_q = member.log_density(x[:, None])
    return float(np.trapezoid(np.exp(log_q) * (log_target(x[:, None])[0] - log_q), x))


def reference(spec):
    rng = np.random.default_rng(5)
    start = spec.start(np.array([0.3]), np.array([0.8]), 3)
    params = spec.project(start + 0.15 * rng.normal(size=start.size))

    def difference(step):
        shifts = step * np.eye(params.size)
        return np.array([exact_elbo(spec, params + s) - exact_elbo(spec, params - s) for s in shifts]) / (2 * step)

    return params, (4 * difference(5e-3) - difference(1e-2)) / 3


@pytest.mark.parametrize(("name", "estimator"), ESTIMATORS, ids=lambda x: x if isinstance(x, str) else "-".join(x))
@pytest.mark.parametrize("kind", ["mc", "antithetic", "sobol"])
def test_every_estimator_is_unbiased(name, estimator, kind):
    """Within 4 standard errors in each coordinate."""
    spec = spec_of(name, 1, {"mc": "exp", "antithetic": "linear", "sobol": "softplus"}[kind])
    params, exact = reference(spec)
    assert np.max(np.abs(exact)) > 0.05
    run = make_run(spec, params, log_target, estimator, kind, seed=2024)
    sample = np.array([run.gradient(step)[1] for step in range(N_STEPS)])
    error = sample.std(0, ddof=1) / math.sqrt(N_STEPS)
    assert np.all(np.abs(sample.mean(0) - exact) <= 4 * error + 1e-8)


# --- what is chosen, and refused ----------------------------------------------------------------------------------
def standard(z):
    return -0.5 * (z**2).sum(1), -z


def model():
    mu = klqp.Normal(0.0, 1.0, name="mu")
    return mu, klqp.Normal(mu, 1.0, shape=5)


def test_the_estimator_says_what_was_chosen_and_why():
    words = klqp.fit(standard, 2, q="mixture", n_iter=2, seed=1).estimator
    assert "score-function" in words
    assert "no derivative in the weights" in words
    assert "mixture of at most 8 full-rank Normals" in words
    words = klqp.fit(standard, 2, q=klqp.FullRankStudentT(df=5), n_iter=2, seed=1).estimator
    assert "full-rank Student-t with 5 degrees of freedom" in words
    assert "reparameterisation" in words
    mu, x = model()
    inference = klqp.KLqp([mu], data={x: np.ones(5)}, q="mixture")
    inference.run(n_iter=5, seed=1)
    assert "score-function" in inference.estimator


@pytest.mark.parametrize("kind", ["flat", "model"])
def test_reparameterisation_is_refused_for_mixtures(kind):
    def run(**options):
        if kind == "flat":
            return klqp.fit(standard, 2, q="mixture", n_iter=2, **options)
        mu, x = model()
        return klqp.KLqp([mu], data={x: np.ones(5)}, q="mixture").run(n_iter=2, **options)

    with pytest.raises(TypeError, match=r"no derivative|have no"):
        run(gradient="reparameterised")
    with pytest.raises((TypeError, ValueError), match="no formula"):
        run(entropy="closed_form")


def test_the_core_refuses_them_too():
    spec, start = spec_of("mixture", 1), spec_of("mixture", 1).start(np.zeros(1), np.ones(1), 0)
    with pytest.raises(ValueError, match="no derivative in its weights"):
        make_run(spec, start, log_target, ("reparameterised", "sticking"))
    with pytest.raises(ValueError, match="has no formula"):
        make_run(spec, start, log_target, ("score", "closed_form", "mean"))
    with pytest.raises(ValueError, match="proximal"):
        make_run(
            spec_of("student_t", 1, "linear"),
            spec_of("student_t", 1).start(np.zeros(1), np.ones(1), 0),
            log_target,
            ("reparameterised", "proximal"),
        )
