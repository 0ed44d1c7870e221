"""Every kernel table against mpmath, SciPy and NumPy: accuracy, places, distributions."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special, stats

from klqp import _core

kernels = _core.kernels
TABLES = kernels.tables()
EPS = 2.0**-52
ROOT = 1.4616321449683623  # of digamma
N_NOISE = 1_000_000

# The bounds promised in docs/kernels.md, in units in the last place.
ULP = {
    "exp": 1,
    "log": 1,
    "log1p": 1,
    "expm1": 2,
    "sigmoid": 2,
    "softplus": 2,
    "norm_ppf": 8,
    "lgamma": 10,
    "digamma": 5,
    "trigamma": 4,
}


def trigamma(x):
    """Return the second derivative of log Gamma: SciPy's for negative arguments takes its time."""
    x = np.asarray(x)
    a = np.abs(x)
    at_positive = special.polygamma(1, a)
    reflected = (np.pi / np.sin(np.pi * (a % 1))) ** 2 + 1 / a**2 - at_positive
    reflected = np.where(a < 1e-100, at_positive, np.where(a == np.floor(a), np.inf, reflected))
    return np.where(x < 0, np.where(np.isinf(x), np.nan, reflected), at_positive)


SCIPY = {
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sigmoid": special.expit,
    "softplus": lambda x: np.logaddexp(0, x),
    "norm_ppf": special.ndtri,
    "lgamma": special.gammaln,
    "digamma": special.digamma,
    "trigamma": trigamma,
}

# Where SciPy's own error is small enough to compare with, and what it is allowed, in units of
# eps (1 + |y|): its digamma and gammaln are sums of several terms.
SCIPY_RANGE = {
    "exp": (-700, 700, 4),
    "log": (1e-300, 1e3, 4),
    "log1p": (-0.999, 1e3, 4),
    "expm1": (-700, 700, 4),
    "sigmoid": (-700, 700, 4),
    "softplus": (-700, 700, 4),
    "norm_ppf": (1e-300, 1, 16),
    "lgamma": (1e-10, 1e3, 16),
    "digamma": (1e-10, 1e3, 16),
    "trigamma": (1e-10, 1e3, 16),
}

EXACT = {
    "exp": mp.exp,
    "log": mp.log,
    "log1p": mp.log1p,
    "expm1": mp.expm1,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "lgamma": mp.loggamma,
    "digamma": mp.digamma,
    "trigamma": lambda x: mp.psi(1, x),
}

PINNED_UNIFORMS = [0.4098567838191137, 0.933165336951505, 0.9312721446093085, 0.15504688437173886]
PINNED_NORMALS = [1.2195803314915568, -0.5445353901881507, 0.21202096232618256, 0.312177148081011]

each_table = pytest.mark.parametrize("table", TABLES)
each_function = pytest.mark.parametrize("function", kernels.FUNCTIONS)


@pytest.fixture(autouse=True)
def _many_digits():
    """Set mpmath's precision."""
    with mp.workdps(40):
        yield


def strata(function):
    """Return points of every size where the function is finite, extremes included."""
    rng = np.random.default_rng(7)

    def log_uniform(low, high, n=60):
        return np.exp(rng.uniform(np.log(low), np.log(high), n))

    tiny = log_uniform(1e-300, 1e-3)
    if function in ("exp", "sigmoid", "softplus", "expm1"):
        return np.concatenate([tiny, -tiny, rng.uniform(-3, 3, 120), rng.uniform(-708, 709, 120), [-708.3, 709.7]])
    if function == "log":
        near = log_uniform(1e-15, 0.5)
        return np.concatenate([log_uniform(1e-300, 1e300, 120), 1 + near, 1 - near, [5e-324, 1e-310, 1.7e308]])
    if function == "log1p":
        return np.concatenate(
            [
                tiny,
                -tiny,
                rng.uniform(-0.99, 3, 120),
                log_uniform(1, 1e300),
                [2.0**-53 - 1, 1.7e308],
            ]
        )
    if function == "norm_ppf":
        edge = log_uniform(1e-16, 0.1)
        return np.concatenate([log_uniform(1e-300, 0.1, 120), 1 - edge, rng.uniform(0.05, 0.95, 120), 0.5 + edge])
    return np.concatenate(
        [
            log_uniform(1e-150 if function == "trigamma" else 1e-300, 1),
            rng.uniform(0.1, 9, 240),
            log_uniform(8, 1e300),
            1 + log_uniform(1e-12, 0.1),
            2 - log_uniform(1e-12, 0.1),
            ROOT + log_uniform(1e-12, 0.1),
            [0.5, 1.5, 2.5, 4, np.nextafter(4, 0), 8, np.nextafter(8, 0), 1e-150, 1e300],
        ]
    )


