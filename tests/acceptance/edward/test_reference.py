"""The references hold by themselves: gradients by differences, ELBOs by Monte Carlo, and the numbers of the page."""

import math

import numpy as np
import pytest
from scipy import stats

from . import reference as r

SMALL = {
    "breast cancer": r.breast_cancer,
    "Rasch": lambda: r.rasch()[1],
    "crabs": lambda: r.crabs()[1],
    "Cox process": lambda: r.cox_process()[1],
    "eight schools": r.EightSchools,
    "factorisation": r.matrix_factorisation,
    "neural network": r.NeuralNetwork,
    "item response": lambda: r.item_response(30, 20, 200),
    "latent space": r.LatentSpace,
    "deep exponential family": r.DeepExponential,
}


@pytest.mark.parametrize("name", SMALL)
def test_elbo_has_its_gradient_and_is_the_expectation(name):
    model = SMALL[name]()
    rng = np.random.default_rng(0)
    mean, sd = 0.5 * rng.normal(size=model.dim), rng.uniform(0.1, 0.4, model.dim)
    value, by_mean, by_sd = model.elbo(mean, sd)
    for _ in range(3):
        step, widen = 1e-5 * rng.normal(size=(2, model.dim))
        difference = 0.5 * (model.elbo(mean + step, sd + widen)[0] - model.elbo(mean - step, sd - widen)[0])
        assert difference == pytest.approx(by_mean @ step + by_sd @ widen, rel=1e-5, abs=1e-9)
    z = mean + sd * rng.normal(size=(4000, model.dim))
    ratio = np.concatenate([model.log_joint(part) for part in np.split(z, 20)]) - r.normal_logpdf(z, mean, sd).sum(1)
    assert abs(ratio.mean() - value) < 4 * ratio.std() / math.sqrt(4000)


@pytest.mark.parametrize("name", ["breast cancer", "eight schools", "Cox process", "deep exponential family"])
def test_optimum_is_one(name):
    model = SMALL[name]()
    best = model.optimum
    assert r.shortfall(model.elbo, best.mean, best.sd) < 1e-10
    # And the shortfall is what its name says, for small steps away.
    off = best.mean + 0.02 * best.sd
    loss = best.elbo - model.elbo(off, best.sd)[0]
    assert 0 < loss < 0.01 * model.dim


def test_case_1():
    x, exact = r.normal_normal()
    assert -exact.log_z == pytest.approx(47.9128, abs=5e-5)
    assert exact.sd[0] == pytest.approx(0.14003, abs=5e-6)
    marginal = stats.multivariate_normal(np.zeros(50), np.eye(50) + np.ones((50, 50))).logpdf(x)
    assert exact.log_z == pytest.approx(marginal, rel=1e-12)


def test_defect_1():
    exact = r.hierarchy(np.full(10, 4.0))
    assert exact.mean[0] == pytest.approx(3.556, abs=5e-4)
    assert exact.mean_field.sd[0] == pytest.approx(0.3015, abs=5e-5)
    covariance = 1.25 * np.eye(10) + np.ones((10, 10))
    evidence = stats.multivariate_normal(np.zeros(10), covariance).logpdf(np.full(10, 4.0))
    assert exact.log_z == pytest.approx(evidence, rel=1e-12)
    assert exact.mean_field.elbo < exact.log_z


def test_case_3():
    assert r.softplus_normal().optimum.elbo == pytest.approx(0, abs=1e-12)
    assert -0.02 < r.gamma_prior("softplus").optimum.elbo < 0
    # By exp it is known in closed form: E z = 1 / 2 and a log sd of 1, so that -KL is (log 2 pi - 2) / 2.
    gamma = r.gamma_prior()
    assert gamma.optimum.elbo == pytest.approx(0.5 * math.log(2 * math.pi) - 1, abs=1e-10)
    assert gamma.moments() == pytest.approx((0.5, 0.5 * math.sqrt(math.e - 1)), rel=1e-6)
    beta = r.beta_bernoulli()
    log_z = math.log(math.factorial(3) * math.factorial(7) / math.factorial(11))
    assert log_z - 0.005 < beta.optimum.elbo < log_z
    mean, sd = beta.moments()
    assert mean == pytest.approx(1 / 3, abs=1e-6)
    assert sd**2 == pytest.approx(0.01709, rel=0.02)


