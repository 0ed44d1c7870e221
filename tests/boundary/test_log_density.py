"""The user's log density: how it is called, what it may return, and what its mistakes lead to."""

import threading
import traceback

import numpy as np
import pytest

import klqp

S, D = 6, 3
OPTIONS = {"n_samples": S, "seed": 1, "progress": False, "init_scale": 1.0}


def normal(z):
    """Return log N(z; 1, 1) without its constant, and the gradient, for draws of any shape."""
    r = z - 1.0
    return -0.5 * (r * r).reshape(len(z), -1).sum(1), -r


def fit(fn, dim=D, **options):
    return klqp.fit(fn, dim, **{"n_iter": 20, **OPTIONS, **options})


def prepared(fn, dim=D, **options):
    inference = klqp.KLqp([klqp.LogDensity(fn, shape=dim)])
    inference.initialize(**{"n_iter": 20, **OPTIONS, **options})
    return inference


def same_run(a, b):
    np.testing.assert_array_equal(a.losses, b.losses)
    np.testing.assert_array_equal(a.posterior["z"].mean(), b.posterior["z"].mean())
    np.testing.assert_array_equal(a.posterior["z"].stddev(), b.posterior["z"].stddev())


class Recorder:
    """A log density that notes how it is called."""

    def __init__(self, fn=normal):
        self.fn = fn
        self.seen = []
        self.threads = set()

    def __call__(self, *args, **kwargs):
        assert not kwargs
        (z,) = args
        self.seen.append(z)
        self.threads.add(threading.get_ident())
        return self.fn(z)


# --- how it is called ---
@pytest.mark.parametrize("dim", [1, D, 20_000])
@pytest.mark.parametrize("gradient", ["reparameterised", "score"])
def test_one_call_a_step_with_all_draws_on_the_calling_thread(dim, gradient):
    density = Recorder()
    n_iter = 5 if dim > D else 50
    fit(density, dim, n_iter=n_iter, gradient=gradient, n_threads=2)
    assert len(density.seen) == n_iter
    assert density.threads == {threading.get_ident()}
    for z in density.seen:
        assert type(z) is np.ndarray
        assert z.shape == (S, dim)
        assert z.dtype == np.float64
        assert z.flags.c_contiguous
        assert z.flags.aligned
        assert z.flags.writeable


@pytest.mark.parametrize("q", ["mean_field", "full_rank", "low_rank"])
@pytest.mark.parametrize("draws", ["mc", "antithetic"])
def test_the_first_step_reuses_the_call_of_initialize(q, draws):
    density = Recorder()
    inference = klqp.KLqp([klqp.LogDensity(density, shape=D)], q=q)
    options = {**OPTIONS, "n_iter": 10, "draws": draws, "init_loc": 0.3, "init_scale": 0.7}
    inference.initialize(**options)
    assert len(density.seen) == 1
    inference.update()
    assert len(density.seen) == 1
    inference.update()
    assert len(density.seen) == 2


def test_a_second_run_and_update_call_it_once_a_step_too():
    density = Recorder()
    inference = klqp.KLqp([klqp.LogDensity(density, shape=D)])
    inference.run(n_iter=7, **OPTIONS)
    inference.run(n_iter=5, **OPTIONS)
    inference.update()
    assert len(density.seen) == 13


def test_it_is_called_on_the_thread_that_runs():
    density, threads = Recorder(), []

    def work():
        threads.append(threading.get_ident())
        fit(density, 20_000, n_iter=4, n_threads=2)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert density.threads == set(threads)
    assert density.threads != {threading.get_ident()}


@pytest.mark.parametrize("keep", [lambda z: z, lambda z: z[::2, 1:], lambda z: z.T, memoryview])
def test_it_may_keep_what_it_gets(keep):
    kept, copies = [], []

    def density(z):
        kept.append(keep(z))
        copies.append(np.array(kept[-1]))
        return normal(z)

    same_run(fit(density), fit(normal))
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(np.asarray(array), copy)
    assert len({copy.tobytes() for copy in copies}) == len(copies)


