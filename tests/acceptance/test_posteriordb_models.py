"""Real models in klqp's words: their log densities and gradients are those of NumPy. Skips without the posteriors.

The folder is that of ``test_posteriordb.py``. The models give the same density as Stan's on the same unconstrained
coordinates, in the same order, up to a constant.
"""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import klqp

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
