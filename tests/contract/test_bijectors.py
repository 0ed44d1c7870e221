"""Every bijector of the registry: values, log-Jacobians, pullbacks and inverses against Stan's formulas in mpmath."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from klqp import _core

EPS = 2.0**-52

# --- Stan's formulas for one event: u -> z, log-Jacobian -------------------------------------------


def logistic(x):
    return 1 / (1 + mp.exp(-x)), 1 / (1 + mp.exp(x))


def twin_identity(u, size, lower, upper):
    return u, mp.mpf(0)


def twin_positive(u, size, lower, upper):
    return [mp.exp(u[0])], u[0]


def twin_softplus(u, size, lower, upper):
    return [mp.log1p(mp.exp(u[0]))], -mp.log1p(mp.exp(-u[0]))


def twin_lower(u, size, lower, upper):
    return [lower + mp.exp(u[0])], u[0]


def twin_upper(u, size, lower, upper):
    return [upper - mp.exp(u[0])], u[0]


def twin_interval(u, size, lower, upper):
    share, rest = logistic(u[0])
    width = mp.mpf(upper) - lower
    return [lower + width * share], mp.log(width) + mp.log(share) + mp.log(rest)


def twin_unit_interval(u, size, lower, upper):
    return twin_interval(u, size, 0, 1)


def twin_simplex(u, size, lower, upper):
    stick, z, log_jacobian = mp.mpf(1), [], mp.mpf(0)
    for k, value in enumerate(u):
        share, rest = logistic(value - mp.log(size - 1 - k))
        log_jacobian += mp.log(stick) + mp.log(share) + mp.log(rest)
        z.append(stick * share)
        stick *= rest
    return [*z, stick], log_jacobian


def twin_simplex_softmax(u, size, lower, upper):
    weights = [mp.exp(value) for value in u] + [mp.mpf(1)]
    total = mp.fsum(weights)
    z = [weight / total for weight in weights]
    return z, mp.fsum(mp.log(value) for value in z)


def twin_ordered(u, size, lower, upper):
    z = [u[0]]
    for value in u[1:]:
        z.append(z[-1] + mp.exp(value))
    return z, mp.fsum(u[1:])


def twin_positive_ordered(u, size, lower, upper):
    z = [mp.exp(u[0])]
    for value in u[1:]:
        z.append(z[-1] + mp.exp(value))
    return z, mp.fsum(u)


def flat(matrix):
    return [value for row in matrix for value in row]


def square(factor):
    size = len(factor)
    return [
        [mp.fsum(factor[i][m] * factor[j][m] for m in range(min(i, j) + 1)) for j in range(size)] for i in range(size)
    ]


def covariance_factor(u, size):
    factor, entries = [[mp.mpf(0)] * size for _ in range(size)], iter(u)
    for i in range(size):
        for j in range(i):
            factor[i][j] = next(entries)
        factor[i][i] = mp.exp(next(entries))
    return factor


def twin_cholesky_cov(u, size, lower, upper):
    factor = covariance_factor(u, size)
    return flat(factor), mp.fsum(mp.log(factor[i][i]) for i in range(size))


def twin_covariance(u, size, lower, upper):
    factor = covariance_factor(u, size)
    log_jacobian = size * mp.log(2) + mp.fsum((size - k + 1) * mp.log(factor[k][k]) for k in range(size))
    return flat(square(factor)), log_jacobian


def log_sech_squares(u):
    return mp.fsum(-2 * mp.log(mp.cosh(value)) for value in u)


def twin_cholesky_corr(u, size, lower, upper):
    """Row by row."""
    factor, partial = [[mp.mpf(0)] * size for _ in range(size)], iter(mp.tanh(value) for value in u)
    log_jacobian = log_sech_squares(u)
    for i in range(size):
        squares = mp.mpf(0)
        for j in range(i):
            if j > 0:
                log_jacobian += mp.log(1 - squares) / 2
            factor[i][j] = next(partial) * mp.sqrt(1 - squares)
            squares += factor[i][j] ** 2
        factor[i][i] = mp.sqrt(1 - squares)
    return flat(factor), log_jacobian


def twin_correlation(u, size, lower, upper):
    """Column by column."""
    factor, partial = [[mp.mpf(0)] * size for _ in range(size)], iter(mp.tanh(value) for value in u)
    rest, log_jacobian = [mp.mpf(1)] * size, log_sech_squares(u)
    for j in range(size):
        factor[j][j] = mp.sqrt(rest[j])
        for i in range(j + 1, size):
            w = next(partial)
            factor[i][j] = w * mp.sqrt(rest[i])
            rest[i] *= 1 - w**2
            if j < size - 2:
                log_jacobian += (size - j - 2) * mp.log(1 - w**2) / 2
    return flat(square(factor)), log_jacobian


# --- what else there is to know of a row -----------------------------------------------------------


def number_scale(z, lower, upper):
    """Return what a rounding error is relative to: bounds are added to the value."""
    return np.abs(z) + max(abs(lower or 0), abs(upper or 0))


def vector_scale(z, lower, upper):
    return np.abs(z).max() * np.ones_like(z)


def covariance_scale(z, lower, upper):
    matrix = z.reshape(math.isqrt(z.size), -1)
    return np.outer(np.sqrt(np.diag(matrix)), np.sqrt(np.diag(matrix))).ravel()


def own_scale(z, lower, upper):
    return np.abs(z)


def is_simplex(z, lower, upper):
    return np.all(z >= 0) and abs(z.sum() - 1) <= 4 * EPS * z.size


def is_factor(z, lower, upper):
    matrix = z.reshape(math.isqrt(z.size), -1)
    return np.all(np.diag(matrix) >= 0) and np.all(np.triu(matrix, 1) == 0)


def is_correlation_factor(z, lower, upper):
    rows = z.reshape(math.isqrt(z.size), -1)
    return is_factor(z, lower, upper) and np.all(np.abs((rows**2).sum(1) - 1) <= 8 * EPS * len(rows))


def is_covariance(z, lower, upper):
    matrix = z.reshape(math.isqrt(z.size), -1)
    if not np.array_equal(matrix, matrix.T) or not np.all(np.diag(matrix) > 0):
        return False
    unit = matrix / covariance_scale(z, lower, upper).reshape(matrix.shape)
    return np.linalg.eigvalsh(unit).min() >= -8 * EPS * len(matrix)


def is_correlation(z, lower, upper):
    return is_covariance(z, lower, upper) and np.all(z[:: math.isqrt(z.size) + 1] == 1)


def every_entry(size):
    return np.arange(size)


def lower_triangle(offset):
    def entries(size):
        i, j = np.tril_indices(size, offset)
        return i * size + j

    return entries


@dataclass
class Known:
    """A row's twin, its support, the entries its Jacobian is over, and what rounding errors are relative to."""

    twin: Callable
    inside: Callable
    free: Callable = every_entry
    scale: Callable = own_scale
    shape: str = "number"
    bounds: tuple[str, ...] = ()


