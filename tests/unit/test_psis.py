"""Pareto-smoothed weights: against ArviZ's numbers, known tails, and the limits."""

import math

import numpy as np
import pytest

from klqp.psis import smooth_weights


def regular_ratios(n, k):
    """Log ratios at the quantiles of a Pareto distribution of tail shape k."""
    return -k * np.log((np.arange(n) + 0.5) / n)


def wavy_ratios(n):
    return 1.5 * np.sin(np.arange(n)) - 0.4 * np.log1p(np.arange(n))


# k_hat and effective number of draws by arviz_stats 0.8.0 (`psislw`), for 100 draws, where both take 20 as the tail.
@pytest.mark.parametrize(
    ("ratio", "k_hat", "ess"),
    [
        (regular_ratios(100, 0.3), 0.3772698681657969, 85.73007755650468),
        (regular_ratios(100, 0.9), 0.720596743489738, 18.65505267258891),
        (wavy_ratios(100), 0.4596417481954779, 45.50619072264203),
    ],
)
def test_agrees_with_arviz(ratio, k_hat, ess):
    psis = smooth_weights(ratio)
    np.testing.assert_allclose(psis.k_hat, k_hat, rtol=1e-10)
    np.testing.assert_allclose(psis.ess, ess, rtol=1e-10)


@pytest.mark.parametrize("k", [0.1, 0.5, 0.9, 1.5])
def test_finds_the_shape_of_a_pareto_tail(k):
    # Standard error of the shape from M exceedances: (1 + k) / sqrt(M).
    n = 40_000
    ratio = k * np.random.default_rng(1).exponential(size=n)
    assert abs(smooth_weights(ratio).k_hat - k) < 3 * (1 + k) / math.sqrt(3 * math.sqrt(n))


def test_weights_sum_to_one_and_keep_their_order():
    ratio = np.random.default_rng(2).standard_t(3, size=1000)
    psis = smooth_weights(ratio)
    np.testing.assert_allclose(psis.weights.sum(), 1.0, rtol=1e-12)
    assert np.all(np.diff(psis.weights[np.argsort(ratio)]) >= 0)
    assert 1 <= psis.ess <= 1000


def test_a_constant_in_the_ratios_changes_nothing():
    ratio = wavy_ratios(2000)
    shifted = smooth_weights(ratio - 1000.0)
    np.testing.assert_allclose(shifted.log_weights, smooth_weights(ratio).log_weights, atol=1e-8)


def test_the_argument_is_not_changed():
    ratio = wavy_ratios(500)
    copy = ratio.copy()
    smooth_weights(ratio)
    assert np.array_equal(ratio, copy)


def test_equal_weights():
    psis = smooth_weights(np.full(200, -1234.5) + 1e-13 * wavy_ratios(200))
    assert psis.k_hat == 0.0
    np.testing.assert_allclose(psis.ess, 200, rtol=1e-9)


def test_minus_infinity_is_no_weight():
    ratio = np.append(wavy_ratios(1000), np.full(300, -np.inf))
    psis = smooth_weights(ratio)
    assert np.all(psis.weights[1000:] == 0)
    assert math.isfinite(psis.k_hat)


def test_too_few_draws_to_tell():
    assert smooth_weights(wavy_ratios(10)).k_hat == math.inf
    assert smooth_weights(np.append(np.zeros(3), np.full(997, -np.inf))).k_hat == math.inf


@pytest.mark.parametrize("bad", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf], [[0.0, 1.0]]])
def test_refuses_what_is_no_ratio(bad):
    with pytest.raises(ValueError, match=r"log ratio|log_ratio"):
        smooth_weights(bad)


def test_good_k_by_the_number_of_draws():
    assert smooth_weights(wavy_ratios(100)).good_k == pytest.approx(0.5)
    assert smooth_weights(wavy_ratios(10_000)).good_k == 0.7
