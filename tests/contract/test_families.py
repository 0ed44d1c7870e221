"""Every Normal family of the registry: draws, densities, pullbacks and moments against dense algebra.

The others are in test_other_families.py.
"""

import itertools
import json
import math
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

import klqp
from klqp import _core

EPS = 2.0**-52
SCALES = ("exp", "softplus", "linear")
POSTERIOR_STREAM = 1


def spec_of(name: str, dim: int, scale: str = "exp") -> _core.FamilySpec:
    """Return a family of that name; families without a rank, or blocks, do not look at them."""
    return _core.FamilySpec(name, dim, rank=min(dim, 3), scale=scale, components=1, blocks=blocks_of(dim))


def blocks_of(dim: int) -> list[int]:
    """Return sizes of blocks, single coordinates among them: 1, 1, 3, 2, 1 and the rest."""
    sizes = []
    for size in (1, 1, 3, 2, 1, dim):
        sizes.append(min(size, dim - sum(sizes)))
    return [size for size in sizes if size > 0]


NORMAL = [name for name in _core.FAMILIES if spec_of(name, 2).normal]


def random_params(spec: _core.FamilySpec, seed: int) -> np.ndarray:
    """Return valid parameters (P) of a well-conditioned member with correlations where it can."""
    rng = np.random.default_rng([seed, spec.dim])
    params = spec.start(rng.normal(size=spec.dim), rng.uniform(1.5, 3, spec.dim), seed)
    params = params + 0.3 * rng.normal(size=params.size)
    return spec.project(params)


