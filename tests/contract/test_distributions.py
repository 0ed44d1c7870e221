"""Every distribution of the registry: log density, moments, entropy, sampler and gradients.

SciPy's distributions are the reference; their digits are the limit of the tolerances here (the kernels themselves are
tested against mpmath in test_densities.py).
"""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import special, stats

import klqp
from klqp import _core
from klqp.model.distributions.registry import DISTRIBUTIONS
from klqp.model.distributions.summation import bulk, summed_entropy
from klqp.model.emitter import Emitter
from klqp.model.random_variable import ElementwiseDistribution

ROWS = [row for row in DISTRIBUTIONS if issubclass(row.distribution, ElementwiseDistribution)]
EXAMPLES = [(row.distribution, dict(example)) for row in ROWS for example in row.examples]


def label(value):
    return value.__name__ if isinstance(value, type) else "-".join(value)


each_example = pytest.mark.parametrize(("kind", "example"), EXAMPLES, ids=label)


def success(logits=None, probs=None):
    return np.asarray(probs) if logits is None else special.expit(logits)


REFERENCE = {
    "Normal": stats.norm,
    "LogNormal": lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc)),
    "Laplace": stats.laplace,
    "Cauchy": stats.cauchy,
    "Logistic": stats.logistic,
    "StudentT": stats.t,
    "Gumbel": stats.gumbel_r,
    "HalfNormal": lambda scale: stats.halfnorm(scale=scale),
    "HalfCauchy": stats.halfcauchy,
    "Gamma": lambda concentration, rate: stats.gamma(concentration, scale=1 / rate),
    "InverseGamma": lambda concentration, scale: stats.invgamma(concentration, scale=scale),
    "Exponential": lambda rate: stats.expon(scale=1 / rate),
    "Chi2": stats.chi2,
    "Weibull": lambda concentration, scale: stats.weibull_min(concentration, scale=scale),
    "Uniform": lambda low, high: stats.uniform(low, high - low),
    "Beta": lambda concentration1, concentration0: stats.beta(concentration1, concentration0),
    "VonMises": lambda loc, concentration: stats.vonmises(concentration, loc),
    "Bernoulli": lambda **p: stats.bernoulli(success(**p)),
    "Binomial": lambda total_count, **p: stats.binom(total_count, success(**p)),
    "BetaBinomial": lambda total_count, concentration1, concentration0: stats.betabinom(
        total_count, concentration1, concentration0
    ),
    "Poisson": lambda rate=None, log_rate=None: stats.poisson(np.exp(log_rate) if rate is None else rate),
    "NegativeBinomial": lambda total_count, **p: stats.nbinom(total_count, 1 - success(**p)),
    "Geometric": lambda **p: stats.geom(success(**p), loc=-1),
}


def reference(kind, parameters):
    return REFERENCE[kind.__name__](**{key: np.asarray(value, float) for key, value in parameters.items()})


def log_density(kind, frozen, x):
    return frozen.logpmf(x) if is_discrete(kind) else frozen.logpdf(x)


def is_discrete(kind):
    return kind.__module__.endswith("discrete")


def quantiles(kind, parameters, u):
    """Return values of the distribution at levels u."""
    x = reference(kind, parameters).ppf(u)
    if kind is klqp.VonMises:
        x = np.clip(x, -np.pi, np.pi)
    return np.asarray(x, float)


# --- generated parameters -----------------------------------------------------------------------------------------

BY_SUPPORT = {
    "real": st.floats(-20, 20),
    "positive": st.floats(-2, 2.5).map(np.exp),
    "nonnegative": st.floats(0.01, 30),
    "unit_interval": st.floats(0.01, 0.99),
    "count": st.integers(1, 30).map(float),
}
BY_NAME = {"logits": st.floats(-4, 4), "log_rate": st.floats(-3, 4)}


