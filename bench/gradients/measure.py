"""The estimators that are compared, and the noise that they leave at given parameters."""

import time
from typing import NamedTuple

import klqp

__all__ = ["CLASSES", "ESTIMATORS", "EVERYTHING_SUMMED", "Measured", "fit", "noise"]

ESTIMATORS = {  # name -> (class, keywords of run)
    "score, no baseline": (klqp.ScoreKLqp, {"baseline": "none"}),
    "score, leave-one-out": (klqp.ScoreKLqp, {}),
    "score, optimal": (klqp.ScoreKLqp, {"baseline": "optimal"}),
    "Rao-Blackwell, leave-one-out": (klqp.ScoreRBKLqp, {}),
    "Rao-Blackwell, optimal": (klqp.ScoreRBKLqp, {"baseline": "optimal"}),
    "Rao-Blackwell, running": (klqp.ScoreRBKLqp, {"baseline": "running"}),
    "by factor, nothing summed": (klqp.KLqp, {"enumerate": False}),
    "KLqp's own choice": (klqp.KLqp, {}),
}
EVERYTHING_SUMMED = (klqp.KLqp, {"enumerate": True})
CLASSES = {
    cls.__name__: (cls, {})
    for cls in (
        klqp.KLqp,
        klqp.ReparameterizationKLqp,
        klqp.ReparameterizationEntropyKLqp,
        klqp.ReparameterizationKLKLqp,
        klqp.ScoreKLqp,
        klqp.ScoreEntropyKLqp,
        klqp.ScoreKLKLqp,
        klqp.ScoreRBKLqp,
    )
}


class Measured(NamedTuple):
    """What one estimator does at one place.

    ``noise`` is the root of the summed variances of one step's gradient, by factor of q; the model's own parameters
    are left out.
    """

    noise: dict[str, float]
    microseconds: float  # of processor time, a gradient
    words: str


def noise(model, estimator, n_samples, n_steps):
    """Measure an estimator at the present values of a model's parameters.

    Parameters
    ----------
    model : tuple
        Latent variables and data.
    estimator : tuple
        Class and keywords.
    n_samples, n_steps : int

    Returns
    -------
    Measured
    """
    cls, options = estimator
    inference = cls(model[0], data=model[1])
    inference.initialize(n_samples=n_samples, seed=1, **options)
    seconds = {}
    for n in (2, n_steps):
        start = time.process_time()
        found = inference.gradient_noise(n, seed=2)
        seconds[n] = time.process_time() - start
    each = 1e6 * (seconds[n_steps] - seconds[2]) / (n_steps - 2)
    by_factor = {name: value.noise for name, value in found.items() if name != "model"}
    return Measured(by_factor, each, inference.estimator)


def fit(model, n_iter, estimator=(klqp.KLqp, {}), n_samples=10):
    """Run a fit; the model's parameters keep what it found.

    Returns
    -------
    losses : ndarray (n_iter,)
    seconds : float
        Of processor time.
    """
    cls, options = estimator
    inference = cls(model[0], data=model[1])
    start = time.process_time()
    inference.run(n_iter=n_iter, n_samples=n_samples, seed=1, progress=False, **options)
    return inference.losses, time.process_time() - start
