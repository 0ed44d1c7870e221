"""Every optimizer of the registry against a NumPy twin written from its paper, and its settings."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import klqp
from klqp import _core, optimizers

Options = dict[str, float]

# --- twins: (options, start (P), grads (T, P), rates (T)) -> the parameters after each step (T, P)


def adam(options: Options, x: np.ndarray, grads: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Kingma & Ba 2015, algorithm 1."""
    beta1, beta2, path = options["beta1"], options["beta2"], []
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, (g, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        x = x - rate * m_hat / (np.sqrt(v_hat) + options["epsilon"])
        path.append(x)
    return np.array(path)


def sgd(options: Options, x: np.ndarray, grads: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Robbins & Monro 1951."""
    return x - np.cumsum(rates[:, None] * grads, axis=0)


def momentum(options: Options, x: np.ndarray, grads: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Polyak 1964; Nesterov's form with the look-ahead point as the parameters (Sutskever 2013)."""
    mu, path, v = options["momentum"], [], np.zeros_like(x)
    for g, rate in zip(grads, rates, strict=True):
        v = mu * v + g
        x = x - rate * (g + mu * v if options["nesterov"] else v)
        path.append(x)
    return np.array(path)


def adagrad(options: Options, x: np.ndarray, grads: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Duchi, Hazan & Singer 2011, the diagonal case."""
    size = np.sqrt(options["initial_accumulator"] + np.cumsum(grads**2, axis=0))
    return x - np.cumsum(rates[:, None] * grads / (size + options["epsilon"]), axis=0)


def adadelta(options: Options, x: np.ndarray, grads: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Zeiler 2012, algorithm 1."""
    rho, epsilon, path = options["decay"], options["epsilon"], []
    mean_g2, mean_dx2 = np.zeros_like(x), np.zeros_like(x)
    for g, rate in zip(grads, rates, strict=True):
        mean_g2 = rho * mean_g2 + (1 - rho) * g**2
        dx = -np.sqrt(mean_dx2 + epsilon) / np.sqrt(mean_g2 + epsilon) * g
        mean_dx2 = rho * mean_dx2 + (1 - rho) * dx**2
        x = x + rate * dx
        path.append(x)
    return np.array(path)


def rmsprop(options: Options, x: np.ndarray, grads: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Tieleman & Hinton 2012, lecture 6e; momentum on the scaled steps."""
    path, mean_g2, v = [], np.zeros_like(x), np.zeros_like(x)
    for g, rate in zip(grads, rates, strict=True):
        mean_g2 = options["decay"] * mean_g2 + (1 - options["decay"]) * g**2
        v = options["momentum"] * v + rate * g / (np.sqrt(mean_g2) + options["epsilon"])
        x = x - v
        path.append(x)
    return np.array(path)


def ftrl(options: Options, x: np.ndarray, grads: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """McMahan et al. 2013, section 3: the minimum of the regularised sum, not its recursion.

    x_{t+1} minimises sum_s g_s x + sum_s sigma_s (x - x_s)^2 / 2 + sigma_0 (x - c)^2 / 2 + l1 |x|
    + l2 x^2 / 2, with sigma_0 + ... + sigma_t = (beta + sqrt(sum g^2)) / rate_t. The centre c is
    where the minimum before any gradient is the start.
    """
    beta, l1, l2 = options["beta"], options["l1"], options["l2"]
    sigma_0 = beta / rates[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.where(x == 0, 0, x + (l1 * np.sign(x) + l2 * x) / sigma_0)
    xs, path = [centre], []
    sigmas, total = [np.full(x.shape, sigma_0)], np.full(x.shape, sigma_0)
    for t, rate in enumerate(rates):
        quadratic = (beta + np.sqrt((grads[: t + 1] ** 2).sum(0))) / rate
        sigmas.append(quadratic - total)
        xs.append(x)
        total = quadratic
        linear = grads[: t + 1].sum(0) - sum(s * c for s, c in zip(sigmas, xs, strict=True))
        shrunk = np.sign(linear) * np.maximum(np.abs(linear) - l1, 0)
        x = -shrunk / (quadratic + l2)
        path.append(x)
    return np.array(path)


def dowg(options: Options, x: np.ndarray, grads: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Khaled, Mishchenko & Jin 2023, algorithm 1; the rate multiplies the step."""
    start, path, weighted = x, [], 0.0
    distance = options["epsilon"] * (1 + np.linalg.norm(x))
    for g, rate in zip(grads, rates, strict=True):
        distance = max(distance, np.linalg.norm(x - start))
        weighted += distance**2 * np.sum(g**2)
        if weighted > 0:
            x = x - rate * distance**2 / math.sqrt(weighted) * g
        path.append(x)
    return np.array(path)


unit = st.floats(0, 0.99)
tiny = st.floats(1e-10, 1e-2)
some = st.one_of(st.just(0.0), st.floats(0.01, 5))

TWINS: dict[str, tuple[Callable[..., np.ndarray], dict[str, st.SearchStrategy]]] = {
    "adam": (adam, {"beta1": unit, "beta2": st.floats(0, 0.999), "epsilon": tiny}),
    "sgd": (sgd, {}),
    "momentum": (momentum, {"momentum": unit, "nesterov": st.sampled_from([0.0, 1.0])}),
    "adagrad": (adagrad, {"initial_accumulator": some, "epsilon": tiny}),
    "adadelta": (adadelta, {"decay": unit, "epsilon": tiny}),
    "rmsprop": (rmsprop, {"decay": unit, "momentum": unit, "epsilon": tiny}),
    "ftrl": (ftrl, {"beta": st.floats(0.1, 5), "l1": some, "l2": some}),
    "dowg": (dowg, {"epsilon": st.floats(1e-6, 1)}),
}

each_optimizer = pytest.mark.parametrize("name", _core.OPTIMIZERS)
generated = settings(max_examples=150, deadline=None, derandomize=True)


@st.composite
def problems(draw, options):
    """Return options, a start, gradients of one magnitude with exact zeros, and learning rates."""
    n_steps, n_params = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    element = st.one_of(st.just(0.0), st.floats(0.01, 1), st.floats(-1, -0.01))
    magnitude = draw(st.sampled_from([1e-3, 1.0, 1e3]))
    grads = magnitude * draw(arrays(np.float64, (n_steps, n_params), elements=element))
    start = draw(arrays(np.float64, n_params, elements=st.one_of(st.just(0.0), st.floats(-9, 9))))
    rates = draw(arrays(np.float64, n_steps, elements=st.floats(0.01, 1)))
    return {name: draw(values) for name, values in options.items()}, start, grads, rates


@each_optimizer
@generated
@given(data=st.data())
def test_path_agrees_with_its_twin(name, data):
    """Within 1e-12 of the path's extent.

    The floor is for FTRL: its parameters are quotients whose numerator, a sum of up to T terms of
    the denominator's size times a rate, may cancel.
    """
    twin, strategies = TWINS[name]
    options, start, grads, rates = data.draw(problems(strategies))
    kept = grads.copy()
    path = _core.optimizer_path(_core.OptimizerSpec(name, options), start, grads, rates)
    np.testing.assert_array_equal(grads, kept)
    expected = twin(options, start, grads, rates)
    extent = max(np.abs(start).max(), np.abs(expected).max())
    floor = 2.0**-50 * len(rates) * rates.max() * (1 + options.get("l1", 0.0))
    assert np.max(np.abs(path - expected)) <= 1e-12 * extent + floor


@each_optimizer
def test_many_parameters_are_independent_of_their_place(name):
    """More parameters than one chunk, all alike: each gets the same bits (DoWG sums over them)."""
    n, rng = 10_001, np.random.default_rng(1)
    options = {k: getattr(optimizers.as_optimizer(name), k) for k in TWINS[name][1]}
    spec = _core.OptimizerSpec(name, {k: float(v) for k, v in options.items()})
    grads = np.repeat(rng.normal(size=(5, 1)), n, axis=1)
    path = _core.optimizer_path(spec, np.full(n, 0.3), grads, np.full(5, 0.1))
    np.testing.assert_array_equal(path, np.repeat(path[:, :1], n, axis=1))
    assert np.all(path[-1] != 0.3)


@each_optimizer
@pytest.mark.parametrize("l1", [0.0, 2.0])
def test_nothing_moves_without_a_gradient_or_a_rate(name, l1):
    """Exactly at rate 0; FTRL computes its start anew at gradient 0, to rounding."""
    options = {k: float(getattr(optimizers.as_optimizer(name), k)) for k in TWINS[name][1]}
    if "l1" in options:
        options["l1"] = l1
    spec, start = _core.OptimizerSpec(name, options), np.array([0.0, -1.5, 2.0])
    still = _core.optimizer_path(spec, start, np.zeros((4, 3)), np.full(4, 0.1))
    np.testing.assert_allclose(still, np.tile(start, (4, 1)), rtol=1e-14)
    grads = np.random.default_rng(2).normal(size=(4, 3))
    rates = np.array([0.0, 0.1, 0.0, 0.1])
    path = _core.optimizer_path(spec, start, grads, rates)
    assert np.all(np.isfinite(path))
    np.testing.assert_array_equal(path[0], start)
    if name not in ("rmsprop", "momentum"):
        np.testing.assert_array_equal(path[2], path[1])


# --- settings ------------------------------------------------------------------------------------

CLASSES = {cls.core_name: cls for cls in optimizers.Optimizer.__subclasses__()}

# What the papers say; learning rates and schedules are klqp's own.
DEFAULTS = {
    "adam": {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8},
    "sgd": {},
    "momentum": {"momentum": 0.9, "nesterov": False},
    "adagrad": {"initial_accumulator": 0.0, "epsilon": 1e-10},
    "adadelta": {"decay": 0.95, "epsilon": 1e-6},
    "rmsprop": {"decay": 0.9, "momentum": 0.0, "epsilon": 1e-8},
    "ftrl": {"beta": 1.0, "l1": 0.0, "l2": 0.0},
    "dowg": {"learning_rate": 1.0, "schedule": "constant", "epsilon": 1e-6},
}
OFF = {"clip_norm": None, "clip_value": None, "average": False}


@each_optimizer
def test_defaults(name):
    by_name = optimizers.as_optimizer(name)
    assert type(by_name) is CLASSES[name]
    assert by_name == CLASSES[name]()
    assert CLASSES[name].__name__ in optimizers.__all__
    values, expected = dataclasses.asdict(by_name), OFF | DEFAULTS[name]
    assert {k: values[k] for k in expected} == expected
    assert set(values) == set(expected) | {"learning_rate", "schedule"}
    assert set(TWINS[name][1]) == set(DEFAULTS[name]) - {"learning_rate", "schedule"}


def test_every_class_has_a_row_in_the_core():
    assert set(CLASSES) == set(_core.OPTIMIZERS) == set(TWINS)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("gradientdescent", optimizers.SGD),
        ("adadelta", optimizers.Adadelta),
        ("adagrad", optimizers.Adagrad),
        ("momentum", optimizers.Momentum),
        ("adam", optimizers.Adam),
        ("ftrl", optimizers.FTRL),
        ("rmsprop", optimizers.RMSprop),
        (None, optimizers.Adam),
    ],
)
def test_names_of_edward(name, cls):
    assert type(optimizers.as_optimizer(name)) is cls
    start = np.full(2, 3.0)
    inference = klqp.fit(lambda z: (-0.5 * (z**2).sum(1), -z), 2, n_iter=5, seed=1, init_loc=start, optimizer=name)
    assert np.all(inference.posterior["z"].mean() < start)


def number_fields(name: str) -> list[str]:
    """Return the settings of an optimizer that are numbers."""
    return [*(k for k in TWINS[name][1] if k != "nesterov"), "learning_rate", "clip_norm", "clip_value"]


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name in _core.OPTIMIZERS for field in number_fields(name)]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, "0.1", [0.1], True])
def test_bad_numbers_are_refused(name, field, value):
    with pytest.raises(ValueError, match=rf"{field} must be in [(\[]0, (1|inf)\), not"):
        CLASSES[name](**{field: value})


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, "learning_rate") for name in _core.OPTIMIZERS]
    + [("adam", "epsilon"), ("adadelta", "epsilon"), ("rmsprop", "epsilon"), ("dowg", "epsilon")],
)
def test_zero_is_refused_where_it_would_stop_or_divide_by_zero(name, field):
    with pytest.raises(ValueError, match=rf"{field} must be in \(0, inf\), not 0"):
        CLASSES[name](**{field: 0.0})


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("adam", "beta1"),
        ("adam", "beta2"),
        ("momentum", "momentum"),
        ("adadelta", "decay"),
        ("rmsprop", "decay"),
        ("rmsprop", "momentum"),
    ],
)
def test_one_is_refused_for_decays(name, field):
    with pytest.raises(ValueError, match=rf"{field} must be in \[0, 1\), not 1"):
        CLASSES[name](**{field: 1.0})
    assert getattr(CLASSES[name](**{field: 0.0}), field) == 0