@dataclass
class Case:
    """A member with its dense description: z = loc + factor @ noise, read off the map itself."""

    spec: _core.FamilySpec
    params: np.ndarray

    def __post_init__(self) -> None:
        self.member = _core.Member(self.spec, self.params)
        unit = np.vstack([np.zeros(self.spec.noise_dim), np.eye(self.spec.noise_dim)])
        images = self.member.transform(unit)
        self.loc, self.factor = images[0], (images[1:] - images[0]).T  # (D), (D, E)
        self.covariance = self.factor @ self.factor.T

    @property
    def condition(self) -> float:
        return float(np.linalg.cond(self.covariance))

    def points(self, n: int, seed: int = 0) -> np.ndarray:
        """Return points (n, D), a little wider than the member's own draws."""
        rng = np.random.default_rng(seed)
        return self.loc + 1.5 * rng.normal(size=(n, self.spec.noise_dim)) @ self.factor.T

    def draw(self, seed: int, stream: int, first_draw: int, n: int) -> np.ndarray:
        return self.member.transform(self.member.noise(seed, stream, first_draw, n))

    def noise(self, n: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng([seed, 1]).normal(size=(n, self.spec.noise_dim))


def cases(*dims: int):
    """Parametrise over every family, dimension and scale."""
    rows = [(name, dim, scale) for name in NORMAL for dim in dims for scale in SCALES]
    return pytest.mark.parametrize(
        "case", [pytest.param(row, id="-".join(map(str, row))) for row in rows], indirect=True
    )


@pytest.fixture
def case(request) -> Case:
    spec = spec_of(*request.param)
    return Case(spec, random_params(spec, 7))


def central_differences(f, x: np.ndarray, h: float) -> np.ndarray:
    """Return the derivatives of f: (n,) -> float, by Richardson's extrapolation of two steps."""

    def difference(step):
        return np.array([(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(x.size)])

    return (4 * difference(h / 2) - difference(h)) / 3


# --- the map -------------------------------------------------------------------------------------


def positive(rho: np.ndarray, scale: str) -> np.ndarray:
    """Return the scales of unconstrained parameters."""
    return {"exp": np.exp(rho), "softplus": np.logaddexp(0, rho), "linear": rho}[scale]


def twin_mean_field(spec, params, noise):
    loc, rho = params[: spec.dim], params[spec.dim :]
    return loc + positive(rho, spec.scale) * noise


def twin_full_rank(spec, params, noise):
    """Entries of the factor below the diagonal are kept times sqrt(D), docs/maths.md 2.5."""
    factor = np.zeros((spec.dim, spec.dim))
    factor[np.tril_indices(spec.dim)] = params[spec.dim :]
    rho = np.diag(factor)
    factor = np.tril(factor, -1) / math.sqrt(spec.dim) + np.diag(positive(rho, spec.scale))
    return params[: spec.dim] + noise @ factor.T


def twin_low_rank(spec, params, noise):
    """The columns of B are kept times sqrt(r), docs/maths.md 2.6."""
    loc, rho = params[: spec.dim], params[spec.dim : 2 * spec.dim]
    columns = params[2 * spec.dim :].reshape(spec.rank, spec.dim) / math.sqrt(spec.rank)
    eta, eps = noise[:, : spec.rank], noise[:, spec.rank :]
    return loc + positive(rho, spec.scale) * eps + eta @ columns


def twin_block(spec, params, noise):
    """Full-rank members one after another, runs of single coordinates together, docs/maths.md 2.11."""
    z, at = [], 0
    runs = [(single, list(run)) for single, run in itertools.groupby(spec.blocks, lambda size: size == 1)]
    for single, sizes in runs:
        for dim in [len(sizes)] if single else sizes:
            own = _core.FamilySpec("mean_field" if single else "full_rank", dim, scale=spec.scale)
            twin = twin_mean_field if single else twin_full_rank
            begin = sum(part.shape[1] for part in z)
            z.append(twin(own, params[at : at + own.n_params], noise[:, begin : begin + dim]))
            at += own.n_params
    return np.concatenate(z, axis=1)


TWINS = {"mean_field": twin_mean_field, "full_rank": twin_full_rank, "low_rank": twin_low_rank, "block": twin_block}


@cases(1, 2, 5, 17, 600)
def test_transform_agrees_with_its_twin(case):
    """A family without a twin here fails. Rounding grows with the number of terms of a sum."""
    noise = case.noise(3)
    expected = TWINS[case.spec.name](case.spec, case.params, noise)
    terms = np.abs(case.loc) + np.abs(noise) @ np.abs(case.factor.T)
    error = np.abs(case.member.transform(noise) - expected)
    assert np.all(error <= (4 + math.sqrt(case.spec.noise_dim)) * EPS * terms)


@cases(1, 2, 5, 17, 600)
def test_start_has_the_moments_asked_for(case):
    """Exactly so for the location; the low-rank start has small noise in its factor."""
    spec, rng = case.spec, np.random.default_rng(3)
    loc, scale = rng.normal(size=spec.dim), rng.uniform(1e-3, 30, spec.dim)
    member = _core.Member(spec, spec.start(loc, scale, 5))
    np.testing.assert_array_equal(member.mean(), loc)
    assert np.all(member.stddev() >= scale * (1 - 8 * EPS))
    assert np.all(member.stddev() <= scale * 1.1)
    np.testing.assert_array_equal(spec.start(loc, scale, 5), spec.start(loc, scale, 5))
    if spec.noise_dim == spec.dim:
        np.testing.assert_allclose(member.stddev(), scale, rtol=8 * EPS)


# --- densities -----------------------------------------------------------------------------------


@cases(1, 2, 5, 17)
def test_log_density(case):
    """Both sides lose as many digits as the covariance's condition number has."""
    z = case.points(20)
    normal = stats.multivariate_normal(case.loc, case.covariance)
    np.testing.assert_allclose(
        case.member.log_density(z), normal.logpdf(z), rtol=20 * EPS * case.condition * case.spec.dim
    )


@cases(1, 2, 5, 17)
def test_standardised_noise_of_a_draw(case):
    """It gives the draw back, is the smallest noise that does, and its norm is the log density."""
    member, noise = case.member, case.noise(4)
    z = member.transform(noise)
    e = member.standardise(z)
    tolerance = 50 * EPS * case.condition * case.spec.dim
    np.testing.assert_allclose(member.transform(e), z, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(member.standardise_noise(noise), e, rtol=tolerance, atol=tolerance)
    assert np.all((e**2).sum(1) <= (noise**2).sum(1) * (1 + tolerance))
    least = np.linalg.lstsq(case.factor, (z - case.loc).T, rcond=None)[0].T
    np.testing.assert_allclose(e, least, rtol=tolerance, atol=tolerance)
    half_log_det = 0.5 * np.linalg.slogdet(case.covariance)[1]
    expected = -0.5 * (e**2).sum(1) - half_log_det - 0.5 * case.spec.dim * math.log(2 * math.pi)
    np.testing.assert_allclose(member.log_density(z), expected, rtol=tolerance)
    np.testing.assert_allclose(member.log_density_of_noise(noise), expected, rtol=tolerance)
    if case.spec.noise_dim == case.spec.dim:
        np.testing.assert_allclose(e, noise, rtol=tolerance, atol=tolerance)


@cases(1, 2, 5)
def test_precision_is_minus_the_gradient_of_the_log_density(case):
    """log q is quadratic: differences have rounding errors only, whatever the step."""
    z = case.points(4, seed=2)
    actual = case.member.precision_times(z)
    for point, row in zip(z, actual, strict=True):
        expected = -central_differences(lambda x: case.member.log_density(x[None])[0], point, 0.1)
        np.testing.assert_allclose(row, expected, rtol=1e-9, atol=1e-10)


@cases(5, 600)
def test_precision_against_dense_algebra(case):
    z = case.points(4, seed=2)
    actual = case.member.precision_times(z)
    dense = np.linalg.solve(case.covariance, (z - case.loc).T).T
    tolerance = 50 * EPS * case.condition * np.abs(dense).max()
    np.testing.assert_allclose(actual, dense, rtol=0, atol=tolerance)
    e = case.member.standardise(z)
    np.testing.assert_allclose(case.member.transform(e), z, rtol=0, atol=tolerance)


@pytest.mark.parametrize("spread", [1e-4, 1e-2])
def test_low_rank_with_little_diagonal(spread):
    """d much smaller than B: the condition number is 1 / d^2, and so are the lost digits."""
    spec = _core.FamilySpec("low_rank", 8, rank=2)
    rng = np.random.default_rng(4)
    params = np.concatenate([np.zeros(8), np.full(8, math.log(spread)), rng.normal(size=16)])
    case = Case(spec, params)
    noise = case.noise(5)
    e = case.member.standardise_noise(noise)
    columns = case.factor[:, :2].T / spread
    inner = np.linalg.slogdet(np.eye(2) + columns @ columns.T)[1]
    constant = -8 * math.log(spread) - 0.5 * inner - 4 * math.log(2 * math.pi)
    expected = constant - 0.5 * (e**2).sum(1)
    np.testing.assert_allclose(case.member.log_density_of_noise(noise), expected, rtol=1e-12)
    actual = case.member.log_density(case.member.transform(noise))
    np.testing.assert_allclose(actual, expected, rtol=100 * EPS / spread**2)


# --- gradients -----------------------------------------------------------------------------------


@cases(1, 2, 5)
def test_pullback(case):
    noise = case.noise(3)
    cot = np.random.default_rng(5).normal(size=(3, case.spec.dim))

    def value(params):
        return np.sum(cot * _core.Member(case.spec, params).transform(noise))

    actual = case.member.pullback(noise, cot)
    expected = central_differences(value, case.params, 1e-2)
    np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-8)


@cases(600)
def test_pullback_over_several_blocks(case):
    """In the direction of one random change of the parameters."""
    noise, rng = case.noise(3), np.random.default_rng(6)
    cot, direction = rng.normal(size=(3, case.spec.dim)), rng.normal(size=case.params.size)
    direction /= np.linalg.norm(direction)

    def value(step):
        moved = _core.Member(case.spec, case.params + step[0] * direction)
        return np.sum(cot * (moved.transform(noise) - case.member.transform(noise)))

    expected = central_differences(value, np.zeros(1), 1e-2)[0]
    gradient = case.member.pullback(noise, cot)
    assert abs(gradient @ direction - expected) <= 1e-8 * np.linalg.norm(gradient)


@cases(1, 2, 5)
def test_score(case):
    z, weights = case.points(3), np.array([0.5, -1.0, 2.0])

    def value(params):
        return weights @ _core.Member(case.spec, params).log_density(z)

    actual = case.member.score(z, weights)
    expected = central_differences(value, case.params, 1e-2)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * scale)


@cases(1, 3)
def test_expected_score_is_zero(case):
    """Batch means of 100 draws: 300 of them are Normal enough for standard errors."""
    z = case.draw(11, POSTERIOR_STREAM, 0, 30_000).reshape(300, 100, case.spec.dim)
    batches = np.array([case.member.score(batch, np.full(100, 0.01)) for batch in z])
    errors = batches.mean(0) / (batches.std(0, ddof=1) / math.sqrt(300))
    assert np.max(np.abs(errors)) < 4.5


@cases(1, 2, 5, 17)
def test_entropy_and_its_gradient(case):
    dim = case.spec.dim
    exact = 0.5 * np.linalg.slogdet(case.covariance)[1] + 0.5 * dim * math.log(2 * math.pi * math.e)
    tolerance = 20 * EPS * case.condition * dim
    assert case.member.entropy() == pytest.approx(exact, rel=tolerance, abs=tolerance)
    gradient = central_differences(lambda params: _core.Member(case.spec, params).entropy(), case.params, 1e-2)
    np.testing.assert_allclose(case.member.entropy_gradient(), gradient, rtol=1e-7, atol=1e-7)


# --- draws and moments ---------------------------------------------------------------------------


@cases(1, 5)
def test_samples(case):
    """Each coordinate by Kolmogorov-Smirnov, all covariances in standard errors."""
    n = 40_000
    z = case.draw(3, POSTERIOR_STREAM, 0, n)
    sd = np.sqrt(np.diag(case.covariance))
    for i in range(case.spec.dim):
        assert stats.kstest(z[:, i], "norm", (case.loc[i], sd[i])).pvalue > 1e-4
    centred = z - case.loc
    errors = centred.T @ centred / n - case.covariance
    variance = (np.outer(sd**2, sd**2) + case.covariance**2) / n
    assert np.max(np.abs(errors) / np.sqrt(variance)) < 4.5
    np.testing.assert_array_equal(case.draw(3, POSTERIOR_STREAM, 10, 5), z[10:15])
    for other in (case.draw(4, POSTERIOR_STREAM, 0, 5), case.draw(3, 2, 0, 5)):
        assert not np.any(other == z[:5])


@cases(1, 2, 5, 17, 600)
def test_moments(case):
    tolerance = {"rtol": 4 * EPS * math.sqrt(case.spec.noise_dim), "atol": 1e-15 * case.spec.dim}
    np.testing.assert_array_equal(case.member.mean(), case.loc)
    sd = np.sqrt(np.diag(case.covariance))
    np.testing.assert_allclose(case.member.stddev(), sd, **tolerance)
    covariance = case.member.covariance()
    np.testing.assert_allclose(covariance, case.covariance, **tolerance)
    np.testing.assert_array_equal(covariance, covariance.T)


# --- changes of the parameters -------------------------------------------------------------------


@cases(1, 5)
def test_projection(case):
    """Valid parameters stay; whatever an optimizer leaves becomes valid; twice is as once."""
    np.testing.assert_array_equal(case.spec.project(case.params), case.params)
    projected = case.spec.project(-case.params)
    np.testing.assert_array_equal(case.spec.project(projected), projected)
    member = _core.Member(case.spec, projected)
    assert np.isfinite(member.entropy())
    assert np.all(np.isfinite(member.log_density(np.zeros((1, case.spec.dim)))))
    changed = projected != -case.params
    if case.spec.scale == "linear":
        assert np.count_nonzero(changed) == case.spec.dim
        np.testing.assert_array_equal(projected[changed], 1e-5)
    else:
        assert not np.any(changed)


def accepts_proximal(spec: _core.FamilySpec) -> bool:
    """Say whether a run may take the entropy's proximal steps in this family."""
    target = _core.PythonTarget(lambda z: (-(z**2).sum(1), -2 * z), [spec.dim], np.dtype(float), None)
    parts = (
        spec,
        target,
        _core.Noise("mc", 1, spec.noise_dim, 0),
        _core.EstimatorSpec("reparameterised", "proximal"),
        _core.OptimizerSpec("sgd", {}),
        _core.RunConfig(math.inf, math.inf, False, 1),
        spec.start(np.zeros(spec.dim), np.ones(spec.dim), 0),
    )
    try:
        _core.Run(*parts)
    except ValueError:
        return False
    return True


@cases(1, 5)
def test_proximal_step(case):
    """It is the implicit gradient step on the entropy: new = old + gamma grad H(new)."""
    if case.spec.name in TWINS:
        known = case.spec.scale == "linear" and case.spec.name in ("mean_field", "full_rank", "block")
        assert accepts_proximal(case.spec) == known
    if not accepts_proximal(case.spec):
        return
    for gamma in (1e-6, 0.1, 10.0):
        for start in (case.params, -case.params):  # an optimizer may overshoot to negative scales
            after = case.spec.proximal_step(start, gamma)
            gradient = _core.Member(case.spec, after).entropy_gradient()
            magnitude = np.abs(start) + gamma * np.abs(gradient)
            assert np.all(np.abs(after - start - gamma * gradient) <= 1e-9 * magnitude)
            np.testing.assert_array_equal(after[gradient == 0], start[gradient == 0])


@cases(1, 5)
@pytest.mark.parametrize("factor", [0.5, 2.0**-20, 0.3])
def test_contraction_scales_the_covariance(case, factor):
    member = _core.Member(case.spec, case.spec.contract(case.params, factor))
    np.testing.assert_array_equal(member.mean(), case.loc)
    expected = factor**2 * case.covariance
    np.testing.assert_allclose(member.covariance(), expected, rtol=1e-13, atol=1e-15 * expected.max())


# --- size ----------------------------------------------------------------------------------------

LARGE_FIT = """
import json, resource, sys
import numpy as np
import klqp

def log_density(z):
    return -0.5 * (z**2).sum(1), -z

fit = klqp.fit(log_density, 10_000, q="low_rank", rank=10, n_iter=20, n_samples=8, seed=1)
density = fit.posterior.log_prob(fit.posterior["z"].sample(50, seed=2))
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
try:  # the peak of this program alone, without that of the process that started it
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
except OSError:
    pass
print(json.dumps({"peak": peak, "losses": list(fit.losses), "density": list(density)}))
"""


def test_low_rank_never_forms_a_square_matrix():
    """One matrix of 10,000 x 10,000 alone would take 800 MB."""
    run = subprocess.run(
        [sys.executable, "-P", "-c", LARGE_FIT], capture_output=True, text=True, check=True, timeout=120
    )
    out = json.loads(run.stdout)
    assert np.all(np.isfinite(out["losses"] + out["density"]))
    assert out["peak"] < 400e6


def test_low_rank_log_prob_agrees_with_the_dense_formula():
    dim, rng = 150, np.random.default_rng(8)
    factor, loc = rng.normal(size=(dim, 4)), rng.normal(size=dim)
    precision = np.linalg.inv(np.eye(dim) + factor @ factor.T)

    def log_density(z):
        gradient = -(z - loc) @ precision
        return 0.5 * np.sum((z - loc) * gradient, 1), gradient

    fit = klqp.fit(log_density, dim, q="low_rank", rank=6, n_iter=200, seed=3)
    covariance = fit.posterior["z"].covariance()
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() > 0.1
    z = fit.posterior["z"].sample(20, seed=4)
    dense = stats.multivariate_normal(fit.posterior["z"].mean(), covariance).logpdf(z)
    tolerance = 20 * EPS * dim * np.linalg.cond(covariance)
    np.testing.assert_allclose(fit.posterior.log_prob(z), dense, rtol=tolerance)


# --- refusals ------------------------------------------------------------------------------------


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match="unknown family 'cauchy'; there are 'mean_field'"):
        _core.FamilySpec("cauchy", 2)
    with pytest.raises(ValueError, match="dimension must be at least 1, not 0"):
        _core.FamilySpec("mean_field", 0)
    with pytest.raises(ValueError, match="rank must be at least 1, not 0"):
        _core.FamilySpec("low_rank", 3)
    with pytest.raises(ValueError, match="scale must be 'exp', 'softplus' or 'linear', not 'log'"):
        _core.FamilySpec("mean_field", 3, scale="log")


@cases(2)
def test_wrong_shapes_are_refused(case):
    spec, member = case.spec, case.member
    with pytest.raises(ValueError, match=r"params must have shape \(\d+,\)"):
        _core.Member(spec, case.params[:-1])
    with pytest.raises(ValueError, match=r"noise must have shape"):
        member.transform(np.zeros((3, spec.noise_dim + 1)))
    for method in (member.log_density, member.precision_times, member.standardise):
        with pytest.raises(ValueError, match=r"z must have shape \(n, 2\)"):
            method(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"weights must have shape \(3,\)"):
        member.score(np.zeros((3, 2)), np.ones(2))
    with pytest.raises(ValueError, match=r"loc must have shape \(2,\)"):
        spec.start(np.zeros(3), np.ones(2), 0)
