"""fit: one call from a flat log density to a posterior."""

from __future__ import annotations

from typing import Any, Unpack

from klqp._checks import positive_int
from klqp.families import Family
from klqp.inference.klqp import KLqp
from klqp.inference.settings import RunOptions
from klqp.model.log_density import LogDensity
from klqp.native import dim_of

__all__ = ["fit"]


def fit(
    log_density: Any,
    dim: int | None = None,
    *,
    q: str | Family = "mean_field",
    rank: int | None = None,
    method: str = "auto",
    **options: Unpack[RunOptions],
) -> KLqp:
    """Fit an approximation, Normal if nothing else is asked for, to a log density on R^dim.

    Parameters
    ----------
    log_density : callable or native function
        ``fn(z)`` with ``z`` of shape (S, dim), float64 and C-contiguous: S points at once. It returns the pair
        ``logp (S,)``, ``grad (S, dim)``, or ``logp`` alone, which leads to score-function gradients. It is called
        once a step, on the calling thread, and may keep what it gets. -inf says that a point is outside the
        support. See `klqp.native` for C functions.
    dim : int, optional
        Number of coordinates; default: the attribute ``dim`` of a log density that has one, as Stan models have.
    q : str or Family, default "mean_field"
        "mean_field", "full_rank", "low_rank", "block", "student_t", "mean_field_student_t", "mixture", or a family:
        the approximating family.
    rank : int, optional
        Of the low-rank family; default: chosen with "auto" and "saa", otherwise the square root of `dim`, at most 50.
    method : {"auto", "adam", "saa", "pathfinder", "bam"}, default "auto"
        How q is found, see `VariationalInference.run`; "auto" needs no other keyword.
    **options
        The keywords of `VariationalInference.run`: `n_iter`, `n_samples`, `optimizer`, `seed`, ...

    Returns
    -------
    KLqp
        The inference object after its run; its latent variable is named "z".

    Examples
    --------
    >>> import klqp
    >>> inference = klqp.fit(lambda z: (-0.5 * ((z - 3) ** 2).sum(1), 3 - z), dim=2, n_iter=500, seed=1)
    >>> inference.posterior["z"].mean().round(2)
    array([3., 3.])
    """
    size = dim_of(log_density) if dim is None else dim
    if size is None:
        raise TypeError("dim, the number of coordinates, is missing")
    z = LogDensity(log_density, shape=positive_int("dim", size))
    inference = KLqp([z], q=q, rank=rank)
    inference.run(method=method, **options)
    return inference
