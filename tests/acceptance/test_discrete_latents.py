"""Discrete latent variables as users meet them: what is chosen and said, what is refused, what comes out."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import expit, log_expit, logit

import klqp
from klqp import optimizers

Y = np.array([0.0, 0.4, 0.9, 1.4, 2.0])
PRIOR = 0.3
# b_n ~ Bernoulli(.3), y_n ~ N(2 b_n, 1): the log odds of b_n given y_n.
LOG_ODDS = logit(PRIOR) + 2.0 * Y - 2.0
QUIET = {"progress": False, "seed": 1}


class Plate:
    """Binary variables that are independent of each other given the data, with a free q."""

    def __init__(self, y=Y):
        self.b = klqp.Bernoulli(probs=PRIOR, shape=len(Y), name="b")
        self.y = klqp.Normal(2.0 * self.b, 1.0, shape=len(Y), name="y")
        self.logits = klqp.Parameter(np.zeros(len(Y)), name="logits")
        self.q = klqp.Bernoulli(logits=self.logits, name="q")
        self.data = {self.y: y}

    def inference(self, cls=klqp.KLqp):
        return cls({self.b: self.q}, data=self.data)


def evidence():
    """Return log p(y) of the plate."""
    given = [-0.5 * (Y - 2.0 * k) ** 2 - 0.5 * math.log(2 * math.pi) for k in (0, 1)]
    return float(np.sum(np.logaddexp(math.log1p(-PRIOR) + given[0], math.log(PRIOR) + given[1])))


# --- one draw a step ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (klqp.ScoreKLqp, {"n_samples": 1}),
        (klqp.ScoreRBKLqp, {"n_samples": 1}),
        (klqp.KLqp, {"n_samples": 1, "enumerate": False}),
        (klqp.KLqp, {"n_samples": 1, "enumerate": False, "baseline": "optimal"}),
        (klqp.KLqp, {"n_samples": 2, "enumerate": False, "draws": "antithetic"}),
    ],
)
def test_one_draw_is_refused_where_its_gradient_would_be_zero(cls, options):
    with pytest.raises(ValueError, match=r"n_samples of at least 2 .* baseline='running'"):
        Plate().inference(cls).initialize(seed=1, **options)


def test_one_draw_refused_for_a_log_density_of_values():
    with pytest.raises(ValueError, match="baseline='running'"):
        klqp.fit(lambda z: -(z**2).sum(1), 2, n_samples=1, n_iter=5)


@pytest.mark.parametrize("baseline", ["running", "none"])
def test_one_draw_with_another_baseline(baseline):
    plate = Plate()
    inference = plate.inference()
    inference.run(n_iter=20_000, n_samples=1, enumerate=False, baseline=baseline, **QUIET)
    np.testing.assert_allclose(plate.logits.value, LOG_ODDS, atol=0.4)
    assert inference.posterior.elbo(20_000, seed=2).value > evidence() - 0.05


def test_one_draw_is_enough_for_exact_sums():
    plate = Plate()
    plate.inference().run(n_iter=2000, n_samples=1, **QUIET)
    np.testing.assert_allclose(plate.logits.value, LOG_ODDS, atol=1e-4)


def test_the_first_step_only_teaches_the_running_baseline():
    plate = Plate()
    inference = plate.inference()
    rule = optimizers.SGD(learning_rate=0.1, schedule="constant")
    inference.initialize(n_samples=1, enumerate=False, baseline="running", optimizer=rule, seed=1)
    inference.update()
    np.testing.assert_array_equal(plate.logits.value, 0.0)
    inference.update()
    assert np.any(plate.logits.value != 0.0)


# --- what is said ------------------------------------------------------------------------------------------

MEAN, BLANKETS = "leave-one-out averaged baselines", "Rao-Blackwellised over Markov blankets"


@pytest.mark.parametrize(
    ("cls", "options", "said", "not_said"),
    [
        (klqp.KLqp, {}, ["exact sums", "2 states of each element"], ["score"]),
        (klqp.KLqp, {"enumerate": True}, ["exact sums"], ["score"]),
        (klqp.KLqp, {"enumerate": False}, ["no derivative", MEAN, BLANKETS, "Monte Carlo"], ["exact"]),
        (klqp.KLqp, {"enumerate": []}, ["no derivative", MEAN], ["exact"]),
        (klqp.KLqp, {"enumerate": False, "baseline": "optimal"}, ["per-coordinate optimal baselines"], [MEAN]),
        (klqp.KLqp, {"enumerate": False, "baseline": "running"}, ["averaged over past steps"], [MEAN]),
        (klqp.KLqp, {"enumerate": False, "baseline": "none"}, ["no baselines"], [MEAN]),
        (klqp.KLqp, {"enumerate": False, "entropy": "closed_form"}, ["score", "entropy by its formula"], []),
        (klqp.KLqp, {"gradient": "score"}, ["asked for", MEAN, BLANKETS], ["exact"]),
        (klqp.ScoreKLqp, {}, ["asked for", MEAN, "Monte Carlo"], [BLANKETS, "exact"]),
        (klqp.ScoreRBKLqp, {}, ["asked for", MEAN, BLANKETS], ["exact"]),
        (klqp.ScoreEntropyKLqp, {}, ["asked for", "entropy by its formula"], [BLANKETS]),
        (klqp.ScoreKLKLqp, {}, ["asked for", "divergence from the prior by its formula"], [BLANKETS]),
    ],
)
def test_the_estimator_in_words(cls, options, said, not_said):
    inference = Plate().inference(cls)
    inference.initialize(seed=1, **options)
    assert inference.estimator.startswith("b: Bernoulli 'q'")
    for words in said:
        assert words in inference.estimator
    for words in not_said:
        assert words not in inference.estimator


@pytest.mark.parametrize(
    "cls", [klqp.ReparameterizationKLqp, klqp.ReparameterizationEntropyKLqp, klqp.ReparameterizationKLKLqp]
)
def test_reparameterisation_is_refused(cls):
    with pytest.raises(TypeError, match="'b', a Bernoulli, have no derivative"):
        Plate().inference(cls).initialize()


def test_gradients_are_chosen_for_each_factor():
    """A pathwise factor, one that is summed over and one with scores, side by side."""
    w = klqp.Normal(0.0, 1.0, name="w")
    b = klqp.Bernoulli(logits=w, shape=5, name="b")
    k = klqp.Poisson(2.0, shape=5, name="k")
    y = klqp.Normal(w + b + k, 1.0)
    qk = klqp.Poisson(klqp.Parameter(np.ones(5), support="positive"))
    inference = klqp.KLqp({w: klqp.MeanFieldNormal(), b: Plate().q, k: qk}, data={y: Y})
    inference.initialize(seed=1)
    lines = dict(line.split(": ", 1) for line in inference.estimator.splitlines())
    assert "reparameterisation gradients" in lines["w"]
    assert "exact sums" in lines["b"]
    assert "draws of a Poisson have no derivative" in lines["k"]


# --- enumerate= --------------------------------------------------------------------------------------------


def summed(n, shape=()):
    """Return an inference in which one term depends on all n variables."""
    b = klqp.Bernoulli(probs=PRIOR, shape=n, name="b")
    y = klqp.Normal(klqp.sum(b), 1.0, shape=shape)
    return klqp.KLqp([b], data={y: np.full(shape, 2.0)})


def given_discrete():
    """q of w is drawn given b."""
    b = klqp.Bernoulli(probs=PRIOR, name="b")
    w = klqp.Normal(b, 1.0, name="w")
    y = klqp.Normal(w, 1.0)
    qb = klqp.Bernoulli(logits=klqp.Parameter(0.0))
    qw = klqp.Normal(klqp.Parameter(0.0) + qb, klqp.Parameter(1.0, support="positive"))
    return klqp.KLqp({b: qb, w: qw}, data={y: 1.0})


def unlisted_given_discrete():
    b = klqp.Bernoulli(probs=PRIOR, name="b")
    noise = klqp.Normal(b, 1.0, name="noise")
    y = klqp.Normal(noise, 1.0)
    return klqp.KLqp({b: klqp.Bernoulli(logits=klqp.Parameter(0.0))}, data={y: 1.0})


def infinite():
    k = klqp.Poisson(2.0, name="k")
    y = klqp.Normal(k, 1.0)
    return klqp.KLqp({k: klqp.Poisson(klqp.Parameter(1.0, support="positive"))}, data={y: 1.0})


def continuous():
    w = klqp.Normal(0.0, 1.0, name="w")
    y = klqp.Normal(w, 1.0)
    return klqp.KLqp([w], data={y: 1.0})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: summed(13), r"together these have 2\*\*13 states, more than 4096"),
        (given_discrete, "q of 'w' is drawn given 'b'"),
        (infinite, "no q has finitely many states"),
        (continuous, "no q has finitely many states"),
    ],
)
def test_impossible_sums_say_why(make, reason):
    with pytest.raises(ValueError, match=reason):
        make().initialize(enumerate=True)
    inference = make()
    inference.initialize(seed=1)  # not asked for: another estimator is taken
    assert "exact sums" not in inference.estimator


def test_values_of_a_log_density_are_summed_only_if_asked():
    b = klqp.Bernoulli(probs=PRIOR, name="b")
    y = klqp.LogDensity(lambda value, b: -((value - b) ** 2), b, shape=(), name="y")
    for options, words in (({}, "score-function"), ({"enumerate": True}, "exact sums")):
        inference = klqp.KLqp({b: klqp.Bernoulli(logits=klqp.Parameter(0.0))}, data={y: 1.0})
        inference.initialize(seed=1, **options)
        assert words in inference.estimator


def twice(b, w, x):
    assert b.shape[1:] == x.shape == Y.shape
    return 2.0 * b + w[:, None] + 0.0 * x


def twice_vjp(cotangent, b, w, x):
    assert b.shape[1:] == x.shape == Y.shape
    return 2.0 * cotangent, cotangent.sum(1)


def log_density(value, b, w):
    assert b.shape[1:] == value.shape == Y.shape
    r = value - 2.0 * b - w[:, None]
    return -0.5 * (r**2).sum(1) - 0.5 * len(Y) * math.log(2 * math.pi), (2.0 * r, r.sum(1))


@pytest.mark.parametrize("drawn", [True, False], ids=["beside a draw", "beside a parameter"])
@pytest.mark.parametrize("options", [{"enumerate": True}, {"enumerate": False}], ids=["exact sums", "scores"])
def test_own_functions_see_a_draw_axis(options, drawn):
    """Also of variables that are summed over; and they give what klqp's own functions give."""
    losses = {}
    for kind in ("expression", "Deterministic", "LogDensity"):
        w = klqp.Normal(0.0, 1.0, name="w") if drawn else klqp.Parameter(0.1)
        b = klqp.Bernoulli(probs=PRIOR, shape=len(Y), name="b")
        mean = klqp.Deterministic(twice, twice_vjp, b, w, Y, shape=len(Y)) if kind == "Deterministic" else 2.0 * b + w
        y = klqp.LogDensity(log_density, b, w, shape=len(Y)) if kind == "LogDensity" else klqp.Normal(mean, 1.0)
        inference = klqp.KLqp([b, w] if drawn else [b], data={y: Y})
        inference.initialize(n_samples=5, seed=1, **options)
        assert ("exact sums" in inference.estimator) == options["enumerate"]
        # Scores of functions that klqp cannot look into have larger blankets: other steps after the first.
        losses[kind] = [inference.update()["loss"] for _ in range(20 if options["enumerate"] else 1)]
    np.testing.assert_allclose(losses["Deterministic"], losses["expression"], rtol=1e-9)
    np.testing.assert_allclose(losses["LogDensity"], losses["expression"], rtol=1e-9)


