"""The fits in klqp: one model with a placeholder for X."""

import klqp
from bench.peers.common import BETA1, BETA2, EPSILON, Answer
from bench.regression.problem import LEARNING_RATE


class KlqpFit:
    """All fits, each from the start."""

    def __init__(self, problems, n_threads=None):
        shape = problems.shape
        self._problems, self._n_threads = problems, n_threads
        self._w = klqp.Normal(0.0, 1.0, shape=shape.dim, name="w")
        self._x = klqp.placeholder((shape.n_rows, shape.dim))
        self._y = klqp.Bernoulli(logits=self._x @ self._w, name="y")

    def __call__(self):
        """Run the fits."""
        p = self._problems
        adam = klqp.optimizers.Adam(
            learning_rate=LEARNING_RATE, schedule="cosine", beta1=BETA1, beta2=BETA2, epsilon=EPSILON
        )
        result = klqp.fit_many(
            [self._w],
            data={self._x: p.x, self._y: p.y},
            n_iter=p.shape.steps,
            n_samples=p.n_draws,
            entropy="sticking",
            optimizer=adam,
            init_scale=p.init_scale,
            seed=1,
            n_threads=self._n_threads,
        )
        return Answer(result["w"].mean(), result["w"].stddev())
