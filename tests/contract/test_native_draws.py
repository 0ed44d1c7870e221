"""Draws inside programs of every distribution that has them: their law, their derivatives, and what they depend on.

The registries are walked: a distribution that gets `emit_draw` is tested from that day on. Laws are compared with the
distribution's own NumPy sampler; derivatives with quadrature, and where a draw is an explicit map with differences at
fixed noise.
"""

import itertools

import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

import klqp
from klqp import _core
from klqp.model.distributions.events_registry import EVENT_DISTRIBUTIONS
from klqp.model.distributions.registry import DISTRIBUTIONS
from klqp.model.emitter import Emitter

NUMBERS = [
    (row.distribution, dict(example))
    for row in DISTRIBUTIONS
    for example in row.examples
    if hasattr(row.distribution, "emit_draw")
]
WEIGHTS = np.array([0.1, 0.0, 0.45, 0.25, 0.2, 0.0])
LOGITS = np.array([0.3, -1.2, 0.9, 0.0])
EVENTS = {
    klqp.Categorical: [{"probs": WEIGHTS}, {"logits": LOGITS}],
    klqp.OneHotCategorical: [{"probs": WEIGHTS}, {"logits": LOGITS}],
    klqp.RelaxedBernoulli: [{"temperature": 0.6, "logits": 0.4}, {"temperature": 1.3, "probs": 0.3}],
    klqp.RelaxedOneHotCategorical: [
        {"temperature": 0.7, "logits": LOGITS},
        {"temperature": 1.2, "probs": np.array([0.2, 0.5, 0.3])},
    ],
    klqp.Dirichlet: [{"concentration": np.array([0.4, 1.7, 2.2])}],
    # with tests of their own
    klqp.Mixture: [],
    klqp.MixtureSameFamily: [],
    klqp.MultivariateNormalDiag: [],
    klqp.MultivariateNormalTriL: [],
    klqp.MultivariateNormalFullCovariance: [],
    klqp.MultivariateNormalDiagPlusLowRank: [],
    klqp.PointMass: [],
    klqp.TransformedDistribution: [],
}
CASES = NUMBERS + [(kind, example) for kind, examples in EVENTS.items() for example in examples]


def label(value):
    return value.__name__ if isinstance(value, type) else "-".join(value)


each_case = pytest.mark.parametrize(("kind", "example"), CASES, ids=label)
each_discrete = pytest.mark.parametrize(("kind", "example"), [(k, e) for k, e in CASES if k(**e).discrete], ids=label)
PATHWISE = NUMBERS + [(klqp.RelaxedBernoulli, e) for e in EVENTS[klqp.RelaxedBernoulli]]
each_pathwise = pytest.mark.parametrize(("kind", "example"), [(k, e) for k, e in PATHWISE if k.pathwise], ids=label)


def test_every_distribution_with_draws_has_a_case():
    native = {kind for kind in EVENT_DISTRIBUTIONS if hasattr(kind, "emit_draw")}
    assert native <= set(EVENTS)


class Draws:
    """A program that draws one variable; its parameters are data, parameters of the program, or given per draw."""

    def __init__(self, variable, parameters="data"):
        self.variable, self.core = variable, _core.Model()
        emitter, at, args = Emitter(self.core, {}), 0, []
        self.flat = np.concatenate([np.ravel(p.value) for p in variable.inputs])
        for p in variable.inputs:
            if parameters == "data":
                args.append(self.core.data(p.value))
            elif parameters == "shared":
                args.append(self.core.parameter(at, p.size))
            else:
                args.append(self.core.input(p.size))
            at += p.size
        self.noise = self.core.noise(0, variable.noise_size, variable.noise_kind)
        self.slot = variable.emit_draw(emitter, self.noise, args)

    def noise_of(self, n, seed=1):
        return self.core.draw_noise(seed, 0, 0, n)

    def at(self, noise, params=None, inputs=()):
        params = self.flat if params is None else params
        return self.core.evaluate(len(noise), params, noise, list(inputs), [self.slot])[0]

    def pullback(self, noise, cot, inputs=()):
        return self.core.pullback(len(noise), self.flat, noise, list(inputs), self.slot, cot)


def wiggled(kind, example, shape, seed=0):
    """Return an example with parameters near it, of a batch shape."""
    rng = np.random.default_rng(seed)
    out = {}
    for key, value in example.items():
        space = kind.parameter_supports[key]
        value = np.broadcast_to(value, shape + np.shape(value)).astype(float)
        if space.name == "simplex":
            value = value * rng.uniform(0.5, 1.5, value.shape)
            value = value / value.sum(-1, keepdims=True)
        elif space.name == "count":
            value = value + rng.integers(0, 4, value.shape)
        else:
            value = value + rng.uniform(-0.1, 0.1, value.shape)
        out[key] = value
    return out


