"""diagnose() and reweighted(): numbers against known answers, and words that never flatter."""

import math
from dataclasses import replace

import numpy as np
import pytest

import klqp
from klqp import _core
from klqp.inference.diagnosis import Draws, check_gradients, still_rising
from klqp.inference.gaussian import factor_times, pack, unpack, whiten
from klqp.inference.verdict import Evidence, judge
from klqp.posterior import ELBO

COV = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.3], [0.0, 0.3, 2.0]])
PRECISION = np.linalg.inv(COV)
LOG_EVIDENCE = 1.5 * math.log(2 * math.pi) + 0.5 * np.linalg.slogdet(COV)[1]
FAMILIES = [("mean_field", 0), ("full_rank", 0), ("low_rank", 2)]


def gaussian(z):
    c = z - 1.0
    return -0.5 * ((c @ PRECISION) * c).sum(1), -c @ PRECISION


def fit(q="full_rank", fn=gaussian, **options):
    return klqp.fit(fn, 3, q=q, **({"n_iter": 4000, "seed": 1} | options))


def good(**changes):
    base = Evidence(
        elbo=ELBO(0.0, 0.01, 2000, 0),
        k_hat=0.1,
        ess=0.9,
        score_residual=0.01,
        converged=True,
        stopped="it ended",
        remaining=0.001,
        signal_to_noise=0.0,
        n_minus_inf=0,
        n_invalid=0,
        first_rejected=None,
    )
    return replace(base, **changes)


# --- the word -------------------------------------------------------------------------------------------------
def test_ok_without_reasons():
    verdict = judge(good())
    assert (verdict.word, verdict.reasons) == ("ok", ())


@pytest.mark.parametrize(
    ("changes", "word", "reason"),
    [
        ({"k_hat": 0.7}, "warn", "k_hat = 0.70"),
        ({"k_hat": math.inf}, "warn", "k_hat"),
        ({"k_hat": math.nan}, "warn", "k_hat"),
        ({"ess": 0.1}, "warn", "10% of the draws"),
        ({"converged": None, "remaining": None}, "warn", "could not be told"),
        ({"converged": False}, "fail", "did not converge"),
        ({"remaining": 0.5}, "fail", "0.5 nats below"),
        ({"remaining": math.nan}, "fail", "did not converge"),
        ({"n_invalid": 1}, "warn", "NaN or \\+inf at 1 of 2000"),
        ({"n_minus_inf": 20}, "warn", "20 of 2000 draws of q are outside"),
        ({"n_minus_inf": 300}, "fail", "15% of the draws"),
        ({"other_mode": 0.3}, "warn", "other modes, with about 30%"),
        ({"other_mode": 0.3}, "warn", "use q='mixture'"),
        ({"other_mode": 0.3, "family": "mixture"}, "warn", "n_components"),
        ({"missing": 0.05, "family": "mixture"}, "warn", "5% of the posterior's mass less than half of its due"),
        ({"ess": 0.1, "family": "full_rank"}, "warn", "q='student_t' for heavy tails, q='mixture'"),
        ({"elbo": None}, "fail", "finite at no draw"),
    ],
)
def test_words(changes, word, reason):
    verdict = judge(good(**changes))
    assert verdict.word == word
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError("\n".join(verdict.reasons))
    assert verdict.reasons[0] in str(verdict)


def test_failures_come_first():
    verdict = judge(good(k_hat=2.0, converged=False))
    assert "did not converge" in verdict.reasons[0]
    assert "k_hat" in verdict.reasons[1]


# --- the numbers ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "rank"), FAMILIES)
@pytest.mark.parametrize("scale", ["exp", "softplus", "linear"])
def test_unpacked_parameters_are_the_cores(name, rank, scale):
    spec = _core.FamilySpec(name, 5, rank=rank, scale=scale)
    rng = np.random.default_rng(3)
    params = spec.project(rng.uniform(0.1, 1.0, spec.n_params))
    member, noise = _core.Member(spec, params), rng.normal(size=(7, spec.noise_dim))
    loc, diagonal, rest = unpack(spec, params)
    np.testing.assert_allclose(loc + factor_times(spec, diagonal, rest, noise), member.transform(noise), rtol=1e-12)
    np.testing.assert_allclose(pack(spec, loc, diagonal, rest), params, rtol=1e-12)
    grad = rng.normal(size=(7, 5))
    change = rng.normal(size=(7, spec.noise_dim))
    np.testing.assert_allclose(
        (whiten(spec, diagonal, rest, grad) * change).sum(), (grad * factor_times(spec, diagonal, rest, change)).sum()
    )


