"""Group "many": thousands of logistic regressions in one call, beside a JAX program under vmap.

Mean field, Adam, the same first q, learning rates, draws a step and data for both. Posteriors a second, and
microseconds of a step of one problem.
"""

from bench.many.compare import run

__all__ = ["run"]
