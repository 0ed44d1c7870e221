"""The parts of the automatic method, each against what it must give on a Normal, or a slow twin."""

import math

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from klqp import _core
from klqp.inference.auto.bam import match
from klqp.inference.auto.base_draws import base_draws, fewest_draws
from klqp.inference.auto.candidate import Candidate, from_path, from_precision
from klqp.inference.auto.climb import climb, start_points
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.laplace import polished_mode
from klqp.inference.auto.lbfgs import Memory, drive, minimise
from klqp.inference.auto.pathfinder import PathNormal, along
from klqp.inference.auto.properness import improper_direction
from klqp.inference.auto.saa import Frame, Objective, _Guard, location_inverse, n_draws_at_first, optimise
from klqp.inference.flat_view import FlatView
from klqp.inference.gaussian import factor_times, pack, unpack
from klqp.targets import make_target

FAMILIES = [("mean_field", 0), ("full_rank", 0), ("low_rank", 2)]
RNG = np.random.default_rng(0)
DIM = 5
AXES = np.linalg.qr(RNG.normal(size=(DIM, DIM)))[0]
PRECISION = (AXES * np.geomspace(1e-3, 1e3, DIM)) @ AXES.T
LOC = RNG.normal(size=DIM) * 5


def normal(z):
    g = -(z - LOC) @ PRECISION
    return 0.5 * ((z - LOC) * g).sum(1), g


def skewed(z):
    """Independent logarithms of Gamma(3, 1) numbers, mixed."""
    y = z @ AXES
    return (3 * y - np.exp(y)).sum(1), (3 - np.exp(y)) @ AXES.T


def counted(fn, dim=DIM, family="full_rank", rank=0):
    return Counted(
        FlatView(make_target(fn, (dim,), np.float64), _core.FamilySpec(family, dim, rank=rank), (("z", dim),))
    )


def unit(spec, loc=None, scale=1.0):
    dim = spec.dim
    rest = np.zeros((dim, dim)) if spec.name == "full_rank" else np.zeros((dim, 0))
    if spec.name == "low_rank":
        rest = 0.1 * np.random.default_rng(1).normal(size=(dim, spec.rank))
    return Candidate(np.zeros(dim) if loc is None else loc, np.full(dim, scale), rest, "a test", 0)


def rosenbrock(x):
    return np.array([rosen(p) for p in x]), np.array([rosen_der(p) for p in x])


# --- L-BFGS ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("memory", [1, 5, 20])
def test_minimises_rosenbrocks_function(memory):
    search = minimise(np.full(6, -1.5), tolerance=1e-14, max_iter=2000, memory=Memory(memory))
    (path,) = drive([search], rosenbrock)
    assert path.converged
    np.testing.assert_allclose(path.x[-1], 1.0, atol=1e-4)
    assert np.all(np.diff(path.f) < 1e-12)


def test_the_memory_is_the_bfgs_matrix():
    """The two-loop recursion against the update of the dense inverse Hessian."""
    rng = np.random.default_rng(2)
    memory, dense, eye = Memory(10, lambda v: 2.0 * v), 2.0 * np.eye(4), np.eye(4)
    for _ in range(6):
        s = rng.normal(size=4)
        y = s + 0.1 * rng.normal(size=4)
        assert memory.add(s, y)
        left = eye - np.outer(s, y) / (s @ y)
        dense = left @ dense @ left.T + np.outer(s, s) / (s @ y)
    v = rng.normal(size=4)
    np.testing.assert_allclose(memory.times(v), dense @ v, rtol=1e-10)
    assert not memory.add(np.ones(4), -np.ones(4))


