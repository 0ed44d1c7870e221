"""Gamma draws and their implicit gradients: kernels in every table, the node, and the distributions made from them."""

import functools

import mpmath as mp
import numpy as np
import pytest
from scipy import special, stats

import klqp
from klqp import _core
from klqp.model.emitter import Emitter

kernels = _core.kernels
each_table = pytest.mark.parametrize("table", kernels.tables())

CONCENTRATIONS = [1e-3, 0.02, 0.4, 0.999, 1.0, 1.3, 1.999, 2.0, 3.1, 5.0, 7.9, 8.0, 15.0, 16.0, 40.0, 64.0, 900.0, 1e5]
PROBABILITIES = [1e-10, 1e-6, 1e-4, 0.003, 0.1, 0.5]
GRADIENT_RTOL = 3e-11  # largest measured: 1.1e-11


# --- gradient: against derivatives of the distribution function -----------------------------------------------


def log_quantile(a, p, above):
    """Return log z, near enough: the point at which the gradient is compared."""
    z = special.gammainccinv(a, p) if above else special.gammaincinv(a, p)
    return np.log(z) if z > 1e-290 else (np.log(p) + special.gammaln(a + 1)) / a


def exact_gradient(a, log_z):
    """Return -(dF/da) / (p(z) z) by a difference of the regularised incomplete gamma function at 50 digits."""
    with mp.workdps(50):
        a, z, step = mp.mpf(a), mp.exp(mp.mpf(log_z)), mp.mpf(10) ** -15

        def cdf(b):
            return mp.gammainc(b, 0, z, regularized=True)

        slope = (cdf(a * (1 + step)) - cdf(a * (1 - step))) / (2 * step * a)
        density = mp.exp(a * mp.log(z) - z - mp.loggamma(a))  # of log z
        return float(-slope / density)


@functools.cache
def reference():
    """Return concentrations, log z and derivatives."""
    points = [(a, log_quantile(a, p, above)) for a in CONCENTRATIONS for p in PROBABILITIES for above in (False, True)]
    points += [(a, x) for a in (1e-3, 0.2, 1.0, 3.0) for x in (-700.0, -40.0)]
    points += [(1e6, np.log(1e6) + x / 1e3) for x in (-6.0, -1.0, 0.5, 4.0)]
    a, log_z = np.array(points).T
    return a, log_z, np.array([exact_gradient(*point) for point in points])


@each_table
def test_gradients_are_those_of_the_quantile(table):
    a, log_z, exact = reference()
    np.testing.assert_allclose(kernels.gamma_log_gradient(table, a, log_z), exact, rtol=GRADIENT_RTOL, atol=0)


def test_gradients_are_differences_of_quantiles():
    """Another way to the same numbers, with the digits that SciPy's quantiles leave."""
    step = 1e-4
    for a in np.geomspace(0.5, 1e6, 14):
        for p in (1e-8, 0.02, 0.3, 0.5):
            for quantile in (special.gammaincinv, special.gammainccinv):
                rise = np.log(quantile(a * (1 + step), p) / quantile(a * (1 - step), p)) / (2 * step * a)
                got = kernels.gamma_log_gradient(kernels.active(), a, np.log([quantile(a, p)]))
                np.testing.assert_allclose(got, rise, rtol=1e-6)


@each_table
def test_gradients_are_continuous_where_patches_meet(table):
    """Neighbours across the bounds of concentrations, of log z and of the tails agree."""
    edges = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0]
    for a in edges:
        log_z = np.log(stats.gamma.ppf(np.linspace(0.001, 0.999, 50), a))
        below = kernels.gamma_log_gradient(table, np.nextafter(a, 0), log_z)
        np.testing.assert_allclose(below, kernels.gamma_log_gradient(table, a, log_z), rtol=GRADIENT_RTOL)
    for a in [0.01, 0.7, 1.5, 3.0, 6.0, 12.0, 40.0, 300.0]:
        log_z = np.linspace(max(-8.0, np.log(a) - 8 / np.sqrt(a)), np.log(a + 1) + 4 / np.sqrt(a + 1), 20001)
        gradient = np.log(kernels.gamma_log_gradient(table, a, log_z))
        jumps = np.diff(gradient, 3)  # of a smooth function: of the order of the cube of the step
        assert np.abs(jumps).max() < 1e-10


