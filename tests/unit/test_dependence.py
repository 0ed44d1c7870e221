"""What elements of expressions and log densities depend on, against changing each event and looking."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csc_array, csr_array

import klqp
from klqp.inference.dependence import RULES, Dependence
from klqp.model import nodes
from klqp.model.emitter import ancestors
from klqp.model.expression import Node


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = load(Path(__file__).with_name("dependence_oracle.py"))
RNG = np.random.default_rng(0)
DENSE = RNG.uniform(0.5, 1.5, (4, 3))
SPARSE = np.array([[0, 1.5, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0.5, 0, 0, 0], [0, 0, 0, 1]])  # (5, 4)
MASK = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1.0]])

X = klqp.Normal(0.0, 1.0, shape=(3, 4), name="x")
Y = klqp.Normal(0.0, 1.0, shape=(4, 2), name="y")
V = klqp.Normal(0.0, 1.0, shape=4, name="v")
S = klqp.Normal(0.0, 1.0, name="s")
M = klqp.MultivariateNormalDiag(np.zeros(2), np.ones(2), shape=(3, 2), name="m")
K = klqp.Categorical(logits=np.zeros(3), shape=5, name="k")
SOURCES = oracle.Sources(X, Y, V, S, M, K)
INDEX = klqp.placeholder(5, dtype=int)
SEEN = klqp.Categorical(logits=np.zeros(4), shape=3, name="seen")
SEEN_VALUE = np.array([3.0, 1.0, 3.0])


def rows(x, index):
    """Return x[index] for an index that is drawn or observed."""
    return Node("gather", [x, index], index.shape + x.shape[1:], integers={"width": [x.size // x.shape[0]]})


def declared():
    dependence = Dependence({SEEN: SEEN_VALUE})
    SOURCES.declare(dependence)
    return dependence


EXACT = {
    **{name: function(X) for name, function in nodes.UNARY.items()},
    "source": X,
    "events": M,
    "constant": nodes.as_expression(DENSE),
    "power": X**3,
    "reciprocal": X**-1,
    "with a number": 2.0 * (X + 1.0) - 3.0,
    "x + x": X + X,
    "x + v": X + V,
    "x - s": X - S,
    "x / column": X / (X[:, :1] + 1.0),
    "row * column": Y[:, 0] * X[:, :1],
    "scalars": S * V[1],
    "x log v": nodes.xlogy(X, V),
    "v log(1 + x)": nodes.xlog1py(V, X),
    "(1, 1) + v": S.reshape(1, 1) + V,
    "events + x": M + X[:, :1],
    "x * data": X * DENSE.T,
    "x * mask": X * MASK,
    "mask * v": MASK * V,
    "x @ y": X @ Y,
    "x @ v": X @ V,
    "v @ y": V @ Y,
    "v @ v": V @ V,
    "data @ x": DENSE @ X,
    "x @ data": X @ DENSE,
    "data @ y": DENSE.T @ Y,
    "indicators @ y": SPARSE @ Y,
    "indicators @ v": SPARSE @ V,
    "indicators @ shared": SPARSE @ nodes.stack([V, V * 2.0], 1),
    "sparse @ y": csr_array(SPARSE) @ Y,
    "sparse @ v": csc_array(SPARSE) @ V,
    "x @ sparse": X @ csr_array(SPARSE.T),
    "v @ sparse": V @ csr_array(SPARSE.T),
    "float32 @ y": np.asfortranarray(SPARSE, np.float32) @ Y,
    "x @ indicators": X @ SPARSE.T,
    "v @ indicators": V @ SPARSE.T,
    "indicator @ y": SPARSE[0] @ Y,
    "x @ indicator": X @ SPARSE[2],
    "deep": nodes.softplus(nodes.tanh(X @ Y) @ (Y.T + S)) @ DENSE,
    "dot": nodes.dot(X[[0, 2, 2]], Y[[1, 1, 3], 0].reshape(3, 1)),
    "outer": nodes.outer(V, Y[:2, 1]),
    "sum": X.sum(),
    "sum 0": X.sum(0),
    "sum -1": (X + V).sum(-1),
    "sum of middle axis": X.reshape(3, 2, 2).sum(1),
    "mean": X.mean(1),
    "logsumexp": nodes.logsumexp(X, 0),
    "log_softmax 0": nodes.log_softmax(X, 0),
    "log_softmax 1": nodes.log_softmax(X.reshape(3, 2, 2), 1),
    "softmax": nodes.softmax(X),
    "cumsum": nodes.cumsum(X),
    "cumsum 0": nodes.cumsum(X, 0),
    "cumsum 1": nodes.cumsum(X.reshape(3, 2, 2), 1),
    "cumsum of one row": nodes.cumsum(V + S),
    "slice": X[1:],
    "columns": X[:, ::2],
    "element": X[2, 1],
    "integer array": X[[2, 0, 0], 1],
    "T": X.T,
    "transpose": nodes.transpose(X.reshape(3, 2, 2), (1, 2, 0)),
    "reshape": X.T.reshape(2, 6),
    "broadcast_to": nodes.broadcast_to(V[:, None], (2, 4, 3)),
    "concatenate": nodes.concatenate([X, DENSE.T, X[:1] * S], 0),
    "concatenate 1": nodes.concatenate([X, M, DENSE.T], 1),
    "stack": nodes.stack([X, X + V], 1),
    "diag": nodes.diag(X),
    "tril": nodes.tril(X[:, :3]),
    "rows by draws": rows(Y[:3], K),
    "elements by draws": rows(V[:3], K) * S,
    "data by draws": rows(nodes.as_expression(DENSE), K),
    "rows by observed": rows(Y, SEEN),
    "rbf": nodes.rbf(X, DENSE.reshape(3, 4), S, V[0]),
    "rbf of lines": nodes.rbf(V, Y[:2, 0], 1.5, S),
    "rbf with lengthscales": nodes.rbf(X, 2.0 * X[:1], V),
    "solve": nodes.solve_triangular(np.eye(4) + 0.1, Y[:1] + Y * 0.0 + Y[::-1].sum(0)),
}
# Supersets: of what else the rule counts.
WIDER = {
    "by a later index": X[INDEX],
    "cholesky": nodes.cholesky(X[:, :3].T @ X[:, :3] + np.eye(3)),
    "batch of cholesky": nodes.cholesky(nodes.exp(nodes.diag(X))),
    "solve": nodes.solve_triangular(nodes.tril(X[0, :3]), Y[:2]),
    "solve transposed": nodes.solve_triangular(nodes.tril(X[:, :3]), nodes.stack([Y[:2]] * 3), transposed=True),
    "rbf with jitter": nodes.rbf(X, None, S, 1.0, 0.1),
    "deterministic": klqp.Deterministic(lambda v, d: v[::-1] + d, None, V, np.ones(4), shape=4),
    "times zero": X * 0.0,
}
FIXED = {INDEX: np.array([2.0, 0, 2, 1, 1]), SEEN: SEEN_VALUE}


@pytest.mark.parametrize("name", EXACT)
def test_exact(name):
    labels = declared().of(EXACT[name])
    assert labels.labels.shape == EXACT[name].shape
    assert oracle.members(labels) == oracle.effects_on(EXACT[name], SOURCES, FIXED)


@pytest.mark.parametrize("name", WIDER)
def test_supersets(name):
    labels = declared().of(WIDER[name])
    assert labels.labels.shape == WIDER[name].shape
    everything = set().union(*oracle.members(declared().of(nodes.concatenate([nodes.reshape(WIDER[name], -1)]))))
    for got, found in zip(oracle.members(labels), oracle.effects_on(WIDER[name], SOURCES, FIXED), strict=True):
        assert found <= got <= everything


def test_every_rule_is_here_and_every_operation_has_one():
    made = {e.op for e in ancestors([*EXACT.values(), *WIDER.values()], lambda e: e.inputs) if isinstance(e, Node)}
    assert made == set(RULES)


def test_a_later_index_takes_any_row_of_the_same_column():
    assert oracle.members(declared().of(rows(X, INDEX)))[:4] == [{c, 4 + c, 8 + c} for c in range(4)]


def test_an_unknown_operation_takes_all_its_inputs():
    unknown = Node("unknown", [V, S], (3,))
    union = set(oracle.members(declared().of(V + S))[0]).union(*oracle.members(declared().of(V)))
    assert oracle.members(declared().of(unknown)) == [union] * 3


def test_nothing_where_no_source_is_reached():
    big = klqp.Parameter(np.zeros(1000)) + klqp.Normal(0.0, 1.0, shape=(2000, 1))
    labels = declared().of(nodes.exp(big) @ np.ones(1000))
    assert labels.nothing
    assert labels.labels.strides == (0,)
    assert not declared().of(V).nothing


# --- log densities ---------------------------------------------------------------------------------------------
DENSITIES = {
    "normal": klqp.Normal(X @ V, nodes.exp(S), name="d0"),
    "broadcast": klqp.Normal(X[:1], nodes.exp(M[:, :1]), shape=(2, 3, 4), name="d1"),
    "vectors": klqp.MultivariateNormalDiag(X, nodes.exp(V), name="d2"),
    "matrices": klqp.MultivariateNormalTriL(X[:, :2], nodes.diag(nodes.exp(V[:2])), name="d3"),
    "batch of matrices": klqp.MultivariateNormalTriL(V[:2], nodes.diag(nodes.exp(M)), name="d4"),
    "categories": klqp.Categorical(logits=X, name="d5"),
    "simplex": klqp.Dirichlet(nodes.exp(X), name="d6"),
    "mixture": klqp.MixtureSameFamily(klqp.Categorical(logits=V[:3]), klqp.Normal(X[:, :3], nodes.exp(S)), name="d7"),
    "mixture of parts": klqp.Mixture(
        klqp.Categorical(logits=X[:, :2]), [klqp.Normal(V[:3], 1.0), klqp.Normal(S, 2.0, shape=3)], name="d8"
    ),
    "transformed": klqp.TransformedDistribution(klqp.Normal(V, 1.0), ("affine", S, 2.0), name="d9"),
    "plate of a mixture": klqp.Normal(rows(Y[:3, 0], K), 1.0, name="d10"),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_observed_densities(name):
    variable = DENSITIES[name]
    value = _value(variable)
    labels = declared().of_events(variable)
    assert labels.labels.shape == variable.batch_shape
    assert oracle.members(labels) == oracle.effects_on_events(variable, SOURCES, fixed={variable: value})


def _value(variable):
    """Return a value inside the variable's support."""
    if isinstance(variable, klqp.Categorical):
        return np.ones(variable.shape)
    if isinstance(variable, klqp.Dirichlet):
        return np.broadcast_to(np.array([0.1, 0.2, 0.3, 0.4]), variable.shape)
    return np.random.default_rng(1).uniform(0.2, 0.9, variable.shape)


