"""Sets of events: unions of whole arrays of them against Python's sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klqp.inference import event_sets
from klqp.inference.event_sets import EMPTY, EventSets, shared_label, uniform

members = st.frozensets(st.integers(0, 12), max_size=6)


def label_of(sets, wanted):
    return sets.unite_all(sets.singles(0, 13)[sorted(wanted)])


def labels_of(sets, wanted):
    return np.array([label_of(sets, w) for w in wanted])


def content(sets, labels):
    return [frozenset(sets[label].tolist()) for label in labels]


@given(wanted=st.lists(members, min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_equal_sets_have_one_label(wanted):
    sets = EventSets()
    labels = labels_of(sets, wanted)
    assert content(sets, labels) == wanted
    assert len(set(labels)) == len(set(wanted))
    assert label_of(sets, frozenset()) == EMPTY
    for label in labels:
        assert np.array_equal(sets[label], np.sort(sets[label]))


def test_singles():
    sets = EventSets()
    labels = sets.singles(5, 3)
    assert content(sets, labels) == [{5}, {6}, {7}]
    assert np.array_equal(sets.singles(4, 4)[1:], labels)
    assert len(sets) == 5  # with the empty one


@given(pairs=st.lists(st.tuples(members, members), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_unions_of_two_arrays(pairs):
    sets = EventSets()
    a, b = (labels_of(sets, side) for side in zip(*pairs, strict=True))
    assert content(sets, sets.unite(a, b)) == [x | y for x, y in pairs]
    table = sets.unite(a[:, None], b)
    assert [content(sets, row) for row in table] == [[x | y for _, y in pairs] for x, _ in pairs]
    assert content(sets, sets.unite(uniform(a[0], a.shape), b)) == [pairs[0][0] | y for _, y in pairs]
    assert content(sets, sets.unite(uniform(a[0], (2,)), uniform(b[0], (2,)))) == [pairs[0][0] | pairs[0][1]] * 2


@given(data=st.data(), n=st.integers(1, 4), k=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_unions_of_rows_and_prefixes(data, n, k):
    sets = EventSets()
    rows = data.draw(st.lists(st.lists(members, min_size=k, max_size=k), min_size=n, max_size=n))
    if data.draw(st.booleans()):
        rows = [rows[0]] * n
    labels = np.array([labels_of(sets, row) for row in rows])
    assert content(sets, sets.unite_rows(labels)) == [frozenset().union(*row) for row in rows]
    assert sets.unite_all(labels) == label_of(sets, frozenset().union(*[x for row in rows for x in row]))
    prefixes = sets.unite_prefixes(labels)
    assert [content(sets, row) for row in prefixes] == [
        [frozenset().union(*row[: i + 1]) for i in range(k)] for row in rows
    ]


@given(wanted=st.lists(members, min_size=1, max_size=8), first=st.integers(0, 12), n=st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_what_sets_have_in_a_range(wanted, first, n):
    sets = EventSets()
    cut = sets.within(labels_of(sets, wanted), first, n)
    assert content(sets, cut) == [w & set(range(first, first + n)) for w in wanted]


def test_labels_that_strides_show_to_be_one():
    assert shared_label(uniform(7, (3, 4))) == 7
    assert shared_label(uniform(7, (3, 4)).reshape(6, 2)) == 7
    assert shared_label(np.array([[5]])) == 5
    assert shared_label(np.array([5, 5])) is None
    assert shared_label(np.empty(0, np.int64)) == EMPTY


@pytest.mark.parametrize("most", [10, 40])
def test_too_many_runs_make_supersets_of_one_run(monkeypatch, most):
    monkeypatch.setattr(event_sets, "MOST_RUNS", most)
    monkeypatch.setattr(event_sets, "MOST_RUNS_PER_EVENT", 0)
    sets = EventSets()
    prefixes = sets.unite_prefixes(sets.singles(0, 20)[None, ::2])[0]
    for i, events in enumerate(content(sets, prefixes)):
        assert set(range(0, 2 * i + 1, 2)) <= events <= set(range(2 * i + 1))
    assert content(sets, prefixes[-1:]) == [frozenset(range(19))]


def test_unions_take_runs_not_members():
    sets = EventSets()
    n = 5000
    prefixes = sets.unite_prefixes(sets.singles(0, n)[None])[0]
    assert sets[prefixes[-1]].size == n
    _, runs = sets.runs(prefixes)
    assert len(runs) == n


def test_many_events_leave_room_for_their_unions(monkeypatch):
    monkeypatch.setattr(event_sets, "MOST_RUNS", 4)
    sets = EventSets()
    labels = sets.singles(0, 100)
    assert content(sets, sets.unite(labels[:50], labels[50:])) == [{i, 50 + i} for i in range(50)]
