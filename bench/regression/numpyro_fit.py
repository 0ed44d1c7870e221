"""The fit in NumPyro: SVI with a written-out guide, all draws of a step in one vmap, all steps one compiled scan."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro.distributions import constraints
from numpyro.infer import SVI, Trace_ELBO

from bench.peers.common import BETA1, BETA2, EPSILON, Answer, learning_rates
from bench.regression.problem import LEARNING_RATE

jax.config.update("jax_enable_x64", True)


class NumPyroFit:
    """A compiled fit.

    Attributes
    ----------
    compile_seconds : float
        Tracing and compiling, once.
    """

    def __init__(self, problem, n_steps):
        dim, dtype = problem.dim, problem.x.dtype
        rates = jnp.asarray(learning_rates(n_steps, LEARNING_RATE), dtype)

        def model(x, y):
            prior = dist.Normal(jnp.zeros(dim, dtype), jnp.ones(dim, dtype))
            w = numpyro.sample("w", prior.to_event(1))
            numpyro.sample("y", dist.Bernoulli(logits=x @ w).to_event(1), obs=y)

        def guide(x, y):
            loc = numpyro.param("loc", jnp.zeros(dim, dtype))
            start = jnp.full(dim, problem.init_scale, dtype)
            scale = numpyro.param("scale", start, constraint=constraints.positive)
            numpyro.sample("w", dist.Normal(loc, scale).to_event(1))

        adam = numpyro.optim.Adam(lambda t: rates[t], b1=BETA1, b2=BETA2, eps=EPSILON)
        svi = SVI(model, guide, adam, Trace_ELBO(num_particles=problem.n_draws))

        def fit(state, x, y):
            return jax.lax.scan(lambda state, _: svi.update(state, x, y), state, None, length=n_steps)

        self._data = jnp.asarray(problem.x), jnp.asarray(problem.y)
        start = time.perf_counter()
        self._start = svi.init(jax.random.key(1), *self._data)
        self._fit = jax.jit(fit).lower(self._start, *self._data).compile()
        self.compile_seconds = time.perf_counter() - start
        self._svi = svi

    def __call__(self):
        """Run the fit."""
        state, _ = jax.block_until_ready(self._fit(self._start, *self._data))
        params = self._svi.get_params(state)
        return Answer(np.asarray(params["loc"], float), np.asarray(params["scale"], float))