LATENT = {
    "priors": (X, X),
    "prior of vectors": (M, M),
    "prior given draws": (klqp.Normal(V, nodes.exp(S), shape=(3, 4), name="l0"), X),
    "vectors given draws": (klqp.MultivariateNormalDiag(V[:2], nodes.exp(Y[:2, 0]), shape=(3, 2), name="l1"), M),
    "vectors at numbers": (klqp.MultivariateNormalDiag(V, np.ones(4), shape=(3, 4), name="l2"), X),
    "numbers at vectors": (klqp.Normal(S, 1.0, shape=(3, 2), name="l3"), M),
    "categories": (klqp.Categorical(logits=X[:, :3].sum(0), shape=5, name="l4"), K),
}


@pytest.mark.parametrize("name", LATENT)
def test_densities_at_draws(name):
    variable, value = LATENT[name]
    labels = declared().of_events(variable, value)
    assert labels.labels.shape == variable.batch_shape
    assert oracle.members(labels) == oracle.effects_on_events(variable, SOURCES, value)


def test_the_users_log_density_is_one_event():
    likelihood = klqp.LogDensity(lambda value, v, s: -((v - s[:, None]) ** 2).sum(1), V, S, shape=2, name="mine")
    labels = declared().of_events(likelihood)
    assert labels.labels.shape == ()
    assert oracle.members(labels) == [set(oracle.members(declared().of(S))[0]).union(*oracle.members(declared().of(V)))]
    assert (
        oracle.members(declared().of_events(likelihood, M[0]))[0]
        == oracle.members(labels)[0] | oracle.members(declared().of(M))[0]
    )


