"""Every elementwise density in every kernel table: values, derivatives, edges, extremes, against mpmath and SciPy.

The reference is a formula in mpmath for each row of the registry; its derivatives are mpmath's numerical ones at many
digits. SciPy's distributions check those formulas.
"""

import functools

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from klqp import _core

kernels = _core.kernels
TABLES = kernels.tables()
DENSITIES = {name: (n_args, base_args) for name, n_args, base_args in kernels.densities()}
BASED = [name for name, (_, base_args) in DENSITIES.items() if base_args]

each_table = pytest.mark.parametrize("table", TABLES)
each_density = pytest.mark.parametrize("name", DENSITIES)

# A value that is relative to the size of the result, and an absolute one beside its zeros.
RTOL, ATOL = 1e-12, 1e-10
GRADIENT_RTOL = 1e-10


# --- reference formulas: log density without the base, in mpmath --------------------------------------------------


def xlog(a, b):
    """Return a log b with 0 log 0 = 0."""
    return mp.mpf(0) if a == 0 else a * mp.log(b)


def log_beta(a, b):
    return mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)


def softplus(x):
    return mp.log1p(mp.exp(x))


def normal(x, loc, scale):
    return -(((x - loc) / scale) ** 2) / 2 - mp.log(scale) - mp.log(2 * mp.pi) / 2


def cauchy(x, loc, scale):
    return -mp.log1p(((x - loc) / scale) ** 2) - mp.log(mp.pi * scale)


def logistic(x, loc, scale):
    z = abs(x - loc) / scale
    return -z - 2 * mp.log1p(mp.exp(-z)) - mp.log(scale)


def student_t(x, df, loc, scale):
    constant = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(df * mp.pi) / 2 - mp.log(scale)
    return constant - (df + 1) / 2 * mp.log1p(((x - loc) / scale) ** 2 / df)


def gamma(x, a, b):
    return a * mp.log(b) + xlog(a - 1, x) - b * x - mp.loggamma(a)


def beta(x, a, b):
    return xlog(a - 1, x) + xlog(b - 1, 1 - x) - log_beta(a, b)


def weibull(x, k, scale):
    return mp.log(k / scale) + xlog(k - 1, x / scale) - (x / scale) ** k


def gumbel(x, loc, scale):
    z = (x - loc) / scale
    return -z - mp.exp(-z) - mp.log(scale)


def von_mises(x, loc, k):
    return k * mp.cos(x - loc) - mp.log(2 * mp.pi) - mp.log(mp.besseli(0, k))


def rising(a, x):
    return mp.loggamma(a + x) - mp.loggamma(a)


def trials_logits(successes, failures, logits):
    return -successes * softplus(-logits) - failures * softplus(logits)


def trials_probs(successes, failures, probs):
    return xlog(successes, probs) + xlog(failures, 1 - probs)


EXACT = {
    "normal": normal,
    "log_normal": lambda x, loc, scale: normal(mp.log(x), loc, scale) - mp.log(x),
    "laplace": lambda x, loc, scale: -abs(x - loc) / scale - mp.log(2 * scale),
    "cauchy": cauchy,
    "half_cauchy": lambda x, loc, scale: cauchy(x, loc, scale) + mp.log(2),
    "logistic": logistic,
    "half_normal": lambda x, scale: normal(x, 0, scale) + mp.log(2),
    "uniform": lambda x, low, high: -mp.log(high - low) + 0 * x,
    "student_t": student_t,
    "gamma": gamma,
    "inverse_gamma": lambda x, a, b: a * mp.log(b) - (a + 1) * mp.log(x) - b / x - mp.loggamma(a),
    "beta": beta,
    "exponential": lambda x, rate: mp.log(rate) - rate * x,
    "chi2": lambda x, df: gamma(x, df / 2, mp.mpf(1) / 2),
    "weibull": weibull,
    "gumbel": gumbel,
    "von_mises": von_mises,
    "bernoulli_logits": lambda x, logits: trials_logits(x, 1 - x, logits),
    "bernoulli_probs": lambda x, probs: trials_probs(x, 1 - x, probs),
    "binomial_logits": lambda x, n, logits: trials_logits(x, n - x, logits),
    "binomial_probs": lambda x, n, probs: trials_probs(x, n - x, probs),
    "beta_binomial": lambda x, n, a, b: rising(a, x) + rising(b, n - x) - rising(a + b, n),
    "poisson": lambda x, rate: xlog(x, rate) - rate,
    "poisson_log": lambda x, log_rate: x * log_rate - mp.exp(log_rate),
    "negative_binomial_logits": lambda x, r, logits: rising(r, x) + trials_logits(x, r, logits),
    "negative_binomial_probs": lambda x, r, probs: rising(r, x) + trials_probs(x, r, probs),
    "geometric_logits": lambda x, logits: trials_logits(1, x, logits),
    "geometric_probs": lambda x, probs: trials_probs(1, x, probs),
}


