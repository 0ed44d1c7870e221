"""BlackJAX: Pathfinder with its defaults, from a point uniform in (-2, 2), compiled as a whole."""

from __future__ import annotations

import blackjax
import jax
import jax.numpy as jnp
import numpy as np

from bench.posteriors.answer import Answer, from_covariance
from bench.posteriors.clock import now
from bench.posteriors.peers.jax_target import log_density
from bench.posteriors.targets import Counted

NAME, NEEDS = "blackjax", ("blackjax",)
FAMILIES = ("full_rank",)  # a diagonal and some columns: nearer to full rank than to mean field


def fit(target: Counted, family: str, seed: int) -> Answer:
    """Fit; compiling is timed apart."""
    logp = log_density(target)
    start = jnp.asarray(np.random.default_rng(seed).uniform(-2.0, 2.0, target.dim))
    key = jax.random.key(seed)
    started = now()
    run = jax.jit(lambda key, start: blackjax.vi.pathfinder.approximate(key, logp, start)[0])
    compiled = run.lower(key, start).compile()
    compiling = now().since(started)
    state = jax.block_until_ready(compiled(key, start))
    x, g, alpha, beta, gamma = (
        np.asarray(part, float) for part in (state.position, state.grad_position, state.alpha, state.beta, state.gamma)
    )
    covariance = np.diag(alpha) + beta @ gamma @ beta.T
    # The mean of what its `sample` draws (1.7.1), where g is the gradient of minus the log density.
    return from_covariance(x + covariance @ g, 0.5 * (covariance + covariance.T), compiling=compiling)
