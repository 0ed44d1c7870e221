"""Real posteriors: fits reach the best ELBO of their family. Needs a folder of posteriors, skips without it.

The folder is that of ``python -m bench.posteriors``: the environment variable KLQP_POSTERIORDB, or
``shared/posteriordb`` beside the checkout. The bench fits all posteriors; here are three quick ones.
"""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest

import klqp
from klqp.optimizers import Adam
from klqp.schedules import Exponential

FOLDER = Path(os.environ.get("KLQP_POSTERIORDB", Path(__file__).resolve().parents[3] / "shared" / "posteriordb"))
QUICK = ["mesquite-logmesquite_logvash", "eight_schools-eight_schools_noncentered", "surgical_data-surgical_model"]
FAMILIES = {"mean_field": "meanfield", "full_rank": "fullrank"}


@pytest.fixture(scope="module")
def posteriors():
    if not (FOLDER / "data.json").is_file() or not (FOLDER / "posteriors.py").is_file():
        pytest.skip(f"no posteriors with their data in {FOLDER}")
    spec = importlib.util.spec_from_file_location("posteriors", FOLDER / "posteriors.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("q", FAMILIES)
@pytest.mark.parametrize("name", QUICK)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_reaches_the_best_elbo_of_the_family(posteriors, name, q):
    best = json.loads((FOLDER / "best_gaussian.json").read_text())[name][FAMILIES[q]]
    p = posteriors.make(name)
    optimizer = Adam(learning_rate=0.1, schedule=Exponential(1e-3))
    fit = klqp.fit(p.log_density, p.dim, q=q, n_iter=20_000, entropy="sticking", optimizer=optimizer, seed=1)
    elbo = fit.posterior.elbo(20_000, seed=2)
    assert elbo.value > best["elbo"] - 0.1
    if q == "full_rank":
        assert np.all(np.abs(fit.posterior["z"].mean() - best["mu"]) < 0.15 * np.asarray(best["sd"]))
