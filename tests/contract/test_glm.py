"""Generalised linear models: values against SciPy, gradients by differences, layouts, threads, tables, extremes."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import sparse, special, stats

from klqp import _core

S = 3  # draws


# --- the likelihoods, apart from klqp ------------------------------------------------------------------------------
@dataclass(frozen=True)
class Example:
    """A likelihood: its data, its parameters for each draw and the log density of each row given eta (n,) or (n, k)."""

    value: Callable[[np.random.Generator, int], np.ndarray]
    log_prob: Callable[..., np.ndarray]
    parameters: Callable[[np.random.Generator, int], list[np.ndarray]] = lambda rng, n: []  # (S, size) each
    data: tuple[int, ...] = ()  # parameters that must be data
    k: int = 1
    outside: tuple[float, ...] = ()  # values outside the support
    illegal: tuple[float, ...] = ()  # values no parameter may have


def positive(rng, n):
    return [rng.gamma(4.0, 0.5, size=(S, 1))]


def ordered_log_prob(y, eta, cuts):
    bounds = np.concatenate([[-np.inf], cuts, [np.inf]])
    k = y.astype(int)
    upper, lower = bounds[k + 1] - eta, bounds[k] - eta
    with np.errstate(divide="ignore"):
        return special.log_expit(upper) + special.log_expit(-lower) + np.log(-np.expm1(lower - upper))


def negative_binomial(y, eta, r):
    return (
        special.gammaln(y + r)
        - special.gammaln(r)
        - special.gammaln(y + 1)
        + (y * special.log_expit(eta) + r * special.log_expit(-eta))
    )


EXAMPLES = {
    "normal": Example(
        lambda rng, n: rng.normal(size=n),
        lambda y, eta, scale: stats.norm(eta, scale).logpdf(y),
        positive,
        outside=(math.inf,),
        illegal=(0.0, -1.0, math.inf, math.nan),
    ),
    "student_t": Example(
        lambda rng, n: 2.0 * rng.standard_t(3.0, size=n),
        lambda y, eta, df, scale: stats.t(df, eta, scale).logpdf(y),
        lambda rng, n: [*positive(rng, n), *positive(rng, n)],
        outside=(-math.inf,),
        illegal=(0.0, -1.0, math.inf, math.nan),
    ),
    "bernoulli_logits": Example(
        lambda rng, n: rng.integers(0, 2, n).astype(float),
        lambda y, eta: special.log_expit((2 * y - 1) * eta),
        outside=(0.5, 2.0, -1.0),
    ),
    "binomial_logits": Example(
        lambda rng, n: rng.integers(0, 4, n).astype(float),
        lambda y, eta, trials: stats.binom(trials, special.expit(eta)).logpmf(y),
        lambda rng, n: [np.tile(rng.integers(3, 9, n).astype(float), (S, 1))],
        data=(0,),
        outside=(0.5, 9.0, -1.0),
        illegal=(2.5, math.nan),
    ),
    "poisson_log": Example(
        lambda rng, n: rng.poisson(3.0, n).astype(float),
        lambda y, eta: stats.poisson(np.exp(eta)).logpmf(y),
        outside=(0.5, -1.0, math.inf),
    ),
    "negative_binomial_logits": Example(
        lambda rng, n: rng.poisson(3.0, n).astype(float),
        negative_binomial,
        positive,
        outside=(0.5, -1.0, math.inf),
        illegal=(0.0, -1.0, math.inf, math.nan),
    ),
    "gamma_log": Example(
        lambda rng, n: rng.gamma(2.0, size=n),
        lambda y, eta, c: stats.gamma(c, scale=np.exp(eta) / c).logpdf(y),
        positive,
        outside=(-1.0, math.inf),
        illegal=(0.0, -1.0, math.inf, math.nan),
    ),
    "categorical_logits": Example(
        lambda rng, n: rng.integers(0, 4, n).astype(float),
        lambda y, eta: np.take_along_axis(special.log_softmax(eta, 1), y.astype(int)[:, None], 1)[:, 0],
        k=4,
        outside=(4.0, -1.0, 0.5),
    ),
    "ordered_logistic": Example(
        lambda rng, n: rng.integers(0, 4, n).astype(float),
        ordered_log_prob,
        lambda rng, n: [np.sort(rng.normal(size=(S, 3)), axis=1) + np.array([0.0, 0.1, 0.2])],
        outside=(4.0, -1.0, 0.5),
        illegal=(math.nan,),
    ),
}

each_likelihood = pytest.mark.parametrize("name", _core.GLM_LIKELIHOODS)


def test_every_likelihood_has_an_example():
    assert set(EXAMPLES) == set(_core.GLM_LIKELIHOODS)


# --- the node ------------------------------------------------------------------------------------------------------
class Built:
    """A model of one likelihood: arrays with a draw axis, (S, size), are inputs, others (size,) data."""

    def __init__(self, name, n, k=1):
        self.core, self.inputs = _core.Model(), []
        self.name, self.predictor = name, _core.Predictor(n, k)

    def array(self, x):
        if x.ndim == 1:
            return self.core.data(x)
        self.inputs.append(np.ascontiguousarray(x))
        return self.core.input(x.shape[1])

    def finish(self, value, parameters=(), weight=None):
        slots = [self.array(x) for x in parameters]
        w = -1 if weight is None else self.core.data(weight)
        self.out = self.core.glm(self.name, self.predictor, self.core.data(value), slots, w)
        return self

    def value(self, inputs=None):
        inputs = self.inputs if inputs is None else inputs
        (out,) = self.core.evaluate(S, np.zeros(1), np.zeros((S, 1)), inputs, [self.out])
        return out[:, 0]

    def gradients(self, cot=None):
        cot = np.ones((S, 1)) if cot is None else cot
        return self.core.pullback(S, np.zeros(1), np.zeros((S, 1)), self.inputs, self.out, cot)[1]


def example(name, n, d, seed=0):
    """Return data, coefficients (S, d * k), an intercept (S, k) and parameters; what must be data has no draws."""
    e, rng = EXAMPLES[name], np.random.default_rng(seed)
    x, coef = rng.normal(size=(n, d)), rng.normal(size=(S, d * e.k)) / math.sqrt(d)
    intercept = 0.3 * rng.normal(size=(S, e.k))
    parameters = [p[0] if j in e.data else p for j, p in enumerate(e.parameters(rng, n))]
    return x, e.value(rng, n), coef, intercept, parameters


def linear(name, x, coef, intercept):
    """Return eta (S, n), or (S, n, k)."""
    k = EXAMPLES[name].k
    eta = np.stack([x @ c.reshape(-1, k) for c in coef]) + intercept[:, None, :]
    return eta if k > 1 else eta[..., 0]


def expected(name, y, eta, parameters, weight=1.0):
    """Return the log density (S,) by SciPy, and the sum of its parts' magnitudes."""
    total, size = np.zeros(S), np.zeros(S)
    for s in range(S):
        of_draw = [p if p.ndim == 1 else (p[s] if name == "ordered_logistic" else p[s, 0]) for p in parameters]
        parts = np.where(np.asarray(weight) == 0.0, 0.0, weight * EXAMPLES[name].log_prob(y, eta[s], *of_draw))
        total[s], size[s] = parts.sum(), np.abs(parts).sum()
    return total, size


