"""EventSets: sets of event numbers, each kept once, and their unions for whole arrays of sets at a time."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["EMPTY", "EventSets", "shared_label", "uniform"]

Ints = npt.NDArray[np.int64]
Shape = tuple[int, ...]

# The label of the empty set.
EMPTY: Final = 0

# Beyond so many runs in all, and so many more for each event, a new set is kept as the one run from its first event to
# its last: a superset.
MOST_RUNS, MOST_RUNS_PER_EVENT = 2**22, 8


class EventSets:
    """Sets of non-negative integers, named by labels; equal sets have one label.

    A set is held as its runs ``[begin, end)`` of neighbouring numbers, so that rows of an array, prefixes and whole
    variables take two numbers each. The running sums of T events that are no neighbours have sets of T**2 / 2 runs
    together: where runs become that many (`MOST_RUNS`), further sets are replaced by supersets of one run.
    """

    def __init__(self) -> None:
        self._runs = np.empty((64, 2), np.int64)
        self._first = np.zeros(64, np.int64)  # where each set's runs begin; one entry more than there are sets
        self._n = 1
        # Sets that are not single events, by content: the position of their label in the order of coming.
        self._ranks: dict[bytes, int] = {}
        self._ranked = np.empty(64, np.int64)
        self._singles = np.empty(0, np.int64)  # the label of {event}, or -1
        self._n_singles = 0

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, label: int) -> Ints:
        """Return the members of a set, sorted."""
        runs = self._runs[self._first[label] : self._first[label + 1]]
        return np.concatenate([np.arange(begin, end) for begin, end in runs]) if len(runs) else np.empty(0, np.int64)

    def singles(self, first: int, n: int) -> Ints:
        """Return the labels (n,) of {first}, {first + 1}, ..."""
        begin = np.arange(first, first + n)
        return self._intern(np.ones(n, np.int64), np.stack([begin, begin + 1], 1))

    def distinct(self, labels: Ints) -> tuple[Ints, Ints]:
        """Return the labels that occur, ascending, and the position of each element's label among them."""
        occurs = np.zeros(self._n, np.bool_)
        occurs[labels] = True
        return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[labels]

    # --- unions ----------------------------------------------------------------------------------------------
    def unite(self, a: Ints, b: Ints) -> Ints:
        """Return the labels of unions, element by element, of two arrays of labels that broadcast."""
        one, other = shared_label(a), shared_label(b)
        shape = np.broadcast_shapes(a.shape, b.shape)
        if other == EMPTY:
            return np.broadcast_to(a, shape)
        if one == EMPTY:
            return np.broadcast_to(b, shape)
        if one is not None and other is not None:
            return uniform(self._unite_pairs(np.array([one]), np.array([other]))[0], shape)
        a, b = np.broadcast_arrays(a, b)
        if _is_trivial(a, b).all():
            return np.maximum(a, b)
        # The same two sets meet many times.
        keys, inverse = np.unique(np.minimum(a, b) * self._n + np.maximum(a, b), return_inverse=True)
        return self._unite_pairs(keys // self._n, keys % self._n)[inverse].reshape(shape)

    def _unite_pairs(self, a: Ints, b: Ints) -> Ints:
        out = np.maximum(a, b)
        (at,) = np.nonzero(~_is_trivial(a, b))
        if at.size:
            pairs = np.stack([a[at], b[at]], 1).ravel()
            out[at] = self.unite_groups(np.repeat(np.arange(at.size), 2), pairs, at.size)
        return out

    def unite_rows(self, labels: Ints) -> Ints:
        """Return the labels (n,) of the unions of the rows of labels (n, k), k > 0."""
        label = shared_label(labels)
        if label is not None:
            return uniform(label, labels.shape[:1])
        if (labels == labels[:, :1]).all():
            return labels[:, 0]
        if len(labels) > 1 and (labels == labels[0]).all():
            return uniform(self.unite_rows(labels[:1])[0], labels.shape[:1])
        ordered = np.sort(labels, 1)
        new = ordered != EMPTY
        new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
        rows, columns = np.nonzero(new)
        return self.unite_groups(rows, ordered[rows, columns], len(labels))

    def unite_all(self, labels: Ints) -> int:
        """Return the label of the union of all sets in an array."""
        return int(self.unite_rows(labels.reshape(1, -1))[0]) if labels.size else EMPTY

    def unite_prefixes(self, labels: Ints) -> Ints:
        """Return the labels (n, k) of the unions of each row's elements up to each one; labels (n, k)."""
        if (labels == labels[:, :1]).all():
            return labels
        out, step = labels.copy(), 1
        while step < labels.shape[1]:  # doubling: after each step, unions of 2 * step elements
            out[:, step:] = self.unite(out[:, step:], out[:, :-step])
            step *= 2
        return out

    def unite_groups(self, owner: Ints, labels: Ints, n: int) -> Ints:
        """Return the labels (n,) of the unions of the sets of each owner; owners ascend."""
        member, runs = self.runs(labels)
        return self._intern(*_merge(owner[member], runs, n))

    def within(self, labels: Ints, first: int, n: int) -> Ints:
        """Return the labels of what sets have in common with ``[first, first + n)``; labels one-dimensional."""
        owner, runs = self.runs(labels)
        cut = np.clip(runs, first, first + n)
        some = cut[:, 0] < cut[:, 1]
        return self._intern(np.bincount(owner[some], minlength=labels.size), cut[some])

    # --- storage ---------------------------------------------------------------------------------------------
    def sizes_within(self, labels: Ints, first: int, n: int) -> tuple[Ints, Ints]:
        """Return how many members are in ``[first, first + n)``, and the smallest of them; first if there are none."""
        owner, runs = self.runs(labels)
        cut = np.clip(runs, first, first + n)
        lengths = cut[:, 1] - cut[:, 0]
        smallest = np.full(labels.size, first + n, np.int64)
        np.minimum.at(smallest, owner[lengths > 0], cut[lengths > 0, 0])
        sizes = np.bincount(owner, lengths, minlength=labels.size).astype(np.int64)
        return sizes, np.where(sizes > 0, smallest, first)

    def runs(self, labels: Ints) -> tuple[Ints, Ints]:
        """Return the runs (r, 2) of all sets of a list of labels, and whose they are: positions (r,) in the list."""
        first = self._first[labels]
        counts = self._first[labels + 1] - first
        if counts.sum() > self._most_runs:
            return self._hulls(labels)
        owner = np.repeat(np.arange(labels.size), counts)
        return owner, self._runs[_ranges(first, counts)]

    @property
    def _most_runs(self) -> int:
        return MOST_RUNS + MOST_RUNS_PER_EVENT * self._n_singles

    def _hulls(self, labels: Ints) -> tuple[Ints, Ints]:
        owner = np.flatnonzero(labels != EMPTY)
        first, end = self._first[labels[owner]], self._first[labels[owner] + 1]
        return owner, np.stack([self._runs[first, 0], self._runs[end - 1, 1]], 1)

    def _intern(self, counts: Ints, runs: Ints) -> Ints:
        """Return the labels of sets given by their numbers of runs (n,) and their runs, one set's after another's."""
        if self._first[self._n] - self._n_singles + len(runs) > self._most_runs:
            counts, runs = _hulls(counts, runs)
        first = np.cumsum(counts) - counts
        out = np.full(counts.size, EMPTY, np.int64)
        (some,) = np.nonzero(counts)
        head = runs[first[some]]
        single = (counts[some] == 1) & (head[:, 1] - head[:, 0] == 1)
        out[some[single]] = self._intern_singles(head[single, 0])
        others = some[~single]
        out[others] = self._intern_others(first[others], counts[others], runs)
        return out

    def _intern_singles(self, events: Ints) -> Ints:
        if events.size and events.max() >= self._singles.size:
            more = max(int(events.max()) + 1, 2 * self._singles.size) - self._singles.size
            self._singles = np.concatenate([self._singles, np.full(more, -1)])
        wanted = np.zeros(self._singles.size, np.bool_)
        wanted[events] = True
        new = np.flatnonzero(wanted & (self._singles < 0))
        self._n_singles += new.size
        self._singles[new] = self._append(np.ones(new.size, np.int64), np.stack([new, new + 1], 1))
        return self._singles[events]

    def _intern_others(self, first: Ints, counts: Ints, runs: Ints) -> Ints:
        content, width = np.ascontiguousarray(runs).tobytes(), 2 * runs.itemsize
        ranks, n_known = self._ranks, len(self._ranks)
        bounds = zip((width * first).tolist(), (width * (first + counts)).tolist(), strict=True)
        rank = np.array([ranks.setdefault(content[i:j], len(ranks)) for i, j in bounds], np.int64)
        highest = np.maximum.accumulate(np.maximum(rank, n_known - 1))
        new = np.flatnonzero(np.diff(highest, prepend=n_known - 1))  # ranks are given in the order of coming
        self._ranked = _with_room(self._ranked, len(ranks))
        self._ranked[n_known : len(ranks)] = self._append(counts[new], runs[_ranges(first[new], counts[new])])
        return self._ranked[rank]

    def _append(self, counts: Ints, runs: Ints) -> Ints:
        """Add sets that are not there yet; return their labels."""
        at, n = int(self._first[self._n]), self._n + counts.size
        self._runs = _with_room(self._runs, at + len(runs))
        self._runs[at : at + len(runs)] = runs
        self._first = _with_room(self._first, n + 1)
        self._first[self._n + 1 : n + 1] = at + np.cumsum(counts)
        labels = np.arange(self._n, n)
        self._n = n
        return labels


def uniform(label: int, shape: Shape) -> Ints:
    """Return an array of one label, which takes the memory of one."""
    return np.broadcast_to(np.int64(label), shape)


def shared_label(labels: Ints) -> int | None:
    """Return the label that all elements share, where the array's strides show it; None if they do not."""
    if any(n > 1 and stride for n, stride in zip(labels.shape, labels.strides, strict=True)):
        return None
    return int(labels.flat[0]) if labels.size else EMPTY


def _is_trivial(a: Ints, b: Ints) -> npt.NDArray[np.bool_]:
    """Return where the union of two sets is the one with the larger label."""
    return np.asarray((a == b) | (a == EMPTY) | (b == EMPTY))


def _merge(owner: Ints, runs: Ints, n: int) -> tuple[Ints, Ints]:
    """Return the numbers of runs (n,) and the sorted, disjoint, not touching runs of n owners; owners ascend."""
    if not len(runs):
        return np.zeros(n, np.int64), runs
    span = int(runs[:, 1].max()) + 1
    begin, end = owner * span + runs[:, 0], owner * span + runs[:, 1]
    order = np.argsort(begin, kind="stable")
    begin, reach = begin[order], np.maximum.accumulate(end[order])
    starts = np.flatnonzero(np.concatenate([[True], begin[1:] > reach[:-1]]))
    ends = np.concatenate([starts[1:], [len(runs)]]) - 1
    of, shift = owner[starts], owner[starts] * span
    return np.bincount(of, minlength=n), np.stack([begin[starts] - shift, reach[ends] - shift], 1)


def _hulls(counts: Ints, runs: Ints) -> tuple[Ints, Ints]:
    """Return sets of one run from the first number of each set to its last."""
    end = np.cumsum(counts)
    some = counts > 0
    hulls = np.stack([runs[(end - counts)[some], 0], runs[end[some] - 1, 1]], 1)
    return some.astype(np.int64), hulls


def _ranges(first: Ints, counts: Ints) -> Ints:
    """Return first[0], first[0] + 1, ... (counts[0] numbers), first[1], ..."""
    return np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def _with_room(array: Ints, n: int) -> Ints:
    """Return an array that begins with this one and has at least n rows."""
    if n <= len(array):
        return array
    grown = np.empty((max(n, 2 * len(array)), *array.shape[1:]), np.int64)
    grown[: len(array)] = array
    return grown
