"""Times the elementwise densities of every table beside SciPy's, in nanoseconds an element.

usage: python -m bench.kernels.densities, from the checkout
"""

import numpy as np
from scipy import special, stats

from bench.kernels.speed import N, nanoseconds
from klqp import _core

kernels = _core.kernels


def cases():
    """Return name -> (arguments as arrays of N, SciPy's log density of them)."""
    rng = np.random.default_rng(2)
    z, loc, logits = rng.normal(size=(3, N))
    positive, scale, shape = rng.gamma(2.0, size=(3, N)) + 0.05
    unit, probs = rng.uniform(0.01, 0.99, (2, N))
    count, total = rng.poisson(4.0, N) * 1.0, rng.poisson(4.0, N) + 20.0
    bit = np.floor(2 * unit)
    return {
        "normal": ([z, loc, scale], lambda: stats.norm.logpdf(z, loc, scale)),
        "log_normal": ([positive, loc, scale], lambda: stats.lognorm.logpdf(positive, scale, scale=np.exp(loc))),
        "laplace": ([z, loc, scale], lambda: stats.laplace.logpdf(z, loc, scale)),
        "cauchy": ([z, loc, scale], lambda: stats.cauchy.logpdf(z, loc, scale)),
        "half_cauchy": ([positive, 0 * loc, scale], lambda: stats.halfcauchy.logpdf(positive, 0 * loc, scale)),
        "logistic": ([z, loc, scale], lambda: stats.logistic.logpdf(z, loc, scale)),
        "half_normal": ([positive, scale], lambda: stats.halfnorm.logpdf(positive, scale=scale)),
        "uniform": ([unit, 0 * loc, 1 + scale], lambda: stats.uniform.logpdf(unit, 0 * loc, 1 + scale)),
        "student_t": ([z, shape, loc, scale], lambda: stats.t.logpdf(z, shape, loc, scale)),
        "gamma": ([positive, shape, scale], lambda: stats.gamma.logpdf(positive, shape, scale=1 / scale)),
        "inverse_gamma": ([positive, shape, scale], lambda: stats.invgamma.logpdf(positive, shape, scale=scale)),
        "beta": ([unit, shape, scale], lambda: stats.beta.logpdf(unit, shape, scale)),
        "exponential": ([positive, scale], lambda: stats.expon.logpdf(positive, scale=1 / scale)),
        "chi2": ([positive, shape], lambda: stats.chi2.logpdf(positive, shape)),
        "weibull": ([positive, shape, scale], lambda: stats.weibull_min.logpdf(positive, shape, scale=scale)),
        "gumbel": ([z, loc, scale], lambda: stats.gumbel_r.logpdf(z, loc, scale)),
        "von_mises": ([z, loc, scale], lambda: stats.vonmises.logpdf(z, scale, loc)),
        "bernoulli_logits": ([bit, logits], lambda: stats.bernoulli.logpmf(bit, special.expit(logits))),
        "bernoulli_probs": ([bit, probs], lambda: stats.bernoulli.logpmf(bit, probs)),
        "binomial_logits": ([count, total, logits], lambda: stats.binom.logpmf(count, total, special.expit(logits))),
        "binomial_probs": ([count, total, probs], lambda: stats.binom.logpmf(count, total, probs)),
        "beta_binomial": ([count, total, shape, scale], lambda: stats.betabinom.logpmf(count, total, shape, scale)),
        "poisson": ([count, scale], lambda: stats.poisson.logpmf(count, scale)),
        "poisson_log": ([count, loc], lambda: stats.poisson.logpmf(count, np.exp(loc))),
        "negative_binomial_logits": (
            [count, shape, logits],
            lambda: stats.nbinom.logpmf(count, shape, special.expit(-logits)),
        ),
        "negative_binomial_probs": ([count, shape, probs], lambda: stats.nbinom.logpmf(count, shape, 1 - probs)),
        "geometric_logits": ([count, logits], lambda: stats.geom.logpmf(count + 1, special.expit(logits))),
        "geometric_probs": ([count, probs], lambda: stats.geom.logpmf(count + 1, probs)),
    }


def with_scalars(args):
    """Return the arguments with scalars for the parameters."""
    return [args[0], *(a[0] for a in args[1:])]


def rows():
    """Yield (name, kernel as a function of the table, peer's name, peer): all arguments arrays, without the base."""
    for name, (args, peer) in cases().items():
        yield name, lambda t, d=name, a=args: kernels.log_density(t, d, a), "scipy.stats", peer


def main():
    """Print a Markdown table."""
    tables = kernels.tables()
    columns = ["value, scalars", "value", "gradient, scalars", "gradient"]
    heads = [f"{t}: {c}" for t in tables for c in columns]
    print("| density | " + " | ".join(heads) + " | SciPy's value |")
    print("| --- |" + " --- |" * (len(heads) + 1))
    for name, (args, peer) in cases().items():
        scalars, wanted = with_scalars(args), [True] * len(args)
        cells = []
        for t in tables:
            cells += [
                nanoseconds(lambda t=t, d=name, a=scalars: kernels.log_density(t, d, a)),
                nanoseconds(lambda t=t, d=name, a=args: kernels.log_density(t, d, a)),
                nanoseconds(lambda t=t, d=name, a=scalars, w=wanted: kernels.log_density_gradient(t, d, a, w)),
                nanoseconds(lambda t=t, d=name, a=args, w=wanted: kernels.log_density_gradient(t, d, a, w)),
            ]
        print(f"| {name} | " + " | ".join(f"{c:.1f}" for c in [*cells, nanoseconds(peer)]) + " |", flush=True)


if __name__ == "__main__":
    main()
