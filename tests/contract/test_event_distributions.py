"""Densities of events: values against SciPy and closed forms, gradients against differences, samplers by moments."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats

import klqp
from klqp import _core
from klqp.model.distributions.categorical import Categorical, Multinomial, OneHotCategorical, OrderedLogistic
from klqp.model.distributions.dirichlet import Dirichlet
from klqp.model.distributions.events_registry import EVENT_DISTRIBUTIONS
from klqp.model.distributions.hidden_markov import HiddenMarkov
from klqp.model.distributions.matrix import LKJCholesky, Wishart
from klqp.model.distributions.mixture import Mixture, MixtureSameFamily
from klqp.model.distributions.multivariate_normal import (
    MultivariateNormalDiag,
    MultivariateNormalDiagPlusLowRank,
    MultivariateNormalFullCovariance,
    MultivariateNormalTriL,
)
from klqp.model.distributions.normal import Normal
from klqp.model.distributions.point import Empirical, PointMass
from klqp.model.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from klqp.model.distributions.transformed import TransformedDistribution
from klqp.model.emitter import Emitter
from klqp.model.parameter import Parameter

# --- laws: what they are, apart from klqp ------------------------------------------------------------------------


def random_tril(rng, n, d):
    out = np.tril(0.5 * rng.standard_normal((n, d, d)), -1)
    out[:, np.arange(d), np.arange(d)] = rng.uniform(0.5, 2.0, (n, d))
    return out


def random_correlation_factor(rng, n, d):
    rows = np.tril(rng.standard_normal((n, d, d)))
    rows[:, np.arange(d), np.arange(d)] = rng.uniform(0.5, 2.0, (n, d))
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def log_lkj(tril, eta):
    d = len(tril)
    k = np.arange(1, d)
    log_z = (
        0.5 * k * math.log(math.pi)
        + scipy.special.gammaln(eta + 0.5 * (d - 1 - k))
        - scipy.special.gammaln(eta + 0.5 * (d - 1))
    ).sum()
    i = np.arange(1, d)
    return ((d - i - 1 + 2 * (eta - 1)) * np.log(np.diagonal(tril)[1:])).sum() - log_z


def log_ordered(k, c, m):
    upper = scipy.special.expit(c[int(k)] - m) if k < len(c) else 1.0
    lower = scipy.special.expit(c[int(k) - 1] - m) if k > 0 else 0.0
    return math.log(upper - lower)


def log_normal_vector(x, loc, cov):
    return scipy.stats.multivariate_normal(loc, cov, allow_singular=False).logpdf(x)


def log_normal_factor(x, loc, tril):
    y = scipy.linalg.solve_triangular(tril, x - loc, lower=True)
    return scipy.stats.norm.logpdf(y).sum() - np.log(np.diagonal(tril)).sum()


def centred(direction):
    return direction - direction.mean(-1, keepdims=True)


def symmetric(d):
    def project(direction):
        m = direction.reshape(*direction.shape[:-1], d, d)
        return (m + np.swapaxes(m, -1, -2)).reshape(direction.shape)

    return project


def lower(d):
    return lambda direction: np.tril(direction.reshape(*direction.shape[:-1], d, d)).reshape(direction.shape)


@dataclass
class Law:
    """`make` gives n rows of each argument, `log_prob` takes one row of each."""

    name: str
    sizes: dict[str, int]
    make: list[Callable]
    log_prob: Callable
    discrete: tuple[int, ...] = ()
    # Directions in which an argument may move.
    directions: dict[int, Callable] = field(default_factory=dict)

    def __str__(self):
        return f"{self.name}-{'-'.join(str(v) for v in self.sizes.values())}"


def simplex(k):
    return lambda rng, n: rng.dirichlet(np.full(k, 2.0), n)


def normal(k):
    return lambda rng, n: rng.standard_normal((n, k))


def positive(k):
    return lambda rng, n: rng.uniform(0.5, 3.0, (n, k))


def integers(k):
    return lambda rng, n: rng.integers(k, size=(n, 1)).astype(float)


def softmax(x):
    return scipy.special.softmax(x)


def flat(maker, d):
    return lambda rng, n: maker(rng, n, d).reshape(n, -1)


def wishart_values(d):
    def make(rng, n):
        factor = random_tril(rng, n, d)
        return (factor @ np.swapaxes(factor, 1, 2)).reshape(n, -1)

    return make


def laws():
    for k in (1, 2, 5, 20):
        yield Law(
            "dirichlet",
            {"size": k},
            [simplex(k), positive(k)],
            lambda x, a: scipy.stats.dirichlet.logpdf(x / x.sum(), a) if len(a) > 1 else 0.0,
            directions={0: centred},
        )
        for probs in (0, 1):
            weights = simplex(k) if probs else normal(k)

            def log_p(theta, probs=probs):
                return np.log(theta / theta.sum()) if probs else scipy.special.log_softmax(theta)

            yield Law(
                "categorical",
                {"size": k, "probs": probs},
                [integers(k), weights],
                lambda x, theta, f=log_p: f(theta)[int(x[0])],
                discrete=(0,),
            )
            yield Law(
                "one_hot_categorical",
                {"size": k, "probs": probs},
                [lambda rng, n, k=k: np.eye(k)[rng.integers(k, size=n)], weights],
                lambda x, theta, f=log_p: (x * f(theta)).sum(),
                discrete=(0,),
            )
            yield Law(
                "multinomial",
                {"size": k, "probs": probs},
                [
                    lambda rng, n, k=k: rng.multinomial(7, np.full(k, 1 / k), n).astype(float),
                    lambda rng, n: np.full((n, 1), 7.0),
                    weights,
                ],
                lambda x, n, theta, f=log_p: scipy.stats.multinomial.logpmf(x, int(n[0]), np.exp(f(theta))),
                discrete=(0, 1),
            )
            yield Law(
                "relaxed_one_hot_categorical",
                {"size": k, "probs": probs},
                [simplex(k), positive(1), weights],
                lambda x, t, theta, probs=probs: log_relaxed(x, t, theta, probs),
                directions={0: centred},
            )
    for k in (2, 3, 6):
        yield Law(
            "ordered_logistic",
            {"size": k - 1},
            [integers(k), lambda rng, n, k=k: np.sort(rng.standard_normal((n, k - 1)) * 2), normal(1)],
            lambda x, c, m: log_ordered(x[0], c, m[0]),
            discrete=(0,),
        )
    for d in (1, 3, 40):
        yield Law(
            "mvn_tril",
            {"size": d},
            [normal(d), normal(d), flat(random_tril, d)],
            lambda x, m, tril, d=d: log_normal_factor(x, m, tril.reshape(d, d)),
            directions={2: lower(d)},
        )
    for d, r in ((1, 1), (4, 2), (2, 3), (30, 3)):
        yield Law(
            "mvn_low_rank",
            {"size": d, "rank": r},
            [normal(d), normal(d), positive(d), normal(d * r)],
            lambda x, m, s, w, d=d, r=r: log_normal_vector(x, m, np.diag(s**2) + w.reshape(d, r) @ w.reshape(d, r).T),
        )
    for d in (1, 2, 4):
        yield Law(
            "lkj_cholesky",
            {"size": d},
            [flat(random_correlation_factor, d), positive(1)],
            lambda tril, eta, d=d: log_lkj(tril.reshape(d, d), eta[0]),
            directions={0: lower(d)},
        )
        yield Law(
            "wishart",
            {"size": d},
            [wishart_values(d), lambda rng, n, d=d: rng.uniform(d, d + 5, (n, 1)), flat(random_tril, d)],
            lambda x, v, s, d=d: scipy.stats.wishart(v[0], s.reshape(d, d) @ s.reshape(d, d).T).logpdf(x.reshape(d, d)),
            directions={0: symmetric(d), 2: lower(d)},
        )
    for k in (1, 3):
        yield Law(
            "point_mass",
            {"size": k},
            [lambda rng, n, k=k: np.ones((n, k)), lambda rng, n, k=k: np.ones((n, k))],
            lambda x, y: 0.0,
            discrete=(0, 1),
        )


LAWS = list(laws())


def test_every_law_is_tested():
    assert {law.name for law in LAWS} == set(_core.EVENT_DENSITIES)


# --- programs of one density ---------------------------------------------------------------------------------------

DATA, SHARED, PER_DRAW = "data", "shared", "per_draw"


class Built:
    """One density whose arguments are data, parameters or inputs, of every event or of one for all."""

    def __init__(self, law, rng, n, draws, kinds, per_event, scale=None, summed=True, log_q=False):
        self.law, self.n, self.draws, self.summed = law, n, draws, summed
        self.model = _core.Model()
        self.kinds = kinds
        self.values = []  # (rows, events or 1, width)
        offset, slots, self.params, self.inputs, self.where = 0, [], [], [], []
        for k, (make, kind) in enumerate(zip(law.make, kinds, strict=True)):
            rows = draws if kind == PER_DRAW else 1
            events = n if per_event[k] else 1
            value = make(rng, rows * events).reshape(rows, events, -1)
            self.values.append(value)
            size = value[0].size
            if kind == DATA:
                slots.append(self.model.data(value))
                self.where.append(None)
            elif kind == SHARED:
                slots.append(self.model.parameter(offset, size))
                self.params.append(value.ravel())
                self.where.append(slice(offset, offset + size))
                offset += size
            else:
                slots.append(self.model.input(size))
                self.where.append(len(self.inputs))
                self.inputs.append(value.reshape(rows, -1))
        self.scale = {
            None: None,
            "one": np.array([2.5]),
            "each": np.where(np.arange(n) % 5 == 3, 0, 1.0 + np.arange(n)),
        }[scale]
        if scale is not None:
            slots.append(self.model.data(self.scale))
        self.flat = np.concatenate(self.params) if self.params else np.zeros(1)
        sizes = {key: [v] for key, v in law.sizes.items()}
        self.out = self.model.event_density(law.name, slots, n, sizes, summed, scale is not None, log_q)
        self.rows = draws if PER_DRAW in kinds else 1

    def evaluate(self, flat=None, inputs=None):
        flat = self.flat if flat is None else flat
        inputs = self.inputs if inputs is None else inputs
        return self.model.evaluate(self.draws, flat, np.zeros((self.draws, 1)), inputs, [self.out])[0]

    def expected(self):
        each = np.empty((self.rows, self.n))
        for s, e in itertools.product(range(self.rows), range(self.n)):
            row = [v[s if len(v) > 1 else 0, e if v.shape[1] > 1 else 0] for v in self.values]
            each[s, e] = self.law.log_prob(*row)
        if self.scale is not None:
            each = each * self.scale
        return each.sum(1, keepdims=True) if self.summed else each

    def pullback(self, cot, **flags):
        return self.model.pullback(
            self.draws, self.flat, np.zeros((self.draws, 1)), self.inputs, self.out, cot, **flags
        )

    def check_gradients(self, rng, step=1e-7):
        cot = rng.standard_normal((self.rows, 1 if self.summed else self.n))
        grad, input_grads = self.pullback(cot)
        for k, kind in enumerate(self.kinds):
            if kind == DATA:
                continue
            got = grad[self.where[k]] if kind == SHARED else input_grads[self.where[k]]
            if k in self.law.discrete:
                assert not got.any()
                continue
            direction = rng.standard_normal(self.values[k].shape)
            direction = self.law.directions.get(k, lambda x: x)(direction)
            direction = direction.reshape(got.shape)
            sides, scale = [], 0.0
            for sign in (1, -1):
                flat, inputs = self.flat.copy(), [x.copy() for x in self.inputs]
                if kind == SHARED:
                    flat[self.where[k]] += sign * step * direction
                else:
                    inputs[self.where[k]] += sign * step * direction
                terms = cot * self.evaluate(flat, inputs)
                scale = max(scale, np.abs(terms).sum())
                sides.append(terms)
            expected = math.fsum((sides[0] - sides[1]).ravel()) / (2 * step)
            tolerance = 1e-6 * np.abs(got * direction).sum() + 2e-15 * (10 + scale) / step
            np.testing.assert_allclose((got * direction).sum(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize(("scale", "summed"), list(itertools.product((None, "one", "each"), (True, False))))
def test_values(law, scale, summed):
    rng = np.random.default_rng(1)
    n_args = len(law.make)
    for kinds in ([DATA] * n_args, [PER_DRAW] * n_args, [DATA] + [SHARED] * (n_args - 1)):
        for shared in (None, *range(n_args)):
            built = Built(law, rng, 4, 3, kinds, [k != shared for k in range(n_args)], scale, summed)
            np.testing.assert_allclose(built.evaluate(), built.expected(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("summed", [True, False])
def test_gradients(law, n, summed):
    rng = np.random.default_rng(2)
    n_args = len(law.make)
    every = list(itertools.product((SHARED, PER_DRAW), repeat=n_args))
    mixed = [[rng.choice([DATA, SHARED, PER_DRAW]) for _ in range(n_args)] for _ in range(6)]
    for kinds in [*every, *mixed]:
        per_event = rng.integers(2, size=n_args).astype(bool)
        scale = [None, "one", "each"][rng.integers(3)]
        Built(law, rng, n, 3, list(kinds), per_event, scale, summed).check_gradients(rng)


@pytest.mark.parametrize("law", [law for law in LAWS if max(law.sizes.values()) < 10], ids=str)
@pytest.mark.parametrize(("n", "draws"), [(900, 2), (1, 900)])
def test_many_events_and_draws_go_in_pieces(law, n, draws):
    rng = np.random.default_rng(3)
    n_args = len(law.make)
    for kinds in ([PER_DRAW] + [SHARED] * (n_args - 1), [SHARED] * (n_args - 1) + [PER_DRAW]):
        for per_event in ([True] + [False] * (n_args - 1), [False] * n_args):
            built = Built(law, rng, n, draws, kinds, per_event)
            got = built.evaluate()
            np.testing.assert_allclose(got, built.expected(), rtol=1e-10, atol=1e-11)
            built.check_gradients(rng)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_cotangents_of_log_q_go_where_the_sweep_wants_them(law):
    rng = np.random.default_rng(4)
    n_args = len(law.make)
    built = Built(law, rng, 3, 2, [PER_DRAW] * n_args, [True] * n_args, log_q=True)
    cot = np.ones((2, 1))
    both = built.pullback(cot)[1]
    to_value = built.pullback(cot, log_q_to_params=False)[1]
    to_params = built.pullback(cot, log_q_to_value=False)[1]
    for k in range(n_args):
        np.testing.assert_array_equal(to_value[k], both[k] if k == 0 else 0 * both[k])
        np.testing.assert_array_equal(to_params[k], 0 * both[k] if k == 0 else both[k])


def test_pieces_are_refused_that_do_not_fit():
    model = _core.Model()
    x, a = model.data(np.ones(6)), model.data(np.ones(4))
    with pytest.raises(
        ValueError, match="argument 1 of the density must have 3 numbers for each event or for all, not 4"
    ):
        model.event_density("dirichlet", [x, a], 2, {"size": [3]})
    with pytest.raises(ValueError, match="takes a value and 1 parameters"):
        model.event_density("dirichlet", [x], 2, {"size": [3]})
    with pytest.raises(ValueError, match="option 'size' is missing"):
        model.event_density("dirichlet", [x, x], 2, {})
    with pytest.raises(ValueError, match="event density"):
        model.event_density("nope", [x, x], 2, {"size": [3]})


# --- beyond the support, and the extremes ----------------------------------------------------------------------------


def one(name, sizes, *args):
    model = _core.Model()
    slots = [model.input(np.size(a)) for a in args]
    out = model.event_density(name, slots, 1, {k: [v] for k, v in sizes.items()})
    inputs = [np.array(a, float).reshape(1, -1) for a in args]
    value = model.evaluate(1, np.zeros(1), np.zeros((1, 1)), inputs, [out])[0].item()
    grads = model.pullback(1, np.zeros(1), np.zeros((1, 1)), inputs, out, np.ones((1, 1)))[1]
    return value, grads


L3 = np.array([[1, 0, 0], [0.6, 0.8, 0], [0.0, 0.6, 0.8]])

OUTSIDE = [
    ("dirichlet", {"size": 3}, [[0.5, 0.6, -0.1], [1, 2, 3]]),
    ("dirichlet", {"size": 3}, [[0.5, 0.4, 0.2], [1, 2, 3]]),
    ("dirichlet", {"size": 3}, [[0.5, 0.5, 0.0], [1, 2, 3]]),
    ("categorical", {"size": 3}, [[3], [0, 0, 0]]),
    ("categorical", {"size": 3}, [[-1], [0, 0, 0]]),
    ("categorical", {"size": 3}, [[0.5], [0, 0, 0]]),
    ("categorical", {"size": 3, "probs": 1}, [[1], [0.5, 0, 0.5]]),
    ("one_hot_categorical", {"size": 3}, [[1, 1, 0], [0, 0, 0]]),
    ("one_hot_categorical", {"size": 3}, [[0, 0, 0], [0, 0, 0]]),
    ("one_hot_categorical", {"size": 3, "probs": 1}, [[0, 1, 0], [0.5, 0, 0.5]]),
    ("multinomial", {"size": 3}, [[1, 1, 1], [4], [0, 0, 0]]),
    ("multinomial", {"size": 3}, [[1.5, 1.5, 1], [4], [0, 0, 0]]),
    ("multinomial", {"size": 3}, [[-1, 4, 1], [4], [0, 0, 0]]),
    ("multinomial", {"size": 3, "probs": 1}, [[1, 1, 2], [4], [0.5, 0, 0.5]]),
    ("ordered_logistic", {"size": 2}, [[3], [0, 1], [0]]),
    ("ordered_logistic", {"size": 2}, [[-1], [0, 1], [0]]),
    ("lkj_cholesky", {"size": 3}, [2 * L3, [1.5]]),
    ("lkj_cholesky", {"size": 3}, [L3.T, [1.5]]),
    ("wishart", {"size": 2}, [[1, 2, 2, 1], [3], [1, 0, 0, 1]]),
    ("wishart", {"size": 2}, [[1, 0.1, 0.2, 1], [3], [1, 0, 0, 1]]),
    ("point_mass", {"size": 2}, [[1, 2], [1, 3]]),
]


@pytest.mark.parametrize(("name", "sizes", "args"), OUTSIDE)
def test_outside_the_support(name, sizes, args):
    value, grads = one(name, sizes, *args)
    assert value == -np.inf
    assert all(not g.any() for g in grads)


ILLEGAL = [
    ("dirichlet", {"size": 2}, [[0.5, 0.5], [0, 1]]),
    ("dirichlet", {"size": 2}, [[0.5, 0.5], [np.inf, 1]]),
    ("dirichlet", {"size": 2}, [[0.5, np.nan], [1, 1]]),
    ("categorical", {"size": 2, "probs": 1}, [[0], [-0.1, 1.1]]),
    ("categorical", {"size": 2, "probs": 1}, [[0], [0, 0]]),
    ("categorical", {"size": 2}, [[0], [np.nan, 0]]),
    ("categorical", {"size": 2}, [[0], [-np.inf, -np.inf]]),
    ("categorical", {"size": 2}, [[np.nan], [0, 0]]),
    ("multinomial", {"size": 2}, [[1, 1], [-1], [0, 0]]),
    ("ordered_logistic", {"size": 2}, [[1], [1, 0], [0]]),
    ("ordered_logistic", {"size": 2}, [[1], [0, 1], [np.nan]]),
    ("mvn_tril", {"size": 2}, [[0, 0], [0, 0], [1, 0, 0, -1]]),
    ("mvn_tril", {"size": 2}, [[0, 0], [0, 0], [0, 0, 0, 1]]),
    ("mvn_low_rank", {"size": 2, "rank": 1}, [[0, 0], [0, 0], [1, 0], [1, 1]]),
    ("mvn_low_rank", {"size": 2, "rank": 1}, [[0, 0], [0, 0], [1, -1], [1, 1]]),
    ("lkj_cholesky", {"size": 3}, [L3, [0]]),
    ("wishart", {"size": 2}, [[1, 0, 0, 1], [1], [1, 0, 0, 1]]),
    ("wishart", {"size": 2}, [[1, 0, 0, 1], [3], [1, 0, 0, -1]]),
    ("point_mass", {"size": 1}, [[np.nan], [1]]),
]


@pytest.mark.parametrize(("name", "sizes", "args"), ILLEGAL)
def test_illegal_parameters_give_nan(name, sizes, args):
    assert math.isnan(one(name, sizes, *args)[0])


def test_categories_of_probability_zero_matter_only_when_they_occur():
    value, (_, grad) = one("categorical", {"size": 3, "probs": 1}, [0], [0.25, 0.0, 0.75])
    assert value == pytest.approx(math.log(0.25), rel=1e-15)
    np.testing.assert_allclose(grad[0], [3, -1, -1])
    value, (_, grad) = one("categorical", {"size": 3}, [0], [0.0, -np.inf, 0.0])
    assert value == pytest.approx(math.log(0.5), rel=1e-15)
    np.testing.assert_allclose(grad[0], [0.5, 0, -0.5])
    value, grads = one("multinomial", {"size": 3, "probs": 1}, [2, 0, 1], [3], [0.25, 0.0, 0.75])
    assert value == pytest.approx(math.log(3 * 0.25**2 * 0.75), rel=1e-14)
    np.testing.assert_allclose(grads[2][0], [5, -3, 1 / 0.75 - 3])


@pytest.mark.parametrize("a", [1e-300, 1e-10, 1e-3, 1e3, 1e8])
def test_dirichlet_of_extreme_concentration(a):
    import mpmath as mp

    x = np.array([0.2, 0.3, 0.5])
    value, (_, grad) = one("dirichlet", {"size": 3}, x, [a, a, a])
    with mp.workdps(60):
        z = mp.mpf(a)
        logs = [mp.log(mp.mpf(t)) for t in x]
        expected = mp.loggamma(3 * z) - 3 * mp.loggamma(z) + (z - 1) * mp.fsum(logs)
        slope = mp.digamma(3 * z) - mp.digamma(z) + logs[0]
    assert value == pytest.approx(float(expected), rel=1e-12, abs=1e-15 * 50 * a)
    assert grad is not None
    assert one("dirichlet", {"size": 3}, x, [a, a, a])[1][1][0, 0] == pytest.approx(float(slope), rel=1e-9)


def test_extreme_logits_do_not_overflow():
    value, (_, grad) = one("categorical", {"size": 3}, [1], [1e308, -1e308, 0])
    assert value == -np.inf or value < -1e307
    value, (_, grad) = one("categorical", {"size": 3}, [0], [1000.0, -1000.0, 0])
    assert value == 0
    np.testing.assert_array_equal(grad[0], [0, 0, 0])


@pytest.mark.parametrize("gap", [1e-12, 1e-3, 1.0, 40.0, 800.0])
@pytest.mark.parametrize("m", [-700.0, -30.0, 0.0, 3.0, 700.0])
def test_ordered_logistic_in_the_tails(gap, m):
    import mpmath as mp

    c = np.array([0.0, gap])
    for k in range(3):
        value, _ = one("ordered_logistic", {"size": 2}, [k], c, [m])
        with mp.workdps(700):
            ends = [mp.mpf(0), *(1 / (1 + mp.exp(-(mp.mpf(t) - mp.mpf(m)))) for t in c), mp.mpf(1)]
            expected = mp.log(ends[k + 1] - ends[k])
        assert value == pytest.approx(float(expected), rel=1e-12, abs=1e-300)


def test_normal_with_a_nearly_singular_factor():
    tril = np.array([[1e8, 0.0], [1e8, 1e-8]])
    y = np.array([0.3, -0.7])
    value, grads = one("mvn_tril", {"size": 2}, tril @ y, [0, 0], tril)
    assert value == pytest.approx(-math.log(2 * math.pi) - 0.5 * (0.09 + 0.49), rel=0.2)  # x itself is rounded
    assert all(np.isfinite(g).all() for g in grads)
    value, _ = one("mvn_tril", {"size": 2}, [0.0, 0.0], [0, 0], tril)
    assert value == pytest.approx(-math.log(2 * math.pi), rel=1e-12)


def test_low_rank_normal_with_a_dominating_factor():
    rng = np.random.default_rng(5)
    w = 1e6 * rng.standard_normal((6, 2))
    x = w @ [0.3, 0.5] + rng.standard_normal(6)
    import mpmath as mp

    with mp.workdps(50):
        cov = mp.eye(6) + mp.matrix(w.tolist()) * mp.matrix(w.tolist()).T
        v = mp.matrix(x.tolist())
        expected = -(v.T * mp.inverse(cov) * v)[0] / 2 - mp.log(mp.det(cov)) / 2 - 3 * mp.log(2 * mp.pi)
    value, _ = one("mvn_low_rank", {"size": 6, "rank": 2}, x, np.zeros(6), np.ones(6), w)
    assert value == pytest.approx(float(expected), rel=1e-8)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("eta", [0.7, 1.0, 3.0])
def test_lkj_densities_integrate_to_one(d, eta):
    from numpy.polynomial.legendre import leggauss

    x, w = leggauss(60)
    t, w = 7.5 * x, 7.5 * w  # partial correlations tanh(t), cut off far out
    bijector = _core.Bijector("cholesky_corr", n_events=1, size=d)
    n = d * (d - 1) // 2
    grid = np.stack(np.meshgrid(*[t] * n, indexing="ij"), -1).reshape(-1, n)
    weights = np.prod(np.stack(np.meshgrid(*[w] * n, indexing="ij"), -1).reshape(-1, n), -1)
    values, log_jacobian = bijector.forward(grid)
    log_p = LKJCholesky(d, eta).log_prob(values.reshape(-1, d, d))
    assert (weights * np.exp(log_p + log_jacobian.sum(-1))).sum() == pytest.approx(1.0, abs=2e-4)


# --- the Python classes --------------------------------------------------------------------------------------------


def cov(d, seed=0):
    tril = random_tril(np.random.default_rng(seed), 1, d)[0]
    return tril @ tril.T


def log_relaxed(x, temperature, theta, probs):
    k = len(x)
    a = (np.log(theta / theta.sum()) if probs else theta) - temperature * np.log(x)
    constant = scipy.special.gammaln(k) + (k - 1) * math.log(temperature[0])
    return constant + (a - np.log(x)).sum() - k * scipy.special.logsumexp(a)


def distributions():
    tril = random_tril(np.random.default_rng(0), 2, 3)
    w = np.random.default_rng(1).standard_normal((3, 2))
    yield MultivariateNormalDiag([0.0, 1.0, 2.0], [[1.0, 2.0, 3.0], [0.5, 0.5, 0.5]])
    yield MultivariateNormalDiag(scale_diag=2.0, shape=4)
    yield MultivariateNormalTriL([0.0, 1.0, 2.0], tril)
    yield MultivariateNormalTriL(0.5, tril[0])
    yield MultivariateNormalFullCovariance(np.zeros((4, 3)), cov(3))
    yield MultivariateNormalDiagPlusLowRank(np.ones(3), [1.0, 2.0, 3.0], w)
    yield Dirichlet([0.5, 1.0, 4.0])
    yield Dirichlet([0.05, 0.1], shape=(3, 2))
    yield Categorical(logits=[0.0, 1.0, -1.0], shape=2)
    yield Categorical(probs=[[0.2, 0.0, 0.8], [1.0, 0.0, 0.0]])
    yield OneHotCategorical(probs=[0.2, 0.3, 0.5])
    yield OneHotCategorical(logits=[[0.2, 0.3, 0.5], [0.0, 0.0, 3.0]])
    yield Multinomial([4.0, 9.0], probs=[0.2, 0.3, 0.5])
    yield Multinomial(3, logits=[[0.0, 1.0], [1.0, 0.0]])
    yield OrderedLogistic([-1.0, 0.0, 2.0], [0.3, -2.0])
    yield LKJCholesky(1)
    yield LKJCholesky(3, 2.0)
    yield LKJCholesky(4, [0.6, 5.0])
    yield Wishart(5.0, cov(3))
    yield Wishart([3.5, 8.0], scale_tril=tril[0])
    yield Mixture(Categorical(probs=[0.3, 0.7]), [Normal(0.0, 1.0), Normal(3.0, 0.5)])
    yield Mixture(
        Categorical(logits=[[0.0, 1.0], [2.0, 0.0]]),
        [MultivariateNormalDiag(np.zeros((2, 3))), MultivariateNormalTriL(np.ones(3), tril)],
    )
    yield MixtureSameFamily(Categorical(probs=[0.3, 0.3, 0.4]), Normal([-3.0, 0.0, 1.0], [0.5, 1.0, 2.0]))
    yield MixtureSameFamily(Categorical(logits=[0.0, 1.0]), MultivariateNormalTriL(np.ones((4, 2, 3)), tril))
    sticky = Categorical(probs=[[0.9, 0.1, 0.0], [0.0, 0.5, 0.5], [0.4, 0.3, 0.3]])
    yield HiddenMarkov(Categorical(probs=[0.5, 0.5, 0.0]), sticky, Normal([0.0, 1.0, 5.0], 1.5, shape=(4, 3)))
    yield HiddenMarkov(
        Categorical(logits=[[0.0, 1.0], [3.0, 0.0]]),
        Categorical(logits=[[1.0, 0.0], [-1.0, 1.0]]),
        MultivariateNormalDiag([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]], 2.0, shape=(2, 5, 2, 3)),
    )
    yield TransformedDistribution(Normal([0.0, 1.0], 2.0), ("affine", [1.0, 2.0], -0.5))
    yield TransformedDistribution(MultivariateNormalTriL(0.5, tril), ("affine", 1.0, 3.0))
    yield RelaxedBernoulli(0.6, logits=[0.4, -1.0])
    yield RelaxedBernoulli([0.6, 2.0], probs=0.3)
    yield RelaxedOneHotCategorical([0.5, 1.5], logits=[0.0, 1.0, -1.0])
    yield RelaxedOneHotCategorical(0.7, probs=[0.2, 0.3, 0.5])
    yield PointMass([1.0, 2.0])
    yield Empirical(np.random.default_rng(0).standard_normal((5, 2)))


DISTRIBUTIONS = list(distributions())


def test_every_class_is_tested():
    assert {type(d) for d in DISTRIBUTIONS} == set(EVENT_DISTRIBUTIONS)


@pytest.mark.parametrize("d", [d for d in DISTRIBUTIONS if hasattr(d, "_mean")], ids=lambda d: type(d).__name__)
def test_samples_have_the_moments_that_formulas_give(d):
    n = 20000
    x = d.sample(n, seed=7)
    assert x.shape == (n, *d.shape)
    assert d.sample(seed=7).shape == d.shape
    assert d.space.contains(x)
    np.testing.assert_array_equal(x, d.sample(n, seed=7))
    mean, variance = d.mean(), d.variance()
    assert mean.shape == variance.shape == d.shape
    se = np.sqrt(variance / n)
    assert (np.abs(x.mean(0) - mean) <= 5 * se + 1e-12).all()
    squares = (x - mean) ** 2
    assert (np.abs(squares.mean(0) - variance) <= 6 * squares.std(0) / math.sqrt(n) + 1e-12).all()


@pytest.mark.parametrize("d", [d for d in DISTRIBUTIONS if hasattr(d, "_entropy")], ids=lambda d: type(d).__name__)
def test_entropies_are_those_of_samples(d):
    entropy = d.entropy()
    if isinstance(d, Empirical):
        assert entropy == pytest.approx(math.log(5))
        return
    assert entropy.shape == d.batch_shape
    n = 20000
    log_p = d.log_prob(d.sample(n, seed=3))
    assert log_p.shape == (n, *d.batch_shape)
    assert (np.abs(-log_p.mean(0) - entropy) <= 5 * log_p.std(0) / math.sqrt(n) + 1e-9).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda a, b: MultivariateNormalDiag(a, b.reshape(3) ** 2 + 0.5),
        lambda a, b: MultivariateNormalDiag(a, b**2 + 0.5),
        lambda a, b: Mixture(
            Categorical(logits=a[:2]), [Normal(a[0], 1.0, shape=(4, 3)), Normal(b, 2.0, shape=(4, 3))]
        ),
        lambda a, b: MixtureSameFamily(Categorical(logits=a), Normal(b, 1.5, shape=(4, 3))),
        lambda a, b: MixtureSameFamily(
            Categorical(probs=a**2 / (a**2).sum()), MultivariateNormalDiag(b[:, None] * np.ones((5, 3, 2)))
        ),
        lambda a, b: HiddenMarkov(
            Categorical(probs=a**2 / (a**2).sum()),
            Categorical(logits=a[:, None] * b),
            Normal(b, b**2 + 0.5, shape=(2, 4, 3)),
            lengths=[4, 2],
        ),
        lambda a, b: HiddenMarkov(
            Categorical(logits=a * np.ones((4, 1))),
            Categorical(probs=np.full((3, 3), 1 / 3)),
            MultivariateNormalDiag(b[:, None] * np.ones((4, 1, 3, 2))),
        ),
        lambda a, b: TransformedDistribution(Normal(a, b**2 + 0.5), "exp"),
        lambda a, b: TransformedDistribution(Normal(a, b**2 + 0.5), "softplus"),
        lambda a, b: TransformedDistribution(Normal(a, b**2 + 0.5), "sigmoid"),
        lambda a, b: TransformedDistribution(Normal(a, 1.0), ("affine", b, b**2 + 1.0)),
        lambda a, b: TransformedDistribution(MultivariateNormalDiag(a), ("affine", 1.0, b**2 + 1.0)),
        lambda a, b: RelaxedBernoulli(b**2 + 0.5, logits=a),
        lambda a, b: RelaxedBernoulli(b**2 + 0.5, probs=1 / (2 + a**2)),
    ],
)
@pytest.mark.parametrize(
    ("scaled", "summed", "log_q"), list(itertools.product((False, True), (True, False), (True, False)))
)
def test_composed_densities(build, scaled, summed, log_q):
    """Gradients by differences; scaled sums from the values of log_prob."""
    rng = np.random.default_rng(8)
    a, b = Parameter(rng.standard_normal(3)), Parameter(rng.standard_normal(3))
    d = build(a, b)
    draws = 4
    x = d.sample(draws, seed=1).reshape(draws, -1)
    each = d.log_prob(x.reshape(draws, *d.shape)).reshape(draws, -1)
    factors = rng.uniform(0.5, 2.0, d.n_events)
    factors[0] = 0.0
    core = _core.Model()
    emitter = Emitter(core, {a: 0, b: 3})
    value = core.input(d.size)
    scale = core.data(factors) if scaled else None
    args = [emitter.emit(e) for e in d.inputs]
    out = d.emit_log_prob(emitter, value, args, scale=scale, summed=summed, log_q=log_q)
    flat = np.concatenate([a.value, b.value])
    noise = np.zeros((draws, 1))
    got = core.evaluate(draws, flat, noise, [x], [out])[0]
    expected = each * factors if scaled else each
    np.testing.assert_allclose(got, expected.sum(1, keepdims=True) if summed else expected, rtol=1e-12, atol=1e-12)
    cot = rng.standard_normal(got.shape)
    grad, (grad_x,) = core.pullback(draws, flat, noise, [x], out, cot)
    step = 1e-6
    for i in range(6):
        move = step * np.eye(6)[i]
        up, down = (core.evaluate(draws, flat + s * move, noise, [x], [out])[0] for s in (1, -1))
        difference = (cot * (up - down)).sum() / (2 * step)
        assert grad[i] == pytest.approx(difference, rel=1e-6, abs=1e-6)
    move = step * rng.standard_normal(x.shape) * np.minimum(np.abs(x), np.abs(1 - x))
    up, down = (core.evaluate(draws, flat, noise, [x + s * move], [out])[0] for s in (1, -1))
    assert (grad_x * move).sum() == pytest.approx((cot * (up - down)).sum() / 2, rel=1e-5, abs=1e-6 * step)
    if log_q:
        none, (same,) = core.pullback(draws, flat, noise, [x], out, cot, log_q_to_params=False)
        assert not none.any()
        np.testing.assert_allclose(same, grad_x, rtol=1e-12)
        same, (none,) = core.pullback(draws, flat, noise, [x], out, cot, log_q_to_value=False)
        assert not none.any()
        np.testing.assert_allclose(same, grad, rtol=1e-12)


def test_mixtures_are_sums_over_components():
    p = np.array([0.2, 0.0, 0.8])
    parts = [Normal(0.0, 1.0, shape=4), Normal(1.0, 2.0, shape=4), Normal(-5.0, 0.1, shape=4)]
    mixture = Mixture(Categorical(probs=p), parts)
    x = np.array([-5.0, 0.0, 30.0, -1.0])
    expected = scipy.special.logsumexp(
        [np.log(q) + c.log_prob(x) for q, c in zip(p[[0, 2]], [parts[0], parts[2]], strict=True)], 0
    )
    np.testing.assert_allclose(mixture.log_prob(x), expected, rtol=1e-13)
    same = MixtureSameFamily(Categorical(probs=p), Normal([0.0, 1.0, -5.0], [1.0, 2.0, 0.1]))
    np.testing.assert_allclose([same.log_prob(v) for v in x], expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("bijector", "expected"),
    [
        ("exp", lambda y: scipy.stats.lognorm(2.0, scale=math.exp(0.5)).logpdf(y)),
        ("softplus", lambda y: scipy.stats.norm(0.5, 2).logpdf(np.log(np.expm1(y))) - np.log(-np.expm1(-y))),
        ("sigmoid", lambda y: scipy.stats.norm(0.5, 2).logpdf(scipy.special.logit(y)) - np.log(y * (1 - y))),
        (("affine", 1.0, -3.0), lambda y: scipy.stats.norm(-0.5, 6).logpdf(y)),
    ],
)
def test_transformed_densities(bijector, expected):
    d = TransformedDistribution(Normal(0.5, 2.0), bijector)
    y = d.sample(50, seed=1)
    np.testing.assert_allclose(d.log_prob(y), expected(y), rtol=1e-11)
    if bijector[0] != "affine":
        np.testing.assert_array_equal(d.log_prob([-1.0, 0.0]), -np.inf)
        inside = {"exp": "positive", "softplus": "positive", "sigmoid": "unit_interval"}[bijector]
        assert d.support == inside


@pytest.mark.parametrize("bijector", ["exp", "softplus", "sigmoid"])
@pytest.mark.parametrize("base", [Normal(0.5, 2.0, shape=3), MultivariateNormalDiag(np.full(3, 0.5))])
def test_transformed_variables_go_back_to_all_numbers(bijector, base):
    """Their unconstrained coordinates are those of the base: each support has its own fixed transform."""
    d = TransformedDistribution(base, bijector)
    forward = {"exp": np.exp, "softplus": lambda u: np.logaddexp(0.0, u), "sigmoid": scipy.special.expit}[bijector]
    u = np.array([[-2.0, 0.1, 3.0]])
    np.testing.assert_allclose(d.space.transform(d.shape).forward(u)[0], forward(u), rtol=1e-14)
    assert d.space.contains(forward(u))
    assert not d.space.contains(-forward(u))


def test_draws_from_q():
    """emit_draw and emit_entropy of the multivariate normals, against the distribution itself."""
    rng = np.random.default_rng(9)
    tril = random_tril(rng, 2, 3)
    for q in (
        MultivariateNormalTriL(np.arange(3.0), tril),
        MultivariateNormalTriL(rng.standard_normal((2, 3)), tril[0]),
        MultivariateNormalDiag(np.arange(3.0), [[1.0, 2.0, 3.0], [0.5, 1.0, 1.5]]),
        MultivariateNormalDiag(np.zeros((2, 3)), [1.0, 2.0, 3.0]),
    ):
        core = _core.Model()
        emitter = Emitter(core, {})
        noise = core.noise(0, q.noise_size)
        args = [emitter.emit(e) for e in q.inputs]
        z = q.emit_draw(emitter, noise, args)
        factors = np.array([2.0, 0.5])
        entropies = [q.emit_entropy(emitter, args, None), q.emit_entropy(emitter, args, core.data(factors))]
        e = rng.standard_normal((5, q.noise_size))
        got, total, scaled = core.evaluate(5, np.zeros(1), e, [], [z, *entropies])
        scale = q.parameters.get("scale_tril")
        loc = q.inputs[0].value
        spread = scale.value if scale is not None else np.eye(3) * q.inputs[1].value[..., None, :]
        expected = loc + (spread @ e.reshape(5, 2, 3)[..., None])[..., 0]
        np.testing.assert_allclose(got.reshape(5, 2, 3), expected, rtol=1e-13, atol=1e-14)
        assert total.item() == pytest.approx(q.entropy().sum(), rel=1e-13)
        assert scaled.item() == pytest.approx((factors * q.entropy()).sum(), rel=1e-13)


@pytest.mark.parametrize("shared", [True, False])
def test_draws_pull_back_to_loc_and_factor(shared):
    rng = np.random.default_rng(10)
    loc, tril = rng.standard_normal(3 if shared else 6), random_tril(rng, 1 if shared else 2, 3).ravel()
    core = _core.Model()
    slots = [core.parameter(0, loc.size), core.parameter(loc.size, tril.size), core.noise(0, 6)]
    z = core.node("tril_draw", slots, 6, {"n": [2], "size": [3]})
    flat, noise, cot = np.concatenate([loc, tril]), rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    grad, _ = core.pullback(4, flat, noise, [], z, cot)
    for i in range(flat.size):
        up, down = (core.evaluate(4, flat + s * 1e-6 * np.eye(flat.size)[i], noise, [], [z])[0] for s in (1, -1))
        assert grad[i] == pytest.approx((cot * (up - down)).sum() / 2e-6, rel=1e-7, abs=1e-8)


def test_parameters_that_vary_by_draw():
    """Ancestral draws through random parameters have a draw axis before the batch's."""
    loc = MultivariateNormalDiag(np.zeros(3), shape=3)
    x = MultivariateNormalTriL(loc, 0.001 * np.eye(3), shape=(2, 3))
    assert x.sample(6, seed=1).shape == (6, 2, 3)
    p = Dirichlet([1.0, 2.0, 3.0])
    for d in (
        Categorical(probs=p, shape=4),
        OneHotCategorical(probs=p, shape=(4, 3)),
        Multinomial(5, probs=p, shape=(4, 3)),
    ):
        assert d.sample(6, seed=1).shape == (6, *d.shape)
    weights = Dirichlet([1.0, 1.0])
    centres = Normal(0.0, 10.0, shape=2)
    for m in (
        MixtureSameFamily(Categorical(probs=weights), Normal(centres, 0.1, shape=(50, 2))),
        Mixture(Categorical(probs=weights), [Normal(centres[k], 0.1, shape=50) for k in range(2)]),
    ):
        assert m.sample(6, seed=1).shape == (6, 50)
    rows = Dirichlet(np.ones((2, 2)))
    chain = HiddenMarkov(Categorical(probs=weights), Categorical(probs=rows), Normal(centres, 0.1, shape=(3, 9, 2)))
    assert chain.sample(6, seed=1).shape == (6, 3, 9)
    assert TransformedDistribution(Normal(centres, 1.0, shape=(3, 2)), "exp").sample(6, seed=2).shape == (6, 3, 2)
    assert Empirical(Normal(np.zeros((7, 2)), 1.0)).sample(6, seed=1).shape == (6, 2)


