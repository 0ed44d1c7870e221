"""Draws the pictures of docs/diagnostics.md: `python -m bench.posteriors.figures` writes docs/figures/verdict_*.svg.

Every q, number and word in them is klqp's, from fits with fixed seeds; `--png` writes PNG files to look at, too.
"""

import sys
import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import bench
import klqp

FOLDER = bench.CHECKOUT / "docs" / "figures"
TRUTH, MEAN_FIELD, FULL_RANK, CORRECTED = "0.6", "C1", "C0", "C2"
LEVELS = (0.5, 0.9, 0.99)  # shares of the mass inside the lines
N_WEIGHTS, N_POINTS = 20_000, 200
STYLE = {
    "svg.hashsalt": "klqp",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


# --- log densities -------------------------------------------------------------------------------------------------
PRECISION = np.linalg.inv([[1.0, 0.9], [0.9, 1.0]])


def correlated(z):
    """Two coordinates with a correlation of 0.9."""
    return -0.5 * ((z @ PRECISION) * z).sum(1), -z @ PRECISION


def banana(z):
    """z0 ~ N(1, 1), z1 | z0 ~ N(z0^2, 1/10)."""
    a, b = z[:, 0], z[:, 1] - z[:, 0] ** 2
    return -0.5 * (1 - a) ** 2 - 5.0 * b**2, np.stack([(1 - a) + 20.0 * a * b, -10.0 * b], axis=1)


def two_modes(z):
    """Two unit Normals, five from the origin."""
    return (np.logaddexp(5 * z, -5 * z) - 0.5 * z**2).sum(1), 5 * np.tanh(5 * z) - z


def log_gamma(z):
    """The logarithm of a Gamma(5, 1) variable."""
    return (5 * z - np.exp(z)).sum(1), 5 - np.exp(z)


# --- fits -----------------------------------------------------------------------------------------------------------
def fitted(fn, dim, q):
    """Return klqp's fit and its verdict."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", klqp.PoorFitWarning)
        inference = klqp.fit(fn, dim, q=q, seed=1, progress=False)
    return inference, inference.diagnose(seed=2)


def reweighted(inference):
    """Return the weighted draws; that the weights may be of no use is what the pictures are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", klqp.PoorFitWarning)
        return inference.posterior.reweighted(N_WEIGHTS, seed=2)


def label(name, verdict):
    """Return the name with the verdict."""
    return f"{name}: {verdict.word}, k_hat {verdict.evidence.k_hat:.2f}"


# --- drawing --------------------------------------------------------------------------------------------------------
def draw_density(axes, fn, x, y):
    """Shade the highest regions that hold the shares LEVELS of a density's mass."""
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    density = np.exp(fn(grid.reshape(-1, 2))[0]).reshape(grid.shape[:2])
    falling = np.sort(density.ravel())[::-1]
    mass = np.cumsum(falling) / falling.sum()
    heights = [falling[np.searchsorted(mass, share)] for share in LEVELS[::-1]]
    axes.contourf(x, y, density, [*heights, density.max()], colors=["0.92", "0.84", "0.74"])


def draw_normal(axes, inference, color, text):
    """Draw the ellipses that hold the same shares of q."""
    z = inference.posterior["z"]
    root = np.linalg.cholesky(z.covariance())
    turn = np.linspace(0.0, 2.0 * np.pi, 73)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    for i, share in enumerate(LEVELS[:2]):
        ellipse = z.mean()[:, None] + np.sqrt(-2.0 * np.log(1.0 - share)) * root @ circle
        axes.plot(*ellipse, color=color, linewidth=1.3, label=text if i == 0 else None)


def draw_correlated(axes):
    """Draw the truth and both families."""
    x = np.linspace(-3.3, 3.3, 80)
    draw_density(axes, correlated, x, x)
    for q, name, color in (("mean_field", "mean field", MEAN_FIELD), ("full_rank", "full rank", FULL_RANK)):
        inference, verdict = fitted(correlated, 2, q)
        draw_normal(axes, inference, color, label(name, verdict))
    axes.set(title="a correlated Normal", xlabel="z[0]", ylabel="z[1]")
    axes.legend(fontsize=7, loc="upper left", frameon=False)


def draw_banana(axes):
    """Draw the truth, q, and its draws after weighting, without replacement."""
    draw_density(axes, banana, np.linspace(-2.2, 3.8, 110), np.linspace(-1.5, 13.0, 110))
    inference, verdict = fitted(banana, 2, "full_rank")
    points = reweighted(inference).sample(N_POINTS, seed=3, replace=False)["z"]
    axes.plot(*points.T, ".", color=CORRECTED, markersize=2, label="reweighted draws")
    draw_normal(axes, inference, FULL_RANK, label("full rank", verdict))
    axes.set(title="a banana", xlabel="z[0]", ylabel="z[1]", xlim=(-2.2, 3.8), ylim=(-1.5, 13.0))
    axes.legend(fontsize=7, loc="upper left", frameon=False)


def draw_modes(axes):
    """Draw both densities."""
    inference, verdict = fitted(two_modes, 1, "mean_field")
    z = np.linspace(-9.0, 9.0, 241)
    truth = np.exp(two_modes(z[:, None])[0])
    axes.fill_between(z, truth / (truth.sum() * (z[1] - z[0])), color="0.84")
    share = f"{verdict.word}, {verdict.evidence.other_mode:.0%} elsewhere"
    axes.plot(z, np.exp(inference.posterior.log_prob(z[:, None])), color=MEAN_FIELD, label=f"mean field: {share}")
    axes.set(title="two modes", xlabel="z", ylabel="density", ylim=(0.0, 0.5))
    axes.legend(fontsize=7, loc="upper left", frameon=False)


def draw_corrected(axes):
    """Draw the truth, q, and the histogram of the weighted draws."""
    inference, verdict = fitted(log_gamma, 1, "mean_field")
    z = np.linspace(-0.9, 3.2, 206)
    truth = np.exp(log_gamma(z[:, None])[0])
    axes.fill_between(z, truth / (truth.sum() * (z[1] - z[0])), color="0.84")
    axes.plot(z, np.exp(inference.posterior.log_prob(z[:, None])), color=MEAN_FIELD, label=label("q", verdict))
    draws = reweighted(inference).sample(N_WEIGHTS, seed=3)["z"][:, 0]
    heights, edges = np.histogram(draws, np.linspace(-0.9, 3.2, 42), density=True)
    axes.stairs(heights, edges, color=CORRECTED, label="reweighted draws")
    axes.set(title="the log of a Gamma(5, 1)", xlabel="z", ylabel="density", ylim=(0.0, 1.15))
    axes.legend(fontsize=7, loc="upper left", frameon=False)


def draw_tails(axes):
    """Draw the share of draws with weights above a value: the tail whose shape k_hat is."""
    cases = (
        ("log Gamma", log_gamma, 1, "mean_field", CORRECTED),
        ("banana, full rank", banana, 2, "full_rank", FULL_RANK),
        ("correlated, mean field", correlated, 2, "mean_field", MEAN_FIELD),
    )
    for name, fn, dim, q, color in cases:
        inference, verdict = fitted(fn, dim, q)
        z = inference.posterior["z"].sample(N_WEIGHTS, seed=2)
        log_ratio = fn(z)[0] - inference.posterior.log_prob(z)
        weights = np.sort(np.exp(log_ratio - log_ratio.max()))[::-1]
        weights *= len(weights) / weights.sum()
        rank = np.unique(np.geomspace(1, len(weights), 120).astype(int))
        axes.loglog(weights[rank - 1], rank / len(weights), color=color, label=label(name, verdict))
    axes.set(title="tails of the weights", xlabel="weight / mean weight", ylabel="share of draws above")
    axes.set_xlim(left=0.3)
    axes.legend(fontsize=7, loc="upper right", frameon=False)


def write(name, panels, width):
    """Draw the panels side by side and write the file."""
    figure, axes = plt.subplots(1, len(panels), figsize=(width, 3.2), layout="constrained")
    for each, draw in zip(axes, panels, strict=True):
        draw(each)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    if "--png" in sys.argv:
        figure.savefig(FOLDER / f"{name}.png", dpi=110)
    print(f"written to {FOLDER / name}.svg")


def main():
    """Draw both pictures."""
    mpl.use("svg")
    with mpl.rc_context(STYLE):
        write("verdict_families", (draw_correlated, draw_banana, draw_modes), 10.0)
        write("verdict_weights", (draw_corrected, draw_tails), 7.5)


if __name__ == "__main__":
    main()
