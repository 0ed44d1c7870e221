"""viabel: `bbvi` with FASO, mean field; its full-rank family is Student's t.

Its default, RAABBVI, fits a Stan model through PyStan 2, whose source the package on the index lacks (0.5.1); FASO is
what it is made of, with one step size, and is asked for by `fixed_lr=True`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import types

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive

if importlib.util.find_spec("pystan") is None:
    # viabel imports PyStan 2, which recent Pythons cannot install, and uses it for Stan models alone.
    sys.modules["pystan"] = types.ModuleType("pystan")
if not hasattr(anp, "product"):
    anp.product = anp.prod  # paragami, which viabel is built on, has NumPy 1's name

import viabel

from bench.posteriors.answer import Answer
from bench.posteriors.targets import Counted

NAME, NEEDS = "viabel", ("viabel",)
FAMILIES = ("mean_field",)


def fit(target: Counted, family: str, seed: int) -> Answer:
    """Fit, 10 draws a step and at most 10,000 steps, as by default."""
    last: dict[str, np.ndarray] = {}

    @primitive
    def log_density(z):
        with np.errstate(all="ignore"):
            logp, last["grad"] = target(np.ascontiguousarray(z, dtype=float))
        return logp

    # The gradient belongs to the value before it: viabel differentiates right after each evaluation.
    defvjp(log_density, lambda logp, z: lambda g: g[:, None] * last["grad"])
    approx = viabel.MFGaussian(target.dim, seed=seed)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = viabel.bbvi(target.dim, log_density=log_density, approx=approx, fixed_lr=True)
    loc, covariance = approx.mean_and_cov(found["opt_param"])
    return Answer(np.asarray(loc, float), np.sqrt(np.diag(covariance)))
