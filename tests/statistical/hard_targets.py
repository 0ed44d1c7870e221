"""Log densities that a Normal cannot hold, that have no optimum, or that break off; batched, with gradients."""

import numpy as np


def funnel(dim):
    """Neal's funnel: v ~ N(0, 3), x | v ~ N(0, exp(v / 2))."""

    def fn(z):
        v, x = z[:, :1], z[:, 1:]
        squares = (x**2).sum(1, keepdims=True) * np.exp(-v)
        logp = -(v**2) / 18 - 0.5 * squares - 0.5 * (dim - 1) * v
        return logp[:, 0], np.concatenate([-v / 9 + 0.5 * squares - 0.5 * (dim - 1), -x * np.exp(-v)], axis=1)

    return fn, dim


def banana():
    """Rosenbrock's valley."""

    def fn(z):
        a, b = z[:, 0], z[:, 1] - z[:, 0] ** 2
        logp = -0.5 * (1 - a) ** 2 - 5.0 * b**2
        return logp, np.stack([(1 - a) + 20.0 * a * b, -10.0 * b], axis=1)

    return fn, 2


def gaussian(dim, condition, seed=0):
    """A Normal with random axes and variances from 1 to `condition`, far from the origin."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    precision = (axes / np.geomspace(1.0, condition, dim)) @ axes.T
    loc = rng.normal(size=dim) * 10.0

    def fn(z):
        c = z - loc
        g = -c @ precision
        return 0.5 * (c * g).sum(1), g

    return fn, dim


def bimodal(dim, distance=5.0, share=0.5):
    """Two Normals, `distance` from the origin to either side."""
    weights = np.log([share, 1 - share])

    def fn(z):
        parts = weights - 0.5 * np.stack([((z - s * distance) ** 2).sum(1) for s in (1, -1)], axis=1)
        top = parts.max(1)
        logp = top + np.log(np.exp(parts - top[:, None]).sum(1))
        r = np.exp(parts - logp[:, None])
        return logp, sum(r[:, k : k + 1] * (s * distance - z) for k, s in enumerate((1, -1)))

    return fn, dim


def ball(dim, radius):
    """A standard Normal, -inf outside a ball."""

    def fn(z):
        squares = (z**2).sum(1)
        return np.where(squares < radius**2, -0.5 * squares, -np.inf), -z

    return fn, dim


def holes(dim):
    """A standard Normal that is NaN in a tenth of space, in stripes."""

    def fn(z):
        logp = -0.5 * (z**2).sum(1)
        return np.where(np.mod(7.0 * z[:, 0], 1.0) < 0.1, np.nan, logp), -z

    return fn, dim


def improper():
    """No posterior: the sum of two coordinates alone is known."""

    def fn(z):
        s = z.sum(1)
        return -0.5 * (s - 1) ** 2, np.repeat((1 - s)[:, None], 2, axis=1)

    return fn, 2


def slope():
    """No posterior: rises for ever."""

    def fn(z):
        return z.sum(1), np.ones_like(z)

    return fn, 2


def flat(dim=3):
    """Constant."""

    def fn(z):
        return np.zeros(len(z)), np.zeros_like(z)

    return fn, dim


def everywhere_minus_infinity():
    def fn(z):
        return np.full(len(z), -np.inf), np.zeros_like(z)

    return fn, 2


HARD = {
    "funnel 10": lambda: funnel(10),
    "funnel 100": lambda: funnel(100),
    "banana": banana,
    "bimodal 1": lambda: bimodal(1),
    "bimodal 5": lambda: bimodal(5),
    "bimodal, one of a tenth": lambda: bimodal(3, share=0.1),
    "small ball": lambda: ball(3, 0.5),
    "holes": lambda: holes(2),
    "improper": improper,
    "slope": slope,
    "flat": flat,
}
