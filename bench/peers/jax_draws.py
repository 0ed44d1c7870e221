"""Draws and their pathwise gradients in JAX: float64, jitted, parameters shared by the draws of a batch."""

import time

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

SAMPLERS = {
    "Gamma": lambda key, shape, a: jax.random.gamma(key, a, (*shape, a.shape[0])),
    "Beta": lambda key, shape, a, b: jax.random.beta(key, a, b, (*shape, a.shape[0])),
    "Dirichlet": lambda key, shape, a: jax.random.dirichlet(key, a, shape),
}


class JaxDraws:
    """The draws of a distribution and the gradient of their sum with weights, compiled.

    Parameters
    ----------
    name : str
        One of `SAMPLERS`.
    parameters : list of ndarray
    n_draws : int
    weights : ndarray (n_draws, \\*event)
    """

    def __init__(self, name, parameters, n_draws, weights):
        sample = SAMPLERS[name]

        def both(key, weights, *parameters):
            draws, pull = jax.vjp(lambda *p: sample(key, (n_draws,), *p), *parameters)
            return draws, pull(weights)

        self._parameters, self._weights = [jnp.asarray(p) for p in parameters], jnp.asarray(weights)
        self._key, self._step = jax.random.key(0), 0
        start = time.perf_counter()
        self._compiled = jax.jit(both).lower(self._key, self._weights, *self._parameters).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self):
        """Return draws and gradients of a new key."""
        self._step += 1
        key = jax.random.fold_in(self._key, self._step)
        draws, grads = self._compiled(key, self._weights, *self._parameters)
        return np.asarray(draws), [np.asarray(g) for g in grads]
