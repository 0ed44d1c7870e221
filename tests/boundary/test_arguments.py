"""Every argument that users pass: what is taken, and that a wrong one is named with what was expected and what came."""

import inspect
import json
import re
from dataclasses import fields

import numpy as np
import pytest

import klqp
from klqp import optimizers, schedules
from klqp.inference.settings import DEFAULTS, RunOptions, Settings

inf, nan = float("inf"), float("nan")
Adam = optimizers.Adam


def normal(z):
    return -0.5 * (z**2).reshape(len(z), -1).sum(1), -z


def values_only(z):
    return normal(z)[0]


def fit(**options):
    return klqp.fit(normal, 2, **{"n_iter": 3, "seed": 1, "progress": False, **options})


def variable(name="z", fn=normal):
    return klqp.LogDensity(fn, shape=2, name=name)


def check(error, words, call):
    """Check that `call` raises `error`, and that its message has every one of `words`."""
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} missing in: {message}"
    assert "incompatible constructor arguments" not in message
    assert "incompatible function arguments" not in message


def same_run(a, b):
    np.testing.assert_array_equal(a.losses, b.losses)
    np.testing.assert_array_equal(a.posterior["z"].mean(), b.posterior["z"].mean())
    np.testing.assert_array_equal(a.posterior["z"].stddev(), b.posterior["z"].stddev())


# --- keywords of run ---
NOT_POSITIVE_INTEGERS = [
    *((value, ValueError) for value in (0, -1)),
    *((value, TypeError) for value in (True, False, 2.0, "3", None, [3], 1j)),
]


def integers(name, *allowed):
    """Return rows (value, error, words) of what is no positive integer, but for the values allowed."""
    return [
        (value, error, (name, "positive integer", f"not {value!r}"))
        for value, error in NOT_POSITIVE_INTEGERS
        if not any(value is other for other in allowed)
    ]


SEED = ("int", "SeedSequence", "Generator", "None")
START = ("number", "shape (2,)")
OPTIMIZERS = ("'adam'", "'sgd'", "'ftrl'", "Optimizer")

WRONG = {
    "n_iter": integers("n_iter"),
    "n_samples": integers("n_samples"),
    "n_print": integers("n_print", 0, False, None),
    "stop": [
        (5, TypeError, ("stop rule", "klqp.Plateau()", "int")),
        ("plateau", TypeError, ("stop rule", "str")),
        (klqp.Plateau, TypeError, ("stop rule", "type")),
        ([klqp.Steps(3)], TypeError, ("stop rule", "list")),
    ],
    "optimizer": [
        ("Adam", ValueError, (*OPTIMIZERS, "not 'Adam'")),
        ("", ValueError, (*OPTIMIZERS, "not ''")),
        (42, TypeError, ("name", "Optimizer", "int")),
        (Adam, TypeError, ("name", "Optimizer", "type")),
        (optimizers.Optimizer(), ValueError, ("optimizer", "'adam'")),
    ],
    "entropy": [
        (value, ValueError, ("entropy", "'auto'", "'closed_form'", f"not {value!r}"))
        for value in ("x", "Auto", None, 3, True)
    ],
    "gradient": [
        (value, ValueError, ("gradient", "'auto'", "'reparameterised'", "'score'", f"not {value!r}"))
        for value in ("x", "reparameterized", None, 3)
    ],
    "baseline": [
        *((value, ValueError, ("baseline", "'mean'", "'optimal'", f"not {value!r}")) for value in ("x", None, 3)),
        ("optimal", ValueError, ("baseline", "score-function", "reparameterised")),
    ],
    "enumerate": [
        *((value, TypeError, ("enumerate", "True, False, 'auto'", f"not {value!r}")) for value in ("x", None, 3)),
        (True, ValueError, ("enumerate", "finitely many states")),
        ([5], ValueError, ("enumerate", "5", "none of ['z']")),
    ],
    "draws": [
        (value, ValueError, ("draws", "'mc'", "'antithetic'", "'sobol'", f"not {value!r}"))
        for value in ("x", "MC", None, 3)
    ],
    "init_loc": [
        ("a", TypeError, ("init_loc", "real numbers", "<U1")),
        (1j, TypeError, ("init_loc", "real numbers", "complex")),
        (np.array([1j, 0]), TypeError, ("init_loc", "real numbers", "complex")),
        (None, TypeError, ("init_loc", "real numbers", "object")),
        (nan, ValueError, ("init_loc", "finite", "not nan")),
        ([0.0, -inf], ValueError, ("init_loc", "finite", "not -inf")),
        ([1, 2, 3], ValueError, ("init_loc", *START, "(3,)")),
        ([[1, 2], [3, 4]], ValueError, ("init_loc", *START, "(2, 2)")),
        ([[1], [2, 3]], ValueError, ("init_loc", *START, "ragged")),
    ],
    "init_scale": [
        ("a", TypeError, ("init_scale", "real numbers", "<U1")),
        (0, ValueError, ("init_scale", "positive", "not 0")),
        ([1.0, -0.5], ValueError, ("init_scale", "positive", "not -0.5")),
        (inf, ValueError, ("init_scale", "finite", "not inf")),
        (nan, ValueError, ("init_scale", "finite", "not nan")),
        ([1, 2, 3], ValueError, ("init_scale", *START, "(3,)")),
    ],
    "seed": [
        (True, TypeError, (*SEED, "bool")),
        (1.0, TypeError, (*SEED, "float")),
        ("1", TypeError, (*SEED, "str")),
        ([1, 2], TypeError, (*SEED, "list")),
        (np.array([1, 2]), TypeError, (*SEED, "ndarray")),
        (np.random.RandomState(1), TypeError, (*SEED, "RandomState")),
        (-1, ValueError, ("[0, 2**64)", "not -1")),
        (2**64, ValueError, ("[0, 2**64)", "not 18446744073709551616")),
    ],
    "n_threads": integers("n_threads", None),
    "dtype": [
        (np.float16, ValueError, ("float64", "float32", "float16")),
        (int, ValueError, ("float64", "float32", "int64")),
        (complex, ValueError, ("float64", "float32", "complex128")),
        (">f8", ValueError, ("float64", "float32", ">f8")),
        ("real", TypeError, ("float64", "float32", "'real'")),
        (5, TypeError, ("float64", "float32", "5")),
    ],
    "progress": [
        (value, TypeError, ("progress", "True", "False", "None", f"not {value!r}")) for value in ("yes", 0, 1, 1.0)
    ],
    "kl_scaling": [
        (1.0, TypeError, ("kl_scaling", "dict by random variable", "float")),
        ({"x": 1.0}, ValueError, ("kl_scaling", "'x'", "none of ['z']")),
    ],
    "scale": [
        (2.0, TypeError, ("scale", "dict by random variable", "float")),
        ([2.0], TypeError, ("scale", "dict by random variable", "list")),
        ({"z": 2.0}, ValueError, ("scale", "'z'", "none of ['z']")),
        ({variable("w"): 2.0}, ValueError, ("scale", "'w'", "none of ['z']")),
    ],
    **{
        name: [
            (3, TypeError, (name, "list of klqp.Parameter", "int")),
            ("loc", TypeError, (name, "list of klqp.Parameter", "str")),
            (klqp.Parameter(0.0, name="a"), TypeError, (name, "list of klqp.Parameter", "Parameter")),
            ([3], ValueError, (name, "parameters of this inference", "not 3")),
            ([klqp.Parameter(0.0, name="a")], ValueError, (name, "parameters of this inference", "'a'")),
        ]
        for name in ("var_list", "log_vars")
    },
    **{
        name: [(value, TypeError, (name, "True or False", f"not {value!r}")) for value in (None, 1, "yes")]
        for name in ("auto_transform", "log_timestamp", "debug")
    },
    "logdir": [(3, TypeError, ("logdir", "path", "3")), (True, TypeError, ("logdir", "path", "True"))],
    "n_sample": [(5, TypeError, ("unknown keyword 'n_sample'", "n_samples", "n_iter", "init_loc"))],
    "feed_dict": [({}, TypeError, ("unknown keyword 'feed_dict'", "n_samples"))],
}
WRONG_CASES = [
    pytest.param(name, *case, id=f"{name}={str(case[0])[:24]}") for name, cases in WRONG.items() for case in cases
]


