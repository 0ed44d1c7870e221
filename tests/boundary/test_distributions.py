"""Distributions: what their arguments may be, and that mistakes are named with what was expected and what came."""

import copy
import pickle

import numpy as np
import pytest

import klqp
from klqp.model.distributions.registry import DISTRIBUTIONS
from klqp.model.supports import as_support

EXAMPLES = [(row.distribution, dict(example)) for row in DISTRIBUTIONS for example in row.examples]
each_example = pytest.mark.parametrize(
    ("kind", "example"), EXAMPLES, ids=[f"{kind.__name__}-{'-'.join(example)}" for kind, example in EXAMPLES]
)
each_pair = pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        (klqp.Bernoulli, "logits", "probs"),
        (klqp.Geometric, "logits", "probs"),
        (lambda **p: klqp.Binomial(5, **p), "logits", "probs"),
        (lambda **p: klqp.NegativeBinomial(5, **p), "logits", "probs"),
        (klqp.Poisson, "rate", "log_rate"),
    ],
    ids=["Bernoulli", "Geometric", "Binomial", "NegativeBinomial", "Poisson"],
)

inf = np.inf
OUTSIDE = {
    "real": [inf, -inf],
    "positive": [0.0, -1.5, inf],
    "nonnegative": [-1.5, inf],
    "unit_interval": [-0.25, 1.25, inf],
    "count": [-1.0, 2.5, inf],
}


# --- parameters ---
@each_example
def test_parameters_outside_their_space(kind, example):
    for key in example:
        for bad in OUTSIDE[kind.parameter_supports[key].name]:
            with pytest.raises(ValueError, match=f"^{key} of {kind.__name__} must be .*, not ") as caught:
                kind(**{**example, key: bad})
            assert str(bad).removesuffix(".0") in str(caught.value)
            with pytest.raises(ValueError, match=f"^{key} of {kind.__name__} must be "):
                kind(**{**example, key: [example[key], bad]})


@each_example
def test_parameters_that_are_no_numbers(kind, example):
    for key in example:
        with pytest.raises(ValueError, match=f"{key} of {kind.__name__} must not hold NaN, but it does at index"):
            kind(**{**example, key: [0.5, np.nan]})
        for bad in ("1.0", 1j, [None], object()):
            with pytest.raises(TypeError, match=f"{key} of {kind.__name__} must hold real numbers, not "):
                kind(**{**example, key: bad})
        with pytest.raises(ValueError, match=f"{key} of {kind.__name__} is ragged"):
            kind(**{**example, key: [[1.0], [1.0, 2.0]]})
        with pytest.raises(ValueError, match=f"{key} of {kind.__name__} must have elements"):
            kind(**{**example, key: []})


def test_ends_of_half_open_intervals():
    with pytest.raises(ValueError, match=r"probs of Geometric must be in \(0, 1\], not 0"):
        klqp.Geometric(probs=0)
    with pytest.raises(ValueError, match=r"probs of NegativeBinomial must be in \[0, 1\), not 1"):
        klqp.NegativeBinomial(2.0, probs=1)
    assert klqp.Geometric(probs=1).sample(3, seed=1).tolist() == [0, 0, 0]
    assert klqp.NegativeBinomial(2.0, probs=0).sample(3, seed=1).tolist() == [0, 0, 0]
    assert klqp.Bernoulli(probs=[0, 1]).sample(seed=1).tolist() == [0, 1]
    assert klqp.Poisson(0).sample(3, seed=1).tolist() == [0, 0, 0]
    assert klqp.Binomial(0, probs=0.5).sample(3, seed=1).tolist() == [0, 0, 0]


@each_pair
def test_exactly_one_of_two(kind, first, second):
    with pytest.raises(ValueError, match=f"takes exactly one of {first} and {second}, not neither"):
        kind()
    with pytest.raises(ValueError, match=f"takes exactly one of {first} and {second}, not both"):
        kind(**{first: 0.5, second: 0.5})
    assert list(kind(**{second: 0.5}).parameters)[-1] == second


def test_positional_order():
    """As in TensorFlow Probability."""
    assert list(klqp.StudentT(3.0, 1.0, 2.0).parameters) == ["df", "loc", "scale"]
    assert klqp.Beta(2.0, 6.0).mean() == 0.25
    assert klqp.Gamma(3.0, 2.0).mean() == 1.5
    assert klqp.InverseGamma(3.0, 2.0).mean() == 1
    assert klqp.HalfCauchy(0.0, 2.0).entropy() == pytest.approx(np.log(4 * np.pi))
    assert klqp.Binomial(6, 0.0).mean() == klqp.Binomial(6, None, 0.5).mean() == 3
    assert klqp.NegativeBinomial(6, 0.0).mean() == 6
    assert klqp.BetaBinomial(6, 1.0, 2.0).mean() == pytest.approx(2)
    assert klqp.Bernoulli(0.0).mean() == klqp.Bernoulli(None, 0.5).mean() == 0.5
    assert klqp.Poisson(2.0).mean() == pytest.approx(klqp.Poisson(None, np.log(2)).mean())
    assert klqp.Geometric(0.0).mean() == 1
    assert klqp.Uniform(2.0, 4.0).mean() == 3