def log_factorial(x):
    return mp.loggamma(x + 1)


def log_choose(x, n):
    return log_factorial(n) - log_factorial(x) - log_factorial(n - x)


EXACT_BASE = {
    "binomial_logits": log_choose,
    "binomial_probs": log_choose,
    "beta_binomial": log_choose,
    "poisson": lambda x: -log_factorial(x),
    "poisson_log": lambda x: -log_factorial(x),
    "negative_binomial_logits": lambda x: -log_factorial(x),
    "negative_binomial_probs": lambda x: -log_factorial(x),
}

SCIPY = {
    "normal": lambda x, loc, scale: stats.norm.logpdf(x, loc, scale),
    "log_normal": lambda x, loc, scale: stats.lognorm.logpdf(x, scale, scale=np.exp(loc)),
    "laplace": lambda x, loc, scale: stats.laplace.logpdf(x, loc, scale),
    "cauchy": lambda x, loc, scale: stats.cauchy.logpdf(x, loc, scale),
    "half_cauchy": lambda x, loc, scale: stats.halfcauchy.logpdf(x, loc, scale),
    "logistic": lambda x, loc, scale: stats.logistic.logpdf(x, loc, scale),
    "half_normal": lambda x, scale: stats.halfnorm.logpdf(x, scale=scale),
    "uniform": lambda x, low, high: stats.uniform.logpdf(x, low, high - low),
    "student_t": lambda x, df, loc, scale: stats.t.logpdf(x, df, loc, scale),
    "gamma": lambda x, a, b: stats.gamma.logpdf(x, a, scale=1 / b),
    "inverse_gamma": lambda x, a, b: stats.invgamma.logpdf(x, a, scale=b),
    "beta": lambda x, a, b: stats.beta.logpdf(x, a, b),
    "exponential": lambda x, rate: stats.expon.logpdf(x, scale=1 / rate),
    "chi2": lambda x, df: stats.chi2.logpdf(x, df),
    "weibull": lambda x, k, scale: stats.weibull_min.logpdf(x, k, scale=scale),
    "gumbel": lambda x, loc, scale: stats.gumbel_r.logpdf(x, loc, scale),
    "von_mises": lambda x, loc, k: stats.vonmises.logpdf(x, k, loc),
    "bernoulli_logits": lambda x, logits: stats.bernoulli.logpmf(x, special.expit(logits)),
    "bernoulli_probs": lambda x, probs: stats.bernoulli.logpmf(x, probs),
    "binomial_logits": lambda x, n, logits: stats.binom.logpmf(x, n, special.expit(logits)),
    "binomial_probs": lambda x, n, probs: stats.binom.logpmf(x, n, probs),
    "beta_binomial": lambda x, n, a, b: stats.betabinom.logpmf(x, n, a, b),
    "poisson": lambda x, rate: stats.poisson.logpmf(x, rate),
    "poisson_log": lambda x, log_rate: stats.poisson.logpmf(x, np.exp(log_rate)),
    "negative_binomial_logits": lambda x, r, logits: stats.nbinom.logpmf(x, r, special.expit(-logits)),
    "negative_binomial_probs": lambda x, r, probs: stats.nbinom.logpmf(x, r, 1 - probs),
    "geometric_logits": lambda x, logits: stats.geom.logpmf(x + 1, special.expit(logits)),
    "geometric_probs": lambda x, probs: stats.geom.logpmf(x + 1, probs),
}

# --- inputs -------------------------------------------------------------------------------------------------------


def log_uniform(rng, low, high, n):
    return np.exp(rng.uniform(np.log(low), np.log(high), n))


def counts(rng, low, high, n):
    return np.floor(log_uniform(rng, low + 1, high + 1, n)) - 1