@pytest.mark.parametrize(("name", "value", "error", "words"), WRONG_CASES)
@pytest.mark.parametrize("method", ["fit", "run", "initialize"])
def test_wrong_keywords(method, name, value, error, words):
    calls = []

    def density(z):
        calls.append(z)
        return normal(z)

    options = {"n_iter": 3, "seed": 1, "progress": False, name: value}
    if method == "fit":
        check(error, words, lambda: klqp.fit(density, 2, **options))
    else:
        inference = klqp.KLqp([variable(fn=density)])
        inference.run(n_iter=2, seed=5, progress=False)
        before, n_calls = inference.snapshot(), len(calls)
        check(error, words, lambda: getattr(inference, method)(**options))
        after = inference.snapshot()  # an earlier run is as it was
        assert all(np.array_equal(before[key], after[key], equal_nan=before[key].dtype.kind == "f") for key in before)
        calls = calls[n_calls:]
    assert len(calls) <= 1  # the call that shows what the function gives, and never a step


RIGHT = {
    "n_iter": [1, np.int64(3), np.uint8(3)],
    "n_samples": [1, np.int32(4)],
    "n_print": [None, 0, 1, 10**6, np.int64(2)],
    "stop": [None, klqp.Steps(2), klqp.TimeLimit(5), klqp.TimeLimit(0.5), klqp.Plateau(), klqp.Steps(np.int64(1))],
    "optimizer": [None, "adam", "gradientdescent", "dowg", optimizers.SGD(learning_rate=1e-3)],
    "entropy": ["auto", "sticking", "closed_form", "monte_carlo", "adaptive"],
    "gradient": ["auto", "reparameterised", "score"],
    "baseline": ["mean"],
    "enumerate": ["auto", False, np.False_, [], ()],
    "draws": ["mc", "antithetic"],
    "init_loc": [3, -1.5, [1, 2], np.float32(2), np.array([1.0, 2.0]), [True, False], [7]],
    "init_scale": [2, 0.5, [1, 2], np.array([0.5, 1.0])],
    "seed": [0, 2**64 - 1, np.uint64(2**64 - 1), np.int8(3), None],
    "n_threads": [1, 3, np.int64(2), None],
    "dtype": [float, np.float64, "float64", np.dtype("f4"), np.float32, "f4"],
    "progress": [False, None, np.False_],
    "scale": [None, {}],
    "kl_scaling": [None, {}],
    "var_list": [None, [], ()],
    "auto_transform": [True, False, np.True_],
    "logdir": [None],
    "log_timestamp": [True, False],
    "log_vars": [None],
    "debug": [False, True],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_right_keywords(name, value):
    inference = fit(**{name: value})
    assert 1 <= len(inference.losses) <= 3
    assert np.isfinite(inference.losses).all()


def test_every_keyword_is_in_the_tables_and_the_types():
    names = list(RunOptions.__annotations__)
    assert list(DEFAULTS) == names
    # The settings are the keywords with nothing left to be decided: the seed is a key, starts are flat arrays.
    renamed = {"seed": "key", "init_loc": "starts", "init_scale": "starts"}
    settings = list(dict.fromkeys(renamed.get(name, name) for name in names))
    assert [f.name for f in fields(Settings)] == settings
    assert set(RIGHT) == set(names)
    assert set(WRONG) - {"n_sample", "feed_dict"} == set(names)
    documented = inspect.getdoc(klqp.KLqp.run)
    for name in names:
        assert name in documented


@pytest.mark.parametrize("name", sorted(set(DEFAULTS) - {"n_iter", "seed", "progress"}))
def test_a_default_given_is_the_default(name):
    same_run(fit(), fit(**{name: DEFAULTS[name]}))


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_documented_as_in_code(name):
    lines = inspect.getdoc(klqp.KLqp.run).splitlines()
    entry = next(line for line in lines if name in line.partition(" : ")[0].split(", ") and " : " in line)
    names, default = entry.partition(" : ")[0].split(", "), re.search(r"default (.*)$", entry)
    if default is None:
        assert DEFAULTS[name] in (None, "auto")
    else:
        value = default[1].split(" and ")[names.index(name)]
        plain = json.dumps if isinstance(DEFAULTS[name], str) else str
        code = DEFAULTS[name].__name__ if isinstance(DEFAULTS[name], type) else plain(DEFAULTS[name])
        assert value == code


def test_options_are_by_keyword_only():
    inference = klqp.KLqp([variable()])
    for method in (inference.run, inference.initialize):
        check(TypeError, ("positional argument",), lambda method=method: method(1000))
    check(TypeError, ("positional argument",), lambda: klqp.fit(normal, 2, "mean_field"))


# --- seeds ---
def generator():
    return np.random.default_rng(3)


def test_the_same_seed_gives_the_same_bits_and_another_one_other_bits():
    same_run(fit(seed=5), fit(seed=np.int64(5)))
    assert not np.array_equal(fit(seed=5).losses, fit(seed=6).losses)
    assert not np.array_equal(fit(seed=5).losses, fit(seed=5 + 2**32).losses)  # all 64 bits count
    same_run(fit(seed=np.random.SeedSequence(5)), fit(seed=np.random.SeedSequence(5)))
    one, two = np.random.SeedSequence(5).spawn(2)
    assert not np.array_equal(fit(seed=one).losses, fit(seed=two).losses)
    same_run(fit(seed=generator()), fit(seed=generator()))


def test_a_generator_moves_on_and_a_seed_sequence_does_not():
    source = generator()
    assert not np.array_equal(fit(seed=source).losses, fit(seed=source).losses)
    sequence = np.random.SeedSequence(9)
    same_run(fit(seed=sequence), fit(seed=sequence))


def test_no_seed_is_another_seed_every_time():
    assert not np.array_equal(fit(seed=None).losses, fit(seed=None).losses)


def test_the_global_generators_are_not_touched():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    fit(seed=None)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(("value", "error", "words"), WRONG["seed"])
def test_wrong_seeds_of_the_posterior(value, error, words):
    posterior = fit().posterior
    check(error, words, lambda: posterior.sample(2, seed=value))
    check(error, words, lambda: posterior["z"].sample(2, seed=value))
    check(error, words, lambda: posterior.elbo(2, seed=value))


@pytest.mark.parametrize(("n", "error", "words"), integers("n"))
def test_wrong_numbers_of_draws(n, error, words):
    posterior = fit().posterior
    check(error, words, lambda: posterior.sample(n))
    check(error, words, lambda: posterior["z"].sample(n))
    check(error, ("n_draws", *words), lambda: posterior.elbo(n))


# --- what goes together ---
DRAWS = [
    ({"draws": "antithetic", "n_samples": 3}, ("pairs", "even", "not 3")),
    ({"draws": "antithetic", "n_samples": 1}, ("pairs", "even", "not 1")),
    ({"draws": "sobol", "n_samples": 3}, ("Sobol", "power of two", "not 3")),
    ({"draws": "sobol", "gradient": "score", "n_samples": 6}, ("Sobol", "power of two", "not 6")),
    ({"gradient": "score", "n_samples": 1}, ("score-function", "n_samples", "at least 2")),
    ({"gradient": "score", "n_samples": 2, "draws": "antithetic"}, ("n_samples", "4 with antithetic")),
    ({"gradient": "score", "entropy": "sticking"}, ("score", "entropy", "'closed_form'", "not 'sticking'")),
    ({"gradient": "score", "entropy": "adaptive"}, ("score", "entropy", "'closed_form'", "not 'adaptive'")),
    ({"gradient": "reparameterised", "baseline": "optimal"}, ("baseline", "score-function")),
    ({"entropy": "proximal"}, ("proximal", "scale='linear'")),
    (
        {"entropy": "proximal", "q": klqp.MeanFieldNormal(scale="linear")},
        ("proximal", "one step size", "SGD"),
    ),
]


@pytest.mark.parametrize(("options", "words"), DRAWS)
def test_options_that_contradict_each_other(options, words):
    check(ValueError, words, lambda: fit(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"draws": "sobol", "n_samples": 1},
        {"draws": "sobol", "n_samples": 8},
        {"draws": "sobol", "n_samples": 8, "gradient": "score"},
        {"draws": "antithetic", "n_samples": 4, "gradient": "score"},
        {"gradient": "score", "baseline": "optimal"},
        {"gradient": "score", "entropy": "closed_form"},
        {
            "entropy": "proximal",
            "q": klqp.MeanFieldNormal(scale="linear"),
            "optimizer": optimizers.SGD(learning_rate=1e-3),
        },
    ],
)
def test_options_that_go_together(options):
    assert np.isfinite(fit(**options).losses).all()


