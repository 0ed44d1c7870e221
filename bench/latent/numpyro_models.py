"""The cases in NumPyro: models and guides, both functions of the rows of one step."""

import jax.numpy as jnp
import numpyro
from numpyro import distributions as dist
from numpyro.distributions import constraints

from bench.latent.cases import CLUSTER_SD, FACTOR_RATE, FACTOR_SHAPE, LAYERS, N_CLUSTERS, factor_shapes, start

TOP = len(LAYERS) - 1


def parameter(case, name, positive=False):
    """Return a parameter, made from the case's first values."""
    constraint = constraints.positive if positive else constraints.real
    return numpyro.param(name, jnp.asarray(start(case)[name]), constraint=constraint)


def sbn():
    """Return model and guide of the sigmoid belief network."""

    def model(x):
        with numpyro.plate("rows", len(x)):
            logits = parameter("sbn", f"b{TOP}")
            for k in range(TOP, 0, -1):
                z = numpyro.sample(f"z{k}", dist.Bernoulli(logits=logits).to_event(1))
                logits = z @ parameter("sbn", f"w{k - 1}") + parameter("sbn", f"b{k - 1}")
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x):
        with numpyro.plate("rows", len(x)):
            z = x
            for k in range(1, TOP + 1):
                logits = z @ parameter("sbn", f"r{k}") + parameter("sbn", f"c{k}")
                z = numpyro.sample(f"z{k}", dist.Bernoulli(logits=logits).to_event(1))

    return model, guide


def mixture():
    """Return model and guide of the mixture with its assignments."""

    def model(x):
        d = x.shape[1]
        centres = numpyro.sample("centres", dist.Normal(jnp.zeros((N_CLUSTERS, d)), 1.0).to_event(2))
        with numpyro.plate("rows", len(x)):
            z = numpyro.sample("z", dist.Categorical(jnp.full(N_CLUSTERS, 1.0 / N_CLUSTERS)))
            numpyro.sample("x", dist.Normal(centres[z], CLUSTER_SD).to_event(1), obs=x)

    def guide(x):
        loc, scale = parameter("mixture", "loc"), parameter("mixture", "scale", positive=True)
        numpyro.sample("centres", dist.Normal(loc, scale).to_event(2))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("z", dist.Categorical(logits=parameter("mixture", "logits")))

    return model, guide


def factors():
    """Return model and guide of the Poisson-gamma factorisation."""

    def model(y):
        parts = [
            numpyro.sample(site, dist.Gamma(FACTOR_SHAPE, FACTOR_RATE).expand(shape).to_event(2))
            for site, shape in factor_shapes().items()
        ]
        numpyro.sample("y", dist.Poisson(parts[0] @ parts[1]).to_event(2), obs=y)

    def guide(y):
        for site in factor_shapes():
            shape, rate = (parameter("factors", f"{site}_{key}", positive=True) for key in ("shape", "rate"))
            numpyro.sample(site, dist.Gamma(shape, rate).to_event(2))

    return model, guide


MODELS = {"sbn": sbn, "mixture": mixture, "factors": factors}