def test_it_may_keep_every_other_array():
    kept = []

    def density(z):
        density.calls += 1
        if density.calls % 2:
            kept.append((z, z.copy()))
        return normal(z)

    density.calls = 0
    fit(density)
    for array, copy in kept:
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("gradient", ["reparameterised", "score"])
@pytest.mark.parametrize("entropy", ["monte_carlo", "closed_form"])
def test_it_may_change_what_it_gets(gradient, entropy):
    def density(z):
        result = normal(z.copy())
        z.fill(np.nan)
        return result

    options = {"gradient": gradient, "entropy": entropy}
    same_run(fit(density, **options), fit(normal, **options))


def test_the_gradient_may_be_written_into_the_draws():
    def density(z):
        logp, grad = normal(z)
        z[...] = grad
        return logp, z

    same_run(fit(density), fit(normal))


def test_results_are_not_changed_or_relied_on_after_the_step():
    returned = []

    def density(z):
        logp, grad = normal(z)
        returned.append((logp, grad, logp.copy(), grad.copy()))
        return logp, grad

    fit(density)
    for logp, grad, logp_copy, grad_copy in returned:
        np.testing.assert_array_equal(logp, logp_copy)
        np.testing.assert_array_equal(grad, grad_copy)


def test_it_may_return_the_same_arrays_every_time():
    logp, grad = np.empty(S), np.empty((S, D))

    def density(z):
        logp[:], grad[:] = normal(z)
        return logp, grad

    same_run(fit(density), fit(normal))
    # Also when it is called for another fit between the call of initialize() and the first step.
    first, second = prepared(density, seed=1), prepared(density, seed=2)
    first.resume()
    second.resume()
    same_run(first, fit(normal, seed=1))
    same_run(second, fit(normal, seed=2))


def test_it_may_run_another_fit_and_the_same_function_inside():
    def density(z):
        if density.depth == 0:
            density.depth = 1
            inner = fit(density, n_iter=3, seed=9)
            density.depth = 0
            assert np.isfinite(inner.losses).all()
        return normal(z)

    density.depth = 0
    same_run(fit(density, n_iter=5), fit(normal, n_iter=5))


# --- what it may return ---
def big_endian(a):
    return a.astype(">f8")


def misaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    out = raw[1:].view(np.float64).reshape(a.shape)
    out[...] = a
    assert not out.flags.aligned
    return out


def spread(a):
    wide = np.full((*a.shape, 2), np.nan)
    wide[..., 0] = a
    return wide[..., 0]


def backwards(a):
    return a[..., ::-1].copy()[..., ::-1]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


class Subclass(np.ndarray):
    pass


EXACT = {
    "list": lambda a: a.tolist(),
    "list of rows": list,
    "non-contiguous": spread,
    "negative strides": backwards,
    "Fortran": np.asfortranarray,
    "big-endian": big_endian,
    "misaligned": misaligned,
    "read-only": read_only,
    "subclass": lambda a: a.view(Subclass),
    "long double": lambda a: a.astype(np.longdouble),
    "memoryview": lambda a: memoryview(np.ascontiguousarray(a)),
}


@pytest.mark.parametrize("form", EXACT)
@pytest.mark.parametrize("shape", [D, (3, 4), ()])
def test_any_array_of_real_numbers_gives_the_same_bits(form, shape):
    def density(z):
        logp, grad = normal(z)
        return EXACT[form](logp), EXACT[form](grad)

    same_run(prepared_and_run(density, shape), prepared_and_run(normal, shape))


def prepared_and_run(fn, shape, **options):
    inference = prepared(fn, shape, **options)
    inference.resume()
    return inference


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_results_of_lower_precision_are_taken(dtype):
    def density(z):
        logp, grad = normal(z)
        return logp.astype(dtype), grad.astype(dtype)

    def rounded(z):
        logp, grad = density(z)
        return logp.astype(float), grad.astype(float)

    same_run(fit(density), fit(rounded))


