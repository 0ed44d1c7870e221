"""Parts of the fits of mixtures and Student-t's: exact gradients of sample averages, proposals, information."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from klqp import _core
from klqp.family_parts import Marginals, df_information, join_mixture, richer_family, split_mixture
from klqp.inference.auto.boosting import _gap, _split, _where_missing, from_modes, with_modes
from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.df_curvature import with_df
from klqp.inference.auto.mixture import Objective, Parts, draw, refine
from klqp.inference.auto.saa import Frame

_spec = importlib.util.spec_from_file_location(
    "hard_targets", Path(__file__).parents[1] / "statistical" / "hard_targets.py"
)
hard = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hard)

FAMILIES = ["full_rank", "mean_field"]


class Target:
    """What the fits ask of a log density."""

    def __init__(self, target):
        self.fn, self.dim = target
        self.n_points = self.n_calls = 0

    def evaluate(self, z):
        self.n_calls, self.n_points = self.n_calls + 1, self.n_points + len(z)
        return self.fn(z)


def normal(family, loc, scale, rng=None):
    dim = len(loc)
    rest = np.zeros((dim, dim if family == "full_rank" else 0))
    if rng is not None and family == "full_rank":
        rest = np.tril(0.3 * rng.normal(size=(dim, dim)), -1)
    return Candidate(np.array(loc, float), np.array(scale, float), rest, "a test", 0)


def random_parts(family, dim, n_parts, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n_parts, 3.0))
    normals = [normal(family, rng.normal(size=dim), rng.uniform(0.5, 1.0, dim), rng) for _ in range(n_parts)]
    return Parts(_core.FamilySpec(family, dim), weights, tuple(normals))


def mixture_of(parts, n_components):
    name = "mixture" if parts.spec.name == "full_rank" else "mean_field_mixture"
    return _core.FamilySpec(name, parts.spec.dim, components=n_components)


def member_of(parts, n_components):
    mixture = mixture_of(parts, n_components)
    return _core.Member(mixture, parts.params(mixture))


# --- the objective ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_parts", [1, 3])
def test_the_gradient_of_the_sample_average(family, n_parts):
    """Pathwise, direct in log q and through the weights: against differences of the value."""
    target, parts, rng = Target(hard.banana()), random_parts(family, 2, n_parts), np.random.default_rng(1)
    frames = [Frame.of(parts.spec, n) for n in parts.normals]
    objective = Objective(target, frames, rng.normal(size=(n_parts, 16, 2)))
    params = 0.3 * rng.normal(size=n_parts * (1 + parts.spec.n_params))
    _, gradient = objective(params)
    h = 1e-5 * np.eye(params.size)
    expected = [(objective(params + e)[0] - objective(params - e)[0]) / 2e-5 for e in h]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_its_value_is_the_elbo_over_the_draws(family):
    target, parts = Target(hard.bimodal(2, distance=1.5)), random_parts(family, 2, 3)
    draws = draw(target, parts, 64, 3, 5)
    frames = [Frame.of(parts.spec, n) for n in parts.normals]
    start = np.concatenate([np.log(parts.weights), *[f.params(n) for f, n in zip(frames, parts.normals, strict=True)]])
    assert Objective(target, frames, draws.noise)(start)[0] == pytest.approx(-draws.elbo, rel=1e-12)
    member = member_of(parts, 4)
    np.testing.assert_allclose(draws.log_q.ravel(), member.log_density(draws.z.reshape(-1, 2)), rtol=1e-12)


def test_draws_without_a_log_density_are_refused():
    parts = random_parts("full_rank", 2, 2)
    frames = [Frame.of(parts.spec, n) for n in parts.normals]
    objective = Objective(Target(hard.ball(2, 0.1)), frames, np.random.default_rng(0).normal(size=(2, 8, 2)))
    value, gradient = objective(np.zeros(2 * (1 + parts.spec.n_params)))
    assert value == math.inf
    assert not gradient.any()


def test_refine_reaches_the_optimum():
    """Two Normals of known weights, from others nearby."""
    fn, dim = hard.bimodal(2, share=0.3)
    start = Parts(
        _core.FamilySpec("full_rank", 2),
        np.array([0.5, 0.5]),
        (normal("full_rank", [4.0, 5.5], [1.5, 0.7]), normal("full_rank", [-5.0, -4.5], [1.0, 1.3])),
    )
    fit = refine(Target((fn, dim)), start, 1)
    assert fit.converged
    assert fit.remaining < 1e-3
    np.testing.assert_allclose(fit.parts.weights, [0.3, 0.7], atol=1e-4)
    np.testing.assert_allclose(fit.parts.normals[0].loc, [5.0, 5.0], atol=1e-3)
    np.testing.assert_allclose(fit.parts.normals[1].scale, [1.0, 1.0], atol=1e-3)


# --- growth -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", FAMILIES)
def test_the_missing_mode_is_where_the_weights_are(family):
    """A wide q sees two bumps; the new component comes to lie on one of them."""
    target = Target(hard.bimodal(2, distance=2.0, share=0.5))
    parts = Parts(_core.FamilySpec(family, 2), np.ones(1), (normal(family, [2.0, 2.0], [2.5, 2.5]),))
    grown = _where_missing(parts, draw(target, parts, 2048, 1, 0))
    assert grown.weights.sum() == pytest.approx(1.0)
    assert len(grown.normals) == 2
    assert np.min(np.abs(np.array([[2.0, 2.0], [-2.0, -2.0]]) - grown.normals[1].loc).max(1)) < 0.7


@pytest.mark.parametrize("family", FAMILIES)
def test_a_split_keeps_the_mean_and_the_covariance(family):
    target, parts = Target(hard.banana()), random_parts(family, 2, 1)
    halves = _split(parts, draw(target, parts, 256, 1, 0))
    np.testing.assert_allclose(halves.weights, 0.5)
    before, after = member_of(parts, 2), member_of(halves, 2)
    np.testing.assert_allclose(after.mean(), before.mean(), rtol=1e-12)
    np.testing.assert_allclose(after.covariance(), before.covariance(), rtol=1e-10, atol=1e-12)


def test_the_gap_is_the_divergence():
    """KL of N(0.5, 1) from N(0, 1) is 1/8; over one component and over two that are the same."""
    target = Target((lambda z: (-0.5 * (z**2).sum(1), -z), 1))
    one = normal("full_rank", [0.5], [1.0])
    for parts in (Parts(_core.FamilySpec("full_rank", 1), np.ones(1), (one,)),):
        assert _gap(draw(target, parts, 4096, 1, 0)) == pytest.approx(0.125, abs=2e-3)
        twice = Parts(parts.spec, np.array([0.3, 0.7]), (one, one))
        assert _gap(draw(target, twice, 4096, 1, 0)) == pytest.approx(0.125, abs=2e-3)


def test_modes_get_weights_by_their_masses():
    spec = _core.FamilySpec("full_rank", 1)
    normals = [normal("full_rank", [x], [1.0]) for x in (0.0, 10.0, 20.0, 30.0)]
    parts = from_modes(spec, normals, [math.log(0.3), math.log(0.6), -50.0, math.log(0.1)], 3)
    assert [float(n.loc[0]) for n in parts.normals] == [10.0, 0.0, 30.0]
    np.testing.assert_allclose(parts.weights, [0.6, 0.3, 0.1])
    assert len(from_modes(spec, normals, [0.0, 0.0, 0.0, 0.0], 2).normals) == 2


def test_only_new_modes_join_a_mixture():
    spec = _core.FamilySpec("full_rank", 1)
    before = Parts(spec, np.ones(1), (normal("full_rank", [0.0], [1.0]),))
    found = Parts(spec, np.array([0.5, 0.5]), (normal("full_rank", [0.2], [1.0]), normal("full_rank", [9.0], [1.0])))
    joined = with_modes(before, found, 5)
    assert [float(n.loc[0]) for n in joined.normals] == [0.0, 9.0]
    assert joined.weights.sum() == pytest.approx(1.0)
    assert len(with_modes(before, found, 1).normals) == 1


# --- parameters ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixtures_parameters_come_back(family):
    parts = random_parts(family, 3, 3)
    mixture = mixture_of(parts, 5)
    again = Parts.of_params(mixture, parts.params(mixture))
    order = np.argsort(-parts.weights)
    np.testing.assert_allclose(again.weights, parts.weights[order], rtol=1e-12)
    for mine, theirs in zip(again.normals, (parts.normals[k] for k in order), strict=True):
        np.testing.assert_allclose(mine.loc, theirs.loc, rtol=1e-12)
        np.testing.assert_allclose(mine.rest, theirs.rest, rtol=1e-10, atol=1e-12)
    weights, each = split_mixture(mixture, join_mixture(mixture, again.weights, [np.zeros(parts.spec.n_params)] * 3))
    assert np.count_nonzero(weights) == 3
    assert len(each) == 5


@pytest.mark.parametrize("dim", [1, 4])
@pytest.mark.parametrize("df", [3.0, 20.0])
def test_information_of_the_degrees_of_freedom(dim, df):
    """Against the variance of the score over draws; and with the scales free, the smaller rest of it."""
    spec = _core.FamilySpec("student_t", dim)
    params = np.zeros(spec.n_params)
    params[-1] = -math.log(1 / (df - 2.001) - 1e-6)
    member = _core.Member(spec, params)
    noise = member.noise(1, 1, 0, 40_000)
    z = member.transform(noise)
    score = np.array([member.score(point[None], np.ones(1)) for point in z[:20_000]])
    information = score.T @ score / len(score)
    exact = df_information(dim, df)
    error = (score[:, -1] ** 2).std() / math.sqrt(len(score))
    assert abs(information[-1, -1] - exact) < 4 * error
    others = np.diag(1 / np.diag(information)[:-1])
    inverse = with_df(lambda v: np.append(others @ v[:-1], 0.0), spec, params, noise)
    column = information[:-1, -1]
    last = 1 / (information[-1, -1] - column @ others @ column)
    assert inverse(np.eye(spec.n_params)[-1])[-1] == pytest.approx(last, rel=0.2)


def test_marginals_of_some_coordinates():
    mixture = _core.FamilySpec("mixture", 3, components=2)
    params = random_parts("full_rank", 3, 2).params(mixture)
    whole = Marginals.of(mixture, params)
    np.testing.assert_array_equal(whole[1:].quantile(0.3), whole.quantile(0.3)[1:])


@pytest.mark.parametrize(
    ("family", "advice"),
    [
        ("mean_field", "full_rank"),
        ("low_rank", "full_rank"),
        (None, "full_rank"),
        ("full_rank", "q='student_t' for heavy tails, q='mixture'"),
        ("student_t", "q='mixture'"),
        ("mixture", "n_components"),
    ],
)
def test_the_next_family_to_try(family, advice):
    assert advice in richer_family(family)