def quantile(p, start):
    """Return the exact quantile of p, by Newton's method on log Phi from a good start."""
    p, z, sign = mp.mpf(p), mp.mpf(start), 1
    if p > 0.5:
        p, z, sign = 1 - p, -z, -1
    for _ in range(4):
        cdf = mp.erfc(-z / mp.sqrt(2)) / 2
        z -= mp.log(cdf / p) * cdf / mp.npdf(z)
    return sign * z


def ulp_errors(function, x, y):
    """Return the errors of y in units in the last place of the exact results."""
    if function == "norm_ppf":
        exact = [quantile(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    else:
        exact = [EXACT[function](mp.mpf(float(a))) for a in x]
    spacing = np.spacing(np.abs(np.array([float(e) for e in exact])))
    errors = [abs(float(mp.mpf(float(b)) - e)) for b, e in zip(y, exact, strict=True)]
    return np.array(errors) / spacing


# --- special functions ---------------------------------------------------------------------------


@each_function
@each_table
def test_accuracy(table, function):
    x = strata(function)
    y = kernels.evaluate(table, function, x)
    errors = ulp_errors(function, x, y)
    worst = np.argmax(errors)
    assert errors[worst] <= ULP[function], f"{errors[worst]:.2f} ulp at {x[worst]!r}"


@each_function
@each_table
def test_against_scipy(table, function):
    low, high, allowed = SCIPY_RANGE[function]
    rng = np.random.default_rng(11)
    x = rng.uniform(low, high, 100_000)
    if low > 0:
        x[::2] = np.exp(rng.uniform(np.log(low), np.log(high), 50_000))
    y, expected = kernels.evaluate(table, function, x), SCIPY[function](x)
    assert np.max(np.abs(y - expected) / (1 + np.abs(expected))) <= allowed * EPS


@each_function
@each_table
@settings(max_examples=50, deadline=None)
@given(x=arrays(np.float64, st.integers(0, 40), elements=st.floats(width=64)))
def test_any_double(table, function, x):
    """NaN and infinities where SciPy has them."""
    with np.errstate(all="ignore"):
        expected = SCIPY[function](x)
    y = kernels.evaluate(table, function, x)
    usual = np.full(x.shape, True)
    if function == "lgamma":  # SciPy's own goes to infinity a little early at both ends
        usual = (x == 0) | ((np.abs(x) > 1e-300) & (np.abs(x) < 1e300)) | ~np.isfinite(x)
    np.testing.assert_array_equal(np.isnan(y)[usual], np.isnan(expected)[usual])
    np.testing.assert_array_equal(np.isposinf(y)[usual], np.isposinf(expected)[usual])
    np.testing.assert_array_equal(np.isneginf(y)[usual], np.isneginf(expected)[usual])


@each_table
def test_negative_arguments_of_the_gamma_functions(table):
    """By reflection: absolute accuracy relative to the largest of the terms that are added."""
    x = -np.random.default_rng(3).uniform(0, 30, 2000)
    log_terms = np.abs(special.gammaln(-x)) + np.abs(np.log(np.abs(np.sin(np.pi * x)))) + 4
    exact = np.array([float(mp.re(mp.loggamma(mp.mpf(float(a))))) for a in x])
    assert np.max(np.abs(kernels.evaluate(table, "lgamma", x) - exact) / log_terms) <= 4 * EPS
    exact = np.array([float(mp.digamma(mp.mpf(float(a)))) for a in x])
    terms = np.abs(special.digamma(-x)) + np.abs(1 / x) + np.abs(np.pi / np.tan(np.pi * x))
    assert np.max(np.abs(kernels.evaluate(table, "digamma", x) - exact) / terms) <= 8 * EPS
    exact = np.array([float(mp.psi(1, mp.mpf(float(a)))) for a in x])
    assert np.max(np.abs(kernels.evaluate(table, "trigamma", x) - exact) / exact) <= 8 * EPS


SPECIAL_VALUES = [
    (
        "exp",
        [0.0, -0.0, np.inf, -np.inf, np.nan, 710.0, -746.0],
        [1, 1, np.inf, 0, np.nan, np.inf, 0],
    ),
    ("log", [1.0, 0.0, -0.0, -1.0, np.inf, -np.inf], [0, -np.inf, -np.inf, np.nan, np.inf, np.nan]),
    ("log1p", [0.0, -0.0, -1.0, -2.0, np.inf], [0.0, -0.0, -np.inf, np.nan, np.inf]),
    ("expm1", [0.0, -0.0, -np.inf, np.inf, 5e-324], [0.0, -0.0, -1, np.inf, 5e-324]),
    ("sigmoid", [0.0, np.inf, -np.inf, np.nan, 800.0, -800.0], [0.5, 1, 0, np.nan, 1, 0]),
    ("softplus", [np.inf, -np.inf, np.nan, 1e300, -800.0], [np.inf, 0, np.nan, 1e300, 0]),
    ("norm_ppf", [0.0, 1.0, 0.5, -0.1, 1.1, np.nan], [-np.inf, np.inf, 0, np.nan, np.nan, np.nan]),
    ("lgamma", [1.0, 2.0, 0.0, -0.0, -2.0, np.inf, -np.inf], [0, 0] + [np.inf] * 4 + [-np.inf]),
    ("digamma", [0.0, -0.0, -2.0, np.inf, -np.inf], [-np.inf, np.inf, np.nan, np.inf, np.nan]),
    ("trigamma", [0.0, -0.0, -2.0, np.inf, -np.inf, -1e300], [np.inf, np.inf, np.inf, 0, np.nan, np.inf]),
]


@pytest.mark.parametrize(("function", "x", "expected"), SPECIAL_VALUES, ids=lambda v: str(v)[:9])
@each_table
def test_special_values(table, function, x, expected):
    y = kernels.evaluate(table, function, x)
    np.testing.assert_array_equal(y, np.array(expected, dtype=float))
    if function in ("log1p", "expm1"):
        np.testing.assert_array_equal(np.signbit(y[:2]), [False, True])


@each_table
def test_gradual_underflow(table):
    """Subnormal results: one unit of the smallest subnormal is one ulp there."""
    x = np.linspace(-745.1, -708.4, 500)
    for function in ("exp", "sigmoid", "softplus"):
        y = kernels.evaluate(table, function, x)
        assert np.max(np.abs(y - np.exp(x))) <= 2 * 5e-324
        assert np.all(y >= 0)


@each_function
@each_table
def test_result_is_independent_of_the_place(table, function):
    x = np.concatenate([strata(function)[::5], [0.0, np.nan, np.inf, -np.inf, -1.5, 5e-324]])
    alone = np.concatenate([kernels.evaluate(table, function, x[i : i + 1]) for i in range(x.size)])
    for offset in range(0, 70, 3):
        for n in range(1, min(71, x.size - offset)):
            part = kernels.evaluate(table, function, x[offset : offset + n])
            np.testing.assert_array_equal(part, alone[offset : offset + n])


@each_function
def test_tables_agree(function):
    """Two tables are both within their bound of the exact result."""
    x = strata(function)
    base = kernels.evaluate("base", function, x)
    for table in TABLES[1:]:
        difference = np.abs(kernels.evaluate(table, function, x) - base)
        assert np.max(difference / np.spacing(np.abs(base))) <= 2 * ULP[function]


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"one of kernels\.tables\(\), got 'v9'"):
        kernels.evaluate("v9", "exp", [1.0])
    with pytest.raises(ValueError, match=r"one of kernels\.FUNCTIONS, got 'sin'"):
        kernels.evaluate("base", "sin", [1.0])


def test_active_table_is_available():
    assert kernels.active() in TABLES


# --- noise ---------------------------------------------------------------------------------------

KNOWN_WORDS = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_WORDS)
@each_table
def test_philox_known_answers(table, counter, key, expected):
    """The published test vectors of Philox4x32-10."""
    assert kernels.philox(table, counter, key) == expected