def test_arguments_of_other_types():
    """Lists, integers, float32 and read-only arrays are taken, and none is changed or kept."""
    loc = np.arange(3, dtype=np.float32)
    variable = klqp.Normal(loc, [1, 2, 3])
    loc[0] = 9
    assert variable.mean().tolist() == [0, 1, 2]
    frozen = np.ones(3)
    frozen.flags.writeable = False
    assert klqp.Gamma(frozen, True).mean().tolist() == [1, 1, 1]
    mean = variable.mean()
    mean[0] = 5
    assert variable.mean().tolist() == [0, 1, 2]


# --- shapes and names ---
@each_example
def test_shapes(kind, example):
    assert kind(**example).shape == ()
    assert kind(**example, shape=4).shape == (4,)
    assert kind(**example, shape=(2, 1)).shape == (2, 1)
    for bad, error in [(0, ValueError), (-1, ValueError), (2.0, TypeError), ((2, 0), ValueError), ("3", TypeError)]:
        with pytest.raises(error, match="each size in shape must be a positive integer, not"):
            kind(**example, shape=bad)
    key, value = next(iter(example.items()))
    with pytest.raises(ValueError, match=rf"shape \(3,\) of {kind.__name__} does not fit its parameters"):
        kind(**{**example, key: [value, value]}, shape=3)


def test_shapes_that_do_not_broadcast():
    with pytest.raises(ValueError, match=r"parameters of Gamma have shapes that do not broadcast: .*\(2,\).*\(3,\)"):
        klqp.Gamma(np.ones(2), np.ones(3))


@each_example
def test_names(kind, example):
    assert kind(**example, name="x").name == "x"
    assert kind(**example).name.startswith(kind.__name__)
    for bad in ("", 3):
        with pytest.raises(ValueError, match="name must be a string that is not empty"):
            kind(**example, name=bad)


@each_example
def test_pickles_and_copies(kind, example):
    """A copy is the variable itself; what was pickled is another one like it."""
    variable = kind(**example, shape=2, name="x")
    assert copy.deepcopy(variable) is copy.copy(variable) is variable
    other = pickle.loads(pickle.dumps(variable))
    assert (other.name, other.shape, other.space) == ("x", (2,), variable.space)
    np.testing.assert_array_equal(other.sample(3, seed=1), variable.sample(3, seed=1))
    np.testing.assert_array_equal(other.log_prob([1.0, 2.0]), variable.log_prob([1.0, 2.0]))


def test_pickled_parents():
    """A parameter keeps its value, and a hierarchy its parents."""
    p = klqp.Parameter([0.25, 0.5], support="unit_interval", name="p")
    p.value = [0.75, 0.125]
    variable = klqp.Binomial(klqp.Poisson(klqp.exp(klqp.Normal(2.0, 1.0))), probs=p)
    other = pickle.loads(pickle.dumps(variable))
    np.testing.assert_array_equal(other.parameters["probs"].value, p.value)
    np.testing.assert_array_equal(other.sample(5, seed=1), variable.sample(5, seed=1))
    other.parameters["probs"].value = [0.5, 0.5]
    assert p.value == pytest.approx([0.75, 0.125])


# --- supports ---
def test_uniform_needs_ordered_bounds():
    for low, high in [(1.0, 1.0), (2.0, 1.0), ([0.0, 3.0], 2.0), (-1e308, 1e308)]:
        with pytest.raises(ValueError, match="high of Uniform must be above low, by a finite width: not low"):
            klqp.Uniform(low, high)


def test_supports_by_constant_bounds():
    space = klqp.Uniform([0.0, 1.0], 3.0).space
    assert (space.lower, space.upper) == ((0.0, 1.0), (3.0,))
    z = space.transform((2,)).forward(np.zeros((1, 2)))[0]
    np.testing.assert_allclose(z, [[1.5, 2.0]])
    assert space.contains([[0.5, 1.5], [2.0, 3.0]])
    assert not space.contains([[0.5, 0.5]])
    space = klqp.Uniform([[0.0], [1.0]], 3.0, shape=(2, 2)).space
    assert space.lower == (0.0, 0.0, 1.0, 1.0)
    assert klqp.HalfCauchy(scale=2.0).support == "positive"
    assert klqp.HalfCauchy([0.0, -1.0]).space.lower == (0.0, -1.0)
    assert klqp.HalfCauchy(1.0).space.transform((2,)).forward(np.zeros((1, 2)))[0].tolist() == [[2, 2]]
    assert klqp.VonMises().space.transform(()).forward(np.zeros((1, 1)))[0] == pytest.approx(0)
    space = klqp.Binomial([2, 5], 0.0).space
    assert space.contains([[2, 5], [0, 0]])
    assert not space.contains([3, 3])
    assert not space.contains([1.5, 3])


