"""Bad input for models: refused before anything changes, naming the variable, what was expected and what came."""

import re
import warnings

import numpy as np
import pytest

import klqp

inf, nan = float("inf"), float("nan")
QUIET = {"n_iter": 3, "n_samples": 4, "seed": 1, "progress": False}


def check(error, words, call):
    """Check that `call` raises `error`, and that its message has every one of `words`."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error) as caught:
            call()
    assert type(caught.value) is error
    message = str(caught.value.args[0])
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} missing in: {message}"
    assert "incompatible" not in message


class Model:
    """mu ~ N(0, 1), tau ~ Gamma(2, 1), x_i ~ N(mu, 1), n ~ Poisson(tau)."""

    def __init__(self):
        self.mu = klqp.Normal(0.0, 1.0, name="mu")
        self.tau = klqp.Gamma(2.0, 1.0, name="tau")
        self.x = klqp.Normal(self.mu, 1.0, shape=3, name="x")
        self.n = klqp.Poisson(self.tau, shape=2, name="n")
        self.data = {self.x: [1.0, 2.0, 3.0], self.n: [1, 4]}
        self.latents = [self.mu, self.tau]

    def inference(self, latents=None, data=None, **options):
        return klqp.KLqp(self.latents if latents is None else latents, self.data if data is None else data, **options)


def normal_q(shape=(), name="q", support="positive"):
    return klqp.Normal(
        klqp.Parameter(np.zeros(shape), name=f"{name}/loc"),
        klqp.Parameter(np.ones(shape), support=support, name=f"{name}/scale"),
        name=name,
    )


@pytest.fixture
def m():
    return Model()


def state_of(inference):
    return inference.snapshot(), {name: inference.posterior[name].mean() for name in inference.posterior}


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


# --- data ---
VALUES = [
    ("x", [1.0, 2.0], ValueError, ("shape (3,)", "shape (2,)")),
    ("x", 1.0, ValueError, ("shape (3,)", "shape ()")),
    ("x", [[1.0, 2.0, 3.0]], ValueError, ("shape (3,)", "shape (1, 3)")),
    ("x", [], ValueError, ("elements", "(0,)")),
    ("x", [1.0, nan, 3.0], ValueError, ("NaN", "index (1,)")),
    ("x", [1.0, inf, 3.0], ValueError, ("finite", "inf")),
    ("x", [[1.0], [2.0, 3.0]], ValueError, ("ragged",)),
    ("x", ["a", "b", "c"], TypeError, ("real numbers", "<U1")),
    ("x", "abc", TypeError, ("real numbers", "str")),
    ("x", [1j, 0, 0], TypeError, ("real numbers", "complex")),
    ("x", [None, 1, 2], TypeError, ("real numbers", "object")),
    ("x", None, TypeError, ("real numbers", "NoneType")),
    ("x", {"a": 1}, TypeError, ("real numbers", "dict")),
    ("n", [1.5, 2.0], ValueError, ("integers", "Poisson", "1.5")),
    ("n", [1, -2], ValueError, ("at least 0", "Poisson", "-2")),
    ("n", [1, nan], ValueError, ("NaN", "index (1,)")),
    ("n", [1, inf], ValueError, ("integers", "Poisson", "inf")),
]


@pytest.mark.parametrize(("name", "value", "error", "words"), VALUES, ids=[f"{c[0]}={c[1]}" for c in VALUES])
def test_wrong_values_of_data(m, name, value, error, words):
    data = {**m.data, getattr(m, name): value}
    check(error, (f"data of '{name}'", *words), lambda: m.inference(data=data))


SUPPORTS = [
    (lambda: klqp.Gamma(1.0, 1.0, name="y"), -1.0, ("positive", "Gamma", "-1")),
    (lambda: klqp.Beta(1.0, 1.0, name="y"), 1.5, ("[0, 1]", "Beta", "1.5")),
    (lambda: klqp.Bernoulli(probs=0.5, name="y"), 2, ("0 or 1", "Bernoulli", "2")),
    (lambda: klqp.Bernoulli(probs=0.5, name="y"), 0.5, ("0 or 1", "Bernoulli", "0.5")),
    (lambda: klqp.Binomial(5, probs=0.5, name="y"), 6, ("integers", "Binomial", "at most 5", "6")),
    (lambda: klqp.Binomial(5, probs=0.5, name="y"), 2.5, ("integers", "Binomial", "2.5")),
    (lambda: klqp.Uniform(1.0, 2.0, name="y"), 2.5, ("Uniform", "at least 1", "at most 2", "2.5")),
    (lambda: klqp.Gamma(1.0, 1.0, shape=2, name="y"), [0.0, -2.0], ("positive", "Gamma", "-2")),
    (lambda: klqp.LogNormal(0.0, 1.0, name="y"), -0.5, ("positive", "LogNormal", "-0.5")),
]


@pytest.mark.parametrize(("make", "value", "words"), SUPPORTS)
def test_values_outside_a_support(make, value, words):
    variable = make()
    loc = klqp.Parameter(0.0)
    x = klqp.Normal(loc, 1.0)
    check(ValueError, ("data of 'y'", *words), lambda: klqp.KLqp([], data={x: 0.0, variable: value}))


def test_the_values_of_data_are_copied(m):
    x = np.array([1.0, 2.0, 3.0])
    inference = m.inference(data={**m.data, m.x: x})
    x[:] = nan
    inference.run(**QUIET)
    assert np.isfinite(inference.losses).all()


def test_data_of_what_the_model_does_not_have(m):
    alone = klqp.Normal(0.0, 1.0, name="alone")
    check(ValueError, ("data", "'alone'", "no latent variable"), lambda: m.inference(data={**m.data, alone: 1.0}))
    q = normal_q(name="q")
    check(ValueError, ("data", "'alone'", "no latent variable"), lambda: m.inference(data={**m.data, alone: q}))
    for key, kind in (("mu", "str"), (3, "int"), (m.mu + 1.0, "Node"), (klqp.Parameter(0.0), "Parameter")):
        check(
            TypeError,
            ("keys of data", "random variables or placeholders", kind),
            lambda key=key: m.inference(data={**m.data, key: 1.0}),
        )
    for data in (3, [1.0], "x", m.x):
        check(TypeError, ("data", "dict by random variable", type(data).__name__), lambda d=data: m.inference(data=d))


def test_expressions_are_no_data(m):
    for value in (m.mu + 1.0, klqp.Parameter(np.zeros(3), name="p")):
        check(
            TypeError, ("data of 'x'", "numbers", "placeholder"), lambda v=value: m.inference(data={**m.data, m.x: v})
        )
    wide = klqp.placeholder(4)
    check(
        ValueError,
        ("data of 'x'", "shape (3,)", "placeholder", "(4,)"),
        lambda: m.inference(data={**m.data, m.x: wide}),
    )


def test_a_latent_that_no_data_depend_on(m):
    with pytest.warns(klqp.UnreachedLatentWarning, match=r"no data depend.*'tau'.*prior"):
        inference = m.inference(data={m.x: [1.0, 2.0, 3.0]})
    inference.run(**QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m.inference()
        klqp.KLqp([m.mu])  # no data at all: the prior is asked for


def test_both_latent_and_observed(m):
    check(ValueError, ("'mu'", "latent variable", "data"), lambda: m.inference(data={**m.data, m.mu: 0.0}))
    q = normal_q()
    check(ValueError, ("'mu'", "latent variable", "data"), lambda: m.inference(data={**m.data, m.mu: q}))


# --- latent variables and their q ---
def test_names_occur_once(m):
    twin = klqp.Normal(0.0, 1.0, name="mu")
    check(ValueError, ("'mu'", "twice"), lambda: m.inference([m.mu, m.tau, m.mu]))
    check(ValueError, ("'mu'", "two variables", "other names"), lambda: m.inference([m.mu, m.tau, twin]))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: klqp.Bernoulli(probs=0.5, name="k"), "Bernoulli"),
        (lambda: klqp.Poisson(2.0, name="k"), "Poisson"),
        (lambda: klqp.Geometric(probs=0.5, name="k"), "Geometric"),
    ],
)
def test_discrete_latents(make, kind):
    k = make()
    x = klqp.Normal(k * 1.0, 1.0)
    in_a_list = [] if kind == "Bernoulli" else [[k]]  # which gets a q of its own
    for latents in (*in_a_list, {k: klqp.MeanFieldNormal()}, {k: normal_q()}):
        check(TypeError, ("'k'", "discrete", kind), lambda latents=latents: klqp.KLqp(latents, data={x: 1.0}))


def test_a_discrete_q(m):
    q = klqp.Poisson(klqp.Parameter(1.0, support="positive"), name="q")
    check(TypeError, ("q 'q'", "'mu'", "discrete", "Poisson"), lambda: m.inference({m.mu: q, m.tau: normal_q()}))
    check(TypeError, ("q 'q'", "'mu'", "discrete"), lambda: m.inference([m.tau], data={**m.data, m.mu: q}))


def test_q_on_another_support(m):
    q = klqp.LogNormal(klqp.Parameter(0.0), klqp.Parameter(1.0, support="positive"), name="q")
    words = ("q 'q'", "positive", "'mu'", "real")
    check(TypeError, words, lambda: m.inference({m.mu: q, m.tau: klqp.MeanFieldNormal()}))
    m.inference({m.mu: normal_q(), m.tau: q})


def test_q_of_another_shape(m):
    q = normal_q(2)
    check(ValueError, ("q 'q'", "(2,)", "'mu'", "()"), lambda: m.inference({m.mu: q, m.tau: normal_q(name="r")}))
    words = ("q 'q'", "2 coordinates", "'tau'", "1")
    check(ValueError, words, lambda: m.inference({m.tau: q, m.mu: normal_q(name="r")}))


def test_q_without_draws(m):
    q = klqp.Flat(support="positive", name="q")
    words = ("q 'q'", "'tau'", "Flat", "no draws", "klqp.MeanFieldNormal")
    check(TypeError, words, lambda: m.inference({m.tau: q, m.mu: normal_q()}))


def test_without_transforms(m):
    inference = m.inference()
    words = ("'tau'", "positive", "auto_transform=False")
    check(TypeError, words, lambda: inference.run(auto_transform=False, **QUIET))
    with_own = m.inference({m.mu: normal_q(), m.tau: normal_q(name="r")})
    check(TypeError, ("q 'r'", *words), lambda: with_own.run(auto_transform=False, **QUIET))
    exact = klqp.LogNormal(klqp.Parameter(0.0), klqp.Parameter(1.0, support="positive"))
    m.inference({m.mu: normal_q(), m.tau: exact}).run(auto_transform=False, **QUIET)


def test_q_that_depends_on_itself():
    a, b, c = (klqp.Normal(0.0, 1.0, name=name) for name in "abc")
    x = klqp.Normal(a + b + c, 1.0)
    qa, qc = klqp.Normal(b * klqp.Parameter(1.0), 1.0, name="qa"), normal_q(name="qc")
    qb = klqp.Normal(a * klqp.Parameter(1.0), 1.0, name="qb")
    words = ("approximation", "depends on itself")
    check(ValueError, words, lambda: klqp.KLqp({a: qa, b: qb, c: qc}, data={x: 1.0}))
    check(ValueError, ("'a'", *words), lambda: klqp.KLqp({a: klqp.Normal(a * 0.5, 1.0), b: qc}, data={x: 1.0}))
    # One that merely hangs on a circle is not blamed.
    onto = klqp.Normal(b * 0.5, 1.0)
    with pytest.raises(ValueError, match=r"approximation of '[ab]' depends on itself"):
        klqp.KLqp({c: onto, a: qa, b: qb}, data={x: 1.0})


def test_one_q_for_two_variables(m):
    nu = klqp.Normal(m.mu, 1.0, name="nu")
    q = normal_q()
    check(ValueError, ("q 'q'", "'mu'", "'nu'", "its own"), lambda: klqp.KLqp({m.mu: q, nu: q}, data={m.x: [0, 0, 0]}))


def test_q_in_the_places_of_other_variables(m):
    q, r = normal_q(), normal_q(name="r")
    y = klqp.Normal(q, 1.0, name="y")
    words = ("model depends on 'q'", "q of 'mu'")
    check(ValueError, words, lambda: klqp.KLqp({m.mu: q}, data={m.x: [0, 0, 0], y: 1.0}))
    check(ValueError, ("q 'q'", "'mu'", "keys of data"), lambda: klqp.KLqp({m.mu: q}, data={m.x: [0, 0, 0], q: 1.0}))
    check(ValueError, ("q 'r'", "'mu'", "latent"), lambda: klqp.KLqp({m.mu: r, r: q}, data={m.x: [0, 0, 0]}))


def test_q_that_depends_on_an_unknown(m):
    other = klqp.Normal(0.0, 1.0, name="other")
    q = klqp.Normal(other, 1.0, name="q")
    words = ("q 'q'", "'mu'", "'other'", "neither latent nor among the data")
    check(ValueError, words, lambda: klqp.KLqp({m.mu: q}, data={m.x: [0, 0, 0]}))
    check(ValueError, words, lambda: m.inference([m.tau], data={**m.data, m.mu: q}))


def test_bounds_that_move_have_no_transform():
    low = klqp.Normal(0.0, 1.0, name="low")
    u = klqp.Uniform(low, 5.0, name="u")
    x = klqp.Normal(u, 1.0)
    check(TypeError, ("interval", "bounds", "constant"), lambda: klqp.KLqp([low, u], data={x: 1.0}))


def test_nothing_to_optimise(m):
    check(ValueError, ("nothing to optimise", "klqp.Parameter"), lambda: klqp.KLqp(data={m.x: [1.0, 2.0, 3.0]}))


# --- results ---
def test_unknown_names_of_the_posterior(m):
    inference = m.inference()
    inference.run(**QUIET)
    posterior = inference.posterior
    assert list(posterior) == ["mu", "tau"]
    for key in ("x", "nu", 0, None, m.x, klqp.Normal(0.0, 1.0, name="mu")):
        check(KeyError, ("no latent variable", "'mu', 'tau'"), lambda key=key: posterior[key])
    draws = posterior.sample(5, seed=1)
    np.testing.assert_array_equal(
        posterior.log_prob(draws), posterior.log_prob({m.mu: draws["mu"], m.tau: draws["tau"]})
    )
    words = ("draws", "'mu', 'tau'")
    for wrong in ({}, {"mu": draws["mu"]}, {**draws, "x": draws["mu"]}, {m.x: 1.0}):
        check(KeyError, words, lambda wrong=wrong: posterior.log_prob(wrong))
    check(TypeError, ("draws", "dict", "'mu', 'tau'"), lambda: posterior.log_prob(draws["mu"]))
    for wrong, error, words in (
        (draws["tau"][:4], ValueError, ("draws of 'tau'", "(5,)", "(4,)")),
        (draws["tau"][:, None], ValueError, ("draws of 'tau'", "(5,)", "(5, 1)")),
        (draws["tau"] * 1j, TypeError, ("draws of 'tau'", "real", "complex")),
        ("a", TypeError, ("draws of 'tau'", "real")),
    ):
        check(error, words, lambda wrong=wrong: posterior.log_prob({**draws, "tau": wrong}))


def test_points_outside_a_support_have_no_density(m):
    inference = m.inference()
    inference.run(**QUIET)
    log_q = inference.posterior.log_prob({"mu": [0.0, 0.0, 0.0], "tau": [1.0, -1.0, 0.0]})
    assert np.isfinite(log_q[0])
    np.testing.assert_array_equal(log_q[1:], -inf)


# --- keywords of a run by variable ---
def test_empty_var_list_leaves_only_ready_made_families(m):
    words = ("var_list is empty", "nothing to optimise")
    theirs = m.inference({m.mu: normal_q(name="q1"), m.tau: normal_q(name="q2")})
    check(ValueError, words, lambda: theirs.run(var_list=[], **QUIET))
    rate = klqp.Parameter(1.0, support="positive", name="rate")
    likelihood = klqp.KLqp(data={klqp.Poisson(rate, shape=2): [1, 4]})
    check(ValueError, words, lambda: likelihood.run(var_list=(), **QUIET))
    ready_made = m.inference()
    ready_made.run(var_list=[], **QUIET)
    assert ready_made.posterior["mu"].mean() != 0


OPTIONS = [
    ({"scale": lambda m: {"x": 2.0}}, ValueError, ("scale", "'x'", "'mu'", "'tau'", "'x'", "'n'")),
    ({"scale": lambda m: {klqp.Normal(name="y"): 2.0}}, ValueError, ("scale", "'y'", "'mu'")),
    ({"scale": lambda m: {m.x: [1.0, 2.0]}}, ValueError, ("scale of 'x'", "shape (3,)", "(2,)")),
    ({"scale": lambda m: {m.x: nan}}, ValueError, ("scale of 'x'", "NaN")),
    ({"scale": lambda m: {m.x: inf}}, ValueError, ("scale of 'x'", "finite", "inf")),
    ({"scale": lambda m: {m.x: -1.0}}, ValueError, ("scale of 'x'", "at least 0", "-1")),
    ({"scale": lambda m: {m.x: "a"}}, TypeError, ("scale of 'x'", "real numbers", "str")),
    ({"scale": lambda m: {m.x: klqp.placeholder(2)}}, ValueError, ("scale of 'x'", "(3,)", "placeholder", "(2,)")),
    ({"kl_scaling": lambda m: {m.x: 2.0}}, ValueError, ("kl_scaling", "'x'", "none of ['mu', 'tau']")),
    ({"kl_scaling": lambda m: {m.mu: [1.0, 2.0]}}, ValueError, ("kl_scaling of 'mu'", "shape ()", "(2,)")),
    ({"kl_scaling": lambda m: {m.mu: nan}}, ValueError, ("kl_scaling of 'mu'", "NaN")),
    ({"kl_scaling": lambda m: {m.tau: 2.0}}, TypeError, ("kl_scaling", "closed-form", "'tau'", "Gamma")),
    ({"var_list": lambda m: [klqp.Parameter(0.0, name="p")]}, ValueError, ("var_list", "this inference", "'p'")),
    ({"init_loc": lambda m: {m.mu: [1.0, 2.0]}}, ValueError, ("init_loc", "shape ()", "(2,)")),
    ({"init_loc": lambda m: {m.x: 1.0}}, ValueError, ("init_loc", "'x'", "none of ['mu', 'tau']")),
    ({"init_scale": lambda m: {"nu": 1.0}}, ValueError, ("init_scale", "'nu'", "none of ['mu', 'tau']")),
    ({"init_scale": lambda m: {"mu": -1.0}}, ValueError, ("init_scale", "positive", "-1")),
    ({"entropy": lambda m: "proximal"}, ValueError, ("proximal",)),
    ({"log_vars": lambda m: [m.mu]}, ValueError, ("log_vars", "parameters", "'mu'")),
]


@pytest.mark.parametrize(("options", "error", "words"), OPTIONS, ids=[f"{next(iter(c[0]))}-{c[2]}" for c in OPTIONS])
@pytest.mark.parametrize("method", ["run", "initialize"])
def test_wrong_keywords_by_variable_change_nothing(m, method, options, error, words):
    inference = m.inference()
    inference.run(**QUIET)
    before = state_of(inference)
    given = {name: make(m) for name, make in options.items()}
    check(error, words, lambda: getattr(inference, method)(**{**QUIET, **given}))
    assert_same(before, state_of(inference))
    again = m.inference()
    again.run(**QUIET)
    for one in (inference, again):
        one.run(**QUIET)
    assert_same(state_of(inference), state_of(again))


def test_a_scale_needs_a_q_of_its_own(m):
    inference = m.inference(q="full_rank")
    words = ("scale", "full-rank", "mu, tau")
    check(TypeError, words, lambda: inference.run(**QUIET, scale={m.mu: 2.0}))
    inference.run(**QUIET, scale={m.x: 2.0})


def test_kl_scaling_without_a_formula(m):
    for latents in (
        {m.mu: klqp.FullRankNormal(), m.tau: klqp.MeanFieldNormal()},
        {(m.mu, m.tau): klqp.FullRankNormal()},
    ):
        inference = m.inference(latents)
        check(TypeError, ("kl_scaling", "'mu'", "full-rank"), lambda i=inference: i.run(**QUIET, kl_scaling={m.mu: 2}))
    for cls in (klqp.ReparameterizationKLKLqp, klqp.ScoreKLKLqp):
        words = (cls.__name__, "closed-form", "'tau'", "Gamma")
        check(TypeError, words, lambda cls=cls: cls(m.latents, m.data))


def test_a_refused_restart_leaves_parameters(m):
    q, r = normal_q(), normal_q(name="r")
    inference = m.inference({m.mu: q, m.tau: r})
    inference.run(**QUIET)
    values = [p.value for p in (*q.inputs, *r.inputs)]
    before = state_of(inference)
    check(ValueError, ("n_iter",), lambda: inference.run(restart=True, **{**QUIET, "n_iter": 0}))
    for p, value in zip((*q.inputs, *r.inputs), values, strict=True):
        np.testing.assert_array_equal(p.value, value)
    assert_same(before, state_of(inference))


# --- placeholders ---
class Fed:
    """x ~ N(w[index], 1) in batches of 2, w in R^5."""

    def __init__(self):
        self.w = klqp.Normal(0.0, 1.0, shape=5, name="w")
        self.index = klqp.placeholder(2, dtype=int, name="index")
        self.batch = klqp.placeholder(2, name="batch")
        self.x = klqp.Normal(self.w[self.index], 1.0, name="x")
        self.inference = klqp.KLqp([self.w], data={self.x: self.batch})
        self.good = {self.index: [0, 4], self.batch: [1.0, 2.0]}


@pytest.fixture
def fed():
    return Fed()


FEEDS = [
    ({"index": [0, 5]}, ValueError, ("'index'", "[0, 5)", "5")),
    ({"index": [-1, 0]}, ValueError, ("'index'", "[0, 5)", "-1")),
    ({"index": [0.5, 1]}, TypeError, ("'index'", "integers")),
    ({"index": [0, 1, 2]}, ValueError, ("'index'", "shape (2,)", "(3,)")),
    ({"index": ["a", "b"]}, TypeError, ("'index'", "real numbers", "<U1")),
    ({"batch": [1.0]}, ValueError, ("'batch'", "shape (2,)", "(1,)")),
    ({"batch": 1.0}, ValueError, ("'batch'", "shape (2,)", "()")),
    ({"batch": [1.0, nan]}, ValueError, ("'batch'", "NaN")),
    ({"batch": [1.0, inf]}, ValueError, ("'x'", "finite", "inf")),
    ({"batch": [1.0, 2j]}, TypeError, ("'batch'", "real numbers", "complex")),
    ({"batch": None}, TypeError, ("'batch'", "real numbers", "NoneType")),
    ({"batch": [3.0, 4.0], "index": [0, 7]}, ValueError, ("'index'", "[0, 5)", "7")),
    ({"batch": [3.0, 4.0], "other": 1.0}, ValueError, ("'other'", "placeholder of this model")),
]


@pytest.mark.parametrize(("feeds", "error", "words"), FEEDS, ids=[str(c[0]) for c in FEEDS])
def test_wrong_feeds_change_nothing(feeds, error, words):
    runs = []
    for wrong in (True, False):
        fed = Fed()
        fed.other = klqp.placeholder((), name="other")
        fed.inference.initialize(**QUIET)
        fed.inference.update(fed.good)
        if wrong:
            given = {getattr(fed, name): value for name, value in feeds.items()}
            before, kept = fed.inference.snapshot(), dict(given)
            check(error, words, lambda fed=fed, given=given: fed.inference.update(given))
            assert given.keys() == kept.keys()
            assert all(given[key] is kept[key] for key in kept)
            after = fed.inference.snapshot()
            for key in before:
                np.testing.assert_array_equal(before[key], after[key])
        fed.inference.update()  # with the data from before
        runs.append(state_of(fed.inference))
    assert_same(*runs)


def test_placeholders_without_data(fed):
    fed.inference.initialize(**QUIET)
    words = ("'batch'", "'index'", "no data", "feed_dict")
    check(ValueError, words, fed.inference.update)
    check(ValueError, words, lambda: fed.inference.run(**QUIET))
    check(ValueError, ("'index'", "no data"), lambda: fed.inference.update({fed.batch: [1.0, 2.0]}))
    assert len(fed.inference.losses) == 0
    assert fed.inference.update({fed.index: [0, 1]})["t"] == 1


def test_the_callers_feed_dict_stays(fed):
    fed.inference.initialize(**QUIET)
    index, batch = np.array([0, 4]), np.array([1.0, 2.0])
    feeds = {fed.index: index, fed.batch: batch}
    fed.inference.update(feeds)
    assert feeds.keys() == {fed.index, fed.batch}
    assert feeds[fed.index] is index
    assert feeds[fed.batch] is batch
    assert index.dtype == np.int64
    batch[:] = nan  # copied when it came
    assert np.isfinite(fed.inference.update()["loss"])


def test_fed_data_stay_for_the_next_run(fed):
    fed.inference.initialize(**QUIET)
    fed.inference.update(fed.good)
    fed.inference.run(**QUIET)
    assert len(fed.inference.losses) == 4


def test_wrong_first_values_of_placeholders(fed):
    def inference(**feeds):
        given = {getattr(fed, name): value for name, value in feeds.items()}
        return klqp.KLqp([fed.w], data={fed.x: fed.batch, **given})

    check(ValueError, ("'batch'", "shape (2,)", "(3,)"), lambda: inference(batch=[1, 2, 3]))
    check(ValueError, ("'x'", "finite", "inf"), lambda: inference(batch=[1, inf]))
    check(TypeError, ("'index'", "integers"), lambda: inference(index=[0.5, 1]))
    check(ValueError, ("'index'", "[0, 5)"), lambda: inference(index=[0, 5], batch=[1, 2]))
    foreign = klqp.placeholder((), name="foreign")
    other = klqp.KLqp([fed.w], data={fed.x: fed.batch, foreign: 1.0})
    check(ValueError, ("'foreign'", "placeholder of this model"), lambda: other.initialize(**QUIET))


def test_indices_must_be_integers(fed):
    check(TypeError, ("index", "integers", "dtype=int"), lambda: fed.w[fed.batch])
    check(TypeError, ("index", "integers"), lambda: fed.w[[0.5]])
    check(IndexError, ("out of bounds",), lambda: fed.w[7])
    check(TypeError, ("dtype", "float or an integer"), lambda: klqp.placeholder(2, dtype=complex))


def test_counts_through_a_placeholder():
    rate = klqp.Gamma(2.0, 1.0, name="rate")
    batch = klqp.placeholder(2, name="batch")
    n = klqp.Poisson(rate, shape=2, name="n")
    inference = klqp.KLqp([rate], data={n: batch})
    inference.initialize(**QUIET)
    check(ValueError, ("data of 'n'", "integers", "1.5"), lambda: inference.update({batch: [1.5, 2.0]}))
    check(ValueError, ("data of 'n'", "at least 0", "-1"), lambda: inference.update({batch: [-1.0, 2.0]}))
    assert inference.update({batch: [1, 2]})["t"] == 1


# --- regularizers ---
def test_wrong_regularizers(m):
    p = klqp.Parameter([1.0, 2.0], name="p")
    words = ("regularizer", "one number")
    for wrong in ([p], [3.0], ["l2"], [None], {p: lambda x: x}, {p: lambda x: 1.0}, {p: 0.1}):
        check(TypeError, words, lambda wrong=wrong: m.inference(regularizers=wrong))
    check(TypeError, ("keys of regularizers", "parameters", "str"), lambda: m.inference(regularizers={"p": klqp.sum}))
    for wrong in (3, "l2", klqp.sum(p)):
        check(
            TypeError,
            ("regularizers", "dict or a list", type(wrong).__name__),
            lambda w=wrong: m.inference(regularizers=w),
        )
    drawn = klqp.sum(klqp.square(m.mu))
    check(TypeError, ("regularizer", "parameters", "'mu'"), lambda: m.inference(regularizers=[drawn]))
    with pytest.raises(ZeroDivisionError):
        m.inference(regularizers={p: lambda x: 1 / 0})


# --- unlisted variables ---
def test_unlisted_variables_whose_parameters_are_learnt():
    mu = klqp.Normal(0.0, 1.0, name="mu")
    rate = klqp.Wishart(3.0, scale_tril=klqp.exp(mu) * np.eye(2), name="rate")
    x = klqp.Normal(rate[0, 0], 1.0)
    words = ("'rate'", "neither latent nor observed", "Wishart", "latent_vars")
    inference = klqp.KLqp([mu], data={x: 1.0})
    check(TypeError, words, lambda: inference.initialize(**QUIET))
    # A normal one has such draws, and one that hangs on constants needs none.
    fixed = klqp.Gamma(2.0, 1.0)
    nu = klqp.Normal(mu, 1.0)
    klqp.KLqp([mu], data={klqp.Normal(nu + fixed, 1.0): 1.0}).run(**QUIET)


def test_an_unlisted_log_density_cannot_be_drawn():
    mu = klqp.Normal(0.0, 1.0, name="mu")
    free = klqp.LogDensity(lambda z: (-0.5 * z**2, -z), shape=(), name="free")
    inference = klqp.KLqp([mu], data={klqp.Normal(mu + free, 1.0): 1.0})
    check(TypeError, ("'free'", "neither latent nor observed", "drawn"), lambda: inference.initialize(**QUIET))


# --- the user's own functions ---
def squared(z):
    return z**2


FORWARD = [
    (lambda z: z[:, :1], ValueError, ("forward", "(4, 3)", "(4, 1)")),
    (lambda z: z[0], ValueError, ("forward", "(4, 3)", "(3,)")),
    (lambda z: None, TypeError, ("forward", "real numbers", "NoneType")),
    (lambda z: z * 1j, TypeError, ("forward", "real numbers", "complex")),
    (lambda z: "a", TypeError, ("forward", "real numbers", "str")),
    (lambda z: 1 / 0, ZeroDivisionError, ("division by zero",)),
    (lambda: 1, TypeError, ("takes 0 positional arguments",)),
]


def with_deterministic(forward, vjp):
    z = klqp.Normal(0.0, 1.0, shape=3, name="z")
    y = klqp.Deterministic(forward, vjp, z, shape=3)
    return klqp.KLqp([z], data={klqp.Normal(y, 1.0, name="x"): [1.0, 2.0, 3.0]})


@pytest.mark.parametrize(("forward", "error", "words"), FORWARD)
def test_wrong_values_of_forward_show_before_the_first_step(forward, error, words):
    inference = with_deterministic(forward, lambda c, z: c)
    check(error, words, lambda: inference.initialize(**QUIET))
    check(error, words, lambda: inference.run(**QUIET))


VJP = [
    (lambda c, z: c[:, :1], ValueError, ("vjp", "(4, 3)", "(4, 1)")),
    (lambda c, z: (c, c), ValueError, ("vjp", "tuple of 1 gradients")),
    (lambda c, z: None, TypeError, ("vjp", "real numbers", "NoneType")),
    (lambda c, z: c * 1j, TypeError, ("vjp", "real numbers", "complex")),
    (lambda c, z: 1 / 0, ZeroDivisionError, ("division by zero",)),
    (None, TypeError, ("no vjp", "reparameterisation gradients")),
]


@pytest.mark.parametrize(("vjp", "error", "words"), VJP)
def test_wrong_cotangents_stop_before_the_first_step(vjp, error, words):
    inference = with_deterministic(squared, vjp)
    check(error, words, lambda: inference.run(**QUIET))
    if inference._engine is not None:
        assert len(inference.losses) == 0
    scored = with_deterministic(squared, vjp)
    scored.run(gradient="score", **QUIET)  # needs none
    assert np.isfinite(scored.losses).all()


def test_a_function_that_fails_later_keeps_the_state():
    calls = []

    def forward(z):
        calls.append(1)
        if len(calls) == 7:
            raise RuntimeError("tired")
        return z**2

    inference = with_deterministic(forward, lambda c, z: 2 * z * c)
    with pytest.raises(RuntimeError, match="tired") as caught:
        inference.run(**{**QUIET, "n_iter": 50})
    assert any(entry.name == "forward" for entry in caught.traceback)
    n = len(inference.losses)
    assert 0 < n < 50
    inference.resume()
    assert len(inference.losses) == 50
    whole = with_deterministic(squared, lambda c, z: 2 * z * c)
    whole.run(**{**QUIET, "n_iter": 50})
    np.testing.assert_array_equal(whole.losses, inference.losses)


DENSITY = [
    (lambda v, m: (np.zeros(3), m), ValueError, ("logp", "(4,)", "(3,)")),
    (lambda v, m: (np.zeros(4), np.zeros((4, 2))), ValueError, ("gradients", "(4,)", "(4, 2)")),
    (lambda v, m: (np.zeros(4), (np.zeros(4), np.zeros(4))), ValueError, ("gradients", "tuple of 1")),
    (lambda v, m: (np.zeros(4), None), TypeError, ("gradients", "real numbers", "NoneType")),
    (lambda v, m: np.zeros((4, 1)), ValueError, ("logp", "(4,)", "(4, 1)")),
    (lambda v, m: None, TypeError, ("logp", "real numbers", "NoneType")),
    (lambda v, m: (1, 2, 3), ValueError, ("(logp, gradients)", "3 things")),
    (lambda v, m: 1 / 0, ZeroDivisionError, ("division by zero",)),
    (lambda v: np.zeros(4), TypeError, ("takes 1 positional argument",)),
]


@pytest.mark.parametrize(("fn", "error", "words"), DENSITY)
def test_wrong_results_of_a_log_density_with_inputs(fn, error, words):
    mu = klqp.Normal(0.0, 1.0, name="mu")
    y = klqp.LogDensity(fn, mu, shape=2, name="y")
    inference = klqp.KLqp([mu], data={y: [1.0, 2.0]})
    check(error, words, lambda: inference.run(**QUIET))


def test_a_log_density_with_values_only_needs_score_functions():
    mu = klqp.Normal(0.0, 1.0, name="mu")
    y = klqp.LogDensity(lambda v, m: -0.5 * ((v - m[:, None]) ** 2).sum(1), mu, shape=2, name="y")
    inference = klqp.KLqp([mu], data={y: [1.0, 2.0]})
    words = ("logp alone", "score-function gradients")
    check(TypeError, words, lambda: inference.run(gradient="reparameterised", **QUIET))
    inference.run(gradient="score", **QUIET)
    assert np.isfinite(inference.losses).all()


def test_parameters_of_a_distribution_that_leave_their_space(m):
    check(ValueError, ("scale of Normal", "positive", "-1"), lambda: klqp.Normal(0.0, -1.0))
    check(ValueError, ("probs of Bernoulli", "[0, 1]"), lambda: klqp.Bernoulli(probs=1.5))
    check(ValueError, ("do not broadcast",), lambda: klqp.Normal([0.0, 1.0], [1.0, 1.0, 1.0]))
    check(ValueError, ("shape (2,)", "(3,)"), lambda: klqp.Normal([0.0, 1.0, 2.0], shape=2))
    # One that leaves it only in a run rejects the draws, and says which term it was.
    z = klqp.Normal(0.0, 1.0, name="z")
    x = klqp.Normal(0.0, z, name="x")
    inference = klqp.KLqp([z], data={x: 1.0})
    with pytest.raises(klqp.TargetError, match=re.escape("of 'x'")):
        inference.run(**{**QUIET, "init_loc": -5.0})


# --- other objectives ---
OBJECTIVES = [
    (lambda r: 1.0, TypeError, ("objective", "(loss, derivatives)", "float")),
    (lambda r: (1.0, r, r), TypeError, ("objective", "(loss, derivatives)", "3 things")),
    (lambda r: (1.0, r[:2]), ValueError, ("objective's derivatives", "(4,)", "(2,)")),
    (lambda r: (1.0, None), TypeError, ("objective's derivatives", "real numbers", "NoneType")),
    (lambda r: (r, r), ValueError, ("objective's loss", "()", "(4,)")),
    (lambda r: ("a", r), TypeError, ("objective's loss", "real numbers", "str")),
    (lambda r: 1 / 0, ZeroDivisionError, ("division by zero",)),
]


@pytest.mark.parametrize(("rule", "error", "words"), OBJECTIVES)
def test_wrong_objectives(m, rule, error, words):
    class Own(klqp.KLqp):
        def objective(self, log_ratio):
            return rule(log_ratio)

    inference = Own(m.latents, m.data)
    check(error, words, lambda: inference.run(**QUIET))
    assert len(inference.losses) == 0


def test_var_list_names_parameters_and_leaves_ready_made_families_free():
    z, theta = klqp.Normal(0.0, 1.0, name="z"), klqp.Parameter(0.0)
    x = klqp.Normal(z + theta, 1.0)
    inference = klqp.KLqp([z], data={x: np.array(3.0)})
    inference.run(n_iter=500, seed=1, progress=False, var_list=[theta], kl_scaling={z: 1.0})
    assert inference.posterior[z].stddev() > 0.5  # from 0.1 towards 0.71
