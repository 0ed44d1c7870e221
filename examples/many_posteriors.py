"""Many fits at once: leave-one-out cross-validation of a linear regression by fitting all of its 442 folds.

Diabetes patients of scikit-learn's data set. Fold i leaves patient i out by a weight of 0; the data are shared. How
well the fold's posterior predicts its patient is compared with the exact answer, which a linear regression with a known
noise has.
"""

import time

import numpy as np
from scipy.stats import norm
from sklearn.datasets import load_diabetes

import klqp

SIGMA = 0.7  # of the noise, in standard deviations of the outcome

x, outcome = load_diabetes(return_X_y=True)
x, outcome = x / x.std(0), (outcome - outcome.mean()) / outcome.std()
n, d = x.shape

w = klqp.Normal(0.0, 1.0, shape=d, name="w")
weight = klqp.placeholder(n, name="weight")
y = klqp.Normal(x @ w, SIGMA, name="y")

start = time.perf_counter()
result = klqp.fit_many(
    [w],
    data={y: outcome, weight: 1.0 - np.eye(n)},  # y is shared, and there is a row of weights for each fold
    scale={y: weight},
    q="full_rank",
    n_iter=1500,
    n_samples=4,
    seed=1,
)
seconds = time.perf_counter() - start
print(f"{result} in {seconds:.1f} s")

# A Normal posterior of w makes a Normal prediction.
covariance = np.stack([posterior["w"].covariance() for posterior in result])
mean = (x * result["w"].mean()).sum(1)
variance = SIGMA**2 + np.einsum("ij,ijk,ik->i", x, covariance, x)
elpd = norm.logpdf(outcome, mean, np.sqrt(variance))

exact = np.empty(n)
for i in range(n):
    rest = np.arange(n) != i
    posterior_covariance = np.linalg.inv(np.eye(d) + x[rest].T @ x[rest] / SIGMA**2)
    posterior_mean = posterior_covariance @ x[rest].T @ outcome[rest] / SIGMA**2
    exact[i] = norm.logpdf(outcome[i], x[i] @ posterior_mean, np.sqrt(SIGMA**2 + x[i] @ posterior_covariance @ x[i]))

print(f"expected log predictive density: {elpd.sum():.2f}, exact {exact.sum():.2f}")
print(f"largest error of a patient: {np.abs(elpd - exact).max():.3f}")
print(f"worst predicted patients: {np.argsort(elpd)[:3]}, exact {np.argsort(exact)[:3]}")