# --- sampler --------------------------------------------------------------------------------------------------


def log_cdf_values(log_z, a):
    """Return probabilities of draws by their logarithms; in the far left F(z) is z^a / Gamma(a + 1)."""
    far = np.exp(np.minimum(a * log_z - special.gammaln(a + 1), 0))
    return np.where(log_z < -60, far, special.gammainc(a, np.exp(np.maximum(log_z, -60))))


@pytest.mark.parametrize("a", [1e-3, 0.05, 0.3, 0.99, 1.0, 1.01, 1.7, 2.5, 9.0, 70.0, 1e4, 1e6])
def test_draws_have_the_distribution(a):
    n = 200_000
    noise = np.random.default_rng(int(1e6 * a)).normal(size=n)
    log_z = kernels.gamma_log_draws(kernels.active(), a, noise)
    assert stats.kstest(log_cdf_values(log_z, a), "uniform").pvalue > 1e-3


def test_draws_of_neighbouring_concentrations_have_the_distribution():
    """Many concentrations at once."""
    rng = np.random.default_rng(5)
    a = np.exp(rng.uniform(np.log(0.01), np.log(1e3), 300_000))
    log_z = kernels.gamma_log_draws(kernels.active(), a, rng.normal(size=a.size))
    assert stats.kstest(log_cdf_values(log_z, a), "uniform").pvalue > 1e-3


def test_draws_grow_with_the_normal():
    """Draws are not only distributed rightly, but made from the normal: what quasi-random noise lives on."""
    noise = np.random.default_rng(6).normal(size=100_000)
    for a, least in ((1.0, 0.9), (3.0, 0.98), (100.0, 0.999)):
        z = np.exp(kernels.gamma_log_draws(kernels.active(), a, noise))
        assert stats.spearmanr(z, noise).statistic > least


# --- both -----------------------------------------------------------------------------------------------------


def mixed(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(np.log(1e-3), np.log(1e6), n)), rng.normal(size=n) * rng.choice([1.0, 2.5], n)


@each_table
def test_elements_do_not_depend_on_their_place(table):
    a, noise = mixed(3000)
    log_z = kernels.gamma_log_draws(table, a, noise)
    gradient = kernels.gamma_log_gradient(table, a, log_z)
    rng = np.random.default_rng(1)
    for begin, n in [(0, 1), (17, 5), (1, 255), (100, 256), (64, 257), (5, 700), *rng.integers(1, 1500, (30, 2))]:
        part = slice(begin, begin + n)
        np.testing.assert_array_equal(kernels.gamma_log_draws(table, a[part], noise[part]), log_z[part])
        np.testing.assert_array_equal(kernels.gamma_log_gradient(table, a[part], log_z[part]), gradient[part])
    order = rng.permutation(a.size)
    np.testing.assert_array_equal(kernels.gamma_log_draws(table, a[order], noise[order]), log_z[order])
    np.testing.assert_array_equal(kernels.gamma_log_gradient(table, a[order], log_z[order]), gradient[order])


@each_table
@pytest.mark.parametrize("a", CONCENTRATIONS)
def test_a_shared_concentration_gives_the_same_bits(table, a):
    noise = mixed(700)[1]
    log_z = kernels.gamma_log_draws(table, a, noise)
    np.testing.assert_array_equal(kernels.gamma_log_draws(table, np.full(noise.size, a), noise), log_z)
    expected = kernels.gamma_log_gradient(table, a, log_z)
    np.testing.assert_array_equal(kernels.gamma_log_gradient(table, np.full(noise.size, a), log_z), expected)
    assert (expected > 0).all()


