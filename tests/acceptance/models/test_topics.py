"""Latent Dirichlet allocation of four short documents: topics of words summed out, or given q's of their own."""

import numpy as np
import pytest
from scipy.special import digamma, gammaln, logsumexp

import klqp

TOPICS, VOCABULARY = 2, 5
DOCUMENT = np.repeat(np.arange(4), [6, 5, 6, 4])
WORD = np.array([0, 0, 1, 0, 1, 2, 1, 0, 0, 1, 1, 3, 4, 4, 3, 3, 4, 2, 4, 4, 3])


def positive(value):
    return klqp.Parameter(value, support="positive")


class Corpus:
    """The model's Dirichlet variables with q's, and the words with their topics summed out or not."""

    def __init__(self):
        self.theta = klqp.Dirichlet(np.full(TOPICS, 0.5), shape=(4, TOPICS), name="theta")
        self.phi = klqp.Dirichlet(np.full(VOCABULARY, 0.3), shape=(TOPICS, VOCABULARY), name="phi")
        start = np.array([[3.0, 3.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 3.0, 3.0]])
        self.q = {self.theta: klqp.Dirichlet(positive(np.ones((4, TOPICS)))), self.phi: klqp.Dirichlet(positive(start))}

    def summed_out(self):
        words = klqp.Categorical(probs=(self.theta @ self.phi)[DOCUMENT])
        return klqp.KLqp(self.q, data={words: WORD})

    def assigned(self, conditional):
        """The topic of each word has a q: its exact conditional given the draws of theta and phi, or a free one."""
        z = klqp.Categorical(probs=self.theta[DOCUMENT], name="z")
        words = klqp.Categorical(probs=self.phi[z])
        logits = klqp.Parameter(np.zeros((len(WORD), TOPICS)))
        if conditional:
            logits = klqp.log(self.theta[DOCUMENT]) + klqp.log(self.phi.T[WORD])
        return klqp.KLqp({**self.q, z: klqp.Categorical(logits=logits)}, data={words: WORD})


def test_conditional_assignments_give_the_bound_with_topics_summed_out():
    """With q(z | theta, phi) = p(z | theta, phi, words) exact sums give the same integrand, so the same run."""
    runs = [Corpus().summed_out(), Corpus().assigned(conditional=True)]
    for inference in runs:
        inference.run(n_iter=200, n_samples=5, seed=4, progress=False)
    assert "exact sums over its states (2 states of each element)" in runs[1].estimator
    np.testing.assert_allclose(runs[1].losses, runs[0].losses, rtol=1e-9)


def best_mean_field(lam, n_sweeps=3000):
    """Return the best ELBO of independent assignments, by coordinate ascent (Blei, Ng and Jordan 2003)."""
    gamma = np.ones((4, TOPICS))
    for _ in range(n_sweeps):
        log_theta = digamma(gamma) - digamma(gamma.sum(1, keepdims=True))
        log_phi = digamma(lam) - digamma(lam.sum(1, keepdims=True))
        log_r = log_theta[DOCUMENT] + log_phi[:, WORD].T
        total = logsumexp(log_r, axis=1)
        elbo = total.sum()
        for a, prior, log_mean in ((gamma, 0.5, log_theta), (lam, 0.3, log_phi)):
            k = a.shape[1]
            elbo -= np.sum(gammaln(a.sum(1)) - gammaln(a).sum(1) - gammaln(k * prior) + k * gammaln(prior))
            elbo -= np.sum((a - prior) * log_mean)
        r = np.exp(log_r - total[:, None])
        gamma = 0.5 + np.array([r[d == DOCUMENT].sum(0) for d in range(4)])
        lam = 0.3 + np.array([r[v == WORD].sum(0) for v in range(VOCABULARY)]).T
    return elbo


def test_free_assignments_reach_coordinate_ascent():
    corpus = Corpus()
    start = corpus.q[corpus.phi].inputs[0].value
    inference = corpus.assigned(conditional=False)
    inference.run(n_iter=6000, n_samples=20, seed=1, progress=False)
    estimate = inference.posterior.elbo(50_000, seed=2)
    best = best_mean_field(start)
    assert estimate.value == pytest.approx(best, abs=4 * estimate.std_error + 0.01)
    better = Corpus().summed_out()
    better.run(n_iter=6000, n_samples=20, seed=1, progress=False)
    collapsed = better.posterior.elbo(50_000, seed=2)
    assert collapsed.value > best + 4 * collapsed.std_error