@st.composite
def parameters_of(draw, kind, keys, shapes):
    """Return values for parameters, each of one of the shapes."""
    out = {}
    for key in keys:
        shape = draw(st.sampled_from(shapes))
        numbers = BY_NAME.get(key, BY_SUPPORT[kind.parameter_supports[key].name])
        size = int(np.prod(shape, dtype=int))
        out[key] = np.array(draw(st.lists(numbers, min_size=size, max_size=size))).reshape(shape)
    if kind is klqp.Uniform:
        out["high"] = out["low"] + np.abs(out["high"]) + 0.1
    if kind is klqp.LogNormal:
        out["loc"] = out["loc"] / 10
        out["scale"] = out["scale"] / 4
    if kind is klqp.VonMises:
        out["loc"] = out["loc"] / 7
    return out


def generated(test):
    """Run a test of ``(kind, parameters)`` for generated parameters of several shapes."""

    @each_example
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(data=st.data())
    def run(kind, example, data):
        shapes = [(), (3,), (2, 1), (2, 3)]
        with np.errstate(all="ignore"):
            test(kind, data.draw(parameters_of(kind, tuple(example), shapes)))

    return run


def batch_of(parameters):
    return np.broadcast_shapes(*(np.shape(p) for p in parameters.values()))


def test_every_distribution_has_its_reference():
    assert {row.distribution.__name__ for row in ROWS} == set(REFERENCE)
    for row in DISTRIBUTIONS:
        assert row.examples
        assert getattr(klqp, row.distribution.__name__) is row.distribution
        assert row.distribution.__name__ in klqp.__all__
        assert row.distribution.__doc__


# --- log density --------------------------------------------------------------------------------------------------