@each_table
def test_arguments_that_are_not_legal_give_nan(table):
    for a in (0.0, -1.0, np.inf, np.nan):
        assert np.isnan(kernels.gamma_log_draws(table, a, np.array([0.3]))).all()
        assert np.isnan(kernels.gamma_log_gradient(table, a, np.array([0.3]))).all()
    for a in (0.5, 7.0):
        assert np.isnan(kernels.gamma_log_draws(table, a, np.array([np.nan, np.inf, -np.inf]))).all()
        assert np.isnan(kernels.gamma_log_gradient(table, a, np.array([np.nan]))).all()
    assert np.isfinite(kernels.gamma_log_draws(table, 1e300, np.array([-8.0, 8.0]))).all()


# --- the node -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 700])
@pytest.mark.parametrize("n_draws", [1, 5, 600])
@pytest.mark.parametrize("kind", ["one", "each", "one per draw", "each per draw"])
def test_the_node_applies_the_kernels(n, n_draws, kind):
    """Concentrations of every layout, with noise that begins later and ends later than the draw."""
    rng = np.random.default_rng(n)
    core = _core.Model()
    size = n if kind.startswith("each") else 1
    per_draw = kind.endswith("per draw")
    a = rng.uniform(0.3, 20.0, (n_draws if per_draw else 1, size))
    concentration = core.input(size) if per_draw else core.parameter(0, size)
    begin = 2 if n == 3 else 0
    noise = rng.normal(size=(n_draws, begin + n + (n == 3)))
    out = core.node("log_gamma_draw", [concentration, core.noise(0, noise.shape[1])], n, {"begin": [begin]})
    params, inputs = (np.zeros(1), [a]) if per_draw else (a[0], [])
    (log_z,) = core.evaluate(n_draws, params, noise, inputs, [out])
    every = np.broadcast_to(a, (n_draws, n))
    used = noise[:, begin : begin + n].ravel()
    expected = kernels.gamma_log_draws(kernels.active(), every.ravel(), used).reshape(n_draws, n)
    np.testing.assert_array_equal(log_z, expected)
    cot = rng.normal(size=(n_draws, n))
    grad, drawn = core.pullback(n_draws, params, noise, inputs, out, cot)
    slopes = kernels.gamma_log_gradient(kernels.active(), every.ravel(), expected.ravel()).reshape(n_draws, n)
    shares = cot * slopes
    if size == 1:
        shares = shares.sum(1, keepdims=True)
    got = drawn[0] if per_draw else grad
    np.testing.assert_allclose(got, shares if per_draw else shares.sum(0), rtol=1e-11, atol=1e-12)


def test_the_node_refuses_sizes_that_do_not_fit():
    core = _core.Model()
    a, noise = core.parameter(0, 3), core.noise(0, 4)
    for size, begin in ((2, 0), (3, 2), (3, -1)):
        with pytest.raises(ValueError, match="draw"):
            core.node("log_gamma_draw", [a, noise], size, {"begin": [begin]})


# --- distributions --------------------------------------------------------------------------------------------


class Draws:
    """Draws of a distribution in a program, and the cotangents of its parameters."""

    def __init__(self, variable, n_draws, seed=0):
        self.core, self.n_draws = _core.Model(), n_draws
        values = [p.value.ravel() for p in variable.parameters.values()]
        offsets = np.cumsum([0, *(v.size for v in values)])
        args = [self.core.parameter(int(at), v.size) for at, v in zip(offsets, values, strict=False)]
        self.params, self.offsets = np.concatenate(values), offsets
        noise = self.core.noise(0, variable.noise_size)
        self.noise = np.random.default_rng(seed).normal(size=(n_draws, variable.noise_size))
        self.out = variable.emit_draw(Emitter(self.core, {}), noise, args)
        (self.values,) = self.core.evaluate(n_draws, self.params, self.noise, [], [self.out])

    def pullback(self, cot):
        grad, _ = self.core.pullback(self.n_draws, self.params, self.noise, [], self.out, cot)
        return np.split(grad, self.offsets[1:-1])