# --- the log density, its shape, name and support ---
@pytest.mark.parametrize(
    ("dim", "error", "words"),
    [*integers("dim", None), (None, TypeError, ("dim", "missing")), ((2,), TypeError, ("dim", "not (2,)"))],
)
def test_wrong_dims(dim, error, words):
    check(error, words, lambda: klqp.fit(normal, dim))


@pytest.mark.parametrize(("size", "error", "words"), integers("shape"))
def test_wrong_shapes(size, error, words):
    for shape in (size, (size,), (3, size)):
        check(error, words, lambda shape=shape: klqp.LogDensity(normal, shape=shape))


@pytest.mark.parametrize("shape", [[3, 4], "34", ((2,),), np.array([2, 3])], ids=str)
def test_shapes_are_tuples(shape):
    check(TypeError, ("shape", "positive integer"), lambda: klqp.LogDensity(normal, shape=shape))


@pytest.mark.parametrize(("shape", "size"), [(3, 3), ((), 1), ((2, 3), 6), (np.int64(4), 4), ((np.int8(2),), 2)])
def test_right_shapes(shape, size):
    z = klqp.LogDensity(normal, shape=shape)
    assert z.size == size
    assert all(type(n) is int for n in z.shape)


@pytest.mark.parametrize("name", ["", None, 3, b"z"])
def test_wrong_names(name):
    words = ("name", "string", "not empty", f"not {name!r}")
    check(ValueError, words, lambda: klqp.LogDensity(normal, shape=2, name=name))