KNOWN = {
    "identity": Known(twin_identity, lambda z, a, b: True),
    "positive": Known(twin_positive, lambda z, a, b: z[0] >= 0),
    "softplus": Known(twin_softplus, lambda z, a, b: z[0] >= 0),
    "lower": Known(twin_lower, lambda z, a, b: z[0] >= a, scale=number_scale, bounds=("lower",)),
    "upper": Known(twin_upper, lambda z, a, b: z[0] <= b, scale=number_scale, bounds=("upper",)),
    "interval": Known(twin_interval, lambda z, a, b: a <= z[0] <= b, scale=number_scale, bounds=("lower", "upper")),
    "unit_interval": Known(twin_unit_interval, lambda z, a, b: 0 <= z[0] <= 1),
    "simplex": Known(twin_simplex, is_simplex, free=lambda size: np.arange(size - 1), shape="vector"),
    "simplex_softmax": Known(twin_simplex_softmax, is_simplex, free=lambda size: np.arange(size - 1), shape="vector"),
    "ordered": Known(twin_ordered, lambda z, a, b: np.all(np.diff(z) >= 0), scale=vector_scale, shape="vector"),
    "positive_ordered": Known(
        twin_positive_ordered, lambda z, a, b: z[0] >= 0 and np.all(np.diff(z) >= 0), shape="vector"
    ),
    "cholesky_cov": Known(twin_cholesky_cov, is_factor, free=lower_triangle(0), shape="matrix"),
    "cholesky_corr": Known(twin_cholesky_corr, is_correlation_factor, free=lower_triangle(-1), shape="matrix"),
    "covariance": Known(twin_covariance, is_covariance, lower_triangle(0), covariance_scale, "matrix"),
    "correlation": Known(twin_correlation, is_correlation, lower_triangle(-1), covariance_scale, "matrix"),
}


