"""Draws the pictures of docs/gradients.md: `python -m bench.gradients.figures` writes docs/figures/*.svg.

The noise in them is the same at every run; the times are those of this machine.
"""

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import bench
import klqp
from bench.gradients import problems
from bench.gradients.measure import ESTIMATORS, fit, noise

FOLDER = bench.CHECKOUT / "docs" / "figures"
DRAWS = (2, 4, 8, 16, 32, 64, 128, 256)
NOISE_OF = {  # problem -> estimators
    problems.BELIEF_NET: ["score, no baseline", "score, leave-one-out", "Rao-Blackwell, leave-one-out"],
    problems.ASSIGNMENTS: [
        "score, no baseline",
        "score, leave-one-out",
        "Rao-Blackwell, leave-one-out",
        "by factor, nothing summed",
        "KLqp's own choice",
    ],
}
FITS_OF = {  # problem -> label -> (class, keywords, draws)
    problems.BELIEF_NET: {
        "score, no baseline": (*ESTIMATORS["score, no baseline"], 10),
        "score, leave-one-out": (*ESTIMATORS["score, leave-one-out"], 10),
        "Rao-Blackwell, leave-one-out": (*ESTIMATORS["Rao-Blackwell, leave-one-out"], 10),
        "Rao-Blackwell, running, S = 1": (klqp.ScoreRBKLqp, {"baseline": "running"}, 1),
    },
    problems.ASSIGNMENTS: {
        "score, leave-one-out": (*ESTIMATORS["score, leave-one-out"], 10),
        "Rao-Blackwell, leave-one-out": (*ESTIMATORS["Rao-Blackwell, leave-one-out"], 10),
        "by factor, nothing summed": (*ESTIMATORS["by factor, nothing summed"], 10),
        "KLqp's own choice": (*ESTIMATORS["KLqp's own choice"], 10),
    },
}
N_DRAWS, SMOOTHED, POINTS = 30_000, 1000, 200  # draws of a fit and of a window; points of a line
STYLE = {
    "svg.hashsalt": "klqp",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_noise(axes, problem, names):
    """Draw the noise over all factors of q against the number of draws."""
    model = problem.make()
    for name in names:
        values = [math.hypot(*noise(model, ESTIMATORS[name], s, 300).noise.values()) for s in DRAWS]
        axes.loglog(DRAWS, values, "o-", markersize=3, label=name)
    axes.set(title=problem.name, xlabel="draws S", ylabel="noise of the gradient", xticks=DRAWS, xticklabels=DRAWS)
    axes.minorticks_off()
    axes.legend(fontsize=7)


def draw_fits(axes, problem, fits):
    """Draw the ELBO against processor time, as the moving average of the steps' estimates; all take as many draws."""
    best = -math.inf
    for name, (cls, options, n_samples) in fits.items():
        n_iter, window = N_DRAWS // n_samples, SMOOTHED // n_samples
        losses, seconds = fit(problem.make(), n_iter, (cls, options), n_samples)
        elbo = -np.convolve(losses, np.full(window, 1 / window), "valid")
        at, every = np.linspace(0.0, seconds, n_iter)[window - 1 :], max(1, n_iter // POINTS)
        axes.plot(at[::every], elbo[::every], label=name)
        best = max(best, float(elbo[-1]))
    axes.set(
        title=problem.name, xlabel="seconds", ylabel="ELBO", ylim=(best - 0.6 * abs(best), best + 0.03 * abs(best))
    )
    axes.legend(fontsize=7)


def draw(name, panels, draw_panel):
    """Draw one panel for each problem and write the file."""
    figure, axes = plt.subplots(1, len(panels), figsize=(9.0, 3.4), layout="constrained")
    for each, (problem, what) in zip(axes, panels.items(), strict=True):
        draw_panel(each, problem, what)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


def main():
    """Draw both pictures."""
    mpl.use("svg")
    with mpl.rc_context(STYLE):
        draw("gradients_noise", NOISE_OF, draw_noise)
        draw("gradients_fits", FITS_OF, draw_fits)


if __name__ == "__main__":
    main()
