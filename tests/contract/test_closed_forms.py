"""Entropies and divergences by their formulas: against NumPy, quadrature, sums and many digits; gradients of all."""

import itertools

import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, special

import klqp
from klqp import _core
from klqp.model.distributions.entropy import EntropyByFormula
from klqp.model.distributions.events_registry import EVENT_DISTRIBUTIONS
from klqp.model.distributions.registry import DISTRIBUTIONS
from klqp.model.divergences import DIVERGENCES, divergence, has_divergence, known_pairs
from klqp.model.emitter import Emitter
from klqp.model.parameter import placeholder

N_DRAWS = 3
TRIL = np.array([[1.2, 0.0], [-0.4, 0.7]])

# An example of the parameters of each distribution of vectors, for each way to give them.
EVENTS = {
    klqp.Categorical: ({"logits": np.array([0.3, -1.2, 0.8])}, {"probs": np.array([0.2, 0.5, 0.3])}),
    klqp.OneHotCategorical: ({"logits": np.array([0.3, -1.2, 0.8])}, {"probs": np.array([0.2, 0.5, 0.3])}),
    klqp.Dirichlet: ({"concentration": np.array([2.5, 1.7, 3.1])},),
    klqp.MultivariateNormalDiag: ({"loc": np.array([0.3, -0.5]), "scale_diag": np.array([0.6, 1.4])},),
    klqp.MultivariateNormalTriL: ({"loc": np.array([0.1, 0.8]), "scale_tril": TRIL},),
    klqp.MultivariateNormalFullCovariance: ({"loc": np.array([-0.2, 0.4]), "covariance_matrix": TRIL @ TRIL.T},),
}
EXAMPLES = {row.distribution: row.examples for row in DISTRIBUTIONS} | EVENTS

# Distributions whose entropy has no formula in the functions of expressions.
NO_FORMULA = {klqp.VonMises, klqp.Binomial, klqp.BetaBinomial, klqp.Poisson, klqp.NegativeBinomial}
NO_FORMULA |= {klqp.Empirical, klqp.PointMass, klqp.LKJCholesky, klqp.Wishart, klqp.Mixture, klqp.MixtureSameFamily}
NO_FORMULA |= {klqp.Multinomial, klqp.OrderedLogistic, klqp.TransformedDistribution}
NO_FORMULA |= {klqp.MultivariateNormalDiagPlusLowRank, klqp.HiddenMarkov}
NO_FORMULA |= {klqp.RelaxedBernoulli, klqp.RelaxedOneHotCategorical}

KINDS = [row.distribution for row in DISTRIBUTIONS] + list(EVENT_DISTRIBUTIONS)
CASES = [
    pytest.param(kind, example, id=f"{kind.__name__}-{'-'.join(example)}")
    for kind in KINDS
    if kind not in NO_FORMULA
    for example in EXAMPLES[kind]
]
each_case = pytest.mark.parametrize(("kind", "example"), CASES)


def varied(kind, example, rng, lead=()):
    """Return legal parameters near an example, of a shape with further leading axes."""
    out = {}
    for key, value in example.items():
        x = np.broadcast_to(value, (*lead, *np.shape(value)))
        x = x * rng.uniform(0.8, 1.25, x.shape)
        space = kind.parameter_supports[key].name
        if space == "simplex":
            x = x / x.sum(-1, keepdims=True)
        if space == "covariance":
            x = (x + np.swapaxes(x, -1, -2)) / 2
        out[key] = x
    return out


