"""Automatic fits: the optimum from a cold start, and verdicts on hard targets that are never wrongly "ok"."""

import importlib.util
import math
import pickle
import re
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.special

import klqp

_spec = importlib.util.spec_from_file_location("hard_targets", Path(__file__).with_name("hard_targets.py"))
hard = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hard)

FAMILIES = ["mean_field", "full_rank", "low_rank"]


def regression(seed=0, n=200, dim=10):
    """A logistic regression with columns of very different units."""
    rng = np.random.default_rng(seed)
    units = np.geomspace(1e-2, 1e4, dim)
    x = rng.normal(size=(n, dim)) * units
    y = (rng.random(n) < 1 / (1 + np.exp(-x @ (rng.normal(size=dim) / units)))).astype(float)

    def fn(w):
        eta = w @ x.T
        logp = (y * eta - np.logaddexp(0, eta)).sum(1) - 0.5 * ((w * units) ** 2).sum(1) / 9
        return logp, (y - 0.5 * (1 + np.tanh(0.5 * eta))) @ x - w * units**2 / 9

    return fn, dim, units


def fit(target, q="full_rank", method="auto", **options):
    fn, dim = target[:2]
    return klqp.fit(fn, dim, q=q, method=method, progress=False, **({"seed": 1} | options))


# --- the optimum ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dim", [10, 50])
def test_an_ill_conditioned_normal(dim):
    inference = fit(hard.gaussian(dim, 1e6))
    verdict = inference.diagnose(seed=2)
    assert verdict.word == "ok"
    log_evidence = 0.5 * dim * math.log(2 * math.pi) + 0.5 * np.log(np.geomspace(1.0, 1e6, dim)).sum()
    assert verdict.evidence.elbo.value == pytest.approx(log_evidence, abs=0.01)


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_an_ill_conditioned_normal_by_a_mean_field_q():
    """The optimum is known: the location, and one over the root of the precision's diagonal."""
    fn, dim = hard.gaussian(50, 1e6)
    inference = fit((fn, dim), "mean_field")
    _, gradient = fn(np.eye(dim))
    _, at_zero = fn(np.zeros((1, dim)))
    diagonal = -np.diag(gradient - at_zero)
    np.testing.assert_allclose(inference.posterior["z"].stddev(), 1 / np.sqrt(diagonal), rtol=0.02)
    verdict = inference.diagnose(seed=2)
    assert verdict.evidence.converged
    assert verdict.word == "warn"


@pytest.mark.parametrize("q", FAMILIES)
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_units_need_not_be_rescaled(q):
    """The fit in other units is the fit, in other units."""
    fn, dim, units = regression()
    plain = fit((lambda v: (fn(v / units)[0], fn(v / units)[1] / units), dim), q)
    scaled = fit((fn, dim), q)
    sd = plain.posterior["z"].stddev()
    np.testing.assert_allclose(scaled.posterior["z"].stddev() * units / sd, 1.0, atol=0.05)
    np.testing.assert_allclose(
        (scaled.posterior["z"].mean() * units - plain.posterior["z"].mean()) / sd, 0.0, atol=0.05
    )
    assert scaled.diagnose(seed=3).evidence.converged