@pytest.mark.parametrize(("q", "shift", "expected"), [("full_rank", 0.4, 0.08), ("mean_field", 0.4, 0.08)])
def test_remaining_nats_of_a_shifted_optimum(q, shift, expected):
    """A location off by 0.4 standard deviations costs 0.08 nats; a scale off by 10 %, about 0.01."""
    spec = _core.FamilySpec(q, 4)
    params = spec.start(np.array([shift, 0.0, 0.0, 0.0]), np.array([1.0, 1.1, 1.0, 1.0]), 0)
    member = _core.Member(spec, params)
    noise = member.noise(5, 2, 0, 20_000)
    z = member.transform(noise)
    draws = Draws(-0.5 * (z**2).sum(1), member.log_density(z), noise, -z + member.precision_times(z))
    check = check_gradients(spec, params, draws)
    exact = expected + 0.5 * (1.1**2 - 1.0) - math.log(1.1)
    assert check.remaining == pytest.approx(exact, abs=0.002 + 3 * check.std_error)
    assert check.converged is (True if check.remaining < 0.1 else None)
    assert check.score_residual == pytest.approx((shift**2 + (1.1 - 1 / 1.1) ** 2) / 4, rel=0.05)


def test_a_rising_elbo_is_seen():
    rng = np.random.default_rng(4)
    noise = rng.normal(size=1000)
    assert still_rising(noise) is False
    assert still_rising(noise + np.linspace(10, 0, 1000)) is True
    assert still_rising(noise[:50]) is None


@pytest.mark.parametrize("q", ["full_rank", "low_rank"])
def test_a_good_fit_is_ok(q):
    verdict = fit(q, rank=2 if q == "low_rank" else None).diagnose(seed=2)
    assert verdict.word == "ok"
    assert verdict.evidence.remaining < 1e-3
    assert verdict.evidence.score_residual < 1e-3
    assert verdict.evidence.elbo.value == pytest.approx(LOG_EVIDENCE, abs=1e-3)
    assert verdict.evidence.ess > 0.99


def test_a_mean_field_fit_to_a_correlated_posterior_is_warned_of():
    verdict = fit("mean_field").diagnose(seed=2)
    assert verdict.word == "warn"
    assert verdict.evidence.converged
    assert "full_rank" in verdict.reasons[0]


@pytest.mark.parametrize("n_iter", [1, 10, 100])
def test_a_run_that_is_too_short_fails(n_iter):
    verdict = fit(n_iter=n_iter, optimizer=klqp.optimizers.SGD(learning_rate=1e-4)).diagnose(seed=2)
    assert verdict.word == "fail"
    assert "did not converge" in verdict.reasons[0]


def test_the_elbo_is_that_of_the_posterior():
    inference = fit(n_iter=200)
    verdict = inference.diagnose(1000, seed=7)
    assert verdict.evidence.elbo == inference.posterior.elbo(1000, seed=7)


def test_a_model_is_seen_as_its_flat_log_density():
    mu, sigma = klqp.Normal(0.0, 10.0, name="mu"), klqp.HalfCauchy(0.0, 1.0, name="sigma")
    x = klqp.Normal(mu, sigma, shape=50)
    data = np.random.default_rng(5).normal(1.0, 2.0, size=50)
    inference = klqp.KLqp([mu, sigma], data={x: data}, q="full_rank")
    inference.run(seed=1)
    verdict = inference.diagnose(seed=2)
    exact = inference.posterior.elbo(verdict.evidence.elbo.n_draws, seed=2)
    assert verdict.word == "ok"
    assert verdict.evidence.elbo.value == pytest.approx(exact.value, rel=1e-12)
    assert verdict.evidence.remaining < 0.01


def test_a_q_that_is_no_family():
    p = klqp.Beta(1.0, 1.0, name="p")
    y = klqp.Bernoulli(probs=p, shape=10)
    a, b = (klqp.Parameter(1.0, support="positive") for _ in range(2))
    inference = klqp.KLqp({p: klqp.Beta(a, b)}, data={y: [1, 1, 1, 0, 0, 1, 1, 1, 1, 1]})
    inference.run(seed=1)
    verdict = inference.diagnose(seed=2)
    assert verdict.word == "ok"
    assert verdict.evidence.remaining < 0.02
    assert verdict.evidence.k_hat < 0.5


