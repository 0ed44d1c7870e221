"""bench.posteriors: reading targets, its statistics on made-up rows, and what it takes as known of built-in targets."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
MODULES = ("targets", "hard", "answer", "measure", "score", "report", "__main__")


@pytest.fixture(scope="module")
def bench():
    """Return its modules by name, without a lasting change of the path."""
    if not (CHECKOUT / "bench" / "posteriors").is_dir():
        pytest.skip("bench/ is not beside the tests")
    path = list(sys.path)
    importlib.import_module("klqp")  # the installed one, before the checkout is on the path
    sys.path.append(str(CHECKOUT))
    try:
        yield {name: importlib.import_module(f"bench.posteriors.{name}") for name in MODULES}
    finally:
        sys.path[:] = path


@pytest.fixture(scope="module")
def hard(bench):
    return bench["hard"].hard_targets()


class Standard:
    name, dim = "standard", 3

    def log_density(self, z):
        return -0.5 * (z**2).sum(1), -z


def write(folder, text):
    path = folder / "mine.py"
    path.write_text("import numpy as np\n" + text)
    return path


TARGET = """
class Target:
    def __init__(self, name="standard"):
        self.name, self.dim = name, 3
    def log_density(self, z):
        return -0.5 * (z**2).sum(1), -z
"""


# --- targets -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "value",
    [
        "[Target()]",
        "{'a': Target()}",
        "{'a': Target}",
        "lambda: [Target()]",
        "Target()",
        "(Target() for _ in range(1))",
    ],
)
def test_targets_of_a_file(bench, tmp_path, value):
    path = write(tmp_path, TARGET + f"TARGETS = {value}\nothers = [Target('x'), Target('y')]\n")
    (found,) = bench["targets"].from_module(str(path))
    assert (found.name, found.dim, dict(found.best), found.has_optimum) == ("standard", 3, {}, True)
    np.testing.assert_array_equal(found.log_density(np.ones((2, 3)))[0], [-1.5, -1.5])
    assert [t.name for t in bench["targets"].from_module(f"{path}:others")] == ["x", "y"]


def test_a_file_may_have_neighbours_and_dataclasses(bench, tmp_path):
    (tmp_path / "neighbour_of_targets.py").write_text("DIM = 3\n")
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom neighbour_of_targets import DIM\n"
        "@dataclass\nclass Target:\n    name: str = 'mine'\n    dim: int = DIM\n"
        "    def log_density(self, z):\n        return -0.5 * (z**2).sum(1), -z\nTARGETS = [Target()]\n"
    )
    assert bench["targets"].from_module(str(path))[0].dim == 3


def test_what_is_wrong_with_a_target_is_said(bench, tmp_path):
    checked = bench["targets"].checked
    with pytest.raises(TypeError, match="has no dim"):
        checked(type("T", (), {"name": "x", "log_density": None})())
    only_value = Standard()
    only_value.log_density = lambda z: -0.5 * (z**2).sum(1)
    with pytest.raises(TypeError, match=r"logp \(2,\) and its gradient \(2, 3\), not \(2,\)"):
        checked(only_value)
    wrong_family = Standard()
    wrong_family.best = {"meanfield": {"elbo": 0.0}}
    with pytest.raises(TypeError, match="'meanfield'"):
        checked(wrong_family)
    with pytest.raises(AttributeError, match="no 'TARGETS'"):
        bench["targets"].from_module(str(write(tmp_path, TARGET)))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
        bench["targets"].from_module("nowhere.py")


def test_a_folder_of_posteriors(bench, tmp_path, capsys):
    text = TARGET + "def make(name):\n    return {'here': Target('here')}[name]\n"
    write(tmp_path, text).rename(tmp_path / "posteriors.py")
    best = {"meanfield": {"elbo": 2.0}, "fullrank": {"elbo": 2.5}}
    (tmp_path / "best_gaussian.json").write_text(json.dumps({"here": best, "absent": best}))
    (found,) = bench["targets"].from_folder(tmp_path)
    assert found.name == "here"
    assert found.best == {"mean_field": {"elbo": 2.0}, "full_rank": {"elbo": 2.5}}
    assert "absent: left out" in capsys.readouterr().out


def test_counts(bench):
    counted = bench["targets"].Counted(Standard())
    counted(np.zeros((5, 3)))
    counted(np.zeros((2, 3)))
    assert (counted.calls, counted.points) == (2, 7)
    assert counted.seconds >= 0.0


# --- built-in targets --------------------------------------------------------------------------------------------
def test_gradients_of_the_hard_targets(bench, hard):
    for target in hard:
        bench["targets"].checked(target)
        z = 0.1 * np.random.default_rng(1).normal(size=(3, target.dim)) + 0.05
        steps = np.linalg.qr(np.random.default_rng(2).normal(size=(target.dim, min(3, target.dim))))[0].T
        grad = target.log_density(z)[1]
        for step in 1e-5 * steps:
            up, down = (target.log_density(z + s)[0] for s in (step, -step))
            usable = np.isfinite(up) & np.isfinite(down)
            assert usable.any()
            slope = (grad @ step)[usable]
            error = np.abs((up - down)[usable] / 2 - slope)
            assert (error <= 1e-6 * np.abs(slope) + 1e-9).all(), target.name


@pytest.mark.parametrize("dim", [2, 50])
def test_what_is_known_of_normals(bench, dim):
    """Against a mean-field q by hand: its ELBO and effective draws, measured by the harness itself."""
    rng = np.random.default_rng(3)
    root = np.eye(dim) + 0.3 * rng.normal(size=(dim, dim)) / np.sqrt(dim)
    precision, loc = root @ root.T, rng.normal(size=dim)

    def fn(z):
        grad = -(z - loc) @ precision
        return 0.5 * ((z - loc) * grad).sum(1), grad

    target = bench["hard"]._normal("Normal", (fn, dim))
    cov = np.linalg.inv(precision)
    answers = {
        "mean_field": bench["answer"].Answer(loc, 1 / np.sqrt(np.diag(precision))),
        "full_rank": bench["answer"].from_covariance(loc, cov),
    }
    for family, answer in answers.items():
        best, found = target.best[family], bench["measure"].quality(target, answer, 1)
        np.testing.assert_allclose(answer.loc, best["mu"], atol=1e-9)
        np.testing.assert_allclose(answer.sd, best["sd"], rtol=1e-9)
        assert abs(found["elbo"] - best["elbo"]) <= 5 * found["std_error"] + 1e-9
        if dim == 2:  # in 50 dimensions the weights' second moment has too long a tail to be measured
            assert found["is_ess"] == pytest.approx(best["is_ess"], abs=0.03)


def test_what_is_known_of_two_modes(bench, hard):
    for target in hard:
        if not target.name.startswith("two modes"):
            continue
        answer = bench["answer"].Answer(
            np.full(target.dim, 5.0 if "tenth" not in target.name else -5.0), np.ones(target.dim)
        )
        found = bench["measure"].quality(target, answer, 1)
        assert found["elbo"] == pytest.approx(target.best["mean_field"]["elbo"], abs=1e-6)


# --- answers -----------------------------------------------------------------------------------------------------
def normal_log_density(z, loc, cov):
    away = z - loc
    squares = (away * np.linalg.solve(cov, away.T).T).sum(1)
    return -0.5 * (squares + np.linalg.slogdet(2.0 * np.pi * cov)[1])


def test_draws_of_an_answer(bench):
    cov = np.array([[4.0, 1e-3], [1e-3, 1e-6]])
    answer = bench["answer"].from_covariance([1.0, 2.0], cov)
    z, log_q = answer.draws(50, np.random.default_rng(1))
    np.testing.assert_allclose(log_q, normal_log_density(z, [1.0, 2.0], cov), rtol=1e-8)
    np.testing.assert_allclose(answer.sd, [2.0, 1e-3])
    flat = bench["answer"].Answer(np.zeros(2), np.array([2.0, 3.0]))
    z, log_q = flat.draws(50, np.random.default_rng(1))
    np.testing.assert_allclose(log_q, normal_log_density(z, np.zeros(2), np.diag([4.0, 9.0])))


def test_rows_of_good_and_of_failed_fits(bench):
    measure = bench["measure"]
    q = bench["answer"].Answer(np.zeros(3), np.ones(3))

    def fit(target, family, seed):
        target(np.zeros((4, 3)))
        if seed == 2:
            raise ValueError("no luck")
        return q

    what = measure.Contender("mine", ("mean_field",), fit, lambda answer, seed: {"verdict": "ok"})
    target = bench["targets"].checked(Standard())
    row = measure.measured(what, target, "mean_field", 1)
    assert (row["calls"], row["points"], row["rejected"], row["verdict"]) == (1, 4, 0, "ok")
    assert row["elbo"] == pytest.approx(1.5 * np.log(2 * np.pi))
    assert row["is_ess"] == pytest.approx(1.0)
    assert json.loads(json.dumps(row)) == row
    failed = measure.measured(what, target, "mean_field", 2)
    assert failed["error"] == "ValueError: no luck"
    assert "elbo" not in failed


def test_contenders(bench):
    measure = bench["measure"]
    for method in measure.klqp_fit.METHODS:
        found = measure.contender(method)
        assert found.name == f"klqp {method}"
        assert set(found.families) <= set(bench["targets"].FAMILIES)
    for module in measure.PEERS.values():
        assert importlib.util.find_spec(f"bench.posteriors.peers.{module}") is not None


# --- statistics --------------------------------------------------------------------------------------------------
def row(**changes):
    common = {"target": "t", "family": "mean_field", "contender": "c", "seed": 1, "dim": 1, "has_optimum": True}
    common |= {"elbo": 0.0, "std_error": 0.01, "rejected": 0, "is_ess": 0.9, "loc": [0.0], "sd": [1.0], "verdict": "ok"}
    return (
        common
        | {"seconds": 2.0, "wall_seconds": 3.0, "compile_seconds": 1.0, "inside": 0.5}
        | {"calls": 1, "points": 10}
        | changes
    )


KNOWN = {("t", "mean_field"): {"elbo": 0.0, "mu": [0.0], "sd": [1.0], "is_ess": 0.9}}


@pytest.mark.parametrize(
    ("changes", "known", "expected"),
    [
        ({}, {}, set()),
        ({"elbo": -0.119}, {}, set()),  # within 0.1 and two standard errors
        ({"elbo": -0.121}, {}, {"miss", "wrong_ok", "unflagged"}),
        ({"elbo": -0.121, "verdict": "warn"}, {}, {"miss"}),
        ({"loc": [0.11]}, {}, {"miss", "unflagged"}),
        ({"sd": [0.89], "verdict": "warn"}, {}, {"miss", "wrong_warning"}),
        ({"verdict": "fail"}, {}, {"wrong_warning"}),
        ({"verdict": "warn"}, {"is_ess": 0.69}, set()),
        ({}, {"is_ess": 0.09}, {"wrong_ok"}),
        ({"verdict": None, "elbo": -9.0}, {}, {"miss"}),
        ({"elbo": None, "verdict": "error", "error": "x"}, {}, {"miss"}),
        ({"has_optimum": False, "elbo": 99.0}, {}, {"wrong_ok"}),
        ({"has_optimum": False, "elbo": 99.0, "verdict": "fail"}, {}, set()),
    ],
)
def test_what_counts(bench, changes, known, expected):
    known = {key: value | known for key, value in KNOWN.items()}
    made = row(**changes)
    reference = bench["score"].references([made], known)["t", "mean_field"]
    found = bench["score"].scored(made, reference)
    assert {name for name in ("miss", "wrong_ok", "wrong_warning", "unflagged") if found[name]} == expected


def test_the_best_fit_stands_in_where_nothing_is_known(bench):
    rows = [
        row(seed=1, elbo=-1.0, loc=[3.0]),
        row(seed=2, elbo=-0.5, loc=[4.0], is_ess=0.05),
        row(seed=3, elbo=5.0, loc=[9.0], rejected=10),  # only over the draws that had a density
        row(seed=4, elbo=None, error="x"),
    ]
    reference = bench["score"].references(rows, {})["t", "mean_field"]
    assert (reference["elbo"], reference["mu"], reference["is_ess"]) == (-0.5, [4.0], 0.05)
    assert reference["from"] == "best of all fits"
    known = {("t", "mean_field"): {"is_ess": 0.0}}
    assert bench["score"].references(rows, known)["t", "mean_field"]["is_ess"] == 0.0
    assert "best of all fits here" in bench["report"].tables(rows, {})


def test_sums(bench):
    score = bench["score"]
    rows = [row(seed=1), row(seed=2, elbo=-1.0), row(seed=3, elbo=-3.0, verdict="warn", points=40)]
    rows = [score.scored(r, score.references(rows, KNOWN)["t", "mean_field"]) for r in rows]
    found = score.summary(rows)
    assert (found["within"], found["loc_ok"], found["hit"]) == ((1, 3), (3, 3), (1, 3))
    assert found["short"] == (1.0, 3.0)
    assert (found["points"], found["seconds"], found["inside"]) == (10, 1.0, 0.5)
    assert (found["wrong_ok"], found["wrong_warning"], found["unflagged"]) == (1, 0, 1)
    without = [score.scored(row(verdict=None), score.references([row()], KNOWN)["t", "mean_field"])]
    assert score.summary(without)["wrong_ok"] is None


def test_a_run_is_taken_up_again(bench, tmp_path, capsys):
    path = write(tmp_path, TARGET + "TARGETS = [Target()]\n")
    options = ["--targets", str(path), "--families", "mean_field", "--json", str(tmp_path / "rows.jsonl")]
    main = bench["__main__"].main
    main([*options, "--seeds", "1"])
    first = (tmp_path / "rows.jsonl").read_text()
    main([*options, "--seeds", "2"])
    both = (tmp_path / "rows.jsonl").read_text()
    assert both.startswith(first)
    assert [json.loads(text)["seed"] for text in both.splitlines()] == [1, 2]
    out = capsys.readouterr().out
    assert "| klqp auto | mean_field | 2 | 2 of 2 |" in out
    assert "[2/2]" in out