def test_case_4():
    X, y, exact = r.regression()
    evidence = stats.multivariate_normal(np.zeros(40), np.eye(40) + X @ X.T).logpdf(y)
    assert exact.log_z == pytest.approx(evidence, rel=1e-10)


def test_case_6():
    """Edward's mean-field fit was right, and is 0.4 from the exact mean: the family, not the fit."""
    schools = r.EightSchools()
    best = schools.optimum
    assert -best.elbo == pytest.approx(36.8, abs=0.05)
    np.testing.assert_allclose([best.mean[0], best.sd[0]], [6.19, 3.77], atol=0.02)
    np.testing.assert_allclose([best.mean[1], best.sd[1]], [2.298, 0.348], atol=0.003)
    mu, mu_sd, t, t_sd, log_z = schools.exact()
    np.testing.assert_allclose([mu, t], [5.84, 2.45], atol=0.05)
    assert mu_sd > best.sd[0]
    assert t_sd > best.sd[1]
    assert log_z > best.elbo


def test_case_7():
    """The latent sd of the mean-field optimum, and its ELBO just under the best likelihood."""
    pca = r.ppca()
    best = pca.optimum
    assert best.sd[0] == pytest.approx(1 / math.sqrt(1 + best.mean[-2:] @ best.mean[-2:] + 2 * best.sd[-1] ** 2))
    np.testing.assert_allclose(np.abs(best.mean[-2:]), [0.26, 1.80], atol=0.04)
    assert pca.elbo(best.mean, best.sd)[0] < r.ppca_log_likelihood(pca.x, 1)[0]


def test_best_likelihood_of_principal_components():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 5)) + 0.5 * rng.normal(size=(300, 5))
    best, noise = r.ppca_log_likelihood(x, 2)
    values, vectors = np.linalg.eigh(x.T @ x / 300)
    W = vectors[:, -2:] * np.sqrt(values[-2:] - noise)
    covariance = W @ W.T + noise * np.eye(5)
    assert best == pytest.approx(stats.multivariate_normal(np.zeros(5), covariance).logpdf(x).sum(), rel=1e-10)


def test_case_10():
    """The effects' best means solve the ridge problem, checked densely on a piece of the data."""
    rng = np.random.default_rng(2)
    index = tuple(rng.integers(k, size=300) for k in (20, 10, 3))
    model = r.MixedEffects(rng.normal(size=300) + 3, rng.integers(2, size=300).astype(float), index, (20, 10, 3))
    sds = np.array([0.4, 0.6, 0.5])
    fixed, mean = model.posterior_mean(sds)
    columns = [np.eye(k)[i] for i, k in zip(index, model.sizes, strict=True)]
    Z = np.column_stack([*columns, np.ones(300), model.service])
    ridge = np.diag(np.r_[np.repeat(sds**-2, model.sizes), 0, 0])
    np.testing.assert_allclose(np.r_[mean, fixed], np.linalg.solve(Z.T @ Z + ridge, Z.T @ model.y), atol=1e-10)
    up, down = (model.best(sds * np.exp([0, h, 0]))[1].elbo for h in (1e-5, -1e-5))
    assert model.best(sds)[2][1] == pytest.approx((up - down) / 2e-5, rel=1e-5)


def test_network_has_one_optimum_up_to_symmetry():
    best = [found.elbo for found in r.NeuralNetwork().optima]
    assert best[0] == pytest.approx(best[-1], abs=1e-4)
