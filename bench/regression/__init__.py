"""Group "regression": steps of a logistic regression in random variables beside the same fit elsewhere.

Mean field, Adam, the same first q, learning rates, draws a step and data for klqp, JAX and NumPy written by hand, and
NumPyro. Beside them the machine's ceilings: its dgemm and its memory.
"""

from bench.regression.compare import run

__all__ = ["run"]