def test_infinite_values_are_a_boundary():
    """-log x + 10 x has its minimum at 0.1, and no value at x <= 0."""

    def fn(x):
        inside = x[:, 0] > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            f = np.where(inside, 10 * x[:, 0] - np.log(x[:, 0]), np.inf)
            return f, np.where(inside[:, None], 10 - 1 / x, 0.0)

    (path,) = drive([minimise(np.array([5.0]), tolerance=1e-12, max_iter=100, memory=Memory(5))], fn)
    assert path.converged
    assert path.x[-1][0] == pytest.approx(0.1, rel=1e-5)


def test_searches_side_by_side_are_those_one_by_one():
    starts = np.random.default_rng(3).normal(size=(4, 3)) * 2
    sizes = []

    def fn(x):
        sizes.append(len(x))
        return rosenbrock(x)

    def search(x):
        return minimise(x, tolerance=1e-8, max_iter=200, memory=Memory(5))

    together = drive([search(x) for x in starts], fn)
    assert max(sizes) == 4
    for x, path in zip(starts, together, strict=True):
        (alone,) = drive([search(x)], rosenbrock)
        assert np.array_equal(alone.x[-1], path.x[-1])


def test_a_guard_ends_a_search():
    def guard(x):
        return "too far" if abs(x[0]) > 100 else ""

    def line(x):
        return -x[:, 0], -np.ones_like(x)

    (path,) = drive([minimise(np.zeros(1), tolerance=1e-6, max_iter=50, memory=Memory(5), guard=guard)], line)
    assert (path.why, path.converged) == ("too far", False)


# --- the climb and its curvature ------------------------------------------------------------------------------
def test_starts_are_opposite():
    points = start_points(LOC, np.random.default_rng(1))
    assert np.array_equal(points[0], LOC)
    np.testing.assert_allclose(points[1::2] + points[2::2], 2 * np.broadcast_to(LOC, (3, DIM)), rtol=1e-12)


def test_climbs_to_the_mode_from_where_there_is_no_density():
    def fn(z):
        logp, grad = normal(z)
        return np.where(np.abs(z).max(1) < 0.2, -np.inf, logp), grad

    rng = np.random.default_rng(4)
    paths = climb(counted(fn), start_points(np.zeros(DIM), rng), rng)
    assert max(-path.f[-1] for path in paths) > -0.01


def test_nowhere_finite():
    rng = np.random.default_rng(5)
    with pytest.raises(_core.TargetError, match="give init_loc inside the support"):
        climb(counted(lambda z: (np.full(len(z), np.nan), z)), np.zeros((1, DIM)), rng)


@pytest.mark.parametrize("sd", [1e-3, 1.0, 1e3])
def test_the_mode_of_a_normal_and_its_precision(sd):
    x, logp, precision = polished_mode(counted(normal), LOC + 0.1, np.full(DIM, sd))
    np.testing.assert_allclose(precision, PRECISION, rtol=1e-5, atol=1e-5 * np.abs(PRECISION).max())
    np.testing.assert_allclose(x, LOC, atol=1e-3)
    assert logp > -1e-3


def path_on_a_normal():
    search = minimise(np.zeros(DIM), tolerance=1e-12, max_iter=200, memory=Memory(8))
    (path,) = drive([search], lambda x: tuple(-v for v in normal(x)))
    return path


def test_pathfinder_has_the_precision_along_its_last_steps():
    """Every pair of the memory satisfies the newest secant equation: covariance times y is s."""
    path = path_on_a_normal()
    last = len(path.x) - 1
    (found,) = along(path, [last])
    s, y = path.x[last] - path.x[last - 1], path.g[last] - path.g[last - 1]
    np.testing.assert_allclose(found.covariance() @ y, s, rtol=1e-6, atol=1e-9 * np.abs(s).max())
    np.testing.assert_allclose(found.covariance() @ found.precision(), np.eye(DIM), atol=1e-6)
    np.testing.assert_allclose(found.diagonal_precision(), np.diag(found.precision()), rtol=1e-8)
    newton = path.x[last] - found.covariance() @ path.g[last]
    np.testing.assert_allclose(found.loc, newton, rtol=1e-8, atol=1e-8)


