"""Blankets: the elements of a term that each event of a factor needs, on small models, against their definition."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import klqp
from klqp.inference.blanket import blanket
from klqp.inference.dependence import Dependence
from klqp.model.expression import Node


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = load(Path(__file__).with_name("dependence_oracle.py"))
RNG = np.random.default_rng(0)


def check(found, expected, first, n):
    """Compare a blanket with the sets of events that each element depends on."""
    here = [{e - first for e in events if first <= e < first + n} for events in expected]
    if found.everything:
        assert all(events == set(range(n)) for events in here)
        assert found.n_blocks == 1
        assert found.block_of.size == found.begin.size == found.blocks.size == 0
        return
    assert not here or not all(events == set(range(n)) for events in here)
    assert found.block_of.shape == (len(expected),)
    assert found.begin.shape == (n + 1,)
    assert {a.dtype for a in (found.block_of, found.begin, found.blocks)} == {np.dtype(np.int64)}
    assert found.n_blocks == len({frozenset(events) for events in here if events})
    assert found.nothing == (found.n_blocks == 0)
    for event in range(n):
        blocks = found.blocks[found.begin[event] : found.begin[event + 1]]
        assert np.array_equal(blocks, np.unique(blocks))
        needed = np.flatnonzero(np.isin(found.block_of, blocks))
        assert needed.tolist() == [j for j, events in enumerate(here) if event in events]
    for j, events in enumerate(here):
        same = [k for k, others in enumerate(here) if others == events]
        assert np.flatnonzero(found.block_of == found.block_of[j]).tolist() == same
        assert (found.block_of[j] == -1) == (not events)


def belief_network():
    w, v = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 2))
    z1 = klqp.Bernoulli(logits=0.3, shape=(5, 4))
    z2 = klqp.Bernoulli(logits=z1 @ w)
    x = klqp.Bernoulli(logits=z1 @ v + np.ones(2))
    return [z1, z2], x


def mixture():
    mu = klqp.Normal(0.0, 1.0, shape=3)
    z = klqp.Categorical(logits=np.arange(3.0), shape=8)
    return [z, mu], klqp.Normal(Node("gather", [mu, z], (8,), integers={"width": [1]}), 1.0)


def chain():
    z = klqp.Normal(0.0, 1.0, shape=9)
    return [z], klqp.Normal(z[1:] - 0.9 * z[:-1], 0.1)


def regression():
    w, b = klqp.Normal(0.0, 1.0, shape=3), klqp.Normal(0.0, 1.0)
    return [w, b], klqp.Bernoulli(logits=RNG.normal(size=(6, 3)) @ w + b)


def crossed():
    student, question = klqp.Normal(0.0, 1.0, shape=4), klqp.Normal(0.0, 1.0, shape=(2, 3))
    return [student, question], klqp.Bernoulli(logits=student[[0, 0, 1, 3]] - question[[0, 1, 1, 0], [2, 0, 0, 1]])


@pytest.mark.parametrize("model", [belief_network, mixture, chain, regression, crossed])
def test_models(model):
    latents, x = model()
    sources, dependence = oracle.Sources(*latents), Dependence({x: np.ones(x.shape)})
    sources.declare(dependence)
    seen = np.ones(x.shape)
    terms = [(dependence.of_events(x), oracle.effects_on_events(x, sources, fixed={x: seen}))]
    terms += [(dependence.of_events(z, z), oracle.effects_on_events(z, sources, z)) for z in latents]
    for labels, expected in terms:
        assert oracle.members(labels) == expected
        for z, first in zip(latents, sources.first, strict=False):
            check(blanket(labels, int(first), z.n_events), expected, int(first), z.n_events)


def test_a_plate_needs_few_blocks():
    latents, x = belief_network()
    dependence = Dependence()
    dependence.add_source(latents[0], 0)
    found = blanket(dependence.of_events(x), 0, 20)
    assert found.n_blocks == 5  # one for each row
    assert found.block_of.tolist() == np.repeat(np.arange(5), 2).tolist()
    assert found.blocks.tolist() == np.repeat(np.arange(5), 4).tolist()


def test_shared_variables_are_kept_as_everything():
    latents, y = regression()
    dependence = Dependence()
    dependence.add_source(latents[0], 0)
    found = blanket(dependence.of_events(y), 0, 3)
    assert found.everything
    assert not found.nothing


def test_terms_that_depend_on_something_else():
    dependence = Dependence()
    z = klqp.Normal(0.0, 1.0, shape=3)
    dependence.add_source(z, 0)
    found = blanket(dependence.of_events(z, z), 3, 2)
    assert found.nothing
    assert found.block_of.tolist() == [-1, -1, -1]
    assert found.begin.tolist() == [0, 0, 0]


def test_long_tables_become_everything():
    dependence = Dependence()
    z = klqp.Normal(0.0, 1.0, shape=6)
    dependence.add_source(z, 0)
    labels = dependence.of_events(z, z)
    assert blanket(labels, 0, 6, most_entries=5).everything
    check(blanket(labels, 0, 6, most_entries=6), [{i} for i in range(6)], 0, 6)


def test_large_plates():
    z = klqp.Bernoulli(logits=0.0, shape=(1000, 300))
    x = klqp.Bernoulli(logits=z @ RNG.normal(size=(300, 64)) + np.zeros(64))
    dependence = Dependence()
    dependence.add_source(z, 0)
    found = blanket(dependence.of_events(x), 0, z.size)
    assert (found.n_blocks, found.blocks.size) == (1000, z.size)
    assert np.array_equal(found.block_of, np.repeat(np.arange(1000), 64))