@pytest.mark.parametrize("kind", [klqp.Uniform, klqp.HalfCauchy])
def test_bounds_that_move_have_no_transform(kind):
    for parent in (klqp.Normal(-3.0, 1.0), klqp.Parameter(-3.0), klqp.exp(klqp.Parameter(-3.0))):
        variable = kind(parent, 2.0)
        assert not variable.discrete
        with pytest.raises(TypeError, match=r"bounds depend on .* no fixed transform .* give constant bounds"):
            variable.space.transform(variable.shape)


@pytest.mark.parametrize("kind", [klqp.Poisson, klqp.Bernoulli, lambda x: klqp.Binomial(3, x)])
def test_discrete_values_have_no_transform(kind):
    variable = kind(0.5)
    assert variable.discrete
    with pytest.raises(TypeError, match="have no unconstrained coordinates"):
        variable.space.transform(())


@pytest.mark.parametrize("name", ["real", "positive", "unit_interval", "softplus"])
def test_named_supports_have_transforms(name):
    assert klqp.Parameter([0.25, 0.5], support=name).value == pytest.approx([0.25, 0.5])
    assert not as_support(name).contains([0.5, inf])
    assert not as_support(name).contains([0.5, np.nan])


# --- values ---
@each_example
def test_values_of_other_shapes(kind, example):
    variable = kind(**example, shape=(2, 3))
    for bad in (np.ones(3), np.ones((3, 2)), 1.0):
        with pytest.raises(ValueError, match=r"must have shape \(2, 3\), perhaps after axes of draws, not"):
            variable.log_prob(bad)
    with pytest.raises(ValueError, match="must not hold NaN"):
        variable.log_prob(np.full((2, 3), np.nan))
    with pytest.raises(TypeError, match="must hold real numbers"):
        variable.log_prob([["a"] * 3] * 2)


@each_example
def test_parents_that_are_random(kind, example):
    """They have draws, but no one log density, mean or entropy."""
    key, value = next(iter(example.items()))
    count = kind.parameter_supports[key].name == "count"
    parent = klqp.Binomial(value, probs=1.0, name="n") if count else klqp.Normal(value, 1e-9, name="n")
    variable = kind(**{**example, key: parent}, name="x")
    assert variable.sample(3, seed=1).shape == (3,)
    for call in (lambda: variable.log_prob(0.5), variable.mean, variable.variance, variable.stddev, variable.entropy):
        with pytest.raises(TypeError, match="'x' depends on the random variable 'n', so that this has no one value"):
            call()


@each_example
def test_parents_that_are_parameters(kind, example):
    """Their present values are used."""
    given = {
        key: value if kind.parameter_supports[key].name == "count" else klqp.Parameter(value)
        for key, value in example.items()
    }
    variable, plain = kind(**given), kind(**example)
    x = plain.sample(5, seed=1)
    np.testing.assert_array_equal(variable.sample(5, seed=1), x)
    np.testing.assert_allclose(variable.log_prob(x), plain.log_prob(x), rtol=1e-14)
    np.testing.assert_array_equal(variable.mean(), plain.mean())
    np.testing.assert_array_equal(variable.variance(), plain.variance())
    np.testing.assert_array_equal(variable.entropy(), plain.entropy())


def test_draws_of_parents_outside_a_parameters_space():
    x = klqp.Gamma(klqp.Normal(-5.0, 0.1), 1.0, name="x")
    message = "concentration of Gamma 'x' must be positive and finite, but what it depends on gave"
    with pytest.raises(ValueError, match=message):
        x.sample(3, seed=1)
    with pytest.raises(ValueError, match="high of Uniform must be above low"):
        klqp.Uniform(klqp.Normal(5.0, 0.1), 1.0).sample(seed=1)
    with pytest.raises(ValueError, match="has no value here"):
        klqp.Normal(klqp.placeholder(3, name="a"), 1.0).sample(seed=1)


@each_example
def test_numbers_of_draws_and_seeds(kind, example):
    variable = kind(**example, shape=2)
    assert variable.sample(seed=1).shape == (2,)
    assert variable.sample(1, seed=1).shape == (1, 2)
    for bad, error in [(0, ValueError), (-1, ValueError), (2.5, TypeError), (True, TypeError)]:
        with pytest.raises(error, match="n must be a positive integer, not"):
            variable.sample(bad)
    with pytest.raises(TypeError, match="seed must be an int"):
        variable.sample(2, seed=1.5)
    with pytest.raises(ValueError, match="an integer seed must be in"):
        variable.sample(2, seed=-1)


def test_entropies_that_are_too_long_a_sum():
    with pytest.raises(ValueError, match=r"this entropy is a sum over values, here \d+; at most 4194304 are summed"):
        klqp.NegativeBinomial(0.5, logits=30.0).entropy()
    with pytest.raises(ValueError, match="this entropy is a sum over values, here 10000001"):
        klqp.BetaBinomial(1e7, 1.0, 1.0).entropy()