@pytest.mark.parametrize("support", ["Real", None, "count", 3, (), ("interval", 0.0), ("lower", 0.0, 1.0), ["real"]])
def test_wrong_supports(support):
    words = ("support", "'real'", "'positive'", "('interval', a, b)", f"not {support!r}")
    check(ValueError, words, lambda: klqp.LogDensity(normal, shape=2, support=support))


@pytest.mark.parametrize("fn", ["normal", 3, None, [1], {}, (normal,), np.zeros(3)], ids=repr)
def test_a_log_density_must_be_callable(fn):
    words = ("log density", "callable", "native function", type(fn).__name__)
    check(TypeError, words, lambda: klqp.LogDensity(fn, shape=2))
    check(TypeError, words, lambda: klqp.fit(fn, 2))


def test_names_are_the_keys_of_the_posterior():
    z = variable("height")
    inference = klqp.KLqp([z])
    inference.run(n_iter=2, seed=1)
    posterior = inference.posterior
    assert list(posterior) == ["height"]
    assert posterior["height"].mean().shape == posterior[z].mean().shape == (2,)
    for key in ("z", 0, variable("height"), None):
        with pytest.raises(KeyError, match=r"no latent variable.*'height'"):
            posterior[key]


@pytest.mark.parametrize("draws", [{"w": np.zeros((3, 2))}, {}, {"z": np.zeros((3, 2)), "w": 0}])
def test_log_prob_wants_the_variable_and_no_other(draws):
    with pytest.raises(KeyError, match="key 'z'"):
        fit().posterior.log_prob(draws)


@pytest.mark.parametrize(
    ("draws", "error", "words"),
    [
        (np.zeros((3, 4)), ValueError, ("draws", "(3, 2)", "(3, 4)")),
        (np.zeros(2), ValueError, ("draws", "(2, 2)", "(2,)")),
        (0.0, ValueError, ("draws", "(1, 2)", "()")),
        (np.zeros((3, 2), complex), TypeError, ("draws", "real", "complex")),
        ("a", TypeError, ("draws", "real")),
    ],
)
def test_wrong_points_of_log_prob(draws, error, words):
    check(error, words, lambda: fit().posterior.log_prob(draws))


# --- families ---
FAMILIES = [
    klqp.MeanFieldNormal,
    klqp.FullRankNormal,
    klqp.LowRankNormal,
    klqp.FullRankStudentT,
    klqp.MeanFieldStudentT,
    klqp.NormalMixture,
]
NAMES = ("'full_rank'", "'low_rank'", "'mean_field'", "'mixture'", "'student_t'", "klqp.FullRankNormal")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("scale", "error"), [("log", ValueError), ("", ValueError), (None, TypeError), (3, TypeError), (b"exp", TypeError)]
)
def test_wrong_scale_links(family, scale, error):
    check(error, ("scale", "'exp'", "'softplus'", "'linear'", f"not {scale!r}"), lambda: family(scale=scale))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("latents", "came"), [(3, "int"), ("z", "str"), ([3], "int"), (None, "NoneType"), (normal, "function")]
)
def test_families_are_over_random_variables(family, latents, came):
    check(TypeError, ("random variables", f"not {came}"), lambda: family(latents))


@pytest.mark.parametrize("df", [2, 2.0, 0.0, -3.0, 2e6, inf, nan, "5", True])
@pytest.mark.parametrize("family", [klqp.FullRankStudentT, klqp.MeanFieldStudentT])
def test_wrong_degrees_of_freedom(family, df):
    check(ValueError, ("df", "above 2", "at most 1e6", f"not {df!r}"), lambda: family(df=df))


@pytest.mark.parametrize(("n", "error", "words"), integers("n_components", None))
def test_wrong_numbers_of_components(n, error, words):
    check(error, words, lambda: klqp.NormalMixture(n_components=n))


def test_wrong_components():
    words = ("components", "'full_rank'", "'mean_field'", "not 'student_t'")
    check(ValueError, words, lambda: klqp.NormalMixture(components="student_t"))


@pytest.mark.parametrize(("rank", "error", "words"), integers("rank", None))
def test_wrong_ranks(rank, error, words):
    check(error, words, lambda: klqp.LowRankNormal(rank=rank))
    check(error, words, lambda: fit(q="low_rank", rank=rank))
    check(error, words, lambda: klqp.KLqp([variable()], q="low_rank", rank=rank))


