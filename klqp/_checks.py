"""Checks of arguments that are needed in many places."""

from __future__ import annotations

import operator
from typing import Any


def positive_int(name: str, value: Any) -> int:
    """Return `value` as an int.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is less than 1.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a positive integer, not {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be a positive integer, not {number}")
    return number