@each_table
def test_pinned_noise(table):
    """The values of one address: they change only with a new major version."""
    args = (20240229, 1, 7, 3, 11, 4)
    np.testing.assert_array_equal(
        kernels.uniforms(table, *args),
        PINNED_UNIFORMS,
    )
    np.testing.assert_allclose(kernels.normals(table, *args), PINNED_NORMALS, rtol=4 * EPS)


@pytest.mark.parametrize("noise", ["uniforms", "normals"])
@each_table
def test_noise_is_independent_of_the_partition(table, noise):
    draw = getattr(kernels, noise)
    whole = draw(table, 5, 0, 1, 2, 0, 501)
    for first_block in (0, 1, 7, 31, 32, 100):
        for n in (0, 1, 2, 15, 16, 17, 63, 64, 65, 130):
            part = draw(table, 5, 0, 1, 2, first_block, n)
            np.testing.assert_array_equal(part, whole[2 * first_block : 2 * first_block + n])


def standard_errors(x, mean, variance):
    """Return how many standard errors the sample mean of x is away."""
    return abs(np.mean(x) - mean) / np.sqrt(variance / x.size)


@each_table
def test_uniforms_are_uniform(table):
    u = kernels.uniforms(table, 1, 0, 0, 0, 0, N_NOISE)
    assert u.min() > 0
    assert u.max() < 1
    for coordinates in (u[::2], u[1::2]):
        assert stats.kstest(coordinates, "uniform").pvalue > 1e-4
    low_bits = (u * 2**30) % 1
    assert stats.kstest(low_bits, "uniform").pvalue > 1e-4