class Program:
    """One number, or one for each event, as a function of the parameters of distributions, which are inputs.

    `build` takes the distributions and returns their expression, or a function of an emitter and the arrays of the
    parameters that adds nodes.
    """

    def __init__(self, kinds, shapes, build, shape=None):
        self.core = _core.Model()
        self.emitter = Emitter(self.core, {})
        made = []
        for kind, own in zip(kinds, shapes, strict=True):
            inputs = {key: placeholder(s) for key, s in own.items()}
            for e in inputs.values():
                self.emitter.arrays[e] = self.core.input(e.size)
            made.append(kind(**inputs, shape=shape))
        self.variables = made
        self.slot = build(self, *made)

    def args(self, variable):
        return [self.emitter.emit(e) for e in variable.inputs]

    def value(self, inputs):
        n = len(inputs[0])
        flat = [np.ascontiguousarray(x.reshape(n, -1)) for x in inputs]
        return self.core.evaluate(n, np.zeros(1), np.zeros((n, 1)), flat, [self.slot])[0]

    def gradients(self, inputs):
        n, out = len(inputs[0]), self.value(inputs)
        flat = [np.ascontiguousarray(x.reshape(n, -1)) for x in inputs]
        return self.core.pullback(n, np.zeros(1), np.zeros((n, 1)), flat, self.slot, np.ones(out.shape))[1]