def around(rng, loc, scale, n):
    """Return values from the bulk to far in the tails."""
    return loc + scale * rng.choice([-1, 1], n) * log_uniform(rng, 1e-6, 30, n)


def location_scale(rng, n, size):
    loc, scale = rng.normal(0, size, n), log_uniform(rng, 1 / (10 * size), 10 * size, n)
    return around(rng, loc, scale, n), loc, scale


def gamma_points(rng, n, size):
    """Return values within some standard deviations of the mean, and far from it."""
    a = log_uniform(rng, min(1e-2, 1 / size), size, n)
    y = np.where(
        rng.random(n) < 0.7, stats.gamma.ppf(rng.uniform(0.001, 0.999, n), a), a * log_uniform(rng, 0.01, 9, n)
    )
    return np.maximum(y, 1e-200), a, log_uniform(rng, 1e-3, 1e3, n)


def beta_points(rng, n, size):
    a, b = log_uniform(rng, min(1e-2, 1 / size), size, n), log_uniform(rng, 1e-2, size, n)
    mean, sd = a / (a + b), np.sqrt(a * b / (a + b) ** 2 / (a + b + 1))
    x = np.where(rng.random(n) < 0.6, mean + sd * rng.uniform(-3, 3, n), rng.random(n))
    return np.where((x > 0) & (x < 1), x, rng.random(n)), a, b


def trial_points(rng, n, size):
    total = counts(rng, 0, size, n)
    return np.floor(rng.random(n) * (total + 1)), total


def points(name, rng, n, size):
    """Return n points of the arguments, all legal; parameters up to `size`, which is 10 or a large number."""
    large = max(size, 1e3)
    probs, logits = rng.uniform(0.001, 0.999, n), rng.normal(0, 3, n) * np.where(rng.random(n) < 0.3, 10, 1)
    positive = log_uniform(rng, 1e-3, large, n)
    if name == "log_normal":
        x, loc, scale = location_scale(rng, n, min(size, 10))
        return np.exp(np.clip(loc + scale * rng.normal(size=n), -600, 600)), loc, scale
    if name == "half_cauchy":
        x, loc, scale = location_scale(rng, n, size)
        return loc + np.abs(x - loc), loc, scale
    if name == "half_normal":
        return positive * log_uniform(rng, 1e-6, 30, n), positive
    if name == "uniform":
        low = rng.normal(0, size, n)
        return low + positive * rng.random(n), low, low + 1.1 * positive
    if name == "student_t":
        x, loc, scale = location_scale(rng, n, min(size, 1e3))
        return x, log_uniform(rng, 1e-2, 1e12 if size > 10 else 50, n), loc, scale
    if name in ("gamma", "inverse_gamma"):
        y, a, b = gamma_points(rng, n, size)
        return (y / b if name == "gamma" else b / y), a, b
    if name == "chi2":
        y, a, _ = gamma_points(rng, n, size)
        return 2 * y, 2 * a
    if name == "beta":
        return beta_points(rng, n, size)
    if name == "exponential":
        return log_uniform(rng, 1e-6, 30, n) / positive, positive
    if name == "weibull":
        k = log_uniform(rng, 1e-1, min(size, 1e6), n)
        return positive * np.exp(np.clip(rng.uniform(-30, 3, n) / k, -300, 300)), k, positive
    if name == "gumbel":
        loc, scale = rng.normal(0, size, n), positive
        return loc + scale * rng.uniform(-5, 100, n), loc, scale
    if name == "von_mises":
        k = log_uniform(rng, 1e-3, 1e6 if size > 10 else 50, n)
        return rng.uniform(-7, 7, n), rng.uniform(-3, 3, n), k
    if name.startswith("bernoulli"):
        return rng.integers(0, 2, n).astype(float), logits if name.endswith("logits") else probs
    if name.startswith("binomial"):
        return *trial_points(rng, n, size), logits if name.endswith("logits") else probs
    if name == "beta_binomial":
        return *trial_points(rng, n, size), positive, log_uniform(rng, 1e-3, large, n)
    if name == "poisson":
        return counts(rng, 0, large, n), positive
    if name == "poisson_log":
        return counts(rng, 0, large, n), rng.uniform(-20, np.log(large), n)
    if name.startswith("negative_binomial"):
        return counts(rng, 0, large, n), positive, logits if name.endswith("logits") else probs
    if name.startswith("geometric"):
        return counts(rng, 0, large, n), logits if name.endswith("logits") else probs
    return location_scale(rng, n, size)


