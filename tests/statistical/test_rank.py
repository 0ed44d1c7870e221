"""The rank of a low-rank q, chosen from the curvature: its parts against dense matrices, and whole fits."""

import pickle
import warnings

import numpy as np
import pytest

import klqp
from klqp import _core
from klqp.errors import PoorFitWarning
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.candidate import Candidate, resized
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.diagonal import polished_mode_and_diagonal
from klqp.inference.auto.rank import _brought, _enough, first_rank
from klqp.inference.auto.spectrum import Root, gains, narrow_directions
from klqp.inference.flat_view import FlatView
from klqp.targets import make_target

LOG_2PI = np.log(2.0 * np.pi)


class Factors:
    """Normal with covariance diag(sd^2) + F F^T, F with k strong columns, as a log density."""

    def __init__(self, dim, k, spread=1.0, strength=3.0, seed=0):
        rng = np.random.default_rng(seed)
        self.loc, self.sd = rng.normal(size=dim), spread ** rng.uniform(-0.5, 0.5, dim)
        self.whitened = strength * rng.normal(size=(dim, k)) * np.linspace(1, 2, k) / np.sqrt(dim)
        inner = np.eye(k) + self.whitened.T @ self.whitened
        self._inverse = np.linalg.inv(inner)
        self._constant = -np.log(self.sd).sum() - 0.5 * np.linalg.slogdet(inner)[1] - 0.5 * dim * LOG_2PI

    def __call__(self, z):
        u = (z - self.loc) / self.sd
        p = u - (u @ self.whitened) @ self._inverse @ self.whitened.T
        return self._constant - 0.5 * (u * p).sum(1), -p / self.sd

    @property
    def covariance(self):
        f = self.sd[:, None] * self.whitened
        return np.diag(self.sd**2) + f @ f.T


def counted(fn, dim, rank):
    spec = _core.FamilySpec("low_rank", dim, rank=rank)
    return Counted(FlatView(make_target(fn, (dim,), np.float64), spec, (("z", dim),))), spec


def some_candidate(dim, rank, seed=1):
    rng = np.random.default_rng(seed)
    return Candidate(rng.normal(size=dim), rng.uniform(0.5, 2, dim), rng.normal(size=(dim, rank)), "a test", 0)


def kl(scale, rest, precision):
    """KL(N(0, diag(scale^2) + rest rest^T) || N(0, precision^-1))."""
    covariance = np.diag(scale**2) + rest @ rest.T
    log_det = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(precision)[1]
    return 0.5 * (np.trace(precision @ covariance) - len(scale) - log_det)


