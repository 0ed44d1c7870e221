"""The fit in klqp's random variables, as a user writes it."""

import klqp
from bench.peers.common import BETA1, BETA2, EPSILON, Answer
from bench.regression.problem import LEARNING_RATE


class KlqpFit:
    """The model and its fits, each from the start."""

    def __init__(self, problem):
        self._problem = problem
        self._w = klqp.Normal(0.0, 1.0, shape=problem.dim, name="w")
        y = klqp.Bernoulli(logits=problem.x @ self._w, name="y")
        self._inference = klqp.KLqp([self._w], data={y: problem.y})

    def __call__(self, n_steps):
        """Run the fit."""
        adam = klqp.optimizers.Adam(
            learning_rate=LEARNING_RATE, schedule="cosine", beta1=BETA1, beta2=BETA2, epsilon=EPSILON
        )
        self._inference.run(
            restart=True,
            n_iter=n_steps,
            n_samples=self._problem.n_draws,
            entropy="sticking",
            optimizer=adam,
            init_scale=self._problem.init_scale,
            seed=1,
            progress=False,
        )
        posterior = self._inference.posterior[self._w]
        return Answer(posterior.mean(), posterior.stddev())
