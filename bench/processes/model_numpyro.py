"""The twin of model_klqp.py in NumPyro: the same data, the same steps, one compiled scan."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro.distributions import constraints
from numpyro.infer import SVI, Trace_ELBO

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
x = rng.normal(size=(1000, 10))
y = (rng.uniform(size=1000) < 1 / (1 + np.exp(-x @ rng.normal(size=10)))).astype(float)
n_steps = 2000


def model(x, y):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([10]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=x @ w).to_event(1), obs=y)


def guide(x, y):
    loc = numpyro.param("loc", jnp.zeros(10))
    scale = numpyro.param("scale", jnp.full(10, 0.1), constraint=constraints.positive)
    numpyro.sample("w", dist.Normal(loc, scale).to_event(1))


def rate(t):
    return 0.05 * (0.01 + 0.99 * 0.5 * (1 + jnp.cos(jnp.pi * t / n_steps)))


svi = SVI(model, guide, numpyro.optim.Adam(rate), Trace_ELBO(num_particles=10))
result = svi.run(jax.random.key(1), n_steps, x, y, progress_bar=False)
print(*np.asarray(result.params["loc"]))
