"""Group "models": the same models in klqp's random variables and in NumPyro, timed in turn.

One file a case: its data, its NumPyro twin and its klqp version. Everybody has the same family (mean-field
Normal from location 0 and scale 0.1), the same number of draws a step and Adam with the same learning rate.
"""

from bench.models.compare import run

__all__ = ["run"]
