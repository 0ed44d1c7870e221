"""The block family: exact optima of Normal targets, its blocks in models, and what is refused."""

import re

import numpy as np
import pytest

import klqp
from klqp import _core
from klqp.families import MOST_IN_A_BLOCK
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.candidate import from_path, from_precision
from klqp.inference.auto.pathfinder import PathNormal
from klqp.inference.gaussian import factor_times, full_blocks, pack, unpack, whiten

SIZES = [1, 3, 2, 1, 1]
DIM = sum(SIZES)
ENDS = np.cumsum(SIZES)
SPEC = _core.FamilySpec("block", DIM, blocks=SIZES)


def covariance_of(seed=0, dim=DIM):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(dim, dim))
    return root @ root.T / dim + 0.3 * np.eye(dim)


def in_blocks(matrix):
    """Return the matrix with zeros outside the blocks."""
    out = np.zeros_like(matrix)
    for size, end in zip(SIZES, ENDS, strict=True):
        b = slice(end - size, end)
        out[b, b] = matrix[b, b]
    return out


def normal(loc, precision):
    constant = 0.5 * np.linalg.slogdet(precision)[1] - 0.5 * len(loc) * np.log(2 * np.pi)

    def fn(z):
        grad = -(z - loc) @ precision
        return constant + 0.5 * ((z - loc) * grad).sum(1), grad

    return fn


def fitted(covariance, seed=1, **options):
    loc = np.arange(len(covariance), dtype=float)
    q = klqp.BlockNormal(blocks=SIZES)
    return klqp.fit(normal(loc, np.linalg.inv(covariance)), len(loc), q=q, seed=seed, **options)


# --- parameters -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", ["exp", "softplus", "linear"])
def test_parameters_are_location_and_factor(scale):
    """pack, unpack, factor_times and whiten against the core's own map."""
    spec = _core.FamilySpec("block", DIM, scale=scale, blocks=SIZES)
    rng = np.random.default_rng(3)
    params = spec.start(rng.normal(size=DIM), rng.uniform(1, 2, DIM), 1) + 0.2 * rng.normal(size=spec.n_params)
    loc, sd, rest = unpack(spec, params)
    assert rest.shape == (DIM, 3)
    noise = rng.normal(size=(4, DIM))
    member = _core.Member(spec, params)
    np.testing.assert_allclose(loc + factor_times(spec, sd, rest, noise), member.transform(noise), rtol=1e-13)
    np.testing.assert_allclose(pack(spec, loc, sd, rest), params, rtol=1e-12, atol=1e-14)
    factor = factor_times(spec, sd, rest, np.eye(DIM)).T
    np.testing.assert_allclose(whiten(spec, sd, rest, noise), noise @ factor, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(member.covariance(), in_blocks(factor @ factor.T), rtol=1e-12, atol=1e-14)


def test_one_block_is_the_full_rank_family_and_blocks_of_one_are_mean_field():
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(4, DIM))
    for name, sizes in [("full_rank", [DIM]), ("mean_field", [1] * DIM)]:
        spec, twin = _core.FamilySpec("block", DIM, blocks=sizes), _core.FamilySpec(name, DIM)
        assert spec.n_params == twin.n_params
        params = rng.normal(size=spec.n_params)
        np.testing.assert_array_equal(
            _core.Member(spec, params).transform(noise), _core.Member(twin, params).transform(noise)
        )


def test_candidates_are_the_nearest_members():
    """The optimum for a Normal target: the inverses of the precision's diagonal blocks."""
    precision = np.linalg.inv(covariance_of())
    wanted = np.linalg.inv(in_blocks(precision))
    rng = np.random.default_rng(5)
    q, _ = np.linalg.qr(rng.normal(size=(DIM, 2)))
    path = PathNormal(np.zeros(DIM), rng.uniform(0.5, 2, DIM), q, np.array([[2.0, 0.5], [0.5, 0.7]]))
    for found, expected in [
        (from_precision(SPEC, np.zeros(DIM), precision, 0), wanted),
        (from_path(SPEC, path, 0), np.linalg.inv(in_blocks(np.linalg.inv(path.covariance())))),
    ]:
        factor = factor_times(SPEC, found.scale, found.rest, np.eye(DIM)).T
        np.testing.assert_allclose(factor @ factor.T, expected, rtol=1e-10, atol=1e-12)


