"""Softmax regression on a sparse matrix: 1,797 images of digits, whole and in minibatches by the numbers of rows.

Two thirds of the images are for learning. Neither run copies the matrix: the first reads it once a step, the second
reads the rows of its batch where they lie.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import klqp

images, digits = load_digits(return_X_y=True)
pixels = csr_array(images / 16)
learn = np.arange(len(digits)) % 3 > 0
X, y = pixels[learn], digits[learn]
held_out, truth = pixels[~learn], digits[~learn]
N, D, K, M = X.shape[0], X.shape[1], 10, 100
print(f"{N} images, {X.nnz / (N * D):.0%} of the pixels are not 0")

w = klqp.Normal(0.0, 1.0, shape=(D, K), name="w")
b = klqp.Normal(0.0, 1.0, shape=K, name="b")


def share_right(posterior):
    """Return the share of the images held out whose digit is the most probable one, over draws of the posterior."""
    draws = posterior.sample(200, seed=2)
    probs = np.mean([softmax(held_out @ w + b, axis=1) for w, b in zip(draws["w"], draws["b"], strict=True)], axis=0)
    return np.mean(probs.argmax(1) == truth)


whole = klqp.KLqp([w, b], data={klqp.Categorical(logits=X @ w + b, name="digit"): y})
whole.run(n_iter=1500, n_samples=4, seed=1, progress=False)
print(whole.estimator.splitlines()[-1])

rows, values = klqp.placeholder(M, dtype=int, name="rows"), klqp.placeholder(M, name="digits of the rows")
digit = klqp.Categorical(logits=klqp.take(X, rows) @ w + b, name="digit of the rows")
batches = klqp.KLqp([w, b], data={digit: values})
batches.initialize(n_iter=6000, n_samples=4, scale={digit: N / M}, seed=1)
rng = np.random.default_rng(0)
for _ in range(6000):
    i = rng.integers(N, size=M)
    batches.update({rows: i, values: y[i]})
batches.finalize()

mode = LogisticRegression(C=1.0, max_iter=2000).fit(X, y).score(held_out, truth)
print(f"right: all rows {share_right(whole.posterior):.3f}, minibatches {share_right(batches.posterior):.3f}, ")
print(f"       the posterior's mode by scikit-learn {mode:.3f}")
means = [np.ravel(run.posterior[w].mean()) for run in (whole, batches)]
sds = [np.ravel(run.posterior[w].stddev()) for run in (whole, batches)]
print(f"means differ by {np.sqrt(np.mean((means[0] - means[1]) ** 2) / np.mean(sds[0] ** 2)):.2f} standard deviations")
print(f"correlation of standard deviations {np.corrcoef(sds)[0, 1]:.3f}")
