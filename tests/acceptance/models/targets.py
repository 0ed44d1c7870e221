"""Models of one latent variable with data, each with its log joint density in SciPy."""

import numpy as np
from scipy import special, stats

import klqp

LINE, COUNTS, SCALES = np.array([-0.4, 1.1, 1.6]), np.array([3.0, 1.0, 4.0, 2.0]), np.array([0.7, -1.8, 2.6])
FLIPS, ANGLES = np.array([1.0, 1.0, 0.0, 1.0, 0.0]), np.array([1.9, 0.4])
TRIPLE, PAIR = np.array([3.0, 1.0, 2.0]), np.array([4.0, 1.0])


def line():
    """Heavy tails: expectations exist under a Cauchy q."""
    z = klqp.StudentT(3.0, 0.0, 2.0, name="z")
    return z, {klqp.StudentT(4.0, z, 0.8, shape=3): LINE}


def line_log_p(z):
    return stats.t(3, 0, 2).logpdf(z) + stats.t(4, 0, 0.8).logpdf(LINE[:, None] - z).sum(0)


def two_modes():
    z = klqp.Normal(0.0, 3.0, name="z")
    return z, {klqp.Normal(klqp.square(z), 2.0): 2.0, klqp.Normal(z, 6.0): 1.5}


def two_modes_log_p(z):
    return stats.norm(0, 3).logpdf(z) + stats.norm(z**2, 2).logpdf(2.0) + stats.norm(z, 6).logpdf(1.5)


def far_modes():
    z = klqp.Normal(0.0, 3.0, name="z")
    return z, {klqp.Normal(klqp.square(z), 2.0): 5.0, klqp.Normal(z, 6.0): 1.5}


def far_modes_log_p(z):
    return stats.norm(0, 3).logpdf(z) + stats.norm(z**2, 2).logpdf(5.0) + stats.norm(z, 6).logpdf(1.5)


def positive():
    z = klqp.Gamma(2.0, 1.5, name="z")
    return z, {klqp.Poisson(z, shape=4): COUNTS}


def positive_log_p(z):
    seen = COUNTS.sum() * np.log(z) - 4 * z - special.gammaln(COUNTS + 1).sum()
    return stats.gamma(2, scale=1 / 1.5).logpdf(z) + seen


def scale():
    """Heavy tails to both ends: expectations exist under a half-Cauchy q."""
    z = klqp.HalfCauchy(0.0, 1.5, name="z")
    return z, {klqp.StudentT(3.0, 0.0, z, shape=3): SCALES}


def scale_log_p(z):
    return stats.halfcauchy(0, 1.5).logpdf(z) + (stats.t(3).logpdf(SCALES[:, None] / z) - np.log(z)).sum(0)


def share():
    z = klqp.Beta(1.5, 2.0, name="z")
    return z, {klqp.Bernoulli(probs=z, shape=5): FLIPS, klqp.Normal(z, 0.4): 0.9}


def share_log_p(z):
    flips = FLIPS.sum() * np.log(z) + (5 - FLIPS.sum()) * np.log1p(-z)
    return stats.beta(1.5, 2).logpdf(z) + flips + stats.norm(z, 0.4).logpdf(0.9)


def angle():
    z = klqp.VonMises(0.5, 0.8, name="z")
    return z, {klqp.VonMises(z, 1.5, shape=2): ANGLES, klqp.Normal(klqp.sin(2.0 * z), 1.2): 0.6}


def angle_log_p(z):
    seen = stats.vonmises(1.5).logpdf(ANGLES[:, None] - z).sum(0)
    return stats.vonmises(0.8).logpdf(z - 0.5) + seen + stats.norm(np.sin(2 * z), 1.2).logpdf(0.6)


def simplex():
    z = klqp.Dirichlet([1.5, 2.0, 1.2], name="z")
    return z, {klqp.Multinomial(6, probs=z): TRIPLE, klqp.Normal(z[0] - z[1], 0.3): 0.5}


def simplex_log_p(z):
    prior = special.xlogy([0.5, 1.0, 0.2], z).sum(-1) - log_beta([1.5, 2.0, 1.2])
    seen = special.gammaln(7) - special.gammaln(TRIPLE + 1).sum() + special.xlogy(TRIPLE, z).sum(-1)
    return prior + seen + stats.norm(z[:, 0] - z[:, 1], 0.3).logpdf(0.5)


def two_shares():
    z = klqp.Dirichlet([1.5, 2.0], name="z")
    return z, {klqp.Multinomial(5, probs=z): PAIR}


def two_shares_log_p(z):
    prior = special.xlogy([0.5, 1.0], z).sum(-1) - log_beta([1.5, 2.0])
    return prior + np.log(5) + special.xlogy(PAIR, z).sum(-1)


def plane():
    z = klqp.Normal([0.0, 0.5], [1.0, 2.0], name="z")
    return z, {klqp.Bernoulli(logits=2.0 * z[0] - z[1]): 1.0, klqp.Normal(z[0] + z[1], 0.8): 1.4}


def plane_log_p(z):
    prior = stats.norm(0, 1).logpdf(z[:, 0]) + stats.norm(0.5, 2).logpdf(z[:, 1])
    return prior + special.log_expit(2 * z[:, 0] - z[:, 1]) + stats.norm(z.sum(1), 0.8).logpdf(1.4)


def count():
    z = klqp.NegativeBinomial(3.0, probs=0.6, name="z")
    return z, {klqp.Normal(z, 5.0): 6.2}


def count_log_p(z):
    return stats.nbinom(3, 0.4).logpmf(z) + stats.norm(z, 5).logpdf(6.2)


def few():
    z = klqp.BetaBinomial(9.0, 1.2, 1.5, name="z")
    return z, {klqp.Normal(z, 3.0): 5.2}


def few_log_p(z):
    return stats.betabinom(9, 1.2, 1.5).logpmf(z) + stats.norm(z, 3).logpdf(5.2)


def binary():
    z = klqp.Bernoulli(probs=0.3, name="z")
    return z, {klqp.Normal(z, 0.7): 0.8}


def binary_log_p(z):
    return stats.bernoulli(0.3).logpmf(z) + stats.norm(z, 0.7).logpdf(0.8)


def category():
    z = klqp.Categorical(probs=[0.5, 0.2, 0.3], name="z")
    return z, {klqp.Normal(klqp.square(z), 1.5): 1.8}


def category_log_p(z):
    return np.log([0.5, 0.2, 0.3]) + stats.norm(z**2, 1.5).logpdf(1.8)


def one_hot():
    z = klqp.OneHotCategorical(probs=[0.5, 0.2, 0.3], name="z")
    return z, {klqp.Normal(klqp.dot(z, np.array([0.0, 1.0, 4.0])), 1.5): 1.8}


def one_hot_log_p(z):
    return category_log_p(z.argmax(1))


def log_beta(a):
    return special.gammaln(a).sum() - special.gammaln(np.sum(a))


LOG_P = {
    line: line_log_p,
    two_modes: two_modes_log_p,
    far_modes: far_modes_log_p,
    positive: positive_log_p,
    scale: scale_log_p,
    share: share_log_p,
    angle: angle_log_p,
    simplex: simplex_log_p,
    two_shares: two_shares_log_p,
    plane: plane_log_p,
    count: count_log_p,
    few: few_log_p,
    binary: binary_log_p,
    category: category_log_p,
    one_hot: one_hot_log_p,
}
