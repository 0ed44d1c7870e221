"""Stochastic gradients without settings: known optima, honest ends, budgets, feeds of data."""

import itertools
import math
import warnings

import numpy as np
import pytest

import klqp
from klqp.inference.auto import stepper as stepper_module
from klqp.inference.auto.iterates import Iterates
from klqp.inference.auto.units import family_units

QUIET = {"seed": 1, "progress": False}


def positive(init):
    return klqp.Parameter(init, support="positive")


def normal_target(loc, scales):
    loc, scales = np.asarray(loc, float), np.asarray(scales, float)
    return lambda z: (-0.5 * (((z - loc) / scales) ** 2).sum(1), (loc - z) / scales**2)


def converged(inference):
    outcome = inference._outcome
    return outcome.converged and outcome.remaining <= 0.1


# --- pieces -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [3, 20_000])
def test_the_record_of_iterates_is_bounded_and_its_means_are_exact(size):
    iterates = Iterates(np.full(size, 5.0), np.random.default_rng(0))
    n = 1024 if size < 100 else 128
    for i in range(n):
        iterates.add(np.full(size, float(i)), np.full(size, -float(i)))
    halves = iterates.parts(1.0, 2)
    np.testing.assert_allclose(halves[:, 0], [n / 4 - 0.5, 3 * n / 4 - 0.5])
    np.testing.assert_allclose(iterates.gradients(1.0, 2)[:, -1], [0.5 - n / 4, 0.5 - 3 * n / 4])
    assert iterates._all._means.size <= 32 * 2 * size or iterates._all._means.size <= 1 << 22
    assert iterates.stationary(1.1)[1] is False  # it only ever rises


def test_white_noise_is_stationary_and_a_step_in_it_is_not():
    rng = np.random.default_rng(0)
    still, shifted = Iterates(np.zeros(5), rng), Iterates(np.zeros(5), rng)
    for i in range(500):
        x = rng.normal(size=5)
        still.add(x, x)
        shifted.add(x + 5.0 * (i >= 420), x)
    assert still.stationary(1.1) == (0.95, True)
    assert shifted.stationary(1.1)[1] is False


@pytest.mark.parametrize("q", ["mean_field", "full_rank", "low_rank", klqp.BlockNormal(blocks=[2, 1])])
def test_units_are_those_of_the_fisher_information(q):
    """A step of one unit in any parameter changes q by 1/2 nat, to second order: by differences of KL(q || q')."""
    dim = 3
    z = klqp.LogDensity(normal_target(np.zeros(dim), np.ones(dim)), shape=dim)
    inference = klqp.KLqp([z], q=q, rank=1 if q == "low_rank" else None)
    inference.initialize(n_samples=1, seed=1)
    run, spec = inference._engine.run, inference._engine.spec
    rng = np.random.default_rng(1)
    run.set_params(run.params + 0.3 * rng.normal(size=run.params.size))
    params = run.params
    units = family_units(spec, params)

    def moments(p):
        run.set_params(p)
        inference._posterior = None
        normal = inference.posterior["z"]
        return normal.mean(), normal.covariance()

    def divergence(p, r):
        (a, s), (b, t) = moments(p), moments(r)
        inverse = np.linalg.inv(t)
        logs = np.linalg.slogdet(t)[1] - np.linalg.slogdet(s)[1]
        return 0.5 * (np.trace(inverse @ s) + (b - a) @ inverse @ (b - a) - dim + logs)

    step = 1e-3
    for i in range(params.size):
        away = params.copy()
        away[i] += step * units[i]
        nats = divergence(params, away) / (0.5 * step**2)
        # Of low-rank parameters at least a tenth of the information of their row is taken.
        assert nats == pytest.approx(1.0, rel=0.02) or (q == "low_rank" and i >= dim and nats < 1.0)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_relative_rates_multiply_the_steps_of_single_parameters(optimizer):
    def stepped(rates):
        inference = klqp.KLqp([klqp.LogDensity(normal_target([1.0, 2.0], [1.0, 1.0]), shape=2)])
        inference.initialize(optimizer=optimizer, seed=1)
        run = inference._engine.run
        run.set_relative_rates(rates)
        before = run.params
        inference.update()
        return run.params - before

    rates = np.array([0.5, 1.0, 1000.0, 0.0])
    np.testing.assert_allclose(stepped(rates), rates * stepped(np.empty(0)), rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="expected 4 relative rates"):
        stepped(np.ones(3))