# --- laws ---------------------------------------------------------------------------------------------------------


def check_same_law(x, y, discrete):
    """Compare two samples by chi-square of their values, or by Kolmogorov-Smirnov."""
    if not discrete:
        assert stats.ks_2samp(x, y, method="asymp").pvalue > 1e-4
        return
    values = np.union1d(x, y)
    table = np.array([[np.sum(sample == v) for v in values] for sample in (x, y)])
    assert not np.any((table[0] > 20) & (table[1] == 0))
    assert not np.any((table[1] > 20) & (table[0] == 0))
    order = np.argsort(-table.sum(0))
    kept, rest = order[: np.sum(table.sum(0) >= 20)], order[np.sum(table.sum(0) >= 20) :]
    table = np.column_stack([table[:, kept], table[:, rest].sum(1)]) if len(rest) else table[:, kept]
    table = table[:, table.sum(0) > 0]
    if table.shape[1] > 1:
        assert stats.chi2_contingency(table).pvalue > 1e-4


@each_case
def test_law(kind, example):
    n, batch = 20_000, (3,)
    parameters = wiggled(kind, example, batch)
    variable = kind(**parameters)
    program = Draws(variable)
    native = program.at(program.noise_of(n)).reshape(n, *variable.shape)
    plain = np.asarray(variable._sample(np.random.default_rng(2), (n, *variable.shape), **parameters), float)
    assert variable.space.contains(native)
    assert np.all(np.isfinite(variable.log_prob(native)))
    if variable.event_shape and variable.discrete:
        native, plain = (np.argmax(x, -1) for x in (native, plain))
    for x, y in zip(native.reshape(n, -1).T, plain.reshape(n, -1).T, strict=True):
        check_same_law(x, y, variable.discrete)


def uniforms_of(x, law, seed=3):
    """Return the distribution function at discrete values, spread evenly over each of its steps."""
    above = law.cdf(x)
    return above - np.random.default_rng(seed).random(np.shape(x)) * law.pmf(x)


