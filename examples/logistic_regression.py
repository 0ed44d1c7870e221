"""Bayesian logistic regression on real data: 569 breast-mass biopsies, 30 measurements each, benign or malignant.

The log density and its gradient are plain NumPy. Prints the posterior, the ELBO and the time, and draws the ELBO over
the run: with matplotlib to logistic_regression.png, without it as text.
"""

import time

import numpy as np
from sklearn.datasets import load_breast_cancer

import klqp

data = load_breast_cancer()
X = (data.data - data.data.mean(0)) / data.data.std(0)
X = np.column_stack([np.ones(len(X)), X])
y = data.target.astype(float)  # 1 is benign
names = ["intercept", *data.feature_names]


def log_density(w):
    """Return log p(y, w) and its gradient for draws w (S, 31) of the coefficients, prior N(0, 1) each."""
    eta = w @ X.T
    log_lik = eta @ y - np.logaddexp(0, eta).sum(1)
    log_prior = -0.5 * (w**2).sum(1) - 0.5 * w.shape[1] * np.log(2 * np.pi)
    residual = y - 0.5 * (1 + np.tanh(0.5 * eta))
    return log_lik + log_prior, residual @ X - w


def plot(losses):
    """Draw the ELBO over the steps."""
    elbo = -losses
    try:
        import matplotlib

        matplotlib.use("agg")
        import matplotlib.pyplot as plt
    except ImportError:
        rows = elbo.reshape(20, -1).mean(1)
        low, high = rows.min(), rows.max()
        for i, value in enumerate(rows):
            bar = "#" * (1 + int(50 * (value - low) / (high - low)))
            print(f"step {(i + 1) * len(elbo) // 20:5d}  ELBO {value:9.2f}  {bar}")
        return
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(elbo, linewidth=0.5)
    axes.set(xlabel="step", ylabel="ELBO estimate (nats)", ylim=(np.quantile(elbo, 0.05), elbo.max() + 2))
    figure.savefig("logistic_regression.png", dpi=120)
    print("The ELBO over the steps is in logistic_regression.png")


started = time.perf_counter()
inference = klqp.fit(log_density, dim=X.shape[1], q="full_rank", n_iter=5000, seed=1)
seconds = time.perf_counter() - started

posterior = inference.posterior
elbo = posterior.elbo(10_000, seed=2)
print(posterior.summary())
print()
w = posterior["z"]
clearest = np.argsort(-np.abs(w.mean() / w.stddev()))[:5]
print("Clearest effects: " + ", ".join(f"z[{i}] {names[i]} {w.mean()[i]:+.2f}±{w.stddev()[i]:.2f}" for i in clearest))
print(f"ELBO {elbo.value:.3f} ± {elbo.std_error:.3f} nats; 5,000 steps of 10 draws in {seconds:.2f} s")
print(f"Estimator: {inference.estimator}")
plot(inference.losses)
