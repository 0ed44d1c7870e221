"""The same fits by klqp's model layer."""

import time

import numpy as np

import klqp
from bench.models.case import INITIAL_SCALE


def available():
    """Return whether the installed klqp has random variables."""
    return hasattr(klqp, "Normal")


class KlqpFit:
    """A case's model in klqp and its steps.

    Attributes
    ----------
    build_seconds : float
        Random variables and the inference object, once; `run` prepares the rest at each call.
    """

    def __init__(self, case, seed=1):
        data = case.data()
        start = time.perf_counter()
        self._model = case.model(data)
        self._inference = klqp.KLqp(self._model.latents, data=self._model.observed)
        self.build_seconds = time.perf_counter() - start
        self._case, self._seed = case, seed

    def __call__(self):
        """Take the timed steps, from the start."""
        return self._run(self._case.timed_steps)

    def losses(self):
        """Return the losses of the fit that is checked, one per step."""
        return self._run(self._case.timed_steps * self._case.checked_fits)

    def _run(self, n_steps):
        inference, model = self._inference, self._model
        options = {
            "n_iter": n_steps,
            "n_samples": self._case.n_samples,
            "optimizer": klqp.optimizers.Adam(learning_rate=self._case.learning_rate, schedule="constant", beta2=0.999),
            "init_scale": INITIAL_SCALE,
            "seed": self._seed,
            "progress": False,
        }
        if model.scale is not None:
            options["scale"] = model.scale
        if model.feed is None:
            inference.run(restart=True, **options)
        else:
            rng = np.random.default_rng(self._seed)
            inference.initialize(**options)
            for _ in range(n_steps):
                inference.update(model.feed(rng))
            inference.finalize()
        return inference.losses
