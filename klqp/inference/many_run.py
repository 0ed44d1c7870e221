"""The one call that runs many problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._seeds import as_key
from klqp.inference.many_form import BatchForm, Form
from klqp.inference.settings import Settings
from klqp.many_posteriors import ManyPosteriors
from klqp.schedules import as_schedule, factors

__all__ = ["run_forms"]

Seeds = npt.NDArray[np.uint64]

_MOST_FORMS = 100  # whose programs are in memory together


def run_forms(forms: Sequence[Form], given_seeds: Sequence[int] | None, traces: bool) -> tuple[ManyPosteriors, bool]:
    """Run the problems of some forms, which have the same settings; return the results, and whether Ctrl-C came."""
    if not isinstance(traces, (bool, np.bool_)):
        raise TypeError(f"traces must be True or False, not {traces!r}")
    n = sum(form.n for form in forms)
    settings = forms[0].settings
    seeds = problem_seeds(given_seeds, settings.key, n)
    if isinstance(forms[0], BatchForm):
        out = forms[0].lockstep(seeds, _plan(settings, seeds, bool(traces)))
        out["params"] = [out["params"]]
    else:
        out = _run_workers(forms, seeds, bool(traces))
    parts = [(form.problems, form.approximations(params)) for form, params in zip(forms, out["params"], strict=True)]
    result = ManyPosteriors(
        parts,
        seeds=seeds,
        losses=out["losses"],
        traces=out["traces"],
        n_steps=out["n_steps"],
        status=np.array(out["status"], dtype=np.str_),
        messages=out["messages"],
    )
    return result, out["interrupted"]


def _run_workers(forms: Sequence[Any], seeds: Seeds, traces: bool) -> dict[str, Any]:
    """Run the forms, some at a time where there are so many that their programs would fill the memory."""
    at_once = [forms[i : i + _MOST_FORMS] for i in range(0, len(forms), _MOST_FORMS)]
    out = _run_together(at_once[0], seeds, traces)
    for more in at_once[1:]:
        if out["interrupted"]:
            nothing = [np.full((form.n, out["params"][0].shape[1]), np.nan) for form in more]
            out["params"] += nothing
            continue
        part = _run_together(more, seeds, traces)
        done = np.concatenate([form.problems for form in more])
        for name in ("losses", "n_steps", *(["traces"] if traces else [])):
            out[name][done] = part[name][done]
        for b in done:
            out["status"][b], out["messages"][b] = part["status"][b], part["messages"][b]
        out["params"] += part["params"]
        out["interrupted"] = part["interrupted"]
    return out


def _run_together(forms: Sequence[Any], seeds: Seeds, traces: bool) -> dict[str, Any]:
    settings = forms[0].settings
    specs = [form.workers(settings.n_threads, seeds[form.problems]) for form in forms]
    if not all(form.reentrant for form in forms):
        settings = replace(settings, n_threads=1)
    return _core.run_many(specs, _plan(settings, seeds, traces))


def _plan(settings: Settings, seeds: Seeds, traces: bool) -> _core.ManyPlan:
    """Return what all problems share, and the seed of each."""
    rule, n = settings.optimizer, settings.n_iter
    rates = np.ascontiguousarray(rule.learning_rate * factors(as_schedule(rule.schedule), 0, n, n))
    rules = settings.stop.specs() if settings.stop is not None else []
    return _core.ManyPlan(seeds, rates, rules, settings.run_config(), traces)


def problem_seeds(given: Sequence[int] | None, key: int, n: int) -> Seeds:
    """Return the seeds of n problems: those given, or by `key` and the problems' numbers.

    Raises
    ------
    TypeError, ValueError
        If those given are not n integers in [0, 2**64).
    """
    if given is None:
        return _core.problem_seeds(key, n)
    if np.ndim(given) != 1 or len(given) != n:
        raise ValueError(f"seeds must have one integer for each of {n} problems, not shape {np.shape(given)}")
    return np.array([as_key(seed) for seed in given], np.uint64)