def test_rank_goes_with_low_rank():
    check(ValueError, ("rank", "q='low_rank'", "q='full_rank'"), lambda: fit(q="full_rank", rank=2))
    check(ValueError, ("rank", "q='low_rank'", "q='mean_field'"), lambda: fit(rank=2))
    check(ValueError, ("rank", "LowRankNormal"), lambda: fit(q=klqp.LowRankNormal(), rank=2))
    assert np.isfinite(fit(q="low_rank", rank=np.int64(1)).losses).all()


@pytest.mark.parametrize("q", ["fullrank", "", 3, klqp.MeanFieldNormal, ["mean_field"]])
def test_wrong_families(q):
    check(ValueError, ("q must be", *NAMES, f"not {q!r}"), lambda: fit(q=q))
    check(ValueError, ("q must be", *NAMES, f"not {q!r}"), lambda: klqp.KLqp([variable()], q=q))


def test_a_family_belongs_to_its_variables():
    z, w = variable("z"), variable("w")
    words = ("family", "['w']", "['z']")
    check(ValueError, words, lambda: klqp.KLqp([z], q=klqp.FullRankNormal(w)))
    check(ValueError, words, lambda: klqp.KLqp({z: klqp.FullRankNormal([w])}))
    check(ValueError, words, lambda: klqp.fit(normal, 2, q=klqp.FullRankNormal(w)))


@pytest.mark.parametrize(
    ("q", "family"),
    list(
        zip(
            ["mean_field", "full_rank", "low_rank", "student_t", "mean_field_student_t", "mixture"],
            FAMILIES,
            strict=True,
        )
    ),
)
def test_all_ways_to_say_the_same_family(q, family):
    runs = []
    z = variable()
    for args, kwargs in [
        (([z],), {"q": q}),
        (([z],), {"q": family()}),
        (([z],), {"q": family(z)}),
        (([z],), {"q": family([z])}),
        (((z,),), {"q": q}),
        ((iter([z]),), {"q": q}),
        (({z: family()},), {}),
        (({z: family(z)},), {}),
        (({(z,): family([z])},), {}),
    ]:
        inference = klqp.KLqp(*args, **kwargs)
        assert list(inference.latent_vars) == [z]
        assert type(inference.latent_vars[z]) is family
        inference.run(n_iter=3, seed=1)
        runs.append(inference)
    runs.append(fit(q=q))
    for run in runs[1:]:
        same_run(runs[0], run)


# --- latent_vars and data ---
z, w, MeanField = variable("z"), variable("w"), klqp.MeanFieldNormal
LATENTS = [
    *((nothing, ValueError, ("nothing to optimise", "latent", "klqp.Parameter")) for nothing in (None, [], {}, ())),
    ({(): MeanField()}, ValueError, ("latent_vars", "empty tuple")),
    ([z, z], ValueError, ("latent variable 'z'", "twice")),
    ([z, variable("z")], ValueError, ("latent variable 'z'", "two variables", "other names")),
    ({z: MeanField(), (w, z): MeanField()}, ValueError, ("latent variable 'z'", "twice")),
    ({(z, w): klqp.FullRankNormal([w, z])}, ValueError, ("family", "['w', 'z']", "['z', 'w']")),
    (z, TypeError, ("list or a dict", "[z]")),
    (5, TypeError, ("list or a dict", "int")),
    (normal, TypeError, ("list or a dict", "function")),
    ([3], TypeError, ("latent variables", "random variables", "not int")),
    (["z"], TypeError, ("latent variables", "random variables", "not str")),
    ("z", TypeError, ("latent variables", "random variables", "not str")),
    ([None], TypeError, ("latent variables", "random variables", "not NoneType")),
    ([normal], TypeError, ("latent variables", "random variables", "not function")),
    ([klqp.Parameter(0.0)], TypeError, ("latent variables", "random variables", "not Parameter")),
    ({"z": MeanField()}, TypeError, ("latent variables", "random variables", "not str")),
    ({(z, "w"): MeanField()}, TypeError, ("latent variables", "random variables", "not str")),
    ({z: "full_rank"}, TypeError, ("family", "klqp.MeanFieldNormal", "'full_rank'")),
    ({z: MeanField}, TypeError, ("family", "klqp.MeanFieldNormal", "MeanFieldNormal")),
    ({z: None}, TypeError, ("family", "klqp.MeanFieldNormal", "None")),
    ({z: w}, TypeError, ("family", "klqp.MeanFieldNormal", "'w'", "'z'", "LogDensity")),
    ({z: z}, ValueError, ("'z'", "itself")),
    ({(z, w): klqp.Normal(0.0, 1.0, shape=2)}, TypeError, ("one variable", "['z', 'w']")),
]


@pytest.mark.parametrize(("latent_vars", "error", "words"), LATENTS, ids=[str(case[0])[:50] for case in LATENTS])
@pytest.mark.parametrize("cls", [klqp.KLqp, klqp.ScoreKLqp, klqp.VariationalInference])
def test_wrong_latent_vars(cls, latent_vars, error, words):
    check(error, words, lambda: cls(latent_vars))


def test_a_dict_names_its_families_itself():
    for options in ({"q": "full_rank"}, {"rank": 2}, {"q": MeanField()}):
        check(ValueError, ("q and rank", "dict"), lambda options=options: klqp.KLqp({z: MeanField()}, **options))


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ({w: 1.0}, ValueError, ("data of 'w'", "shape (2,)", "shape ()")),
        ({w: [1.0, 2.0]}, ValueError, ("data", "'w'", "no latent variable")),
        ({z: [1.0, 2.0]}, ValueError, ("'z'", "both a latent variable and", "data")),
        ({"x": 1.0}, TypeError, ("keys of data", "random variables", "'x'", "str")),
        (5, TypeError, ("data", "dict", "int")),
        ([w], TypeError, ("data", "dict", "list")),
        ("x", TypeError, ("data", "dict", "str")),
    ],
)
@pytest.mark.parametrize("cls", [klqp.KLqp, klqp.Inference])
def test_wrong_data(cls, data, error, words):
    check(error, words, lambda: cls([z], data=data))
    check(error, words, lambda: cls([z], data))


