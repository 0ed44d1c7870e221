"""Draws the picture of docs/performance.md from a result: `python -m bench.figures RESULT.json ...`.

Ratios of the groups "regression" and "startup"; of results that have the same table the last counts. Writes
docs/figures/performance.svg.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import bench

FILE = bench.CHECKOUT / "docs" / "figures" / "performance.svg"
PEERS = {"JAX": "C0", "NumPy": "C1", "NumPyro": "C2", "PyMC": "C3"}
STYLE = {
    "svg.hashsalt": "klqp",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def read(paths):
    """Return the tables of all results, the later ones last."""
    return [
        table for path in paths for group in json.loads(Path(path).read_text())["groups"].values() for table in group
    ]


def regressions(tables):
    """Return threads -> (shape, dtype) -> details of the group "regression"."""
    found = {}
    for table in tables:
        for detail in table.get("details", []):
            if "ratios" in detail:
                found.setdefault(table["threads"], {})[tuple(detail["shape"]), detail["dtype"]] = detail
    return found


def processes(tables):
    """Return process -> median seconds of processor time of the group "startup"."""
    found = {}
    for table in tables:
        if table["title"].startswith("From process start"):
            found = {each["process"]: each["cpu"]["median"] for each in table["details"]}
    return found


def ratio(detail, peer):
    """Return how much longer a peer takes, JAX with the faster of its generators; None if it was not there."""
    names = [name for name in detail["ratios"] if name == peer or name.startswith(f"{peer},")]
    return min((detail["ratios"][name] for name in names), default=None)


def of_type(details, dtype):
    """Return the details of a dtype."""
    return {key: detail for key, detail in details.items() if key[1] == dtype}


def draw_ratios(axes, details, title):
    """Draw the ratios of all shapes, and the targets as lines above them."""
    for i, detail in enumerate(details.values()):
        for j, peer in enumerate(("JAX", "NumPy", "NumPyro")):
            at, value = i + 0.25 * (j - 1), ratio(detail, peer)
            if value is not None:
                axes.bar(at, value, 0.22, color=PEERS[peer], label=peer if i == 0 else None)
            if peer in detail["targets"]:
                axes.hlines(detail["targets"][peer], at - 0.12, at + 0.12, color="black", linewidth=1.2)
    labels = [f"{n:,}\n× {d}\nS={s}" for (n, d, s), _ in details]
    axes.set(yscale="log", title=title, xticks=np.arange(len(labels)), ylabel="time / klqp's")
    axes.set_xticklabels(labels, fontsize=6.5)
    axes.axhline(1.0, color="gray", linewidth=0.6)
    axes.yaxis.set_major_formatter("{x:g}")


def draw_processes(axes, seconds):
    """Draw whole processes."""
    names = [name for name in ("klqp", "JAX", "NumPyro", "PyMC") if name in seconds]
    values = [seconds[name] for name in names]
    bars = axes.barh(names, values, color=["black", *(PEERS[name] for name in names[1:])])
    axes.bar_label(bars, [f" {value:.2g} s" for value in values])
    axes.set(xscale="log", title="process start to posterior", xlabel="seconds of processor time")
    axes.set_xlim(min(values) / 3, max(values) * 4)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.invert_yaxis()


def main(paths):
    """Draw what the results have."""
    tables = read(paths)
    found, seconds = regressions(tables), processes(tables)
    mpl.use("svg")
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11.0, 3.2), layout="constrained", width_ratios=(5, 5, 3))
        panels = [(n, dtype) for dtype in ("float64", "float32") for n in sorted(found) if of_type(found[n], dtype)]
        for each, (n, dtype) in zip(axes, panels[:2], strict=False):
            threads = "1 thread" if n == 1 else f"{n} threads"
            draw_ratios(each, of_type(found[n], dtype), f"a step, {dtype}, {threads}")
        axes[0].legend(fontsize=7)
        if seconds:
            draw_processes(axes[2], seconds)
        FILE.parent.mkdir(exist_ok=True)
        figure.savefig(FILE, metadata={"Date": None})
    print(f"written to {FILE}")


if __name__ == "__main__":
    main(sys.argv[1:])