@pytest.mark.parametrize("convert", [lambda a: np.broadcast_to(a, np.shape(a)), np.ma.asarray])
def test_constant_results_with_zero_strides(convert):
    slope = np.array([1.0, -2.0, 0.5])

    def density(z):
        return z @ slope, convert(np.broadcast_to(slope, z.shape))

    same_run(
        fit(density, gradient="reparameterised"),
        fit(lambda z: (z @ slope, np.tile(slope, (len(z), 1)))),
    )


def test_integers_are_numbers():
    same_run(
        fit(lambda z: (np.zeros(len(z), int), np.ones(z.shape, np.int8))),
        fit(lambda z: (np.zeros(len(z)), np.ones(z.shape))),
    )


def test_the_gradient_may_come_in_a_tuple_of_one():
    same_run(fit(lambda z: (normal(z)[0], (normal(z)[1],))), fit(normal))


def test_values_alone_lead_to_score_function_gradients():
    density = Recorder(lambda z: normal(z)[0])
    inference = fit(density)
    assert "score" in inference.estimator
    assert "values only" in inference.estimator
    assert len(density.seen) == 20
    same_run(inference, fit(normal, gradient="score"))


@pytest.mark.parametrize("shape", [(), (3, 4), (2, 1, 2), 1, (1,)])
def test_draws_come_in_the_shape_of_the_variable(shape):
    density = Recorder()
    z = klqp.LogDensity(density, shape=shape)
    inference = klqp.KLqp([z])
    adam = klqp.optimizers.Adam(learning_rate=0.1, schedule="cosine")
    inference.run(n_iter=400, entropy="sticking", optimizer=adam, **{**OPTIONS, "n_samples": 20})
    full = shape if isinstance(shape, tuple) else (shape,)
    assert {a.shape for a in density.seen} == {(20, *full)}
    assert all(a.flags.c_contiguous for a in density.seen)
    assert inference.posterior[z].mean().shape == full
    assert inference.posterior[z].sample(7).shape == (7, *full)
    # Sticking the landing leaves no noise at the optimum, which the family contains.
    np.testing.assert_allclose(inference.posterior[z].mean(), 1.0, atol=1e-3)
    np.testing.assert_allclose(inference.posterior[z].stddev(), 1.0, atol=1e-3)


def test_coordinates_are_in_c_order():
    weights = np.arange(12.0).reshape(3, 4)

    def density(z):
        r = z - weights
        return -0.5 * (r * r).sum((1, 2)), -r

    inference = prepared_and_run(density, (3, 4), n_iter=1, init_loc=weights)
    flat = fit(
        lambda z: (-0.5 * ((z - weights.ravel()) ** 2).sum(1), weights.ravel() - z),
        12,
        n_iter=1,
        init_loc=weights.ravel(),
    )
    np.testing.assert_array_equal(inference.posterior["z"].mean().ravel(), flat.posterior["z"].mean())


def test_many_draws_of_one_coordinate():
    density = Recorder()
    inference = fit(density, 1, n_samples=10_000, n_iter=3)
    assert [z.shape for z in density.seen] == [(10_000, 1)] * 3
    z = density.seen[0]
    # Standard normal draws at the start; tolerances in standard errors.
    assert abs(z.mean()) < 4 / 100
    assert abs(z.var() - 1) < 4 * 2**0.5 / 100
    assert np.isfinite(inference.losses).all()


# --- float32 ---
@pytest.mark.parametrize("shape", [D, (3, 4), ()])
def test_float32_is_handed_out_and_taken(shape):
    def density(z):
        assert type(z) is np.ndarray
        assert z.dtype == np.float32
        assert z.flags.c_contiguous
        logp, grad = normal(z)
        assert logp.dtype == grad.dtype == np.float32
        z.fill(np.nan)
        return logp, grad

    inference = prepared_and_run(density, shape, dtype=np.float32, n_iter=50)
    double = prepared_and_run(normal, shape, n_iter=50)
    assert inference.losses.dtype == np.float64
    np.testing.assert_allclose(inference.losses, double.losses, rtol=1e-4, atol=1e-4)
    assert not np.array_equal(inference.losses, double.losses)
    assert np.isfinite(inference.posterior.elbo(10, seed=1).value)


