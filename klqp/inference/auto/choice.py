"""Choice: the method that a run's keywords ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from klqp.inference.auto.budget import Budget
from klqp.stopping import StopRule

__all__ = ["METHODS", "choose"]

METHODS = ("auto", "adam", "saa", "pathfinder", "bam")
# Keywords that ask for so many steps of such an optimizer, and others that are about steps, in whatever number.
_STEPS = ("n_iter", "n_samples", "optimizer")
_ABOUT_STEPS = (
    *("stop", "entropy", "gradient", "baseline", "enumerate", "draws", "init_scale", "dtype"),
    *("scale", "kl_scaling", "var_list", "logdir", "log_vars", "debug"),
)


def choose(method: str, options: Mapping[str, Any], has_feeds: bool) -> str:
    """Return the method for a run with these keywords: one of `METHODS`, or "steps" for a given number of them.

    Raises
    ------
    ValueError
        If there is none of that name, or keywords contradict it.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, not {method!r}")
    steps = [name for name in _STEPS if options.get(name) is not None]
    about = [name for name in _ABOUT_STEPS if options.get(name) is not None] + (["feeds"] if has_feeds else [])
    stop = options.get("stop")
    if isinstance(stop, StopRule) and Budget.is_one(stop):
        about.remove("stop")  # a budget is for any method
    if method in ("adam", "auto"):
        return "steps" if steps else "adam" if about else method
    if steps or about:
        given = ", ".join(steps + about)
        raise ValueError(f"{given}: method={method!r} takes no steps of an optimizer; use 'adam'")
    return method
