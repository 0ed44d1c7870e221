"""Parameters of which exactly one is given: logits or probabilities, a scale or its factor."""

from __future__ import annotations

from typing import Any

__all__ = ["exactly_one"]


def exactly_one(kind: str, **given: Any) -> tuple[str, dict[str, Any]]:
    """Return the name of the one argument that is not None, and that argument by its name.

    Raises
    ------
    ValueError
        If none or several are given to the distribution, whose name is `kind`.
    """
    there = {key: value for key, value in given.items() if value is not None}
    if len(there) != 1:
        came = "both" if there else "neither"
        raise ValueError(f"{kind} takes exactly one of {' and '.join(given)}, not {came}")
    return next(iter(there)), there