# --- parts ----------------------------------------------------------------------------------------------------
def test_the_root_is_one_of_the_covariance():
    q = some_candidate(7, 3)
    root = Root(q.scale, q.rest)
    r = root.times(np.eye(7)).T
    np.testing.assert_allclose(r @ r.T, np.diag(q.scale**2) + q.rest @ q.rest.T, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(root.transposed_times(np.eye(7)), r, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [6, 40])
def test_the_spectrum_is_that_of_the_dense_matrix(dim):
    """All of it where as many directions are asked for as there are; otherwise its lower end."""
    target = Factors(dim, 3)
    fn, spec = counted(target, dim, 2)
    q = some_candidate(dim, 2)
    r = Root(q.scale, q.rest).times(np.eye(dim)).T
    wanted = np.linalg.eigvalsh(r.T @ np.linalg.inv(target.covariance) @ r)
    values, directions = narrow_directions(fn, spec, q, min(dim, 10), key=3)
    np.testing.assert_allclose(values[:3], wanted[:3], rtol=1e-5)
    precision = np.linalg.inv(target.covariance)
    np.testing.assert_allclose(directions @ precision @ directions.T, np.diag(values), atol=1e-6 * values.max())
    inverse = np.linalg.inv(np.diag(q.scale**2) + q.rest @ q.rest.T)
    np.testing.assert_allclose(directions @ inverse @ directions.T, np.eye(len(values)), atol=1e-8)


def test_the_spectrum_is_left_out_where_gradients_are_not_finite():
    fn, spec = counted(lambda z: (np.full(len(z), -np.inf), np.full(z.shape, np.nan)), 5, 1)
    assert narrow_directions(fn, spec, some_candidate(5, 1), 2, key=3) is None


def test_the_gain_of_new_columns_is_what_they_bring():
    """Exact for a Normal target: the KL divergence falls by the sum of the gains."""
    dim = 12
    target = Factors(dim, 3)
    precision = np.linalg.inv(target.covariance)
    fn, spec = counted(target, dim, 1)
    scale = 1.0 / np.sqrt(np.diag(precision))
    q = Candidate(target.loc, scale, 1e-3 * np.ones((dim, 1)), "a test", 0)
    values, directions = narrow_directions(fn, spec, q, dim, key=3)
    narrow = values < 1
    columns = directions[narrow].T * np.sqrt(1 / values[narrow] - 1)
    before, after = kl(scale, q.rest, precision), kl(scale, np.concatenate([q.rest, columns], axis=1), precision)
    assert before - after == pytest.approx(gains(values).sum(), rel=1e-5)


def test_what_a_column_brings_is_what_is_lost_without_it():
    """Exact at an optimum, here where q is the target."""
    dim = 10
    target = Factors(dim, 3)
    precision = np.linalg.inv(target.covariance)
    q = Candidate(target.loc, target.sd, target.sd[:, None] * target.whitened, "a test", 0)
    for kept in (1, 2):
        less = resized(_core.FamilySpec("low_rank", dim, rank=kept), q)
        assert kl(less.scale, less.rest, precision) == pytest.approx(_brought(q)[kept:].sum(), rel=1e-10)
    same = resized(_core.FamilySpec("low_rank", dim, rank=3), q)
    np.testing.assert_allclose(same.rest @ same.rest.T, q.rest @ q.rest.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("gained", "tolerance", "enough"),
    [([3.0, 1.0, 0.04], 0.05, 2), ([3.0, 1.0, 0.06], 0.05, 3), ([0.03, 0.02], 0.05, 0), ([0.001] * 100, 0.05, 0)],
)
def test_columns_that_are_enough(gained, tolerance, enough):
    assert _enough(np.array(gained), tolerance) == enough


def test_the_first_rank_is_the_number_of_factors():
    assert first_rank(np.linalg.inv(Factors(60, 4).covariance)) == 4
    assert first_rank(np.diag(np.geomspace(1e-3, 1e3, 20))) == 1


def test_the_noise_of_columns_has_nothing_in_common_with_other_noise():
    draws = base_draws(128, 500, 7, 0, [slice(0, 20)])
    np.testing.assert_allclose(draws[:, :20].T @ draws / 128, np.eye(20, 500), atol=1e-12)
    np.testing.assert_allclose((draws**2).mean(0), 1.0, rtol=1e-12)


def test_the_curvatures_diagonal_and_the_mode():
    """Standard deviations over six orders of magnitude, found to the error of 32 products with signs."""
    dim = 600
    target = Factors(dim, 2, spread=1e6)
    fn, _ = counted(target, dim, 1)
    rng = np.random.default_rng(5)
    x, logp, diagonal = polished_mode_and_diagonal(fn, target.loc + 0.1 * target.sd, np.ones(dim), rng)
    correlation = target.whitened @ target._inverse @ target.whitened.T
    exact = 1 - np.diag(correlation)
    error = np.sqrt(2 * ((correlation**2).sum(1) - np.diag(correlation) ** 2) / 32)
    assert np.all(np.abs(diagonal * target.sd**2 - exact) < 5 * error + 1e-6)
    assert target(target.loc[None])[0][0] - logp < 0.1
    assert np.abs((x - target.loc) / target.sd).max() < 1


def test_no_diagonal_where_the_curvature_is_not_that_of_a_mode():
    fn, _ = counted(lambda z: (0.5 * (z**2).sum(1), z), 4, 1)
    assert polished_mode_and_diagonal(fn, np.zeros(4), np.ones(4), np.random.default_rng(0)) is None


# --- fits -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dim", "k", "spread"), [(40, 3, 1.0), (300, 5, 1e3), (800, 4, 1e3)])
def test_the_rank_is_the_number_of_factors_and_the_elbo_the_log_evidence(dim, k, spread):
    inference = klqp.fit(Factors(dim, k, spread), dim, q="low_rank", seed=1)
    family = next(iter(inference.latent_vars.values()))
    assert family.rank == k
    assert f"rank {k} (more columns would bring" in inference.estimator
    elbo = inference.posterior.elbo(2000, seed=2)
    assert abs(elbo.value) < 0.05 + 3 * elbo.std_error
    assert inference.diagnose(seed=3).word == "ok"


def test_columns_are_dropped_where_coordinates_are_independent():
    dim = 600
    scale = np.geomspace(0.1, 10, dim)
    inference = klqp.fit(lambda z: (-0.5 * ((z / scale) ** 2).sum(1), -z / scale**2), dim, q="low_rank", seed=1)
    assert "rank 1 (" in inference.estimator
    np.testing.assert_allclose(inference.posterior["z"].stddev(), scale, rtol=0.02)


def test_a_rank_that_is_given_stays():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoorFitWarning)
        inference = klqp.fit(Factors(40, 3), 40, q="low_rank", rank=2, seed=1)
    assert next(iter(inference.latent_vars.values())).rank == 2
    assert "rank" not in inference.estimator.split(";")[1]


def test_the_chosen_rank_is_kept_by_later_runs_and_copies():
    inference = klqp.fit(Factors(40, 3), 40, q="low_rank", seed=1)
    before = inference.posterior["z"].mean()
    copy = pickle.loads(pickle.dumps(inference))
    np.testing.assert_array_equal(copy.posterior["z"].mean(), before)
    inference.run(seed=2)
    assert "rank 3 (" in inference.estimator
    np.testing.assert_allclose(inference.posterior["z"].mean(), before, atol=0.02)
    inference.run(n_iter=5, seed=2)
    assert len(inference._engine.run.params) == (2 + 3) * 40
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoorFitWarning)
        inference.run(n_iter=5, seed=2, restart=True)
    assert len(inference._engine.run.params) == (2 + 6) * 40  # the rule for steps: the root of D


def test_same_seed_same_bits_in_a_model():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3))

    def fit(n_threads):
        w = klqp.Normal(np.zeros(3), 1.0, name="w")
        b = klqp.Normal(0.0, 1.0, name="b")
        y = klqp.Normal(x @ w + b, 0.5, name="y")
        inference = klqp.KLqp([w, b], {y: x @ np.ones(3)}, q="low_rank")
        inference.run(seed=1, n_threads=n_threads)
        return inference

    first, second = fit(1), fit(2)
    assert "rank " in first.estimator
    for name in ("w", "b"):
        np.testing.assert_array_equal(first.posterior[name].mean(), second.posterior[name].mean())
