"""Automatic fits of Student-t's and mixtures: exact where q can be the posterior, and never a wrong "ok"."""

import importlib.util
import math
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import klqp
from klqp import _core
from klqp.family_parts import df_of, split_mixture

_spec = importlib.util.spec_from_file_location("hard_targets", Path(__file__).with_name("hard_targets.py"))
hard = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hard)


def fit(target, q, **options):
    fn, dim = target
    return klqp.fit(fn, dim, q=q, **({"seed": 1, "progress": False} | options))


def params_of(inference):
    return inference._engine._spec, inference._engine.run.params


def student(dim, df, seed=0):
    """A multivariate Student-t with coordinates of very different scales, and its location and factor."""
    rng = np.random.default_rng(seed)
    factor = 0.4 * np.tril(rng.normal(size=(dim, dim)), -1) + np.diag(np.geomspace(0.5, 20, dim))
    precision, loc = np.linalg.inv(factor @ factor.T), 5 * rng.normal(size=dim)

    def fn(z):
        c = z - loc
        squares = ((c @ precision) * c).sum(1)
        return -0.5 * (df + dim) * np.log1p(squares / df), -((df + dim) / (df + squares))[:, None] * (c @ precision)

    return fn, dim, loc, factor


# --- Student-t ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dim", "df"), [(1, 5.0), (3, 5.0), (5, 4.0), (10, 8.0), (20, 30.0)])
def test_a_student_t_posterior_is_found(dim, df):
    """Zero residual: at the end the gradient vanishes draw by draw."""
    fn, _, loc, factor = student(dim, df)
    inference = fit((fn, dim), "student_t")
    verdict, law = inference.diagnose(seed=3), stats.multivariate_t(loc, factor @ factor.T, df)
    assert verdict.word == "ok"
    evidence = -law.logpdf(loc)  # the density is 1 at its mode
    assert verdict.evidence.elbo.value == pytest.approx(evidence, abs=2e-3)
    assert verdict.evidence.ess > 0.999
    assert verdict.evidence.k_hat < 0.5
    assert verdict.evidence.score_residual < 1e-3
    spec, params = params_of(inference)
    assert df_of(spec, params) == pytest.approx(df, rel=0.02)
    sd = np.sqrt(df / (df - 2) * np.diag(factor @ factor.T))
    np.testing.assert_allclose(inference.posterior["z"].stddev(), sd, rtol=0.01)
    assert np.all(np.abs(inference.posterior["z"].mean() - loc) < 0.01 * sd)


@pytest.mark.parametrize("q", [klqp.FullRankStudentT(df=6.0), klqp.FullRankStudentT(df=6.0, scale="softplus")])
def test_given_degrees_of_freedom_stay(q):
    fn, dim, _, factor = student(3, 6.0)
    inference = fit((fn, dim), q)
    assert inference.diagnose(seed=2).word == "ok"
    np.testing.assert_allclose(inference.posterior["z"].stddev(), np.sqrt(1.5 * np.diag(factor @ factor.T)), rtol=1e-3)


def test_a_normal_posterior_has_many_degrees_of_freedom():
    inference = fit(hard.gaussian(5, 100.0), "student_t")
    verdict = inference.diagnose(seed=2)
    assert verdict.word == "ok"
    assert df_of(*params_of(inference)) > 100
    assert verdict.evidence.ess > 0.99


def test_it_is_not_worse_than_the_normal():
    for target in (hard.banana(), hard.funnel(10)):
        with pytest.warns(klqp.PoorFitWarning, match="q='mixture'"):
            student_t = fit(target, "student_t")
        with pytest.warns(klqp.PoorFitWarning, match="q='student_t'"):
            normal = fit(target, "full_rank")
        ours, theirs = (i.posterior.elbo(20_000, seed=2) for i in (student_t, normal))
        assert ours.value > theirs.value - 0.05 - 2 * (ours.std_error + theirs.std_error)


