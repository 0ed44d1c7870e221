"""What the peers share: the start, Adam's settings, the learning rates, the form of an answer."""

from typing import NamedTuple

import numpy as np

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
LEARNING_RATE, FINAL = 0.05, 0.01
# The q that everybody starts from: location 0 and these standard deviations. From klqp's default,
# 1, the largest problem, whose posterior has 0.02, needs several thousand steps.
INITIAL_SCALE = 0.1


class Answer(NamedTuple):
    """Mean and standard deviation of q, (D,) each."""

    mean: np.ndarray
    stddev: np.ndarray


def learning_rates(n_steps, first=LEARNING_RATE):
    """Return klqp's default schedule: half a cosine wave down to a hundredth, (n_steps,)."""
    wave = 0.5 * (1 + np.cos(np.pi * np.arange(n_steps) / n_steps))
    return first * (FINAL + (1 - FINAL) * wave)