def test_base_draws_have_exact_moments_in_each_block():
    spec = _core.FamilySpec("block", 600, blocks=[20] * 30)
    draws = base_draws(256, 600, 7, 0, full_blocks(spec))
    for b in full_blocks(spec):
        np.testing.assert_allclose(draws[:, b].T @ draws[:, b] / 256, np.eye(20), atol=1e-12)


# --- fits -----------------------------------------------------------------------------------------------------
def test_a_block_diagonal_normal_is_recovered():
    covariance = in_blocks(covariance_of())
    inference = fitted(covariance)
    draws = inference.posterior.elbo(1000, seed=2)
    assert abs(draws.value) < 1e-4
    np.testing.assert_allclose(inference.posterior["z"].covariance(), covariance, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(inference.posterior["z"].mean(), np.arange(DIM), atol=1e-3)
    verdict = inference.diagnose(seed=3)
    assert verdict.word == "ok"
    assert verdict.evidence.remaining < 1e-4


@pytest.mark.parametrize("method", ["auto", "saa"])
def test_the_optimum_for_any_normal_is_the_inverse_of_the_precisions_blocks(method):
    covariance = covariance_of(2)
    wanted = np.linalg.inv(in_blocks(np.linalg.inv(covariance)))
    with pytest.warns(klqp.PoorFitWarning) if method == "auto" else np.errstate():
        inference = fitted(covariance, method=method)
    np.testing.assert_allclose(inference.posterior["z"].covariance(), wanted, rtol=1e-2, atol=2e-3)
    gap = 0.5 * (np.linalg.slogdet(wanted)[1] - np.linalg.slogdet(covariance)[1])
    elbo = inference.posterior.elbo(20_000, seed=2)
    assert abs(elbo.value - gap) < 5 * elbo.std_error
    assert inference.diagnose(seed=3).evidence.converged


def test_steps_of_an_optimizer_find_it_too():
    covariance = in_blocks(covariance_of())
    inference = fitted(covariance, n_iter=4000)
    np.testing.assert_allclose(inference.posterior["z"].covariance(), covariance, atol=0.05)


def test_the_check_of_gradients_sees_each_block():
    """An optimum whose block is turned: what remains is the KL divergence, to second order."""
    covariance = in_blocks(covariance_of())
    inference = fitted(covariance)
    params = inference._engine.run.params.copy()
    loc, scale, rest = unpack(SPEC, params)
    rest[2, 0] += 0.2 * scale[2]
    inference._engine.run.set_params(pack(SPEC, loc, scale, rest))
    inference._outcome = inference._posterior = None
    found = inference.diagnose(2000, seed=3).evidence
    factor = factor_times(SPEC, scale, rest, np.eye(DIM)).T
    turned = np.linalg.inv(covariance) @ factor @ factor.T
    exact = 0.5 * (np.trace(turned) - DIM - np.linalg.slogdet(turned)[1])
    assert found.remaining == pytest.approx(exact, rel=0.1)
    assert exact > 0.01


# --- models ---------------------------------------------------------------------------------------------------
def regression(q=None, **blocks):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3)) + rng.normal(size=(80, 1))
    w, b, c = (klqp.Normal(np.zeros(n), 1.0, name=name) for n, name in [(3, "w"), (1, "b"), (1, "c")])
    y = klqp.Normal(x @ w + b + 0.5 * c, 0.5, name="y")
    return [w, b, c], {y: x @ np.array([1.0, -1.0, 0.5]) + 0.3}


def correlations(inference):
    draws = inference.posterior.sample(4000, seed=3)
    return np.corrcoef(np.concatenate([draws[name].reshape(4000, -1) for name in ("w", "b", "c")], axis=1).T)