@pytest.mark.parametrize("data", [None, {}])
def test_no_data(data):
    assert list(klqp.KLqp([z], data=data).latent_vars) == [z]


# --- the named classes ---
FORCES = {
    klqp.ReparameterizationKLqp: ("reparameterised", "monte_carlo", "reparameterisation gradients"),
    klqp.ReparameterizationEntropyKLqp: ("reparameterised", "closed_form", "reparameterisation gradients"),
    klqp.ScoreKLqp: ("score", "monte_carlo", "score-function gradients"),
    klqp.ScoreEntropyKLqp: ("score", "closed_form", "score-function gradients"),
    klqp.ScoreRBKLqp: ("score", "monte_carlo", "score-function gradients"),
}
ENTROPY_WORDS = {"monte_carlo": "entropy by Monte Carlo", "closed_form": "entropy by its formula"}


@pytest.mark.parametrize("cls", FORCES)
def test_named_classes_force_what_they_say(cls):
    gradient, entropy, words = FORCES[cls]
    plain = fit(gradient=gradient, entropy=entropy)
    for options in ({}, {"gradient": gradient}, {"entropy": entropy}, {"gradient": "auto", "entropy": "auto"}):
        inference = cls([variable()])
        inference.run(n_iter=3, seed=1, progress=False, **options)
        assert words in inference.estimator
        assert ENTROPY_WORDS[entropy] in inference.estimator
        same_run(inference, plain)


@pytest.mark.parametrize("cls", FORCES)
def test_named_classes_refuse_what_contradicts_them(cls):
    gradient, entropy, _ = FORCES[cls]
    inference = cls([variable()])
    for other in {"reparameterised", "score"} - {gradient}:
        words = ("forces", f"gradient={gradient!r}", f"{other!r} was asked for")
        check(ValueError, words, lambda other=other: inference.run(gradient=other))
    for other in {"monte_carlo", "closed_form", "sticking"} - {entropy}:
        words = ("forces", f"entropy={entropy!r}", f"{other!r} was asked for")
        check(ValueError, words, lambda other=other: inference.run(entropy=other))
    if gradient == "reparameterised":
        check(
            TypeError,
            ("need the gradient", "logp alone"),
            lambda: cls([variable(fn=values_only)]).run(n_iter=2, seed=1),
        )
    else:
        cls([variable(fn=values_only)]).run(n_iter=2, seed=1, baseline="optimal")


@pytest.mark.parametrize("cls", [klqp.ReparameterizationKLKLqp, klqp.ScoreKLKLqp])
def test_closed_form_divergences_need_a_prior(cls):
    check(TypeError, (cls.__name__, "closed-form divergence", "'z'", "KLqp"), lambda: cls([variable()]))
    check(ValueError, ("nothing to optimise",), lambda: cls([]))


def test_the_estimator_says_what_was_chosen_and_why():
    for q, words in [("mean_field", "mean-field"), ("full_rank", "full-rank"), ("low_rank", "low-rank")]:
        assert words in fit(q=q).estimator
    assert "gives its gradient" in fit().estimator
    assert "asked for" in fit(gradient="score").estimator
    assert "values only" in klqp.fit(values_only, 2, n_iter=2, seed=1).estimator
    assert "optimal" in fit(gradient="score", baseline="optimal").estimator
    assert "scale through softplus" in fit(q=klqp.MeanFieldNormal(scale="softplus")).estimator


# --- stop rules ---
@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: klqp.TimeLimit(0), ValueError, ("time limit", "positive", "not 0")),
        (lambda: klqp.TimeLimit(-1.0), ValueError, ("time limit", "positive", "not -1.0")),
        (lambda: klqp.TimeLimit(inf), ValueError, ("time limit", "finite", "not inf")),
        (lambda: klqp.TimeLimit(nan), ValueError, ("time limit", "finite", "not nan")),
        (lambda: klqp.TimeLimit("1"), TypeError, ("time limit", "number", "'1'")),
        (lambda: klqp.TimeLimit(None), TypeError, ("time limit", "number", "None")),
        (lambda: klqp.Plateau(window=19), ValueError, ("window", "at least 20", "not 19")),
        (lambda: klqp.Plateau(n_se=inf), ValueError, ("n_se", "finite", "not inf")),
        (lambda: klqp.Plateau(n_se="a"), TypeError, ("n_se", "number", "'a'")),
        (lambda: klqp.Steps(3) | 5, TypeError, ("|", "'Steps'", "'int'")),
    ],
)
def test_wrong_stop_rules(make, error, words):
    check(error, words, make)


@pytest.mark.parametrize(("n", "error", "words"), [*integers(""), (nan, TypeError, ("not nan",))])
def test_stop_rules_count_in_integers(n, error, words):
    check(error, ("number of steps", *words), lambda: klqp.Steps(n))
    check(error, ("window", *words), lambda: klqp.Plateau(window=n))
    check(error, ("patience", *words), lambda: klqp.Plateau(patience=n))


