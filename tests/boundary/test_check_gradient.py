"""klqp.testing.check_gradient: right gradients pass, wrong ones are named with what the mistake looks like."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import klqp
import klqp.testing
from klqp.errors import GradientError
from klqp.testing import GradientCheck, check_gradient

D = 6
ROOT = np.random.default_rng(1).normal(size=(D, D))
PRECISION = ROOT @ ROOT.T + np.eye(D)


def value(z):
    return -0.5 * np.einsum("si,ij,sj->s", z, PRECISION, z) + np.sin(z).sum(1)


def slope(z):
    return -z @ PRECISION + np.cos(z)


def right(z):
    return value(z), slope(z)


def wrong(change):
    def density(z):
        grad = slope(z)
        return value(z), change(grad)

    return density


def scaled_in(i, factor):
    def change(grad):
        grad[:, i] *= factor
        return grad

    return change


# --- right gradients ---
def test_a_right_gradient_passes_and_the_worst_place_is_told():
    check = check_gradient(right, D)
    assert isinstance(check, GradientCheck)
    assert 0 < check.max_relative_error < 1e-9
    assert 0 <= check.coordinate < D
    assert check.point.shape == (D,)
    np.testing.assert_allclose(check.given, slope(check.point[None])[0, check.coordinate], rtol=1e-13)
    np.testing.assert_allclose(check.numerical, check.given, rtol=1e-7)
    with pytest.raises(AttributeError):
        check.given = 0.0
    assert "point" not in repr(check)


@pytest.mark.parametrize(
    ("density", "options"),
    [
        (lambda z: (value(z) + 1e8, slope(z)), {}),
        (lambda z: (1e6 * value(z), 1e6 * slope(z)), {}),
        (lambda z: (value(1e3 * z), 1e3 * slope(1e3 * z)), {}),
        (lambda z: (value(1e4 * z), 1e4 * slope(1e4 * z)), {"scale": 1e-4}),
        (lambda z: (value(z / 1e6), slope(z / 1e6) / 1e6), {"scale": 1e6}),
        (lambda z: (value(z - 1e5), slope(z - 1e5)), {"loc": 1e5}),
        (lambda z: (np.zeros(len(z)), np.zeros_like(z)), {}),
        (lambda z: ((np.sin(z) ** 2 + np.cos(z) ** 2).sum(1), np.zeros_like(z)), {}),
        (lambda z: (-np.exp(3 * z).sum(1), -3 * np.exp(3 * z)), {}),
        (lambda z: (-np.log1p(z**2).sum(1), -2 * z / (1 + z**2)), {"scale": 5}),
        (lambda z: (z[:, 0].copy(), np.eye(D)[np.zeros(len(z), int)]), {}),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_hard_but_right_ones_pass(density, options, seed):
    assert check_gradient(density, D, seed=seed, **options).max_relative_error < 1e-5


def test_a_bounded_support_passes_inside_it():
    def density(z):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where((z > 0).all(1), np.log(z).sum(1), -np.inf), 1 / z

    assert check_gradient(density, 2, loc=2.0, scale=0.2, n_points=20).max_relative_error < 1e-8
    # Long steps leave the support, short ones do not.
    assert check_gradient(density, 2, loc=0.3, scale=[0.01, 0.1], n_points=5).max_relative_error < 1e-8


@pytest.mark.parametrize("dim", [1, 200])
def test_other_dimensions_in_few_calls(dim):
    calls = []

    def density(z):
        assert z.flags.c_contiguous
        assert z.dtype == np.float64
        calls.append(z.shape)
        return -0.5 * (z**2).sum(1), -z

    check_gradient(density, dim, n_points=3)
    assert len(calls) <= 1 + 1 + 2 * 11 * dim * dim * 3 // 2_000_000
    assert all(shape[1] == dim for shape in calls)
    assert max(shape[0] * shape[1] for shape in calls) < 3_000_000


def test_the_same_seed_gives_the_same_points():
    assert check_gradient(right, D, seed=4).point.tolist() == check_gradient(right, D, seed=4).point.tolist()
    assert check_gradient(right, D, seed=4).given != check_gradient(right, D, seed=5).given


def test_points_are_where_they_are_asked_for():
    loc, scale = np.arange(D) * 10.0, np.full(D, 1e-3)
    point = check_gradient(right, D, loc=loc, scale=scale).point
    np.testing.assert_allclose(point, loc, atol=0.01)
    assert not np.array_equal(point, loc)


@settings(max_examples=40, deadline=None)
@given(
    centre=st.floats(-100, 100),
    width=st.floats(1e-3, 1e3),
    height=st.floats(-1e4, 1e4),
    seed=st.integers(0, 1000),
    factor=st.floats(1.001, 10) | st.floats(-10, 0.999),
)
def test_any_student_density_passes_and_any_factor_on_it_does_not(centre, width, height, seed, factor):
    def density(z):
        e = (z - centre) / width
        return height - 2.5 * np.log1p(e**2 / 4).sum(1), -1.25 * e / (1 + e**2 / 4) / width

    options = {"loc": centre, "scale": width, "seed": seed}
    check_gradient(density, 3, **options)
    with pytest.raises(GradientError):
        check_gradient(lambda z: (density(z)[0], factor * density(z)[1]), 3, **options)


# --- wrong gradients ---
@pytest.mark.parametrize(
    ("change", "guess"),
    [
        (lambda g: -g, "a minus sign were missing"),
        (lambda g: 2 * g, "multiplied by 2"),
        (lambda g: g / 2, "multiplied by 0.5"),
        (lambda g: -2 * g, "multiplied by -2"),
        (scaled_in(3, -1), "a minus sign were missing in coordinate 3"),
        (scaled_in(3, 2), "multiplied by 2 in coordinate 3"),
        (scaled_in(3, 0), ""),
        (lambda g: np.roll(g, 1, axis=1), r"derivative with respect to coordinate \d"),
        (lambda g: g[:, ::-1], r"derivative with respect to coordinate \d"),
        (lambda g: g.T.reshape(g.shape), r"reshaped to \(S, dim\) instead of transposed"),
        (lambda g: g + 0.1, ""),
        (lambda g: g * (1 + 1e-4), ""),
    ],
)
def test_a_wrong_gradient_is_named_with_what_it_looks_like(change, guess):
    with pytest.raises(GradientError) as caught:
        check_gradient(wrong(change), D)
    message = str(caught.value)
    assert "the gradient is wrong in coordinate " in message
    for words in ("at the point [", "given ", "by differences ", "relative error of ", "1e-05 is allowed"):
        assert words in message
    assert re.search(rf"is allowed; it looks .*{guess}$" if guess else "is allowed$", message)
    assert isinstance(caught.value, AssertionError)


def test_the_message_names_the_place_and_both_derivatives():
    with pytest.raises(GradientError) as caught:
        check_gradient(lambda z: (-2 * z[:, 1] ** 2, np.stack([0 * z[:, 0], 4 * z[:, 1] + 9], 1)), 2, n_points=1)
    point = np.random.default_rng(0).standard_normal(2)
    message = str(caught.value)
    assert "in coordinate 1, at the point" in message
    assert np.array2string(point, precision=4, separator=", ") in message
    assert f"given {4 * point[1] + 9:.8g}" in message
    assert f"by differences {-4 * point[1]:.8g}" in message


@pytest.mark.parametrize(("size", "passes"), [(1e-7, True), (1e-3, False)])
def test_rtol_is_the_border(size, passes):
    density = wrong(lambda g: g * (1 + size))
    if passes:
        np.testing.assert_allclose(check_gradient(density, D).max_relative_error, size, rtol=0.05)
        with pytest.raises(GradientError, match="1e-08 is allowed"):
            check_gradient(density, D, rtol=1e-8)
    else:
        with pytest.raises(GradientError):
            check_gradient(density, D)
        np.testing.assert_allclose(check_gradient(density, D, rtol=0.01).max_relative_error, size, rtol=0.05)


def test_a_mistake_at_some_points_only_is_found():
    def density(z):
        grad = slope(z)
        grad[z[:, 2] > 1, 2] += 0.5
        return value(z), grad

    with pytest.raises(GradientError, match="in coordinate 2"):
        check_gradient(density, D, n_points=50)


# --- values that are not finite, and wrong arguments ---
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_told(bad):
    def values(z):
        return np.where(z[:, 0] > 0, bad, value(z)), slope(z)

    def gradients(z):
        return value(z), np.where(z > 0, bad, slope(z))

    with pytest.raises(GradientError, match=rf"log density is not finite at the point \[.*it is {bad}.*loc and scale"):
        check_gradient(values, D)
    with pytest.raises(GradientError, match=rf"gradient is not finite in coordinate \d, at the point.*it is {bad}"):
        check_gradient(gradients, D)


def test_no_difference_on_one_side_is_told():
    point = np.random.default_rng(0).standard_normal((1, 2))

    def density(z):
        return np.where(z[:, 1] > point[0, 1], -np.inf, 0.0), np.zeros_like(z)

    with pytest.raises(GradientError, match=r"no differences in coordinate 1, at the point \[.*both sides"):
        check_gradient(density, 2, n_points=1)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"dim": 0}, ValueError, "dim.*positive integer.*not 0"),
        ({"dim": 2.5}, TypeError, "dim.*positive integer.*not 2.5"),
        ({"n_points": 0}, ValueError, "n_points.*positive integer.*not 0"),
        ({"n_points": None}, TypeError, "n_points.*positive integer.*not None"),
        ({"rtol": 0}, ValueError, r"rtol.*\(0, 1\).*not 0"),
        ({"rtol": 2.0}, ValueError, r"rtol.*\(0, 1\).*not 2.0"),
        ({"scale": 0}, ValueError, "scale.*positive"),
        ({"scale": [1, -1]}, ValueError, "scale.*positive"),
        ({"scale": np.ones(3)}, ValueError, r"scale.*shape \(2,\)"),
        ({"loc": np.nan}, ValueError, "loc.*finite.*nan"),
        ({"loc": np.zeros((2, 1))}, ValueError, r"loc.*shape \(2,\)"),
        ({"fn": 3}, TypeError, "callable.*int"),
        ({"fn": lambda z: z.sum(1)}, TypeError, r"pair \(logp, grad\)"),
        ({"fn": lambda z: (np.zeros(len(z)), z[:, :1])}, ValueError, r"grad.*shape \(5, 2\).*\(5, 1\)"),
    ],
)
def test_wrong_arguments(options, error, words):
    def two(z):
        return -0.5 * (z**2).sum(1), -z

    options = {"fn": two, "dim": 2, **options}
    with pytest.raises(error, match=words):
        check_gradient(options.pop("fn"), options.pop("dim"), **options)


def test_exceptions_of_the_function_pass_through():
    with pytest.raises(ZeroDivisionError):
        check_gradient(lambda z: 1 / 0, 2)


def test_where_it_is_found():
    assert klqp.testing.check_gradient is check_gradient
    assert "testing" in klqp.__all__
    assert not hasattr(klqp, "GradientError")
    assert not hasattr(klqp, "check_gradient")
    assert GradientError.__module__ == "klqp.errors"
    assert pickle.loads(pickle.dumps(check_gradient(right, D))).given == check_gradient(right, D).given