@each_table
def test_normals_are_normal(table):
    z = kernels.normals(table, 2, 0, 0, 0, 0, N_NOISE)
    for coordinates in (z[::2], z[1::2]):
        assert stats.kstest(coordinates, "norm").pvalue > 1e-4
    # Moments 1 to 4 with the variances of z^k.
    for power, (mean, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):
        assert standard_errors(z**power, mean, variance) < 5


@pytest.mark.parametrize("side", [-1, 1])
@each_table
def test_tails_of_normals(table, side):
    """The number of values beyond 3.5, and their conditional distribution."""
    cut = 3.5
    z = side * np.concatenate([kernels.normals(table, 3, 0, 0, draw, 0, N_NOISE) for draw in range(8)])
    tail = z[z > cut]
    expected = z.size * stats.norm.sf(cut)
    assert abs(tail.size - expected) < 5 * np.sqrt(expected)
    assert stats.kstest(1 - special.ndtr(-tail) / special.ndtr(-cut), "uniform").pvalue > 1e-4


@each_table
def test_noise_of_different_addresses_is_independent(table):
    """Correlations of values, squares and signs are zero within 5 standard errors."""
    n = 200_000
    base = {"seed": 1, "stream": 0, "step": 5, "draw": 9, "first_block": 0}
    z = kernels.normals(table, **base, n=n)
    others = [
        kernels.normals(table, **(base | {name: base[name] + change}), n=n)
        for name in ("seed", "stream", "step", "draw")
        for change in (1, 1024)
    ]
    others += [np.roll(z, shift) for shift in (1, 2, 3, 64)]  # neighbouring coordinates, blocks and groups
    for other in others:
        for f, variance in [(lambda v: v, 1), (lambda v: v**2 - 1, 2), (np.sign, 1)]:
            assert standard_errors(f(z) * f(other), 0, variance**2) < 5


@each_table
def test_pairs_of_a_block_are_independent(table):
    """The normals of a block share a radius: the angle is uniform, the squares are free."""
    z = kernels.normals(table, 4, 0, 0, 0, 0, N_NOISE).reshape(-1, 2)
    angle = np.arctan2(z[:, 1], z[:, 0]) / (2 * np.pi) + 0.5
    assert stats.kstest(angle, "uniform").pvalue > 1e-4
    assert standard_errors((z[:, 0] ** 2 - 1) * (z[:, 1] ** 2 - 1), 0, 4) < 5


