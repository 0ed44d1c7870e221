"""Group "overhead": what a fit costs beside its steps, and what steps by hand cost."""

import numpy as np

import klqp
from bench.report import Table
from bench.targets import Gaussian
from bench.timing import interleaved, summary

_STEPS = 200


def contenders(dim):
    """Return the things to time, by name."""
    target = Gaussian(dim)
    options = {"n_samples": 10, "seed": 1, "progress": False}
    fitted = klqp.fit(target, dim, n_iter=100, **options)
    draws = fitted.posterior.sample(1000, seed=1)
    z = klqp.LogDensity(target, shape=dim)

    def by_hand():
        inference = klqp.KLqp([z])
        inference.initialize(n_iter=_STEPS, **options)
        for _ in range(_STEPS):
            inference.update()

    return {
        "fit of one step": lambda: klqp.fit(target, dim, n_iter=1, **options),
        f"fit of {_STEPS} steps": lambda: klqp.fit(target, dim, n_iter=_STEPS, **options),
        f"the same by update(), {_STEPS} times": by_hand,
        "posterior mean": lambda: fitted.posterior["z"].mean(),
        "1000 posterior draws": lambda: fitted.posterior["z"].sample(1000, seed=1),
        "ELBO from 1000 draws": lambda: fitted.posterior.elbo(1000, seed=1),
        "log q at 1000 draws": lambda: fitted.posterior.log_prob(draws),
        "summary": lambda: fitted.posterior.summary(),
        "snapshot": fitted.snapshot,
    }


def run(settings):
    """Yield the table."""
    dims = [10] if settings.quick else [10, 1000]
    table = Table("Microseconds a call, mean field, S=10, Gaussian target", ["call", *map(str, dims)])
    table.columns[1:] = [f"D={dim}" for dim in dims]
    times = {dim: interleaved(contenders(dim), settings) for dim in dims}
    for name in times[dims[0]]:
        table.rows.append([name, *(float(np.median(times[dim][name])) * 1e6 for dim in dims)])
        table.details += [{"call": name, "dim": dim, **summary(times[dim][name])} for dim in dims]
    yield table
