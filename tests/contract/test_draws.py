"""Base draws: Monte Carlo, antithetic and scrambled Sobol, against twins and by statistics."""

import math

import numpy as np
import pytest
from scipy import special, stats
from scipy.stats import qmc

import klqp
from klqp import _core
from klqp._sobol import directions, max_dim

OPTIMISATION_STREAM, SCRAMBLE_STREAM = 0, 3
KERNELS = _core.kernels


def sobol(n: int, dim: int, seed: int, n_groups: int = 1, sobol_dim: int | None = None):
    """Return Sobol noise with the directions it needs."""
    table = directions(dim if sobol_dim is None else sobol_dim, int(math.log2(n // n_groups)))
    return _core.Noise("sobol", n, dim, seed, n_groups, table)


def uniforms(noise, step: int, dim: int) -> np.ndarray:
    """Return Phi of a step's noise: accurate to 1e-15, and Sobol points are 2**-33 from any cut."""
    return special.ndtr(noise.fill(step, dim))


def correlation_errors(x: np.ndarray, y: np.ndarray) -> float:
    """Return the correlation of two samples of independent numbers in standard errors."""
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    return abs(np.mean(x * y)) * math.sqrt(x.size)


# --- Monte Carlo ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 5, 2047, 2049, 5001])
def test_monte_carlo_draws_are_the_counter_based_normals(dim):
    eps = _core.Noise("mc", 3, dim, 2**40 + 5).fill(7, dim)
    for draw in range(3):
        expected = KERNELS.normals(KERNELS.active(), 2**40 + 5, OPTIMISATION_STREAM, 7, draw, 0, dim)
        np.testing.assert_array_equal(eps[draw], expected)


def test_more_draws_or_coordinates_keep_the_first_ones():
    large = _core.Noise("mc", 700, 9, 3).fill(2, 9)
    np.testing.assert_array_equal(_core.Noise("mc", 5, 4, 3).fill(2, 4), large[:5, :4])


# --- antithetic ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 6, 64])
@pytest.mark.parametrize("dim", [1, 3, 5001])
def test_antithetic_draws_are_pairs(n, dim):
    eps = _core.Noise("antithetic", n, dim, 4).fill(11, dim)
    plain = _core.Noise("mc", n // 2, dim, 4).fill(11, dim)
    np.testing.assert_array_equal(eps[: n // 2], plain)
    np.testing.assert_array_equal(eps[n // 2 :], -plain)


# --- Sobol ---------------------------------------------------------------------------------------


def twin_sobol(n: int, dim: int, seed: int, step: int, n_groups: int) -> np.ndarray:
    """Scramble SciPy's sequence (Matousek 1998): a lower-triangular bit matrix and a shift.

    Words 0 to 31 of a coordinate give the rows, most significant output bit first; word 32 is the
    shift. They are those of counter (9 coordinate + block, group, step, stream 3).
    """
    size = n // n_groups
    plain = qmc.Sobol(dim, scramble=False, bits=32).random_base2(int(math.log2(size)))
    bits = np.arange(31, -1, -1, dtype=np.uint64)  # most significant first
    digits = (plain * 2.0**32).astype(np.uint64)[..., None] >> bits & np.uint64(1)  # (n, dim, 32)
    key, out = [seed % 2**32, seed >> 32], np.empty((n, dim))
    for group in range(n_groups):
        for j in range(dim):
            counters = [[9 * j + block, group, step, SCRAMBLE_STREAM] for block in range(9)]
            words = np.concatenate([KERNELS.philox(KERNELS.active(), c, key) for c in counters])
            words = words.astype(np.uint64)
            rows = words[:32, None] >> bits & np.uint64(1)
            matrix = np.tril(rows, -1) + np.eye(32, dtype=np.uint64)
            scrambled = digits[:, j] @ matrix.T % np.uint64(2)
            points = (scrambled << bits).sum(1) ^ words[32]
            out[group * size : (group + 1) * size, j] = (points + 0.5) / 2.0**32
    return special.ndtri(out)


@pytest.mark.parametrize("n_groups", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 16, 256])
@pytest.mark.parametrize("dim", [1, 2, 40])
def test_sobol_draws_agree_with_their_twin(dim, size, n_groups):
    n, seed = size * n_groups, 2**45 + 17
    eps = sobol(n, dim, seed, n_groups).fill(5, dim)
    np.testing.assert_allclose(eps, twin_sobol(n, dim, seed, 5, n_groups), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("n", [2, 8, 64, 512])
@pytest.mark.parametrize("n_groups", [1, 2])
def test_one_point_in_each_interval(n, n_groups):
    """In every coordinate: of the n intervals of length 1/n each holds one point."""
    for step in range(5):
        u = uniforms(sobol(n * n_groups, 30, 6, n_groups), step, 30)
        for group in u.reshape(n_groups, n, 30):
            places = np.sort(np.floor(group * n), axis=0)
            np.testing.assert_array_equal(places, np.arange(n)[:, None] + np.zeros(30))


@pytest.mark.parametrize("log_n", [1, 4, 8])
def test_one_point_in_each_rectangle(log_n):
    """The first two coordinates are a (0, m, 2)-net: all shapes of area 1/n."""
    n = 2**log_n
    for step in range(5):
        u = uniforms(sobol(n, 2, 7), step, 2)
        for rows in range(log_n + 1):
            cells = np.floor(u[:, 0] * 2**rows) * 2 ** (log_n - rows)
            cells += np.floor(u[:, 1] * 2 ** (log_n - rows))
            np.testing.assert_array_equal(np.sort(cells), np.arange(n))


@pytest.mark.parametrize("over", ["seeds", "steps", "groups"])
def test_each_scrambled_point_is_uniform(over):
    """Every point and coordinate by itself, over independent scrambles, by Kolmogorov-Smirnov."""
    n, dim, count = 4, 3, 3000
    if over == "seeds":
        u = np.array([uniforms(sobol(n, dim, seed), 0, dim) for seed in range(count)])
    elif over == "steps":
        noise = sobol(n, dim, 8)
        u = np.array([uniforms(noise, step, dim) for step in range(count)])
    else:
        u = uniforms(sobol(n * count, dim, 9, count), 0, dim).reshape(count, n, dim)
    for i in range(n):
        for j in range(dim):
            assert stats.kstest(u[:, i, j], "uniform").pvalue > 1e-4


@pytest.mark.parametrize("kind", ["mc", "antithetic", "sobol"])
def test_steps_seeds_and_coordinates_are_independent(kind):
    """Correlations of values and of squares vanish within 4.5 standard errors."""
    n, dim, count = 4, 3, 4000

    def noise(seed):
        return sobol(n, dim, seed) if kind == "sobol" else _core.Noise(kind, n, dim, seed)

    eps = np.array([noise(1).fill(step, dim) for step in range(count)])
    other = np.array([noise(2).fill(step, dim) for step in range(count)])
    pairs = [(eps[:-lag, i], eps[lag:, k]) for lag in (1, 2, 256) for i in (0, 1) for k in (0, 1, 2)]
    pairs += [(eps[:, i], other[:, i]) for i in range(n)]
    for x, y in pairs:
        for f in (lambda v: v, np.square):
            for j in range(dim):
                assert correlation_errors(f(x[:, j]), f(y[:, j])) < 4.5
    for f in (lambda v: v, np.square):  # one draw's own coordinates
        assert correlation_errors(f(eps[:, 0, 0]), f(eps[:, 0, 1])) < 4.5
        assert correlation_errors(f(eps[:, 0, 1]), f(eps[:, 0, 2])) < 4.5


def test_coordinates_beyond_the_sequence_are_monte_carlo():
    n, dim, sobol_dim = 16, 7, 3
    eps = sobol(n, dim, 12, sobol_dim=sobol_dim).fill(4, dim)
    np.testing.assert_array_equal(eps[:, :sobol_dim], sobol(n, sobol_dim, 12).fill(4, sobol_dim))
    plain = _core.Noise("mc", n, dim, 12).fill(4, dim)
    np.testing.assert_array_equal(eps[:, sobol_dim:], plain[:, sobol_dim:])


def test_fit_beyond_the_sequence(monkeypatch):
    """A fit asks for no more coordinates than there are."""
    asked = []

    def limited(dim, n_bits):
        asked.append(dim)
        return directions(dim, n_bits)

    monkeypatch.setattr("klqp._sobol.max_dim", lambda: 3)
    monkeypatch.setattr("klqp._sobol.directions", limited)
    inference = klqp.fit(lambda z: (-0.5 * ((z - 1) ** 2).sum(1), 1 - z), 6, n_samples=8, draws="sobol", seed=1)
    assert set(asked) == {3}
    np.testing.assert_allclose(inference.posterior["z"].mean(), 1, atol=1e-3)


def test_directions_of_every_coordinate_are_a_permutation():
    """Invertible: the binary matrices are unit triangular; the limit is SciPy's."""
    assert max_dim() == qmc.Sobol.MAXDIM
    table = directions(500, 10)
    for j in range(10):
        leading = np.uint32(1) << np.uint32(31 - j)
        assert np.all(table[j] & leading)
        assert not np.any(table[j] & (leading - np.uint32(1)))


# --- groups and refusals -------------------------------------------------------------------------


def test_groups():
    assert _core.Noise("mc", 6, 2, 0).n_groups == 6
    assert _core.Noise("antithetic", 6, 2, 0).n_groups == 3
    assert sobol(8, 2, 0).n_groups == 1
    assert sobol(12, 2, 0, n_groups=3).n_groups == 3


@pytest.mark.parametrize("kind", ["mc", "antithetic", "sobol"])
@pytest.mark.parametrize("n", [0, -2])
def test_no_draws_are_refused(kind, n):
    with pytest.raises(ValueError, match=f"n_samples must be at least 1, not {n}"):
        _core.Noise(kind, n, 2, 0)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_odd_antithetic_draws_are_refused(n):
    with pytest.raises(ValueError, match=f"n_samples must be even, not {n}"):
        _core.Noise("antithetic", n, 2, 0)


@pytest.mark.parametrize(("n", "n_groups"), [(3, 1), (12, 1), (6, 2), (7, 2), (1, 2)])
def test_sobol_draws_need_powers_of_two(n, n_groups):
    with pytest.raises(ValueError, match=f"power of two, not {n}"):
        _core.Noise("sobol", n, 2, 0, n_groups, directions(2, 2))


def test_sobol_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="need 3 direction numbers for each coordinate"):
        _core.Noise("sobol", 8, 2, 0, 1, directions(2, 2))
    with pytest.raises(ValueError, match="at least 1 group, not 0"):
        _core.Noise("sobol", 8, 2, 0, 0, directions(2, 3))
    with pytest.raises(ValueError, match="draws must be 'mc', 'antithetic' or 'sobol', not 'halton'"):
        _core.Noise("halton", 8, 2, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": "antithetic", "n_samples": 3}, "n_samples must be even, not 3"),
        ({"draws": "sobol", "n_samples": 6}, "n_samples to be a power of two, not 6"),
        ({"draws": "halton"}, "draws must be one of 'mc', 'antithetic', 'sobol', not 'halton'"),
        ({"n_samples": 0}, "n_samples must be .*, not 0"),
    ],
)
def test_fits_refuse_them_too(options, message):
    with pytest.raises(ValueError, match=message):
        klqp.fit(lambda z: (-(z**2).sum(1), -2 * z), 2, seed=1, n_iter=1, **options)


# --- columns that are uniforms ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["mc", "antithetic", "sobol"])
def test_uniform_columns(kind: str) -> None:
    n, dim, uniforms = 512, 5000, [(2, 6), (2048, 4100), (4998, 5000)]
    table = directions(dim, 9) if kind == "sobol" else np.zeros(0, np.uint32)
    plain = _core.Noise(kind, n, dim, 12, 1, table).fill(4, dim)
    mixed = _core.Noise(kind, n, dim, 12, 1, table, uniforms).fill(4, dim)
    is_uniform = np.zeros(dim, bool)
    for begin, end in uniforms:
        is_uniform[begin:end] = True
    np.testing.assert_array_equal(mixed[:, ~is_uniform], plain[:, ~is_uniform])
    u = mixed[:, is_uniform]
    assert u.min() > 0.0
    assert u.max() < 1.0
    assert stats.kstest(u.ravel()[:20_000], "uniform").pvalue > 1e-4
    if kind == "antithetic":
        np.testing.assert_allclose(u[: n // 2] + u[n // 2 :], 1.0, rtol=0, atol=1e-15)
    if kind == "sobol":  # the same points
        np.testing.assert_allclose(stats.norm.cdf(plain[:, is_uniform]), u, rtol=0, atol=1e-9)


def test_uniform_columns_begin_at_even_ones() -> None:
    with pytest.raises(ValueError, match="even"):
        _core.Noise("mc", 2, 5, 0, uniforms=[(1, 4)])
