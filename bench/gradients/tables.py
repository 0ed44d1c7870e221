"""The tables: noise at the start and near the optimum, and how it falls with the number of draws."""

import math

from bench.gradients import problems
from bench.gradients.measure import CLASSES, ESTIMATORS, EVERYTHING_SUMMED, fit, noise
from bench.report import Table

N_SAMPLES = 10
TOLERANCE = 0.15  # of the noise times the root of S, from 16 draws on


def digits(value):
    """Return a number with three digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def noise_table(problem, estimators, n_steps):
    """Return the table of one problem."""
    model = problem.make()
    start = {name: noise(model, how, N_SAMPLES, n_steps) for name, how in estimators.items()}
    fit(model, problem.n_iter)
    end = {name: noise(model, how, N_SAMPLES, n_steps) for name, how in estimators.items()}
    factors = list(next(iter(start.values())).noise)
    columns = [f"{factor}, {where}" for where in ("start", "optimum") for factor in factors]
    table = Table(
        f"Noise of the gradient, S = {N_SAMPLES}: {problem.name}",
        ["estimator", *columns, "us a gradient"],
        notes=[f"{n_steps} gradients each; near the optimum: after {problem.n_iter} steps of KLqp."],
    )
    for name in estimators:
        values = [digits(found.noise[factor]) for found in (start[name], end[name]) for factor in factors]
        table.rows.append([name, *values, round(end[name].microseconds)])
        for where, found in (("start", start[name]), ("optimum", end[name])):
            table.details.append({"problem": problem.name, "estimator": name, "where": where, **found._asdict()})
    return table


def draws_table(problem, estimators, draws, n_steps):
    """Return the table of the noise over all factors against the number of draws, times its root."""
    table = Table(
        f"Noise times the root of S, at the start: {problem.name}",
        ["S", *estimators],
        notes=["Leave-one-out baselines come from S - 1 draws: S / (S - 1) more variance, which few draws show."],
    )
    model, scaled = problem.make(), {}
    for s in draws:
        for name, how in estimators.items():
            found = noise(model, how, s, n_steps)
            scaled[name, s] = math.hypot(*found.noise.values()) * math.sqrt(s)
            table.details.append({"problem": problem.name, "estimator": name, "n_samples": s, **found._asdict()})
        table.rows.append([str(s), *(digits(scaled[name, s]) for name in estimators)])
    for (name, s), value in scaled.items():
        off = value / scaled[name, draws[-1]] - 1.0
        if s >= 16 and abs(off) > TOLERANCE:
            table.failures.append(f"{problem.name}, {name}: the noise at S = {s} is {off:+.0%} off one over root S")
    return table


def run(settings):
    """Yield the tables."""
    n_steps = 400 if settings.quick else 2000
    yield noise_table(problems.BELIEF_NET, ESTIMATORS, n_steps)
    yield noise_table(problems.BELIEF_NET_ROW, {**ESTIMATORS, "everything summed": EVERYTHING_SUMMED}, n_steps)
    yield noise_table(problems.ASSIGNMENTS, ESTIMATORS, n_steps)
    yield noise_table(problems.POISSON_FACTORS, ESTIMATORS, n_steps)
    yield noise_table(problems.NORMAL_MEAN, CLASSES, 5 * n_steps)
    draws = (2, 4, 8, 16, 32) if settings.quick else (2, 4, 8, 16, 32, 64, 128, 256)
    for problem in (problems.BELIEF_NET, problems.ASSIGNMENTS):
        yield draws_table(problem, ESTIMATORS, draws, 500)
