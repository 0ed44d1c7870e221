"""What the machine can do at most: products of matrices by its BLAS, copies of its memory."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

LARGE = 1024  # order of the matrices whose product is the BLAS at its best


def dgemm(flops, dtype):
    """Return a product of square matrices with so many operations, as a function, and its exact operations."""
    n = round((flops / 2.0) ** (1.0 / 3.0))
    a = np.random.default_rng(0).standard_normal((n, n), dtype)
    return partial(np.matmul, a, a, out=np.empty_like(a)), 2.0 * n**3


class Copy:
    """A copy of an array far larger than the caches, by threads.

    Attributes
    ----------
    nbytes : int
        Bytes that a call moves: read and written.
    """

    def __init__(self, n_threads, size=1 << 25):
        source = np.ones(size)
        target = np.zeros(size)  # touched, so that pages exist
        self.nbytes = 2 * source.nbytes
        self._parts = list(zip(np.array_split(source, n_threads), np.array_split(target, n_threads), strict=True))
        self._pool = ThreadPoolExecutor(n_threads)

    def __call__(self):
        """Copy."""
        list(self._pool.map(lambda part: np.copyto(part[1], part[0]), self._parts))