def check_counts(variable, law, n=40_000):
    program = Draws(variable)
    x = program.at(program.noise_of(n, seed=5))[:, 0]
    assert np.all(x == np.floor(x))
    assert stats.kstest(uniforms_of(x, law), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("rate", [1e-3, 0.3, 5.0, 29.9, 30.1, 45.0, 300.0, 1e4, 1e6, 1e9])
def test_poisson_of_every_size(rate):
    check_counts(klqp.Poisson(rate), stats.poisson(rate))
    check_counts(klqp.Poisson(log_rate=np.log(rate)), stats.poisson(rate))


def test_poisson_beyond_integers():
    """The bulk of a rate that is not a number of machine integers any more; 0 is 0."""
    for rate in (1e12, 1e16, 1e100):
        program = Draws(klqp.Poisson(rate))
        z = (program.at(program.noise_of(20_000))[:, 0] - rate) / np.sqrt(rate)
        if rate < 1e30:
            assert abs(z.mean()) < 5 / np.sqrt(20_000)
            assert abs(z.std() - 1) < 5 / np.sqrt(40_000)
        else:
            assert np.all(z == 0)
    program = Draws(klqp.Poisson(0.0))
    assert np.all(program.at(program.noise_of(50)) == 0)


@pytest.mark.parametrize("n", [0, 1, 7, 60, 1000, 10**6, 10**9])
@pytest.mark.parametrize("p", [0.0, 1e-4, 0.03, 0.3, 0.5, 0.77, 0.9995, 1.0])
def test_binomial_of_every_size(n, p):
    if p in (0.0, 1.0):
        program = Draws(klqp.Binomial(n, probs=p))
        assert np.all(program.at(program.noise_of(50)) == n * p)
    else:
        check_counts(klqp.Binomial(n, probs=p), stats.binom(n, p), 20_000)
        check_counts(klqp.Binomial(n, logits=special.logit(p)), stats.binom(n, p), 20_000)


@pytest.mark.parametrize("total", [0.05, 0.8, 3.0, 40.0, 5000.0])
@pytest.mark.parametrize("p", [0.01, 0.4, 0.9, 0.97, 0.999])
def test_negative_binomial_of_every_size(total, p):
    check_counts(klqp.NegativeBinomial(total, probs=p), stats.nbinom(total, 1 - p), 20_000)
    check_counts(klqp.NegativeBinomial(total, logits=special.logit(p)), stats.nbinom(total, 1 - p), 20_000)


@pytest.mark.parametrize("p", [1e-6, 0.02, 0.5, 0.99])
def test_geometric_of_every_size(p):
    check_counts(klqp.Geometric(probs=p), stats.geom(p, loc=-1))
    check_counts(klqp.Geometric(logits=special.logit(p)), stats.geom(p, loc=-1))


def test_geometric_of_sure_success():
    program = Draws(klqp.Geometric(probs=1.0))
    assert np.all(program.at(program.noise_of(50)) == 0)


@pytest.mark.parametrize("n", [1, 12, 900])
@pytest.mark.parametrize(("a", "b"), [(0.2, 0.3), (1.0, 1.0), (5.0, 0.7), (80.0, 120.0)])
def test_beta_binomial_of_every_size(n, a, b):
    check_counts(klqp.BetaBinomial(n, a, b), stats.betabinom(n, a, b), 20_000)


@pytest.mark.parametrize("k", [1, 2, 3, 31, 33, 500])
@pytest.mark.parametrize("way", ["logits", "probs"])
@pytest.mark.parametrize("parameters", ["data", "shared", "per_draw"])
@pytest.mark.parametrize("events", [None, 4])
def test_categories(k, way, parameters, events):
    """A category is the number of cumulated probabilities that its uniform is not below; one-hot ones show it."""
    n, rng = 300, np.random.default_rng(k)
    weights = rng.dirichlet(np.full(k, 0.7), 4)
    given = (np.log(weights) + 3.0 if way == "logits" else weights)[0 if events is None else slice(None)]
    variables = [
        kind(**{way: given}, shape=shape) for kind, shape in ((klqp.Categorical, 4), (klqp.OneHotCategorical, (4, k)))
    ]
    rows = rng.dirichlet(np.full(k, 0.7), n if events is None else (n, 4)) if parameters == "per_draw" else None
    for variable in variables:
        program = Draws(variable, parameters)
        u = program.noise_of(n)
        inputs = [] if rows is None else [(np.log(rows) if way == "logits" else rows).reshape(n, -1)]
        got = program.at(u, inputs=inputs).reshape(n, *variable.shape)
        p = np.broadcast_to(weights if events else weights[0], (n, 4, k)) if rows is None else rows.reshape(n, -1, k)
        expected = (np.cumsum(p, -1)[..., :-1] <= u[:, :4, None]).sum(-1)
        got = np.argmax(got, -1) if variable.event_shape else got
        np.testing.assert_array_equal(got, expected)


def test_categories_without_a_probability_are_never_drawn():
    program = Draws(klqp.Categorical(probs=WEIGHTS))
    for u in (2.0**-53, 0.1, np.nextafter(0.1, 1), 0.55, 0.8, 1 - 2.0**-53):
        assert WEIGHTS[int(program.at(np.array([[u]]))[0, 0])] > 0
    logits = Draws(klqp.Categorical(logits=LOGITS), "shared")
    for dead in ([-np.inf, 0, 0, -np.inf], [0, -np.inf, -np.inf, -np.inf], [-np.inf, -np.inf, -np.inf, -800.0]):
        u = logits.noise_of(200)
        assert np.all(np.isfinite(np.take(dead, logits.at(u, np.array(dead, float)).astype(int))))


QUANTILES = {  # of the standard distribution, and of the smallest and the largest uniforms
    klqp.Laplace: (lambda u, v: mp.log(2 * u) if u < v else -mp.log(2 * v), {}),
    klqp.Logistic: (lambda u, v: mp.log(u / v), {}),
    klqp.Cauchy: (lambda u, v: mp.tan(mp.pi * (u - mp.mpf(1) / 2)), {}),
    klqp.Gumbel: (lambda u, v: -mp.log(-mp.log(u)), {}),
    klqp.HalfCauchy: (lambda u, v: mp.tan(mp.pi / 2 * u), {}),
    klqp.HalfNormal: (lambda u, v: mp.sqrt(2) * mp.erfinv(u), {}),
    klqp.Exponential: (lambda u, v: -mp.log(v), {}),
    klqp.Weibull: (lambda u, v: mp.sqrt(-mp.log(v)), {"concentration": 2.0}),
}


@pytest.mark.parametrize("kind", QUANTILES, ids=label)
def test_quantiles_keep_their_digits(kind):
    """From the smallest uniform to the largest one, to a few units in the last place."""
    exact, parameters = QUANTILES[kind]
    small = 2.0 ** -np.arange(1, 54)
    u = np.concatenate([small, 1 - small[1:], 0.5 + small[2:52], 0.5 - small[2:52], np.linspace(0.01, 0.99, 99)])
    got = Draws(kind(**parameters)).at(u[:, None])[:, 0]
    with mp.workdps(40):
        expected = [exact(mp.mpf(x), 1 - mp.mpf(x)) for x in u]
        for x, value, wanted in zip(u, got, expected, strict=True):
            # Near 1/e, where its quantile is 0, Gumbel's has an absolute error.
            floor = 1e-16 if kind is klqp.Gumbel else 0.0
            assert abs(value - wanted) <= 4e-15 * abs(wanted) + floor, (x, value, wanted)


def test_draws_stay_inside():
    """Where exp and sigmoid round to the end of the range."""
    tiny = Draws(klqp.Weibull(0.01))
    assert np.all(tiny.at(np.array([[2.0**-53], [1e-9]])) > 0)


# --- what a draw depends on ---------------------------------------------------------------------------------------


@each_case
def test_elements_alone(kind, example):
    """Element by element, whatever shapes and axes of draws the parameters have: the same bits."""
    variable = kind(**wiggled(kind, example, (2, 3)))
    width = int(np.prod(variable.event_shape, dtype=int))
    n, noise_width = 5, variable.noise_size // 6
    shared, given = Draws(variable), Draws(variable, "per_draw")
    noise = shared.noise_of(n)
    rows = [wiggled(kind, example, (2, 3), seed=s) for s in range(n)]
    inputs = [np.array([np.ravel(row[key]) for row in rows]) for key in example]
    of_shared, of_rows = shared.at(noise).reshape(n, 6, width), given.at(noise, inputs=inputs).reshape(n, 6, width)
    for s, e in itertools.product(range(n), range(6)):
        u = np.zeros((1, max(1, shared.core.noise_dim)))[:, :noise_width]
        u = noise[s : s + 1, e * noise_width : (e + 1) * noise_width] if noise_width else u
        if getattr(kind, "normals_per_element", 1) == 2:  # all first ones, then all second ones
            u = noise[s : s + 1, [e, 6 + e]]
        for values, together in ((wiggled(kind, example, (2, 3)), of_shared), (rows[s], of_rows)):
            one = {key: np.asarray(v).reshape(6, -1)[e].reshape(np.shape(example[key])) for key, v in values.items()}
            alone = Draws(kind(**one))
            np.testing.assert_array_equal(alone.at(u)[0], together[s, e])


@each_case
def test_broadcasting(kind, example):
    """Parameters that are rows, columns or one number of a larger variable."""
    shapes = [(), (3,), (2, 1), (2, 3)]
    for first in range(4):
        parts = {
            key: wiggled(kind, {key: value}, shapes[(first + 2 * k) % 4])[key]
            for k, (key, value) in enumerate(example.items())
        }
        whole = {key: np.broadcast_to(v, (2, 3, *np.shape(example[key]))) for key, v in parts.items()}
        tail = kind(**example).event_shape
        one, other = Draws(kind(**parts, shape=(2, 3, *tail))), Draws(kind(**whole))
        noise = other.noise_of(40)
        np.testing.assert_array_equal(one.at(noise), other.at(noise))


REJECTED = {klqp.BetaBinomial, klqp.VonMises}  # whatever their parameters are


@each_case
def test_draws_of_uniforms_do_not_decrease(kind, example):
    """One uniform a draw and no substream: larger ones give larger draws, as antithetic and Sobol draws want it."""
    variable = kind(**example)
    if variable.noise_kind != "uniform" or variable.noise_size != 1 or kind in REJECTED:
        pytest.skip("not by inversion")
    u = np.sort(
        np.concatenate([np.random.default_rng(1).random(4000), 2.0 ** -np.arange(1, 54), 1 - 2.0 ** -np.arange(2, 54)])
    )
    x = Draws(variable).at(u[:, None])
    x = np.argmax(x, -1) if variable.event_shape else x[:, 0]
    assert np.all(np.diff(x) >= 0)
    assert variable.space.contains(Draws(variable).at(u[:, None]).reshape(-1, *variable.shape))


@each_discrete
def test_discrete_draws_want_no_cotangent(kind, example):
    program = Draws(kind(**example), "shared")
    assert program.core.flags(program.slot) == (True, False, False)
    assert not kind.pathwise


@each_discrete
def test_no_draw_of_parameters_that_are_none(kind, example):
    program = Draws(kind(**example), "shared")
    noise = program.noise_of(4)
    for i in range(program.flat.size):
        for wrong in (np.nan, np.inf):
            params = program.flat.copy()
            params[i] = wrong
            x = program.at(noise, params)
            assert np.all(np.isnan(x)) or (wrong == np.inf and "logits" in example and np.all(np.isfinite(x)))


# --- derivatives --------------------------------------------------------------------------------------------------

STEP = 1e-6


def sides(kind, example, key):
    """Return the example with one parameter a little lower and a little higher."""
    return [example | {key: example[key] + h} for h in (-STEP, STEP)]


@each_pathwise
def test_derivative_at_fixed_noise(kind, example):
    """Against differences of the draw itself, where that is a smooth map of the parameters."""
    if kind.__name__ in IMPLICIT:
        pytest.skip("the sampler is no smooth map")
    program = Draws(kind(**example), "shared")
    noise = program.noise_of(200)
    for k, key in enumerate(example):
        low, high = (Draws(kind(**e)).at(noise)[:, 0] for e in sides(kind, example, key))
        expected = (high - low) / (2 * STEP)
        got = [program.pullback(noise[s : s + 1], np.ones((1, 1)))[0][k] for s in range(200)]
        np.testing.assert_allclose(got, expected, rtol=2e-8, atol=2e-8 * max(1, np.abs(low).max()))


IMPLICIT = {"Gamma", "InverseGamma", "Chi2", "Beta", "StudentT", "VonMises"}


def line(variable, t):
    """Return points of a variable's space for points t of the real line, and how fast they move."""
    name = variable.space.name
    if name == "real":
        return np.sinh(t), np.cosh(t)
    if name in ("positive", "lower"):
        low = variable.space.lower[0] if variable.space.lower else 0.0
        return low + np.exp(t), np.exp(t)
    low, high = (0.0, 1.0) if name == "unit_interval" else (variable.space.lower[0], variable.space.upper[0])
    s = special.expit(t)
    return low + (high - low) * s, (high - low) * s * special.expit(-t)


def periodic(kind):
    """Return whether values are angles: functions of them are functions on the circle."""
    return kind is klqp.VonMises


def smooth(x, on_circle):
    """Return a smooth function, and its derivative."""
    return (np.sin(x) + x**0, np.cos(x)) if on_circle else (np.arctan(x), 1 / (1 + x**2))


def expectation(variable):
    """Return the expectation of a smooth function by quadrature."""
    t = np.linspace(-36, 36, 200_001)
    x, speed = line(variable, t)
    inside = (speed > 0) & np.isfinite(x)
    density = np.where(inside, np.exp(variable.log_prob(np.where(inside, x, 0.5))) * speed, 0.0)
    density = np.nan_to_num(density, posinf=0.0)
    return integrate.trapezoid(density * smooth(x, periodic(type(variable)))[0], t)


@each_pathwise
def test_gradient_of_an_expectation(kind, example):
    """E[f(z)] for a smooth f: pathwise gradients against quadrature, within 4 standard errors."""
    n = 20_000
    program = Draws(kind(**example), "per_draw")
    noise = program.noise_of(n, seed=9)
    inputs = [np.full((n, 1), float(v)) for v in example.values()]
    x = program.at(noise, inputs=inputs)
    grads = program.pullback(noise, smooth(x, periodic(kind))[1], inputs)[1]
    h = 1e-4
    for grad, key in zip(grads, example, strict=True):
        low, high = (expectation(kind(**(example | {key: example[key] + d}))) for d in (-h, h))
        expected = (high - low) / (2 * h)
        error = grad.std() / np.sqrt(n)
        assert abs(grad.mean() - expected) < 4 * error + 1e-6


@each_pathwise
@pytest.mark.parametrize("shapes", [((), (4,)), ((4,), ()), ((), ()), ((4,), (4,))])
def test_pullback_of_shared_parameters(kind, example, shapes):
    """Sums over draws and elements of what each draw's own parameters get."""
    n = 6
    parts = {key: wiggled(kind, {key: v}, shapes[k % 2])[key] for k, (key, v) in enumerate(example.items())}
    variable = kind(**parts, shape=(4,))
    shared, own = Draws(variable, "shared"), Draws(variable, "per_draw")
    noise, cot = shared.noise_of(n), np.random.default_rng(3).normal(size=(n, 4))
    inputs = [np.tile(np.ravel(p.value), (n, 1)) for p in variable.inputs]
    each = own.pullback(noise, cot, inputs)[1]
    expected = np.concatenate([g.sum(0) for g in each])
    np.testing.assert_allclose(shared.pullback(noise, cot)[0], expected, rtol=1e-12, atol=1e-13)
    whole = Draws(kind(**{key: np.broadcast_to(v, (4,)) for key, v in parts.items()}), "per_draw")
    single = whole.pullback(noise, cot, [np.tile(np.broadcast_to(v, (4,)), (n, 1)) for v in parts.values()])[1]
    for g, e, p in zip(single, each, variable.inputs, strict=True):
        np.testing.assert_allclose(e, g if p.size == 4 else g.sum(1, keepdims=True), rtol=1e-12, atol=1e-13)


# --- von Mises: implicit in the concentration ---------------------------------------------------------------------


def von_mises_slope(z, k):
    """Return -(dF/dk) / p by quadrature with many digits."""
    with mp.workdps(25):
        z, k = mp.mpf(float(z)), mp.mpf(float(k))
        mean = mp.besseli(1, k) / mp.besseli(0, k)
        points = mp.linspace(0, z, 5)
        return float(mp.quad(lambda t: (mean - mp.cos(t)) * mp.exp(k * (mp.cos(t) - mp.cos(z))), points))


@pytest.mark.parametrize("k", [0.0, 1e-8, 0.02, 3.0, 15.9, 16.1, 20.0, 400.0, 1e9])
def test_von_mises_slopes(k):
    program = Draws(klqp.VonMises(0.0, k), "per_draw")
    noise = program.noise_of(16)
    inputs = [np.zeros((16, 1)), np.full((16, 1), k)]
    z = program.at(noise, inputs=inputs)
    slopes = program.pullback(noise, np.ones((16, 1)), inputs)[1][1]
    expected = [von_mises_slope(angle, k) for angle in z[:, 0]]
    # Beside the mode and the opposite point the quadrature's ends are rounded.
    np.testing.assert_allclose(slopes[:, 0], expected, rtol=2e-12, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("k", [0.0, 1e-300, 1e-9, 0.3, 2.0, 40.0, 1e6, 1e14, 1e300])
def test_von_mises_of_every_concentration(k):
    n = 40_000
    program = Draws(klqp.VonMises(0.0, k))
    z = program.at(program.noise_of(n))[:, 0]
    assert np.all(np.abs(z) <= np.pi)
    if k < 1e-8:
        law = stats.uniform(-np.pi, 2 * np.pi)
    elif k < 50:
        law = stats.vonmises(k)
    else:
        law = stats.norm(0, 1 / np.sqrt(k))
        z = 2 * np.sin(z / 2)  # normal but for terms of order 1 / k
    if k >= 1e6 or k < 50:
        assert stats.kstest(z, law.cdf).pvalue > 1e-4


def test_von_mises_angles_go_around():
    for loc in (0.0, 3.0, -3.0, 100.0):
        program = Draws(klqp.VonMises(loc, 2.0), "shared")
        noise = program.noise_of(2000)
        z, centred = program.at(noise), program.at(noise, np.array([0.0, 2.0]))
        assert np.all(np.abs(z) <= np.pi)
        np.testing.assert_allclose(np.exp(1j * z), np.exp(1j * (loc + centred)), atol=3e-14)
        assert program.pullback(noise, np.ones((2000, 1)))[0][0] == 2000


# --- mixtures of normals ------------------------------------------------------------------------------------------

MIXTURE_WEIGHTS = np.array([0.2, 0.5, 0.3])
MIXTURE_LOCS, MIXTURE_SCALES = np.array([-1.5, 0.3, 2.0]), np.array([0.5, 1.2, 0.3])


def same_family(weights, locs, scales, way="logits"):
    return klqp.MixtureSameFamily(klqp.Categorical(**{way: weights}), klqp.Normal(locs, scales))


def list_of_normals(weights, locs, scales, way="logits"):
    normals = [klqp.Normal(locs[..., k], scales[..., k]) for k in range(locs.shape[-1])]
    return klqp.Mixture(klqp.Categorical(**{way: weights}), normals)


def mixture_level(z, weights, locs, scales, way):
    """Return the distribution functions of a mixture at z, from below and from above."""
    p = weights / weights.sum(-1, keepdims=True) if way == "probs" else special.softmax(weights, -1)
    x = (np.asarray(z)[..., None] - locs) / scales
    return (p * special.ndtr(x)).sum(-1), (p * special.ndtr(-x)).sum(-1)


def mixture_quantile(level, parts, way):
    """Return the point at a level, given from below and from above, by the smaller of the two."""
    side = int(level[0] >= 0.5)
    return optimize.brentq(lambda x: mixture_level(x, *parts, way)[side] - level[side], -20, 20, xtol=1e-14)


def weights_by(way, p=MIXTURE_WEIGHTS):
    return p if way == "probs" else np.log(p) + 0.7


@pytest.mark.parametrize("way", ["logits", "probs"])
@pytest.mark.parametrize("build", [same_family, list_of_normals])
def test_mixtures_of_normals(build, way):
    """The law, and the derivatives by differences of the inverse distribution function."""
    parts = (weights_by(way), MIXTURE_LOCS, MIXTURE_SCALES)
    variable = build(*parts, way)
    program = Draws(variable, "shared")
    noise = program.noise_of(20_000)
    z = program.at(noise)[:, 0]
    assert stats.kstest(z, lambda x: mixture_level(x, *parts, way)[0]).pvalue > 1e-4
    order = [f"{i}" for i in range(9)] if build is same_family else [*"012", "3", "6", "4", "7", "5", "8"]
    h = 1e-5
    for s in range(40):
        got = program.pullback(noise[s : s + 1], np.ones((1, 1)))[0]
        level = mixture_level(z[s], *parts, way)
        for at, name in enumerate(order):
            moved = []
            for sign in (-1, 1):
                flat = np.concatenate(parts)
                flat[int(name)] += sign * h
                moved.append(mixture_quantile(level, (flat[:3], flat[3:6], flat[6:]), way))
            expected = (moved[1] - moved[0]) / (2 * h)
            np.testing.assert_allclose(got[at], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("way", ["logits", "probs"])
def test_gradient_of_a_mixtures_expectation(way):
    """Within 4 standard errors of quadrature, in weights, locs and scales."""
    n, parts = 20_000, [weights_by(way), MIXTURE_LOCS, MIXTURE_SCALES]
    program = Draws(same_family(*parts, way), "per_draw")
    noise = program.noise_of(n)
    inputs = [np.tile(p, (n, 1)) for p in parts]
    x = program.at(noise, inputs=inputs)
    grads = program.pullback(noise, smooth(x, False)[1], inputs)[1]
    t = np.linspace(-12, 12, 20_001)
    for k, grad in enumerate(grads):
        for j in range(3):
            ends = []
            for sign in (-1, 1):
                near = [p.copy() for p in parts]
                near[k][j] += sign * 1e-5
                w = near[0] / near[0].sum() if way == "probs" else special.softmax(near[0])
                density = stats.norm.pdf(t[:, None], near[1], near[2]) @ w
                ends.append(integrate.trapezoid(density * smooth(t, False)[0], t))
            expected = (ends[1] - ends[0]) / 2e-5
            assert abs(grad[:, j].mean() - expected) < 4 * grad[:, j].std() / np.sqrt(n) + 1e-7


@pytest.mark.parametrize("build", [same_family, list_of_normals])
@pytest.mark.parametrize("way", ["logits", "probs"])
@pytest.mark.parametrize("shared_weights", [True, False])
def test_batches_of_mixtures(build, way, shared_weights):
    """Elements of a batch are mixtures of their own, with their own two uniforms; parameters shared or per draw."""
    rng = np.random.default_rng(3)
    weights = weights_by(way, rng.dirichlet([2.0, 2.0, 2.0], () if shared_weights else 4))
    locs, scales = rng.normal(size=(4, 3)), rng.uniform(0.5, 1.5, (4, 3))
    variable = build(weights, locs, scales, way)
    shared, own = Draws(variable, "shared"), Draws(variable, "per_draw")
    n = 7
    noise, cot = shared.noise_of(n), rng.normal(size=(n, 4))
    z = shared.at(noise)
    inputs = [np.tile(np.ravel(p.value), (n, 1)) for p in variable.inputs]
    np.testing.assert_array_equal(own.at(noise, inputs=inputs), z)
    grads = np.concatenate([g.sum(0) for g in own.pullback(noise, cot, inputs)[1]])
    np.testing.assert_allclose(shared.pullback(noise, cot)[0], grads, rtol=1e-12, atol=1e-13)
    for e in range(4):
        one = build(weights if shared_weights else weights[e], locs[e], scales[e], way)
        np.testing.assert_array_equal(Draws(one).at(noise[:, [e, 4 + e]])[:, 0], z[:, e])


def test_mixtures_in_the_tails():
    """Differences of distribution functions keep their digits on the side that is lighter."""
    parts = (np.zeros(2), np.zeros(2), np.array([1.0, 1.1]))
    program = Draws(same_family(*parts), "shared")
    noise = np.array([[0.2, u] for u in (1e-12, 2.0**-53, 1 - 1e-12, 1 - 2.0**-53)])
    z = program.at(noise)[:, 0]
    for s in range(4):
        with mp.workdps(40):
            sign = 1 if z[s] < 0 else -1
            x = [mp.mpf(float(z[s])) / mp.mpf(c) for c in parts[2]]
            tails = [mp.ncdf(sign * v) for v in x]
            q = sum(mp.npdf(v) / mp.mpf(c) for v, c in zip(x, parts[2], strict=True)) / 2
            expected = float(-sign * (tails[0] - sum(tails) / 2) / q / 2)
        np.testing.assert_allclose(program.pullback(noise[s : s + 1], np.ones((1, 1)))[0][0], expected, rtol=1e-9)


def test_mixtures_of_others_have_no_draws():
    cat = klqp.Categorical(logits=[0.0, 0.0])
    assert not hasattr(klqp.MixtureSameFamily(cat, klqp.Laplace([0.0, 1.0], 1.0)), "emit_draw")
    assert not hasattr(klqp.Mixture(cat, [klqp.Normal(), klqp.Cauchy()]), "emit_draw")


# --- relaxed variables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.05, 0.7, 3.0])
def test_relaxed_draws_stay_inside_and_choose_like_the_discrete_ones(temperature):
    n = 40_000
    binary = Draws(klqp.RelaxedBernoulli(temperature, logits=0.8))
    x = binary.at(binary.noise_of(n))[:, 0]
    assert np.all((x > 0) & (x < 1))
    assert abs(np.mean(x > 0.5) - special.expit(0.8)) < 4 * 0.5 / np.sqrt(n)
    categories = Draws(klqp.RelaxedOneHotCategorical(temperature, logits=LOGITS))
    x = categories.at(categories.noise_of(n, seed=2))
    assert np.all((x > 0) & (x <= 1))
    np.testing.assert_allclose(x.sum(1), 1.0, rtol=1e-13)
    chosen = np.bincount(np.argmax(x, 1), minlength=4)
    assert stats.chisquare(chosen, n * special.softmax(LOGITS)).pvalue > 1e-4


def test_relaxed_categories_at_fixed_noise():
    """Derivatives of a draw of a vector in its temperature and weights, against differences."""
    for way, weights in (("logits", LOGITS), ("probs", np.array([0.2, 0.5, 0.3]))):
        program = Draws(klqp.RelaxedOneHotCategorical(0.7, **{way: weights}), "shared")
        noise = program.noise_of(30)
        cot = np.random.default_rng(1).normal(size=(30, len(weights)))
        got = program.pullback(noise, cot)[0]
        for i in range(program.flat.size):
            step = np.zeros(program.flat.size)
            step[i] = 1e-6
            ends = [program.at(noise, program.flat + sign * step) for sign in (-1, 1)]
            expected = np.sum(cot * (ends[1] - ends[0])) / 2e-6
            np.testing.assert_allclose(got[i], expected, rtol=1e-7, atol=1e-7)


# --- threads ------------------------------------------------------------------------------------------------------


def states_of(build):
    """Return the state after some steps with 1, 2 and 3 threads of a model around an unlisted variable."""
    out = []
    for n_threads in (1, 2, 3):
        mu = klqp.Normal(0.0, 1.0, name="mu")
        x = klqp.Normal(mu + klqp.sum(build()) * 1e-4, 1.0, name="x")
        inference = klqp.KLqp([mu], data={x: 1.0})
        inference.run(n_iter=3, n_samples=4, seed=1, n_threads=n_threads, progress=False)
        out.append(inference.snapshot())
    return out


@each_case
def test_same_bits_for_any_number_of_threads(kind, example):
    parameters = wiggled(kind, example, (5000,))
    one, *others = states_of(lambda: kind(**parameters))
    for other in others:
        for key, value in one.items():
            np.testing.assert_array_equal(other[key], value, err_msg=key)


@pytest.mark.parametrize("of", ["von_mises", "mixture"])
def test_same_gradients_for_any_number_of_threads(of):
    def build():
        if of == "von_mises":
            return klqp.VonMises(0.3, klqp.Parameter(2.0, support="positive"), shape=5000)
        weights, locs = klqp.Parameter(np.zeros(3)), klqp.Parameter(np.arange(3.0))
        return klqp.MixtureSameFamily(klqp.Categorical(logits=weights), klqp.Normal(locs, np.ones((5000, 3))))

    one, *others = states_of(build)
    for other in others:
        for key, value in one.items():
            np.testing.assert_array_equal(other[key], value, err_msg=key)