def check_gradients(program, inputs, symmetric=()):
    """Compare gradients with differences of fourth order; of symmetric parameters along symmetric directions."""
    grads = program.gradients(inputs)
    for k, x in enumerate(inputs):
        n = len(x)
        flat = x.reshape(n, -1)
        for j in range(flat.shape[1]):
            direction = np.zeros_like(flat)
            direction[:, j] = np.maximum(np.abs(flat[:, j]), 1e-2)
            if k in symmetric:
                side = x.shape[-1]
                block, row, col = j // side**2, j // side % side, j % side
                direction[:, block * side**2 + col * side + row] = direction[:, j]

            def f(step, k=k, direction=direction, flat=flat):
                moved = [flat + step * direction if i == k else a for i, a in enumerate(inputs)]
                return program.value(moved).sum(-1)

            h = 1e-3
            slope = (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
            expected = (grads[k] * direction).sum(1)
            np.testing.assert_allclose(expected, slope, rtol=1e-7, atol=1e-8, err_msg=f"input {k}, element {j}")


def symmetric_inputs(kinds, keys):
    spaces = [kind.parameter_supports[key].name for kind, own in zip(kinds, keys, strict=True) for key in own]
    return [k for k, space in enumerate(spaces) if space == "covariance"]


# --- entropies -------------------------------------------------------------------------------------------------
def test_every_distribution_has_an_entropy_by_formula_or_none():
    assert {kind for kind in KINDS if not issubclass(kind, EntropyByFormula)} == NO_FORMULA


@each_case
@pytest.mark.parametrize("factors", [None, "one", "each"])
@pytest.mark.parametrize("layout", ["single", "repeated", "crossed"])
def test_entropies(kind, example, factors, layout):
    """For parameters that vary by draw: one, one repeated over a batch, and batches of their own that broadcast."""
    rng = np.random.default_rng(1)
    batch = () if layout == "single" else (2, 3)
    lead = dict.fromkeys(example, ())
    if layout == "crossed":
        lead = {key: [(2, 1), (3,)][k % 2] for k, key in enumerate(example)}
    parts = {key: varied(kind, {key: value}, rng, (N_DRAWS, *lead[key]))[key] for key, value in example.items()}
    event = kind(**example).event_shape
    n_events = int(np.prod(batch, dtype=int))
    weights = {None: None, "one": np.array([1.7]), "each": rng.uniform(0.5, 2.0, n_events)}[factors]

    def build(program, variable):
        scale = None if weights is None else program.core.data(weights)
        return variable.emit_entropy(program.emitter, program.args(variable), scale)

    program = Program([kind], [{key: x.shape[1:] for key, x in parts.items()}], build, batch + event)
    got = program.value(list(parts.values()))
    assert got.shape == (N_DRAWS, 1)
    for s in range(N_DRAWS):
        each = kind(**{key: x[s] for key, x in parts.items()}, shape=batch + event).entropy().ravel()
        expected = (each * (1.0 if weights is None else weights)).sum()
        assert got[s, 0] == pytest.approx(expected, rel=1e-12, abs=1e-13)
    check_gradients(program, list(parts.values()), symmetric_inputs([kind], [parts]))


def test_entropies_of_other_arrays_than_the_emitters():
    """The arrays that are given count, not those the emitter knows for the parameters."""
    rate = placeholder(())
    core = _core.Model()
    emitter = Emitter(core, {})
    emitter.arrays[rate] = core.data(np.array(3.0))
    slot = klqp.Exponential(rate).emit_entropy(emitter, [core.data(np.array(0.5))], None)
    value = core.evaluate(1, np.zeros(1), np.zeros((1, 1)), [], [slot])[0]
    assert value.item() == pytest.approx(1 - np.log(0.5))


def test_entropies_at_the_ends():
    """Probabilities 0 and 1, and logits that underflow: no NaN in values nor gradients."""
    rows = [
        (klqp.Bernoulli, {"probs": [0.0, 1.0, 1e-300]}, [0.0, 0.0, 1e-300 * (1 + 300 * np.log(10))]),
        (klqp.Bernoulli, {"logits": [50.0, -50.0, 0.0]}, [51 * np.exp(-50), 51 * np.exp(-50), np.log(2)]),
        (klqp.Geometric, {"probs": [1.0, 1e-9]}, [0.0, 1 + 9 * np.log(10)]),
        (klqp.Geometric, {"logits": [50.0, -50.0]}, [51 * np.exp(-50), 51.0]),
        (klqp.Categorical, {"probs": [[0.0, 1.0], [0.5, 0.5]]}, [0.0, np.log(2)]),
        (klqp.Categorical, {"logits": [[0.0, 50.0], [-800.0, 0.0]]}, [51 * np.exp(-50), 0.0]),
    ]
    for kind, parameters, expected in rows:
        inputs = [np.array(x)[None] for x in parameters.values()]
        shapes = [{key: np.shape(x) for key, x in parameters.items()}]
        for i, value in enumerate(expected):
            weights = np.eye(len(expected))[i]

            def build(program, variable, weights=weights):
                scale = program.core.data(weights)
                return variable.emit_entropy(program.emitter, program.args(variable), scale)

            program = Program([kind], shapes, build)
            assert program.value(inputs).item() == pytest.approx(
                value, rel=1e-8, abs=1e-16 if kind is klqp.Categorical else 1e-320
            )
            assert np.isfinite(program.gradients(inputs)[0]).all()


# --- divergences -----------------------------------------------------------------------------------------------
PAIRS = [
    pytest.param(q, a, p, b, id=f"{q.__name__}-{'-'.join(a)}-{p.__name__}-{'-'.join(b)}")
    for kinds, _ in DIVERGENCES
    for q, p in itertools.product(kinds, kinds)
    for a, b in itertools.product(EXAMPLES[q], EXAMPLES[p])
]
each_pair = pytest.mark.parametrize(("q", "a", "p", "b"), PAIRS)


def normal_vector(d):
    """Return mean and covariance of a normal vector."""
    values = {key: e.value for key, e in d.parameters.items()}
    if "scale_diag" in values:
        return values["loc"], np.diag(values["scale_diag"] ** 2)
    if "scale_tril" in values:
        return values["loc"], values["scale_tril"] @ values["scale_tril"].T
    return values["loc"], values["covariance_matrix"]


def by_trapezoids(f, n_axes=1):
    """Return the integral over R^n of a function that decays doubly exponentially, or by exp(-|u|)."""
    u = np.linspace(-45, 45, 1201)
    grids = np.meshgrid(*[u] * n_axes, indexing="ij")
    return f(*grids).sum() * (u[1] - u[0]) ** n_axes


def by_quadrature(q, p):
    """Return KL(q || p) from log densities alone, or for normal vectors from their covariances."""
    if q.discrete:
        one_hot = isinstance(q, klqp.OneHotCategorical)
        k = 2 if isinstance(q, klqp.Bernoulli) else q.inputs[0].shape[-1]
        x = np.eye(k) if one_hot else np.arange(float(k))
        with np.errstate(all="ignore"):
            return (np.exp(q.log_prob(x)) * (q.log_prob(x) - p.log_prob(x))).sum()
    if q.support == "real" and q.event_shape:
        (m, s), (n, t) = normal_vector(q), normal_vector(p)
        logs = np.linalg.slogdet(t)[1] - np.linalg.slogdet(s)[1]
        return 0.5 * (np.trace(np.linalg.solve(t, s)) + (n - m) @ np.linalg.solve(t, n - m) - len(m) + logs)
    if q.support == "simplex":

        def cell(u, v):
            x, y = special.expit(u), special.expit(v)
            z = np.stack([x, (1 - x) * y, special.expit(-u) * special.expit(-v)], -1)
            z = z / z.sum(-1, keepdims=True)
            jacobian = x * special.expit(-u) ** 2 * y * special.expit(-v)
            with np.errstate(all="ignore"):
                f = np.exp(q.log_prob(z)) * (q.log_prob(z) - p.log_prob(z)) * jacobian
            return np.where(np.isfinite(f), f, 0.0)

        return by_trapezoids(cell, 2)
    if q.support == "real":
        ends = sorted(float(d.parameters["loc"].value) for d in (q, p))

        def line(x):
            return float(np.exp(q.log_prob(x)) * (q.log_prob(x) - p.log_prob(x)))

        pieces = [-40.0, *ends, 40.0]
        return sum(
            integrate.quad(line, *piece, epsabs=1e-13, epsrel=1e-12, limit=400)[0]
            for piece in itertools.pairwise(pieces)
        )
    to, slope = (
        (np.exp, np.exp) if q.support == "positive" else (special.expit, lambda u: special.expit(u) * special.expit(-u))
    )

    def half_line(u):
        with np.errstate(all="ignore"):
            f = np.exp(q.log_prob(to(u))) * (q.log_prob(to(u)) - p.log_prob(to(u))) * slope(u)
        return np.where(np.isfinite(f), f, 0.0)

    return by_trapezoids(half_line)


def divergence_program(q, a, p, b, shape=None):
    def build(program, first, second):
        return program.emitter.emit(divergence(first, second))

    return Program([q, p], [{key: np.shape(x) for key, x in own.items()} for own in (a, b)], build, shape)


@each_pair
def test_divergences(q, a, p, b):
    """Of parameters that vary by draw, in both arguments; zero where both are the same."""
    rng = np.random.default_rng(3)
    drawn = [varied(kind, own, rng, (N_DRAWS,)) for kind, own in ((q, a), (p, b))]
    inputs = [x for own in drawn for x in own.values()]
    program = divergence_program(q, a, p, b)
    got = program.value(inputs)
    for s in range(N_DRAWS):
        first, second = (kind(**{key: x[s] for key, x in own.items()}) for kind, own in zip((q, p), drawn, strict=True))
        assert got[s, 0] == pytest.approx(by_quadrature(first, second), rel=1e-9)
    check_gradients(program, inputs, symmetric_inputs((q, p), (a, b)))


@each_pair
def test_divergences_over_a_batch(q, a, p, b):
    """One number for each event, for parameters of shapes that broadcast."""
    rng = np.random.default_rng(4)
    shape = (2, 3, *q(**a).event_shape)
    leads = [(2, 1), (3,), (), (2, 3)]
    first = {key: varied(q, {key: x}, rng, leads[k])[key] for k, (key, x) in enumerate(a.items())}
    second = {key: varied(p, {key: x}, rng, leads[-1 - k])[key] for k, (key, x) in enumerate(b.items())}
    kl = divergence(q(**first, shape=shape), p(**second, shape=shape))
    assert kl.shape == (2, 3)
    program = divergence_program(q, first, p, second, shape)
    got = program.value([x[None] for x in (*first.values(), *second.values())]).reshape(2, 3)

    def at(kind, parameters, i, j):
        own = {}
        for key, x in parameters.items():
            width = kind.parameter_supports[key].event_ndim
            own[key] = np.broadcast_to(x, (2, 3, *x.shape[x.ndim - width :]))[i, j]
        return kind(**own)

    for i, j in itertools.product(range(2), range(3)):
        alone = divergence(at(q, first, i, j), at(p, second, i, j))
        core = _core.Model()
        slot = Emitter(core, {}).emit(alone)
        expected = core.evaluate(1, np.zeros(1), np.zeros((1, 1)), [], [slot])[0].item()
        assert got[i, j] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "example"), [c for c in CASES if any(c.values[0] in kinds for kinds, _ in DIVERGENCES)]
)
def test_the_divergence_from_itself_is_zero(kind, example):
    program = divergence_program(kind, example, kind, example)
    inputs = [np.array(x, float)[None] for x in (*example.values(), *example.values())]
    assert abs(program.value(inputs).item()) < 1e-14
    for grad in program.gradients(inputs):
        assert np.abs(grad).max() < 1e-14


