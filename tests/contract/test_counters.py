"""The noise kernels compute what docs/counters.md says, by running the code printed there."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klqp import _core

kernels = _core.kernels
DOC = Path(__file__).resolve().parents[2] / "docs" / "counters.md"


@pytest.fixture(scope="module")
def reference():
    """Return the names defined by the document's code block."""
    if not DOC.exists():
        pytest.skip("docs/counters.md is not part of this installation")
    (code,) = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(compile(code, str(DOC), "exec"), names)
    return names


word = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("table", kernels.tables())
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    stream=word,
    step=word,
    draw=word,
    first_block=word,
    n=st.integers(0, 200),
)
def test_kernels_follow_the_document(reference, table, seed, stream, step, draw, first_block, n):
    """Uniforms bit by bit; normals to 1e-12 (NumPy multiplies the angle by a rounded 2 pi)."""
    args = (seed, stream, step, draw, first_block, n)
    np.testing.assert_array_equal(kernels.uniforms(table, *args), reference["uniforms"](*args))
    np.testing.assert_allclose(kernels.normals(table, *args), reference["normals"](*args), rtol=0, atol=1e-12)


@pytest.mark.parametrize("table", kernels.tables())
def test_philox_words(reference, table):
    """The words of single blocks."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        counter, key = rng.integers(0, 2**32, 4), rng.integers(0, 2**32, 2)
        expected = [int(w) for w in reference["philox"](counter, key)]
        assert kernels.philox(table, counter.tolist(), key.tolist()) == expected


@pytest.mark.parametrize("table", kernels.tables())
def test_gamma_draws_follow_the_document(reference, table):
    rng = np.random.default_rng(1)
    a = np.exp(rng.uniform(np.log(1e-3), np.log(1e6), 20_000))
    a[:3] = 1e14, 1e16, 1e300
    x = rng.normal(size=a.size)
    got = kernels.gamma_log_draws(table, a, x)
    np.testing.assert_allclose(got, reference["log_gammas"](a, x), rtol=1e-12, atol=1e-13)


def test_seeds_of_many_problems_follow_the_document(reference):
    for seed in (0, 12345, 2**64 - 1):
        numbers = np.arange(5, dtype=np.uint64)
        block = [numbers, np.zeros_like(numbers), np.zeros_like(numbers), np.full_like(numbers, 6)]
        words = reference["philox"](block, [seed % 2**32, seed >> 32])
        np.testing.assert_array_equal(_core.problem_seeds(seed, 5), words[1] << np.uint64(32) | words[0])