def test_values_only():
    inference = fit(fn=lambda z: gaussian(z)[0], n_iter=500)
    assert inference.diagnose(seed=2).evidence.score_residual is None


def test_rejected_draws_are_named():
    def half(z):
        logp, grad = gaussian(z)
        logp[z[:, 0] > 1.5] = np.nan
        return logp, grad

    verdict = fit(fn=half, n_iter=1000).diagnose(seed=2)
    assert verdict.word != "ok"
    assert verdict.evidence.n_invalid > 0
    assert any("nan" in reason for reason in verdict.reasons)


def test_same_seed_same_verdict():
    inference = fit(n_iter=300)
    assert str(inference.diagnose(seed=3)) == str(inference.diagnose(seed=3))
    assert str(inference.diagnose(seed=3)) != str(inference.diagnose(seed=4))


def test_arguments():
    inference = fit(n_iter=1)
    with pytest.raises(ValueError, match="at least 100"):
        inference.diagnose(99)
    with pytest.raises(RuntimeError, match="no run yet"):
        klqp.KLqp([klqp.LogDensity(gaussian, shape=3)]).diagnose()


# --- weighted draws -------------------------------------------------------------------------------------------
def shifted_fit():
    """A q off by half a standard deviation, and too wide by a fifth."""
    z = klqp.LogDensity(gaussian, shape=3, name="z")
    inference = klqp.KLqp([z], q="full_rank")
    inference.initialize(seed=1)
    factor = 1.2 * np.linalg.cholesky(COV)
    params = pack(_core.FamilySpec("full_rank", 3), np.array([1.5, 1.0, 1.0]), np.diag(factor).copy(), factor)
    inference._engine.run.set_params(params)
    return inference


def test_reweighted_moments_are_the_posteriors():
    inference = shifted_fit()
    corrected = inference.posterior.reweighted(20_000, seed=2)
    assert corrected.k_hat < 0.5
    error = 1 / math.sqrt(corrected.ess)
    assert np.all(np.abs(corrected["z"].mean() - 1.0) < 4 * error * np.sqrt(np.diag(COV)))
    assert np.all(np.abs(corrected["z"].variance() / np.diag(COV) - 1.0) < 4 * error * math.sqrt(2))
    np.testing.assert_allclose(corrected["z"].covariance(), COV, atol=8 * error)
    np.testing.assert_allclose(corrected["z"].stddev() ** 2, np.diag(corrected["z"].covariance()), rtol=1e-10)
    assert abs(corrected.log_evidence - LOG_EVIDENCE) < 4 * error
    assert np.all(np.abs(corrected["z"].quantile(0.5) - 1.0) < 6 * error * np.sqrt(np.diag(COV)))


def test_resampled_draws():
    corrected = shifted_fit().posterior.reweighted(20_000, seed=2)
    draws = corrected.sample(5000, seed=3)["z"]
    error = math.sqrt(1 / corrected.ess + 1 / 5000)
    assert np.all(np.abs(draws.mean(0) - 1.0) < 4 * error * np.sqrt(np.diag(COV)))
    apart = corrected.sample(1000, seed=3, replace=False)["z"]
    assert len(np.unique(apart, axis=0)) == 1000
    assert np.array_equal(apart, corrected.sample(1000, seed=3, replace=False)["z"])
    with pytest.raises(ValueError, match="positive weight"):
        corrected.sample(20_001, replace=False)


def test_models_are_reweighted_in_their_own_space():
    rate = klqp.Gamma(2.0, 1.0, name="rate")
    y = klqp.Poisson(rate, shape=4)
    inference = klqp.KLqp([rate], data={y: [3, 1, 4, 2]})
    inference.run(seed=1)
    corrected = inference.posterior.reweighted(20_000, seed=2)  # the posterior is Gamma(12, 5)
    error = 1 / math.sqrt(corrected.ess)
    assert abs(corrected[rate].mean() - 12 / 5) < 4 * error * math.sqrt(12) / 5
    assert abs(corrected["rate"].stddev() / (math.sqrt(12) / 5) - 1) < 4 * error
    assert set(corrected) == {"rate"}


def test_weights_that_cannot_correct_are_warned_of():
    with pytest.warns(klqp.PoorFitWarning, match="k_hat"):
        fit("mean_field", n_iter=20).posterior.reweighted(seed=1)


def test_unknown_names():
    with pytest.raises(KeyError, match="no latent variable"):
        shifted_fit().posterior.reweighted(seed=1)["y"]