def test_float32_overflow_is_a_rejection():
    def density(z):
        logp, grad = normal(z)
        return np.where(z[:, 0] > 0.8, np.float32(3e38) * np.float32(10), logp), grad

    with np.errstate(over="ignore"):
        inference = fit(density, dtype="float32")
    assert inference.rejections["invalid"] > 0
    assert "inf" in inference.rejections["first"]


# --- what it may not return ---
LOGP, GRAD = np.zeros(S), np.zeros((S, D))
SHAPE, TWO = rf"shape \({S},\)", rf"shape \({S}, {D}\)"
WRONG = [
    # logp of a wrong shape
    ((np.zeros(S + 1), GRAD), ValueError, f"logp.*{SHAPE}.*has shape \\({S + 1},\\)"),
    ((np.zeros((S, 1)), GRAD), ValueError, f"logp.*{SHAPE}.*has shape \\({S}, 1\\)"),
    ((np.zeros((1, S)), GRAD), ValueError, f"logp.*{SHAPE}.*has shape \\(1, {S}\\)"),
    ((0.0, GRAD), ValueError, f"logp.*{SHAPE}.*has shape \\(\\)"),
    ((np.float64(0), GRAD), ValueError, f"logp.*{SHAPE}.*has shape \\(\\)"),
    ((np.zeros(0), GRAD), ValueError, f"logp.*{SHAPE}.*has shape \\(0,\\)"),
    ((GRAD, LOGP), ValueError, f"logp.*{SHAPE}.*has shape \\({S}, {D}\\)"),
    (np.zeros((S, D)), ValueError, f"logp.*{SHAPE}.*has shape \\({S}, {D}\\)"),
    (0.0, ValueError, f"logp.*{SHAPE}.*has shape \\(\\)"),
    # grad of a wrong shape
    ((LOGP, np.zeros((D, S))), ValueError, f"grad.*{TWO}.*has shape \\({D}, {S}\\)"),
    ((LOGP, np.zeros(D)), ValueError, f"grad.*{TWO}.*has shape \\({D},\\)"),
    ((LOGP, np.zeros((S, D, 1))), ValueError, f"grad.*{TWO}.*has shape \\({S}, {D}, 1\\)"),
    ((LOGP, np.zeros(S * D)), ValueError, f"grad.*{TWO}.*has shape \\({S * D},\\)"),
    ((LOGP, 0.0), ValueError, f"grad.*{TWO}.*has shape \\(\\)"),
    ((LOGP, [[1.0]] * (S - 1) + [[1.0, 2.0]]), ValueError, f"grad.*{TWO}.*ragged"),
    # not real numbers
    ((LOGP.astype(complex), GRAD), TypeError, "logp.*real.*complex128"),
    ((LOGP, GRAD.astype(complex)), TypeError, "grad.*real.*complex128"),
    ((LOGP.astype(object), GRAD), TypeError, "logp.*real.*object"),
    ((LOGP, GRAD.astype(object)), TypeError, "grad.*real.*object"),
    ((LOGP.astype(str), GRAD), TypeError, "logp.*real.*<U"),
    (("nonsense", GRAD), TypeError, "logp.*real.*str"),
    ((LOGP, GRAD.astype("datetime64[s]")), TypeError, "grad.*real.*datetime64"),
    ((None, GRAD), TypeError, "logp.*real.*NoneType"),
    ((LOGP, None), TypeError, "grad.*real.*NoneType"),
    (None, TypeError, "logp.*real.*NoneType"),
    ("nonsense", TypeError, "logp.*real.*str"),
    ({"logp": LOGP}, TypeError, "logp.*real.*dict"),
    # not a pair
    ((LOGP, GRAD, GRAD), ValueError, r"pair \(logp, grad\).*tuple of 3"),
    ((LOGP,), ValueError, r"pair \(logp, grad\).*tuple of 1"),
    ((), ValueError, r"pair \(logp, grad\).*tuple of 0"),
    ((LOGP, (GRAD, GRAD)), ValueError, f"grad.*{TWO}.*has shape \\(2, {S}, {D}\\)"),
    ([LOGP, GRAD], ValueError, f"logp.*{SHAPE}.*tuple"),
    ([LOGP, LOGP], ValueError, f"logp.*{SHAPE}.*has shape \\(2, {S}\\).*tuple"),
]


