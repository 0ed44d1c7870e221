"""Expectations under distributions of SciPy as weighted sums, smooth in the parameters."""

from typing import NamedTuple

import numpy as np
from scipy import special, stats

from .targets import log_beta


class Rule(NamedTuple):
    """Values (n, ...) of a q with weights (n,) and log densities (n,): expectations are weighted sums."""

    x: np.ndarray
    weight: np.ndarray
    log_q: np.ndarray


def tanh_sinh(n):
    """Return nodes and weights on (0, 1) for integrands with singular ends (Takahasi & Mori 1974)."""
    t = np.linspace(-3.6, 3.6, n)
    v = special.expit(np.pi * np.sinh(t))
    return v, (t[1] - t[0]) * np.pi * np.cosh(t) * v * special.expit(-np.pi * np.sinh(t))


HERMITE, HERMITE_WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
HERMITE_WEIGHTS = HERMITE_WEIGHTS / HERMITE_WEIGHTS.sum()


def continuous(law, n=145) -> Rule:
    """Return the rule of a distribution of SciPy: below and above its median, through its quantiles."""
    v, weight = tanh_sinh(n)
    x = np.concatenate([law.ppf(0.5 * v), law.isf(0.5 * v)])
    return Rule(x, np.tile(0.5 * weight, 2), law.logpdf(x))


def inside(rule: Rule) -> Rule:
    """Return the rule with its values kept off 0 and 1, where they were rounded to; their weights are tiny."""
    return rule._replace(x=np.clip(rule.x, 1e-300, 1 - 2**-53))


def discrete(law, n=2000) -> Rule:
    k = np.arange(float(n))
    log_q = law.logpmf(k)
    return Rule(k, np.exp(log_q), np.where(np.isfinite(log_q), log_q, 0.0))


def beta(a, b, n=145) -> Rule:
    rule = inside(continuous(stats.beta(a, b), n))
    return rule._replace(log_q=stats.beta(a, b).logpdf(rule.x))


def categories(values, logits) -> Rule:
    log_q = special.log_softmax(logits)
    return Rule(values, np.exp(log_q), log_q)


def on_circle(loc, concentration) -> Rule:
    x = np.linspace(-np.pi, np.pi, 400, endpoint=False)
    log_q = concentration * (np.cos(x - loc) - 1) - np.log(2 * np.pi * special.ive(0, concentration))
    return Rule(x, np.exp(log_q) * 2 * np.pi / 400, log_q)


def of_normals(logits, loc, scale) -> Rule:
    weights = special.softmax(logits)
    x = (loc[:, None] + scale[:, None] * HERMITE).ravel()
    log_q = special.logsumexp(stats.norm(loc, scale).logpdf(x[:, None]), 1, b=weights)
    return Rule(x, np.outer(weights, HERMITE_WEIGHTS).ravel(), log_q)


def relaxed(temperature, logits) -> Rule:
    base = continuous(stats.logistic)
    x = np.clip((logits + base.x) / temperature, -600, 36)
    log_q = base.log_q + np.log(temperature) - special.log_expit(x) - special.log_expit(-x)
    return Rule(special.expit(x), base.weight, log_q)


def relaxed_pair(temperature, logits) -> Rule:
    one = relaxed(temperature, logits[0] - logits[1])
    return one._replace(x=np.stack([one.x, 1 - one.x], 1))


def dirichlet(concentration) -> Rule:
    """Return a product rule: the first share, and the second one's of the rest, are Beta variables."""
    a, b, c = concentration
    first, rest = beta(a, b + c, 49), beta(b, c, 49)
    x = np.stack(
        [
            np.repeat(first.x, rest.x.size),
            np.outer(1 - first.x, rest.x).ravel(),
            np.outer(1 - first.x, 1 - rest.x).ravel(),
        ],
        1,
    )
    log_q = special.xlogy(concentration - 1, np.maximum(x, 1e-300)).sum(1) - log_beta(concentration)
    return Rule(np.maximum(x, 1e-300), np.outer(first.weight, rest.weight).ravel(), log_q)


def normal_plane(loc, scale_tril) -> Rule:
    e = np.stack([a.ravel() for a in np.meshgrid(HERMITE, HERMITE, indexing="ij")], 1)
    log_q = -0.5 * (e**2).sum(1) - np.log(np.diag(scale_tril)).sum() - np.log(2 * np.pi)
    return Rule(loc + e @ scale_tril.T, np.outer(HERMITE_WEIGHTS, HERMITE_WEIGHTS).ravel(), log_q)
