"""Times the cases in klqp and NumPyro, and compares their losses."""

import numpy as np

from bench.models import (
    eight_schools,
    irt,
    klqp_fit,
    linear_regression,
    logistic_regression,
    matrix_factorisation,
    mixed_effects,
    neural_net,
    normal_mean,
    ppca,
    rasch,
)
from bench.report import Table
from bench.timing import interleaved, summary

try:
    from bench.models.numpyro_fit import NumPyroFit
except ImportError:
    NumPyroFit = None

CASES = [
    normal_mean.CASE,
    linear_regression.FULL,
    linear_regression.MINIBATCH,
    eight_schools.CASE,
    ppca.CASE,
    neural_net.CASE,
    irt.CASE,
    mixed_effects.CASE,
    rasch.CASE,
    matrix_factorisation.CASE,
    logistic_regression.CASE,
]
RBG = "NumPyro, rbg"
TAIL = 0.25  # part of the steps, at the end, whose mean loss is compared


def contenders(case):
    """Return the fits of a case by name."""
    fits = {}
    if klqp_fit.available():
        fits["klqp"] = klqp_fit.KlqpFit(case)
    if NumPyroFit is not None:
        fits["NumPyro"] = NumPyroFit(case)
        fits[RBG] = NumPyroFit(case, implementation="unsafe_rbg")
    return fits


def final_loss(losses):
    """Return the mean loss of the last steps."""
    return float(np.mean(losses[-max(1, int(TAIL * len(losses))) :]))


def times_row(case, fits, times):
    """Return the row of a case in the table of times."""
    ms = {name: 1e3 * float(np.median(t)) / case.timed_steps for name, t in times.items()}
    twin = fits.get("NumPyro")
    ratio = float(np.median(times["NumPyro"] / times["klqp"])) if {"klqp", "NumPyro"} <= set(times) else None
    rbg = float(np.median(times[RBG] / times["klqp"])) if {"klqp", RBG} <= set(times) else None
    edward = case.edward_ms / ms["klqp"] if case.edward_ms is not None and "klqp" in ms else None
    return [
        case.name,
        case.n_samples,
        case.edward_ms,
        *(None if name not in ms else f"{ms[name]:.3g}" for name in ("NumPyro", RBG)),
        None if twin is None else twin.compile_seconds,
        None if "klqp" not in ms else f"{ms['klqp']:.3g}",
        ratio,
        rbg,
        edward,
    ]


def losses_row(case, fits):
    """Return the row of a case in the table of losses, and failures."""
    losses = {name: final_loss(fit.losses()) for name, fit in fits.items()}
    reference = losses.get("NumPyro", next(iter(losses.values())))
    off = max(abs(loss / reference - 1) for loss in losses.values())
    failures = [f"{case.name}: klqp's loss is not finite"] if not np.isfinite(losses.get("klqp", 0.0)) else []
    agree = None
    if case.tolerance is not None and len(losses) > 1:
        agree = "yes" if off <= case.tolerance else "no"
        if agree == "no":
            failures.append(f"{case.name}: final losses differ by {off:.2%}: {losses}")
    values = [None if name not in losses else f"{losses[name]:.6g}" for name in ("klqp", "NumPyro", RBG)]
    steps = case.timed_steps * case.checked_fits
    tolerance = None if case.tolerance is None else f"{case.tolerance:.1%}"
    return [case.name, steps, *values, f"{off:.2%}", tolerance, agree], failures


def run(settings):
    """Yield the tables."""
    table = Table(
        "One Adam step of a model, mean field: milliseconds",
        [
            "case",
            "S",
            "Edward",
            "NumPyro",
            RBG,
            "compiles (s)",
            "klqp",
            "NumPyro / klqp",
            "rbg / klqp",
            "Edward / klqp",
        ],
        notes=[
            "NumPyro is one compiled scan; its compilation and initialisation are not in its steps. rbg: with keys",
            "of type unsafe_rbg, not the default. klqp is a whole `run` divided by its steps, its preparation",
            "included, batches of case 5 fed from Python. Edward's times are of another machine (TensorFlow 1.5,",
            "two cores); its Rasch is taken to have S = 10. All data are made, but for the eight schools. Ratios",
            "above 1: klqp is faster.",
        ],
    )
    losses = Table(
        f"Loss, mean over the last {TAIL:.0%} of the steps",
        ["case", "steps", "klqp", "NumPyro", RBG, "largest difference", "tolerance", "agree"],
        notes=["Same start, same constant learning rate; long runs are not run to convergence."],
    )
    if NumPyroFit is None:
        table.notes.append("NumPyro is not installed: its columns are left out.")
    if not klqp_fit.available():
        table.notes.append("The installed klqp has no random variables: its columns are left out.")
    for case in CASES if contenders_exist() else []:
        if settings.quick and not case.small:
            continue
        fits = contenders(case)
        times = interleaved(fits, settings, batch=0.0)
        table.rows.append(times_row(case, fits, times))
        detail = {"case": case.name, "timed_steps": case.timed_steps}
        for name, fit in fits.items():
            seconds = {k: v for k, v in vars(fit).items() if k.endswith("_seconds")}
            detail[name] = {"milliseconds": summary(1e3 * times[name] / case.timed_steps), **seconds}
        table.details.append(detail)
        row, failures = losses_row(case, fits)
        losses.rows.append(row)
        losses.failures += failures
    yield table
    yield losses


def contenders_exist():
    """Return whether there is anything to be timed."""
    return NumPyroFit is not None or klqp_fit.available()