@pytest.mark.parametrize(("n", "chosen"), [(4, "all 16 states of the whole"), (5, "score-function")])
def test_many_states_are_summed_only_if_asked(n, chosen):
    inference = summed(n)
    inference.initialize(seed=1)
    assert chosen in inference.estimator
    inference.initialize(seed=1, enumerate=True)
    assert f"all {2**n} states of the whole" in inference.estimator


def test_named_variables_alone_are_summed():
    b, c = (klqp.Bernoulli(probs=PRIOR, shape=5, name=name) for name in "bc")
    y = klqp.Normal(2.0 * b - c, 1.0)
    inference = klqp.KLqp([b, c], data={y: Y})
    inference.initialize(seed=1, enumerate=[c])
    lines = dict(line.split(": ", 1) for line in inference.estimator.splitlines())
    assert "score-function" in lines["b"]
    assert "exact sums" in lines["c"]


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("yes", TypeError, "True, False, 'auto' or a list"),
        (3, TypeError, "True, False, 'auto' or a list"),
        ([klqp.Bernoulli(probs=0.5, name="other")], ValueError, "other"),
    ],
)
def test_wrong_values_of_enumerate(value, error, words):
    with pytest.raises(error, match=words):
        Plate().inference().initialize(enumerate=value)


def test_a_name_without_finitely_many_states():
    inference = infinite()
    with pytest.raises(ValueError, match=r"\['k'\].*finitely many"):
        inference.initialize(enumerate=[next(iter(inference.latent_vars))])