def test_counts_by_years_and_dollars_need_not_be_centred():
    """exp() of coefficients times years overflows nearly everywhere; the same regression on centred columns is easy."""
    rng = np.random.default_rng(3)
    year, dollars = rng.uniform(2000, 2020, 200), rng.normal(size=200) * 50_000
    y = rng.poisson(np.exp(0.06 * (year - 2010) + dollars / 100_000 + 2))
    raw = np.column_stack([np.ones(200), year, dollars])
    change = np.array(
        [[1.0, -2010 / 6, 0.0], [0.0, 1 / 6, 0.0], [0.0, 0.0, 1 / 50_000]]
    )  # centred columns = raw @ change

    def on(columns, back):
        def fn(w):
            z = w @ back.T  # coefficients of raw columns
            with np.errstate(over="ignore", invalid="ignore"):
                eta = w @ columns.T
                rate = np.exp(eta)
                logp = (y * eta - rate).sum(1) - 0.5 * ((z / [1000, 10, 10]) ** 2).sum(1)
                return logp, (y - rate) @ columns - (z / np.square([1000, 10, 10])) @ back

        return fn

    hard, easy = fit((on(raw, np.eye(3)), 3)), fit((on(raw @ change, change), 3))
    hard_verdict, easy_verdict = (i.diagnose(seed=2) for i in (hard, easy))
    assert hard_verdict.word == easy_verdict.word == "ok"
    shift = np.linalg.slogdet(change)[1]
    assert hard_verdict.evidence.elbo.value == pytest.approx(easy_verdict.evidence.elbo.value + shift, abs=0.01)


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_starts_whose_gradients_overflow_are_left_out():
    """exp(-cosh(200 z)): E cosh(200 z) = exp(2e4 s^2), so that the best scale s satisfies 4e4 s^2 exp(2e4 s^2) = 1."""

    def fn(z):
        with np.errstate(over="ignore"):
            return -np.cosh(200 * z).sum(1), -200 * np.sinh(200 * z)

    inference = fit((fn, 2))
    assert inference.diagnose(seed=2).evidence.converged
    best = math.sqrt(scipy.special.lambertw(0.5).real / 2e4)
    np.testing.assert_allclose(inference.posterior["z"].stddev(), best, rtol=0.1)


@pytest.mark.parametrize("q", FAMILIES)
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_seeds_agree(q):
    target = regression(dim=4)
    elbos = [fit(target, q, seed=s).posterior.elbo(20_000, seed=9) for s in range(4)]
    assert max(e.value for e in elbos) - min(e.value for e in elbos) < 0.01 + 4 * elbos[0].std_error


def test_same_seed_same_bits():
    target = regression(dim=4)
    a, b = (fit(target, n_threads=k) for k in (1, 2))
    assert np.array_equal(a.posterior["z"].mean(), b.posterior["z"].mean())
    assert np.array_equal(a.losses, b.losses)
    assert a.estimator == b.estimator


def test_few_large_calls():
    """A cold fit in ten dimensions takes a hundred calls or so, verdict included."""
    fn, dim, _ = regression()
    calls = []

    def counted(w):
        calls.append(len(w))
        return fn(w)

    fit((counted, dim))
    assert len(calls) < 250
    assert sum(calls) < 25_000


@pytest.mark.parametrize("method", ["saa", "bam", "pathfinder"])
def test_methods_by_name(method):
    fn, dim = hard.gaussian(5, 100.0)
    inference = fit((fn, dim), method=method)
    verdict = inference.diagnose(seed=2)
    assert verdict.evidence.ess > (0.5 if method == "pathfinder" else 0.9)
    words = {"saa": "sample averages", "bam": "batch and match", "pathfinder": "Pathfinder"}
    assert words[method] in inference.estimator
    assert inference.stop_reason


# --- hard targets ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("q", FAMILIES)
@pytest.mark.parametrize("name", hard.HARD)
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_never_a_wrong_ok(name, q):
    for seed in (1, 2):
        inference = fit(hard.HARD[name](), q, seed=seed)
        for check in (3, 4):
            verdict = inference.diagnose(seed=check)
            assert verdict.word != "ok", (seed, check)
            assert verdict.reasons


@pytest.mark.parametrize("q", FAMILIES)
@pytest.mark.parametrize("name", ["improper", "slope", "flat"])
def test_improper_posteriors_fail_with_the_reason(name, q):
    with pytest.warns(klqp.PoorFitWarning, match="improper"):
        inference = fit(hard.HARD[name](), q)
    verdict = inference.diagnose(seed=2)
    assert verdict.word == "fail"
    assert "improper" in verdict.reasons[0]