# --- exact posteriors without settings --------------------------------------------------------------------------
def test_a_beta_posterior():
    a, b = positive(1.0), positive(1.0)
    p = klqp.Beta(2.0, 3.0, name="p")
    x = klqp.Bernoulli(probs=p, shape=50)
    inference = klqp.KLqp({p: klqp.Beta(a, b)}, data={x: [1] * 18 + [0] * 32})
    with warnings.catch_warnings():
        warnings.simplefilter("error", klqp.PoorFitWarning)
        inference.run(**QUIET)
    np.testing.assert_allclose([a.value, b.value], [20.0, 35.0], rtol=0.01)
    verdict = inference.diagnose(seed=2)
    assert verdict.word == "ok"
    assert verdict.evidence.remaining < 0.02
    assert inference.stop_reason in str(verdict)
    assert "Adam, " in inference.estimator
    assert "stages" in inference.estimator


def test_a_dirichlet_posterior():
    concentration = positive(np.ones(4))
    p = klqp.Dirichlet(np.ones(4), name="p")
    x = klqp.Categorical(probs=p, shape=100)
    data = np.repeat([0, 1, 2, 3], [50, 30, 15, 5])
    inference = klqp.KLqp({p: klqp.Dirichlet(concentration)}, data={x: data})
    inference.run(**QUIET)
    np.testing.assert_allclose(concentration.value, [51.0, 31.0, 16.0, 6.0], rtol=0.01)
    assert converged(inference)


def test_a_mixture_with_assignments_is_that_of_coordinate_ascent():
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.normal(-1.5, 1, size=60), rng.normal(1.5, 1, size=40)])
    m = klqp.Normal(0.0, 10.0, shape=2, name="m")
    c = klqp.Categorical(logits=np.zeros((100, 2)), name="c")
    inference = klqp.KLqp([m, c], data={klqp.Normal(m[c], 1.0): y})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", klqp.PoorFitWarning)
        inference.run(init_loc={m: [-0.1, 0.1]}, **QUIET)
    loc, sd = np.array([-0.1, 0.1]), np.array([0.1, 0.1])
    for _ in range(500):
        logits = -0.5 * ((y[:, None] - loc) ** 2 + sd**2)
        share = np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])
        precision = share.sum(0) + 0.01
        loc, sd = (share * y[:, None]).sum(0) / precision, precision**-0.5
    np.testing.assert_allclose(inference.posterior[m].mean(), loc, atol=0.1 * sd.min())
    np.testing.assert_allclose(inference.posterior[m].stddev(), sd, rtol=0.1)
    assert converged(inference)


def test_maximum_likelihood_far_away():
    """No latent variables: the mean and the standard deviation of data around 10,000."""
    mu, sigma = klqp.Parameter(0.0), positive(1.0)
    y = 1e4 + 50 * np.random.default_rng(0).normal(size=200)
    inference = klqp.KLqp(data={klqp.Normal(mu, sigma, shape=200): y})
    inference.run(**QUIET)
    assert mu.value == pytest.approx(y.mean(), abs=0.1 * y.std() / math.sqrt(200))
    assert sigma.value == pytest.approx(y.std(), rel=0.005)
    assert converged(inference)
    assert len(inference.losses) < 10_000


def test_variational_em():
    """Effects with a mean and a spread to be learnt: the marginal likelihood's maximum is known."""
    rng = np.random.default_rng(0)
    y = rng.normal(5, 2, size=30) + rng.normal(size=30)
    mean, spread = klqp.Parameter(0.0), positive(1.0)
    z = klqp.Normal(mean, spread, shape=30, name="z")
    inference = klqp.KLqp([z], data={klqp.Normal(z, 1.0): y})
    inference.run(**QUIET)
    best = math.sqrt(y.var() - 1)

    def loss(m, t):
        return 15 * math.log(t**2 + 1) + 0.5 * float(((y - m) ** 2).sum()) / (t**2 + 1)

    assert converged(inference)
    assert loss(float(mean.value), float(spread.value)) - loss(y.mean(), best) < 0.1


def test_values_only():
    loc, scales = np.array([3.0, -2.0, 0.0]), np.array([0.5, 1.0, 2.0])
    fn = normal_target(loc, scales)
    inference = klqp.fit(lambda z: fn(z)[0], dim=3, **QUIET)
    np.testing.assert_allclose((inference.posterior["z"].mean() - loc) / scales, 0.0, atol=0.1)
    np.testing.assert_allclose(inference.posterior["z"].stddev() / scales, 1.0, rtol=0.1)
    assert "score" in inference.estimator
    assert inference.diagnose(seed=2).word == "ok"