def test_enumerate_contradicts_forced_gradients():
    plate = Plate()
    for value in (True, [plate.b]):
        with pytest.raises(ValueError, match="enumerate asks for exact sums, but other gradients are forced"):
            plate.inference(klqp.ScoreKLqp).initialize(enumerate=value)
        with pytest.raises(ValueError, match="enumerate asks for exact sums, but other gradients are forced"):
            plate.inference().initialize(enumerate=value, gradient="score")
    plate.inference(klqp.ScoreKLqp).initialize(enumerate=False)


def test_enumerate_for_one_log_density():
    with pytest.raises(ValueError, match="finitely many states"):
        klqp.fit(lambda z: (-(z**2).sum(1), -2 * z), 2, n_iter=1, enumerate=True)


def test_a_baseline_that_nothing_uses():
    with pytest.raises(ValueError, match="baseline is for score-function gradients, but no factor of q has them"):
        Plate().inference().initialize(baseline="running")


def test_an_entropy_that_scores_do_not_have():
    with pytest.raises(ValueError, match="entropy"):
        Plate().inference().initialize(enumerate=False, entropy="adaptive")


# --- kl_scaling and scale ----------------------------------------------------------------------------------


def test_kl_scaling_of_a_discrete_variable():
    """E log p(y | b) - a KL(q | p) is largest where logit q = logit p + (log likelihood ratio) / a."""
    plate, a = Plate(), 2.0
    inference = plate.inference()
    inference.run(n_iter=20_000, n_samples=20, kl_scaling={plate.b: a}, **QUIET)
    assert "divergence from the prior by its formula" in inference.estimator
    np.testing.assert_allclose(plate.logits.value, logit(PRIOR) + (2.0 * Y - 2.0) / a, atol=0.1)


