"""The same fit by klqp."""

import klqp
from bench.peers.common import BETA1, BETA2, EPSILON, INITIAL_SCALE, LEARNING_RATE, Answer


def fit(log_density, dim, n_steps, n_draws, seed=1):
    """Fit with the peers' settings, which but for the start are klqp's defaults."""
    adam = klqp.optimizers.Adam(
        learning_rate=LEARNING_RATE, schedule="cosine", beta1=BETA1, beta2=BETA2, epsilon=EPSILON
    )
    inference = klqp.fit(
        log_density,
        dim,
        n_iter=n_steps,
        n_samples=n_draws,
        entropy="sticking",
        optimizer=adam,
        init_scale=INITIAL_SCALE,
        seed=seed,
        progress=False,
    )
    posterior = inference.posterior["z"]
    return Answer(posterior.mean(), posterior.stddev())