N = 200_000
UNIVARIATE = [
    (klqp.Gamma, stats.gamma, {"concentration": 0.4, "rate": 2.0}, lambda a, r: (a, 0, 1 / r)),
    (klqp.Gamma, stats.gamma, {"concentration": 5.0, "rate": 3.0}, lambda a, r: (a, 0, 1 / r)),
    (klqp.InverseGamma, stats.invgamma, {"concentration": 2.5, "scale": 1.5}, lambda a, s: (a, 0, s)),
    (klqp.Chi2, stats.chi2, {"df": 3.0}, lambda df: (df,)),
    (klqp.Beta, stats.beta, {"concentration1": 0.5, "concentration0": 0.7}, lambda a, b: (a, b)),
    (klqp.Beta, stats.beta, {"concentration1": 6.0, "concentration0": 2.0}, lambda a, b: (a, b)),
    (klqp.StudentT, stats.t, {"df": 4.0, "loc": 0.5, "scale": 2.0}, lambda df, m, s: (df, m, s)),
    (klqp.StudentT, stats.t, {"df": 0.8, "loc": -1.0, "scale": 0.3}, lambda df, m, s: (df, m, s)),
]
each_univariate = pytest.mark.parametrize(
    ("kind", "scipy_kind", "parameters", "translate"), UNIVARIATE, ids=lambda x: getattr(x, "__name__", None)
)


@each_univariate
def test_distributions_are_drawn(kind, scipy_kind, parameters, translate):
    draws = Draws(kind(**parameters), N)
    exact = scipy_kind(*translate(*parameters.values()))
    assert stats.kstest(draws.values.ravel(), exact.cdf).pvalue > 1e-3


def bump(z):
    """Return a smooth bounded function and its derivative."""
    return 1 / (1 + (z - 0.3) ** 2), -2 * (z - 0.3) / (1 + (z - 0.3) ** 2) ** 2


