"""Entropies of discrete distributions that have no formula, summed over the values that matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from klqp.model.random_variable import Distribution

__all__ = ["bulk", "summed_entropy"]

Float64 = npt.NDArray[np.float64]

# More values than these take seconds.
MOST_VALUES = 2**22


def bulk(mean: Float64, variance: Float64, reach: float | Float64 = 1.0) -> tuple[Float64, Float64]:
    """Return bounds beyond which nothing of a distribution's entropy is left.

    Bernstein's inequality with e**-50: ``reach`` is the scale of its exponential tails.
    """
    width = 10 * np.sqrt(variance) + 50 * reach
    return np.maximum(np.floor(mean - width), 0.0), np.ceil(mean + width)


def summed_entropy(
    make: Callable[..., Distribution], lowest: Float64, highest: Float64, parameters: Mapping[str, Float64]
) -> Float64:
    """Return -sum of p(x) log p(x) over the integers from `lowest` to `highest`, for each element.

    Raises
    ------
    ValueError
        If there are too many of them.
    """
    arrays = np.broadcast_arrays(lowest, highest, *parameters.values())
    known: dict[tuple[float, ...], float] = {}
    out = np.empty(arrays[0].shape)
    for index in np.ndindex(out.shape):
        row = tuple(float(a[index]) for a in arrays)
        if row not in known:
            low, high, *values = row
            if not high - low < MOST_VALUES:
                raise ValueError(
                    f"this entropy is a sum over values, here {high - low + 1:.0f}; at most {MOST_VALUES} are summed"
                )
            x = np.arange(low, high + 1)
            variable = make(**dict(zip(parameters, values, strict=True)), shape=x.size, name="summed")
            log_p = variable.log_prob(x)
            known[row] = float(-np.sum(np.exp(log_p) * np.maximum(log_p, -1e300)))
        out[index] = known[row]
    return out
