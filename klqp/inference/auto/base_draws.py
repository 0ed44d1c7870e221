"""Base draws: scrambled Sobol points as normals, with their first two moments made exact."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from klqp._sobol import make_noise, max_dim

__all__ = ["base_draws", "fewest_draws"]

Float64 = npt.NDArray[np.float64]


def fewest_draws(width: int) -> int:
    """Return the fewest draws, a power of two, whose moments can be made exact without distorting them much."""
    return 1 << (4 * width - 1).bit_length()


def base_draws(n: int, width: int, key: int, scramble: int, first: int = 0) -> Float64:
    """Return n draws (n, width), n a power of two: n / 2 Sobol points, and their opposites.

    Means are 0; where n is at least 4 `width` the covariance is the identity, otherwise the variances are 1. With these
    moments an average of any quadratic function is exact, and so is the optimum found on them where the posterior is a
    Normal. Draws with another number of `scramble` are independent.

    Where n is less, but at least 4 `first`, the covariance is that of the identity in its `first` rows and columns: the
    columns of a low-rank factor would otherwise be fitted to what their noise has in common with all other noise.
    """
    kind = "sobol" if width <= max_dim() else "mc"
    half = make_noise(kind, n // 2, width, key, 1).fill(scramble, width)
    if n >= 4 * width:
        # Cov = R^T R over both halves, whose mean is 0.
        root = np.linalg.cholesky(half.T @ half / len(half))
        half = np.linalg.solve(root, half.T).T
    else:
        if 0 < first <= n // 4:
            lead, others = half[:, :first], half[:, first:]
            root = np.linalg.cholesky(lead.T @ lead / len(half))
            lead = np.linalg.solve(root, lead.T).T
            half = np.concatenate([lead, others - lead @ (lead.T @ others / len(half))], axis=1)
        half = half / np.sqrt((half**2).mean(0))
    return np.ascontiguousarray(np.concatenate([half, -half]))