# --- mixtures -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("target", "evidence", "share"),
    [
        (hard.bimodal(1), 0.5 * math.log(2 * math.pi), 0.5),
        (hard.bimodal(5), 2.5 * math.log(2 * math.pi), 0.5),
        (hard.bimodal(3, share=0.1), 1.5 * math.log(2 * math.pi), 0.1),
        (hard.bimodal(2, share=0.02), math.log(2 * math.pi), 0.02),
    ],
)
@pytest.mark.parametrize("components", ["full_rank", "mean_field"])
def test_two_modes_are_found_with_their_weights(target, evidence, share, components):
    inference = fit(target, klqp.NormalMixture(components=components))
    verdict = inference.diagnose(seed=3)
    assert verdict.word == "ok"
    assert verdict.evidence.other_mode == 0.0
    assert verdict.evidence.elbo.value == pytest.approx(evidence, abs=1e-3)
    assert verdict.evidence.ess > 0.999
    weights, _ = split_mixture(*params_of(inference))
    assert np.sort(weights)[-2] == pytest.approx(min(share, 1 - share), abs=1e-3)
    draws = inference.posterior["z"].sample(4000, seed=4)
    assert abs((draws[:, 0] > 0).mean() - share) < 0.06


def test_overlapping_modes():
    """One climb ends in one mode; the other component is boosted."""
    inference = fit(hard.bimodal(2, distance=1.5, share=0.3), "mixture")
    verdict = inference.diagnose(seed=3)
    assert verdict.word == "ok"
    assert verdict.evidence.elbo.value == pytest.approx(math.log(2 * math.pi), abs=5e-3)
    weights, _ = split_mixture(*params_of(inference))
    np.testing.assert_allclose(np.sort(weights)[-2:], [0.3, 0.7], atol=0.02)


def test_a_normal_posterior_takes_one_component():
    inference = fit(hard.gaussian(5, 100.0), "mixture")
    assert "1 component (1 from modes" in inference.estimator
    assert inference.diagnose(seed=1).word == "ok"


@pytest.mark.parametrize(
    ("target", "sd"),
    [(hard.banana(), np.sqrt([1.0, 6.1])), (hard.funnel(10), np.array([3.0]))],
    ids=["banana", "funnel"],
)
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_bent_posteriors_are_fitted_better_and_never_wrongly_ok(target, sd):
    """Draws of q alone do not show what is missing in the tails; wider ones do."""
    normal = fit(target, "full_rank").posterior.elbo(20_000, seed=2)
    inference = fit(target, "mixture")
    elbo = inference.posterior.elbo(20_000, seed=2)
    assert elbo.value > normal.value + 0.5
    for check in (3, 4, 5):
        verdict = inference.diagnose(seed=check)
        good = np.all(np.abs(inference.posterior["z"].stddev()[: len(sd)] / sd - 1) < 0.1)
        assert good or verdict.word == "warn"
        assert good or any("its tails are too light" in reason for reason in verdict.reasons)
        assert verdict.evidence.missing > 0.003


@pytest.mark.parametrize("q", ["mixture", "student_t", "mean_field_student_t"])
@pytest.mark.parametrize("name", ["holes", "small ball", "improper", "slope", "flat"])
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_never_a_wrong_ok(name, q):
    inference = fit(hard.HARD[name](), q)
    verdict = inference.diagnose(seed=3)
    assert verdict.word != "ok"
    if name in ("improper", "slope", "flat"):
        assert verdict.word == "fail"
        assert "improper" in verdict.reasons[0]


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_more_components_are_better_and_no_more_than_asked_for():
    elbos = []
    for n in (1, 2, 4):
        inference = fit(hard.banana(), klqp.NormalMixture(n_components=n))
        weights, _ = split_mixture(*params_of(inference))
        assert len(weights) == n
        elbos.append(inference.posterior.elbo(20_000, seed=2).value)
    assert elbos[0] < elbos[1] - 0.1 < elbos[2] - 0.2


def test_one_component_for_two_modes_is_warned_of():
    with pytest.warns(klqp.PoorFitWarning, match="use more components"):
        inference = fit(hard.bimodal(2), klqp.NormalMixture(n_components=1))
    assert inference.diagnose(seed=1).evidence.other_mode == pytest.approx(0.5, abs=0.02)