def test_pairs_without_a_formula():
    assert divergence(klqp.Normal(), klqp.Laplace()) is None
    assert divergence(klqp.Normal(shape=2), klqp.Normal(shape=3)) is None
    assert not has_divergence(klqp.Normal(), klqp.LogNormal())
    assert has_divergence(klqp.Exponential(), klqp.Gamma(2.0))
    assert "Dirichlet" in known_pairs()


# --- extreme parameters, to many digits ----------------------------------------------------------------------------
def mp_excess(x, y):
    return mp.loggamma(x) - mp.loggamma(y) - (x - y) * mp.digamma(y)


def mp_gamma(a, b, c, d):
    return mp_excess(c, a) + c * mp.log(b / d) + a * (d / b - 1)


def mp_beta(a, b, c, d):
    return mp_excess(c, a) + mp_excess(d, b) - mp_excess(c + d, a + b)


def mp_bernoulli(a, b):
    p, n = 1 / (1 + mp.exp(-a)), 1 / (1 + mp.exp(a))
    return p * mp.log(p * (1 + mp.exp(-b))) + n * mp.log(n * (1 + mp.exp(b)))


def mp_categories(a, b, c, d):
    """Of logits (a, b) and (c, d)."""
    return mp_bernoulli(b - a, d - c)