@dataclass
class Case:
    """A bijector of several events with its twin."""

    name: str
    size: int
    n_events: int = 3

    def __post_init__(self) -> None:
        self.known = KNOWN[self.name]  # a row without a twin fails
        rng = np.random.default_rng([self.size, self.n_events])
        self.lower = rng.normal(size=self.n_events) - 2
        self.upper = self.lower + rng.uniform(0.1, 9, self.n_events)
        self.bijector = self.build(slice(None))
        self.n_free = self.bijector.n_unconstrained // self.n_events
        self.n_entries = self.bijector.n_constrained // self.n_events

    def build(self, events: slice) -> _core.Bijector:
        """Return the bijector of some of the events."""
        bounds = {which: getattr(self, which)[events] for which in self.known.bounds}
        return _core.Bijector(self.name, self.lower[events].size, self.size, **bounds)

    def points(self, n: int = 1, spread: float = 1.5, seed: int = 0) -> np.ndarray:
        return spread * np.random.default_rng(seed).normal(size=(n, self.n_events * self.n_free))

    def cotangents(self, n: int = 1) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(9)
        return rng.normal(size=(n, self.bijector.n_constrained)), rng.normal(size=(n, self.n_events))

    def events(self, values: np.ndarray) -> np.ndarray:
        """Return one row (n,) of values as (n_events, n / n_events)."""
        return values.reshape(self.n_events, -1)

    def twin(self, event: int, u) -> tuple[list, mp.mpf]:
        lower = mp.mpf(self.lower[event]) if "lower" in self.known.bounds else None
        upper = mp.mpf(self.upper[event]) if "upper" in self.known.bounds else None
        return self.known.twin([mp.mpf(value) for value in u], self.size, lower, upper)

    def bounds(self, event: int):
        return tuple(getattr(self, b)[event] if b in self.known.bounds else None for b in ("lower", "upper"))


def cases(*sizes: int, names=None):
    """Parametrise over the rows of the registry; numbers have one size only."""
    rows = [
        (name, size)
        for name in names or _core.BIJECTORS
        for size in (sizes if name not in KNOWN or KNOWN[name].shape != "number" else (1,))
    ]
    return pytest.mark.parametrize(
        "case", [pytest.param(row, id="-".join(map(str, row))) for row in rows], indirect=True
    )


@pytest.fixture
def case(request) -> Case:
    return Case(*request.param)


def assert_agrees(case: Case, u: np.ndarray, terms: float = 8) -> None:
    """Compare one row with the twin, within a few roundings for each of the terms of an entry."""
    z, log_jacobian = case.bijector.forward(u[None])
    for event, (point, value) in enumerate(zip(case.events(u), case.events(z[0]), strict=True)):
        exact, exact_log = case.twin(event, point)
        exact = np.array([float(x) for x in exact])
        scale = case.known.scale(exact, *(b or 0 for b in case.bounds(event)))
        with np.errstate(invalid="ignore"):  # infinite values
            error = np.abs(value - exact)
        # subnormals have few digits
        assert np.all((error <= terms * (1 + case.size) * EPS * scale + 1e-321) | (value == exact))
        magnitude = (1 + np.abs(point).sum()) * (1 + case.size)
        assert abs(log_jacobian[0, event] - float(exact_log)) <= terms * EPS * magnitude


