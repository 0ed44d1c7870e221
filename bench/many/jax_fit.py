"""The fits in JAX: the hand-written fit of one regression under vmap, all at once or in batches that fit a cache."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from bench.peers.common import Answer, learning_rates
from bench.regression.jax_fit import GRADIENTS, LAYOUTS, make_fit
from bench.regression.problem import LEARNING_RATE

# Layout of X, and problems under one vmap: None for all of them.
VARIANTS = [
    (layout, batch, keys)
    for layout in ("rows", "columns")
    for batch in (None, 16, 128)
    for keys in (None, "unsafe_rbg")
]


class JaxFit:
    """The compiled fits.

    Attributes
    ----------
    compile_seconds : float
        Tracing and compiling, once.
    """

    def __init__(self, problems, layout="rows", batch=None, keys=None):
        predict, transposed, last = LAYOUTS[layout]
        shape = problems.shape
        x = jnp.asarray(problems.x.transpose(0, 2, 1).copy() if transposed else problems.x)
        rates = jnp.asarray(learning_rates(shape.steps, LEARNING_RATE))
        self.label = f"{layout}, {'all' if batch is None else batch} under vmap" + ("" if keys is None else f", {keys}")
        fit = make_fit(GRADIENTS["by hand"](predict, last), shape.dim, shape.n_draws, problems.init_scale, x.dtype)

        def one(data):
            x, y, key = data
            return fit(x, y, key, rates)[0]

        def all_of_them(data):
            return jax.vmap(one)(data) if batch is None else jax.lax.map(one, data, batch_size=batch)

        keys_of_all = jax.random.split(jax.random.key(1, impl=keys), shape.n_problems)
        self._data = x, jnp.asarray(problems.y), keys_of_all
        start = time.perf_counter()
        self._fit = jax.jit(all_of_them).lower(self._data).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self):
        """Run the fits."""
        params = np.asarray(jax.block_until_ready(self._fit(self._data)))
        return Answer(params[:, 0], np.exp(params[:, 1]))
