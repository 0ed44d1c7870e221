"""Case 12: sigmoid belief networks, whose units have no derivative; small ones against enumeration."""

import itertools
from functools import cache

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_expit

import klqp

W1 = np.array([[1.5, -2.0], [-1.0, 1.8]])  # of the hidden units given the top ones
W0 = np.array([[2.0, -1.5, 0.8], [-1.0, 1.6, 1.4]])  # of the pixels given the hidden units
X = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
STATES = np.array(list(itertools.product([0.0, 1.0], repeat=2)))
N, TOP_LOGITS, HIDDEN_BIAS, BIAS = len(X), np.array([0.4, -0.3]), np.array([0.2, 0.5]), -0.5


def log_bernoulli(b, logits):
    """Return log probabilities, summed over the last axis."""
    return np.sum(b * log_expit(logits) + (1 - b) * log_expit(-logits), -1)


def joint():
    """Return log p(x_n, z1, z2) for all rows and states, (N, 4, 4)."""
    above = log_bernoulli(STATES, TOP_LOGITS) + log_bernoulli(STATES[:, None], STATES @ W1 + HIDDEN_BIAS)
    return above + log_bernoulli(X[:, None], STATES @ W0 + BIAS)[:, :, None]


def elbo(below, above, coupling):
    """Return the exact ELBO of q(z1) q(z2 | z1) with logits (N, 2), (N, 2), and what z1 adds to those of z2, (2, 2)."""
    log_q = log_bernoulli(STATES, below[:, None])[:, :, None]
    log_q = log_q + log_bernoulli(STATES, above[:, None, None] + (STATES @ coupling)[:, None])
    return np.sum(np.exp(log_q) * (joint() - log_q))


def unpack(flat, structured):
    below, above = flat[: 4 * N].reshape(2, N, 2)
    return below, above, flat[4 * N :].reshape(2, 2) if structured else np.zeros((2, 2))


@cache
def optimum(structured):
    """Return the best ELBO over q, by many starts."""
    size = 4 * N + 4 * structured
    starts = np.random.default_rng(0).normal(size=(5, size))
    return max(-minimize(lambda v: -elbo(*unpack(v, structured)), start, tol=1e-12).fun for start in starts)


def fit(structured, **options):
    """Return the inference after a run, and the exact ELBO of its q."""
    z2 = klqp.Bernoulli(logits=TOP_LOGITS, shape=(N, 2), name="top")
    z1 = klqp.Bernoulli(logits=z2 @ W1 + HIDDEN_BIAS, name="hidden")
    x = klqp.Bernoulli(logits=z1 @ W0 + BIAS)
    below, above, coupling = (klqp.Parameter(np.zeros(shape)) for shape in ((N, 2), (N, 2), (2, 2)))
    q1 = klqp.Bernoulli(logits=below)
    q2 = klqp.Bernoulli(logits=above + q1 @ coupling if structured else above)
    inference = klqp.KLqp({z1: q1, z2: q2}, data={x: X})
    optimizer = klqp.optimizers.Adam(learning_rate=0.05, schedule=klqp.schedules.Cosine())
    inference.run(optimizer=optimizer, seed=1, progress=False, **options)
    reached = (p.value for p in ((below, above, coupling) if structured else (below, above)))
    return inference, elbo(*unpack(np.concatenate([v.ravel() for v in reached]), structured))


@pytest.mark.parametrize("structured", [False, True], ids=["mean field", "structured"])
def test_exact_sums_reach_the_optimum(structured):
    """No noise: one draw, and the optimum to the last digits that the step size leaves."""
    inference, reached = fit(structured, n_iter=2000, n_samples=1, enumerate=True)
    assert inference.estimator.count("exact sums") == 2
    assert abs(reached - optimum(structured)) < 1e-6
    assert -inference.losses[-1] == pytest.approx(reached, abs=1e-6)