# --- approximations --------------------------------------------------------------------------------------------
def test_events_are_those_of_q():
    dependence = Dependence()
    z = klqp.Normal(0.0, 1.0, shape=(2, 3))
    q = klqp.MultivariateNormalDiag(np.zeros(3), np.ones(3), shape=(2, 3))
    assert dependence.add_source(z, 10, q) == 2
    assert oracle.members(dependence.of(z)) == oracle.members(dependence.of(q)) == [{10}] * 3 + [{11}] * 3


def test_draws_given_other_draws_depend_on_these_too():
    dependence = Dependence()
    a, b, c = (klqp.Bernoulli(logits=0.0, shape=3) for _ in range(3))
    qa = klqp.Bernoulli(logits=klqp.Parameter(np.zeros(3)))
    qb = klqp.Bernoulli(logits=2.0 * qa - 1.0)
    qc = klqp.Bernoulli(logits=b[::-1] * 2.0)  # by the latent variable itself
    assert [dependence.add_source(z, 3 * i, q) for i, (z, q) in enumerate([(a, qa), (b, qb), (c, qc)])] == [3] * 3
    assert oracle.members(dependence.of(b)) == [{0, 3}, {1, 4}, {2, 5}]
    assert oracle.members(dependence.of(c)) == [{2, 5, 6}, {1, 4, 7}, {0, 3, 8}]
    assert oracle.members(dependence.of_events(qb, qb)) == oracle.members(dependence.of(b))
    assert oracle.members(dependence.of_events(b, b)) == oracle.members(dependence.of(b))


