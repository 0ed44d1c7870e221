"""The cases in klqp: for a number of rows, the latent variables with their q's, the data, and the rows' placeholder."""

import numpy as np

import klqp
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


def sbn():
    """Return what makes a sigmoid belief network of some rows; all of them share their parameters."""
    free = {name: klqp.Parameter(value, name=name) for name, value in start("sbn").items()}

    def make(n_rows):
        layers, z = {}, None
        for k in range(TOP, 0, -1):
            logits = free[f"b{k}"] if z is None else z @ free[f"w{k}"] + free[f"b{k}"]
            layers[k] = z = klqp.Bernoulli(logits=logits, shape=(n_rows, LAYERS[k]), name=f"z{k}")
        x = klqp.Bernoulli(logits=z @ free["w0"] + free["b0"], name="x")
        rows = klqp.placeholder((n_rows, LAYERS[0]), name="rows")
        latents, z = {}, rows
        for k in range(1, TOP + 1):
            z = latents[layers[k]] = klqp.Bernoulli(logits=z @ free[f"r{k}"] + free[f"c{k}"])
        return latents, {x: rows}, rows

    return make


def mixture():
    """Return what makes the mixture with a variable for the cluster of each row."""
    rows, values = data("mixture"), start("mixture")
    centres = klqp.Normal(0.0, 1.0, shape=(N_CLUSTERS, rows.shape[1]), name="centres")
    z = klqp.Categorical(probs=np.full(N_CLUSTERS, 1 / N_CLUSTERS), shape=len(rows), name="z")
    x = klqp.Normal(centres[z], CLUSTER_SD, name="x")
    q_centres = klqp.Normal(klqp.Parameter(values["loc"]), klqp.Parameter(values["scale"], support="positive"))
    latents = {centres: q_centres, z: klqp.Categorical(logits=klqp.Parameter(values["logits"]))}
    return lambda _: (latents, {x: rows}, None)


def factors():
    """Return what makes the Poisson factorisation."""
    latents = {}
    for site, shape in factor_shapes().items():
        free = [klqp.Parameter(start("factors")[f"{site}_{key}"], support="positive") for key in ("shape", "rate")]
        latents[klqp.Gamma(FACTOR_SHAPE, FACTOR_RATE, shape=shape, name=site)] = klqp.Gamma(*free)
    rows, columns = latents
    y = klqp.Poisson(rows @ columns, name="y")
    return lambda _: (latents, {y: data("factors")}, None)


MODELS = {"sbn": sbn, "mixture": mixture, "factors": factors}
