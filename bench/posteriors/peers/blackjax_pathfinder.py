"""BlackJAX: Pathfinder with its defaults, from a point uniform in (-2, 2), compiled as a whole."""

from __future__ import annotations

import time

import blackjax
import jax
import jax.numpy as jnp
import numpy as np

from bench.posteriors.answer import Answer, from_covariance
from bench.posteriors.peers.jax_target import log_density
from bench.posteriors.targets import Counted

NAME, NEEDS = "blackjax", ("blackjax",)
FAMILIES = ("full_rank",)  # a diagonal and some columns: nearer to full rank than to mean field


def fit(target: Counted, family: str, seed: int) -> Answer:
    """Fit; compiling is timed apart."""
    logp = log_density(target)
    start = jnp.asarray(np.random.default_rng(seed).uniform(-2.0, 2.0, target.dim))
    key = jax.random.key(seed)
    started = time.process_time()
    run = jax.jit(lambda key, start: blackjax.vi.pathfinder.approximate(key, logp, start)[0])
    compiled = run.lower(key, start).compile()
    compiling = time.process_time() - started
    state = jax.block_until_ready(compiled(key, start))
    x, g, alpha, beta, gamma = (
        np.asarray(part, float) for part in (state.position, state.grad_position, state.alpha, state.beta, state.gamma)
    )
    covariance = np.diag(alpha) + beta @ gamma @ beta.T
    return from_covariance(x - covariance @ g, 0.5 * (covariance + covariance.T), compile_seconds=compiling)
