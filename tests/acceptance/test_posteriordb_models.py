"""Real models in klqp's words: their log densities and gradients are those of NumPy.

The models give the same density as Stan's on the same unconstrained coordinates, in the same order, up to a constant.
That needs the folder of posteriors of ``test_posteriordb.py``, and skips without it; on simulated data the gradients
are compared with differences.
"""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import klqp
from klqp.testing import check_gradient

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("KLQP_POSTERIORDB", HERE.parents[2] / "shared" / "posteriordb"))
NAMES = [
    "kidiq-kidscore_interaction",
    "kidiq-kidscore_momhs",
    "earnings-logearn_interaction_z",
    "earnings-logearn_height",
    "mesquite-logmesquite_logvash",
    "nes1976-nes",
    "nes2000-nes",
    "sblri-blr",
    "arK-arK",
    "eight_schools-eight_schools_noncentered",
    "eight_schools-eight_schools_centered",
    "low_dim_gauss_mix-low_dim_gauss_mix",
    "gp_pois_regr-gp_regr",
    "hmm_example-hmm_example",
    "garch-garch11",
    "wells_data-wells_dist100ars_model",
    "GLM_Poisson_Data-GLM_Poisson_model",
    "radon_mn-radon_hierarchical_intercept_noncentered",
    "surgical_data-surgical_model",
    "one_comp_mm_elim_abs-one_comp_mm_elim_abs",
]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODELS = load(HERE / "posteriordb_models.py").MODELS


@pytest.fixture(scope="module")
def posteriors():
    if not (FOLDER / "data.json").is_file() or not (FOLDER / "posteriors.py").is_file():
        pytest.skip(f"no posteriors with their data in {FOLDER}")
    return load(FOLDER / "posteriors.py")


def simulated(n=20):
    """Data with the names that the models read."""
    rng = np.random.default_rng(0)
    data = {name: rng.normal(size=n) for name in ("y", "x", "height", "mom_iq", "real_ideo", "race_adj", "income")}
    data |= {
        name: rng.normal(size=n) for name in ("educ1", "partyid7", "kid_score", "log_radon", "log_uppm", "arsenic")
    }
    data |= {name: rng.integers(0, 2, n) for name in ("mom_hs", "male", "group", "gender", "switched", "floor_measure")}
    positive = ("earn", "weight", "diam1", "diam2", "canopy_height", "total_height", "dist", "sigma", "C_hat")
    data |= {name: rng.gamma(3.0, 1.0, n) for name in positive}
    data |= {"X": rng.normal(size=(n, 3)), "age_discrete": rng.integers(1, 5, n), "n": np.full(n, 9), "K": 2}
    data |= {"r": rng.integers(0, 10, n), "C": rng.poisson(2.0, n), "year": np.linspace(-1, 1, n), "sigma1": 0.5}
    return data | {"county_idx": np.arange(n) % 4 + 1, "J": 4, "times": np.arange(1.0, n + 1), "D": 30.0, "V": 2.0}


@pytest.mark.parametrize("model", MODELS)
def test_gradient_on_simulated_data(model):
    data = simulated()
    if model.startswith("eight_schools"):
        data = {key: data[key][:8] for key in ("y", "sigma")}
    log_joint = klqp.LogJoint(*MODELS[model](data))
    check_gradient(log_joint, log_joint.dim, scale=0.3, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_density_and_gradient(posteriors, name):
    p = posteriors.make(name)
    latent_vars, data = MODELS[name.split("-", 1)[1]](p.d)
    log_joint = klqp.LogJoint(latent_vars, data)
    assert log_joint.dim == p.dim
    rng = np.random.default_rng(0)
    u = p.unc_mean + 2 * p.unc_sd * rng.normal(size=(20, p.dim))
    logp, grad = log_joint(u)
    expected, expected_grad = p.log_density(u)
    good = np.isfinite(expected)
    assert good.sum() >= 10
    difference = (logp - expected)[good]
    np.testing.assert_allclose(difference, difference[0], rtol=0, atol=1e-9 * np.abs(expected[good]).max())
    size = np.abs(expected_grad[good]).max(1, keepdims=True)
    assert np.all(np.abs(grad - expected_grad)[good] <= 1e-9 * size)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_coordinates_are_those_of_stan(posteriors, name):
    p = posteriors.make(name)
    log_joint = klqp.LogJoint(*MODELS[name.split("-", 1)[1]](p.d))
    u = p.unc_mean + p.unc_sd * np.random.default_rng(1).normal(size=(5, p.dim))
    values, expected = log_joint.constrain(u), p.constrain(u)
    np.testing.assert_allclose(log_joint.unconstrain(values), u, rtol=1e-9, atol=1e-9)
    for variable, value in values.items():
        if value.ndim == 1:
            value, keys = value[:, None], [variable]
        else:
            keys = [f"{variable}[{k + 1}]" for k in range(value.shape[1])]
        for k, key in enumerate(keys):
            if key in expected:
                np.testing.assert_allclose(value[:, k], expected[key], rtol=1e-12)