def standard(name, n, d, matrix=None, weight=None, seed=0):
    x, y, coef, intercept, parameters = example(name, n, d, seed)
    built = Built(name, n, EXAMPLES[name].k)
    built.predictor.matrix(_core.DesignMatrix(x if matrix is None else matrix(x)), built.array(coef))
    built.predictor.add(built.array(intercept))
    built.finish(y, parameters, weight)
    return built, expected(name, y, linear(name, x, coef, intercept), parameters, 1.0 if weight is None else weight)


def check_gradients(built, rtol=1e-7):
    """Against central differences of the value, each draw by itself."""
    cot = np.array([[1.0], [-2.0], [0.5]])
    for j, (x, grad) in enumerate(zip(built.inputs, built.gradients(cot), strict=True)):
        numeric = np.empty_like(x)
        for i in range(x.shape[1]):
            step = 1e-5 * np.maximum(1.0, np.abs(x[:, i]))
            ends = []
            for sign in (1.0, -1.0):
                moved = [z.copy() for z in built.inputs]
                moved[j][:, i] += sign * step
                ends.append(built.value(moved))
            numeric[:, i] = cot[:, 0] * (ends[0] - ends[1]) / (2.0 * step)
        scale = 1.0 + np.abs(numeric).max() + np.abs(built.value()).max() * 1e-3
        np.testing.assert_allclose(grad, numeric, rtol=rtol, atol=rtol * scale, err_msg=f"input {j}")


def check_value(built, reference, rtol=1e-13):
    total, size = reference
    np.testing.assert_array_less(np.abs(built.value() - total), rtol * size + 1e-300)


# --- values and gradients ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "d"), [(1, 1), (7, 3), (300, 5), (700, 19)])
@each_likelihood
def test_value_and_gradients(name, n, d):
    built, reference = standard(name, n, d)
    check_value(built, reference, rtol=2e-13)
    check_gradients(built)


@each_likelihood
def test_weights_leave_rows_out(name):
    rng = np.random.default_rng(1)
    weight = rng.integers(0, 3, 300) * 0.7
    built, reference = standard(name, 300, 4, weight=weight)
    check_value(built, reference, rtol=2e-13)
    check_gradients(built)


