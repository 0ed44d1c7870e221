"""Pyro's SVI: all draws of a step in one plate of particles."""

import time

import numpy as np
import pyro
import torch
from pyro.infer import SVI, Trace_ELBO, TraceGraph_ELBO

from bench.latent.cases import CASES, data
from bench.latent.pyro_models import MODELS, tensor


class PyroFit:
    """Steps of a case and estimates of its ELBO.

    Attributes
    ----------
    compile_seconds : float
        Always 0: nothing is compiled.
    """

    compile_seconds = 0.0

    def __init__(self, name, baseline=None, seed=1, dtype="float32"):
        torch.set_default_dtype(getattr(torch, dtype))
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        self._case = case = CASES[name]
        self._model, self._guide = MODELS[name](baseline)
        self._rows = tensor(data(name))
        self._rng = np.random.default_rng(seed)
        nesting = 0 if name == "factors" else 1
        kind = Trace_ELBO if name == "factors" else TraceGraph_ELBO
        options = {"vectorize_particles": True, "max_plate_nesting": nesting}
        self._svi = SVI(
            self._model,
            self._guide,
            pyro.optim.Adam(self._learning_rate),
            kind(num_particles=case.n_samples, **options),
        )
        self._bound = Trace_ELBO(num_particles=case.n_samples, **options)

    def _learning_rate(self, parameter):
        """Return Adam's arguments: networks that predict baselines may learn faster."""
        return {"lr": 1e-2 if "baseline" in parameter else self._case.learning_rate}

    def run(self, n_steps):
        """Take steps; return the seconds they took, on the clock and of processors."""
        case, n = self._case, len(self._rows)
        began, cpu_began = time.perf_counter(), time.process_time()
        for _ in range(n_steps):
            rows = self._rows if case.batch is None else self._rows[self._rng.choice(n, case.batch, replace=False)]
            self._svi.step(rows, case.n_samples)
        return time.perf_counter() - began, time.process_time() - cpu_began

    def elbo(self, n_rounds=20):
        """Return the ELBO of all rows and its standard error, over rounds of S draws."""
        with torch.no_grad():
            values = [-self._bound.loss(self._model, self._guide, self._rows, 1) for _ in range(n_rounds)]
        return np.mean(values) / self._case.per, np.std(values, ddof=1) / n_rounds**0.5 / self._case.per