@pytest.mark.parametrize(
    ("stop", "n_steps", "reason"),
    [
        (klqp.Steps(2), 2, "steps"),
        (klqp.Steps(50), 9, "steps"),
        (klqp.Steps(5) | klqp.Steps(3), 3, "steps"),
        (klqp.TimeLimit(1e-9), 1, "time"),
        (klqp.Steps(4) | klqp.TimeLimit(100) | klqp.Plateau(), 4, "steps"),
        (klqp.Steps(4) | klqp.TimeLimit(1e-9), 1, "time"),
    ],
)
def test_the_first_rule_that_is_met_stops_the_run(stop, n_steps, reason):
    inference = fit(n_iter=9, stop=stop)
    assert len(inference.losses) == n_steps
    assert inference.stop_reason == reason


def test_rules_count_the_steps_of_their_own_run():
    inference = klqp.KLqp([variable()])
    for total in (3, 6, 9):
        inference.run(n_iter=10, stop=klqp.Steps(3), seed=1)
        assert len(inference.losses) == total


def test_a_time_limit_holds_over_a_very_long_run():
    inference = fit(n_iter=10**8, stop=klqp.TimeLimit(0.7), n_samples=1, entropy="sticking")
    assert inference.stop_reason == "time"
    assert len(inference.losses) < 10**8


# --- optimizers and schedules ---
OPTIMIZER_ARGUMENTS = [
    *(
        ({"learning_rate": value}, ValueError, ("learning_rate", "(0, inf)", repr(value)))
        for value in (0, -1.0, inf, nan, "a", None, True, [0.1], 1j)
    ),
    *(({"clip_norm": value}, ValueError, ("clip_norm", "(0, inf)", repr(value))) for value in (0, -1, nan, "a")),
    *(({"clip_value": value}, ValueError, ("clip_value", "(0, inf)", repr(value))) for value in (0, -1, nan, "a")),
    *(({"average": value}, TypeError, ("average", "True or False", repr(value))) for value in ("no", None, 1)),
    ({"schedule": "linear"}, ValueError, ("schedule", "'constant'", "'cosine'", "'exponential'", "'linear'")),
    ({"schedule": None}, TypeError, ("schedule", "name", "callable", "NoneType")),
    ({"schedule": 0.5}, TypeError, ("schedule", "name", "callable", "float")),
]
ALL_OPTIMIZERS = [
    cls
    for cls in vars(optimizers).values()
    if isinstance(cls, type) and issubclass(cls, optimizers.Optimizer) and cls is not optimizers.Optimizer
]


@pytest.mark.parametrize(
    ("options", "error", "words"), OPTIMIZER_ARGUMENTS, ids=[str(c[0]) for c in OPTIMIZER_ARGUMENTS]
)
@pytest.mark.parametrize("cls", ALL_OPTIMIZERS, ids=lambda cls: cls.__name__)
def test_wrong_arguments_of_all_optimizers(cls, options, error, words):
    check(error, words, lambda: cls(**options))


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, f.name)
        for cls in ALL_OPTIMIZERS
        for f in fields(cls)
        if f.name not in {base.name for base in fields(optimizers.Optimizer)} and f.type != "bool"
    ],
)
@pytest.mark.parametrize("value", [-1.0, nan, inf, "a", None])
def test_wrong_own_arguments_of_optimizers(cls, name, value):
    check(ValueError, (name, repr(value)), lambda: cls(**{name: value}))


def test_optimizers_take_keywords_only_and_do_not_change():
    check(TypeError, ("positional argument",), lambda: Adam(0.1))
    check(TypeError, ("unexpected keyword", "'lr'"), lambda: Adam(lr=0.1))
    with pytest.raises(AttributeError):
        Adam().learning_rate = 1.0


@pytest.mark.parametrize("cls", [Adam, optimizers.SGD, optimizers.DoWG, optimizers.Momentum])
def test_optimizers_are_equal_by_their_settings(cls):
    assert cls() == cls()
    assert hash(cls()) == hash(cls())
    assert cls() != cls(learning_rate=0.25)
    assert cls() != optimizers.FTRL()
    assert eval(repr(cls(clip_norm=2.0)), vars(optimizers)) == cls(clip_norm=2.0)


@pytest.mark.parametrize("rate", [np.float32(0.25), np.float64(0.25), 0.25])
def test_learning_rates_of_any_real_type(rate):
    inference = fit(optimizer=Adam(learning_rate=rate, schedule="constant"))
    np.testing.assert_array_equal(inference.history["learning_rate"], 0.25)


def test_average_takes_the_averaged_iterate():
    last, averaged = fit(n_iter=20), fit(n_iter=20, optimizer=Adam(average=True))
    np.testing.assert_array_equal(last.losses, averaged.losses)
    assert not np.array_equal(last.posterior["z"].mean(), averaged.posterior["z"].mean())


@pytest.mark.parametrize("cls", [schedules.Exponential, schedules.Cosine])
@pytest.mark.parametrize("final", [0, -0.1, 1.5, nan])
def test_wrong_final_factors(cls, final):
    check(ValueError, ("final", "(0, 1]", f"not {final}"), lambda: cls(final))


def test_a_callable_schedule_sees_steps_and_length():
    seen = []

    def schedule(step, n_iter):
        seen.append((step.copy(), n_iter))
        return 1 / (1 + step)

    inference = fit(n_iter=7, optimizer=Adam(learning_rate=0.5, schedule=schedule))
    np.testing.assert_allclose(inference.history["learning_rate"], 0.5 / np.arange(1, 8), rtol=1e-15)
    np.testing.assert_array_equal(np.concatenate([step for step, _ in seen]), np.arange(7))
    assert {n_iter for _, n_iter in seen} == {7}
    assert all(step.dtype == np.int64 for step, _ in seen)


def test_steps_beyond_the_run_are_asked_for_as_its_end():
    inference = klqp.KLqp([variable()])
    schedule = schedules.Exponential(0.5)
    inference.initialize(n_iter=4, seed=1, optimizer=Adam(learning_rate=1.0, schedule=schedule))
    for _ in range(6):
        inference.update()
    np.testing.assert_allclose(inference.history["learning_rate"], 0.5 ** np.array([0, 0.25, 0.5, 0.75, 1, 1]))