@each_likelihood
def test_one_weight_scales(name):
    plain, _ = standard(name, 50, 3)
    for factor in (2.5, 0.0):
        scaled, _ = standard(name, 50, 3, weight=np.array([factor]))
        np.testing.assert_allclose(scaled.value(), factor * plain.value(), rtol=1e-15)
        for ours, theirs in zip(scaled.gradients(), plain.gradients(), strict=True):
            np.testing.assert_allclose(ours, factor * theirs, rtol=1e-14)


@each_likelihood
def test_outside_the_support(name):
    e = EXAMPLES[name]
    x, y, coef, intercept, parameters = example(name, 60, 3)
    for bad, wanted in [*((v, -math.inf) for v in e.outside), (math.nan, math.nan)]:
        value = y.copy()
        value[17] = bad
        for weight in (None, np.where(np.arange(60) == 17, 0.0, 1.0)):
            built = Built(name, 60, e.k)
            built.predictor.matrix(_core.DesignMatrix(x), built.array(coef))
            built.predictor.add(built.array(intercept))
            built.finish(value, parameters, weight)
            if weight is None:
                np.testing.assert_array_equal(built.value(), wanted)
            else:
                left = np.delete(np.arange(60), 17)
                params = [p[left] if p.ndim == 1 else p for p in parameters]
                eta = linear(name, x, coef, intercept)[:, left]
                check_value(built, expected(name, y[left], eta, params), rtol=2e-13)
                assert all(np.isfinite(g).all() for g in built.gradients())


@pytest.mark.parametrize("name", [n for n, e in EXAMPLES.items() if e.illegal])
def test_illegal_parameters_stay_in_their_draw(name):
    e = EXAMPLES[name]
    for bad in e.illegal:
        x, y, coef, intercept, parameters = example(name, 40, 3)
        parameters = [p.copy() for p in parameters]
        parameters[-1][1 if parameters[-1].ndim > 1 else slice(None)] = bad
        built = Built(name, 40, e.k)
        built.predictor.matrix(_core.DesignMatrix(x), built.array(coef))
        built.predictor.add(built.array(intercept))
        value = built.finish(y, parameters).value()
        assert np.isnan(value[1]), bad
        if not e.data:
            np.testing.assert_array_equal(np.isfinite(value), [True, False, True])


@each_likelihood
def test_a_draw_that_is_not_a_number_spoils_no_other(name):
    built, _ = standard(name, 300, 6)
    before, gradients = built.value(), built.gradients()
    built.inputs[0][1, 2] = math.nan
    after = built.value()
    assert np.isnan(after[1])
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    for ours, theirs in zip(built.gradients(), gradients, strict=True):
        np.testing.assert_array_equal(ours[[0, 2]], theirs[[0, 2]])