# --- units ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("q", ["mean_field", "full_rank", "low_rank"])
@pytest.mark.parametrize("by", ["mode", "legs"])
def test_any_units(q, by, monkeypatch):
    """Locations up to 10,000, standard deviations from 0.001 to 1,000: from the mode, and by stretched steps alone."""
    if by == "legs":
        monkeypatch.setattr(klqp.KLqp, "_go_to_start", lambda *_: ("", ""))
    scales, loc = np.array([1e-3, 1.0, 1e3, 1e-2, 1e2]), np.array([1e4, -1e4, 1e4, 3.0, 1e2])
    inference = klqp.fit(normal_target(loc, scales), 5, q=q, method="adam", **QUIET)
    np.testing.assert_allclose((inference.posterior["z"].mean() - loc) / scales, 0.0, atol=0.1)
    np.testing.assert_allclose(inference.posterior["z"].stddev() / scales, 1.0, rtol=0.1)
    assert converged(inference)


def test_any_units_of_a_low_rank_q_from_its_start():
    """Columns of B that curvature leaves at zero start small in each coordinate's own units."""
    scales = np.array([1e-3, 1.0, 1e3, 1e-2, 1e2])
    inference = klqp.fit(normal_target(np.zeros(5), scales), 5, q="low_rank", **QUIET)
    np.testing.assert_allclose(inference.posterior["z"].stddev() / scales, 1.0, rtol=0.1)
    assert inference.diagnose(seed=2).word == "ok"


def test_an_improper_posterior_is_told():
    inference = klqp.fit(
        lambda z: (-0.5 * (z.sum(1) - 1) ** 2, (1 - z.sum(1))[:, None] + 0 * z),
        2,
        method="adam",
        stop=klqp.Steps(500),
        **QUIET,
    )
    verdict = inference.diagnose(seed=2)
    assert verdict.word == "fail"
    assert "improper" in verdict.reasons[0]


def test_full_rank_beyond_sample_averages():
    """800 dimensions: from the curvature along a path; cut short, it says so and is nearer than its start."""
    dim = 800
    rng = np.random.default_rng(0)
    loc, scales = rng.normal(size=dim), np.geomspace(0.5, 2, dim)
    with pytest.warns(klqp.PoorFitWarning, match="did not converge"):
        inference = klqp.fit(normal_target(loc, scales), dim, q="full_rank", stop=klqp.Steps(120), **QUIET)
    assert "Adam from a path's curvature" in inference.estimator
    assert len(inference.losses) == 120
    evidence = 0.5 * dim * math.log(2 * math.pi) + np.log(scales).sum()
    below = evidence - inference.posterior.elbo(500, seed=2).value
    assert -1.0 < below < 0.8 * (evidence + inference.losses[0])


# --- ends -------------------------------------------------------------------------------------------------------
def correlated(z):
    precision = np.linalg.inv(np.array([[1.0, 0.9], [0.9, 1.0]]))
    return -0.5 * ((z @ precision) * z).sum(1), -z @ precision


@pytest.mark.parametrize(("stop", "why"), [(klqp.Steps(60), "steps were used up"), (klqp.TimeLimit(1e-9), "time")])
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_a_run_cut_by_its_budget_never_converged(stop, why):
    inference = klqp.fit(correlated, 2, stop=stop, **QUIET)
    assert why in inference.stop_reason
    verdict = inference.diagnose(seed=2)
    assert verdict.word == "fail"
    assert "did not converge" in verdict.reasons[0]
    inference.run(**QUIET, scale={})
    assert inference._outcome.converged


@pytest.mark.parametrize("n", [10, 500, 20_000])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.filterwarnings("ignore::klqp.PoorFitWarning")
def test_a_budget_of_evaluations_counts_starts_and_losses(n, gradients):
    points = []

    def counted(z):
        points.append(len(z))
        return correlated(z) if gradients else correlated(z)[0]

    z = klqp.LogDensity(counted, shape=2, name="z")
    inference = klqp.KLqp([z], q="full_rank")
    inference.initialize(seed=1)
    points.clear()
    inference.run(method="adam", stop=klqp.Steps(1_000_000) | klqp.Evaluations(n), **QUIET)
    assert sum(points) <= n
    enough = n == 20_000
    assert inference._outcome.converged == enough
    assert (inference.stop_reason == f"the budget of {n} evaluations was spent") != enough