def columns(args):
    return [np.asarray(a, dtype=float) for a in args]


@functools.cache
def exact_values(name, seed, n, size):
    """Return the points and the exact log densities there."""
    args = columns(points(name, np.random.default_rng(seed), n, size))
    with mp.workdps(60):
        return args, np.array([float(EXACT[name](*map(mp.mpf, row))) for row in zip(*args, strict=True)])


@functools.cache
def exact_gradients(name, seed, n, size):
    """Return the points and the exact derivatives there, (n_args, n)."""
    args = columns(points(name, np.random.default_rng(seed), n, size))
    out = np.zeros((len(args), n))
    with mp.workdps(80):
        for i, row in enumerate(zip(*args, strict=True)):
            row = [mp.mpf(a) for a in row]
            for k in differentiable(name):
                out[k, i] = float(central_difference(EXACT[name], row, k))
    return args, out


def central_difference(function, row, k):
    """Return the derivative by argument k, by a central difference with 1e-25 of its size."""
    step = (abs(row[k]) or 1) * mp.mpf(10) ** -25
    up = [a + step if j == k else a for j, a in enumerate(row)]
    down = [a - step if j == k else a for j, a in enumerate(row)]
    return (function(*up) - function(*down)) / (2 * step)


DISCRETE = {
    name for name in SCIPY if name.split("_")[0] in ("bernoulli", "poisson", "geometric", "negative", "binomial")
}
DISCRETE.add("beta_binomial")


def differentiable(name):
    """Return the arguments that have a derivative."""
    n_args = DENSITIES[name][0]
    if name in ("binomial_logits", "binomial_probs", "beta_binomial"):
        return range(2, n_args)
    return range(1 if name in DISCRETE else 0, n_args)


def gradient(table, name, args):
    return kernels.log_density_gradient(table, name, args, [True] * len(args))


# --- values -------------------------------------------------------------------------------------------------------


def test_every_density_has_its_references():
    assert set(EXACT) == set(SCIPY) == set(DENSITIES)
    assert set(EXACT_BASE) == set(BASED)


@pytest.mark.parametrize("size", [10, 1e6, 1e10])
@each_density
@each_table
def test_values(table, name, size):
    args, exact = exact_values(name, 1, 150, size)
    np.testing.assert_allclose(kernels.log_density(table, name, args), exact, rtol=RTOL, atol=ATOL)


