"""Mean-field ADVI in NumPy, as one would write it by hand with some care."""

import numpy as np

from bench.peers.common import BETA1, BETA2, EPSILON, INITIAL_SCALE, LEARNING_RATE, Answer, learning_rates


def fit(log_density, dim, n_steps, n_draws, seed=1, init_scale=INITIAL_SCALE, first_rate=LEARNING_RATE):
    """Fit by Adam steps on the sticking-the-landing gradient.

    log_density is ``z (S, D) -> (logp (S,), grad (S, D))``, first_rate the learning rate of the first step.
    """
    rng = np.random.default_rng(seed)
    params = np.zeros((2, dim))  # location, log scale
    params[1] = np.log(init_scale)
    grad, first, second = np.empty((2, dim)), np.zeros((2, dim)), np.zeros((2, dim))
    losses = np.empty(n_steps)
    for t, rate in enumerate(learning_rates(n_steps, first_rate), 1):
        loc, rho = params
        scale = np.exp(rho)
        eps = rng.standard_normal((n_draws, dim))
        logp, glogp = log_density(loc + scale * eps)
        losses[t - 1] = -(logp.mean() + 0.5 * np.einsum("sd,sd->", eps, eps) / n_draws + rho.sum())
        cotangent = glogp + eps / scale
        grad[0] = cotangent.mean(0)
        grad[1] = np.einsum("sd,sd->d", cotangent, eps) * (scale / n_draws)
        first += (1 - BETA1) * (grad - first)
        second += (1 - BETA2) * (grad * grad - second)
        step = rate / (1 - BETA1**t)
        params += step * first / (np.sqrt(second / (1 - BETA2**t)) + EPSILON)
    return Answer(params[0], np.exp(params[1]))
