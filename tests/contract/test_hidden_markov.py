"""Hidden Markov chains: against sums over all paths, complex differences of a twin in logarithms, and extremes."""

import itertools
import math

import numpy as np
import pytest
from scipy import special

import klqp
from klqp import _core

STEP = 1e-30


# --- what it is, apart from klqp -----------------------------------------------------------------------------------
def log_softmax(x):
    most = x.real.max(-1, keepdims=True)
    return x - most - np.log(np.exp(x - most).sum(-1, keepdims=True))


def log_weights(theta, probs):
    with np.errstate(divide="ignore"):
        return np.log(theta / theta.sum(-1, keepdims=True)) if probs else log_softmax(theta)


def over_paths(log_first, log_next, b):
    """Log density of one sequence b (T, K) as a sum over all K**T paths, and the probabilities (T, K) of its states."""
    n_steps, n_states = b.shape
    paths = np.array(list(itertools.product(range(n_states), repeat=n_steps)))
    each = log_first[paths[:, 0]] + b[np.arange(n_steps), paths].sum(1) + log_next[paths[:, :-1], paths[:, 1:]].sum(1)
    total = special.logsumexp(each)
    share = np.exp(each - total)
    return total, np.array([[share[paths[:, t] == k].sum() for k in range(n_states)] for t in range(n_steps)])


def log_sum_exp(x, axis):
    most = x.real.max(axis, keepdims=True)
    most = np.where(np.isfinite(most), most, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x - most).sum(axis)) + np.squeeze(most, axis)


def recursion(log_first, log_next, b):
    """Log density of one sequence by the forward algorithm, in logarithms; complex numbers go through."""
    a = log_first + b[0]
    for row in b[1:]:
        a = log_sum_exp(a[:, None] + log_next, 0) + row
    return log_sum_exp(a, 0)


# --- the node ------------------------------------------------------------------------------------------------------
DATA, SHARED, PER_DRAW = "data", "shared", "per_draw"


class Built:
    """Chains whose first-state weights, transition weights and emissions are data, parameters or inputs."""

    def __init__(self, values, kinds, n_states, lengths, probs, draws, log_q=False):
        self.values, self.kinds, self.n_states, self.lengths = values, kinds, n_states, lengths
        self.probs, self.draws, self.n = probs, draws, len(lengths)
        self.rows = draws if PER_DRAW in kinds else 1
        self.core = _core.Model()
        slots, self.inputs, shared, at = [], [], [], 0
        for value, kind in zip(values, kinds, strict=True):
            if kind == DATA:
                slots.append(self.core.data(value))
            elif kind == SHARED:
                slots.append(self.core.parameter(at, value.size))
                shared.append(value.ravel())
                at += value.size
            else:
                slots.append(self.core.input(value[0].size))
                self.inputs.append(value.reshape(draws, -1))
        options = {"size": [n_states], "lengths": list(lengths), "first_probs": [probs[0]], "next_probs": [probs[1]]}
        self.out = self.core.node("hidden_markov", slots, self.n, options | {"log_q": [int(log_q)]})
        self.flat = np.concatenate(shared) if shared else np.zeros(1)
        self.noise = np.zeros((draws, 1))

    def value(self):
        return self.core.evaluate(self.draws, self.flat, self.noise, self.inputs, [self.out])[0]

    def pullback(self, cot, **flags):
        """Return the cotangent of each input that is not data, of its value's shape."""
        grad, drawn = self.core.pullback(self.draws, self.flat, self.noise, self.inputs, self.out, cot, **flags)
        found, drawn, at = [], iter(drawn), 0
        for value, kind in zip(self.values, self.kinds, strict=True):
            if kind == PER_DRAW:
                found.append(next(drawn).reshape(value.shape))
            elif kind == SHARED:
                found.append(grad[at : at + value.size].reshape(value.shape))
                at += value.size
            else:
                found.append(None)
        return found

    def twin(self, values, chain=recursion):
        out = np.zeros((self.rows, self.n), np.result_type(*values))
        for s, i in itertools.product(range(self.rows), range(self.n)):
            first, following, b = (v[s] if k == PER_DRAW else v for v, k in zip(values, self.kinds, strict=True))
            first = first.reshape(-1, self.n_states)
            following = following.reshape(-1, self.n_states, self.n_states)
            logs = [log_weights(w[min(i, len(w) - 1)], p) for w, p in zip((first, following), self.probs, strict=True)]
            found = chain(*logs, b.reshape(self.n, -1, self.n_states)[i, : self.lengths[i]])
            out[s, i] = found[0] if isinstance(found, tuple) else found
        return out