def test_logits_of_any_size():
    eta = np.array([-1e4, -800.0, -745.0, -40.0, -1e-9, 0.0, 1e-300, 37.0, 708.0, 1e5])
    for y in (0.0, 1.0):
        for weight in (None, np.ones(10)):
            core = _core.Model()
            predictor = _core.Predictor(10)
            predictor.add(core.input(10))
            w = -1 if weight is None else core.data(weight)
            out = core.glm("bernoulli_logits", predictor, core.data(np.full(10, y)), [], w)
            rows = np.diag(eta)
            (value,) = core.evaluate(10, np.zeros(1), np.zeros((10, 1)), [rows], [out])
            wanted = special.log_expit((2 * y - 1) * eta) + 9 * special.log_expit(0.0)
            np.testing.assert_allclose(value[:, 0], wanted, rtol=1e-14)
            _, (grad,) = core.pullback(10, np.zeros(1), np.zeros((10, 1)), [rows], out, np.ones((10, 1)))
            slope = (2 * y - 1) * special.expit(-(2 * y - 1) * eta)
            np.testing.assert_allclose(np.diag(grad), slope, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("name", ["normal", "student_t", "negative_binomial_logits", "gamma_log", "binomial_logits"])
def test_parameters_of_rows(name):
    n, rng = 300, np.random.default_rng(3)
    x, y, coef, intercept, parameters = example(name, n, 4)
    parameters = [rng.gamma(4.0, 0.5, size=n) if j not in EXAMPLES[name].data else p for j, p in enumerate(parameters)]
    for weight in (None, rng.integers(0, 3, n) * 1.0):
        built = Built(name, n)
        built.predictor.matrix(_core.DesignMatrix(x), built.array(coef))
        built.predictor.add(built.array(intercept))
        built.finish(y, parameters, weight)
        w = 1.0 if weight is None else weight
        check_value(built, expected(name, y, linear(name, x, coef, intercept), parameters, w), rtol=2e-13)
        check_gradients(built)


def test_a_parameter_of_rows_beside_one_of_draws():
    n, rng = 200, np.random.default_rng(4)
    x, y, coef, intercept, (df, _) = example("student_t", n, 3)
    scale = rng.gamma(4.0, 0.5, size=n)
    built = Built("student_t", n)
    built.predictor.matrix(_core.DesignMatrix(x), built.array(coef))
    built.predictor.add(built.array(intercept))
    built.finish(y, [df, scale])
    check_value(built, expected("student_t", y, linear("student_t", x, coef, intercept), [df, scale]), rtol=2e-13)
    check_gradients(built)


# --- predictors ----------------------------------------------------------------------------------------------------
def layouts():
    def padded(x):
        return np.pad(x, ((0, 0), (2, 3)))[:, 2:-3]

    def every_second(x):
        return np.repeat(x, 2, axis=0)[::2]

    return {"fortran": np.asfortranarray, "padded": padded, "rows": every_second, "up": lambda x: x[::-1].copy()[::-1]}


@pytest.mark.parametrize("d", [1, 3, 8, 33])
@pytest.mark.parametrize("layout", layouts())
def test_layouts_of_memory(layout, d):
    plain, reference = standard("bernoulli_logits", 300, d)
    built, _ = standard("bernoulli_logits", 300, d, matrix=layouts()[layout])
    check_value(built, reference)
    for ours, theirs in zip(built.gradients(), plain.gradients(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("d", [1, 3, 8, 19, 64])
@pytest.mark.parametrize("draws", [1, 2, 3, 5, 8, 13, 16, 37])
def test_any_number_of_draws_and_columns(draws, d):
    rng = np.random.default_rng(d)
    n = 333
    x, y = rng.normal(size=(n, d)), rng.normal(size=n)
    coef = rng.normal(size=(draws, d))
    core, predictor = _core.Model(), _core.Predictor(n)
    predictor.matrix(_core.DesignMatrix(x), core.input(d))
    out = core.glm("normal", predictor, core.data(y), [core.data([1.0])])
    noise, cot = np.zeros((draws, 1)), np.ones((draws, 1))
    (value,) = core.evaluate(draws, np.zeros(1), noise, [coef], [out])
    gap = y - coef @ x.T
    wanted = -0.5 * (gap**2).sum(1) - 0.5 * n * math.log(2 * math.pi)
    np.testing.assert_allclose(value[:, 0], wanted, rtol=1e-13)
    _, (grad,) = core.pullback(draws, np.zeros(1), noise, [coef], out, cot)
    scale = np.abs(gap) @ np.abs(x)
    assert (np.abs(grad - gap @ x) < 1e-13 * scale).all()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("draws", [1, 3, 8, 21])
@pytest.mark.parametrize("d", [1, 5, 8, 30])
def test_single_precision(d, draws, order):
    rng = np.random.default_rng(d)
    n = 500
    x = np.asarray(rng.normal(size=(n, d)), dtype=np.float32, order=order)
    y, coef = rng.normal(size=n), rng.normal(size=(draws, d))
    core, predictor = _core.Model(), _core.Predictor(n)
    predictor.matrix(_core.DesignMatrix(x), core.input(d))
    out = core.glm("normal", predictor, core.data(y), [core.data([1.0])])
    (value,) = core.evaluate(draws, np.zeros(1), np.zeros((draws, 1)), [coef], [out])
    exact = x.astype(np.float64)
    gap = y - coef @ exact.T
    eps = 2.0**-24
    error = eps * (d + 2) * (np.abs(coef) @ np.abs(exact.T))  # of eta
    wanted = -0.5 * (gap**2).sum(1) - 0.5 * n * math.log(2 * math.pi)
    assert (np.abs(value[:, 0] - wanted) <= (np.abs(gap) * error + error**2).sum(1)).all()
    _, (grad,) = core.pullback(draws, np.zeros(1), np.zeros((draws, 1)), [coef], out, np.ones((draws, 1)))
    bound = (error + eps * 258 * np.abs(gap)) @ np.abs(exact)  # blocks of at most 256 rows are summed in float32
    assert (np.abs(grad - gap @ exact) <= bound).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@each_likelihood
def test_sparse_matrices(name, index, dtype):
    keep = np.random.default_rng(5).random((300, 7)) < 0.3
    keep[40] = False

    def thin(x):
        return np.where(keep, x, 0.0).astype(dtype)

    x, y, coef, intercept, parameters = example(name, 300, 7)
    csr = sparse.csr_array(thin(x))
    matrix = _core.DesignMatrix.csr(csr.data, csr.indices.astype(index), csr.indptr.astype(index), csr.shape)
    assert matrix.shape == (300, 7)
    built = Built(name, 300, EXAMPLES[name].k)
    built.predictor.matrix(matrix, built.array(coef))
    built.predictor.add(built.array(intercept))
    built.finish(y, parameters)
    eta = linear(name, thin(x).astype(np.float64), coef, intercept)
    check_value(built, expected(name, y, eta, parameters), rtol=2e-13)
    check_gradients(built)


def whole_predictor(rows):
    """A model with everything a predictor can have, its eta (S, n), and the slot of the row numbers."""
    rng, total = np.random.default_rng(6), 500
    n = total if rows is None else len(rows)
    take = np.arange(total) if rows is None else rows
    x1, x2 = rng.normal(size=(total, 4)), np.asfortranarray(rng.normal(size=(total, 9)))
    thin = np.where(rng.random((total, 6)) < 0.4, rng.normal(size=(total, 6)), 0.0)
    x3 = rng.normal(size=(n, 2))
    csr = sparse.csr_array(thin)
    built = Built("bernoulli_logits", n)
    p, a = built.predictor, built.array
    coefs = [0.3 * rng.normal(size=(S, d)) for d in (4, 9, 6, 2)]
    p.matrix(_core.DesignMatrix(x1), a(coefs[0]))
    p.matrix(_core.DesignMatrix(x2), a(coefs[1]))
    p.matrix(_core.DesignMatrix.csr(csr.data, csr.indices, csr.indptr, csr.shape), a(coefs[2]))
    p.data_matrix(built.core.data(x3.ravel()), a(coefs[3]))
    tables = [0.5 * rng.normal(size=(S, m)) for m in (5, 11)]
    indices = [rng.integers(0, m, n) for m in (5, 11)]
    covariate = rng.normal(size=n)
    p.gather(a(tables[0]), built.core.data(indices[0].astype(float)))
    p.gather(a(tables[1]), built.core.data(indices[1].astype(float)), built.core.data(covariate))
    intercept, offset, latent = rng.normal(size=(S, 1)), rng.normal(size=n), 0.2 * rng.normal(size=(S, n))
    for term in (intercept, offset, latent):
        p.add(a(term))
    slot = None
    if rows is not None:
        slot = built.core.data(rows.astype(float), feedable=True)
        p.rows(slot)

    def eta(take):
        out = coefs[0] @ x1[take].T + coefs[1] @ x2[take].T + coefs[2] @ thin[take].T + coefs[3] @ x3.T
        return out + tables[0][:, indices[0]] + tables[1][:, indices[1]] * covariate + intercept + offset + latent

    y = rng.integers(0, 2, n).astype(float)
    built.finish(y)
    return built, y, eta, slot, take


@pytest.mark.parametrize("by_index", [False, True])
def test_all_terms_of_a_predictor(by_index):
    rng = np.random.default_rng(7)
    rows = rng.integers(0, 500, 280) if by_index else None
    built, y, eta, slot, take = whole_predictor(rows)
    check_value(built, expected("bernoulli_logits", y, eta(take), []))
    small = [i for i, x in enumerate(built.inputs) if x.shape[1] < 20]
    gradients = built.gradients()
    residual = y - special.expit(eta(take))
    np.testing.assert_allclose(gradients[-1], residual, rtol=1e-12, atol=1e-14)
    for i in small:
        numeric = np.empty_like(built.inputs[i])
        for j in range(numeric.shape[1]):
            moved = [z.copy() for z in built.inputs]
            moved[i][:, j] += 1e-5
            up = built.value(moved)
            moved[i][:, j] -= 2e-5
            numeric[:, j] = (up - built.value(moved)) / 2e-5
        np.testing.assert_allclose(gradients[i], numeric, rtol=1e-6, atol=1e-6)
    if by_index:
        other = rng.integers(0, 500, 280)
        built.core.set_data(slot, other.astype(float))
        check_value(built, expected("bernoulli_logits", y, eta(other), []))
        with pytest.raises(ValueError, match=r"\[0, 500\)"):
            built.core.set_data(slot, np.full(280, 500.0))
        check_value(built, expected("bernoulli_logits", y, eta(other), []))


def test_several_columns_with_offsets():
    rng, n, k = np.random.default_rng(8), 90, 4
    x, y, coef, intercept, _ = example("categorical_logits", n, 3)
    offset, latent, same = rng.normal(size=n * k), rng.normal(size=(S, n * k)), rng.normal(size=(S, 1))
    built = Built("categorical_logits", n, k)
    built.predictor.matrix(_core.DesignMatrix(x), built.array(coef))
    for term in (intercept, offset, latent, same):
        built.predictor.add(built.array(term))
    built.finish(y)
    eta = linear("categorical_logits", x, coef, intercept) + offset.reshape(n, k) + latent.reshape(S, n, k)
    eta += same[:, :, None]
    check_value(built, expected("categorical_logits", y, eta, []))
    check_gradients(built)


def test_arrays_without_a_draw_axis():
    """A parameter shared by the draws collects the derivatives of all of them."""
    rng, n, d = np.random.default_rng(9), 120, 5
    x, y = rng.normal(size=(n, d)), rng.integers(0, 2, n).astype(float)
    coef, latent, intercept = rng.normal(size=d), rng.normal(size=n), rng.normal(size=(S, 1))
    core, predictor = _core.Model(), _core.Predictor(n)
    predictor.matrix(_core.DesignMatrix(x), core.parameter(0, d))
    predictor.add(core.parameter(d, n))
    predictor.add(core.input(1))
    out = core.glm("bernoulli_logits", predictor, core.data(y), [])
    params, noise, cot = np.concatenate([coef, latent]), np.zeros((S, 1)), np.array([[1.0], [2.0], [-1.0]])
    eta = x @ coef + latent + intercept
    (value,) = core.evaluate(S, params, noise, [intercept], [out])
    np.testing.assert_allclose(value[:, 0], special.log_expit((2 * y - 1) * eta).sum(1), rtol=1e-13)
    grad, _ = core.pullback(S, params, noise, [intercept], out, cot)
    residual = cot * (y - special.expit(eta))
    np.testing.assert_allclose(grad, np.concatenate([residual.sum(0) @ x, residual.sum(0)]), rtol=1e-11, atol=1e-12)


def test_a_change_of_the_number_of_draws():
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    core, predictor = _core.Model(), _core.Predictor(50)
    predictor.matrix(_core.DesignMatrix(x), core.parameter(0, 3))
    predictor.add(core.input(1))
    out = core.glm("normal", predictor, core.data(y), [core.data([2.0])])
    coef = rng.normal(size=3)
    for draws in (4, 1, 7, 40):
        intercept = rng.normal(size=(draws, 1))
        (value,) = core.evaluate(draws, coef, np.zeros((draws, 1)), [intercept], [out])
        np.testing.assert_allclose(value[:, 0], stats.norm(x @ coef + intercept, 2.0).logpdf(y).sum(1), rtol=1e-13)


def test_new_data_are_read():
    rng = np.random.default_rng(11)
    n = 64
    x, coef = rng.normal(size=(n, 2)), rng.normal(size=(S, 2))
    core, predictor = _core.Model(), _core.Predictor(n)
    data, value, weight = (core.data(np.ones(size), feedable=True) for size in (2 * n, n, n))
    predictor.data_matrix(data, core.input(2))
    out = core.glm("negative_binomial_logits", predictor, value, [core.data([2.5])], weight)
    y, w = rng.poisson(4.0, n).astype(float), rng.random(n)
    for _ in range(2):
        core.set_data(data, x.ravel())
        core.set_data(value, y)
        core.set_data(weight, w)
        (got,) = core.evaluate(S, np.zeros(1), np.zeros((S, 1)), [coef], [out])
        np.testing.assert_allclose(got[:, 0], (w * negative_binomial(y, coef @ x.T, 2.5)).sum(1), rtol=1e-13)
        x, y, w = x + 0.5, y + 1.0, w[::-1].copy()


# --- the product by itself -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kind", ["dense", "fortran", "float32", "sparse", "rows"])
def test_product(kind, k):
    rng, n, d = np.random.default_rng(12), 150, 6
    x = np.where(rng.random((n, d)) < 0.5, rng.normal(size=(n, d)), 0.0)
    x = x.astype(np.float32) if kind == "float32" else x
    csr = sparse.csr_array(x)
    if kind == "sparse":
        matrix = _core.DesignMatrix.csr(csr.data, csr.indices, csr.indptr, csr.shape)
    else:
        matrix = _core.DesignMatrix(np.asfortranarray(x) if kind == "fortran" else x)
    core = _core.Model()
    rows = rng.integers(0, n, 70) if kind == "rows" else np.arange(n)
    coef, slot = rng.normal(size=(S, d * k)), core.input(d * k)
    out = core.product(matrix, slot, k, core.data(rows.astype(float)) if kind == "rows" else -1)
    (value,) = core.evaluate(S, np.zeros(1), np.zeros((S, 1)), [coef], [out])
    taken = x[rows].astype(np.float64)
    tolerance = 1e-5 if kind == "float32" else 1e-13
    wanted = np.einsum("nd,sdk->snk", taken, coef.reshape(S, d, k)).reshape(S, -1)
    np.testing.assert_allclose(value, wanted, rtol=tolerance, atol=tolerance)
    cot = rng.normal(size=value.shape)
    _, (grad,) = core.pullback(S, np.zeros(1), np.zeros((S, 1)), [coef], out, cot)
    wanted = np.einsum("nd,snk->sdk", taken, cot.reshape(S, -1, k)).reshape(S, -1)
    np.testing.assert_allclose(grad, wanted, rtol=10 * tolerance, atol=10 * tolerance)


# --- threads, tables, memory ---------------------------------------------------------------------------------------
def fit(n_threads, name="poisson_log", steps=6):
    """Return parameters and losses of a few steps in mean field, large enough for threads."""
    n, d, draws = 4000, 11, 6
    rng = np.random.default_rng(13)
    x, group = 0.1 * rng.normal(size=(n, d)), rng.integers(0, 9, n)
    e = EXAMPLES[name]
    spec = _core.FamilySpec("mean_field", d * e.k + (9 if e.k == 1 else 0))
    core = _core.Model()
    noise = core.noise(0, spec.noise_dim)
    u, log_q, entropy = core.family(spec, core.parameter(0, spec.n_params), noise)
    coef = core.node("slice", [u], d * e.k, {"begin": [0]})
    predictor = _core.Predictor(n, e.k)
    predictor.matrix(_core.DesignMatrix(x), coef)
    if e.k == 1:
        predictor.gather(core.node("slice", [u], 9, {"begin": [d]}), core.data(group.astype(float)))
    parameters = [core.data(p[0]) for p in e.parameters(rng, n)]
    core.term("likelihood", "y", core.glm(name, predictor, core.data(e.value(rng, n)), parameters))
    core.term("log_q", "z", log_q, 0)
    core.term("entropy", "z", entropy, 0)
    core.factor("z", "closed_form", u, 0)
    run = _core.model_run(
        core,
        "mean",
        _core.Noise("mc", draws, core.noise_dim, 3),
        _core.OptimizerSpec("adam", {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}),
        _core.RunConfig(math.inf, math.inf, False, n_threads),
        spec.start(np.zeros(spec.dim), np.full(spec.dim, 0.1), 1),
    )
    run.until(np.full(steps, 0.01), [], None)
    return run.params


@each_likelihood
def test_any_number_of_threads_gives_the_same_bits(name):
    one = fit(1, name, steps=20)
    assert np.isfinite(one).all()
    for n_threads in (2, 3):
        np.testing.assert_array_equal(fit(n_threads, name, steps=20), one)


def report():
    """Values and gradients of all likelihoods, as this process' table computes them."""
    out = {}
    for name in _core.GLM_LIKELIHOODS:
        for kind, matrix in (("double", None), ("single", lambda x: x.astype(np.float32))):
            built, _ = standard(name, 333, 9, matrix=matrix)
            out[f"{name} {kind}"] = [built.value().tolist(), *(g.tolist() for g in built.gradients())]
    return out


@pytest.mark.parametrize("table", _core.kernels.tables())
def test_tables_agree_to_rounding(table):
    env = {**os.environ, "KLQP_ISA": table, "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True, env=env)
    told, theirs = json.loads(result.stdout)
    assert told == table
    for name, ours in report().items():
        tolerance = 1e-12 if "double" in name else 3e-5
        for mine, other in zip(ours, theirs[name], strict=True):
            scale = np.abs(mine).max()
            np.testing.assert_allclose(other, mine, rtol=tolerance, atol=tolerance * scale, err_msg=name)


def test_the_matrix_is_not_copied_and_kept_alive(tmp_path):
    path = tmp_path / "x.npy"
    rng = np.random.default_rng(14)
    np.save(path, rng.normal(size=(200, 5)))
    x = np.load(path, mmap_mode="r+")
    references = sys.getrefcount(x)
    matrix = _core.DesignMatrix(x)
    assert sys.getrefcount(x) == references + 1
    core, predictor = _core.Model(), _core.Predictor(200)
    predictor.matrix(matrix, core.input(5))
    out = core.glm("normal", predictor, core.data(np.zeros(200)), [core.data([1.0])])
    coef = rng.normal(size=(S, 5))
    first = core.evaluate(S, np.zeros(1), np.zeros((S, 1)), [coef], [out])[0]
    x[:] *= 2.0
    second = core.evaluate(S, np.zeros(1), np.zeros((S, 1)), [coef], [out])[0]
    constant = 100 * math.log(2 * math.pi)
    np.testing.assert_allclose(second + constant, 4.0 * (first + constant), rtol=1e-12)
    del matrix, predictor, core
    assert sys.getrefcount(x) == references


# --- what is refused -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(3), "two dimensions, not 1"),
        (np.zeros((0, 3)), "rows and columns"),
        (np.zeros((3, 2), dtype=int), "float64 or float32, not int64"),
        (np.zeros((3, 2), dtype=">f8"), "float64 or float32, not >f8"),
        (np.zeros((6, 6))[::2, ::2], "contiguous rows or contiguous columns"),
    ],
)
def test_matrices_that_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        _core.DesignMatrix(x)


def test_sparse_matrices_that_are_refused():
    data, indices, indptr = np.ones(2), np.array([0, 1]), np.array([0, 1, 2])
    csr = _core.DesignMatrix.csr
    csr(data, indices, indptr, (2, 2))
    with pytest.raises(ValueError, match="a number more than rows"):
        csr(data, indices, indptr, (3, 2))
    with pytest.raises(ValueError, match="out of range"):
        csr(data, np.array([0, 2]), indptr, (2, 2))
    with pytest.raises(ValueError, match="rise from 0"):
        csr(data, indices, np.array([0, 2, 1]), (2, 2))
    with pytest.raises(ValueError, match="rise from 0"):
        csr(data, indices, np.array([0, 1, 3]), (2, 2))
    with pytest.raises(ValueError, match="both be int32 or both int64"):
        csr(data, indices.astype(np.int32), indptr, (2, 2))
    with pytest.raises(ValueError, match="float64 or float32, not int64"):
        csr(np.ones(2, dtype=int), indices, indptr, (2, 2))
    with pytest.raises(ValueError, match="contiguous vector"):
        csr(np.ones(4)[::2], indices, indptr, (2, 2))


def refuse(message, make, name="normal", n=4, k=1, value=4, parameters=((1,),), weight=None):
    """`make` adds terms to a predictor; sizes of data in tuples, of parameters with a draw axis as numbers."""
    core, predictor = _core.Model(), _core.Predictor(n, k)
    make(core, predictor)
    slots = [core.data(np.ones(p[0])) if isinstance(p, tuple) else core.input(p) for p in parameters]
    w = -1 if weight is None else core.data(np.ones(weight))
    with pytest.raises(ValueError, match=message):
        core.glm(name, predictor, core.data(np.ones(value)), slots, w)


def test_predictors_that_are_refused():
    x = _core.DesignMatrix(np.zeros((4, 2)))
    refuse("wants 2 coefficients, got 3", lambda m, p: p.matrix(x, m.input(3)))
    refuse("5 rows cannot read a design matrix of 4", lambda m, p: p.matrix(x, m.input(2)), n=5, value=5)
    refuse("must be 4 rows", lambda m, p: p.data_matrix(m.data(np.ones(9)), m.input(2)))
    refuse("must be 4 rows", lambda m, p: p.data_matrix(m.input(8), m.input(2)))
    refuse("must have 4 numbers, got 3", lambda m, p: p.gather(m.input(2), m.data(np.zeros(3))))
    refuse("must be data", lambda m, p: p.gather(m.input(2), m.input(4)))
    refuse("must be data", lambda m, p: p.gather(m.input(2), m.data(np.zeros(4)), m.input(4)))
    refuse(
        "one column", lambda m, p: p.gather(m.input(2), m.data(np.zeros(4))), "categorical_logits", k=2, parameters=()
    )
    refuse("1, 1 or 4 numbers, not 3", lambda m, p: p.add(m.input(3)))
    refuse("must have 4 numbers, got 5", lambda m, p: p.rows(m.data(np.zeros(5))))
    refuse("rows and columns", lambda m, p: None, n=0)


def test_likelihoods_that_are_refused():
    def nothing(core, predictor):
        predictor.add(core.input(1))

    refuse("unknown likelihood 'no'; there are 'normal'", nothing, "no")
    refuse("expected 1 parameters of the likelihood, got 2", nothing, parameters=((1,), (1,)))
    refuse("the value of a likelihood must be data of 4 numbers", nothing, value=3)
    refuse("the weight of a likelihood must be data of 4 numbers or one", nothing, weight=3)
    refuse("one number, or data of one number for each row", nothing, parameters=(4,))
    refuse("one number, or data of one number for each row", nothing, "gamma_log", parameters=(4,))
    refuse("trials must be data", nothing, "binomial_logits", parameters=(1,))
    refuse("wants a predictor of one column", nothing, "poisson_log", k=2, parameters=())
    core = _core.Model()
    predictor = _core.Predictor(4)
    predictor.add(core.input(1))
    with pytest.raises(ValueError, match="the value of a likelihood must be data"):
        core.glm("poisson_log", predictor, core.input(4), [])


def test_an_index_is_checked():
    core, predictor = _core.Model(), _core.Predictor(2)
    predictor.gather(core.input(3), core.data([0.0, 3.0]))
    out = core.glm("poisson_log", predictor, core.data([1.0, 2.0]), [])
    with pytest.raises(ValueError, match=r"an index must be an integer in \[0, 3\), not 3"):
        core.evaluate(1, np.zeros(1), np.zeros((1, 1)), [np.zeros((1, 3))], [out])


if __name__ == "__main__":
    print(json.dumps([_core.kernels.active(), report()]))
