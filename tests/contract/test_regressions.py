"""Generalised linear models: the fused node against parameters and a density of their own, for every way to say one."""

import numpy as np
import pytest
import scipy.sparse

import klqp
from klqp import _core
from klqp.model.design import Product
from klqp.model.distributions.events_registry import EVENT_DISTRIBUTIONS
from klqp.model.distributions.registry import DISTRIBUTIONS
from klqp.model.emitter import Emitter, ancestors
from klqp.model.parameter import Placeholder

N, D, K, J = 37, 4, 3, 5

rng = np.random.default_rng(0)
X = rng.normal(size=(N, D))
X2 = rng.normal(size=(N, 2))
GROUP = rng.integers(0, J, size=N)
OTHER = rng.integers(0, 2, size=N)
COVARIATE = rng.normal(size=N)
OFFSET = rng.normal(size=N)
TRIALS = rng.integers(1, 9, size=N).astype(float)
EXPOSURE = rng.uniform(0.5, 2.0, size=N)


class Latents:
    """The latent variables of the models below; a model has those that it uses."""

    def __init__(self):
        self.w = klqp.Normal(0.0, 0.5, shape=D, name="w")
        self.w2 = klqp.Normal(0.0, 0.5, shape=2, name="w2")
        self.b = klqp.Normal(0.0, 1.0, name="b")
        self.u = klqp.Normal(0.0, 0.7, shape=J, name="u")
        self.v = klqp.Normal(0.0, 0.7, shape=(2, 3), name="v")
        self.spread = klqp.Gamma(3.0, 3.0, name="spread")
        self.matrix = klqp.Normal(0.0, 0.5, shape=(D, K), name="matrix")
        self.bias = klqp.Normal(0.0, 0.5, shape=K, name="bias")
        self.cuts = klqp.Flat(K - 1, support="ordered", name="cuts")

    def of(self, y):
        """Return those that a variable depends on."""
        used = set(ancestors([y], lambda e: e.inputs))
        return [z for z in vars(self).values() if z in used]


def predictor(m):
    return X @ m.w + m.b