@pytest.mark.parametrize("structured", [False, True], ids=["mean field", "structured"])
@pytest.mark.parametrize("baseline", ["mean", "optimal", "running"])
def test_scores_reach_the_optimum(structured, baseline):
    """Edward's score functions with blankets used one draw, whatever n_samples was."""
    inference, reached = fit(structured, n_iter=4000, n_samples=20, enumerate=False, baseline=baseline)
    assert inference.estimator.count("score-function") == 2
    assert 0.0 < optimum(structured) - reached + 1e-7 < 2e-3


def test_structure_pays():
    """The two bounds differ by far more than fits are off, so that they tell them apart."""
    assert optimum(True) - optimum(False) > 0.05


# --- digits ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def digits():
    datasets = pytest.importorskip("sklearn.datasets")
    return (datasets.load_digits().data > 7).astype(float)


def network(n_rows, sizes, own_logits=False):
    """Return latent variables with q's, data and placeholder of a network; q has logits of its own for each row, or
    a layer of weights."""
    rng = np.random.default_rng(1)
    pairs = list(itertools.pairwise(sizes))
    weights = [klqp.Parameter(rng.normal(0.0, above**-0.5, (above, below))) for below, above in pairs]
    biases = [klqp.Parameter(np.zeros(n)) for n in sizes]
    layers, logits = [], biases[-1]
    for k in range(len(sizes) - 1, 0, -1):
        layers.insert(0, klqp.Bernoulli(logits=logits, shape=(n_rows, sizes[k]), name=f"z{k}"))
        logits = layers[0] @ weights[k - 1] + biases[k - 1]
    x, rows = klqp.Bernoulli(logits=logits), klqp.placeholder((n_rows, sizes[0]))
    latents, below, parameters = {}, rows, []
    for z, (n_below, n) in zip(layers, pairs, strict=True):
        if own_logits:
            parameters.append(klqp.Parameter(rng.normal(0.0, 0.3, (n_rows, n))))
            latents[z] = klqp.Bernoulli(logits=parameters[-1])
            continue
        parameters += [klqp.Parameter(rng.normal(0.0, n_below**-0.5, (n_below, n))), klqp.Parameter(np.zeros(n))]
        below = latents[z] = klqp.Bernoulli(logits=below @ parameters[-2] + parameters[-1])
    return latents, {x: rows}, rows, parameters


def test_weights_of_a_row_are_its_own(digits):
    """With the rows in a placeholder too: another row's data change no bit of a row's gradient."""
    latents, data, rows, own = network(6, (64, 12, 5), own_logits=True)
    inference = klqp.KLqp(latents, data={**data, rows: digits[:6]})
    inference.initialize(n_samples=4, seed=3)
    offsets = inference._engine.compiled.layout.offsets
    gradients = []
    for batch in (digits[:6], np.concatenate([digits[:5], digits[40:41]])):
        inference._engine.feed({rows: batch})
        gradient = inference._engine.run.gradient(0)[1]
        gradients.append([gradient[offsets[p] : offsets[p] + p.value.size].reshape(6, -1) for p in own])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_array_equal(one[:5], other[:5])
    assert np.all(gradients[0][0][5] != gradients[1][0][5])


def test_network_on_digits(digits):
    """64-30-10 on batches: every epoch is better, and the bound beats the best independent pixels by far."""
    latents, data, rows, _ = network(50, (64, 30, 10))
    inference = klqp.KLqp(latents, data=data)
    inference.initialize(n_samples=10, optimizer=klqp.optimizers.Adam(learning_rate=5e-3), seed=2, progress=False)
    rng, losses = np.random.default_rng(3), []
    for _ in range(30):
        batches = rng.permutation(len(digits))[:1750].reshape(35, 50)
        losses.append(np.mean([inference.update({rows: digits[batch]})["loss"] for batch in batches]) / 50)
    assert np.all(np.diff(losses) < 0)
    share = digits.mean(0)
    share = share[(share > 0) & (share < 1)]
    independent = -np.sum(share * np.log(share) + (1 - share) * np.log1p(-share))
    assert losses[-1] < independent - 3.0
