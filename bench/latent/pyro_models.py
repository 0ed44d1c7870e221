"""The cases in Pyro: models and guides, both functions of the rows of one step."""

import pyro
import torch
from pyro import distributions as dist
from torch.distributions import constraints

from bench.latent.cases import (
    CLUSTER_SD,
    FACTOR_RATE,
    FACTOR_SHAPE,
    LAYERS,
    N_CLUSTERS,
    data,
    factor_shapes,
    start,
)

TOP = len(LAYERS) - 1


def tensor(x):
    return torch.tensor(x, dtype=torch.get_default_dtype())


def parameter(case, name, positive=False):
    """Return a parameter, made from the case's first values."""
    constraint = constraints.positive if positive else constraints.real
    return pyro.param(name, lambda: tensor(start(case)[name]), constraint=constraint)


# --- sigmoid belief network ---------------------------------------------------------------------------------------
class Baseline(torch.nn.Module):
    """A linear function of the pixels, one number for each row."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(LAYERS[0], 1)

    def forward(self, x):
        return self.linear(x).squeeze(-1)


def sbn(baseline):
    """Return model and guide; `baseline` is None, "average" (per layer and place in the batch) or "network"."""
    networks = [Baseline() for _ in LAYERS]

    def options(k, x, shape):
        if baseline is None:
            return {}
        if baseline == "average":
            return {"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}}
        network = pyro.module(f"baseline{k}", networks[k])
        return {"baseline": {"nn_baseline": network, "nn_baseline_input": x.expand(*shape, *x.shape)}}

    def model(x, n_samples=1):
        with pyro.plate("rows", len(x)):
            logits = parameter("sbn", f"b{TOP}")
            for k in range(TOP, 0, -1):
                z = pyro.sample(f"z{k}", dist.Bernoulli(logits=logits).to_event(1))
                logits = z @ parameter("sbn", f"w{k - 1}") + parameter("sbn", f"b{k - 1}")
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x, n_samples=1):
        with pyro.plate("rows", len(x)):
            z = x
            for k in range(1, TOP + 1):
                logits = z @ parameter("sbn", f"r{k}") + parameter("sbn", f"c{k}")
                infer = options(k, x, (n_samples,) if n_samples > 1 else ())
                z = pyro.sample(f"z{k}", dist.Bernoulli(logits=logits).to_event(1), infer=infer)

    return model, guide


# --- mixture --------------------------------------------------------------------------------------------------------
def mixture(baseline):
    """Return model and guide; `baseline` is None or "average" (per row)."""
    infer = {} if baseline is None else {"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}}
    shape = data("mixture").shape

    def model(x, n_samples=1):
        centres = pyro.sample("centres", dist.Normal(torch.zeros(N_CLUSTERS, shape[1]), 1.0).to_event(2))
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Categorical(torch.full((N_CLUSTERS,), 1.0 / N_CLUSTERS)))
            # draws are axes in front of centres (..., 1, K, D) and of z (..., N)
            lead = centres.shape[:-2]
            centres = centres.reshape(*lead[:1], N_CLUSTERS, shape[1])
            index = z[..., None].expand(*z.shape, shape[1])
            loc = torch.gather(centres, -2, index)
            pyro.sample("x", dist.Normal(loc, CLUSTER_SD).to_event(1), obs=x)

    def guide(x, n_samples=1):
        loc, scale = parameter("mixture", "loc"), parameter("mixture", "scale", positive=True)
        pyro.sample("centres", dist.Normal(loc, scale).to_event(2))
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Categorical(logits=parameter("mixture", "logits")), infer=infer)

    return model, guide


# --- factors --------------------------------------------------------------------------------------------------------
def factors(_):
    """Return model and guide."""

    def model(y, n_samples=1):
        parts = [
            pyro.sample(site, dist.Gamma(FACTOR_SHAPE, FACTOR_RATE).expand(shape).to_event(2))
            for site, shape in factor_shapes().items()
        ]
        pyro.sample("y", dist.Poisson(parts[0] @ parts[1]).to_event(2), obs=y)

    def guide(y, n_samples=1):
        for site in factor_shapes():
            shape, rate = (parameter("factors", f"{site}_{key}", positive=True) for key in ("shape", "rate"))
            pyro.sample(site, dist.Gamma(shape, rate).to_event(2))

    return model, guide


MODELS = {"sbn": sbn, "mixture": mixture, "factors": factors}