def name_of(case):
    result, _, message = case
    return f"{type(result).__name__}-{message[:24]}"


@pytest.mark.parametrize(("result", "error", "message"), WRONG, ids=map(name_of, WRONG))
def test_wrong_results_are_refused_before_any_step(result, error, message):
    calls = Recorder(lambda z: result)
    inference = klqp.KLqp([klqp.LogDensity(calls, shape=D)])
    with pytest.raises(error, match=message):
        inference.run(n_iter=10, **OPTIONS)
    assert len(calls.seen) == 1
    with pytest.raises(RuntimeError, match="no run yet"):
        _ = inference.posterior
    with pytest.raises(error, match=message):
        inference.initialize(n_iter=10, **OPTIONS)


@pytest.mark.parametrize(("result", "error", "message"), WRONG, ids=map(name_of, WRONG))
def test_wrong_results_in_a_later_step_leave_the_run_valid(result, error, message):
    def density(z):
        density.calls += 1
        return result if density.calls == 8 else normal(z)

    density.calls = 0
    inference = prepared(density)
    if type(result) is str or not isinstance(result, tuple):
        error, message = TypeError, rf"pair \(logp, grad\).*{type(result).__name__}"
    with pytest.raises(error, match=message):
        inference.resume()
    assert len(inference.losses) == 7
    inference.resume()
    same_run(inference, fit(normal))


def test_a_gradient_is_asked_for_where_it_is_needed():
    def values(z):
        return normal(z)[0]

    with pytest.raises(TypeError, match=r"need the gradient.*logp alone.*\(logp, grad\)"):
        fit(values, gradient="reparameterised")
    with pytest.raises(TypeError, match=r"need the gradient.*logp alone.*\(logp, grad\)"):
        klqp.ReparameterizationKLqp([klqp.LogDensity(values, shape=D)]).run(**OPTIONS)


# --- exceptions ---
class Mine(Exception):
    """An exception with more than a message."""

    def __init__(self, code, payload):
        super().__init__(code, payload)
        self.payload = payload


def raises_at(call, error):
    def density(z):
        density.calls += 1
        if density.calls == call:
            raise error  # the user's line
        return normal(z)

    density.calls = 0
    return density


def check_passed_through(caught, error):
    assert caught.value is error
    assert any(
        frame.line is not None and frame.line.endswith("# the user's line") for frame in traceback.extract_tb(caught.tb)
    )


