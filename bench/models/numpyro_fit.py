"""SVI in NumPyro: float64, all steps one compiled scan, all draws of a step in one vmap.

Data are arguments of the compiled function, so that they are not folded into it as constants.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro.distributions import constraints
from numpyro.infer import SVI, Trace_ELBO

from bench.models.case import INITIAL_SCALE

jax.config.update("jax_enable_x64", True)


def mean_field(latents):
    """Return the guide with an independent Normal for each coordinate of the sites of `latents`."""

    def guide(_):
        for site, shape in latents.items():
            loc = numpyro.param(f"{site}_loc", jnp.zeros(shape))
            start = jnp.full(shape, INITIAL_SCALE)
            scale = numpyro.param(f"{site}_scale", start, constraint=constraints.positive)
            numpyro.sample(site, dist.Normal(loc, scale).to_event(len(shape)))

    return guide


class NumPyroFit:
    """The compiled steps of a case's twin.

    Attributes
    ----------
    init_seconds : float
        NumPyro's `init`, which is not compiled.
    compile_seconds : float
        Tracing and compiling, once.
    """

    def __init__(self, case, seed=1, implementation=None):
        twin, self._repeat = case.twin(), case.checked_fits
        self._data = jax.tree.map(jnp.asarray, case.data())
        key, select_key = jax.random.split(jax.random.key(seed, impl=implementation))
        svi = SVI(
            twin.model,
            mean_field(twin.latents),
            numpyro.optim.Adam(case.learning_rate),
            Trace_ELBO(num_particles=case.n_samples),
        )

        def fit(state, first, data):
            def step(state, t):
                now = data if twin.select is None else twin.select(jax.random.fold_in(select_key, t), data)
                return svi.update(state, now)

            return jax.lax.scan(step, state, first + jnp.arange(case.timed_steps))

        start = time.perf_counter()
        first_batch = self._data if twin.select is None else twin.select(select_key, self._data)
        self._start = jax.block_until_ready(svi.init(key, first_batch))
        middle = time.perf_counter()
        self._fit = jax.jit(fit).lower(self._start, 0, self._data).compile()
        self.init_seconds, self.compile_seconds = middle - start, time.perf_counter() - middle
        self._steps = case.timed_steps

    def __call__(self):
        """Take the timed steps, from the start."""
        return jax.block_until_ready(self._fit(self._start, 0, self._data))

    def losses(self):
        """Return the losses of the fit that is checked, one per step."""
        state, losses = self._start, []
        for i in range(self._repeat):
            state, some = self._fit(state, i * self._steps, self._data)
            losses.append(np.asarray(some))
        return np.concatenate(losses)