def make(rng, n_states, n_steps, lengths, probs, kinds, draws, per_sequence=(False, False), spread=2.0, log_q=False):
    values = []
    widths = [(n_states,), (n_states, n_states), (n_steps, n_states)]
    for k, (width, kind) in enumerate(zip(widths, kinds, strict=True)):
        shape = ((draws,) if kind == PER_DRAW else ()) + ((len(lengths),) if k == 2 or per_sequence[k] else ()) + width
        positive = k < 2 and probs[k]
        values.append(rng.uniform(0.1, 2.0, shape) if positive else spread * rng.standard_normal(shape))
    return Built(values, kinds, n_states, lengths, probs, draws, log_q)


def check_pullback(built, rng, tolerance=1e-12):
    """Derivatives along random directions, in which weights of 0 stay so."""
    cot = rng.standard_normal((built.rows, built.n))
    got = built.pullback(cot)
    for k, found in enumerate(got):
        if found is None:
            continue
        for _ in range(3):
            direction = rng.standard_normal(found.shape)
            if k < 2 and built.probs[k]:
                direction *= built.values[k] > 0
            moved = [v.astype(complex) for v in built.values]
            moved[k] = moved[k] + 1j * STEP * direction
            terms = cot * built.twin(moved).imag / STEP
            scale = np.abs(terms).sum() + np.abs(found * direction).sum() + np.abs(cot).sum()
            assert abs((found * direction).sum() - terms.sum()) <= tolerance * scale


EVERY_KIND = list(itertools.product((DATA, SHARED, PER_DRAW), repeat=3))