def test_kl_scaling_beside_exact_sums():
    """One variable's divergence by formula, another one summed over: the expected gradient is that of the objective."""
    a = 0.25
    w = klqp.Normal(0.0, 1.0, name="w")
    b = klqp.Bernoulli(probs=PRIOR, shape=len(Y), name="b")
    y = klqp.Normal(w + 2.0 * b, 1.0)
    loc, scale = klqp.Parameter(0.4), klqp.Parameter(0.6, support="positive")
    logits = klqp.Parameter(np.linspace(-1.0, 1.0, len(Y)))
    inference = klqp.KLqp({w: klqp.Normal(loc, scale), b: klqp.Bernoulli(logits=logits)}, data={y: Y})
    inference.initialize(n_samples=10, kl_scaling={w: a}, seed=1)
    assert "exact sums" in inference.estimator
    assert "divergence from the prior by its formula" in inference.estimator

    def elbo(x):
        m, s, total = x[0], math.exp(x[1]), 0.0
        for k, sign in ((0.0, -1.0), (1.0, 1.0)):
            log_q = log_expit(sign * x[2:])
            given = -0.5 * ((Y - 2 * k - m) ** 2 + s**2) + math.log(PRIOR if k else 1 - PRIOR)
            total += np.sum(np.exp(log_q) * (given - log_q))
        return total - a * (0.5 * (m**2 + s**2) - math.log(s))

    run, layout = inference._engine.run, inference._engine.compiled.layout
    order = np.concatenate([layout.offsets[p] + np.arange(p.n_unconstrained) for p in (loc, scale, logits)])
    at, h = run.params[order], 1e-5
    exact = np.array([(elbo(at + h * e) - elbo(at - h * e)) / (2 * h) for e in np.eye(len(at))])
    draws = np.array([run.gradient(t)[1][order] for t in range(20_000)])
    error = draws.std(0, ddof=1) / math.sqrt(len(draws))
    np.testing.assert_array_less(np.abs(draws.mean(0) - exact), 4.5 * error + 1e-8)


