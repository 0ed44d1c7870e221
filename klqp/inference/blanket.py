"""Blanket: which elements of a term the events of one factor of q need, in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klqp.inference.dependence import Labels
from klqp.inference.event_sets import EMPTY

__all__ = ["Blanket", "blanket"]

Ints = npt.NDArray[np.int64]

# A table with more entries, and more for each event, takes more memory and time in every step than the variance that it
# spares is worth.
MOST_ENTRIES, MOST_ENTRIES_PER_EVENT = 2**22, 16


@dataclass(frozen=True, eq=False)
class Blanket:
    """The blocks of a term's m elements, and the blocks that each of a factor's n events needs.

    The score of event i has the weight of the elements of ``blocks[begin[i] : begin[i + 1]]``: those that depend on
    the event (Ranganath, Gerrish & Blei 2014, section 4.1). A block holds all elements that depend on the same events
    of the factor.

    Attributes
    ----------
    n_blocks : int
        0 if no element depends on the factor.
    everything : bool
        Every event needs all elements, in one block; then the arrays are empty.
    block_of : ndarray of int64 (m,)
        The block of each element in C order; -1 if it depends on no event of the factor.
    begin : ndarray of int64 (n + 1,)
    blocks : ndarray of int64 (begin[n],)
        Ascending for each event.
    """

    n_blocks: int
    everything: bool
    block_of: Ints
    begin: Ints
    blocks: Ints

    @property
    def nothing(self) -> bool:
        """Whether no element depends on the factor."""
        return self.n_blocks == 0


def blanket(labels: Labels, first: int, n: int, most_entries: int | None = None) -> Blanket:
    """Return the blanket of the factor with the events ``first, ..., first + n - 1`` within a term.

    Parameters
    ----------
    labels : Labels
        What each of the term's elements depends on.
    first, n : int
    most_entries : int, optional
        Where `blocks` would be longer, every event is given all elements: that is right too, only noisier. Default:
        2**22, or 16 for each event if that is more.
    """
    if most_entries is None:
        most_entries = max(MOST_ENTRIES, MOST_ENTRIES_PER_EVENT * n)
    used, inverse = labels.sets.distinct(labels.labels.ravel())
    here = labels.sets.within(used, first, n)
    distinct, block = labels.sets.distinct(here)
    n_blocks = distinct.size
    if distinct[0] == EMPTY:  # the smallest label
        distinct, block, n_blocks = distinct[1:], block - 1, n_blocks - 1
    owner, runs = labels.sets.runs(distinct)
    lengths = runs[:, 1] - runs[:, 0]
    n_entries = int(lengths.sum())
    complete = n_blocks == 1 and n_entries == n and (block >= 0).all()
    if complete or n_entries > most_entries:
        nobody = np.empty(0, np.int64)
        return Blanket(1, True, nobody, nobody, nobody)
    begin, blocks = _by_event(runs[:, 0] - first, lengths, owner, n)
    return Blanket(n_blocks, False, block[inverse], begin, blocks)


def _by_event(start: Ints, lengths: Ints, owner: Ints, n: int) -> tuple[Ints, Ints]:
    """Return the rows of the transpose: the owners of the runs in which each of n events is."""
    events = np.repeat(start - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    begin = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(events, minlength=n), out=begin[1:])
    return begin, np.repeat(owner, lengths)[np.argsort(events, kind="stable")]
