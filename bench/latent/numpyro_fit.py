"""NumPyro's SVI: steps in one compiled scan, all draws of a step in one vmap."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.infer import SVI, Trace_ELBO, TraceGraph_ELBO

from bench.latent.cases import CASES, data
from bench.latent.numpyro_models import MODELS


class NumPyroFit:
    """Steps of a case and estimates of its ELBO.

    Attributes
    ----------
    compile_seconds : float
        Initialisation, tracing and compiling, of steps and of the ELBO.
    """

    def __init__(self, name, baseline=None, seed=1, dtype="float32", chunk=100):
        if baseline is not None:
            raise ValueError("NumPyro has no baselines")
        jax.config.update("jax_enable_x64", dtype == "float64")
        self._case = case = CASES[name]
        model, guide = MODELS[name]()
        self._rows = jnp.asarray(data(name))
        self._chunk, self._taken = chunk, 0
        key, select_key = jax.random.split(jax.random.key(seed))
        self._elbo_key = jax.random.key(seed + 1)
        kind = Trace_ELBO if name == "factors" else TraceGraph_ELBO
        svi = SVI(model, guide, numpyro.optim.Adam(case.learning_rate), kind(num_particles=case.n_samples))
        bound = Trace_ELBO(num_particles=case.n_samples)

        def select(t, rows):
            if case.batch is None:
                return rows
            return rows[jax.random.choice(jax.random.fold_in(select_key, t), len(rows), (case.batch,), replace=False)]

        def steps(state, first, rows):
            return jax.lax.scan(lambda s, t: svi.update(s, select(t, rows)), state, first + jnp.arange(chunk))

        def elbo(key, state, rows):
            return -bound.loss(key, svi.get_params(state), model, guide, rows)

        began = time.perf_counter()
        self._state = svi.init(key, select(0, self._rows))
        self._steps = jax.jit(steps).lower(self._state, 0, self._rows).compile()
        self._elbo = jax.jit(elbo).lower(self._elbo_key, self._state, self._rows).compile()
        self.compile_seconds = time.perf_counter() - began

    def run(self, n_steps):
        """Take steps, a multiple of the chunk; return the seconds they took, on the clock and of processors."""
        began, cpu_began = time.perf_counter(), time.process_time()
        for _ in range(n_steps // self._chunk):
            self._state, _ = self._steps(self._state, self._taken, self._rows)
            self._taken += self._chunk
        jax.block_until_ready(self._state)
        return time.perf_counter() - began, time.process_time() - cpu_began

    def elbo(self, n_rounds=20):
        """Return the ELBO of all rows and its standard error, over rounds of S draws."""
        keys = jax.random.split(jax.random.fold_in(self._elbo_key, self._taken), n_rounds)
        values = [float(self._elbo(key, self._state, self._rows)) for key in keys]
        return np.mean(values) / self._case.per, np.std(values, ddof=1) / n_rounds**0.5 / self._case.per
