"""Mean-field ADVI in JAX: float64, the whole fit one compiled scan, log densities by autodiff.

Data are arguments of the compiled function, so that they are not folded into it as constants.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from bench.peers.common import BETA1, BETA2, EPSILON, INITIAL_SCALE, Answer, learning_rates

jax.config.update("jax_enable_x64", True)


def gaussian(data, z):
    """Return the log density at z (S, D), (S,)."""
    residual = z - data["mean"]
    return -0.5 * jnp.sum(data["precision"] * residual * residual, axis=1)


def logistic(data, z):
    """Return the log density at z (S, D), (S,)."""
    eta = z @ data["x"].T
    return eta @ data["y"] - jnp.sum(jax.nn.softplus(eta), axis=1) - 0.5 * jnp.sum(z * z, axis=1)


LOG_DENSITIES = {"gaussian": gaussian, "logistic": logistic}


def make_fit(log_density, dim, n_draws):
    """Return the fit as a function of (data, key, learning rates)."""

    def gradients(data, z):
        def total(z):
            logp = log_density(data, z)
            return jnp.sum(logp), logp

        (_, logp), grad = jax.value_and_grad(total, has_aux=True)(z)
        return logp, grad

    def fit(data, key, rates):
        def step(carry, now):
            params, first, second = carry
            t, rate = now
            loc, rho = params
            scale = jnp.exp(rho)
            eps = jax.random.normal(jax.random.fold_in(key, t), (n_draws, dim))
            logp, glogp = gradients(data, loc + scale * eps)
            loss = -(jnp.mean(logp) + 0.5 * jnp.sum(eps * eps) / n_draws + jnp.sum(rho))
            cotangent = glogp + eps / scale
            grad = jnp.stack([jnp.mean(cotangent, 0), jnp.mean(cotangent * eps, 0) * scale])
            first = BETA1 * first + (1 - BETA1) * grad
            second = BETA2 * second + (1 - BETA2) * grad * grad
            scaled = jnp.sqrt(second / (1 - BETA2**t)) + EPSILON
            params = params + rate / (1 - BETA1**t) * first / scaled
            return (params, first, second), loss

        zeros = jnp.zeros((2, dim))
        start = zeros.at[1].set(jnp.log(INITIAL_SCALE))
        ticks = jnp.arange(1, len(rates) + 1)
        (params, _, _), losses = jax.lax.scan(step, (start, zeros, zeros), (ticks, rates))
        return params, losses

    return fit


class JaxFit:
    """A compiled fit of a target of bench/targets.py.

    Attributes
    ----------
    compile_seconds : float
        Tracing and compiling, once.
    """

    def __init__(self, target, n_steps, n_draws, seed=1, implementation=None):
        data = {name: jnp.asarray(array) for name, array in target.arrays().items()}
        key = jax.random.key(seed, impl=implementation)
        self._arguments = data, key, jnp.asarray(learning_rates(n_steps))
        start = time.perf_counter()
        function = make_fit(LOG_DENSITIES[target.native], target.dim, n_draws)
        self._fit = jax.jit(function).lower(*self._arguments).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self):
        """Run the fit."""
        params, _ = jax.block_until_ready(self._fit(*self._arguments))
        mean, rho = np.asarray(params)
        return Answer(mean, np.exp(rho))