@each_table
def test_high_and_low_words_of_the_seed_count(table):
    values = [kernels.uniforms(table, seed, 0, 0, 0, 0, 4)[0] for seed in (0, 1, 2**32, 2**63)]
    assert len(set(values)) == 4


# --- vectors -------------------------------------------------------------------------------------

finite = st.floats(-1e6, 1e6, width=64)


@st.composite
def vectors(draw, count):
    """Return several vectors of one length from 0 to 70."""
    n = draw(st.integers(0, 70))
    return [draw(arrays(np.float64, n, elements=finite)) for _ in range(count)]


@each_table
@settings(max_examples=60, deadline=None)
@given(data=vectors(2))
def test_sums(table, data):
    """A sum of n terms is within n eps of the sum of their magnitudes."""
    x, y = data
    bound = (x.size + 1) * EPS
    assert abs(kernels.sum(table, x) - x.sum()) <= bound * np.abs(x).sum()
    assert abs(kernels.dot(table, x, y) - x @ y) <= bound * (np.abs(x) @ np.abs(y))


@each_table
@settings(max_examples=60, deadline=None)
@given(data=vectors(4), a=finite)
def test_vector_kernels(table, data, a):
    """Each differs from NumPy by the rounding of one product and one sum at most."""
    x, y, z, w = data

    def check(actual, expected, *terms):
        assert np.all(np.abs(actual - expected) <= 2 * EPS * sum(np.abs(t) for t in terms))

    np.testing.assert_array_equal(kernels.scale(table, a, x), a * x)
    check(kernels.axpy(table, a, x, y), a * x + y, a * x, y)
    check(kernels.multiply_add(table, a, x, y, z), z + a * x * y, a * x * y, z)
    check(kernels.affine(table, x, y, z), x + y * z, x, y * z)
    loc, scale = kernels.location_scale_pullback(table, x, y, z, w)
    np.testing.assert_array_equal(loc, z + x)
    check(scale, w + x * y, w, x * y)


@each_table
@settings(max_examples=60, deadline=None)
@given(data=vectors(3), t=st.integers(1, 1000))
def test_adam(table, data, t):
    grad, m, params = data
    v = m**2
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    step, correction = 0.1 / (1 - beta1**t), 1 / (1 - beta2**t)
    new_m, new_v, new_params = kernels.adam(table, grad, beta1, beta2, epsilon, step, correction, m, v, params)
    expected_m = beta1 * m + (1 - beta1) * grad
    expected_v = beta2 * v + (1 - beta2) * grad**2
    assert np.all(np.abs(new_m - expected_m) <= 2 * EPS * (np.abs(m) + np.abs(grad)))
    np.testing.assert_allclose(new_v, expected_v, rtol=4 * EPS, atol=1e-320)
    # The update, from the new moments: product, root, sum, quotient and the last sum.
    update = step * new_m / (np.sqrt(new_v * correction) + epsilon)
    bound = 4 * EPS * (np.abs(params) + np.abs(update))
    assert np.all(np.abs(new_params - (params - update)) <= bound)


@each_table
def test_vector_kernels_are_independent_of_the_place(table):
    rng = np.random.default_rng(5)
    x, y, z, w = rng.normal(size=(4, 75))

    def results(part):
        a, b, c, d = x[part], y[part], z[part], w[part]
        return [
            kernels.axpy(table, 0.3, a, b),
            kernels.multiply_add(table, 0.3, a, b, c),
            kernels.affine(table, a, b, c),
            *kernels.location_scale_pullback(table, a, b, c, d),
            *kernels.adam(table, a, 0.9, 0.999, 1e-8, 0.1, 1.5, b, c**2, d),
        ]

    alone = [np.concatenate(r) for r in zip(*(results(slice(i, i + 1)) for i in range(75)), strict=True)]
    for offset in range(5):
        for n in range(1, 71):
            part = slice(offset, offset + n)
            for actual, expected in zip(results(part), alone, strict=True):
                np.testing.assert_array_equal(actual, expected[part])