@pytest.mark.filterwarnings("ignore::klqp.errors.PoorFitWarning")
def test_each_latent_variable_is_a_block_unless_blocks_are_given():
    latents, data = regression()
    inference = klqp.KLqp(latents, data, q="block")
    inference.run(seed=1)
    r = np.abs(correlations(inference))
    assert r[0, 1] > 0.2
    assert np.all(r[:3, 3:] < 0.06)
    assert r[3, 4] < 0.06
    w, b, c = latents
    for q in (klqp.BlockNormal(blocks=[w, [b, c]]), klqp.BlockNormal(latents, blocks=[3, 2])):
        joint = klqp.KLqp(latents, data, q=q)
        joint.run(seed=1)
        r = np.abs(correlations(joint))
        assert r[0, 1] > 0.2
        assert np.all(r[:3, 3:] < 0.06)
        assert r[3, 4] > 0.5
        assert joint.posterior.elbo(4000, seed=2).value > inference.posterior.elbo(4000, seed=2).value + 0.1


def test_a_large_variable_is_mean_field():
    n = MOST_IN_A_BLOCK + 1
    z, w = klqp.Normal(np.zeros(n), 1.0, name="z"), klqp.Normal(np.zeros(2), 1.0, name="w")
    assert klqp.BlockNormal([z, w]).sizes_for(n + 2) == [1] * n + [2]


def test_blocks_by_name_in_a_flat_fit():
    """One variable, one block: the full-rank optimum."""
    covariance = covariance_of(1)
    inference = klqp.fit(normal(np.zeros(DIM), np.linalg.inv(covariance)), DIM, q="block", seed=1)
    np.testing.assert_allclose(inference.posterior["z"].covariance(), covariance, rtol=1e-2, atol=2e-3)
    assert "block Normal" in inference.estimator


def test_what_blocks_cannot_be():
    a, b = klqp.Normal(0.0, 1.0, name="a"), klqp.Normal(np.zeros(2), 1.0, name="b")
    for blocks, kind, words in [
        ([0, 3], ValueError, "a block must be"),
        (["a", "b"], TypeError, "a block must be"),
        ([1, [b]], TypeError, "blocks must all be"),
        ([[b], [a]], ValueError, "in their order ['a', 'b']"),
        ([[a]], ValueError, "in their order ['a', 'b']"),
    ]:
        with pytest.raises(kind, match=re.escape(words)):
            klqp.BlockNormal([a, b], blocks=blocks)
    with pytest.raises(ValueError, match="the blocks have 4 coordinates, but q is over 3"):
        klqp.fit(lambda z: (-0.5 * (z**2).sum(1), -z), 3, q=klqp.BlockNormal(blocks=[2, 2]))
    for blocks, words in [([1, 1], "the blocks have 2"), ([], "the blocks have 0"), ([4, -1], "at least 1 coordinate")]:
        with pytest.raises(ValueError, match=words):
            _core.FamilySpec("block", 3, blocks=blocks)


def test_a_thousand_coordinates_in_blocks_of_five():
    """Exact, from the blocks of the curvature: no matrix over all coordinates."""
    dim, size = 1000, 5
    rng = np.random.default_rng(6)
    roots = rng.normal(size=(dim // size, size, size)) / 2 + 2 * np.eye(size)
    covariances = roots @ roots.transpose(0, 2, 1)
    precisions = np.linalg.inv(covariances)

    def fn(z):
        by_block = z.reshape(len(z), -1, size).transpose(1, 0, 2)
        grad = -(by_block @ precisions).transpose(1, 0, 2).reshape(z.shape)
        return 0.5 * (z * grad).sum(1), grad

    inference = klqp.fit(fn, dim, q=klqp.BlockNormal(blocks=[size] * (dim // size)), seed=1)
    best = 0.5 * np.linalg.slogdet(covariances)[1].sum() + 0.5 * dim * np.log(2 * np.pi)
    elbo = inference.posterior.elbo(1000, seed=2)
    assert abs(elbo.value - best) < 0.1 + 3 * elbo.std_error