def test_the_warning_says_what_the_verdict_says():
    with pytest.warns(klqp.PoorFitWarning, match="other modes, with about 50% of the posterior's mass"):
        inference = fit(hard.bimodal(2))
    assert inference.diagnose(seed=1).evidence.other_mode == pytest.approx(0.5, abs=0.02)


def test_the_larger_of_two_modes_is_chosen():
    with pytest.warns(klqp.PoorFitWarning, match="other modes"):
        inference = fit(hard.bimodal(2, share=0.2))
    assert np.all(inference.posterior["z"].mean() < 0)
    assert len(inference.diagnose(seed=1).evidence.starts) == 2


def test_finite_nowhere():
    with pytest.raises(klqp.TargetError, match="finite at none of"):
        fit(hard.everywhere_minus_infinity())


# --- models, and what goes before and after -------------------------------------------------------------------
def coin_model():
    mu, sigma = klqp.Normal(0.0, 10.0, name="mu"), klqp.HalfCauchy(0.0, 1.0, name="sigma")
    x = klqp.Normal(mu, sigma, shape=50)
    data = {x: np.random.default_rng(5).normal(1.0, 2.0, size=50)}
    return [mu, sigma], data


@pytest.mark.parametrize("q", FAMILIES)
def test_models(q):
    latents, data = coin_model()
    inference = klqp.KLqp(latents, data=data, q=q)
    inference.run(method="auto", seed=1)
    assert "sample averages" in inference.estimator
    steps = klqp.KLqp(latents, data=data, q=q)
    steps.run(n_iter=10_000, seed=1)
    ours, theirs = (i.posterior.elbo(20_000, seed=2) for i in (inference, steps))
    assert ours.value > theirs.value - 0.005
    assert inference.diagnose(seed=3).word == "ok"


def test_constrained_variables_come_back_in_their_space():
    latents, data = coin_model()
    inference = klqp.KLqp(latents, data=data)
    inference.run(method="auto", seed=1)
    assert inference.posterior["sigma"].sample(100, seed=1).min() > 0


def test_steps_go_on_from_it_and_it_goes_on_from_steps():
    target = regression(dim=4)
    inference = fit(target)
    n, before = len(inference.losses), inference.posterior["z"].mean()
    inference.run(n_iter=100, seed=2, optimizer=klqp.optimizers.Adam(learning_rate=1e-3))
    assert len(inference.losses) == n + 100
    assert "reparameterisation" in inference.estimator
    assert np.all(np.abs(inference.posterior["z"].mean() - before) < 0.1)
    inference.run(method="auto", seed=1)
    assert "sample averages" in inference.estimator
    np.testing.assert_allclose(inference.posterior["z"].mean(), before, rtol=0.05)


def test_pickles_and_snapshots():
    inference = fit(hard.gaussian(3, 10.0))
    other = pickle.loads(pickle.dumps(inference.posterior.mean()))
    assert np.array_equal(other["z"], inference.posterior["z"].mean())
    state = inference.snapshot()
    again = klqp.KLqp([klqp.LogDensity(hard.gaussian(3, 10.0)[0], shape=3, name="z")], q="full_rank")
    again.initialize(seed=1)
    again.restore(state)
    assert np.array_equal(again.posterior["z"].covariance(), inference.posterior["z"].covariance())