def mp_laplace(m, s, n, t):
    return mp.log(t / s) + (s * mp.exp(-abs(m - n) / s) + abs(m - n)) / t - 1


SIZES = (1e-3, 0.7, 1e6)
GAMMAS = [(a, 1.3, c, d) for a in SIZES for c in (1e-3, 2.5, 1.1e6) for d in (0.2, 900.0)]
BETAS = [(a, b, c, d) for a, b in itertools.product(SIZES, SIZES) for c, d in ((1e-3, 2.0), (1.2e6, 0.4), (3.0, 1e5))]
LOGITS = [(a, b) for a in (-50.0, -1.0, 0.0, 50.0) for b in (-50.0, 0.5, 49.0)]
EXTREMES = [
    (klqp.Gamma, ("concentration", "rate"), mp_gamma, GAMMAS),
    (klqp.InverseGamma, ("concentration", "scale"), mp_gamma, GAMMAS),
    (klqp.Beta, ("concentration1", "concentration0"), mp_beta, BETAS),
    (klqp.Dirichlet, ("concentration",), mp_beta, BETAS),
    (klqp.Bernoulli, ("logits",), mp_bernoulli, LOGITS),
    (klqp.Categorical, ("logits",), mp_categories, [(0.0, a, 30.0, 30.0 + b) for a, b in LOGITS]),
    (klqp.Laplace, ("loc", "scale"), mp_laplace, [(1.0, s, n, t) for s in SIZES for n in (-1e3, 1.0) for t in SIZES]),
]


