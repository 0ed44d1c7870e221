"""PyMC: `pymc.fit` with method="advi" or "fullrank_advi" and its defaults, 10,000 iterations with one draw."""

from __future__ import annotations

import logging

import numpy as np
import pymc
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from bench.posteriors.answer import Answer, from_covariance
from bench.posteriors.targets import Counted

NAME, NEEDS = "pymc", ("pymc",)
FAMILIES = ("mean_field", "full_rank")

logging.getLogger("pymc").setLevel(logging.ERROR)


class LogDensity(Op):
    """A log density and its gradient at one point (D,), from one call."""

    def __init__(self, target: Counted) -> None:
        self.target = target

    def make_node(self, z):
        z = pt.as_tensor_variable(z)
        return Apply(self, [z], [pt.dscalar(), pt.dvector()])

    def perform(self, node, inputs, outputs):
        with np.errstate(all="ignore"):
            logp, grad = self.target(np.ascontiguousarray(inputs[0], dtype=float)[None])
        outputs[0][0], outputs[1][0] = np.asarray(logp[0], float), np.array(grad[0], float)

    def L_op(self, inputs, outputs, output_gradients):
        return [output_gradients[0] * outputs[1]]


def fit(target: Counted, family: str, seed: int) -> Answer:
    """Fit; what comes before the first call of the log density is compiling."""
    op = LogDensity(target)
    with pymc.Model():
        z = pymc.Flat("z", shape=target.dim)
        pymc.Potential("target", op(z)[0])
        method = "advi" if family == "mean_field" else "fullrank_advi"
        q = pymc.fit(method=method, random_seed=seed, progressbar=False)
    if family == "mean_field":
        return Answer(q.mean.eval(), q.std.eval())
    return from_covariance(q.mean.eval(), q.cov.eval())
