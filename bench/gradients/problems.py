"""Models whose gradients are measured: real data, q's made of parameters, nothing random but a fixed seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits, load_iris

import klqp

__all__ = ["ASSIGNMENTS", "BELIEF_NET", "BELIEF_NET_ROW", "NORMAL_MEAN", "POISSON_FACTORS", "Problem"]


@dataclass(frozen=True)
class Problem:
    """A model with its q.

    Attributes
    ----------
    name : str
    make : callable
        Returns fresh ``(latent_vars, data)``; parameters start from the same values each time.
    n_iter : int
        Steps that bring KLqp near the optimum.
    """

    name: str
    make: Callable
    n_iter: int


def positive(values):
    """Return a positive parameter."""
    return klqp.Parameter(values, support="positive")


def belief_net(images, n_lower, n_upper):
    """Return a sigmoid belief network with two layers of units: each image has its own mean-field q."""
    n, pixels = images.shape
    rng = np.random.default_rng(0)
    upper = klqp.Bernoulli(probs=0.5, shape=(n, n_upper), name="upper")
    between = klqp.Parameter(rng.normal(0.0, 0.5, (n_upper, n_lower)))
    lower = klqp.Bernoulli(logits=upper @ between + klqp.Parameter(np.zeros(n_lower)), name="lower")
    down = klqp.Parameter(rng.normal(0.0, 0.5, (n_lower, pixels)))
    pixel = klqp.Bernoulli(logits=lower @ down + klqp.Parameter(np.zeros(pixels)))
    q = {z: klqp.Bernoulli(logits=klqp.Parameter(np.zeros(z.shape))) for z in (lower, upper)}
    return q, {pixel: images}


def binary_digits(n):
    """Return the first images of the digits, black and white."""
    return (load_digits().data[:n] > 7).astype(float)


def assignments():
    """Return a mixture of three Normals with the assignment of each flower as a latent variable."""
    centre = klqp.Normal([2.0, 4.0, 6.0], 2.0, name="centre")
    petals = load_iris().data[:, 2]
    kind = klqp.Categorical(probs=np.full(3, 1 / 3), shape=len(petals), name="kind")
    length = klqp.Normal(centre[kind], 0.5)
    q = {
        centre: klqp.Normal(klqp.Parameter([2.0, 4.0, 6.0]), positive(np.full(3, 0.3))),
        kind: klqp.Categorical(logits=klqp.Parameter(np.zeros((len(petals), 3)))),
    }
    return q, {length: petals}


def poisson_factors():
    """Return a factor model of grey values 0 to 16 with counts as factors, which have infinitely many states."""
    images = load_digits().data[:20]
    n, pixels, k = *images.shape, 5
    weights = positive(np.random.default_rng(0).gamma(2.0, 0.5, (k, pixels)))
    factor = klqp.Poisson(1.0, shape=(n, k), name="factor")
    grey = klqp.Poisson(factor @ weights + positive(0.1))
    return {factor: klqp.Poisson(positive(np.ones((n, k))))}, {grey: images}


def normal_mean():
    """Return the mean of fifty observations of 0: posterior N(0, 1/51)."""
    mu = klqp.Normal(0.0, 1.0, name="mu")
    x = klqp.Normal(mu, 1.0, shape=50)
    return {mu: klqp.Normal(klqp.Parameter(0.7), positive(0.8))}, {x: np.zeros(50)}


BELIEF_NET = Problem("belief network, 20 digits, 8-4 units", lambda: belief_net(binary_digits(20), 8, 4), 4000)
BELIEF_NET_ROW = Problem("belief network, 1 digit, 4-2 units", lambda: belief_net(binary_digits(1), 4, 2), 2000)
ASSIGNMENTS = Problem("mixture with assignments, 150 irises", assignments, 4000)
POISSON_FACTORS = Problem("Poisson factors, 20 digits, 5 factors", poisson_factors, 4000)
NORMAL_MEAN = Problem("mean of fifty Normals", normal_mean, 5000)