def expected_bump(distribution):
    """Integrate over the probability, in pieces between quantiles."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    edges = np.array([1e-13, 1e-9, 1e-6, 1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1 - 1e-4, 1 - 1e-6, 1 - 1e-9])
    middle, half = (edges[1:] + edges[:-1])[:, None] / 2, np.diff(edges)[:, None] / 2
    return np.sum(half * weights * bump(distribution.ppf(middle + half * nodes))[0])


@each_univariate
def test_pathwise_gradients_of_distributions(kind, scipy_kind, parameters, translate):
    """Derivatives of an expectation against differences of integrals."""
    numbers = np.array(list(parameters.values()))
    draws = Draws(kind(**{key: np.full(N, x) for key, x in parameters.items()}), 1, seed=3)
    each = draws.pullback(bump(draws.values)[1])
    for k, (number, sample) in enumerate(zip(numbers, each, strict=True)):
        step = np.zeros(numbers.size)
        step[k] = 1e-4 * max(1.0, abs(number))
        ends = [expected_bump(scipy_kind(*translate(*(numbers + sign * step)))) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step[k])
        error = sample.std() / np.sqrt(N)
        assert abs(sample.mean() - slope) < 4 * error, (list(parameters)[k], sample.mean(), slope, error)


def test_pathwise_gradients_of_dirichlet():
    """E[z_i z_j] = a_i a_j / (A (A + 1)), i != j, and its derivatives."""
    a = np.array([0.3, 1.5, 4.0])
    variable = klqp.Dirichlet(np.tile(a, (N, 1)))
    draws = Draws(variable, 1, seed=4)
    z = draws.values.reshape(N, 3)
    np.testing.assert_allclose(z.sum(1), 1.0, rtol=1e-13)
    for k in range(3):
        assert stats.kstest(z[:, k], stats.beta(a[k], a.sum() - a[k]).cdf).pvalue > 1e-3
    for i, j in ((0, 1), (0, 2), (1, 2)):
        cot = np.zeros((N, 3))
        cot[:, i], cot[:, j] = z[:, j], z[:, i]
        sample = draws.pullback(cot.reshape(1, -1))[0].reshape(N, 3)
        total = a.sum()
        value = a[i] * a[j] / (total * (total + 1))
        slope = value * ((np.arange(3) == i) / a[i] + (np.arange(3) == j) / a[j] - 1 / total - 1 / (total + 1))
        errors = sample.std(0) / np.sqrt(N)
        assert (np.abs(sample.mean(0) - slope) < 4 * errors).all()


def test_one_dirichlet_parameter_serves_a_batch():
    a = np.array([0.5, 2.0])
    shared = Draws(klqp.Dirichlet(a, shape=(3, 2)), 4)
    each = Draws(klqp.Dirichlet(np.tile(a, (3, 1))), 4)
    np.testing.assert_array_equal(shared.values, each.values)
    cot = np.random.default_rng(0).normal(size=(4, 6))
    np.testing.assert_allclose(shared.pullback(cot)[0], each.pullback(cot)[0].reshape(3, 2).sum(0), rtol=1e-12)


@pytest.mark.parametrize("parameters", [{"concentration": 1e-3}, {"concentration": [0.01, 1e-3], "rate": 1e-3}])
def test_positive_draws_stay_positive(parameters):
    for kind in (klqp.Gamma, klqp.InverseGamma):
        given = dict(parameters)
        if kind is klqp.InverseGamma and "rate" in given:
            given["scale"] = given.pop("rate")
        draws = Draws(kind(**given), 1000)
        assert (draws.values >= np.finfo(float).tiny).all()
        assert (draws.values <= 2.0**1000).all()
        assert all(np.isfinite(g).all() for g in draws.pullback(np.ones_like(draws.values)))


def test_beta_draws_stay_inside_the_interval():
    draws = Draws(klqp.Beta([1e-3, 0.1, 1e-3], [1e-3, 0.01, 5.0]), 2000)
    assert (draws.values >= np.finfo(float).tiny).all()
    assert (draws.values < 1.0).all()
    assert np.isfinite(klqp.Beta(1e-3, 1e-3).log_prob(draws.values.ravel()[0]))
    assert all(np.isfinite(g).all() for g in draws.pullback(np.ones_like(draws.values)))


def test_dirichlet_draws_stay_positive():
    draws = Draws(klqp.Dirichlet(np.full(4, 1e-3)), 1000)
    assert (draws.values > 0).all()
    np.testing.assert_allclose(draws.values.sum(1), 1.0, rtol=1e-13)


def test_student_t_draws_stay_finite():
    draws = Draws(klqp.StudentT(1e-3), 2000)
    assert np.isfinite(draws.values).all()
    assert all(np.isfinite(g).all() for g in draws.pullback(np.ones_like(draws.values)))


def test_small_beta_draws_keep_their_accuracy():
    """Near 0 a draw is the quotient of gamma draws to rounding, not 1 minus its complement."""
    variable = klqp.Beta(0.05, 2.0)
    draws = Draws(variable, 5000)
    log_z = [kernels.gamma_log_draws(kernels.active(), a, draws.noise[:, k].copy()) for k, a in ((0, 0.05), (1, 2.0))]
    ratio = log_z[0] - log_z[1]
    expected = np.exp(np.maximum(ratio, -708.0)) / (1 + np.exp(ratio))
    small = (draws.values[:, 0] < 1e-3) & (ratio > -700)
    np.testing.assert_allclose(draws.values[small, 0], expected[small], rtol=1e-12)
    assert small.sum() > 1000