def test_pathwise_draws_depend_on_what_their_parameters_do():
    dependence = Dependence()
    k = klqp.Bernoulli(logits=0.0, shape=3)
    dependence.add_source(k, 0)
    z, alone = klqp.Normal(0.0, 1.0, shape=(2, 3)), klqp.Normal(0.0, 1.0, shape=2)
    dependence.add_derived(z, klqp.Normal(k, klqp.Parameter(1.0, support="positive"), shape=(2, 3)))
    dependence.add_derived(alone, klqp.Normal(klqp.Parameter(0.0), 1.0, shape=2))
    assert oracle.members(dependence.of(z)) == [{0}, {1}, {2}] * 2
    assert dependence.of(alone).nothing


def test_priors_are_drawn_given_their_parents():
    dependence = Dependence({SEEN: SEEN_VALUE})
    k = klqp.Bernoulli(logits=0.0, shape=3)
    dependence.add_source(k, 0)
    vectors = klqp.MultivariateNormalDiag(k[:, None] + np.zeros(2), np.ones(2))
    assert oracle.members(dependence.of(vectors)) == [{0}, {0}, {1}, {1}, {2}, {2}]
    observed = klqp.Normal(k, 1.0)
    assert Dependence({observed: np.zeros(3)}).of(observed).nothing


def test_transforms_that_mix_coordinates():
    dependence = Dependence()
    simplex, positive = klqp.Dirichlet(np.ones(3), shape=(2, 3)), klqp.Gamma(1.0, 1.0, shape=3)
    dependence.add_source(simplex, 0, klqp.Normal(np.zeros(4), 1.0))
    dependence.add_source(positive, 4, klqp.Normal(np.zeros(3), 1.0))
    assert oracle.members(dependence.of(simplex)) == [{0, 1}] * 3 + [{2, 3}] * 3
    assert oracle.members(dependence.of(positive)) == [{4}, {5}, {6}]


def test_joint_families_are_one_event():
    dependence = Dependence()
    a, b = klqp.Normal(0.0, 1.0, shape=2), klqp.Normal(0.0, 1.0)
    dependence.add_joint([a, b], 7)
    assert oracle.members(dependence.of(a * b)) == [{7}, {7}]