@pytest.mark.parametrize(
    "keyword", [{"n_iter": 50}, {"n_samples": 5, "n_iter": 50}, {"optimizer": "sgd", "n_iter": 50}]
)
def test_explicit_steps_are_steps(keyword):
    fn, dim = hard.gaussian(2, 1.0)
    inference = klqp.fit(fn, dim, method="auto", seed=1, **keyword)
    assert len(inference.losses) == 50
    assert "reparameterisation" in inference.estimator
    with pytest.raises(ValueError, match="takes no steps of an optimizer"):
        klqp.fit(fn, dim, method="saa", **keyword)


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_what_it_cannot_do_is_left_to_steps():
    fn, dim = hard.gaussian(2, 1.0)
    values = fit((lambda z: fn(z)[0], dim))
    assert "score" in values.estimator
    assert "Adam, " in values.estimator
    p = klqp.Beta(2.0, 2.0, name="p")
    y = klqp.Bernoulli(probs=p, shape=3)
    q = klqp.Beta(klqp.Parameter(1.0, support="positive"), klqp.Parameter(1.0, support="positive"))
    inference = klqp.KLqp({p: q}, data={y: [1, 0, 1]})
    inference.run(method="auto", seed=1)
    assert "Adam, " in inference.estimator
    with pytest.raises(ValueError, match="method='saa' needs one Normal family"):
        inference.run(method="saa")


def test_arguments():
    fn, dim = hard.gaussian(2, 1.0)
    with pytest.raises(ValueError, match="method must be one of 'auto', 'adam'"):
        klqp.fit(fn, dim, method="advi")
    with pytest.raises(ValueError, match="fits q='full_rank', not 'mean_field'"):
        klqp.fit(fn, dim, method="bam")


# --- Ctrl-C -----------------------------------------------------------------------------------------------------
class Interrupted:
    """A log density during whose call number `at` somebody presses Ctrl-C."""

    def __init__(self, fn, at):
        self.fn, self.at, self.n_calls = fn, at, 0

    def __call__(self, z):
        self.n_calls += 1
        if self.n_calls == self.at:
            raise KeyboardInterrupt
        return self.fn(z)


def funnel_like(z):
    """Not Normal, so that the search has something to do after its start."""
    tail = np.exp(-z[:, :1])
    logp = -0.5 * z[:, 0] ** 2 / 9 - 0.5 * (z[:, 1:] ** 2 * tail).sum(1) - 0.5 * 3 * z[:, 0]
    slope = -z[:, :1] / 9 + 0.5 * (z[:, 1:] ** 2 * tail).sum(1, keepdims=True) - 1.5
    return logp, np.concatenate([slope, -z[:, 1:] * tail], 1)


def test_an_interrupt_before_there_is_a_q_keeps_the_start():
    fn = Interrupted(funnel_like, 3)
    with pytest.warns(klqp.InterruptedRunWarning, match="the one before was kept"):
        inference = fit((fn, 4))
    assert inference.stop_reason == "interrupted"
    assert fn.n_calls == 3
    inference.resume()  # there is nothing left to do
    assert fn.n_calls == 3
    assert np.isfinite(inference.posterior["z"].stddev()).all()