def test_other_families_are_told_of_mixtures():
    with pytest.warns(klqp.PoorFitWarning, match="a q of one mode cannot hold them all: use q='mixture'"):
        fit(hard.bimodal(2), "full_rank")


def test_weighted_draws_of_a_mixture():
    """The moments of Rosenbrock's valley: means 1 and 2, variances 1 and 6.1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", klqp.PoorFitWarning)
        inference = fit(hard.banana(), "mixture")
        corrected = inference.posterior.reweighted(20_000, seed=2)
    error = 1 / math.sqrt(corrected.ess)
    assert np.all(np.abs(corrected["z"].mean() - [1.0, 2.0]) < 6 * error * np.sqrt([1.0, 6.1]) + 0.05)
    assert corrected.log_evidence == pytest.approx(math.log(2 * math.pi / math.sqrt(10)), abs=0.03)


# --- models, and what goes before and after -----------------------------------------------------------------------
def signs():
    """A scale whose sign the data do not tell: two modes, and a positive variable beside it."""
    a, sigma = klqp.Normal(0.0, 2.0, name="a"), klqp.HalfNormal(1.0, name="sigma")
    x = klqp.Normal(a * a, sigma, shape=20)
    return [a, sigma], {x: 2.0 + 0.5 * np.random.default_rng(1).normal(size=20)}


@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_models_with_two_modes():
    latents, data = signs()
    inference = klqp.KLqp(latents, data=data, q="mixture")
    inference.run(seed=1)
    verdict = inference.diagnose(seed=2)
    assert verdict.evidence.other_mode == 0.0
    assert verdict.word == "ok"
    draws = inference.posterior.sample(20_000, seed=3)
    assert abs((draws["a"] > 0).mean() - 0.5) < 0.05
    for name in ("a", "sigma"):
        marginal, sample = inference.posterior[name], draws[name]
        error = sample.std() / math.sqrt(20_000)
        assert abs(marginal.mean() - sample.mean()) < 5 * error
        assert marginal.stddev() == pytest.approx(sample.std(), rel=0.05)
        assert np.all(sample > 0) or name == "a"
    columns = inference.posterior.summary().columns
    for i, name in enumerate(("a", "sigma")):
        for label, p in (("5%", 0.05), ("50%", 0.5), ("95%", 0.95)):
            assert abs((draws[name] < columns[label][i]).mean() - p) < 0.015
    unconstrained = inference.posterior["sigma"].unconstrained
    assert unconstrained.covariance()[0, 0] == pytest.approx(unconstrained.variance()[0], rel=1e-10)
    n, log_q = 100, inference.posterior.log_prob({k: v[:100] for k, v in draws.items()})
    assert log_q.shape == (n,)
    assert np.isfinite(log_q).all()


def test_a_student_t_over_a_model():
    """Tails that three reals share, and beside them a positive variable."""
    heavy, sigma = klqp.LogDensity(student(3, 3.0)[0], shape=3, name="heavy"), klqp.HalfCauchy(1.0, name="sigma")
    x = klqp.Normal(sigma, 1.0)
    data = {x: 1.0}
    elbos = {}
    for q in ("full_rank", "student_t"):
        inference = klqp.KLqp([heavy, sigma], data=data, q=q)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", klqp.PoorFitWarning)
            inference.run(seed=1)
        elbos[q] = inference.posterior.elbo(50_000, seed=2)
    assert elbos["student_t"].value > elbos["full_rank"].value + 2 * elbos["full_rank"].std_error
    draws = inference.posterior.sample(20_000, seed=3)
    columns = inference.posterior.summary().columns
    values = np.column_stack([draws["heavy"], draws["sigma"]])
    for label, p in (("5%", 0.05), ("95%", 0.95)):
        np.testing.assert_allclose((values < columns[label]).mean(0), p, atol=0.008)


@pytest.mark.parametrize("q", ["mixture", "student_t"])
def test_same_bits_for_any_number_of_threads(q):
    fits = [fit(hard.bimodal(2), q, n_threads=n) for n in (1, 2)] if q == "mixture" else []
    if not fits:
        fits = [fit(student(3, 5.0)[:2], q, n_threads=n) for n in (1, 2)]
    assert np.array_equal(params_of(fits[0])[1], params_of(fits[1])[1])


class TwoModes:
    """A log density that can be pickled."""

    def __call__(self, z):
        return hard.bimodal(2)[0](z)


@pytest.mark.parametrize("q", ["mixture", "student_t"])
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_pickles_and_snapshots(q):
    inference = fit((TwoModes(), 2), q)
    posterior = pickle.loads(pickle.dumps(inference.posterior))
    again = klqp.KLqp([klqp.LogDensity(TwoModes(), shape=2, name="z")], q=q)
    again.initialize(seed=1)
    again.restore(inference.snapshot())
    for other in (posterior, again.posterior):
        assert np.array_equal(other["z"].sample(5, seed=1), inference.posterior["z"].sample(5, seed=1))
        assert np.array_equal(other["z"].covariance(), inference.posterior["z"].covariance())
        np.testing.assert_array_equal(other.summary().columns["95%"], inference.posterior.summary().columns["95%"])
    assert again.diagnose(seed=2).evidence.score_residual == inference.diagnose(seed=2).evidence.score_residual
    other = klqp.KLqp([klqp.LogDensity(TwoModes(), shape=2, name="z")], q="full_rank")
    other.initialize(seed=1)
    with pytest.raises(ValueError, match="another run"):
        other.restore(inference.snapshot())


def test_a_second_run_goes_on_from_the_first():
    inference = fit(hard.bimodal(2, share=0.3), "mixture")
    before = inference.posterior["z"].mean()
    inference.run(seed=2, progress=False)
    assert inference.diagnose(seed=1).word == "ok"
    np.testing.assert_allclose(inference.posterior["z"].mean(), before, atol=0.02)
    inference.run(n_iter=200, n_samples=20, optimizer=klqp.optimizers.Adam(learning_rate=1e-3), progress=False)
    assert "score-function" in inference.estimator
    np.testing.assert_allclose(inference.posterior["z"].mean(), before, atol=0.2)
    inference = fit(student(3, 5.0)[:2], "student_t")
    inference.run(seed=2, progress=False)
    assert df_of(*params_of(inference)) == pytest.approx(5.0, rel=0.02)


class Interrupted:
    """A log density during whose call number `at` somebody presses Ctrl-C."""

    def __init__(self, fn, at):
        self.fn, self.at, self.n_calls = fn, at, 0

    def __call__(self, z):
        self.n_calls += 1
        if self.n_calls == self.at:
            raise KeyboardInterrupt
        return self.fn(z)


@pytest.mark.parametrize("q", ["mixture", "student_t"])
@pytest.mark.parametrize("at", [70, 80])
def test_an_interrupt_keeps_the_best_q(q, at):
    fn = Interrupted(hard.banana()[0], at)
    with pytest.warns(klqp.InterruptedRunWarning, match="the best q until then"):
        inference = fit((fn, 2), q)
    assert np.isfinite(inference.posterior["z"].stddev()).all()
    assert inference.diagnose(seed=1).word != "ok"


# --- arguments ----------------------------------------------------------------------------------------------------
def test_arguments():
    target = hard.gaussian(2, 1.0)
    with pytest.raises(ValueError, match="method='pathfinder' fits Normals, not 'student_t'"):
        fit(target, "student_t", method="pathfinder")
    with pytest.raises(ValueError, match="method='bam' fits q='full_rank', not 'mixture'"):
        fit(target, "mixture", method="bam")
    with pytest.raises(ValueError, match="df must be a number above 2"):
        klqp.FullRankStudentT(df=2)
    with pytest.raises(ValueError, match="n_components"):
        klqp.NormalMixture(n_components=0)
    with pytest.raises(ValueError, match="components must be 'full_rank' or 'mean_field', not 'low_rank'"):
        klqp.NormalMixture(components="low_rank")
    assert isinstance(klqp.KLqp([klqp.LogDensity(target[0], shape=2)], q="mean_field_student_t"), klqp.KLqp)
    assert _core.FamilySpec("mixture", 2, components=3).components == 3