ENUMERATED = [{}, {"enumerate": False, "n_samples": 20}]


@pytest.mark.parametrize("options", ENUMERATED, ids=["exact sums", "scores"])
def test_scale_masks_events(options):
    """A factor of 0 leaves an event of the data and of the latent variable out: its q stays where it was."""
    plate, mask = Plate(), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    plate.inference().run(n_iter=10_000, scale={plate.b: mask, plate.y: mask}, **options, **QUIET)
    np.testing.assert_array_equal(plate.logits.value[mask == 0], 0.0)
    np.testing.assert_allclose(plate.logits.value[mask == 1], LOG_ODDS[mask == 1], atol=0.05)


@pytest.mark.parametrize("options", ENUMERATED, ids=["exact sums", "scores"])
def test_scale_of_a_discrete_variable(options):
    """On prior, log q and likelihood alike it changes the size of the ELBO, not its optimum; on data, the posterior."""
    plate = Plate()
    inference = plate.inference()
    inference.run(n_iter=10_000, scale={plate.b: 7.0, plate.y: 7.0}, **options, **QUIET)
    np.testing.assert_allclose(plate.logits.value, LOG_ODDS, atol=0.05)
    assert -inference.losses[-1] == pytest.approx(7.0 * evidence(), abs=0.05)
    plate = Plate()
    plate.inference().run(n_iter=10_000, scale={plate.y: 2.0}, **options, **QUIET)
    np.testing.assert_allclose(plate.logits.value, logit(PRIOR) + 2.0 * (2.0 * Y - 2.0), atol=0.1)


# --- placeholders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ENUMERATED, ids=["exact sums", "scores"])
def test_fed_data_give_the_bits_of_fixed_data(options):
    fixed, values = Plate(), klqp.placeholder(len(Y))
    fed = Plate(y=values)
    one, other = fixed.inference(), fed.inference()
    one.initialize(seed=1, **options)
    other.initialize(seed=1, **options)
    for _ in range(20):
        assert one.update()["loss"] == other.update({values: Y})["loss"]
    np.testing.assert_array_equal(fixed.logits.value, fed.logits.value)