@pytest.mark.parametrize(("share", "word"), [(0.5, "fail"), (0.9, "warn")])
def test_an_interrupt_keeps_the_best_q_and_the_next_run_goes_on_from_it(share, word):
    """Early in the search, and near its end, where fresh draws show that q is at the optimum all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", klqp.PoorFitWarning)
        whole = fit((funnel_like, 4))
    best = whole.posterior.elbo(4000, seed=3)
    n_calls = int(re.search(r"(\d+) calls", whole.estimator)[1])
    fn = Interrupted(funnel_like, int(share * n_calls))
    with pytest.warns(klqp.InterruptedRunWarning, match="the best q until then"):
        inference = fit((fn, 4))
    assert inference.stop_reason == "interrupted"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", klqp.PoorFitWarning)
        assert inference.diagnose(seed=2).word == word
        inference.run(seed=1, progress=False)
    again = inference.posterior.elbo(4000, seed=3)
    assert abs(again.value - best.value) < 4 * (again.std_error + best.std_error)


# --- budgets ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [10, 1000, 10_000])
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_a_budget_of_evaluations_is_kept(n):
    points = []

    def counted(z):
        points.append(len(z))
        return funnel_like(z)

    z = klqp.LogDensity(counted, shape=4, name="z")
    inference = klqp.KLqp([z], q="full_rank")
    inference.initialize(seed=1)
    points.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", klqp.PoorFitWarning)
        inference.run(seed=1, stop=klqp.Evaluations(n), progress=False)
    fitted = int(re.search(r"(\d+) points", inference.estimator)[1]) if "points" in inference.estimator else 0
    assert fitted <= n
    assert inference.stop_reason == f"the budget of {n} evaluations was spent"
    verdict = inference.diagnose(seed=2)
    assert verdict.word != "ok"
    assert verdict.evidence.stopped == inference.stop_reason


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_more_budget_is_better_and_enough_is_all():
    elbos = []
    for n in (1000, 3000, 10_000, 10_000_000):
        inference = fit((funnel_like, 4), stop=klqp.Evaluations(n))
        elbos.append(inference.posterior.elbo(4000, seed=3).value)
    assert np.all(np.diff(elbos) > -0.02)  # nats: over few draws an optimum has an error
    assert elbos[-1] > elbos[0] + 0.1
    assert inference.stop_reason == "the gradient vanished"
    assert elbos[-1] == fit((funnel_like, 4)).posterior.elbo(4000, seed=3).value


def test_a_time_limit_ends_the_search():
    def slow(z):
        time.sleep(0.02)
        return funnel_like(z)

    with pytest.warns(klqp.PoorFitWarning, match=r"the time limit of 0\.5 s was reached"):
        inference = fit((slow, 4), stop=klqp.TimeLimit(0.5))
    assert inference.stop_reason == "the time limit of 0.5 s was reached"


def test_rules_about_steps_are_no_budgets():
    fn, dim = hard.gaussian(2, 1.0)
    with pytest.raises(ValueError, match="stop: method='saa' takes no steps"):
        klqp.fit(fn, dim, method="saa", stop=klqp.Plateau() | klqp.Evaluations(100))


def test_steps_keep_a_budget_of_evaluations():
    fn, dim = hard.gaussian(2, 1.0)
    inference = klqp.fit(fn, dim, n_iter=500, n_samples=8, stop=klqp.Evaluations(100), seed=1)
    assert len(inference.losses) == 12
    assert inference.stop_reason == "evaluations"


# --- warm starts --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("q", FAMILIES)
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_new_data_are_fitted_from_the_last_q_in_a_fraction_of_the_evaluations(q):
    """One more row in a hundred: the same optimum as from a cold start."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(303, 6)) * np.geomspace(1e-2, 1e2, 6)
    y = (rng.random(303) < 0.4).astype(float)
    rows = {"n": 300}

    def fn(w):
        xs, ys = x[: rows["n"]], y[: rows["n"]]
        eta = w @ xs.T
        logp = (ys * eta - np.logaddexp(0, eta)).sum(1) - 0.5 * (w**2).sum(1) / 1e4
        return logp, (ys - 0.5 * (1 + np.tanh(0.5 * eta))) @ xs - w / 1e4

    inference = fit((fn, 6), q)
    rows["n"] = 303
    inference.run(seed=1, progress=False)
    cold = fit((fn, 6), q)
    calls, points = (
        [int(re.search(rf"(\d+) {of}", i.estimator)[1]) for i in (inference, cold)] for of in ("calls", "points")
    )
    assert calls[0] < 0.5 * calls[1]
    assert points[0] < 0.8 * points[1]
    sd = cold.posterior["z"].stddev()
    np.testing.assert_allclose((inference.posterior["z"].mean() - cold.posterior["z"].mean()) / sd, 0.0, atol=0.02)
    np.testing.assert_allclose(inference.posterior["z"].stddev() / sd, 1.0, atol=0.02)


def test_a_warm_start_remembers_other_modes():
    with pytest.warns(klqp.PoorFitWarning, match="other modes"):
        inference = fit(hard.bimodal(2))
    with pytest.warns(klqp.PoorFitWarning, match="other modes"):
        inference.run(seed=2, progress=False)
