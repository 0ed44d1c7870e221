"""The families that are not Normal: draws, densities, pullbacks, entropies and moments against SciPy and quadrature."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import special, stats

import klqp
from klqp import _core
from klqp.family_parts import Marginals, df_of, is_normal, join_mixture, normal_part, rho_of_df, split_mixture

STUDENT_T = ("student_t", "mean_field_student_t")
MIXTURES = ("mixture", "mean_field_mixture")
SCALES = ("exp", "softplus", "linear")
STREAM = 1
K = 3


def of_name(name):
    return _core.FamilySpec(name, 2, rank=1, components=1, blocks=[2])


def spec_of(name, dim, scale="exp", df=0.0):
    return _core.FamilySpec(name, dim, scale=scale, df=df, components=K if name in MIXTURES else 0)


def random_params(spec, seed):
    rng = np.random.default_rng([seed, spec.dim])
    params = spec.start(rng.normal(size=spec.dim), rng.uniform(1.5, 3, spec.dim), seed)
    return spec.project(params + 0.3 * rng.normal(size=params.size))


@dataclass
class Case:
    """A member, and its components as SciPy has them."""

    spec: _core.FamilySpec
    params: np.ndarray

    def __post_init__(self):
        self.member = _core.Member(self.spec, self.params)
        normal = normal_part(self.spec)
        if self.spec.components:
            self.weights, parts = split_mixture(self.spec, self.params)
        else:
            self.weights, parts = np.ones(1), [self.params[: normal.n_params]]
        members = [_core.Member(normal, np.ascontiguousarray(p)) for p in parts]
        self.locs = [m.mean() for m in members]
        self.shapes = [m.covariance() for m in members]
        self.df = math.inf if self.spec.components else df_of(self.spec, self.params)

    def laws(self):
        for loc, shape in zip(self.locs, self.shapes, strict=True):
            normal = math.isinf(self.df)
            yield stats.multivariate_normal(loc, shape) if normal else stats.multivariate_t(loc, shape, self.df)

    def log_density(self, z):
        parts = [np.log(w) + law.logpdf(z).reshape(-1) for w, law in zip(self.weights, self.laws(), strict=True)]
        return special.logsumexp(parts, axis=0)

    def cdf(self, i, x):
        """Return the distribution function of coordinate i."""
        total = 0.0
        for w, loc, shape in zip(self.weights, self.locs, self.shapes, strict=True):
            u = (x - loc[i]) / math.sqrt(shape[i, i])
            total = total + w * (special.ndtr(u) if math.isinf(self.df) else special.stdtr(self.df, u))
        return total

    def noise(self, n, seed=0):
        return np.random.default_rng([seed, 1]).normal(size=(n, self.spec.noise_dim))

    def draw(self, n, seed=3, first=0):
        return self.member.transform(self.member.noise(seed, STREAM, first, n))


def cases(names, *dims, fixed=False):
    rows = [(name, dim, scale, 0.0) for name in names for dim in dims for scale in SCALES]
    rows += [(name, dim, "exp", 4.0) for name in names for dim in dims if fixed and name in STUDENT_T]
    return pytest.mark.parametrize("case", [pytest.param(r, id="-".join(map(str, r))) for r in rows], indirect=True)


@pytest.fixture
def case(request):
    spec = spec_of(*request.param)
    return Case(spec, random_params(spec, 7))


ALL = (*STUDENT_T, *MIXTURES)


def central_differences(f, x, h):
    """Return the derivatives of f: (n,) -> float, by Richardson's extrapolation of two steps."""

    def difference(step):
        return np.array([(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(x.size)])

    return (4 * difference(h / 2) - difference(h)) / 3


def test_every_family_of_the_registry_is_tested():
    others = {name for name in _core.FAMILIES if not of_name(name).normal}
    assert others == set(ALL) == {name for name in _core.FAMILIES if not is_normal(of_name(name))}


# --- the map ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("df", [2.001, 3.0, 10.0, 100.0, 1e4, 3.9e4, 4.1e4, 1e6])
def test_the_radial_factor_has_the_law_of_chi_squared(df):
    """Probabilities of g = df / r^2 are those of the normal that it is made of, in both tails."""
    x = np.linspace(-8, 8, 65)
    z = _core.Member(spec_of("student_t", 1, df=df), np.zeros(2)).transform(np.stack([x, np.ones(65)], 1))[:, 0]
    g = df / z**2
    error = np.where(
        x < 0,
        stats.chi2.logcdf(g, df) - stats.norm.logcdf(x),
        stats.chi2.logsf(g, df) - stats.norm.logsf(x),
    )
    assert np.abs(error).max() < (1e-10 if df < 4e4 else 1e-7)


@cases(STUDENT_T, 1, 2, 5, 17, fixed=True)
def test_student_t_stretches_the_normals_draws(case):
    noise, normal = case.noise(4), normal_part(case.spec)
    g = stats.chi2(case.df).ppf(special.ndtr(noise[:, :1]))
    member = _core.Member(normal, case.params[: normal.n_params])
    expected = member.transform(np.ascontiguousarray(noise[:, 1:] * np.sqrt(case.df / g)))
    np.testing.assert_allclose(case.member.transform(noise), expected, rtol=1e-9, atol=1e-12)


@cases(MIXTURES, 1, 2, 5, 17)
def test_a_mixture_chooses_components_by_the_cumulated_weights(case):
    noise, normal = case.noise(40), normal_part(case.spec)
    chosen = np.searchsorted(np.cumsum(case.weights), special.ndtr(noise[:, 0]))
    assert len(set(chosen)) == K
    _, parts = split_mixture(case.spec, case.params)
    for eps, k, z in zip(noise[:, 1:], chosen, case.member.transform(noise), strict=True):
        member = _core.Member(normal, np.ascontiguousarray(parts[k]))
        np.testing.assert_array_equal(member.transform(np.ascontiguousarray(eps[None]))[0], z)


@cases(ALL, 1, 2, 5, 17, fixed=True)
def test_standardised_points_give_the_points_back(case):
    z = case.draw(20)
    e = case.member.standardise(z)
    np.testing.assert_allclose(case.member.transform(e), z, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(case.member.log_density_of_noise(e), case.member.log_density(z), rtol=1e-10, atol=1e-10)
    noise = case.noise(3)
    np.testing.assert_array_equal(case.member.standardise_noise(noise), noise)


@cases(ALL, 1, 2, 5)
def test_start(case):
    """The location and scale asked for, a Student-t's spread and the distance of components aside."""
    spec, rng = case.spec, np.random.default_rng(3)
    loc, scale = rng.normal(size=spec.dim), rng.uniform(1e-3, 30, spec.dim)
    start = spec.start(loc, scale, 5)
    np.testing.assert_array_equal(spec.start(loc, scale, 5), start)
    started = Case(spec, start)
    if spec.components:
        np.testing.assert_allclose(started.weights, 1 / K)
        assert np.all(np.abs(np.array(started.locs) - loc) < 5 * scale)
        assert len({tuple(x) for x in started.locs}) == K
    else:
        np.testing.assert_array_equal(started.locs[0], loc)
        assert started.df == pytest.approx(10.0, rel=1e-4)
    for shape in started.shapes:
        np.testing.assert_allclose(np.sqrt(np.diag(shape)), scale, rtol=1e-12)


# --- densities and gradients --------------------------------------------------------------------------------------
@cases(ALL, 1, 2, 5, 17, fixed=True)
def test_log_density(case):
    noise = case.noise(20)
    z = case.member.transform(noise)
    np.testing.assert_allclose(case.member.log_density(z), case.log_density(z), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(case.member.log_density_of_noise(noise), case.log_density(z), rtol=1e-9, atol=1e-9)


@cases(ALL, 1, 2, 5, fixed=True)
def test_precision_is_minus_the_gradient_of_the_log_density(case):
    z = case.draw(4)
    for point, row in zip(z, case.member.precision_times(z), strict=True):
        expected = -central_differences(lambda x: case.member.log_density(x[None])[0], point, 1e-2)
        np.testing.assert_allclose(row, expected, rtol=1e-7, atol=1e-7)


@cases(ALL, 1, 2, 5, fixed=True)
def test_score(case):
    z, weights = case.draw(3), np.array([0.5, -1.0, 2.0])
    expected = central_differences(lambda p: weights @ _core.Member(case.spec, p).log_density(z), case.params, 1e-2)
    np.testing.assert_allclose(case.member.score(z, weights), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@cases(ALL, 1, 3)
def test_expected_score_is_zero(case):
    z = case.draw(30_000, 11).reshape(300, 100, case.spec.dim)
    batches = np.array([case.member.score(batch, np.full(100, 0.01)) for batch in z])
    errors = batches.mean(0) / (batches.std(0, ddof=1) / math.sqrt(300))
    assert np.max(np.abs(errors)) < 4.5


@cases(ALL, 1, 2, 5, fixed=True)
def test_pullback(case):
    """Of a mixture: by the parameters of the components, at a fixed choice of them."""
    noise, first = case.noise(6), case.spec.components
    cot = np.random.default_rng(5).normal(size=(6, case.spec.dim))

    def value(rest):
        params = np.concatenate([case.params[:first], rest])
        return np.sum(cot * _core.Member(case.spec, params).transform(noise))

    actual = case.member.pullback(noise, cot)
    expected = central_differences(value, case.params[first:], 1e-2)
    np.testing.assert_allclose(actual[first:], expected, rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(actual[:first], 0.0)


@cases(STUDENT_T, 1, 2, 5, 17, fixed=True)
def test_entropy_and_its_gradient(case):
    (law,) = case.laws()
    assert case.spec.has_entropy
    assert case.member.entropy() == pytest.approx(float(law.entropy()), rel=1e-9, abs=1e-9)
    gradient = central_differences(lambda p: _core.Member(case.spec, p).entropy(), case.params, 1e-2)
    np.testing.assert_allclose(case.member.entropy_gradient(), gradient, rtol=1e-7, atol=1e-7)


@cases(STUDENT_T, 1)
def test_entropy_against_quadrature(case):
    x = case.locs[0] + math.sqrt(case.shapes[0][0, 0]) * np.sinh(np.linspace(-12, 12, 20_001))
    log_q = case.member.log_density(x[:, None])
    assert case.member.entropy() == pytest.approx(-np.trapezoid(np.exp(log_q) * log_q, x), rel=1e-6)


@cases(MIXTURES, 2)
def test_the_entropy_of_a_mixture_has_no_formula(case):
    assert not case.spec.has_entropy
    assert math.isnan(case.member.entropy())


# --- draws and moments --------------------------------------------------------------------------------------------
@cases(ALL, 1, 5)
def test_samples(case):
    n = 40_000
    z = case.draw(n)
    for i in range(case.spec.dim):
        assert stats.kstest(z[:, i], lambda x, i=i: case.cdf(i, x)).pvalue > 1e-4
    np.testing.assert_array_equal(case.draw(5, first=10), z[10:15])
    assert not np.any(case.draw(5, seed=4) == z[:5])


@cases(ALL, 1, 2, 5, 17, fixed=True)
def test_moments(case):
    inflation = 1.0 if math.isinf(case.df) else case.df / (case.df - 2)
    mean = case.weights @ np.array(case.locs)
    covariance = sum(
        w * (inflation * shape + np.outer(loc - mean, loc - mean))
        for w, loc, shape in zip(case.weights, case.locs, case.shapes, strict=True)
    )
    np.testing.assert_allclose(case.member.mean(), mean, rtol=1e-13)
    np.testing.assert_allclose(case.member.covariance(), covariance, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(case.member.stddev(), np.sqrt(np.diag(covariance)), rtol=1e-10)
    np.testing.assert_array_equal(case.member.covariance(), case.member.covariance().T)


@cases(ALL, 1, 3, fixed=True)
@pytest.mark.parametrize("probability", [1e-6, 0.05, 0.5, 0.95, 1 - 1e-6])
def test_quantiles(case, probability):
    x = Marginals.of(case.spec, case.params).quantile(probability)
    for i in range(case.spec.dim):
        assert case.cdf(i, x[i]) == pytest.approx(probability, rel=1e-9)


# --- changes of the parameters ------------------------------------------------------------------------------------
@cases(ALL, 1, 5)
def test_projection(case):
    np.testing.assert_array_equal(case.spec.project(case.params), case.params)
    projected = case.spec.project(-case.params)
    np.testing.assert_array_equal(case.spec.project(projected), projected)
    assert np.all(np.isfinite(_core.Member(case.spec, projected).log_density(np.zeros((1, case.spec.dim)))))


@cases(ALL, 1, 5)
@pytest.mark.parametrize("factor", [0.5, 2.0**-20])
def test_contraction_scales_the_covariance(case, factor):
    member = _core.Member(case.spec, case.spec.contract(case.params, factor))
    np.testing.assert_allclose(member.mean(), case.member.mean(), rtol=1e-12)
    expected = factor**2 * case.member.covariance()
    np.testing.assert_allclose(member.covariance(), expected, rtol=1e-8, atol=1e-8 * expected.max())


@pytest.mark.parametrize("df", [2.01, 3.0, 10.0, 1e5])
def test_the_parameter_of_the_degrees_of_freedom(df):
    spec = spec_of("student_t", 2)
    assert df_of(spec, np.append(np.zeros(5), rho_of_df(df))) == pytest.approx(df, rel=1e-9)
    assert 2 < df_of(spec, np.append(np.zeros(5), -40.0)) < df_of(spec, np.append(np.zeros(5), 800.0)) <= 1e6 + 3


def test_components_of_no_weight_change_nothing():
    spec, other = spec_of("mixture", 3), _core.FamilySpec("mixture", 3, components=6)
    params = random_params(spec, 3)
    weights, parts = split_mixture(spec, params)
    wide = join_mixture(other, weights, parts)
    few, many = _core.Member(spec, params), _core.Member(other, wide)
    z = few.transform(few.noise(1, STREAM, 0, 50))
    np.testing.assert_allclose(many.log_density(z), few.log_density(z), rtol=1e-12)
    np.testing.assert_allclose(many.transform(few.noise(1, STREAM, 0, 50)), z, rtol=1e-12)
    assert np.all(split_mixture(other, wide)[0][3:] == 0)


# --- runs ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ALL)
def test_threads_give_the_same_bits(name):
    dim, latents = 40, []
    for n_threads in (1, 2, 3):
        fit = klqp.fit(
            lambda z: (-0.5 * (z**2).sum(1), -z),
            dim,
            q={"student_t": klqp.FullRankStudentT, "mean_field_student_t": klqp.MeanFieldStudentT}.get(
                name, lambda: klqp.NormalMixture(n_components=3, components=normal_part(spec_of(name, 2)).name)
            )(),
            n_iter=30,
            n_samples=16,
            seed=1,
            n_threads=n_threads,
        )
        latents.append(fit._engine.run.params)
    np.testing.assert_array_equal(latents[0], latents[1])
    np.testing.assert_array_equal(latents[0], latents[2])


def test_refusals():
    with pytest.raises(ValueError, match="df must be above 2"):
        _core.FamilySpec("student_t", 2, df=2.0)
    with pytest.raises(ValueError, match="components must be at least 1, not 0"):
        _core.FamilySpec("mixture", 2)