def start(*shape):
    return Categorical(np.zeros(shape))


def rows(*shape):
    return Categorical(np.zeros((*shape, shape[-1])))


def test_moments_given_draws_of_the_parameters():
    centres = Normal(0.0, 10.0, shape=2)
    value = np.array([1.0, -3.0])

    def make(c):
        yield Mixture(Categorical(probs=[0.3, 0.7]), [Normal(c[k], 1.0, shape=5) for k in range(2)])
        yield MixtureSameFamily(Categorical(probs=[0.3, 0.7]), MultivariateNormalDiag(c, shape=(5, 2, 2)))
        yield HiddenMarkov(start(2), rows(2), MultivariateNormalDiag(c, shape=(5, 4, 2, 2)))

    for variable, fixed in zip(make(centres), make(value), strict=True):
        predictive = klqp.copy(variable, {centres: value})
        np.testing.assert_allclose(predictive.mean(3), fixed.mean(), rtol=1e-14)
        given = predictive._given(3, np.random.default_rng(0), "_variance")
        np.testing.assert_allclose(given, np.broadcast_to(fixed.variance(), given.shape), rtol=1e-14)


ERRORS = [
    (lambda: Categorical(), ValueError, "exactly one of logits and probs, not neither"),
    (lambda: Categorical([0.0], probs=[1.0]), ValueError, "not both"),
    (lambda: Categorical(probs=[0.5, 0.6]), ValueError, "probs of Categorical must be simplex"),
    (lambda: Categorical(logits=0.0), ValueError, "at least 1 axes"),
    (lambda: Multinomial(2.5, probs=[0.5, 0.5]), ValueError, "total_count of Multinomial must be integers"),
    (lambda: Dirichlet([1.0, -1.0]), ValueError, "concentration of Dirichlet must be positive"),
    (lambda: Dirichlet(1.0), ValueError, "at least 1 axes"),
    (lambda: Dirichlet([1.0, 1.0], shape=3), ValueError, "does not fit"),
    (lambda: OrderedLogistic([1.0, 0.0], 0.0), ValueError, "cutpoints of OrderedLogistic must be ordered"),
    (lambda: MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0, 1.0]), ValueError, "scale_diag of MultivariateNormalDiag"),
    (lambda: MultivariateNormalTriL([0.0, 0.0], np.eye(3)), ValueError, "loc of MultivariateNormalTriL must end"),
    (lambda: MultivariateNormalTriL([0.0, 0.0], [1.0, 1.0]), ValueError, "square matrices"),
    (lambda: MultivariateNormalTriL(0.0, np.ones((2, 2))), ValueError, "scale_tril of MultivariateNormalTriL must be"),
    (lambda: MultivariateNormalTriL(0.0, np.ones((2, 3))), ValueError, "square matrices"),
    (lambda: MultivariateNormalFullCovariance(0.0, -np.eye(2)), ValueError, "must be covariance"),
    (lambda: MultivariateNormalDiagPlusLowRank(0.0, 1.0, [1.0, 2.0]), ValueError, "must be matrices"),
    (lambda: LKJCholesky(0), ValueError, "dimension"),
    (lambda: LKJCholesky(2, -1.0), ValueError, "concentration"),
    (lambda: Wishart(3.0), ValueError, "exactly one of scale and scale_tril, not neither"),
    (lambda: Wishart(1.5, np.eye(3)), ValueError, "df of Wishart must be above 2"),
    (lambda: Mixture(Normal(), [Normal()]), TypeError, "must be a Categorical"),
    (lambda: Mixture(Categorical([0.0, 0.0]), [Normal()]), ValueError, "needs 2 components"),
    (lambda: Mixture(Categorical([0.0, 0.0]), [Normal(), 3]), TypeError, "must be distributions"),
    (lambda: Mixture(Categorical([0.0, 0.0]), [Normal(), Normal(shape=2)]), ValueError, "one shape"),
    (
        lambda: Mixture(Categorical([0.0, 0.0]), [Normal(), TransformedDistribution(Normal(), "exp")]),
        ValueError,
        "support",
    ),
    (lambda: MixtureSameFamily(Categorical([0.0, 0.0]), Normal(shape=3)), ValueError, "last axis"),
    (lambda: MixtureSameFamily(Categorical(np.zeros((3, 2))), Normal(shape=2)), ValueError, "batch shape"),
    (lambda: HiddenMarkov(Normal(), rows(2), Normal(shape=(3, 2))), TypeError, "initial of .* must be a Categorical"),
    (
        lambda: HiddenMarkov(start(2), Normal(), Normal(shape=(3, 2))),
        TypeError,
        "transition of .* must be a Categorical",
    ),
    (lambda: HiddenMarkov(start(2), rows(2), 3.0), TypeError, "emission of HiddenMarkov must be distributions"),
    (lambda: HiddenMarkov(start(2), rows(3), Normal(shape=(3, 2))), ValueError, "one row of 2 for each of the 2"),
    (lambda: HiddenMarkov(start(2), start(2), Normal(shape=(3, 2))), ValueError, "one row of 2 for each of the 2"),
    (lambda: HiddenMarkov(start(2), rows(2), Normal(shape=2)), ValueError, "steps and 2 states"),
    (lambda: HiddenMarkov(start(2), rows(2), Normal(shape=(2, 3))), ValueError, "steps and 2 states"),
    (lambda: HiddenMarkov(start(3, 2), rows(2), Normal(shape=(9, 2))), ValueError, "initial of .* batch shape"),
    (lambda: HiddenMarkov(start(2), rows(4, 2), Normal(shape=(3, 9, 2))), ValueError, "transition of .* batch shape"),
    (lambda: HiddenMarkov(start(2), rows(2), Normal(shape=(3, 9, 2)), lengths=9), ValueError, "batch's shape"),
    (lambda: HiddenMarkov(start(2), rows(2), Normal(shape=(9, 2)), lengths=10), ValueError, "integers from 1 to 9"),
    (lambda: HiddenMarkov(start(2), rows(2), Normal(shape=(9, 2)), lengths=0), ValueError, "integers from 1 to 9"),
    (lambda: TransformedDistribution(Normal(), "tanh"), ValueError, "bijector must be"),
    (lambda: TransformedDistribution(Normal(), ("affine", 0.0, 0.0)), ValueError, "must not be 0"),
    (lambda: TransformedDistribution(Normal(), ("affine", [0.0, 1.0], 1.0)), ValueError, "has shape"),
    (lambda: TransformedDistribution(Categorical([0.0]), "exp"), TypeError, "discrete"),
    (lambda: TransformedDistribution(Dirichlet([1.0, 1.0]), "exp"), ValueError, "cannot be transformed"),
    (lambda: Empirical(1.0), ValueError, "axis of points"),
    (lambda: Empirical([1.0, 2.0]).log_prob(1.0), TypeError, "no density"),
]


@pytest.mark.parametrize(("build", "error", "match"), ERRORS)
def test_bad_arguments_are_named(build, error, match):
    with pytest.raises(error, match=match):
        build()


def test_transforms_of_vectors():
    """A transformed vector is latent: its support has a transform of its own."""
    d = TransformedDistribution(MultivariateNormalDiag(np.zeros(3)), "exp")
    assert d.support == "positive"
    assert d.space.transform(d.shape).n_unconstrained == 3
    for d in DISTRIBUTIONS:
        if not d.discrete:
            assert d.space.transform(d.shape).n_constrained == d.size