@pytest.mark.parametrize("probs", list(itertools.product((0, 1), repeat=2)))
@pytest.mark.parametrize(("n_states", "n_steps"), [(1, 1), (1, 4), (2, 1), (2, 6), (3, 5), (4, 3)])
def test_values_are_sums_over_paths(n_states, n_steps, probs):
    rng = np.random.default_rng(n_states + 10 * n_steps)
    for kinds in EVERY_KIND:
        lengths = [n_steps, max(1, n_steps - 2), 1]
        built = make(rng, n_states, n_steps, lengths, probs, kinds, 2, rng.integers(2, size=2))
        np.testing.assert_allclose(built.value(), built.twin(built.values, over_paths), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("probs", list(itertools.product((0, 1), repeat=2)))
@pytest.mark.parametrize(("n_states", "n_steps", "spread"), [(1, 3, 1.0), (2, 9, 2.0), (3, 40, 20.0), (20, 7, 2.0)])
def test_cotangents(n_states, n_steps, spread, probs):
    rng = np.random.default_rng(n_states)
    for kinds in EVERY_KIND:
        lengths = [n_steps, n_steps - 1, 1]
        built = make(rng, n_states, n_steps, lengths, probs, kinds, 2, rng.integers(2, size=2), spread)
        np.testing.assert_allclose(built.value(), built.twin(built.values), rtol=1e-12, atol=1e-12)
        check_pullback(built, rng)


@pytest.mark.parametrize(("n", "draws"), [(300, 2), (1, 300)])
@pytest.mark.parametrize("kinds", [(SHARED, SHARED, PER_DRAW), (PER_DRAW, PER_DRAW, SHARED), (SHARED, PER_DRAW, DATA)])
def test_many_sequences_and_draws_go_in_pieces(n, draws, kinds):
    rng = np.random.default_rng(5)
    built = make(rng, 3, 8, rng.integers(1, 9, n), (0, 1), kinds, draws)
    np.testing.assert_allclose(built.value(), built.twin(built.values), rtol=1e-12, atol=1e-12)
    check_pullback(built, rng)


def test_nothing_is_read_or_said_beyond_the_length():
    rng = np.random.default_rng(6)
    built = make(rng, 3, 5, [2, 5], (0, 0), (SHARED, SHARED, PER_DRAW), 2)
    built.inputs[0].reshape(2, 2, 5, 3)[:, 0, 2:] = np.nan
    assert np.isfinite(built.value()).all()
    got = built.pullback(np.ones((2, 2)))[2]
    assert not got[:, 0, 2:].any()
    np.testing.assert_allclose(got[:, 0, :2].sum(-1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(got[:, 1].sum(-1), 1.0, rtol=1e-14)


def test_cotangents_of_log_q_go_where_the_sweep_wants_them():
    rng = np.random.default_rng(7)
    built = make(rng, 3, 5, [5, 4], (0, 0), (SHARED, PER_DRAW, PER_DRAW), 2, log_q=True)
    cot = rng.standard_normal((2, 2))
    both = built.pullback(cot)
    to_value = built.pullback(cot, log_q_to_params=False)
    assert not to_value[0].any()
    assert not to_value[1].any()
    np.testing.assert_array_equal(to_value[2], both[2])


# --- impossible paths and extremes -------------------------------------------------------------------------------
def one(first, following, b, probs=(1, 1)):
    """Return the log density of one sequence, and its derivatives by all inputs."""
    values = [np.asarray(x, float) for x in (first, following, b)]
    built = Built([v[None] for v in values], [PER_DRAW] * 3, values[0].size, [len(values[2])], probs, 1)
    grads = [g[0] for g in built.pullback(np.ones((1, 1)))]
    return built.value().item(), grads, built


LEFT_TO_RIGHT = np.array([[0.7, 0.3, 0.0], [0.0, 0.6, 0.4], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("scale", [1.0, 30.0, 400.0, 3000.0])
def test_impossible_first_states_and_transitions(scale):
    """However far the densities lie apart: where a state nearly vanishes the recursion is one in logarithms."""
    rng = np.random.default_rng(8)
    for seed in range(20):
        b = scale * np.random.default_rng(seed).standard_normal((7, 3))
        b[rng.integers(1, 7), rng.integers(2)] = -np.inf
        for first in ([1.0, 0.0, 0.0], [0.5, 0.5, 0.0]):
            value, grads, built = one(first, LEFT_TO_RIGHT, b)
            with np.errstate(divide="ignore"):
                expected, states = over_paths(np.log(first), np.log(LEFT_TO_RIGHT), b)
            assert value == pytest.approx(expected, rel=1e-13)
            assert all(np.isfinite(g).all() for g in grads)
            np.testing.assert_allclose(grads[2], states, rtol=1e-11, atol=1e-13)
            check_pullback(built, rng, 1e-11)


@pytest.mark.parametrize("gap", [10.0, 700.0, 5000.0])
def test_states_that_nearly_vanish_may_come_back(gap):
    """Two chains that never meet: the first half of the sequence says one, the second half, more loudly, the other."""
    b = np.array([[0.0, -gap]] * 5 + [[-2.0 * gap, 0.0]] * 5)
    value, grads, _ = one([0.5, 0.5], np.eye(2), b)
    assert value == pytest.approx(math.log(0.5) - 5 * gap, rel=1e-14)
    np.testing.assert_allclose(grads[2], [[0.0, 1.0]] * 10, atol=1e-10)
    b[:, 1] += np.array([2.0] * 5 + [0.0] * 5)
    b[:, 0] += 1.0 + 0.5 * gap  # the same on the whole: both matter
    value, grads, _ = one([0.5, 0.5], np.eye(2), b)
    assert value == pytest.approx(10 - 5 * gap, rel=1e-14)
    np.testing.assert_allclose(grads[2], 0.5, rtol=1e-9)


@pytest.mark.parametrize("tiny", [1e-50, 1e-120, 1e-300])
def test_faint_transitions(tiny):
    rng = np.random.default_rng(9)
    following = np.array([[1.0, tiny, tiny], [tiny, 1.0, tiny], [0.3, 0.3, 0.4]])
    for scale in (1.0, 100.0, 1000.0):
        b = scale * rng.standard_normal((7, 3))
        value, grads, _ = one([1.0, tiny, 0.0], following, b)
        first = np.array([1.0, tiny, 0.0])
        with np.errstate(divide="ignore"):
            expected, states = over_paths(np.log(first), np.log(following / following.sum(1, keepdims=True)), b)
        assert value == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(grads[2], states, rtol=1e-10, atol=1e-13)


def test_first_states_of_probability_zero_do_not_hide_the_others():
    """Their density may be e**2000 times as high."""
    following = np.full((2, 2), 0.5)
    value, grads, _ = one([1.0, 0.0], following, [[-2000.0, 0.0], [-1.0, -1.0]])
    assert value == pytest.approx(-2001.0, rel=1e-15)
    np.testing.assert_array_equal(grads[2][0], [1.0, 0.0])


def test_impossible_sequences():
    value, grads, _ = one([1.0, 0.0], np.eye(2), [[0.0, 0.0], [-np.inf, 0.0]])
    assert value == -np.inf
    assert all(not g.any() for g in grads)
    value, grads, _ = one([0.5, 0.5], np.full((2, 2), 0.5), [[0.0, 0.0], [-np.inf, -np.inf]])
    assert value == -np.inf
    assert all(not g.any() for g in grads)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_densities_that_are_no_numbers_give_none(wrong):
    for following in (np.full((2, 2), 0.5), np.eye(2)):
        value = one([0.5, 0.5], following, [[0.0, 0.0], [wrong, 0.0]])[0]
        assert math.isnan(value) or value == np.inf


@pytest.mark.parametrize(
    ("first", "following", "probs"),
    [
        ([-0.1, 1.1], np.eye(2), (1, 1)),
        ([0.0, 0.0], np.eye(2), (1, 1)),
        ([0.5, 0.5], [[1.0, 0.0], [0.0, 0.0]], (1, 1)),
        ([0.0, np.nan], np.eye(2), (0, 1)),
    ],
)
def test_illegal_weights_give_nan(first, following, probs):
    assert math.isnan(one(first, following, np.zeros((3, 2)), probs)[0])


def test_long_sequences_do_not_underflow():
    rng = np.random.default_rng(10)
    following = np.array([[0.9, 0.1], [0.2, 0.8]])
    b = rng.standard_normal((20000, 2)) - 50
    value, (_, counts, states), built = one([0.5, 0.5], following, b)
    assert value == pytest.approx(built.twin(built.values).item(), rel=1e-12)
    np.testing.assert_allclose(states.sum(-1), 1.0, rtol=1e-12)
    assert np.isfinite(counts).all()


def test_sizes_are_refused_that_do_not_fit():
    core = _core.Model()
    first, following, b = core.data(np.ones(2)), core.data(np.ones(4)), core.data(np.ones(12))
    options = {"size": [2], "lengths": [3, 3], "first_probs": [0], "next_probs": [0]}
    core.node("hidden_markov", [first, following, b], 2, options)
    for inputs, size, changed in (
        ([first, first, b], 2, {}),
        ([following, following, b], 3, {}),
        ([first, following, b], 1, {}),
        ([first, following, b], 2, {"lengths": [3, 4]}),
        ([first, following, b], 2, {"lengths": [3, 0]}),
        ([first, following, b], 5, {"lengths": [1] * 5}),
        ([first, following, b], 2, {"size": [3]}),
    ):
        with pytest.raises(ValueError, match="sizes of a hidden Markov chain"):
            core.node("hidden_markov", inputs, size, options | changed)
    with pytest.raises(ValueError, match="expected 3 inputs"):
        core.node("hidden_markov", [first, following], 2, options)


# --- the distribution ----------------------------------------------------------------------------------------------
FIRST = np.array([0.6, 0.4, 0.0])
NEXT = np.array([[0.8, 0.2, 0.0], [0.1, 0.6, 0.3], [0.5, 0.0, 0.5]])


@pytest.mark.parametrize(
    "emission",
    [
        lambda shape: klqp.Poisson([1.0, 4.0, 9.0], shape=(*shape, 3)),
        lambda shape: klqp.Categorical(logits=np.arange(12.0).reshape(3, 4) % 5, shape=(*shape, 3)),
        lambda shape: klqp.MultivariateNormalDiag(np.arange(6.0).reshape(3, 2), 1.5, shape=(*shape, 3, 2)),
        lambda shape: klqp.Normal(np.arange(math.prod(shape) * 3.0).reshape(*shape, 3) % 4, 0.7),
    ],
)
@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 2, 4)])
def test_log_probs_are_sums_over_paths(emission, shape):
    part = emission(shape)
    chain = klqp.HiddenMarkov(klqp.Categorical(probs=FIRST), klqp.Categorical(probs=NEXT), part)
    assert chain.shape == (*shape, *part.event_shape)
    assert chain.batch_shape == shape[:-1]
    x = chain.sample(4, seed=1)
    got = chain.log_prob(x)
    assert got.shape == (4, *shape[:-1])
    repeated = np.repeat(np.expand_dims(x, 1 + len(shape)), 3, 1 + len(shape))
    b = part.log_prob(repeated)
    with np.errstate(divide="ignore"):
        for at in np.ndindex(got.shape):
            expected, states = over_paths(np.log(FIRST), np.log(NEXT), b[at])
            assert got[at] == pytest.approx(expected, rel=1e-12)
            np.testing.assert_allclose(chain.posterior_states(x[at[0]])[at[1:]], states, atol=1e-13)


def test_lengths_cut_sequences():
    parts = klqp.Categorical(probs=FIRST), klqp.Categorical(probs=NEXT)
    rates = [1.0, 4.0, 9.0]
    cut = klqp.HiddenMarkov(*parts, klqp.Poisson(rates, shape=(2, 6, 3)), lengths=[6, 2])
    x = cut.sample(seed=2)
    long, short = (klqp.HiddenMarkov(*parts, klqp.Poisson(rates, shape=(n, 3))) for n in (6, 2))
    np.testing.assert_allclose(cut.log_prob(x), [long.log_prob(x[0]), short.log_prob(x[1, :2])], rtol=1e-14)
    states = cut.posterior_states(x)
    np.testing.assert_allclose(states[0], long.posterior_states(x[0]), rtol=1e-14)
    np.testing.assert_allclose(states[1, :2], short.posterior_states(x[1, :2]), rtol=1e-14)
    assert not states[1, 2:].any()


def test_a_chain_without_memory_is_a_mixture():
    p, centres = np.array([0.2, 0.5, 0.3]), [-1.0, 0.0, 2.0]
    chain = klqp.HiddenMarkov(
        klqp.Categorical(probs=p), klqp.Categorical(probs=np.tile(p, (3, 1))), klqp.Normal(centres, 1.0, shape=(8, 3))
    )
    mixture = klqp.MixtureSameFamily(klqp.Categorical(probs=p), klqp.Normal(centres, 1.0, shape=(8, 3)))
    x = mixture.sample(3, seed=1)
    np.testing.assert_allclose(chain.log_prob(x), mixture.log_prob(x).sum(-1), rtol=1e-13)
    np.testing.assert_allclose(chain.mean(), mixture.mean(), rtol=1e-13)
    np.testing.assert_allclose(chain.variance(), mixture.variance(), rtol=1e-13)


def test_draws_follow_the_chain():
    """Pairs of neighbours come as often as the chain says: states seen without noise."""
    n, n_steps = 4000, 6
    chain = klqp.HiddenMarkov(
        klqp.Categorical(probs=FIRST), klqp.Categorical(probs=NEXT), klqp.Normal([0.0, 1.0, 2.0], 1e-6, shape=(6, 3))
    )
    states = np.rint(chain.sample(n, seed=3)).astype(int)
    p = FIRST
    for t in range(n_steps - 1):
        expected = p[:, None] * NEXT
        pairs = np.zeros((3, 3))
        np.add.at(pairs, (states[:, t], states[:, t + 1]), 1 / n)
        assert (np.abs(pairs - expected) <= 5 * np.sqrt(expected / n)).all()
        p = p @ NEXT


def test_posterior_states_of_draws():
    centres = klqp.Normal(0.0, 1.0, shape=2, name="centres")
    rows = klqp.Dirichlet(np.ones((2, 2)), name="rows")
    chain = klqp.HiddenMarkov(
        klqp.Categorical(probs=[0.5, 0.5]), klqp.Categorical(probs=rows), klqp.Normal(centres, 1.0, shape=(2, 5, 2))
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5))
    draws = {"centres": rng.standard_normal((3, 2)), "rows": rng.dirichlet(np.ones(2), (3, 2))}
    got = chain.posterior_states(x, draws | {"another": np.ones(3)})
    assert got.shape == (3, 2, 5, 2)
    for s in range(3):
        fixed = klqp.HiddenMarkov(
            klqp.Categorical(probs=[0.5, 0.5]),
            klqp.Categorical(probs=draws["rows"][s]),
            klqp.Normal(draws["centres"][s], 1.0, shape=(2, 5, 2)),
        )
        np.testing.assert_allclose(got[s], fixed.posterior_states(x), rtol=1e-13)
    np.testing.assert_array_equal(chain.posterior_states(x, {centres: draws["centres"], rows: draws["rows"]}), got)
    with pytest.raises(ValueError, match="has no value here"):
        chain.posterior_states(x, {"rows": draws["rows"]})
    with pytest.raises(ValueError, match="must have shape"):
        chain.posterior_states(x[0], draws)


def test_posterior_states_of_what_cannot_be_are_nan():
    chain = klqp.HiddenMarkov(
        klqp.Categorical(probs=[1.0, 0.0]),
        klqp.Categorical(probs=np.eye(2)),
        klqp.Uniform(0.0, [1.0, 2.0], shape=(3, 2)),
    )
    assert np.isnan(chain.posterior_states([0.5, 1.5, 0.5])).all()


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_the_same_bits_for_any_number_of_threads(n_threads):
    rng = np.random.default_rng(1)
    x = rng.poisson(rng.choice([2.0, 9.0], (40, 50)))

    def losses(threads):
        start, rows = klqp.Dirichlet(np.ones(2)), klqp.Dirichlet(np.ones((2, 2)))
        rate = klqp.Gamma(2.0, [0.5, 0.1], name="rate")
        y = klqp.HiddenMarkov(
            klqp.Categorical(probs=start), klqp.Categorical(probs=rows), klqp.Poisson(rate, shape=(40, 50, 2))
        )
        inference = klqp.KLqp([start, rows, rate], data={y: x})
        inference.run(n_iter=20, n_samples=6, seed=1, n_threads=threads, n_print=0)
        return inference.losses

    np.testing.assert_array_equal(losses(n_threads), losses(1))
