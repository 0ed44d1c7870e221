"""Case 8: Bayesian neural networks with tanh units; one hidden layer against its exact ELBO by quadrature."""

import numpy as np

import klqp

from . import reference
from .helpers import normal_q, q_of

NET = reference.NeuralNetwork()
RNG = np.random.default_rng(0)


def start(shape):
    """Return a q whose locations break the symmetry of the units."""
    loc = RNG.normal(size=shape)
    return klqp.Normal(klqp.Parameter(loc), klqp.Parameter(np.full(shape, 0.1), support="positive"))


def test_one_hidden_layer():
    """All starts come to one optimum up to the units' order and signs: so must the ELBO."""
    h, x = NET.hidden, NET.x[:, None]
    W0, b0 = klqp.Normal(0.0, 1.0, shape=(1, h), name="W0"), klqp.Normal(0.0, 1.0, shape=h, name="b0")
    W1, b1 = klqp.Normal(0.0, 1.0, shape=h, name="W1"), klqp.Normal(0.0, 1.0, name="b1")
    y = klqp.Normal(klqp.tanh(x @ W0 + b0) @ W1 + b1, NET.noise)
    latents = {W0: start((1, h)), b0: start(h), W1: start(h), b1: start(())}
    inference = klqp.KLqp(latents, data={y: NET.y})
    inference.run(n_iter=10_000, n_samples=10, seed=1, progress=False)
    mean, sd = q_of(inference, W0, b0, W1, b1)
    best = NET.optima[0]
    exact = NET.elbo(mean, sd)[0]  # of klqp's own q
    assert best.elbo - 0.1 < exact < best.elbo + 1e-6
    estimate = inference.posterior.elbo(20_000, seed=2)
    assert abs(estimate.value - exact) < 4 * estimate.std_error
    np.testing.assert_allclose(np.sort(sd), np.sort(best.sd), rtol=0.1)


def fit_two_hidden_layers(start_seed, seed):
    """Fit 1-10-10-1 from small random weights; return the inference and the mean curve."""
    rng = np.random.default_rng(start_seed)
    shapes = {"W0": (1, 10), "b0": (10,), "W1": (10, 10), "b1": (10,), "W2": (10,), "b2": ()}
    p = {name: klqp.Normal(0.0, 1.0, shape=shape, name=name) for name, shape in shapes.items()}
    hidden = klqp.tanh(klqp.tanh(NET.x[:, None] @ p["W0"] + p["b0"]) @ p["W1"] + p["b1"])
    y = klqp.Normal(hidden @ p["W2"] + p["b2"], NET.noise)
    inference = klqp.KLqp(list(p.values()), data={y: NET.y})
    loc = {z: 0.2 * rng.normal(size=z.shape) for z in p.values()}
    inference.run(n_iter=20_000, n_samples=5, init_loc=loc, seed=seed, progress=False)
    draws = inference.posterior.sample(500, seed=2)
    layer = np.tanh(np.tanh(NET.x[:, None] @ draws["W0"] + draws["b0"][:, None]) @ draws["W1"] + draws["b1"][:, None])
    curves = np.einsum("snh,sh->sn", layer, draws["W2"]) + draws["b2"][:, None]
    return inference, curves.mean(0)


def test_two_hidden_layers():
    """1-10-10-1: an optimum for each way of switching units off; the best of three starts is a good one.

    Of seventeen fits, eight starts and three seeds, thirteen ended at -67.8 to -74.0, two at -101, two at -111; four
    times the steps, or twice the draws, found nothing better than -67.8.
    """
    fits = [fit_two_hidden_layers(start_seed, 1) for start_seed in (13, 14, 16)]
    elbos = [inference.posterior.elbo(4000, seed=3).value for inference, _ in fits]
    assert min(elbos) > -115
    assert -75 < max(elbos) < -66
    for inference, curve in fits:
        assert np.sqrt(np.mean((curve - np.cos(NET.x)) ** 2)) < 0.08  # noise .1 in fifty points
        assert inference.losses[-500:].mean() < inference.losses[:100].mean()


def test_standard_start():
    """From the default q of the list form the network need not be fitted, but the loss must fall and stay finite."""
    h = NET.hidden
    W0, b0 = klqp.Normal(0.0, 1.0, shape=(1, h)), klqp.Normal(0.0, 1.0, shape=h)
    W1, b1 = klqp.Normal(0.0, 1.0, shape=h), klqp.Normal(0.0, 1.0)
    y = klqp.Normal(klqp.tanh(NET.x[:, None] @ W0 + b0) @ W1 + b1, NET.noise)
    inference = klqp.KLqp({W0: normal_q((1, h)), b0: normal_q(h), W1: normal_q(h), b1: normal_q()}, data={y: NET.y})
    inference.run(n_iter=1000, n_samples=5, seed=1, progress=False)
    assert np.all(np.isfinite(inference.losses))
    assert inference.losses[-100:].mean() < inference.losses[:20].mean()