@pytest.mark.parametrize("options", ENUMERATED, ids=["exact sums", "scores"])
def test_minibatches_of_local_discrete_variables(options):
    """Rows of q by an index that is fed: the rows of a batch move, the others stay, and all get their posterior."""
    n, m = 12, 4
    y = np.linspace(-1.0, 3.0, n)
    index, values = klqp.placeholder(m, dtype=int), klqp.placeholder(m)
    logits = klqp.Parameter(np.zeros(n))
    b = klqp.Bernoulli(probs=PRIOR, shape=m, name="b")
    seen = klqp.Normal(2.0 * b, 1.0)
    inference = klqp.KLqp({b: klqp.Bernoulli(logits=logits[index])}, data={seen: values})
    inference.initialize(n_iter=9000, scale={b: n / m, seen: n / m}, seed=1, **options)
    inference.update({index: [0, 3, 5, 7], values: y[[0, 3, 5, 7]]})
    np.testing.assert_array_equal(np.flatnonzero(logits.value), [0, 3, 5, 7])
    rng = np.random.default_rng(0)
    for _ in range(9000):
        rows = rng.choice(n, m, replace=False)
        inference.update({index: rows, values: y[rows]})
    inference.finalize()
    np.testing.assert_allclose(logits.value, logit(PRIOR) + 2.0 * y - 2.0, atol=0.1)


# --- the posterior -----------------------------------------------------------------------------------------


def test_posterior_of_binary_variables():
    plate = Plate()
    inference = plate.inference()
    inference.run(n_iter=3000, **QUIET)
    own, p = inference.posterior[plate.b], expit(plate.logits.value)
    np.testing.assert_allclose(p, expit(LOG_ODDS), atol=1e-4)
    np.testing.assert_allclose(own.mean(), p, rtol=1e-14)
    np.testing.assert_allclose(own.variance(), p * (1 - p), rtol=1e-12)
    np.testing.assert_allclose(own.stddev(), np.sqrt(p * (1 - p)), rtol=1e-12)
    draws = own.sample(40_000, seed=3)
    assert set(np.unique(draws)) == {0.0, 1.0}
    np.testing.assert_array_less(np.abs(draws.mean(0) - p), 4.5 * np.sqrt(p * (1 - p) / len(draws)))
    every = np.array(list(itertools.product([0.0, 1.0], repeat=len(Y))))
    log_q = inference.posterior.log_prob({"b": every})
    np.testing.assert_allclose(log_q, (every * np.log(p) + (1 - every) * np.log1p(-p)).sum(1), rtol=1e-12)
    assert np.exp(log_q).sum() == pytest.approx(1.0, abs=1e-12)
    elbo = inference.posterior.elbo(20_000, seed=4)
    assert elbo.value == pytest.approx(evidence(), abs=1e-4)
    assert elbo.std_error < 1e-4
    table = str(inference.posterior.summary())
    assert len(table.splitlines()) == 1 + len(Y)
    assert f"{p[2]:.4g}" in table