@pytest.mark.parametrize(("kind", "keys", "exact", "points"), EXTREMES, ids=lambda v: getattr(v, "__name__", ""))
def test_divergences_of_extreme_parameters(kind, keys, exact, points):
    """Within 1e-9, or the rounding of the largest terms: log Gamma(a) ~ a log a."""
    width = len(points[0]) // 2 // len(keys)
    example = {key: np.zeros(width) if kind in EVENTS else np.zeros(()) for key in keys}
    program = divergence_program(kind, example, kind, example)
    for point in points:
        inputs = [np.array(x)[None] for x in np.reshape(point, (2 * len(keys), width))]
        got, grads = program.value(inputs).item(), np.concatenate([g.ravel() for g in program.gradients(inputs)])
        with mp.workdps(60):
            x = [mp.mpf(v) for v in point]
            value = float(exact(*x))
            slope = [
                0.0
                if kind is klqp.Laplace and k % 2 == 0 and x[0] == x[2]
                else float(mp.diff(lambda t, k=k, x=x: exact(*x[:k], t, *x[k + 1 :]), x[k], h=mp.mpf(10) ** -25))
                for k in range(len(x))
            ]
        terms = 4 * (1 + sum(abs(v) * (1 + abs(np.log(abs(v) + 1e-9))) for v in point)) * (1 + abs(value))
        assert got == pytest.approx(value, rel=1e-9, abs=2.0**-52 * terms), point
        np.testing.assert_allclose(grads, slope, rtol=1e-7, atol=1e-14, err_msg=str(point))


@pytest.mark.parametrize("a", [1e-3, 0.1, 3.9, 50.0, 1e4, 1e6])
def test_slopes_of_entropies_of_extreme_parameters(a):
    """d/da of Gamma's entropy, 1 + (1 - a) trigamma(a), is of the order of 1/a: the sum of two ones."""

    def build(program, variable):
        return variable.emit_entropy(program.emitter, program.args(variable), None)

    program = Program([klqp.Gamma], [{"concentration": (), "rate": ()}], build)
    slope = program.gradients([np.array([a]), np.array([1.0])])[0].item()
    with mp.workdps(40):
        assert slope == pytest.approx(float(1 + (1 - mp.mpf(a)) * mp.psi(1, mp.mpf(a))), rel=1e-7)


def test_divergences_at_the_ends():
    """What q never gives costs nothing, whatever p says of it; what p never gives costs infinity."""
    rows = [
        ([0.0], [0.0], 0.0),
        ([1.0], [1.0], 0.0),
        ([0.0], [0.25], -np.log(0.75)),
        ([1.0], [0.25], -np.log(0.25)),
        ([0.5], [0.0], np.inf),
    ]
    program = divergence_program(klqp.Bernoulli, {"probs": np.zeros(1)}, klqp.Bernoulli, {"probs": np.zeros(1)})
    for q, p, expected in rows:
        inputs = [np.array([q]), np.array([p])]
        assert program.value(inputs).item() == pytest.approx(expected)
        if np.isfinite(expected):
            assert all(np.isfinite(g).all() for g in program.gradients(inputs))
    three = {"probs": np.zeros(3)}
    program = divergence_program(klqp.Categorical, three, klqp.Categorical, three)
    inputs = [np.array([[0.0, 0.5, 0.5]]), np.array([[0.0, 0.25, 0.75]])]
    assert program.value(inputs).item() == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert all(np.isfinite(g).all() for g in program.gradients(inputs))


# --- in an inference -----------------------------------------------------------------------------------------------
QS = [
    (klqp.Normal(0.4, 1.5, shape=(2, 3)), lambda: klqp.Normal(klqp.Parameter(np.full((2, 3), 0.7)), 0.6)),
    (klqp.LogNormal(0.4, 1.5, shape=(2, 3)), lambda: klqp.LogNormal(0.7, klqp.Parameter(np.full((2, 3), 0.6)))),
    (klqp.Laplace(0.4, 1.5, shape=(2, 3)), lambda: klqp.Laplace(klqp.Parameter(np.full((2, 3), 0.7)), 0.6)),
    (klqp.Gamma(0.4, 1.5, shape=(2, 3)), lambda: klqp.Exponential(klqp.Parameter(np.full((2, 3), 0.7), "positive"))),
    (
        klqp.MultivariateNormalTriL([0.4, 1.0], TRIL, shape=(2, 3, 2)),
        lambda: klqp.MultivariateNormalDiag(klqp.Parameter(np.full((2, 3, 2), 0.3)), [0.6, 0.9]),
    ),
]
each_q = pytest.mark.parametrize(("z", "make_q"), QS, ids=lambda v: type(v).__name__)


