"""Gradients of models with discrete factors against exact ones, by enumeration and quadrature of the ELBO.

Every estimator and combination must be unbiased: means over 10^6 draws within 4 standard errors in every coordinate,
where the errors are small beside the gradient.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import expit, log_expit, logsumexp

import klqp

Y = np.array([0.4, 2.3, -0.7])


class Case(NamedTuple):
    """A model and q with their parameters, and the exact ELBO as a function of the flat vector."""

    latents: dict
    data: dict
    parameters: list[klqp.Parameter]
    elbo: Callable[[np.ndarray], float]


def normal_logpdf(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2 - np.log(scale) - 0.5 * math.log(2 * math.pi)


def bernoulli_logpmf(b, logits):
    return b * log_expit(logits) + (1 - b) * log_expit(-logits)


def binary(n):
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def mean_field() -> Case:
    """A pathwise factor beside a discrete one in a plate: y_n ~ N(w + 2 b_n, 1)."""
    w = klqp.Normal(0.0, 1.0, name="w")
    b = klqp.Bernoulli(logits=0.3 - 0.5 * w, shape=3, name="b")
    y = klqp.Normal(w + 2.0 * b, 1.0)
    loc, scale = klqp.Parameter(0.2), klqp.Parameter(0.6, support="positive")
    logits = klqp.Parameter([0.5, -0.3, 0.1])

    def elbo(x):
        wq, s, lq = x[0] + np.exp(x[1]) * NODES, np.exp(x[1]), x[2:]
        total = np.dot(WEIGHTS, normal_logpdf(wq, 0, 1)) + math.log(s) + 0.5 * math.log(2 * math.pi * math.e)
        for n in range(3):
            for k in (0.0, 1.0):
                p = expit(lq[n] if k else -lq[n])
                each = normal_logpdf(Y[n], wq + 2 * k, 1) + bernoulli_logpmf(k, 0.3 - 0.5 * wq)
                total += p * (np.dot(WEIGHTS, each) - math.log(p))
        return total

    latents = {w: klqp.Normal(loc, scale), b: klqp.Bernoulli(logits=logits)}
    return Case(latents, {y: Y}, [loc, scale, logits], elbo)


def pathwise_given_discrete() -> Case:
    """q(w | b): the draws that have a derivative are made from ones that have none."""
    b = klqp.Bernoulli(probs=0.4, shape=2, name="b")
    w = klqp.Normal(b, 1.0, name="w")
    y = klqp.Normal(w * (1.0 + b), 0.8)
    logits, slope, intercept = klqp.Parameter([0.5, -0.8]), klqp.Parameter([0.3, 0.6]), klqp.Parameter([0.1, 0.4])
    scale = klqp.Parameter(0.7, support="positive")
    qb = klqp.Bernoulli(logits=logits)
    qw = klqp.Normal(intercept + slope * qb, scale)

    def elbo(x):
        lq, a, c, s = x[:2], x[2:4], x[4:6], math.exp(x[6])
        total = 0.0
        for n, k in itertools.product(range(2), (0.0, 1.0)):
            p, wq = expit(lq[n] if k else -lq[n]), c[n] + a[n] * k + s * NODES
            each = normal_logpdf(wq, k, 1) + normal_logpdf(Y[n], wq * (1 + k), 0.8)
            inner = np.dot(WEIGHTS, each) + math.log(s) + 0.5 * math.log(2 * math.pi * math.e)
            total += p * (inner + math.log(0.4 if k else 0.6) - math.log(p))
        return total

    return Case({b: qb, w: qw}, {y: Y[:2]}, [logits, slope, intercept, scale], elbo)


def discrete_given_pathwise() -> Case:
    """q(b | w): the scores have a way through a draw with a derivative."""
    w = klqp.Normal(0.0, 1.0, name="w")
    b = klqp.Bernoulli(logits=w, shape=3, name="b")
    y = klqp.Normal(2.0 * b - w, 1.0)
    loc, scale = klqp.Parameter(0.2), klqp.Parameter(0.6, support="positive")
    slope, intercept = klqp.Parameter(0.7), klqp.Parameter([0.5, -0.3, 0.1])
    qw = klqp.Normal(loc, scale)
    qb = klqp.Bernoulli(logits=intercept + slope * qw)

    def elbo(x):
        s = math.exp(x[1])
        wq = x[0] + s * NODES
        total = np.dot(WEIGHTS, normal_logpdf(wq, 0, 1)) + math.log(s) + 0.5 * math.log(2 * math.pi * math.e)
        for n, k in itertools.product(range(3), (0.0, 1.0)):
            log_p = bernoulli_logpmf(k, x[3 + n] + x[2] * wq)
            each = normal_logpdf(Y[n], 2 * k - wq, 1) + bernoulli_logpmf(k, wq) - log_p
            total += np.dot(WEIGHTS, np.exp(log_p) * each)
        return total

    return Case({w: qw, b: qb}, {y: Y}, [loc, scale, slope, intercept], elbo)


W = np.array([[1.2, -0.7, 0.4], [-0.5, 0.9, 1.1]])


def two_layers() -> Case:
    """A belief network: x given z1 (2) given z2 (2), q(z2 | z1), model weights free."""
    z2 = klqp.Bernoulli(logits=[0.2, -0.4], name="z2")
    weights = klqp.Parameter([[0.8, -0.6], [0.5, 0.3]])
    z1 = klqp.Bernoulli(logits=z2 @ weights, name="z1")
    x = klqp.Bernoulli(logits=z1 @ W - 0.3)
    below, above, bias = (
        klqp.Parameter([0.4, -0.2]),
        klqp.Parameter([[0.6, -0.3], [0.2, 0.7]]),
        klqp.Parameter([0.1, 0.2]),
    )
    q1 = klqp.Bernoulli(logits=below)
    q2 = klqp.Bernoulli(logits=q1 @ above + bias)
    observed = np.array([1.0, 0.0, 1.0])

    def elbo(v):
        lower, upper, c, m = v[:2], v[2:6].reshape(2, 2), v[6:8], v[8:].reshape(2, 2)
        total = 0.0
        for a, b in itertools.product(binary(2), binary(2)):
            log_q = bernoulli_logpmf(a, lower).sum() + bernoulli_logpmf(b, a @ upper + c).sum()
            log_p = bernoulli_logpmf(b, np.array([0.2, -0.4])).sum() + bernoulli_logpmf(a, b @ m).sum()
            log_p += bernoulli_logpmf(observed, a @ W - 0.3).sum()
            total += math.exp(log_q) * (log_p - log_q)
        return total

    return Case({z1: q1, z2: q2}, {x: observed}, [below, above, bias, weights], elbo)


def assignments() -> Case:
    """A mixture with assignments: rows of a drawn array by a drawn index, in a plate."""
    mu = klqp.Normal(0.0, 2.0, shape=3, name="mu")
    z = klqp.Categorical(probs=[0.5, 0.3, 0.2], shape=3, name="z")
    y = klqp.Normal(mu[z], 0.7)
    loc, scale = klqp.Parameter([-0.5, 0.3, 1.5]), klqp.Parameter([0.5, 0.4, 0.6], support="positive")
    logits = klqp.Parameter([[0.2, -0.1, 0.3], [0.0, 0.5, -0.4], [1.0, 0.1, -0.2]])

    def elbo(x):
        m, s, logit = x[:3], np.exp(x[3:6]), x[6:].reshape(3, 3)
        log_q = logit - logsumexp(logit, axis=1, keepdims=True)
        expected = np.array(
            [[np.dot(WEIGHTS, normal_logpdf(y, m[k] + s[k] * NODES, 0.7)) for k in range(3)] for y in Y]
        )
        total = np.sum(np.exp(log_q) * (expected + np.log([0.5, 0.3, 0.2]) - log_q))
        prior = sum(np.dot(WEIGHTS, normal_logpdf(m[k] + s[k] * NODES, 0, 2)) for k in range(3))
        return total + prior + np.log(s).sum() + 1.5 * math.log(2 * math.pi * math.e)

    return Case({mu: klqp.Normal(loc, scale), z: klqp.Categorical(logits=logits)}, {y: Y}, [loc, scale, logits], elbo)


CASES = {f.__name__: f for f in (mean_field, pathwise_given_discrete, discrete_given_pathwise, two_layers, assignments)}

ESTIMATORS = {
    "leave-one-out": (klqp.KLqp, {"enumerate": False}),
    "two draws": (klqp.KLqp, {"enumerate": False, "n_samples": 2}),
    "optimal": (klqp.KLqp, {"enumerate": False, "baseline": "optimal", "n_samples": 8}),
    "running": (klqp.KLqp, {"enumerate": False, "baseline": "running"}),
    "one draw": (klqp.KLqp, {"enumerate": False, "baseline": "running", "n_samples": 1}),
    "no baseline": (klqp.KLqp, {"enumerate": False, "baseline": "none"}),
    "closed-form entropy": (klqp.KLqp, {"enumerate": False, "entropy": "closed_form"}),
    "antithetic": (klqp.KLqp, {"enumerate": False, "draws": "antithetic"}),
    "sobol": (klqp.KLqp, {"enumerate": False, "draws": "sobol", "n_samples": 128}),
    "exact sums": (klqp.KLqp, {}),
    "all scores": (klqp.ScoreKLqp, {}),
    "all scores, blankets": (klqp.ScoreRBKLqp, {}),
    "all scores, closed-form entropy": (klqp.ScoreEntropyKLqp, {}),
}


def exact_gradient(case: Case, x: np.ndarray) -> np.ndarray:
    h = 1e-5
    return np.array([(case.elbo(x + h * e) - case.elbo(x - h * e)) / (2 * h) for e in np.eye(len(x))])


def compiled(case: Case, cls, options) -> tuple[klqp.VariationalInference, np.ndarray]:
    """Return an inference at its start, and the case's parameters in the order of the run's flat vector."""
    inference = cls(case.latents, data=case.data)
    inference.initialize(**{"n_samples": 100, "seed": 3, **options})
    offsets = inference._engine.compiled.layout.offsets
    order = np.concatenate([np.arange(offsets[p], offsets[p] + p.n_unconstrained) for p in case.parameters])
    return inference, order


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_unbiased(name, estimator):
    case = CASES[name]()
    cls, options = ESTIMATORS[estimator]
    inference, order = compiled(case, cls, options)
    run = inference._engine.run
    exact = exact_gradient(case, run.params[order])
    n = min(40_000, 1_000_000 // inference._engine.settings.n_samples)
    first = 1 if options.get("baseline") == "running" else 0  # the first step only teaches the baseline
    draws = np.array([run.gradient(t)[1][order] for t in range(n + first)])[first:]
    error = draws.std(0, ddof=1) / math.sqrt(n)
    assert np.all(error < 0.03 * np.abs(exact).max()), "too noisy to see a bias"
    np.testing.assert_array_less(np.abs(draws.mean(0) - exact), 4.0 * error + 1e-8)


def test_exact_sums_leave_no_noise():
    """All factors discrete: the gradient is the exact one, whatever the draws."""
    case = two_layers()
    inference, order = compiled(case, klqp.KLqp, {"n_samples": 1})
    assert inference.estimator.count("exact sums") == 2
    elbo, gradient = inference._engine.run.gradient(0)
    x = inference._engine.run.params[order]
    assert elbo == pytest.approx(case.elbo(x), abs=1e-12)
    np.testing.assert_allclose(gradient[order], exact_gradient(case, x), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["mean_field", "two_layers"])
@pytest.mark.parametrize("options", [{}, {"baseline": "optimal"}], ids=str)
def test_noise_falls_as_one_over_the_root_of_the_draws(name, options):
    """Edward's Rao-Blackwellised scores used one draw whatever n_samples was. S - 1 draws make a baseline."""
    case, noise = CASES[name](), {}
    for s in (8, 32, 128):
        inference, _ = compiled(case, klqp.KLqp, {"enumerate": False, "n_samples": s, **options})
        noise[s] = math.hypot(*(each.noise for each in inference.gradient_noise(2000, seed=5).values()))
    assert noise[8] / noise[32] == pytest.approx(2.0, rel=0.12)
    assert noise[32] / noise[128] == pytest.approx(2.0, rel=0.12)


def test_blankets_take_noise_away():
    """The variance of an event's score no longer grows with the size of its plate."""
    noise = {}
    for n in (10, 90):
        for cls in (klqp.ScoreKLqp, klqp.ScoreRBKLqp):
            b = klqp.Bernoulli(probs=0.3, shape=n, name="b")
            y = klqp.Normal(2.0 * b, 1.0)
            q = klqp.Bernoulli(logits=klqp.Parameter(np.zeros(n)))
            inference = cls({b: q}, data={y: np.linspace(-1.0, 3.0, n)})
            inference.initialize(n_samples=10, seed=1)
            noise[cls, n] = inference.gradient_noise(1000, seed=2)["b"].noise / math.sqrt(n)
    assert noise[klqp.ScoreRBKLqp, 90] == pytest.approx(noise[klqp.ScoreRBKLqp, 10], rel=0.2)
    assert noise[klqp.ScoreKLqp, 90] > 2.0 * noise[klqp.ScoreKLqp, 10]
    assert noise[klqp.ScoreKLqp, 90] > 5.0 * noise[klqp.ScoreRBKLqp, 90]