# Ways to write a likelihood: the variable, from its latents and the linear predictor, and data.
counts = rng.poisson(2.0, size=N).astype(float)
LIKELIHOODS = {
    "normal": lambda m, eta: (klqp.Normal(eta, m.spread), OFFSET),
    "normal, scale of data": lambda m, eta: (klqp.Normal(eta, EXPOSURE), OFFSET),
    "student_t": lambda m, eta: (klqp.StudentT(4.0, eta, m.spread), OFFSET),
    "student_t, df": lambda m, eta: (klqp.StudentT(m.spread, eta), OFFSET),
    "bernoulli_logits": lambda m, eta: (klqp.Bernoulli(logits=eta), GROUP > 2),
    "bernoulli_logits, probs": lambda m, eta: (klqp.Bernoulli(probs=klqp.sigmoid(eta)), GROUP > 2),
    "binomial_logits": lambda m, eta: (klqp.Binomial(TRIALS, logits=eta), TRIALS // 2),
    "binomial_logits, probs": lambda m, eta: (klqp.Binomial(9, probs=klqp.sigmoid(eta)), TRIALS // 2),
    "poisson_log": lambda m, eta: (klqp.Poisson(log_rate=eta), counts),
    "poisson_log, rate": lambda m, eta: (klqp.Poisson(klqp.exp(eta)), counts),
    "poisson_log, exposure": lambda m, eta: (klqp.Poisson(EXPOSURE * klqp.exp(eta)), counts),
    "poisson_log, product": lambda m, eta: (klqp.Poisson(2.0 * m.spread * klqp.exp(eta) / EXPOSURE), counts),
    "negative_binomial_logits": lambda m, eta: (klqp.NegativeBinomial(m.spread, logits=eta), counts),
    "negative_binomial_logits, mean": lambda m, eta: (
        klqp.NegativeBinomial(m.spread, logits=eta - klqp.log(m.spread)),
        counts,
    ),
    "negative_binomial_logits, probs": lambda m, eta: (klqp.NegativeBinomial(2.5, probs=klqp.sigmoid(eta)), counts),
    "gamma_log": lambda m, eta: (klqp.Gamma(m.spread, m.spread / klqp.exp(eta)), EXPOSURE),
    "gamma_log, product": lambda m, eta: (klqp.Gamma(m.spread, m.spread * klqp.exp(-eta)), EXPOSURE),
    "gamma_log, rate": lambda m, eta: (klqp.Gamma(m.spread, klqp.exp(eta)), EXPOSURE),
    "gamma_log, shape of data": lambda m, eta: (klqp.Gamma(EXPOSURE, 1 / klqp.exp(eta)), EXPOSURE),
    "ordered_logistic": lambda m, eta: (klqp.OrderedLogistic(m.cuts, eta), GROUP % K),
}
COLUMNS = {
    "categorical_logits": lambda m: X @ m.matrix + m.bias,
    "categorical_logits, no bias": lambda m: X @ m.matrix,
    "categorical_logits, data": lambda m: m.bias * 2.0 - X @ m.matrix + np.arange(3.0),
    "categorical_logits, pivot": lambda m: klqp.concatenate([np.zeros((N, 1)), X @ m.matrix[:, 1:] + m.bias[1:]], 1),
    "categorical_logits, blocks": lambda m: klqp.concatenate([(X2 @ m.w2 + m.b).reshape(N, 1), X @ m.matrix[:, :2]], 1),
    "categorical_logits, stacked": lambda m: klqp.stack([X @ m.w, X2 @ m.w2 * 2.0 - m.b, np.zeros(N)], 1),
    "categorical_logits, groups": lambda m: X @ m.matrix + m.v[OTHER],
    "categorical_logits, groups in a block": lambda m: X @ m.matrix + klqp.stack([m.u[GROUP], OFFSET, OFFSET * m.b], 1),
    "categorical_logits, two": lambda m: X @ m.matrix + X @ (m.matrix * m.spread) - m.b,
}
# Ways to write a linear predictor.
PREDICTORS = {
    "no intercept": lambda m: X @ m.w,
    "intercept first": lambda m: m.b + X @ m.w,
    "vector first": lambda m: m.w @ X.T + m.b,
    "dot": lambda m: klqp.dot(X, m.w) + m.b,
    "difference": lambda m: m.b - X @ m.w,
    "negative": lambda m: -(X @ m.w - m.b) - 0.5,
    "number": lambda m: 2.0 * (X @ m.w) + m.b * 0.5 + 1.5,
    "quotient": lambda m: (X @ m.w + m.b) / 3.0,
    "latent factor": lambda m: (X @ m.w + OFFSET + m.u[GROUP]) * m.spread + m.b,
    "latent divisor": lambda m: (X @ m.w + m.b) / m.spread,
    "two matrices": lambda m: X @ m.w - X2 @ m.w2 + m.b,
    "one matrix twice": lambda m: X @ m.w + X @ (m.w * m.spread) + m.b,
    "offset": lambda m: OFFSET + X @ m.w + m.b,
    "groups": lambda m: X @ m.w + m.u[GROUP] + m.v[OTHER, 1] + m.b,
    "slopes": lambda m: X @ m.w + m.u[GROUP] * COVARIATE - COVARIATE * m.v[OTHER, 0] * 2.0,
    "slope and intercept": lambda m: m.b + m.w2[0] * COVARIATE + (m.u[GROUP] - m.w2[1]) * COVARIATE / EXPOSURE,
    "covariates and matrix": lambda m: X @ m.w + sum(X[:, i] * m.u[i] for i in range(D)) + m.b * EXPOSURE,
    "covariates that come later": lambda m: X @ m.w + m.b * EXPOSURE + m.w2[0] * klqp.placeholder(N, name="fed"),
    "twenty matrices": lambda m: sum((X2 + i) @ m.w2 for i in range(20)) + X @ m.w,
    "groups only": lambda m: m.u[GROUP] - m.v[OTHER, 2],
    "a curve beside it": lambda m: X @ m.w + klqp.tanh(m.u[GROUP] * COVARIATE) + m.b,
    "product of two": lambda m: X @ m.w + m.u[GROUP] * m.v[OTHER, 1],
    "column": lambda m: (X @ m.w.reshape(D, 1) + m.b).reshape(N),
    "one number as a vector": lambda m: X @ m.w + m.w2[:1] + np.ones(1),
    "data through functions": lambda m: X @ m.w + klqp.log(klqp.placeholder(N, name="fed")) * m.b,
}
# Ways to hold a matrix of data.
MATRICES = {
    "float64": lambda x: x,
    "columns": np.asfortranarray,
    "float32": lambda x: x.astype(np.float32),
    "float32 columns": lambda x: np.asfortranarray(x, np.float32),
    "rows apart": lambda x: np.repeat(x, 2, axis=0)[::2],
    "part of columns": lambda x: np.concatenate([x, x], 1)[:, :D],
    "columns apart": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "big-endian": lambda x: x.astype(">f8"),
    "list": lambda x: x.tolist(),
    "csr": scipy.sparse.csr_array,
    "csr float32": lambda x: scipy.sparse.csr_array(x.astype(np.float32)),
    "csc": scipy.sparse.csc_array,
    "coo matrix": scipy.sparse.coo_matrix,
}


@pytest.fixture
def unfused(monkeypatch):
    """Return a function that computes something without fused nodes."""

    def run(compute):
        with monkeypatch.context() as patch:
            patch.setattr(Emitter, "fuses", False)
            return compute()

    return run


def fused(latents, data, **options):
    """Return the line that says what is fused, or None."""
    inference = klqp.KLqp(latents, data=data)
    inference.initialize(n_iter=2, **options)
    lines = [line for line in inference.estimator.splitlines() if "fused" in line]
    return lines[0] if lines else None


def of_kind(variables, kind):
    """Return all expressions of a type that variables depend on."""
    return [e for e in ancestors(variables, lambda e: e.inputs) if isinstance(e, kind)]


def compare(latents, data, unfused, tolerance=1e-12):
    """Compare log densities and gradients at some points, and whole fits."""

    def evaluate():
        joint = klqp.LogJoint(latents, data=data)
        points = np.random.default_rng(1).normal(size=(5, joint.dim))
        return joint(points)

    def fit():
        for parameter in of_kind(data, klqp.Parameter):
            parameter.reset()
        inference = klqp.KLqp(latents, data=data)
        inference.run(n_iter=60, n_samples=3, seed=1)
        return inference.losses, [inference.posterior[z].mean() for z in latents]

    (logp, grad), (logp2, grad2) = evaluate(), unfused(evaluate)
    np.testing.assert_allclose(logp, logp2, rtol=tolerance)
    np.testing.assert_allclose(grad, grad2, rtol=tolerance, atol=tolerance * np.abs(grad2).max())
    (losses, means), (losses2, means2) = fit(), unfused(fit)
    np.testing.assert_allclose(losses, losses2, rtol=1e3 * tolerance)
    for mean, mean2 in zip(means, means2, strict=True):
        np.testing.assert_allclose(mean, mean2, rtol=1e4 * tolerance, atol=1e4 * tolerance)


def test_every_likelihood_of_the_core_is_somewhere_and_here():
    classes = [*(row.distribution for row in DISTRIBUTIONS), *EVENT_DISTRIBUTIONS]
    names = {glm.name for distribution in classes for glm in distribution.glm}
    assert names == set(_core.GLM_LIKELIHOODS)
    assert names == {name.split(",")[0] for name in (*LIKELIHOODS, *COLUMNS)}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods(name, unfused):
    m = Latents()
    y, data = LIKELIHOODS[name](m, predictor(m))
    assert name.split(",")[0] in fused(m.of(y), {y: data})
    compare(m.of(y), {y: data}, unfused)


@pytest.mark.parametrize("name", COLUMNS)
def test_categories(name, unfused):
    m = Latents()
    y = klqp.Categorical(logits=COLUMNS[name](m))
    assert "categorical_logits" in fused(m.of(y), {y: GROUP % K})
    compare(m.of(y), {y: GROUP % K}, unfused)


@pytest.mark.parametrize("name", PREDICTORS)
def test_predictors(name, unfused):
    m = Latents()
    y = klqp.Bernoulli(logits=PREDICTORS[name](m))
    data = {y: GROUP > 2} | dict.fromkeys(of_kind([y], Placeholder), EXPOSURE)
    assert "bernoulli_logits" in fused(m.of(y), data)
    compare(m.of(y), data, unfused)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("small", [0, 2**18], ids=["in place", "copied"])
def test_matrices(name, small, unfused, monkeypatch):
    """Against the same numbers through a placeholder, which has a node of its own, not fused."""
    monkeypatch.setattr(Product, "small", small)
    m, held = Latents(), MATRICES[name](X)
    exact = np.asarray(held.toarray() if scipy.sparse.issparse(held) else held, np.float64)
    y = klqp.Poisson(log_rate=klqp.matmul(held, m.w) + m.b)
    assert "poisson_log" in fused(m.of(y), {y: counts})
    tolerance = 2e-6 if isinstance(held, np.ndarray) and held.dtype == np.float32 else 1e-12
    compare(m.of(y), {y: counts}, unfused, tolerance)
    rows = klqp.placeholder((N, D))
    same = klqp.Poisson(log_rate=rows @ m.w + m.b)
    points = rng.normal(size=(4, D + 1))
    expected = unfused(lambda: klqp.LogJoint(m.of(y), data={same: counts, rows: exact})(points))
    for got in (
        klqp.LogJoint(m.of(y), data={y: counts})(points),
        unfused(lambda: klqp.LogJoint(m.of(y), data={y: counts})(points)),
    ):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("scale", [2.5, np.arange(N) % 3.0, "placeholder"], ids=["number", "array", "placeholder"])
@pytest.mark.parametrize("kind", ["poisson_log", "categorical_logits"])
def test_scales(kind, scale, unfused):
    m = Latents()
    if kind == "poisson_log":
        y, data = LIKELIHOODS[kind](m, predictor(m))
    else:
        y, data = klqp.Categorical(logits=COLUMNS[kind](m)), GROUP % K
    fed = klqp.placeholder(N)
    data = {y: data} | ({fed: EXPOSURE} if isinstance(scale, str) else {})
    scale = fed if isinstance(scale, str) else scale

    def fit():
        inference = klqp.KLqp(m.of(y), data=data)
        inference.run(n_iter=60, n_samples=3, seed=1, scale={y: scale})
        return inference.losses

    assert kind in fused(m.of(y), data, scale={y: scale})
    np.testing.assert_allclose(fit(), unfused(fit), rtol=1e-10)


def minibatches(make, feeds, n_steps=40):
    """Return the losses of steps with batches."""
    latents, data = make
    inference = klqp.KLqp(latents, data=data)
    inference.initialize(n_iter=n_steps, n_samples=3, seed=1)
    said = inference.estimator
    losses = [inference.update(feeds(step))["loss"] for step in range(n_steps)]
    inference.finalize()
    return losses, said


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("columns", [1, K])
def test_rows_by_index(sparse, columns, unfused):
    """Minibatches by the numbers of rows are those of the rows themselves."""
    m, n = Latents(), 8
    held = scipy.sparse.csr_array(X) if sparse else X
    rows, batch = klqp.placeholder(n, dtype=int), klqp.placeholder((n, D))
    groups, values = klqp.placeholder(n, dtype=int), klqp.placeholder(n)

    def variable(product, groups):
        if columns == 1:
            return klqp.Poisson(log_rate=product(m.w) + m.b + m.u[groups])
        return klqp.Categorical(logits=product(m.matrix) + m.bias)

    by_index = variable(lambda w: klqp.take(held, rows) @ w, klqp.take(GROUP, rows))
    by_rows = variable(lambda w: batch @ w, groups)
    at = np.random.default_rng(3).integers(0, N, size=(40, n))
    y = counts if columns == 1 else GROUP % K

    def by(variable, feeds):
        latents = m.of(variable)
        return minibatches((latents, {variable: values}), lambda s: {values: y[at[s]], **feeds(at[s])})

    one, said = by(by_index, lambda i: {rows: i})
    assert f"{(N, D)}" in said
    other, _ = by(by_rows, lambda i: {batch: X[i]} | ({groups: GROUP[i]} if columns == 1 else {}))
    plain, unsaid = unfused(lambda: by(by_index, lambda i: {rows: i}))
    assert "fused" not in unsaid
    np.testing.assert_allclose(one, other, rtol=1e-11)
    np.testing.assert_allclose(one, plain, rtol=1e-11)


def test_row_numbers_are_checked():
    m, rows = Latents(), klqp.placeholder(3, dtype=int, name="rows")
    y = klqp.Poisson(log_rate=klqp.take(X, rows) @ m.w)
    with pytest.raises(ValueError, match=rf"'rows' must be indices in \[0, {N}\), not {N}"):
        klqp.KLqp([m.w], data={y: np.zeros(3), rows: [0, 1, N]}).run(n_iter=1)


# --- what keeps its own path -------------------------------------------------------------------------------------
def not_fused():
    m = Latents()
    eta = X @ m.w + m.b
    yield "two users", [klqp.Normal(eta, 1.0), klqp.Normal(eta * 2.0, 1.0)], [m.w, m.b]
    yield "scale with draws for each row", [klqp.Normal(eta, klqp.exp(m.u[GROUP]))], [m.w, m.b, m.u]
    yield "no matrix and no groups", [klqp.Normal(klqp.tanh(eta), 1.0)], [m.w, m.b]
    yield "one number for all", [klqp.Normal(m.b, 1.0, shape=N)], [m.b]
    yield "cutpoints of each row", [klqp.OrderedLogistic(m.u[GROUP].reshape(N, 1), eta)], [m.w, m.b, m.u]
    yield "other columns", [klqp.Normal(X @ m.matrix, 1.0)], [m.matrix]
    table = klqp.Parameter(np.zeros(J))
    yield "gathered parameters", [klqp.Normal(table[GROUP] + m.b, 1.0)], [m.b]


@pytest.mark.parametrize(("why", "variables", "latents"), list(not_fused()), ids=[case[0] for case in not_fused()])
def test_what_is_not_fused(why, variables, latents, unfused):
    data = {y: np.zeros(y.shape) + (0.1 if y.support == "real" else 0) for y in variables}
    assert fused(latents, data) is None
    compare(latents, data, unfused)


def test_a_shared_product_is_computed_once_and_added():
    m = Latents()
    product = X @ m.w
    a, b = klqp.Normal(product + m.u[GROUP], 1.0), klqp.Normal(product + m.b, 1.0)
    line = fused([*m.of(a), m.b], {a: OFFSET, b: OFFSET})
    assert "array of 37" in line
    assert "Normal" in line


def test_score_functions_by_element_keep_the_elements(unfused):
    z = klqp.Bernoulli(probs=np.full(J, 0.4), name="z")
    y = klqp.Normal(X @ np.ones(D) + z[GROUP] + klqp.Normal(0.0, 1.0, shape=J, name="u")[GROUP], 1.0)
    u = next(e for e in y.inputs[0].inputs[1].inputs if isinstance(e, klqp.Normal))
    qz = klqp.Bernoulli(logits=klqp.Parameter(np.zeros(J)))

    def fit(**options):
        qz.parameters["logits"].reset()
        inference = klqp.KLqp({z: qz, u: klqp.MeanFieldNormal(u)}, data={y: OFFSET})
        inference.run(n_iter=30, n_samples=4, seed=1, **options)
        return inference.losses

    for options in ({"enumerate": True}, {"enumerate": False}):
        np.testing.assert_allclose(fit(**options), unfused(lambda options=options: fit(**options)), rtol=1e-10)


def test_a_grid_of_two_groups(unfused):
    """Each row and each column of a matrix of answers has its own effect."""
    m = Latents()
    y = klqp.Bernoulli(logits=m.u.reshape(J, 1) - m.w + m.b)
    data = {y: np.random.default_rng(2).random((J, D)) < 0.5}
    assert "effects of 5 groups, effects of 4 groups" in fused(m.of(y), data)
    compare(m.of(y), data, unfused)


def test_categories_of_variables_that_share_their_logits(unfused):
    z = klqp.Normal(0.0, 1.0, shape=4, name="z")
    y = klqp.Categorical(logits=np.eye(4) @ z, shape=2)  # 2 variables of 4 categories, not 4 rows of one
    assert fused([z], {y: [1, 3]}) is None
    compare([z], {y: [1, 3]}, unfused)


def test_an_observed_index_and_covariates_that_come_later(unfused):
    m = Latents()
    where = klqp.Categorical(probs=np.full((N, J), 1 / J))
    later = klqp.placeholder(N)
    y = klqp.Bernoulli(logits=m.u[where] * later + X @ m.w)
    data = {y: GROUP > 2, where: GROUP, later: COVARIATE}
    assert "effects" in fused([m.w, m.u], data)
    compare([m.w, m.u], data, unfused)


def test_maximum_likelihood(unfused):
    weights = klqp.Parameter(np.zeros(D))
    y = klqp.Bernoulli(logits=X @ weights)

    def fit():
        weights.reset()
        klqp.KLqp(data={y: GROUP > 2}).run(n_iter=200, seed=1)
        return weights.value

    np.testing.assert_allclose(fit(), unfused(fit), rtol=1e-10)


def test_a_rejected_draw_leaves_the_others_alone(unfused):
    """An overflow of exp in one draw is that draw's."""
    m = Latents()
    y = klqp.Poisson(log_rate=X @ m.w + m.b)
    points = np.random.default_rng(1).normal(size=(5, D + 1))
    points[2, D] = 800.0
    logp, grad = klqp.LogJoint(m.of(y), data={y: counts})(points)
    assert not np.isfinite(logp[2])
    others = [0, 1, 3, 4]
    alone, grad_alone = klqp.LogJoint(m.of(y), data={y: counts})(points[others])
    np.testing.assert_array_equal(logp[others], alone)
    np.testing.assert_array_equal(grad[others], grad_alone)
    assert np.isfinite(alone).all()