def first_loss(inference, **options):
    """Return the loss of the first step."""
    inference.run(n_iter=1, n_samples=4, n_print=0, seed=1, **options)
    return inference.losses[0]


def exact_divergence(q, p):
    core = _core.Model()
    emitter = Emitter(core, {e: 0 for e in q.inputs if isinstance(e, klqp.Parameter)})
    flat = next(e.unconstrained for e in q.inputs if isinstance(e, klqp.Parameter))
    slot = emitter.emit(divergence(q, p))
    return core.evaluate(1, flat, np.zeros((1, 1)), [], [slot])[0].reshape(p.batch_shape)


@each_q
@pytest.mark.parametrize("cls", [klqp.KLqp, klqp.ReparameterizationKLKLqp, klqp.ScoreKLKLqp])
def test_losses_hold_the_divergence(z, make_q, cls):
    """With a likelihood whose factor is 0 the loss is the divergence, each event's times its two factors."""
    q = make_q()
    each = exact_divergence(q, z)
    x = klqp.Normal(klqp.sum(z), 1.0)
    rng = np.random.default_rng(5)
    by_kl, by_scale = rng.uniform(0.5, 2, each.shape), rng.uniform(0.5, 2, each.shape)
    loss = first_loss(cls({z: q}, data={x: np.array(0.0)}), scale={x: 0.0, z: by_scale}, kl_scaling={z: by_kl})
    assert loss == pytest.approx((each * by_kl * by_scale).sum(), rel=1e-12)


@pytest.mark.parametrize("how", ["listed after", "listed before", "unlisted", "conditional"])
@pytest.mark.parametrize("cls", [klqp.KLqp, klqp.ScoreKLqp])
def test_divergences_are_conditional_on_drawn_parents(cls, how):
    """The prior's location is drawn, here without any spread worth the name, wherever it comes from."""
    loc = klqp.Normal(1.5, 1e-9)
    z = klqp.LogNormal(loc, 2.0)
    q = klqp.LogNormal(klqp.Parameter(0.7), 0.6)
    expected = exact_divergence(q, klqp.LogNormal(1.5, 2.0)).item()
    x = klqp.Normal(z, 1.0)
    pairs, data, scale = [(z, q)], {x: np.array(0.0)}, {x: 0.0}
    if how.startswith("listed"):
        pairs.insert(1 if how.endswith("after") else 0, (loc, klqp.Normal(klqp.Parameter(1.5), 1e-9)))
    if how == "conditional":
        data[loc] = klqp.Normal(1.5, 1e-9)
    if how != "unlisted":
        scale[loc] = 0.0
    loss = first_loss(cls(dict(pairs), data=data), scale=scale, kl_scaling={z: 1.0})
    assert loss == pytest.approx(expected, rel=1e-8)


def test_divergences_given_a_discrete_parent():
    """The divergence stands in the weight of the score of what it depends on: no states are summed over."""
    b = klqp.Bernoulli(probs=0.4, name="b")
    z = klqp.Normal(3.0 * b, 1.0, name="z")
    x = klqp.Normal(z, 1.0)
    logits = klqp.Parameter(0.0)
    q = {b: klqp.Bernoulli(logits=logits), z: klqp.Normal(klqp.Parameter(0.5), klqp.Parameter(1.0, "positive"))}
    inference = klqp.KLqp(q, data={x: np.array(1.5)})
    inference.run(n_iter=3000, n_samples=32, n_print=0, seed=1, kl_scaling={z: 1.0})
    assert "score" in inference.estimator
    # The optimum by iteration: q(z) has mean (3 E[b] + 1.5) / 2 and variance 1/2; log odds of q(b) follow from it.
    mean, chance = 1.5, 0.5
    for _ in range(200):
        mean = (3.0 * chance + 1.5) / 2
        chance = special.expit(np.log(0.4 / 0.6) - ((mean - 3.0) ** 2 - mean**2) / 2)
    assert inference.posterior[z].mean() == pytest.approx(mean, abs=0.03)
    assert special.expit(logits.value) == pytest.approx(chance, abs=0.03)