def test_a_schedule_may_return_a_number_or_a_list():
    for schedule in (lambda step, n: 0.5, lambda step, n: [1] * len(step), lambda step, n: np.float32(1)):
        assert np.isfinite(fit(optimizer=Adam(schedule=schedule)).losses).all()
    still = fit(optimizer=Adam(schedule=lambda step, n: 0))
    np.testing.assert_array_equal(still.posterior["z"].mean(), 0.0)


@pytest.mark.parametrize(
    ("schedule", "error", "words"),
    [
        (lambda step, n: np.ones(2), ValueError, ("schedule", "shape (3,)", "(2,)")),
        (lambda step, n: np.ones((3, 1)), ValueError, ("schedule", "shape (3,)", "(3, 1)")),
        (lambda step, n: nan, ValueError, ("schedule", "finite", "not nan")),
        (lambda step, n: [1.0, inf, 1.0], ValueError, ("schedule", "finite", "not inf")),
        (lambda step, n: -step, ValueError, ("schedule", "negative", "not -1")),
        (lambda step, n: 1j, TypeError, ("schedule", "real", "complex")),
        (lambda step, n: "fast", TypeError, ("schedule", "real", "str")),
        (lambda step, n: None, TypeError, ("schedule", "real", "NoneType")),
        (lambda step, n: np.ones(3, complex), TypeError, ("schedule", "real", "complex128")),
        (lambda step: 1.0, TypeError, ("takes 1 positional argument",)),
        (lambda step, n: 1 / 0, ZeroDivisionError, ("division by zero",)),
    ],
)
def test_bad_callable_schedules_stop_before_any_step(schedule, error, words):
    inference = klqp.KLqp([variable()])
    check(error, words, lambda: inference.run(n_iter=3, seed=1, optimizer=Adam(schedule=schedule)))
    assert len(inference.losses) == 0


# --- use before a run ---
EARLY = {
    "posterior": lambda i: i.posterior,
    "losses": lambda i: i.losses,
    "history": lambda i: i.history,
    "rejections": lambda i: i.rejections,
    "estimator": lambda i: i.estimator,
    "update": lambda i: i.update(),
    "resume": lambda i: i.resume(),
    "reset": lambda i: i.reset(),
    "snapshot": lambda i: i.snapshot(),
    "restore": lambda i: i.restore({}),
    "print_progress": lambda i: i.print_progress({"t": 1, "loss": 0.0}),
}


@pytest.mark.parametrize("name", EARLY)
def test_use_before_a_run(name):
    inference = klqp.KLqp([variable()])
    check(RuntimeError, ("no run yet", "run()", "initialize()"), lambda: EARLY[name](inference))
    assert inference.stop_reason is None
    inference.finalize()  # may be called at any time


def test_after_initialize_everything_answers():
    inference = klqp.KLqp([variable()])
    inference.initialize(n_iter=3, seed=1, init_loc=[1.0, 2.0], init_scale=0.5)
    assert len(inference.losses) == 0
    np.testing.assert_array_equal(inference.posterior["z"].mean(), [1.0, 2.0])
    np.testing.assert_allclose(inference.posterior["z"].stddev(), 0.5, rtol=1e-15)
    assert inference.rejections["first"] is None
    inference.reset()
    inference.resume()
    assert len(inference.losses) == 3


def test_a_feed_dict_needs_placeholders():
    inference = klqp.KLqp([variable()])
    inference.initialize(n_iter=3, seed=1)
    check(TypeError, ("feed_dict", "placeholders", "'w'", "LogDensity"), lambda: inference.update({w: 1.0}))
    check(ValueError, ("feed_dict", "no placeholders"), lambda: inference.update({klqp.placeholder(()): 1.0}))
    check(TypeError, ("feed_dict", "dict by placeholder", "list"), lambda: inference.update([1.0]))
    assert inference.update({})["t"] == 1
    assert inference.update(None)["t"] == 2


# --- snapshots ---
def test_snapshots_of_another_run_are_refused_and_change_nothing():
    inference = fit()
    before = inference.snapshot()
    for options in ({"seed": 2}, {"n_samples": 4}, {"q": "full_rank"}, {"optimizer": "sgd"}, {"draws": "antithetic"}):
        other = fit(**options).snapshot()
        check(ValueError, ("snapshot", "another run", "mean_field"), lambda other=other: inference.restore(other))
    for key in ("fingerprint", "cycle"):
        broken = {k: v for k, v in before.items() if k != key}
        check(ValueError, ("snapshot", repr(key)), lambda broken=broken: inference.restore(broken))
    core_keys = [key for key in before if key not in ("fingerprint", "cycle")]
    for key in core_keys:
        broken = {k: v for k, v in before.items() if k != key}
        check(ValueError, (key,), lambda broken=broken: inference.restore(broken))
    assert core_keys
    after = inference.snapshot()
    for key in core_keys:
        np.testing.assert_array_equal(before[key], after[key])


# --- threads ---
@pytest.mark.parametrize(("n", "error", "words"), integers("number of threads", None))
def test_wrong_default_numbers_of_threads(n, error, words):
    before = klqp.get_num_threads()
    check(error, words, lambda: klqp.set_num_threads(n))
    assert klqp.get_num_threads() == before


def test_the_default_number_of_threads_can_be_set_and_forgotten():
    before = klqp.get_num_threads()
    assert before >= 1
    try:
        klqp.set_num_threads(np.int64(5))
        assert klqp.get_num_threads() == 5
        assert type(klqp.get_num_threads()) is int
    finally:
        klqp.set_num_threads(None)
    assert klqp.get_num_threads() == before
