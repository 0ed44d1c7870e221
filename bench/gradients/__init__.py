"""Group "gradients": how much noise each gradient estimator leaves, factor by factor of q.

The models are in `problems`, the estimators and the measurement in `measure`, the tables in `tables`. The pictures of
docs/gradients.md are drawn by ``python -m bench.gradients.figures``.
"""

from bench.gradients.tables import run

__all__ = ["run"]