def test_a_budget_that_suffices_does_no_harm():
    inference = klqp.fit(correlated, 2, q="full_rank", stop=klqp.Steps(50_000) | klqp.TimeLimit(600), **QUIET)
    assert inference.diagnose(seed=2).word == "ok"
    assert len(inference.losses) < 50_000


def test_the_most_steps(monkeypatch):
    monkeypatch.setattr(stepper_module, "MOST_STEPS", 300)
    with pytest.warns(klqp.PoorFitWarning, match="300 steps did not suffice"):
        inference = klqp.fit(lambda z: correlated(z)[0], 2, **QUIET)
    assert len(inference.losses) == 300


def test_the_given_number_of_steps_is_taken_as_ever():
    for keyword in ({"n_iter": 70}, {"n_iter": 70, "scale": {}}, {"n_samples": 3, "n_iter": 70}):
        inference = klqp.fit(correlated, 2, method="adam", **keyword, **QUIET)
        assert len(inference.losses) == 70
        assert inference.stop_reason == "steps"


def test_same_seed_same_bits():
    def fit(n_threads):
        return klqp.fit(correlated, 2, q="full_rank", method="adam", n_threads=n_threads, **QUIET)

    one, two = fit(1), fit(2)
    assert np.array_equal(one.losses, two.losses)
    assert np.array_equal(one.posterior["z"].covariance(), two.posterior["z"].covariance())
    assert one.estimator == two.estimator


def test_an_interrupt_keeps_the_best_and_run_goes_on():
    calls = itertools.count()

    def interrupted(z):
        if next(calls) == 900:
            raise KeyboardInterrupt
        return correlated(z)

    z = klqp.LogDensity(interrupted, shape=2, name="z")
    inference = klqp.KLqp([z], q="full_rank")
    with pytest.warns(klqp.InterruptedRunWarning, match="run\\(\\) goes on"):
        inference.run(method="adam", **QUIET)
    assert inference.stop_reason == "interrupted"
    assert inference.diagnose(seed=2).word == "fail"
    n = len(inference.losses)
    inference.run(method="adam", **QUIET)
    assert len(inference.losses) > n
    assert inference.diagnose(seed=2).word == "ok"


