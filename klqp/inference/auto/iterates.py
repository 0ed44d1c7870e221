"""Iterates: a bounded record of a stage's parameters and gradients, as means of blocks of steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Iterates"]

Float64 = npt.NDArray[np.float64]

NUMBERS = 1 << 22  # kept at most, but for the fewest blocks
MOST, FEWEST = 256, 32  # blocks
_WATCHED = NUMBERS // MOST  # coordinates that are watched at most for whether the stage is stationary
_FRACTIONS = (0.95, 0.8, 0.65, 0.5, 0.35)  # of a stage, that are tried as its stationary end


class _Blocks:
    """Means of successive blocks of iterates; when there is no room for more, pairs become one."""

    def __init__(self, size: int, capacity: int) -> None:
        self._means = np.zeros((capacity, size))
        self._sum, self._in_sum = np.zeros(size), 0
        self.n, self.length = 0, 1

    def add(self, x: Float64) -> None:
        self._sum += x
        self._in_sum += 1
        if self._in_sum < self.length:
            return
        if self.n == len(self._means):
            half = self.n // 2
            self._means[:half] = 0.5 * (self._means[: 2 * half : 2] + self._means[1 : 2 * half : 2])
            self.n, self.length = half, 2 * self.length
            return  # the sum is the first half of the next block
        self._means[self.n] = self._sum / self._in_sum
        self._sum[:], self._in_sum, self.n = 0.0, 0, self.n + 1

    def last(self, n: int) -> Float64:
        return self._means[self.n - n : self.n]


class Iterates:
    """The iterates of one stage, with the gradients of the loss that the steps to them took.

    Parameters
    ----------
    start : ndarray (P,)
        Where the stage begins; what is kept are differences from it, so that no digits are lost.
    rng : Generator
        Chooses the coordinates that are watched where there are too many.
    """

    def __init__(self, start: Float64, rng: np.random.Generator) -> None:
        self._start, size = start.copy(), start.size
        capacity = min(MOST, max(FEWEST, NUMBERS // (2 * size) // 2 * 2))
        self._all = _Blocks(2 * size, capacity)
        self._watched = np.sort(rng.choice(size, _WATCHED, replace=False)) if size > _WATCHED else None
        self._few = self._all if self._watched is None else _Blocks(_WATCHED, MOST)

    def add(self, x: Float64, gradient: Float64) -> None:
        """Take one more iterate (P,) and its gradient (P,)."""
        away = x - self._start
        self._all.add(np.concatenate([away, gradient]))
        if self._watched is not None:
            self._few.add(away[self._watched])

    @property
    def block(self) -> int:
        """Iterates in one of the watched blocks."""
        return self._few.length

    def stationary(self, limit: float) -> tuple[float, bool]:
        """Return the longest stationary end, as a fraction of the stage, and whether there is one.

        An end is stationary if the split R-hat of its two halves is at most `limit` in 99 % of the coordinates.
        Without one the fraction is the one with the least R-hat.
        """
        best, least = _FRACTIONS[-1], np.inf
        watched = self._start.size if self._watched is None else _WATCHED
        for fraction in _FRACTIONS:
            n = int(fraction * self._few.n) // 2
            if n < 8:
                continue
            found = float(np.quantile(_split_r_hat(self._few.last(2 * n)[:, :watched], n), 0.99))
            if found <= limit:
                return fraction, True
            if found < least:
                best, least = fraction, found
        return best, False

    def parts(self, fraction: float, n: int) -> Float64 | None:
        """Return the means (n, P) of the parts of equal length of an end of the stage; None where it is too short."""
        found = self._parts(fraction, n)
        return None if found is None else self._start + found[:, : self._start.size]

    def gradients(self, fraction: float, n: int | None) -> Float64:
        """Return the mean gradients (n, P) in the parts of an end of the stage that is not too short; or in blocks."""
        found = self._parts(fraction, n)
        assert found is not None
        return found[:, self._start.size :]

    def _parts(self, fraction: float, n: int | None) -> Float64 | None:
        length = int(fraction * self._all.n) // 8
        if length < 1:
            return None
        blocks = self._all.last(8 * length)
        means: Float64 = blocks if n is None else blocks.reshape(n, len(blocks) // n, -1).mean(1)
        return means


def _split_r_hat(x: Float64, n: int) -> Float64:
    """Return R-hat (P,) of the first n and the last n of x (2 n, P); 1 where nothing moved."""
    first, last = x[:n], x[n:]
    within = 0.5 * (first.var(0, ddof=1) + last.var(0, ddof=1))
    between = 0.5 * (first.mean(0) - last.mean(0)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt((n - 1) / n + between / within)
    return np.where(within > 0, ratio, np.where(between > 0, np.inf, 1.0))