@cases(1, 2, 3, 6)
def test_values_and_log_jacobians(case):
    assert (case.bijector.name, case.bijector.n_events) == (case.name, case.n_events)
    with mp.workdps(60):
        for spread in (1e-9, 0.3, 1.5, 6):
            assert_agrees(case, case.points(spread=spread)[0])


@cases(30, 300, names=[name for name in KNOWN if KNOWN[name].shape == "vector"])
def test_long_vectors(case):
    with mp.workdps(60):
        assert_agrees(case, case.points()[0])


@cases(26, names=[name for name in KNOWN if KNOWN[name].shape == "matrix"])
def test_large_matrices(case):
    """More entries than a tile has."""
    with mp.workdps(60):
        assert_agrees(case, case.points(spread=0.3)[0])


@cases(1, 2, 3, 6)
def test_log_jacobian_is_that_of_the_free_entries(case):
    """By differences in many digits."""
    u = case.points(spread=0.8, seed=1)[0]
    log_jacobian = case.bijector.forward(u[None])[1][0]
    free, h = case.known.free(case.size), mp.mpf(10) ** -30
    with mp.workdps(80):
        for event, point in enumerate(case.events(u)):
            columns = []
            for k in range(case.n_free):
                up, down = ([mp.mpf(x) + sign * h * (m == k) for m, x in enumerate(point)] for sign in (1, -1))
                high, low = case.twin(event, up)[0], case.twin(event, down)[0]
                columns.append([(high[i] - low[i]) / (2 * h) for i in free])
            assert len(free) == case.n_free
            exact = mp.log(abs(mp.det(mp.matrix(columns)))) if columns else 0
            assert abs(log_jacobian[event] - float(exact)) <= 1e-12


