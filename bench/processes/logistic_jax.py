"""The twin of logistic_klqp.py in JAX: the same data, the same steps, one compiled scan."""

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
x = rng.normal(size=(1000, 10))
y = (rng.uniform(size=1000) < 1 / (1 + np.exp(-x @ rng.normal(size=10)))).astype(float)
n_steps, n_draws, dim = 2000, 10, 10


def log_density(z, x, y):
    eta = z @ x.T
    return jnp.sum(eta @ y - jnp.sum(jax.nn.softplus(eta), 1) - 0.5 * jnp.sum(z * z, 1))


@jax.jit
def fit(x, y, key):
    def step(carry, t):
        params, first, second = carry
        loc, rho = params
        scale = jnp.exp(rho)
        eps = jax.random.normal(jax.random.fold_in(key, t), (n_draws, dim))
        cotangent = jax.grad(log_density)(loc + scale * eps, x, y) + eps / scale
        grad = jnp.stack([cotangent.mean(0), (cotangent * eps).mean(0) * scale])
        first = 0.9 * first + 0.1 * grad
        second = 0.999 * second + 0.001 * grad * grad
        rate = 0.05 * (0.01 + 0.99 * 0.5 * (1 + jnp.cos(jnp.pi * (t - 1) / n_steps)))
        scaled = jnp.sqrt(second / (1 - 0.999**t)) + 1e-8
        return (params + rate / (1 - 0.9**t) * first / scaled, first, second), None

    zeros = jnp.zeros((2, dim))
    (params, _, _), _ = jax.lax.scan(step, (zeros, zeros, zeros), jnp.arange(1, n_steps + 1))
    return params[0]


print(*np.asarray(fit(x, y, jax.random.key(1))))