@pytest.mark.parametrize(
    "error",
    [
        Mine(7, {"a": 1}),
        ZeroDivisionError("mine"),
        TypeError(),
        StopIteration(3),
        SystemExit(4),
        GeneratorExit(),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("call", [1, 57])
@pytest.mark.parametrize("dim", [D, 20_000])
def test_an_exception_passes_through_and_the_run_goes_on(error, call, dim):
    options = {"n_iter": 60, "n_samples": 2, "n_threads": 2}
    if dim == D:
        error.__traceback__ = None
    density = raises_at(call, error)
    inference = klqp.KLqp([klqp.LogDensity(density, shape=dim)])
    with pytest.raises(type(error)) as caught:
        inference.run(**{**OPTIONS, **options})
    check_passed_through(caught, error)
    assert density.calls == call
    if call == 1:  # of the call that looks for mistakes
        with pytest.raises(RuntimeError, match="no run yet"):
            _ = inference.losses
        return
    assert inference.stop_reason is None
    assert len(inference.losses) == call - 1
    assert np.isfinite(inference.posterior.elbo(10, seed=1).value)
    density.calls = call
    inference.resume()
    assert inference.stop_reason == "steps"
    same_run(inference, fit(normal, dim, **options))


def test_an_exception_in_update_leaves_the_step_undone():
    error = Mine(1, None)
    inference, whole = prepared(raises_at(4, error)), fit(normal)
    for t in range(1, 4):
        assert inference.update()["t"] == t
    before = inference.snapshot()
    with pytest.raises(Mine) as caught:
        inference.update()
    check_passed_through(caught, error)
    after = inference.snapshot()
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert inference.update()["t"] == 4
    inference.resume()
    same_run(inference, whole)


def test_an_exception_in_elbo_passes_through():
    error = Mine(2, None)
    density = raises_at(21, error)
    inference = fit(density)
    with pytest.raises(Mine) as caught:
        inference.posterior.elbo(10)
    check_passed_through(caught, error)


def test_an_exception_while_results_are_read_passes_through():
    class Odd:
        def __array__(self, dtype=None, copy=None):
            raise Mine(3, "in __array__")

    with pytest.raises(Mine) as caught:
        fit(lambda z: (Odd(), z))
    assert caught.value.payload == "in __array__"


def test_a_wrong_number_of_arguments_is_the_users_error():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        fit(lambda z, y: normal(z))


def test_keyboard_interrupt_in_the_function_keeps_the_state():
    density = raises_at(57, KeyboardInterrupt())
    inference = prepared(density, n_iter=100)
    with pytest.warns(klqp.InterruptedRunWarning, match="after 56 of 100 steps"):
        inference.resume()
    assert inference.stop_reason == "interrupted"
    assert len(inference.losses) == 56
    assert np.isfinite(inference.posterior["z"].mean()).all()
    inference.resume()
    assert inference.stop_reason == "steps"
    same_run(inference, fit(normal, n_iter=100))


def test_keyboard_interrupt_in_one_call_runs():
    with pytest.warns(klqp.InterruptedRunWarning, match="after 2 of 20 steps") as caught:
        inference = fit(raises_at(3, KeyboardInterrupt()))
    assert inference.stop_reason == "interrupted"
    assert len(caught) == 1
    # By hand, and in the call before the first step, it is the user's own.
    with pytest.raises(KeyboardInterrupt):
        fit(raises_at(1, KeyboardInterrupt()))
    by_hand = prepared(raises_at(2, KeyboardInterrupt()))
    by_hand.update()
    with pytest.raises(KeyboardInterrupt):
        by_hand.update()
    assert by_hand.update()["t"] == 2


# --- values that are not finite ---
def spoiled(part, value, at=(5, 2, 1)):
    """Return a density with `value` at step, draw and coordinate `at`."""
    step, draw, coordinate = at

    def density(z):
        logp, grad = normal(z)
        if density.calls == step:
            if part == "logp":
                logp[draw] = value
            else:
                grad[draw, coordinate] = value
        density.calls += 1
        return logp, grad

    density.calls = 0
    return density


@pytest.mark.parametrize(
    ("part", "value", "kind", "words"),
    [
        ("logp", -np.inf, "minus_inf", "log density -inf"),
        ("logp", np.inf, "invalid", "log density inf"),
        ("logp", np.nan, "invalid", "log density nan"),
        ("logp", -np.nan, "invalid", "log density nan"),
        ("grad", np.nan, "invalid", "gradient nan in coordinate 1"),
        ("grad", np.inf, "invalid", "gradient inf in coordinate 1"),
        ("grad", -np.inf, "invalid", "gradient -inf in coordinate 1"),
    ],
)
@pytest.mark.parametrize("dim", [D, 1000])
def test_draws_that_are_not_finite_are_left_out_and_counted(part, value, kind, words, dim):
    inference = fit(spoiled(part, value), dim)
    other = {"minus_inf": "invalid", "invalid": "minus_inf"}[kind]
    assert inference.rejections[kind] == 1
    assert inference.rejections[other] == 0
    assert inference.rejections["first"] == f"first at step 5, draw 2: {words}"
    np.testing.assert_array_equal(inference.history["n_rejected"], np.eye(20)[5])
    assert np.isfinite(inference.losses).all()
    clean = fit(normal, dim)
    np.testing.assert_array_equal(inference.losses[:5], clean.losses[:5])
    assert inference.losses[5] != clean.losses[5]


def test_gradients_are_not_looked_at_where_they_are_not_used():
    inference = fit(spoiled("grad", np.nan), gradient="score")
    assert inference.rejections == {"minus_inf": 0, "invalid": 0, "first": None}
    same_run(inference, fit(normal, gradient="score"))


def test_the_gradient_outside_the_support_does_not_matter():
    def density(z):
        logp, grad = normal(z)
        outside = z[:, 0] < -1
        return np.where(outside, -np.inf, logp), np.where(outside[:, None], np.nan, grad)

    inference = fit(density, n_iter=100)
    assert inference.rejections["minus_inf"] > 0
    assert inference.rejections["invalid"] == 0
    assert inference.rejections["minus_inf"] == inference.history["n_rejected"].sum()
    with pytest.warns(klqp.RejectedDrawsWarning, match="of 1000 draws.*not finite"):
        elbo = inference.posterior.elbo(1000, seed=1)
    assert elbo.n_rejected > 0


def test_the_first_culprit_of_several_is_named_and_all_are_counted():
    def density(z):
        logp, grad = normal(z)
        if density.calls in (3, 6):
            logp[1], logp[4] = np.nan, -np.inf
        density.calls += 1
        return logp, grad

    density.calls = 0
    inference = fit(density)
    assert inference.rejections == {
        "minus_inf": 2,
        "invalid": 2,
        "first": "first at step 3, draw 1: log density nan",
    }
    assert inference.history["n_rejected"].sum() == 4


def test_a_step_with_too_many_rejected_draws_backs_off():
    def density(z):
        logp, grad = normal(z)
        if density.calls == 10:
            logp[: S // 2] = np.nan
        density.calls += 1
        return logp, grad

    density.calls = 0
    inference = prepared(density)
    for _ in range(10):
        inference.update()
    before = inference.posterior["z"].mean()
    info = inference.update()
    assert np.isnan(info["loss"])
    assert info["n_rejected"] == S // 2
    assert not np.array_equal(inference.posterior["z"].mean(), before)  # the last that worked
    rates = inference.history["learning_rate"]
    inference.update()
    assert inference.history["learning_rate"][11] < 0.6 * rates[9]
    inference.resume()
    assert np.isnan(inference.losses).sum() == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [(-np.inf, "log density -inf"), (np.nan, "log density nan"), (np.inf, "log density inf")],
)
@pytest.mark.parametrize("gradient", ["reparameterised", "score"])
def test_a_start_where_nothing_is_finite_stops_before_any_step(value, words, gradient):
    calls = Recorder(lambda z: (np.full(len(z), value), z))
    inference = klqp.KLqp([klqp.LogDensity(calls, shape=D)])
    message = f"not finite at any of the {S} draws.*{words}.*init_loc"
    with pytest.raises(klqp.TargetError, match=message):
        inference.run(n_iter=10, gradient=gradient, **OPTIONS)
    assert len(calls.seen) == 1
    assert len(inference.losses) == 0
    assert isinstance(klqp.TargetError("x"), ArithmeticError)


def test_a_start_where_no_gradient_is_finite_stops_before_any_step():
    with pytest.raises(klqp.TargetError, match="draw 0: gradient nan in coordinate 0"):
        fit(lambda z: (np.zeros(len(z)), np.full(z.shape, np.nan)))


def test_a_start_that_is_not_finite_can_be_mended_by_init_loc():
    def density(z):
        logp, grad = normal(z - 20)
        return np.where(z[:, 0] < 10, -np.inf, logp), grad

    with pytest.raises(klqp.TargetError, match="init_loc"):
        fit(density)
    assert np.isfinite(fit(density, init_loc=20.0).losses).all()


def test_a_density_that_becomes_impossible_stops_the_run_with_the_culprit():
    def density(z):
        logp, grad = normal(z)
        density.calls += 1
        return (np.full(S, np.nan), grad) if density.calls > 30 else (logp, grad)

    density.calls = 0
    inference = prepared(density, n_iter=1000)
    message = r"25 steps in a row.*step 30, draw 0: log density nan"
    with pytest.raises(klqp.TargetError, match=message):
        inference.resume()
    assert len(inference.losses) == 55
    assert np.isnan(inference.losses[30:]).all()
    assert np.isfinite(inference.posterior["z"].mean()).all()