def test_pathfinder_is_the_dense_update():
    """The compact form against updates of the dense inverse Hessian, from the diagonal at the point."""
    path = path_on_a_normal()
    for i in range(2, 6):
        (found,) = along(path, [i])
        dense = np.diag(found.alpha)
        for j in range(1, i + 1):
            s, y = path.x[j] - path.x[j - 1], path.g[j] - path.g[j - 1]
            left = np.eye(DIM) - np.outer(s, y) / (s @ y)
            dense = left @ dense @ left.T + np.outer(s, s) / (s @ y)
        np.testing.assert_allclose(found.covariance(), dense, rtol=1e-6, atol=1e-8 * np.abs(dense).max())


# --- candidates -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "rank"), FAMILIES)
def test_candidates_from_a_precision(name, rank):
    spec = _core.FamilySpec(name, DIM, rank=rank)
    found = from_precision(spec, LOC, PRECISION, 3)
    cov = factor_times(spec, found.scale, found.rest, np.eye(spec.noise_dim))
    cov = cov.T @ cov
    if name == "full_rank":
        np.testing.assert_allclose(cov, np.linalg.inv(PRECISION), rtol=1e-6)
    elif name == "mean_field":
        np.testing.assert_allclose(np.diag(cov), 1 / np.diag(PRECISION), rtol=1e-8)
    else:
        wide = np.linalg.eigvalsh(cov)[-1]
        assert wide == pytest.approx(1e3, rel=0.05)
    assert found.start == 3


def test_a_precision_that_is_none_is_made_one():
    spec = _core.FamilySpec("full_rank", 2)
    found = from_precision(spec, np.zeros(2), np.array([[1.0, 0.0], [0.0, -4.0]]), 0)
    np.testing.assert_allclose(found.scale, [1.0, 0.5])
    flat = from_precision(spec, np.zeros(2), np.zeros((2, 2)), 0)
    assert np.all(np.isfinite(flat.scale) & (flat.scale > 0))


@pytest.mark.parametrize(("name", "rank"), FAMILIES)
def test_candidates_from_a_path(name, rank):
    rng = np.random.default_rng(6)
    q = np.linalg.qr(rng.normal(size=(DIM, 2)))[0]
    source = PathNormal(LOC, np.geomspace(0.1, 10, DIM), q, np.array([[5.0, 0.3], [0.3, 3.0]]))
    spec = _core.FamilySpec(name, DIM, rank=rank)
    found = from_path(spec, source, 0)
    cov = factor_times(spec, found.scale, found.rest, np.eye(spec.noise_dim))
    expected = source.covariance() if name != "mean_field" else np.diag(1 / np.diag(source.precision()))
    np.testing.assert_allclose(cov.T @ cov, expected, rtol=1e-8, atol=1e-10)


# --- base draws -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "width"), [(128, 3), (512, 100), (64, 1)])
def test_moments_of_base_draws_are_exact(n, width):
    draws = base_draws(n, width, 7, 0)
    assert n >= fewest_draws(width)
    np.testing.assert_allclose(draws.mean(0), 0.0, atol=1e-14)
    np.testing.assert_allclose(draws.T @ draws / n, np.eye(width), atol=1e-12)
    assert np.array_equal(draws, base_draws(n, width, 7, 0))
    assert not np.allclose(draws, base_draws(n, width, 7, 1))
    assert not np.allclose(draws, base_draws(n, width, 8, 0))


def test_variances_alone_where_there_are_few_draws():
    draws = base_draws(64, 100, 7, 0)
    np.testing.assert_allclose((draws**2).mean(0), 1.0, rtol=1e-12)


def divergence(found):
    """KL from a full-rank candidate to `normal`, in nats."""
    factor = np.diag(found.scale) + found.rest
    product, away = factor @ factor.T @ PRECISION, found.loc - LOC
    return 0.5 * (np.trace(product) - DIM - np.linalg.slogdet(product)[1] + away @ PRECISION @ away)


