"""fit_many: many independent problems of one form in one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

from klqp._checks import positive_int
from klqp.errors import InterruptedRunWarning
from klqp.families import Family
from klqp.inference.latents import LatentVars
from klqp.inference.many_data import Lengths, ManyData
from klqp.inference.many_form import BatchForm, Form, ModelForm, NativeForm
from klqp.inference.many_run import run_forms
from klqp.inference.settings import RunOptions
from klqp.many_posteriors import ManyPosteriors
from klqp.native import capsule_of

__all__ = ["fit_many"]


def fit_many(
    latent_vars: LatentVars | Callable[..., Any],
    data: Mapping[Any, Any] | None = None,
    *,
    q: str | Family | None = None,
    rank: int | None = None,
    dim: int | None = None,
    user_data: Sequence[Any] | None = None,
    n_problems: int | None = None,
    seeds: Sequence[int] | None = None,
    traces: bool = False,
    **options: Unpack[RunOptions],
) -> ManyPosteriors:
    """Fit B independent problems of one form, each with its own data, noise, stopping and status.

    Models and native log densities run in one call into C++ without the GIL, in which threads take problem after
    problem. Problem b gets the bits of a `KLqp` run of its own with ``seed=result.seeds[b]``, whatever the number of
    threads.

    Parameters
    ----------
    latent_vars : list or dict of random variables, or callable
        One of

        - the latent variables of a model, as for `KLqp`, written once; placeholders stand for what differs;
        - with lists of arrays of different lengths in `data`: ``model(n)``, which returns ``(latent_vars, names)`` for
          problems of length n, with the placeholders and observed variables by their names in `data`; it is called
          once for each length;
        - with `dim` and `user_data`: a native log density, called with one address a problem;
        - with `dim` alone: ``fn(z, problems)`` in Python for many problems in one call: points z (P, S, dim) and the
          numbers of their problems (P,). It returns ``logp (P, S)`` and ``grad (P, S, dim)``. All problems take their
          steps together; those that have stopped are left out.
    data : dict, optional
        By random variable or placeholder; for ``model(n)`` by name. An array of the variable's own shape is shared by
        all problems, one with a leading axis B has a row for each.
    q, rank
        As for `KLqp`.
    dim : int, optional
        Number of coordinates of a log density.
    user_data : sequence of B int, ctypes or cffi pointers, optional
        What a native log density is handed for each problem; the caller keeps alive the memory behind ints.
    n_problems : int, optional
        B, where nothing else says it.
    seeds : sequence of B int, optional
        The problems' own seeds. By default each is a function of `seed` and of the problem's number (docs/counters.md).
    traces : bool, default False
        Keep every step's loss.
    **options
        The keywords of `VariationalInference.run` but those about logs, progress and debugging: `n_iter`, `n_samples`,
        `stop`, `optimizer`, `seed`, ... `stop` is looked at for each problem by itself.

    Returns
    -------
    ManyPosteriors

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong or data do not fit; before any step. A problem that fails later, by a log density that
        is not finite for example, has the status ``"failed"`` and a message, and the others go on.

    Warns
    -----
    InterruptedRunWarning
        On Ctrl-C: what is done is kept.

    Examples
    --------
    >>> import numpy as np, klqp
    >>> y = np.random.default_rng(1).normal([[0.0], [5.0], [-2.0]], 1.0, (3, 40))
    >>> mu = klqp.Normal(0.0, 10.0, name="mu")
    >>> x = klqp.Normal(mu, 1.0, shape=40)
    >>> result = klqp.fit_many([mu], {x: y}, n_iter=800, seed=2)
    >>> bool(np.abs(result["mu"].mean() - y.mean(1)).max() < 0.05)
    True
    """
    n = None if n_problems is None else positive_int("n_problems", n_problems)
    if dim is not None:
        forms = _log_density_forms(latent_vars, data, positive_int("dim", dim), q, rank, user_data, n, options)
    elif user_data is not None:
        raise TypeError("user_data goes with dim and a native log density")
    elif callable(latent_vars):
        forms = _ragged_forms(latent_vars, data, q, rank, n, options)
    else:
        forms = [ModelForm(latent_vars, ManyData.read(data, n), q, rank, options)]
    result, interrupted = run_forms(forms, seeds, traces)
    if interrupted:
        done = sum(s not in ("interrupted", "not started") for s in result.status)
        warnings.warn(
            f"interrupted when {done} of {len(result)} problems were done; what is done was kept",
            InterruptedRunWarning,
            stacklevel=2,
        )
    return result


def _log_density_forms(
    fn: Any,
    data: Any,
    dim: int,
    q: str | Family | None,
    rank: int | None,
    user_data: Sequence[Any] | None,
    n: int | None,
    options: RunOptions,
) -> list[Form]:
    if data is not None:
        raise TypeError("a log density takes no data: native ones have user_data, others the numbers of the problems")
    if capsule_of(fn) is not None:
        return [NativeForm(fn, dim, user_data, n, q, rank, options)]
    if not callable(fn):
        raise TypeError(f"the log density must be callable or a native function, not {type(fn).__name__}")
    if user_data is not None:
        raise TypeError("user_data is for native log densities; a Python function gets the numbers of the problems")
    if n is None:
        raise ValueError("give n_problems: nothing else says how many problems there are")
    return [BatchForm(fn, dim, n, q, rank, options)]


def _ragged_forms(
    model: Callable[..., Any],
    data: Any,
    q: str | Family | None,
    rank: int | None,
    n: int | None,
    options: RunOptions,
) -> list[Form]:
    """Return a form for each length."""
    lengths = Lengths.read(data, n)
    forms: list[Form] = []
    for length, problems in lengths.groups():
        latent_vars, names = _called(model, length)
        form = ModelForm(latent_vars, lengths.data_of(problems, names), q, rank, options, problems)
        if forms and form.shapes != forms[0].shapes:
            raise ValueError(
                f"the latent variables must have the same names and shapes for all lengths, but they are "
                f"{forms[0].shapes} and, for length {length}, {form.shapes}"
            )
        forms.append(form)
    return forms


def _called(model: Callable[..., Any], length: int) -> tuple[LatentVars, Mapping[str, Any]]:
    given = model(length)
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping)):
        raise TypeError(
            "model(n) must return the pair (latent_vars, names), where names is a dict of placeholders and observed "
            f"variables by their names in data, not {given!r}"
        )
    return given
