"""Feeds: data of placeholders for each step of a run, taken one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from klqp.inference.problem import Problem, check_feeds, checked_feeds
from klqp.model.parameter import Placeholder

__all__ = ["FeedSource", "Feeds"]

Feeds: TypeAlias = "Iterable[Mapping[Any, Any]] | Callable[[], Mapping[Any, Any]]"


class FeedSource:
    """What `run(feeds=...)` was given: an iterable of feed_dicts, or a callable that returns one.

    One feed_dict is taken for each step, when the step needs it; none is kept.

    Raises
    ------
    TypeError
        If it is neither.
    """

    def __init__(self, feeds: Feeds, problem: Problem) -> None:
        self._problem = problem
        if isinstance(feeds, Mapping):
            raise TypeError(
                "feeds must give one feed_dict for each step, not be one: pass it to data={...} or update()"
            )
        if isinstance(feeds, Iterable):
            self._items: Iterator[Mapping[Any, Any]] = iter(feeds)
        elif callable(feeds):
            self._items = _calls(feeds)
        else:
            raise TypeError(
                f"feeds must be an iterable of feed_dicts, or a callable that returns one, not {type(feeds).__name__}"
            )

    def next(self) -> dict[Placeholder, npt.NDArray[np.float64]] | None:
        """Return the next data, checked; None where there are no more.

        Raises
        ------
        TypeError, ValueError
            If they are no data of this model's placeholders.
        """
        given = next(self._items, None)
        if given is None:
            return None
        feeds = checked_feeds(given)
        check_feeds(self._problem, feeds)
        return feeds


def _calls(give: Callable[[], Mapping[Any, Any]]) -> Iterator[Mapping[Any, Any]]:
    while True:
        given = give()
        if not isinstance(given, Mapping):
            raise TypeError(f"the callable in feeds must return a dict by placeholder, not {type(given).__name__}")
        yield given