@pytest.mark.parametrize("one_hot", [False, True], ids=["Categorical", "OneHotCategorical"])
def test_posterior_of_categories(one_hot):
    kind, prior, centres = klqp.OneHotCategorical if one_hot else klqp.Categorical, [0.5, 0.3, 0.2], [0.0, 1.0, 1.6]
    z = kind(probs=np.tile(prior, (len(Y), 1)), name="z")
    levels = klqp.Parameter(centres)
    y = klqp.Normal(z @ centres if one_hot else levels[z], 0.7)
    inference = klqp.KLqp([z], data={y: Y})
    inference.run(n_iter=3000, var_list=[p for p in inference._problem.parameters() if p is not levels], **QUIET)
    log_p = np.log(prior) - 0.5 * ((Y[:, None] - centres) / 0.7) ** 2
    p = np.exp(log_p - np.logaddexp.reduce(log_p, 1, keepdims=True))
    own, states = inference.posterior[z], np.arange(3)
    draws = own.sample(40_000, seed=3)
    if one_hot:
        np.testing.assert_allclose(own.mean(), p, atol=1e-4)
        np.testing.assert_allclose(own.variance(), p * (1 - p), atol=1e-4)
        np.testing.assert_array_equal(draws.sum(-1), 1.0)
        shares = draws.mean(0)
    else:
        np.testing.assert_allclose(own.mean(), p @ states, atol=3e-4)
        np.testing.assert_allclose(own.variance(), p @ states**2 - (p @ states) ** 2, atol=3e-4)
        shares = np.mean(draws[..., None] == states, 0)
    np.testing.assert_array_less(np.abs(shares - p), 4.5 * np.sqrt(p * (1 - p) / len(draws)) + 1e-4)
    assert inference.posterior.elbo(2000, seed=4).std_error < 1e-3


def test_posterior_of_counts():
    k = klqp.Poisson(2.0, shape=3, name="k")
    y = klqp.Normal(k, 1.0)
    rate = klqp.Parameter([1.0, 2.0, 3.0], support="positive")
    inference = klqp.KLqp({k: klqp.Poisson(rate)}, data={y: [1.0, 2.0, 4.0]})
    inference.run(n_iter=200, **QUIET)
    own = inference.posterior[k]
    np.testing.assert_allclose(own.mean(), rate.value, rtol=1e-14)
    np.testing.assert_allclose(own.variance(), rate.value, rtol=1e-12)
    draws = own.sample(20_000, seed=3)
    assert np.all(draws == np.floor(draws))
    np.testing.assert_array_less(np.abs(draws.mean(0) - rate.value), 4.5 * np.sqrt(rate.value / len(draws)))


# --- lists -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["mean_field", "full_rank"])
def test_a_list_with_discrete_variables(family):
    """Each discrete variable gets a q of its own, and the family is over the others."""
    w = klqp.Normal(0.0, 1.0, shape=2, name="w")
    b = klqp.Bernoulli(probs=PRIOR, shape=len(Y), name="b")
    z = klqp.Categorical(probs=[0.6, 0.4], name="z")
    y = klqp.Normal(w[0] + 2.0 * b + w[z], 1.0)
    inference = klqp.KLqp([w, b, z], data={y: Y}, q=family)
    inference.run(n_iter=2000, **QUIET)
    lines = dict(line.split(": ", 1) for line in inference.estimator.splitlines())
    assert list(lines) == ["w", "b", "z"]
    assert family.replace("_", "-") in lines["w"]
    assert "reparameterisation" in lines["w"]
    assert "exact sums" in lines["b"]
    assert "exact sums" in lines["z"]
    assert set(inference.posterior.mean()) == {"w", "b", "z"}
    draws = inference.posterior.sample(100, seed=1)
    assert {name: each.shape for name, each in draws.items()} == {"w": (100, 2), "b": (100, 5), "z": (100,)}
    assert inference.posterior.log_prob(draws).shape == (100,)
    assert np.isfinite(inference.posterior.elbo(100, seed=1).value)


def test_a_list_of_discrete_variables_alone():
    b = klqp.Bernoulli(probs=PRIOR, shape=len(Y), name="b")
    y = klqp.Normal(2.0 * b, 1.0)
    inference = klqp.KLqp([b], data={y: Y})
    inference.run(n_iter=3000, **QUIET)
    np.testing.assert_allclose(inference.posterior[b].mean(), expit(LOG_ODDS), atol=1e-4)


def test_a_list_with_infinitely_many_values_says_what_to_do():
    k = klqp.Poisson(2.0, name="k")
    y = klqp.Normal(k, 1.0)
    with pytest.raises(TypeError, match=r"'k' is discrete \(Poisson\).*q of its own"):
        klqp.KLqp([k], data={y: 1.0})
