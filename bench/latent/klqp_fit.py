"""klqp: steps by run(), or by update() with the rows of each in a placeholder."""

import time

import numpy as np

import klqp
from bench.latent.cases import CASES, data
from bench.latent.klqp_models import MODELS


class KlqpFit:
    """Steps of a case and estimates of its ELBO.

    Attributes
    ----------
    compile_seconds : float
        Building the program of a step.
    """

    def __init__(self, name, baseline=None, seed=1, dtype="float64"):
        if dtype != "float64":
            raise ValueError("klqp's models compute in float64")
        self._case = case = CASES[name]
        self._rows = data(name)
        self._rng = np.random.default_rng(seed)
        began = time.perf_counter()
        make = MODELS[name]()
        latents, observed, self._batch = make(case.batch)
        self._inference = klqp.KLqp(latents, data=observed)
        adam = klqp.optimizers.Adam(learning_rate=case.learning_rate, beta2=0.999, schedule="constant")  # the others'
        self._options = {"n_samples": case.n_samples, "optimizer": adam, "seed": seed, "progress": False}
        if baseline is not None:
            self._options |= {"baseline": baseline, "enumerate": False}
        self._inference.initialize(**self._options)
        self._whole = make(len(self._rows))
        self.compile_seconds = time.perf_counter() - began

    def run(self, n_steps):
        """Take steps; return the seconds they took, on the clock and of processors."""
        case, n = self._case, len(self._rows)
        began, cpu_began = time.perf_counter(), time.process_time()
        if self._batch is None:
            self._inference.run(n_iter=n_steps, **self._options)
        for _ in range(n_steps if self._batch is not None else 0):
            rows = self._rows[self._rng.choice(n, case.batch, replace=False)]
            self._inference.update({self._batch: rows})
        return time.perf_counter() - began, time.process_time() - cpu_began

    def elbo(self, n_rounds=20):
        """Return the ELBO of all rows and its standard error, over rounds of S draws."""
        latents, observed, everything = self._whole
        bound = self._inference
        if everything is not None:
            bound = klqp.ScoreKLqp(latents, data={**observed, everything: self._rows})
            bound.initialize(n_samples=self._case.n_samples, progress=False)
        estimate = bound.posterior.elbo(n_rounds * self._case.n_samples, seed=5)
        return estimate.value / self._case.per, estimate.std_error / self._case.per
