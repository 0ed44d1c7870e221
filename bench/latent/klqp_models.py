"""The cases in klqp: for a number of rows, the latent variables with their q's, the data, and the rows' placeholder."""

import klqp
from bench.latent.cases import LAYERS, start

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


MODELS = {"sbn": sbn}
