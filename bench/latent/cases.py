"""The cases: sizes, settings, data and first values, the same in every library."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

LAYERS = (64, 300, 100, 50, 10)  # pixels, then hidden units, the top last
N_CLUSTERS, CLUSTER_SD = 3, 0.5
N_FACTORS, FACTOR_SHAPE, FACTOR_RATE = 10, 0.5, 0.5


@dataclass(frozen=True)
class Case:
    """What every library does alike.

    Attributes
    ----------
    n_samples : int
        Draws a step.
    learning_rate : float
        Of Adam, constant.
    batch : int or None
        Rows of data in one step; None: all.
    per : int
        Losses are given per row, or whole: what they are divided by.
    """

    name: str
    n_samples: int
    learning_rate: float
    batch: int | None
    per: int


CASES = {
    "sbn": Case("sbn", 10, 1e-3, 50, 1797),
    "mixture": Case("mixture", 10, 0.02, None, 1),
    "factors": Case("factors", 10, 0.02, None, 1),
}


@cache
def data(name):
    """Return the rows of a case.

    sbn: scikit-learn's digits, pixels above 7 as 1; mixture: iris, standardised; factors: the first 300 digits, whose
    pixels are counts up to 16.
    """
    from sklearn import datasets

    if name == "mixture":
        x = datasets.load_iris().data
        return (x - x.mean(0)) / x.std(0)
    x = datasets.load_digits().data
    return (x > 7).astype(float) if name == "sbn" else x[:300]


@cache
def start(name):
    """Return first values of the parameters by name; positive ones are theirs, not those of their logarithms."""
    rng = np.random.default_rng(1)
    if name == "sbn":
        values = {}
        for k, (below, above) in enumerate(pairwise(LAYERS)):
            values[f"w{k}"] = rng.normal(0.0, above**-0.5, (above, below))  # generates layer k from layer k + 1
            values[f"b{k}"] = np.zeros(below)
            values[f"r{k + 1}"] = rng.normal(0.0, below**-0.5, (below, above))  # recognises layer k + 1 from layer k
            values[f"c{k + 1}"] = np.zeros(above)
        return values | {f"b{len(LAYERS) - 1}": np.zeros(LAYERS[-1])}
    x = data(name)
    if name == "mixture":
        centres = x[[0, 75, 140]]
        return {"loc": centres, "scale": np.full(centres.shape, 0.1), "logits": np.zeros((len(x), N_CLUSTERS))}
    level = np.sqrt(x.mean() / N_FACTORS)
    values = {}
    for site, shape in factor_shapes().items():
        values[f"{site}_shape"] = np.full(shape, 2.0)
        values[f"{site}_rate"] = 2.0 / (level * rng.uniform(0.5, 1.5, shape))
    return values


def factor_shapes():
    """Return the shapes of the latent variables of the factor model."""
    n, m = data("factors").shape
    return {"rows": (n, N_FACTORS), "columns": (N_FACTORS, m)}


def mixture_optimum():
    """Return the ELBO of the mixture's mean-field optimum from the same start, by coordinate ascent."""
    from scipy.special import log_softmax, softmax

    x, centres = data("mixture"), start("mixture")["loc"].copy()
    variance, precision = np.full(N_CLUSTERS, start("mixture")["scale"][0, 0] ** 2), CLUSTER_SD**-2
    for _ in range(2000):
        squares = ((x[:, None] - centres) ** 2).sum(-1) + x.shape[1] * variance
        logits = -0.5 * precision * squares
        p = softmax(logits, 1)
        weight = 1.0 + precision * p.sum(0)
        centres, variance = precision * (p.T @ x) / weight[:, None], 1.0 / weight
    d = x.shape[1]
    squares = ((x[:, None] - centres) ** 2).sum(-1) + d * variance
    elbo = (p * (-0.5 * precision * squares - d * np.log(CLUSTER_SD) - 0.5 * d * np.log(2 * np.pi))).sum()
    elbo += -len(x) * np.log(N_CLUSTERS) - (p * log_softmax(logits, 1)).sum()
    elbo += 0.5 * (d + d * np.log(variance) - (centres**2).sum(1) - d * variance).sum()
    return float(elbo)