def test_settings_hold():
    """`debug` stops at the first bad draw, `var_list` leaves the other parameters where they are."""

    def bad(z):
        logp, grad = correlated(z)
        return np.where(z[:, 0] > 0.3, np.nan, logp), grad

    with pytest.raises(klqp.TargetError, match="debug"):
        klqp.fit(bad, 2, debug=True, **QUIET)
    loc, scale = klqp.Parameter(0.0), positive(1.0)
    mu = klqp.Normal(0.0, 1.0, name="mu")
    inference = klqp.KLqp({mu: klqp.Normal(loc, scale)}, data={klqp.Normal(mu, 1.0, shape=3): [1.0, 2.0, 3.0]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", klqp.PoorFitWarning)
        inference.run(var_list=[loc], **QUIET)
    assert scale.value == 1.0
    assert loc.value == pytest.approx(1.5, abs=0.1)


# --- feeds ------------------------------------------------------------------------------------------------------
N, M = 2000, 100


def regression(centred=True):
    """A regression of incomes on inches and dollars, with its exact posterior."""
    rng = np.random.default_rng(0)
    inches, dollars = rng.normal(66, 4, size=N), rng.lognormal(10, 0.7, size=N)
    x = np.stack([np.ones(N), inches - 66, dollars - dollars.mean()], axis=1)
    y = x @ np.array([20_000.0, 300.0, -0.05]) + 5000 * rng.normal(size=N)
    precision = x.T @ x / 5000**2 + np.eye(3) / 1e12
    return x, y, np.linalg.solve(precision, x.T @ y / 5000**2), 1 / np.sqrt(np.diag(precision))


def batched():
    rows, values = klqp.placeholder((M, 3)), klqp.placeholder(M)
    w = klqp.Normal(0.0, 1e6, shape=3, name="w")
    y = klqp.Normal(rows @ w, 5000.0)
    return klqp.KLqp([w], data={y: values}), w, y, rows, values


def epochs(x, y, rows, values, seed):
    rng = np.random.default_rng(seed)
    while True:
        for i in rng.permutation(N).reshape(-1, M):
            yield {rows: x[i], values: y[i]}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_minibatches_in_dollars_and_inches(seed):
    x, y, loc, sd = regression()
    inference, w, observed, rows, values = batched()
    with warnings.catch_warnings():
        warnings.simplefilter("error", klqp.PoorFitWarning)
        inference.run(feeds=epochs(x, y, rows, values, seed), scale={observed: N / M}, seed=seed, progress=False)
    np.testing.assert_allclose((inference.posterior[w].mean() - loc) / sd, 0.0, atol=0.1)
    np.testing.assert_allclose(inference.posterior[w].stddev() / sd, 1.0, rtol=0.1)
    assert converged(inference)


def test_minibatches_with_a_local_variable():
    """Effects of rows around a mean: the fixed point of coordinate ascent is known in closed form."""
    n, m = 400, 40
    rng = np.random.default_rng(0)
    data = rng.normal(3, 1, size=n) + rng.normal(size=n)
    rows, values = klqp.placeholder(m, dtype=int), klqp.placeholder(m)
    mu = klqp.Normal(0.0, 10.0, name="mu")
    loc, scale = klqp.Parameter(np.zeros(n)), positive(np.ones(n))
    z = klqp.Normal(mu, 1.0, shape=m, name="z")
    y = klqp.Normal(z, 1.0)
    inference = klqp.KLqp({mu: klqp.MeanFieldNormal(), z: klqp.Normal(loc[rows], scale[rows])}, data={y: values})

    def epochs():
        shuffle = np.random.default_rng(1)
        while True:
            for i in shuffle.permutation(n).reshape(-1, m):
                yield {rows: i, values: data[i]}

    inference.run(feeds=epochs(), scale={y: n / m, z: n / m}, **QUIET)
    assert converged(inference)
    centre = n * data.mean() / (n + 0.02)  # of the equations mu = sum(loc) / (n + 0.01), loc = (y + mu) / 2
    assert inference.posterior[mu].mean() == pytest.approx(centre, abs=0.1 / math.sqrt(n))
    assert inference.posterior[mu].stddev() == pytest.approx(1 / math.sqrt(n), rel=0.1)
    np.testing.assert_allclose(loc.value, (data + centre) / 2, atol=0.1 * math.sqrt(0.5))
    np.testing.assert_allclose(scale.value, math.sqrt(0.5), rtol=0.1)


def test_feeds_are_taken_one_at_a_time_and_end_the_run():
    x, y, _, _ = regression()
    inference, _, observed, rows, values = batched()
    taken = []

    def some(n):
        for feed in itertools.islice(epochs(x, y, rows, values, 1), n):
            taken.append(len(inference.losses) if inference._engine is not None else 0)
            yield feed

    inference.run(feeds=some(40), n_iter=100, scale={observed: N / M}, **QUIET)
    assert inference.stop_reason == "feeds"
    assert len(inference.losses) == 40
    assert taken == [0, *range(1, 40)]  # each when its step comes
    with pytest.warns(klqp.PoorFitWarning, match="its feeds were used up"):
        inference.run(feeds=some(60), scale={observed: N / M}, **QUIET)
    assert len(inference.losses) == 100


def test_plain_steps_with_feeds_are_updates():
    x, y, _, _ = regression()
    by_run, w, observed, rows, values = batched()
    stream = epochs(x, y, rows, values, 5)
    by_run.run(feeds=lambda: next(stream), n_iter=30, scale={observed: N / M}, **QUIET)
    by_hand, v, observed, rows, values = batched()
    stream = epochs(x, y, rows, values, 5)
    by_hand.initialize(n_iter=30, scale={observed: N / M}, **QUIET)
    for _ in range(30):
        by_hand.update(next(stream))
    assert np.array_equal(by_run.posterior[w].mean(), by_hand.posterior[v].mean())
    assert np.array_equal(by_run.losses, by_hand.losses)


def test_feeds_that_are_wrong():
    inference, _, _, rows, values = batched()
    for feeds, error, words in [
        (3, TypeError, "iterable of feed_dicts"),
        ({rows: np.zeros((M, 3))}, TypeError, "for each step"),
        (lambda: 3, TypeError, "must return a dict"),
        ([3], TypeError, "feed_dict must be a dict"),
        ([{rows: np.zeros((M, 2))}], ValueError, "shape"),
        ([], ValueError, "no data"),
        ([{values: np.zeros(M)}], ValueError, "have no data"),
    ]:
        with pytest.raises(error, match=words):
            inference.run(feeds=feeds, **QUIET)
    with pytest.raises(ValueError, match="feeds: method='saa' takes no steps"):
        inference.run(feeds=[], method="saa", **QUIET)