@each_optimizer
def test_other_refusals(name):
    with pytest.raises(ValueError, match="schedule must be one of"):
        CLASSES[name](schedule="linear")
    with pytest.raises(TypeError, match="schedule must be a name or a callable, not float"):
        CLASSES[name](schedule=0.5)
    with pytest.raises(TypeError, match="average must be True or False"):
        CLASSES[name](average="yes")
    with pytest.raises(TypeError, match="unexpected keyword"):
        CLASSES[name](lr=0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLASSES[name]().learning_rate = 1.0
    for option in TWINS[name][1]:
        rest = {k: 0.5 for k in TWINS[name][1] if k != option}
        with pytest.raises(ValueError, match=f"the optimizer's option '{option}' is missing"):
            _core.OptimizerSpec(name, rest)


def test_unknown_optimizers_are_refused():
    with pytest.raises(ValueError, match=r"optimizer must be one of \['adadelta', .*not 'newton'"):
        optimizers.as_optimizer("newton")
    with pytest.raises(TypeError, match="optimizer must be a name or an Optimizer, not float"):
        optimizers.as_optimizer(0.1)
    with pytest.raises(TypeError, match="not type"):
        optimizers.as_optimizer(optimizers.Adam)
    with pytest.raises(ValueError, match="unknown optimizer 'newton'; there are 'adam'"):
        _core.OptimizerSpec("newton", {})
    spec = _core.OptimizerSpec("sgd", {})
    with pytest.raises(ValueError, match=r"grads must have shape \(n, 3\)"):
        _core.optimizer_path(spec, np.zeros(3), np.zeros((4, 2)), np.ones(4))
    with pytest.raises(ValueError, match=r"rates must have shape \(4,\)"):
        _core.optimizer_path(spec, np.zeros(3), np.zeros((4, 3)), np.ones(3))
