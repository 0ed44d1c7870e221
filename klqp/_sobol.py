"""Base draws for the core; direction numbers of the Sobol sequence, read off SciPy's unscrambled points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from klqp import _core


def make_noise(
    kind: str, n_draws: int, dim: int, key: int, n_groups: int, uniforms: Sequence[tuple[int, int]] = ()
) -> _core.Noise:
    """Return the base draws of a run; `n_groups` independent scrambles of Sobol draws.

    Columns in the ranges `uniforms` are uniforms on (0, 1), the others standard normals.

    Raises
    ------
    ValueError
        If Sobol draws are asked for in a number that is not a power of two.
    """
    if kind != "sobol":
        return _core.Noise(kind, n_draws, dim, key, uniforms=uniforms)
    if n_draws % n_groups or not (n_draws // n_groups).bit_count() == 1:
        raise ValueError(f"Sobol draws need n_samples to be a power of two, not {n_draws}")
    table = directions(min(dim, max_dim()), int(math.log2(n_draws // n_groups)))
    return _core.Noise(kind, n_draws, dim, key, n_groups, table, uniforms)


@cache
def max_dim() -> int:
    """Return the number of coordinates that the sequence has."""
    from scipy.stats import qmc

    return int(qmc.Sobol.MAXDIM)


@lru_cache(maxsize=16)
def directions(dim: int, n_bits: int) -> npt.NDArray[np.uint32]:
    """Return the first `n_bits` direction numbers (n_bits, dim), 32 bits each; not to be changed.

    Point i of the sequence is the exclusive or of the direction numbers at the bits of the Gray code i ^ (i >> 1).
    Point 2**j therefore is v_j ^ v_(j-1), and point 1 is v_0.
    """
    from scipy.stats import qmc

    if n_bits == 0:
        return np.zeros((0, dim), np.uint32)
    # One point more than the largest index asked for, rounded up to the power of two that SciPy wants.
    points = qmc.Sobol(dim, scramble=False, bits=32).random_base2(n_bits)
    integers = (points * 2.0**32).astype(np.uint32)
    out = np.empty((n_bits, dim), np.uint32)
    for j in range(n_bits):
        out[j] = integers[1 << j] ^ (out[j - 1] if j else np.uint32(0))
    out.flags.writeable = False
    return out
