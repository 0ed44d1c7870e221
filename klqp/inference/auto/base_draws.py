"""Base draws: scrambled Sobol points as normals, with their first two moments made exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from klqp._sobol import make_noise, max_dim

__all__ = ["base_draws", "fewest_draws"]

Float64 = npt.NDArray[np.float64]


def fewest_draws(width: int) -> int:
    """Return the fewest draws, a power of two, whose moments can be made exact without distorting them much."""
    return 1 << (4 * width - 1).bit_length()


def base_draws(n: int, width: int, key: int, scramble: int, groups: Sequence[slice] = ()) -> Float64:
    """Return n draws (n, width), n a power of two: n / 2 Sobol points, and their opposites.

    Means are 0; where n is at least 4 `width` the covariance is the identity, otherwise the variances are 1. With these
    moments an average of any quadratic function is exact, and so is the optimum found on them where the posterior is a
    Normal. Draws with another number of `scramble` are independent.

    Where n is less the covariance is still the identity in each of some `groups` of columns of which n is at least 4
    times the number. Where there is only one group, it is uncorrelated with all other columns, too: the columns of a
    low-rank factor would otherwise be fitted to what their noise has in common with all other noise.
    """
    kind = "sobol" if width <= max_dim() else "mc"
    half = make_noise(kind, n // 2, width, key, 1).fill(scramble, width)
    if n >= 4 * width:
        # Cov = R^T R over both halves, whose mean is 0.
        root = np.linalg.cholesky(half.T @ half / len(half))
        half = np.linalg.solve(root, half.T).T
    else:
        for group in groups:
            lead = half[:, group]
            if n < 4 * lead.shape[1]:
                continue
            root = np.linalg.cholesky(lead.T @ lead / len(half))
            lead = np.linalg.solve(root, lead.T).T
            if len(groups) == 1:
                half = half - lead @ (lead.T @ half / len(half))
            half[:, group] = lead
        half = half / np.sqrt((half**2).mean(0))
    return np.ascontiguousarray(np.concatenate([half, -half]))