def check_log_prob(kind, parameters):
    batch = batch_of(parameters)
    variable = kind(**parameters)
    assert variable.shape == batch
    assert variable.discrete == is_discrete(kind)
    u = np.random.default_rng(1).uniform(0.001, 0.999, (5, *batch))
    x = quantiles(kind, parameters, u)
    assert variable.space.contains(x)
    expected = log_density(kind, reference(kind, parameters), x)
    np.testing.assert_allclose(variable.log_prob(x), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(variable.log_prob(x[0]), variable.log_prob(x)[0])


test_log_prob = generated(check_log_prob)


@each_example
def test_broadcasting(kind, example):
    """Parameters of other shapes than the variable's: one number, a row, a column, the whole."""
    rng = np.random.default_rng(2)
    shapes = [(), (4,), (3, 1), (3, 4), (1, 1), (2, 1, 4)]
    for first in shapes:
        parameters = {}
        for k, (key, value) in enumerate(example.items()):
            shape = first if k == 0 else shapes[(k + len(first)) % len(shapes)]
            wiggle = 0 if kind.parameter_supports[key].name == "count" else rng.uniform(-0.05, 0.05, shape)
            parameters[key] = np.broadcast_to(value, shape) + wiggle
        variable = kind(**parameters, shape=(2, 3, 4))
        x = quantiles(kind, parameters, rng.uniform(0.01, 0.99, (6, 2, 3, 4)))
        expected = log_density(kind, reference(kind, parameters), x)
        np.testing.assert_allclose(variable.log_prob(x), expected, rtol=1e-7, atol=1e-9)
        assert variable.sample(5, seed=1).shape == (5, 2, 3, 4)
        assert variable.sample(seed=1).shape == (2, 3, 4)
        assert variable.mean().shape == variable.variance().shape == variable.entropy().shape == (2, 3, 4)
    assert kind(**example).log_prob(np.zeros((2, 5))).shape == (2, 5)


@each_example
def test_log_prob_outside_the_support(kind, example):
    variable = kind(**example, shape=3)
    outside = {"real": [], "positive": [-1.0], "unit_interval": [-0.1, 1.1], "lower": [-1.0], "binary": [2.0, 0.5]}
    outside |= {"count": [-1.0, 0.5], "interval": [] if kind is klqp.VonMises else [-0.7, 2.0]}
    for x in [*outside[variable.support], np.inf, -np.inf]:
        assert not variable.space.contains(np.full(3, x))
        np.testing.assert_array_equal(variable.log_prob([x] * 3), [-np.inf] * 3)
    if kind in (klqp.Binomial, klqp.BetaBinomial):
        assert not variable.space.contains(example["total_count"] + 1)
        assert variable.log_prob([example["total_count"] + 1] * 3)[0] == -np.inf


# --- moments ------------------------------------------------------------------------------------------------------


def check_moments(kind, parameters):
    variable, frozen = kind(**parameters), reference(kind, parameters)
    if kind is klqp.VonMises:
        k = parameters["concentration"]
        mean, variance = parameters["loc"], 1 - special.ive(1, k) / special.ive(0, k)
    else:
        mean, variance = frozen.mean(), frozen.var()
    if kind is klqp.StudentT:  # there is no mean, not an infinite one
        mean = np.where(parameters["df"] > 1, mean, np.nan)
    batch = batch_of(parameters)
    np.testing.assert_allclose(variable.mean(), np.broadcast_to(mean, batch), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(variable.variance(), np.broadcast_to(variance, batch), rtol=1e-8)
    np.testing.assert_array_equal(variable.stddev(), np.sqrt(variable.variance()))


def check_entropy(kind, parameters):
    frozen, batch = reference(kind, parameters), batch_of(parameters)
    if kind is klqp.NegativeBinomial:  # SciPy's sum stops early
        x = np.arange(frozen.ppf(1 - 1e-16).max() * 1.5 + 100).reshape(-1, *[1] * len(batch))
        expected = special.entr(frozen.pmf(x)).sum(0)
    else:
        expected = frozen.entropy()
    expected = np.broadcast_to(expected, batch)
    np.testing.assert_allclose(kind(**parameters).entropy(), expected, rtol=1e-8, atol=1e-8)


test_mean_and_variance = generated(check_moments)
test_entropy = generated(check_entropy)


def test_circular_moments():
    """By quadrature, around the whole circle; the mean comes back to [-pi, pi]."""
    for loc, k in [(0.4, 2.0), (3.0, 0.5), (-9.0, 30.0), (1.0, 0.0)]:
        variable = klqp.VonMises(loc, k)
        x = np.linspace(-np.pi, np.pi, 2001)[:-1]
        resultant = np.mean(np.exp(variable.log_prob(x[:, None].repeat(1, 1)[:, 0]) + 1j * x)) * 2 * np.pi
        assert variable.variance() == pytest.approx(1 - abs(resultant), abs=1e-12)
        if k > 0:
            assert variable.mean() == pytest.approx(np.angle(resultant), abs=1e-12)


def mp_gamma(a):
    return a + mp.loggamma(a) + (1 - a) * mp.digamma(a)


def mp_beta(a, b):
    n = a + b
    logs = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(n)
    return logs - (a - 1) * mp.digamma(a) - (b - 1) * mp.digamma(b) + (n - 2) * mp.digamma(n)


def mp_student(v):
    slope = mp.digamma((v + 1) / 2) - mp.digamma(v / 2)
    logs = mp.loggamma(v / 2) + mp.loggamma(mp.mpf(1) / 2) - mp.loggamma((v + 1) / 2)
    return (v + 1) / 2 * slope + mp.log(v) / 2 + logs


def mp_von_mises(k):
    return mp.log(2 * mp.pi * mp.besseli(0, k)) - k * mp.besseli(1, k) / mp.besseli(0, k)


SIZES = [1e-3, 0.1, 1.0, 30.0, 199.0, 201.0, 399.0, 401.0, 499.0, 501.0, 1e4, 1e7, 1e12]


@pytest.mark.parametrize(
    ("kind", "exact"),
    [
        (lambda a: klqp.Gamma(a), mp_gamma),
        (lambda a: klqp.InverseGamma(a), lambda a: mp_gamma(a) - 2 * mp.digamma(a)),
        (lambda a: klqp.Chi2(2 * a), lambda a: mp_gamma(a) + mp.log(2)),
        (lambda a: klqp.Beta(a, 2.5), lambda a: mp_beta(a, mp.mpf(2.5))),
        (lambda a: klqp.Beta(a, a), lambda a: mp_beta(a, a)),
        (lambda a: klqp.StudentT(a), mp_student),
        (lambda a: klqp.VonMises(0.0, a), mp_von_mises),
    ],
    ids=["Gamma", "InverseGamma", "Chi2", "Beta", "symmetric Beta", "StudentT", "VonMises"],
)
def test_entropy_of_small_and_large_parameters(kind, exact):
    """No digits are lost to the terms of the size of the parameter."""
    with mp.workdps(60):
        expected = [float(exact(mp.mpf(a))) for a in SIZES]
    np.testing.assert_allclose([kind(a).entropy() for a in SIZES], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("c", [0.05, 1.0, 10.0, 1e3, 1e6])
def test_weibull_variance_of_large_concentrations(c):
    with mp.workdps(60):
        exact = float(mp.gamma(1 + 2 / mp.mpf(c)) - mp.gamma(1 + 1 / mp.mpf(c)) ** 2)
    assert klqp.Weibull(c).variance() == pytest.approx(exact, rel=1e-8)


def test_series_of_discrete_entropies_continue_the_sums():
    for rate in [1.1e4, 3e4]:
        by_sum = summed_entropy(klqp.Poisson, *bulk(rate, rate), {"rate": np.array(rate)})
        assert klqp.Poisson(rate).entropy() == pytest.approx(by_sum, abs=1e-9)
    for probs in [0.5, 0.1, 0.97]:
        n = np.ceil(1.1e6 / (probs * (1 - probs)))
        bounds = bulk(n * probs, n * probs * (1 - probs))
        by_sum = summed_entropy(klqp.Binomial, *bounds, {"total_count": np.array(n), "probs": np.array(probs)})
        assert klqp.Binomial(n, probs=probs).entropy() == pytest.approx(by_sum, abs=1e-8)


def test_entropies_at_the_edges():
    np.testing.assert_array_equal(klqp.Bernoulli(probs=[0.0, 1.0]).entropy(), [0, 0])
    np.testing.assert_array_equal(klqp.Binomial([0.0, 5.0, 5.0], probs=[0.5, 0.0, 1.0]).entropy(), [0, 0, 0])
    assert klqp.Geometric(probs=1.0).entropy() == 0
    assert klqp.Poisson(0.0).entropy() == 0
    assert klqp.Poisson(log_rate=800.0).entropy() == pytest.approx(0.5 * (np.log(2 * np.pi * np.e) + 800))
    assert klqp.Geometric(logits=-800.0).entropy() == pytest.approx(801)
    # Digits of small probabilities.
    for logits in [-40.0, 40.0]:
        exact = np.exp(-40) * 41
        assert klqp.Bernoulli(logits=logits).entropy() == pytest.approx(exact, rel=1e-12)
    assert klqp.Bernoulli(probs=1e-20).entropy() == pytest.approx(1e-20 * (1 + 20 * np.log(10)), rel=1e-12)


# --- samplers -----------------------------------------------------------------------------------------------------


def check_draws(kind, frozen, x):
    """Kolmogorov-Smirnov; for discrete draws chi-square over bins that expect at least 20 each."""
    assert np.isfinite(x).all()
    if not is_discrete(kind):
        cdf = frozen.cdf
        if kind is klqp.VonMises:  # SciPy's goes on beyond the circle
            cdf = lambda y: frozen.cdf(y) - frozen.cdf(-np.pi)  # noqa: E731
        assert stats.kstest(x, cdf).pvalue > 1e-4
        return
    assert (x == np.floor(x)).all()
    values = np.arange(x.max() + 1)
    expected = x.size * frozen.pmf(values)
    big = expected >= 20
    counts = np.bincount(x.astype(int), minlength=values.size).astype(float)
    observed = np.append(counts[big], counts[~big].sum())
    expected = np.append(expected[big], x.size - expected[big].sum())
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1]
        expected *= observed.sum() / expected.sum()
    assert stats.chisquare(observed, expected).pvalue > 1e-4


@each_example
def test_sampler(kind, example):
    draws = kind(**example, shape=2).sample(10_000, seed=7)
    assert draws.dtype == np.float64
    assert kind(**example).space.contains(draws)
    for k in range(2):
        check_draws(kind, reference(kind, example), draws[:, k])
    assert abs(stats.spearmanr(draws[:, 0], draws[:, 1]).statistic) < 0.05


def parent_at(kind, key, value, shape):
    """Return a random variable that is always a value, to rounding."""
    if kind.parameter_supports[key].name == "count":
        return klqp.Binomial(value, probs=1.0, shape=shape)
    return klqp.Normal(value, 1e-10, shape=shape)


@each_example
def test_sampler_with_parents(kind, example):
    """Parameters with an axis of draws, before the axes that broadcasting adds."""
    parents = {key: parent_at(kind, key, v, (3, 1) if k else (2,)) for k, (key, v) in enumerate(example.items())}
    variable = kind(**parents, shape=(2, 3, 2))
    draws = variable.sample(4000, seed=8)
    assert draws.shape == (4000, 2, 3, 2)
    for index in [(0, 0, 0), (1, 2, 1)]:
        check_draws(kind, reference(kind, example), draws[(slice(None), *index)])
    pairs = draws.reshape(4000, -1)
    assert abs(stats.spearmanr(pairs[:, 0], pairs[:, -1]).statistic) < 0.08


def test_hierarchies_have_their_marginals():
    x = klqp.Normal(klqp.Normal(0.0, 1.0), 1.0).sample(20_000, seed=1)
    assert stats.kstest(x, stats.norm(0, np.sqrt(2)).cdf).pvalue > 1e-4
    x = klqp.Poisson(klqp.Gamma(2.5, 0.5)).sample(20_000, seed=2)
    check_draws(klqp.Poisson, stats.nbinom(2.5, 1 / 3), x)
    x = klqp.Normal(0.0, klqp.sqrt(klqp.InverseGamma(2.0, 2.0))).sample(20_000, seed=3)
    assert stats.kstest(x, stats.t(4).cdf).pvalue > 1e-4
    x = klqp.Binomial(6, probs=klqp.Beta(1.5, 2.5)).sample(20_000, seed=4)
    check_draws(klqp.BetaBinomial, stats.betabinom(6, 1.5, 2.5), x)
    # One parent for all elements makes them dependent.
    x = klqp.Normal(klqp.Normal(0.0, 1.0), 1.0, shape=2).sample(20_000, seed=5)
    assert np.corrcoef(x.T)[0, 1] == pytest.approx(0.5, abs=0.03)


@each_example
def test_draws_are_a_function_of_the_seed(kind, example):
    variable = kind(**example, shape=50)
    first = variable.sample(4, seed=3)
    np.testing.assert_array_equal(first, kind(**example, shape=50).sample(4, seed=3))
    assert not np.array_equal(first, variable.sample(4, seed=4))
    assert not np.array_equal(variable.sample(4), variable.sample(4))
    np.testing.assert_array_equal(
        variable.sample(4, seed=np.random.default_rng(1)), variable.sample(4, seed=np.random.default_rng(1))
    )
    np.testing.assert_array_equal(
        variable.sample(4, seed=np.random.SeedSequence(1)), variable.sample(4, seed=np.random.SeedSequence(1))
    )


# --- gradients ----------------------------------------------------------------------------------------------------


class Program:
    """The summed log density of a variable as a program whose value and parameters are inputs."""

    def __init__(self, variable):
        self.core = _core.Model()
        value = self.core.input(variable.size)
        args = [self.core.input(p.size) for p in variable.inputs]
        self.slot = variable.emit_log_prob(Emitter(self.core, {}), value, args)

    def value(self, inputs):
        n = len(inputs[0])
        return self.core.evaluate(n, np.zeros(1), np.zeros((n, 1)), inputs, [self.slot])[0][:, 0]

    def gradients(self, inputs):
        n = len(inputs[0])
        return self.core.pullback(n, np.zeros(1), np.zeros((n, 1)), inputs, self.slot, np.ones((n, 1)))[1]


def check_gradients(kind, parameters, shape):
    variable, n = kind(**parameters, shape=shape), 4
    u = np.random.default_rng(5).uniform(0.1, 0.9, (n, *variable.shape))
    x = quantiles(kind, parameters, u)
    inputs = [x.reshape(n, -1)] + [np.tile(np.ravel(p), (n, 1)).astype(float) for p in parameters.values()]
    program = Program(variable)
    np.testing.assert_allclose(program.value(inputs), variable.log_prob(x).reshape(n, -1).sum(1), rtol=1e-12)
    grads = program.gradients(inputs)
    integers = [variable.discrete] + [kind.parameter_supports[key].name == "count" for key in parameters]
    for k, integer in enumerate(integers):
        if integer:
            np.testing.assert_array_equal(grads[k], 0)
            continue
        for j in range(inputs[k].shape[1]):
            step = np.zeros_like(inputs[k])
            step[:, j] = 1e-5 * np.maximum(np.abs(inputs[k][:, j]), 1e-2)
            up, down = ([a + s * step if i == k else a for i, a in enumerate(inputs)] for s in (1, -1))
            slope = (program.value(up) - program.value(down)) / (2 * step[:, j])
            np.testing.assert_allclose(grads[k][:, j], slope, rtol=2e-6, atol=2e-6, err_msg=f"{k}, {j}")


@each_example
def test_gradients(kind, example):
    check_gradients(kind, example, ())
    check_gradients(kind, example, 5)
    columns = {key: np.full((1, 3) if k else (2, 1), value) for k, (key, value) in enumerate(example.items())}
    check_gradients(kind, columns, (2, 3))


# --- as q ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [klqp.Normal, klqp.LogNormal])
@pytest.mark.parametrize("shapes", [((), ()), ((3,), ()), ((), (3,)), ((2, 1), (3,)), ((2, 3), (2, 3))])
@pytest.mark.parametrize("factor", [None, 1, 6])
def test_draws_and_entropy_in_a_program(kind, shapes, factor):
    rng = np.random.default_rng(6)
    loc, scale = rng.normal(size=shapes[0]), rng.uniform(0.5, 2, shapes[1])
    variable = kind(loc, scale, shape=(2, 3))
    assert variable.noise_size == 6
    core = _core.Model()
    emitter = Emitter(core, {})
    args = [core.data(loc), core.data(scale)]
    draw = variable.emit_draw(emitter, core.input(6), args)
    weights = None if factor is None else np.arange(1.0, factor + 1)
    entropy = variable.emit_entropy(emitter, args, None if weights is None else core.data(weights))
    noise = rng.normal(size=(4, 6))
    z, h = core.evaluate(4, np.zeros(1), np.zeros((4, 1)), [noise], [draw, entropy])
    expected = loc + scale * noise.reshape(4, 2, 3)
    expected = np.exp(expected) if kind is klqp.LogNormal else expected
    np.testing.assert_allclose(z.reshape(4, 2, 3), expected, rtol=1e-13)
    each = variable.entropy().ravel()
    np.testing.assert_allclose(h.ravel(), [(each * (1 if weights is None else weights)).sum()], rtol=1e-12)
