"""Parameters that a placeholder indexes: steps move, and remember, only what the index names."""

import numpy as np
import pytest

import klqp

N = 40
X = np.random.default_rng(5).normal(size=N) * 2 + np.arange(N) / 10


def build(size, optimizer="adam", n_iter=300):
    """Return an inference for local variables of `size` points, its index and data placeholders, and its parameters."""
    index = klqp.placeholder(size, dtype=int, name="index")
    batch = klqp.placeholder(size, name="batch")
    loc = klqp.Parameter(np.zeros(N), name="loc")
    scale = klqp.Parameter(np.full(N, 0.5), support="positive", name="scale")
    z = klqp.Normal(0.0, 1.0, shape=size, name="z")
    x = klqp.Normal(z, 1.0)
    inference = klqp.KLqp({z: klqp.Normal(loc[index], scale[index])}, data={x: batch})
    inference.initialize(n_iter=n_iter, n_samples=4, optimizer=optimizer, seed=1, progress=False)
    return inference, index, batch, loc, scale


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "adagrad", "rmsprop", "adadelta", "ftrl", "gradientdescent"])
def test_only_what_is_indexed_moves(optimizer):
    inference, index, batch, loc, scale = build(3, optimizer)
    before = loc.value, scale.value
    for _ in range(5):
        inference.update({index: [4, 7, 30], batch: X[[4, 7, 30]]})
    touched = np.zeros(N, bool)
    touched[[4, 7, 30]] = True
    for parameter, start in zip((loc, scale), before, strict=True):
        assert np.array_equal(parameter.value[~touched], start[~touched])
        assert (parameter.value[touched] != start[touched]).all()
    state = inference.snapshot()
    for name, values in state.items():
        if name.startswith("optimizer/") and values.size == 2 * N and name != "optimizer/linear":
            assert (values.reshape(2, N)[:, ~touched] == values.reshape(2, N)[0, 0]).all(), name


def test_a_late_coordinate_starts_as_an_early_one():
    """Adam corrects for its start by the steps of a coordinate, not of the run."""
    late, index, batch, loc, _ = build(1)
    for _ in range(50):
        late.update({index: [0], batch: X[[0]]})
    late.update({index: [9], batch: X[[9]]})
    rate = late.history["learning_rate"][-1]
    assert abs(loc.value[9]) == pytest.approx(rate, rel=1e-6)  # Adam's first step, whatever the gradient


def test_every_index_is_the_dense_run():
    inference, index, batch, loc, scale = build(N)
    for _ in range(100):
        inference.update({index: np.arange(N), batch: X})
    dense_loc = klqp.Parameter(np.zeros(N), name="loc")
    dense_scale = klqp.Parameter(np.full(N, 0.5), support="positive", name="scale")
    z = klqp.Normal(0.0, 1.0, shape=N, name="z")
    x = klqp.Normal(z, 1.0)
    dense = klqp.KLqp({z: klqp.Normal(dense_loc, dense_scale)}, data={x: X})
    dense.initialize(n_iter=300, n_samples=4, seed=1, progress=False, entropy="sticking")
    for _ in range(100):
        dense.update()
    np.testing.assert_allclose(loc.value, dense_loc.value, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(scale.value, dense_scale.value, rtol=1e-12)


def test_minibatches_reach_the_exact_posterior():
    inference, index, batch, loc, scale = build(8, n_iter=2000)
    rng = np.random.default_rng(2)
    for _ in range(400):
        order = rng.permutation(N).reshape(-1, 8)
        for rows in order:
            inference.update({index: rows, batch: X[rows]})
    np.testing.assert_allclose(loc.value, X / 2, atol=0.02)
    np.testing.assert_allclose(scale.value, np.sqrt(0.5), rtol=0.03)


def test_saved_and_restored():
    def steps(inference, index, batch, first, last):
        for t in range(first, last):
            rows = (np.arange(3) * 7 + t) % N
            inference.update({index: rows, batch: X[rows]})

    whole, index, batch, loc, _ = build(3)
    steps(whole, index, batch, 0, 40)
    first, index, batch, _, _ = build(3)
    steps(first, index, batch, 0, 23)
    state = first.snapshot()
    second, index, batch, other, _ = build(3)
    second.restore(state)
    steps(second, index, batch, 23, 40)
    assert np.array_equal(loc.value, other.value)