# --- sample averages ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "rank"), FAMILIES)
def test_the_objectives_gradient(name, rank):
    target = counted(skewed, family=name, rank=rank)
    start = unit(target.view.spec, scale=0.5)
    frame = Frame.of(target.view.spec, start)
    objective = Objective(target, frame, base_draws(64, target.view.spec.noise_dim, 1, 0))
    params = frame.params(start) + 0.1 * np.random.default_rng(8).normal(size=frame.spec.n_params)
    _, gradient = objective(params)
    step = 1e-5
    for i, direction in enumerate(np.eye(len(params))):
        difference = (objective(params + step * direction)[0] - objective(params - step * direction)[0]) / (2 * step)
        assert gradient[i] == pytest.approx(difference, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("name", "rank"), FAMILIES)
def test_a_frames_members_are_those_of_the_family(name, rank):
    spec = _core.FamilySpec(name, DIM, rank=rank)
    rng = np.random.default_rng(9)
    start = from_precision(spec, LOC, PRECISION, 0)
    frame = Frame.of(spec, start)
    params = frame.params(start) + 0.3 * rng.normal(size=spec.n_params)
    noise = rng.normal(size=(4, spec.noise_dim))
    found = frame.candidate(params, start)
    z = frame.to_z(_core.Member(frame.spec, params).transform(noise))
    np.testing.assert_allclose(found.draws(spec, noise), z, rtol=1e-10)
    np.testing.assert_allclose(start.draws(spec, noise), frame.candidate(frame.params(start), start).draws(spec, noise))
    grad, change = rng.normal(size=(4, DIM)), rng.normal(size=(4, DIM))
    pulled = (frame.pull(grad) * change).sum()
    assert pulled == pytest.approx((grad * (frame.to_z(change) - frame.loc)).sum(), rel=1e-10)


@pytest.mark.parametrize("name", ["mean_field", "full_rank"])
def test_sample_averages_are_exact_on_a_normal(name):
    target = counted(normal, family=name)
    fit = optimise(target, target.view.spec, unit(target.view.spec), 1)
    assert fit.converged
    assert fit.remaining < 1e-3
    found = fit.candidate
    if name == "full_rank":
        assert divergence(found) < 4e-3
    else:
        np.testing.assert_allclose(found.scale, 1 / np.sqrt(np.diag(PRECISION)), rtol=0.03)
    away = found.loc - LOC
    assert away @ PRECISION @ away < 4e-3


def test_draws_are_doubled_until_their_error_is_small():
    target = counted(skewed, family="full_rank")
    fit = optimise(target, target.view.spec, unit(target.view.spec), 1)
    assert fit.converged
    assert fit.remaining < 4e-3
    # the family's optimum: in coordinates y, log scales with 3 exp(m + s^2/2) = 3 and s^2 = 1/3
    best = DIM * (3 * (math.log(3) - 1 / 6) - 3 + 0.5 * math.log(2 * math.pi * math.e / 3))
    member = _core.Member(target.view.spec, pack(target.view.spec, *parts(fit.candidate)))
    noise = base_draws(1 << 14, DIM, 99, 5)
    logp, _ = target.evaluate(member.transform(noise))
    assert logp.mean() + member.entropy() == pytest.approx(best, abs=0.01)


def parts(candidate):
    return candidate.loc, candidate.scale, candidate.rest


def test_a_problem_without_bound_is_told():
    target = counted(lambda z: (-0.5 * z[:, 0] ** 2, np.stack([-z[:, 0], 0 * z[:, 1]], axis=1)), dim=2)
    fit = optimise(target, target.view.spec, unit(target.view.spec), 1, target.view.coordinate)
    assert not fit.converged
    assert "rises without bound as q spreads along z[1]" in fit.why