@each_density
def test_values_of_scipy(name):
    """SciPy's own digits are the limit here; it checks the formulas."""
    args = columns(points(name, np.random.default_rng(2), 300, 10))
    base_args = DENSITIES[name][1]
    y = kernels.log_density(kernels.active(), name, args)
    if base_args:
        y = y + kernels.log_density_base(kernels.active(), name, args[: base_args.bit_length()])
    expected = SCIPY[name](*args)
    usable = np.isfinite(expected)  # SciPy underflows in some tails, and knows probabilities but no logits
    if name.endswith("_logits"):
        usable &= np.abs(args[-1]) < 12
    assert np.mean(usable) > 0.6
    np.testing.assert_allclose(y[usable], expected[usable], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("size", [10, 1e6, 1e10])
@pytest.mark.parametrize("name", BASED)
@each_table
def test_bases(table, name, size):
    n_args = DENSITIES[name][1].bit_length()
    args = columns(points(name, np.random.default_rng(3), 100, size))[:n_args]
    with mp.workdps(60):
        exact = np.array([float(EXACT_BASE[name](*map(mp.mpf, row))) for row in zip(*args, strict=True)])
    np.testing.assert_allclose(kernels.log_density_base(table, name, args), exact, rtol=1e-13, atol=1e-13)


# --- derivatives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1e6, 1e10])
@each_density
@each_table
def test_gradients(table, name, size):
    """Relative to each derivative itself, also where it is the small difference of large terms."""
    args, exact = exact_gradients(name, 4, 40, size)
    for k, (grad, expected) in enumerate(zip(gradient(table, name, args), exact, strict=True)):
        np.testing.assert_allclose(grad, expected, rtol=GRADIENT_RTOL, atol=0, err_msg=f"argument {k}")


# --- partition, scalars, tables -----------------------------------------------------------------------------------


@each_density
@each_table
def test_scalar_arguments_give_the_same_bits(table, name):
    """Every choice of scalars among the arguments, across tiles, and any choice of wanted derivatives."""
    n_args = DENSITIES[name][0]
    args = columns(points(name, np.random.default_rng(5), 600, 10))
    for scalars in range(1, 2**n_args):
        mixed = [a[0] if scalars >> k & 1 else a for k, a in enumerate(args)]
        full = [np.broadcast_to(a, (600 if scalars != 2**n_args - 1 else 1,)) for a in mixed]
        np.testing.assert_array_equal(kernels.log_density(table, name, mixed), kernels.log_density(table, name, full))
        expected = gradient(table, name, full)
        for wanted in range(2**n_args):
            flags = [bool(wanted >> k & 1) for k in range(n_args)]
            for flag, grad, e in zip(
                flags, kernels.log_density_gradient(table, name, mixed, flags), expected, strict=True
            ):
                assert (grad is not None) == flag
                if flag:
                    np.testing.assert_array_equal(grad, e)


@each_density
@each_table
def test_result_is_independent_of_the_place(table, name):
    args = columns(points(name, np.random.default_rng(6), 300, 10))
    n_base = DENSITIES[name][1].bit_length()
    whole, grads = kernels.log_density(table, name, args), gradient(table, name, args)
    for start, stop in [(0, 1), (3, 4), (1, 18), (5, 75), (250, 300), (7, 270)]:
        part = [a[start:stop] for a in args]
        np.testing.assert_array_equal(kernels.log_density(table, name, part), whole[start:stop])
        for grad, expected in zip(gradient(table, name, part), grads, strict=True):
            np.testing.assert_array_equal(grad, expected[start:stop])
        if n_base:
            np.testing.assert_array_equal(
                kernels.log_density_base(table, name, part[:n_base]),
                kernels.log_density_base(table, name, args[:n_base])[start:stop],
            )


def test_tables_list_the_same_densities():
    for table in TABLES:
        for name in DENSITIES:
            args = columns(points(name, np.random.default_rng(7), 20, 10))
            y = kernels.log_density(table, name, args)
            np.testing.assert_allclose(y, kernels.log_density("base", name, args), rtol=1e-12, atol=1e-12)


# --- support, NaN, illegal parameters -----------------------------------------------------------------------------

# For each density: legal parameters, and values outside the support.
OUTSIDE = {
    "log_normal": [-1.0, 0.0],
    "half_cauchy": [-1e300],
    "half_normal": [-1e-300],
    "uniform": [-1e9, 1e9],
    "gamma": [-1e-300],
    "inverse_gamma": [-1.0, 0.0],
    "beta": [-1e-300, 1.0000001],
    "exponential": [-1e-300],
    "chi2": [-1e-300],
    "weibull": [-1e-300],
} | {name: [-1.0, 0.5, -0.5, 1e15 + 0.5] for name in DISCRETE}

# Illegal values of each parameter; infinite and not-a-number ones are added.
POSITIVE = [0.0, -1.0]
ILLEGAL = {
    "scale": POSITIVE,
    "rate": POSITIVE,
    "df": POSITIVE,
    "concentration": POSITIVE,
    "probs": [-1e-9, 1.0000001],
    "trials": [-1.0, 2.5],
    "any": [],
}
PARAMETERS = {
    "half_normal": ["scale"],
    "uniform": ["any", "any"],
    "student_t": ["df", "any", "scale"],
    "gamma": ["concentration", "rate"],
    "inverse_gamma": ["concentration", "scale"],
    "beta": ["concentration", "concentration"],
    "exponential": ["rate"],
    "chi2": ["df"],
    "weibull": ["concentration", "scale"],
    "von_mises": ["any", "any"],
    "bernoulli_probs": ["probs"],
    "bernoulli_logits": ["any"],
    "binomial_logits": ["trials", "any"],
    "binomial_probs": ["trials", "probs"],
    "beta_binomial": ["trials", "concentration", "concentration"],
    "poisson": ["any"],
    "poisson_log": ["any"],
    "negative_binomial_logits": ["scale", "any"],
    "negative_binomial_probs": ["scale", "probs"],
    "geometric_logits": ["any"],
    "geometric_probs": ["probs"],
}


def one_point(name):
    return [float(a[0]) for a in columns(points(name, np.random.default_rng(8), 1, 10))]


@each_density
@each_table
def test_outside_the_support(table, name):
    args = one_point(name)
    for x in [*OUTSIDE.get(name, []), np.inf, -np.inf]:
        row = [np.array([x]), *args[1:]]
        assert kernels.log_density(table, name, row)[0] == -np.inf, x
        for grad in gradient(table, name, row):
            np.testing.assert_array_equal(grad, [0.0])


@each_density
@each_table
def test_nan_and_illegal_parameters(table, name):
    args = one_point(name)
    cases = [(k, np.nan) for k in range(len(args))]
    for k, kind in enumerate(PARAMETERS.get(name, ["any", "scale"]), start=1):
        bad = ILLEGAL[kind] + ([np.inf] if not name.endswith("logits") or kind != "any" else [])
        cases += [(k, value) for value in bad]
    if name == "uniform":
        cases += [(1, args[2]), (1, args[2] + 1)]
    if name == "von_mises":
        cases.append((2, -1.0))
    if name == "poisson":
        cases.append((1, -1.0))
    for k, value in cases:
        row = [np.array([value if j == k else a]) for j, a in enumerate(args)]
        assert np.isnan(kernels.log_density(table, name, row)[0]), (k, value)
        for grad in gradient(table, name, row):
            assert np.isnan(grad[0]), (k, value)


INF = np.inf
EDGES = [
    ("gamma", [0.0, 1.0, 2.5], np.log(2.5), [-2.5, None, None]),
    ("gamma", [0.0, 2.0, 2.5], -INF, [INF, -INF, 0.8]),
    ("gamma", [0.0, 0.5, 2.5], INF, [-INF, -INF, 0.2]),
    ("chi2", [0.0, 2.0], -np.log(2), [-0.5, None]),
    ("exponential", [0.0, 3.0], np.log(3), [-3.0, 1 / 3]),
    ("weibull", [0.0, 1.0, 2.0], -np.log(2), [-0.5, None, -0.5]),
    ("weibull", [0.0, 2.0, 2.0], -INF, [INF, -INF, -1.0]),
    ("weibull", [0.0, 0.5, 2.0], INF, [-INF, -INF, -0.25]),
    ("beta", [0.0, 1.0, 3.0], np.log(3), [-2.0, None, 1 / 3]),
    ("beta", [1.0, 3.0, 1.0], np.log(3), [2.0, 1 / 3, None]),
    ("beta", [0.0, 1.0, 1.0], 0.0, [0.0, None, None]),
    ("beta", [1.0, 1.0, 1.0], 0.0, [0.0, None, None]),
    ("beta", [0.0, 2.0, 3.0], -INF, [None, None, None]),
    ("uniform", [2.0, 2.0, 4.0], -np.log(2), [0.0, 0.5, -0.5]),
    ("uniform", [4.0, 2.0, 4.0], -np.log(2), [0.0, 0.5, -0.5]),
    ("half_cauchy", [1.0, 1.0, 2.0], np.log(2 / np.pi / 2), [0.0, 0.0, -0.5]),
    ("half_normal", [0.0, 1.0], np.log(2 / np.pi) / 2, [0.0, -1.0]),
    ("laplace", [1.0, 1.0, 0.5], 0.0, [0.0, 0.0, -2.0]),
    ("cauchy", [1e200, 0.0, 1.0], -2 * np.log(1e200) - np.log(np.pi), [-2e-200, 2e-200, 1.0]),
    ("student_t", [1e200, 3.0, 0.0, 1.0], None, [-4e-200, None, 4e-200, 3.0]),
    ("student_t", [0.0, 1e12, 0.0, 1.0], -np.log(2 * np.pi) / 2 - 2.5e-13, [0.0, 5e-25, 0.0, -1.0]),
    ("gumbel", [1000.0, 0.0, 1.0], -1000.0, [-1.0, 1.0, 999.0]),
    ("gumbel", [-1000.0, 0.0, 1.0], -INF, [INF, -INF, INF]),
    ("von_mises", [1.0, 0.3, 0.0], -np.log(2 * np.pi), [0.0, 0.0, np.cos(0.7)]),
    ("bernoulli_probs", [0.0, 0.0], 0.0, [0.0, -1.0]),
    ("bernoulli_probs", [1.0, 1.0], 0.0, [0.0, 1.0]),
    ("bernoulli_probs", [1.0, 0.0], -INF, [0.0, INF]),
    ("bernoulli_logits", [1.0, 800.0], 0.0, [0.0, 0.0]),
    ("bernoulli_logits", [0.0, 800.0], -800.0, [0.0, -1.0]),
    ("bernoulli_logits", [0.0, -INF], 0.0, [0.0, 0.0]),
    ("bernoulli_logits", [1.0, -INF], -INF, [0.0, 1.0]),
    ("binomial_probs", [0.0, 5.0, 0.0], 0.0, [0.0, 0.0, -5.0]),
    ("binomial_probs", [5.0, 5.0, 1.0], 0.0, [0.0, 0.0, 5.0]),
    ("binomial_probs", [4.0, 5.0, 1.0], -INF, [0.0, 0.0, -INF]),
    ("binomial_logits", [5.0, 5.0, INF], 0.0, [0.0, 0.0, 0.0]),
    ("binomial_logits", [0.0, 0.0, 1.0], 0.0, [0.0, 0.0, 0.0]),
    ("beta_binomial", [0.0, 0.0, 1.0, 2.0], 0.0, [0.0, 0.0, 0.0, 0.0]),
    ("poisson", [0.0, 0.0], 0.0, [0.0, -1.0]),
    ("poisson", [2.0, 0.0], -INF, [0.0, INF]),
    ("poisson_log", [0.0, -INF], 0.0, [0.0, 0.0]),
    ("negative_binomial_probs", [0.0, 3.0, 0.0], 0.0, [0.0, 0.0, -3.0]),
    ("negative_binomial_probs", [0.0, 3.0, 1.0], -INF, [0.0, -INF, -INF]),
    ("geometric_probs", [0.0, 1.0], 0.0, [0.0, 1.0]),
    ("geometric_probs", [2.0, 1.0], -INF, [0.0, -INF]),
    ("geometric_logits", [0.0, 800.0], 0.0, [0.0, 0.0]),
]


@pytest.mark.parametrize(("name", "args", "value", "grads"), EDGES, ids=lambda v: str(v)[:24])
@each_table
def test_edges(table, name, args, value, grads):
    row = [np.array([a]) for a in args]
    if value is not None:
        np.testing.assert_allclose(kernels.log_density(table, name, row), [value], rtol=1e-14, atol=1e-15)
    for grad, expected in zip(gradient(table, name, row), grads, strict=True):
        if expected is not None:
            np.testing.assert_allclose(grad, [expected], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", BASED)
@each_table
def test_bases_outside_the_support_are_zero(table, name):
    n_args = DENSITIES[name][1].bit_length()
    for x in [-1.0, 0.5, np.inf]:
        assert kernels.log_density_base(table, name, [np.array([x]), 4.0][:n_args])[0] == 0
    assert np.isnan(kernels.log_density_base(table, name, [np.array([np.nan]), 4.0][:n_args])[0])
    if n_args == 2:
        assert kernels.log_density_base(table, name, [np.array([5.0]), 4.0])[0] == 0


# --- generated inputs ---------------------------------------------------------------------------------------------


@each_density
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(1, 10))
def test_generated_inputs(name, seed, exponent):
    args = columns(points(name, np.random.default_rng(seed), 3, 10.0**exponent))
    with mp.workdps(60):
        exact = np.array([float(EXACT[name](*map(mp.mpf, row))) for row in zip(*args, strict=True)])
    for table in TABLES:
        np.testing.assert_allclose(kernels.log_density(table, name, args), exact, rtol=RTOL, atol=ATOL)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"expected a name of kernels\.densities\(\), got 'sin'"):
        kernels.log_density("base", "sin", [1.0])
    with pytest.raises(ValueError, match="expected 3 arguments of normal, got 2"):
        kernels.log_density("base", "normal", [1.0, 2.0])
    with pytest.raises(ValueError, match="one length"):
        kernels.log_density("base", "normal", [np.zeros(3), np.zeros(2), 1.0])
    with pytest.raises(ValueError, match="normal has no base"):
        kernels.log_density_base("base", "normal", [1.0, 2.0, 3.0])