def exact_pullback(case: Case, u: np.ndarray, cot_z: np.ndarray, cot_log: np.ndarray, digits: int) -> np.ndarray:
    """Return the derivatives of cot_z z + cot_log log|J| by differences in many digits, one row."""
    out = np.empty((case.n_events, case.n_free))
    with mp.workdps(digits):
        h = mp.mpf(10) ** -(digits // 3)
        for event, point in enumerate(case.events(u)):
            weights = [mp.mpf(c) for c in case.events(cot_z)[event]]
            for k in range(case.n_free):
                values = []
                for sign in (1, -1):
                    z, log_jacobian = case.twin(event, [mp.mpf(x) + sign * h * (m == k) for m, x in enumerate(point)])
                    values.append(mp.fdot(weights, z) + mp.mpf(cot_log[event]) * log_jacobian)
                out[event, k] = float((values[0] - values[1]) / (2 * h))
    return out.ravel()


@cases(1, 2, 3, 6)
def test_pullback(case):
    for spread in (1e-9, 1.5, 4):
        u, (cot_z, cot_log) = case.points(spread=spread, seed=2), case.cotangents()
        actual = case.bijector.pullback(u, cot_z, cot_log)[0]
        expected = exact_pullback(case, u[0], cot_z[0], cot_log[0], 60)
        z = case.bijector.forward(u)[0]
        magnitude = (1 + np.abs(z).max()) * (1 + case.size) ** 2
        np.testing.assert_allclose(actual, expected, rtol=50 * EPS, atol=50 * EPS * magnitude)


@cases(3, 30, 60)
def test_pullback_over_several_tiles(case):
    """In one random direction."""
    case = Case(case.name, case.size, 300 if case.size < 60 else 2)
    u, (cot_z, cot_log) = case.points(2, 0.3), case.cotangents(2)
    direction = np.random.default_rng(3).normal(size=u.shape)
    direction /= np.linalg.norm(direction)
    start = case.bijector.forward(u)

    def value(step):
        z, log_jacobian = case.bijector.forward(u + step * direction)
        return np.sum((z - start[0]) * cot_z) + np.sum((log_jacobian - start[1]) * cot_log)

    h = 2e-2
    expected = (4 * (value(h / 2) - value(-h / 2)) / h - (value(h) - value(-h)) / (2 * h)) / 3
    gradient = case.bijector.pullback(u, cot_z, cot_log)
    assert abs(np.sum(gradient * direction) - expected) <= 1e-8 * np.linalg.norm(gradient)


@cases(1, 2, 3, 30)
def test_events_and_draws_do_not_mix(case):
    """Each event has the bits that it has alone."""
    case = Case(case.name, case.size, 70)
    u, (cot_z, cot_log) = case.points(2), case.cotangents(2)
    z, log_jacobian = case.bijector.forward(u)
    back, cot_u = case.bijector.inverse(z), case.bijector.pullback(u, cot_z, cot_log)
    for draw in range(2):
        for event in (0, 1, 33, 69):
            alone, only = case.build(slice(event, event + 1)), np.s_[draw : draw + 1, event : event + 1]

            def part(values):
                return values.reshape(2, 70, -1)[draw : draw + 1, event]  # noqa: B023

            own, own_log = alone.forward(part(u))
            np.testing.assert_array_equal(part(z), own)
            np.testing.assert_array_equal(log_jacobian[only], own_log)
            np.testing.assert_array_equal(part(back), alone.inverse(own))
            np.testing.assert_array_equal(part(cot_u), alone.pullback(part(u), part(cot_z), cot_log[only]))


# --- inverses --------------------------------------------------------------------------------------


@cases(1, 2, 3, 6)
def test_inverse(case):
    """Symmetric matrices and sums lose as many digits as they are ill-conditioned."""
    for spread in (1e-9, 0.3, 1.5):
        u = case.points(3, spread)
        tolerance = 1e-6 if case.name in ("covariance", "correlation") and spread > 1 else 1e-11
        np.testing.assert_allclose(case.bijector.inverse(case.bijector.forward(u)[0]), u, rtol=0, atol=tolerance)


EXACT_AT_THE_EDGE = ("identity", "positive", "simplex", "simplex_softmax", "cholesky_cov", "cholesky_corr")


@cases(2, names=EXACT_AT_THE_EDGE)
@pytest.mark.parametrize("edge", [-700.0, -30.0, 30.0, 700.0])
def test_inverse_near_the_edge(case, edge):
    u = np.full((1, case.bijector.n_unconstrained), edge)
    np.testing.assert_allclose(case.bijector.inverse(case.bijector.forward(u)[0]), u, rtol=4 * EPS)


@pytest.mark.parametrize("u", [-700.0, -1e-9, 1e-9, 700.0])
def test_softplus_inverse_near_the_edge(u):
    bijector = _core.Bijector("softplus")
    np.testing.assert_allclose(bijector.inverse(bijector.forward([[u]])[0]), u, rtol=8 * EPS, atol=8 * EPS)


def test_interval_inverse_near_its_ends():
    """With the end at 0, where doubles are dense."""
    for bounds, u in (([0.0], [3.0]), -700.0), (([-3.0], [0.0]), 700.0):
        bijector = _core.Bijector("interval", lower=bounds[0], upper=bounds[1])
        np.testing.assert_allclose(bijector.inverse(bijector.forward([[u]])[0]), u, rtol=4 * EPS)


OUTSIDE = {
    "identity": [[math.nan]],
    "positive": [[-1e-300], [math.nan]],
    "softplus": [[-1e-300], [-800.0]],
    "lower": [[-5.1]],
    "upper": [[5.1]],
    "interval": [[-5.1], [5.1]],
    "unit_interval": [[-1e-300], [1 + EPS]],
    "simplex": [[0.5, 0.6], [1.1, -0.1], [math.nan, 1.0]],
    "simplex_softmax": [[0.5, 0.6], [1.1, -0.1], [math.nan, 1.0]],
    "ordered": [[1.0, 0.9], [1.0, math.nan]],
    "positive_ordered": [[-0.1, 0.9], [1.0, 0.9]],
    "cholesky_cov": [[1.0, 0.1, 0.3, 1.0], [1.0, 0.0, 0.3, -1.0]],
    "cholesky_corr": [[1.0, 0.0, 0.6, 0.7], [1.0, 0.1, 0.6, 0.8], [-1.0, 0.0, 0.6, 0.8], [1.0, 0.0, 0.6, -0.8]],
    "covariance": [[1.0, 0.1, 0.2, 1.0], [1.0, 2.0, 2.0, 1.0], [-1.0, 0.0, 0.0, 1.0]],
    "correlation": [[1.0, 0.1, 0.2, 1.0], [1.0, 1.1, 1.1, 1.0], [1.0, 0.1, 0.1, 1.1]],
}


@pytest.mark.parametrize("name", _core.BIJECTORS)
def test_outside_of_the_support(name):
    """An event outside leaves the others as they are."""
    bounds = {which: {"lower": [-5.0], "upper": [5.0]}[which] for which in KNOWN[name].bounds}
    size = 1 if KNOWN[name].shape == "number" else 2
    bijector = _core.Bijector(name, 2, size, **bounds)
    good = bijector.forward(np.full((1, bijector.n_unconstrained), 0.3))[0][0, : bijector.n_constrained // 2]
    for bad in OUTSIDE[name]:
        for first in (True, False):
            z = np.concatenate([bad, good] if first else [good, bad])
            u = bijector.inverse(z[None]).reshape(2, -1)
            assert np.all(np.isnan(u[0 if first else 1]))
            np.testing.assert_allclose(u[1 if first else 0], 0.3, rtol=1e-12)


def test_the_boundary_is_infinitely_far():
    def inverse(name, z, size=1, **bounds):
        return _core.Bijector(name, 1, size, **bounds).inverse([z]).tolist()[0]

    inf = math.inf
    assert inverse("positive", [0.0]) == inverse("softplus", [0.0]) == [-inf]
    assert inverse("lower", [2.0], lower=[2.0]) == inverse("upper", [2.0], upper=[2.0]) == [-inf]
    assert (inverse("unit_interval", [0.0]), inverse("unit_interval", [1.0])) == ([-inf], [inf])
    assert inverse("simplex", [1.0, 0.0, 0.0], 3) == [inf, -inf]
    assert inverse("simplex_softmax", [0.0, 0.0, 1.0], 3) == [-inf, -inf]
    assert inverse("positive_ordered", [0.0, 0.0], 2) == [-inf, -inf]
    assert inverse("cholesky_corr", [1.0, 0.0, -1.0, 0.0], 2) == [-inf]


# --- extremes --------------------------------------------------------------------------------------

LARGE = (-700.0, -350.0, -40.0, -1e-300, 0.0, 1e-8, 40.0, 350.0, 700.0)


@cases(2, 3)
def test_extreme_coordinates(case):
    """Values are right to the last digits, or inf where the value is too large; gradients are numbers."""
    case = Case(case.name, case.size, 1)
    rng = np.random.default_rng(4)
    points = [np.full(case.n_free, value) for value in LARGE] + [rng.choice(LARGE, case.n_free) for _ in range(8)]
    for u in points:
        with mp.workdps(2500):
            assert_agrees(case, u, 16)
        z, log_jacobian = case.bijector.forward(u[None])
        assert np.all(np.isfinite(log_jacobian))
        cot_z, cot_log = case.cotangents()
        if np.all(np.isfinite(z)):
            gradient = case.bijector.pullback(u[None], cot_z / (1 + np.abs(z).max()), cot_log)
            assert np.all(np.isfinite(gradient))
        no_weight = case.bijector.pullback(u[None], 0 * cot_z, cot_log)
        assert np.all(np.isfinite(no_weight))


@cases(3, names=["simplex", "simplex_softmax", "cholesky_corr", "unit_interval"])
def test_gradients_of_logarithms_near_the_edge(case):
    """Cotangents 1 / z, as of a log density, where z is as small as 1e-150."""
    case = Case(case.name, case.size, 1)
    rng = np.random.default_rng(5)
    for _ in range(5):
        u = rng.choice((-300.0, -20.0, 1.0, 20.0), (1, case.n_free))
        z = case.bijector.forward(u)[0]
        cot_z = np.divide(1.0, z, out=np.zeros_like(z), where=z != 0)
        cot_log = np.ones((1, 1))
        expected = exact_pullback(case, u[0], cot_z[0], cot_log[0], 1500)
        actual = case.bijector.pullback(u, cot_z, cot_log)[0]
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", _core.BIJECTORS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_coordinates(name, data):
    """Draws are in the support; values, log-Jacobians and the way back are right."""
    size = 1 if KNOWN[name].shape == "number" else data.draw(st.integers(1, 4))
    case = Case(name, size, data.draw(st.integers(1, 3)))
    u = data.draw(arrays(float, case.bijector.n_unconstrained, elements=st.floats(-30, 30)))
    with mp.workdps(200):
        assert_agrees(case, u, 16)
    z, _ = case.bijector.forward(u[None])
    for event, value in enumerate(case.events(z[0])):
        assert case.known.inside(value, *case.bounds(event))
    cot_z, cot_log = case.cotangents()
    assert np.all(np.isfinite(case.bijector.pullback(u[None], cot_z, cot_log)))
    again = case.bijector.forward(case.bijector.inverse(z))[0]
    known = ~np.isnan(again)  # symmetric matrices may be singular but for rounding
    assert np.all(known) or name in ("covariance", "correlation")
    scale = np.concatenate([case.known.scale(v, *(b or 0 for b in case.bounds(0))) for v in case.events(z[0])])
    assert np.all(np.abs(again - z)[known] <= 1e-12 * (scale[None][known] + np.abs(z).max()))


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cone"}, "unknown bijector 'cone'; there are 'identity'"),
        ({"name": "identity", "n_events": 0}, "number of events must be at least 1, not 0"),
        ({"name": "simplex", "size": 0}, "size must be at least 1, not 0"),
        ({"name": "positive", "size": 2}, "'positive' maps numbers, of size 1, not 2"),
        ({"name": "covariance", "size": 1025}, "matrices have at most 1024 rows, not 1025"),
        ({"name": "positive", "lower": [0.0]}, "'positive' takes no lower bound"),
        ({"name": "lower"}, "'lower' needs 1 or 1 lower bounds, not 0"),
        ({"name": "upper", "n_events": 3, "upper": [0.0, 1.0]}, "'upper' needs 1 or 3 upper bounds, not 2"),
        ({"name": "lower", "lower": [-math.inf]}, "lower bounds must be finite, not -inf"),
        ({"name": "interval", "lower": [0.0], "upper": [math.nan]}, "upper bounds must be finite, not nan"),
        ({"name": "interval", "lower": [1.0], "upper": [1.0]}, "lower bounds must be below upper ones"),
        ({"name": "interval", "lower": [-1e308], "upper": [1e308]}, "by a finite width"),
    ],
)
def test_wrong_configurations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        _core.Bijector(**arguments)


def test_wrong_shapes_are_refused():
    bijector = _core.Bijector("simplex", 2, 3)
    for u in (np.zeros(4), np.zeros((2, 5))):
        with pytest.raises(ValueError, match=r"u must have shape \(n, 4\)"):
            bijector.forward(u)
    with pytest.raises(ValueError, match=r"z must have shape \(n, 6\)"):
        bijector.inverse(np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"cot_z must have as many rows as u"):
        bijector.pullback(np.zeros((2, 4)), np.zeros((1, 6)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"cot_log_jacobian must have shape \(n, 2\)"):
        bijector.pullback(np.zeros((2, 4)), np.zeros((2, 6)), np.zeros((2, 1)))


def test_one_bound_for_all():
    one = _core.Bijector("interval", 3, lower=[-1.0], upper=[2.0])
    each = _core.Bijector("interval", 3, lower=[-1.0] * 3, upper=[2.0] * 3)
    u = np.array([[-1.0, 0.0, 3.0]])
    for a, b in zip(one.forward(u), each.forward(u), strict=True):
        np.testing.assert_array_equal(a, b)
