"""Seeds: from what users pass to the 64-bit key of the counter-based generator."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

Seed: TypeAlias = "int | np.random.SeedSequence | np.random.Generator | None"


def as_key(seed: Seed) -> int:
    """Return the 64-bit key for `seed`.

    An int in [0, 2**64) is the key itself; a SeedSequence gives its first 64-bit word; a Generator gives its next 64
    random bits; None takes fresh entropy from the system.

    Raises
    ------
    ValueError, TypeError
        If an int is out of range, or `seed` is of another type.
    """
    if seed is None:
        seed = np.random.SeedSequence()
    if isinstance(seed, np.random.SeedSequence):
        return int(seed.generate_state(1, np.uint64)[0])
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(0, 2**64, dtype=np.uint64))
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an int, a SeedSequence, a Generator or None, not {type(seed).__name__}")
    key = int(seed)
    if not 0 <= key < 2**64:
        raise ValueError(f"an integer seed must be in [0, 2**64), not {key}")
    return key