def test_enough_draws_for_a_bound():
    for dim in (1, 10, 90):
        assert n_draws_at_first(_core.FamilySpec("full_rank", dim)) >= 8 * dim
        assert n_draws_at_first(_core.FamilySpec("low_rank", dim, rank=3)) >= 5


# --- batch and match ------------------------------------------------------------------------------------------
def test_batch_and_match_finds_a_normal():
    target = counted(normal)
    fit = match(target, target.view.spec, unit(target.view.spec), 1)
    assert fit.converged
    assert divergence(fit.candidate) < 0.01


# --- properness -----------------------------------------------------------------------------------------------
def cauchy(z):
    return -np.log1p(z**2).sum(1), -2 * z / (1 + z**2)


@pytest.mark.parametrize("fn", [normal, cauchy, skewed])
def test_proper_densities(fn):
    target = counted(fn)
    assert improper_direction(target, unit(target.view.spec), [PRECISION], target.view.coordinate) == ""


def test_improper_densities_are_named():
    def half(z):
        return -np.logaddexp(0, z[:, 1]) - 0.5 * z[:, 0] ** 2, np.zeros_like(z)

    target = counted(half, dim=2)
    words = improper_direction(target, unit(target.view.spec), [], target.view.coordinate)
    assert "along z[1]: the posterior seems to be improper" in words

    def difference(z):
        return -0.5 * (z[:, 0] - z[:, 1]) ** 2, np.zeros_like(z)

    target = counted(difference, dim=2)
    precision = np.array([[1.0, -1.0], [-1.0, 1.0]])
    words = improper_direction(target, unit(target.view.spec), [precision], target.view.coordinate)
    assert "z[0], z[1]" in words


def test_unpack_is_what_pack_was_given():
    spec = _core.FamilySpec("low_rank", 4, rank=2)
    rng = np.random.default_rng(10)
    given = (rng.normal(size=4), rng.uniform(0.1, 2, 4), rng.normal(size=(4, 2)))
    for a, b in zip(given, unpack(spec, pack(spec, *given)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(("name", "rank"), FAMILIES)
def test_a_batch_is_one_call_and_gives_what_its_members_do(name, rank):
    target = counted(skewed, family=name, rank=rank)
    frame = Frame.of(target.view.spec, unit(target.view.spec))
    objective = Objective(target, frame, base_draws(64, target.view.spec.noise_dim, 1, 0))
    params = frame.params(unit(target.view.spec)) + 0.1 * np.random.default_rng(5).normal(size=(3, frame.spec.n_params))
    params[1, -1] = np.nan  # has no value, and does not disturb the others
    before = target.n_calls
    values, gradients = objective.batch(params)
    assert target.n_calls == before + 1
    assert math.isinf(values[1])
    assert not gradients[1].any()
    for i in (0, 2):
        value, gradient = objective(params[i])
        assert values[i] == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(gradients[i], gradient, rtol=1e-9, atol=1e-12)


def test_a_scale_that_vanished_leaves_no_curvature_to_estimate():
    target = counted(skewed, family="low_rank", rank=1)
    start = unit(target.view.spec)
    noise = base_draws(64, target.view.spec.noise_dim, 1, 0)
    for scale, usable in ((1e-160, False), (1.0, True)):
        start.scale[0] = scale
        frame = Frame.of(target.view.spec, start)
        _, grad = target.evaluate(start.draws(target.view.spec, noise))
        assert (location_inverse(frame, frame.params(start), noise, grad) is not None) == usable


def test_a_low_rank_q_spreads_by_its_columns_too():
    """A scale that vanished beside a column is no spreading, however large the column is against it."""
    spec = _core.FamilySpec("low_rank", 2, rank=1)

    def member(column):
        return pack(spec, np.zeros(2), np.array([1e-9, 1.0]), np.array([[column], [0.0]]))

    guard = _Guard(spec, member(1.0), str)
    assert guard(member(2.0)) == ""
    assert "without bound" in guard(member(1e8))
