"""The approximations to the posteriors of many problems of one form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.approximation import Approximation, FlatApproximation, pieces
from klqp.families import Family, n_unconstrained
from klqp.inference.compiled import Layout
from klqp.inference.plan import Plan
from klqp.inference.problem import Problem
from klqp.model.log_density import LogDensity
from klqp.model.parameter import Placeholder
from klqp.model.random_variable import RandomVariable
from klqp.model_approximation import ModelApproximation

__all__ = ["FlatApproximations", "ManyApproximations", "ModelApproximations"]

Float64 = npt.NDArray[np.float64]
Moments = tuple[Float64, Float64]

_N_NODES = 100  # of a quadrature


class ManyApproximations(ABC):
    """n q's with parameters (n, P).

    Attributes
    ----------
    latents : sequence of RandomVariable
    params : ndarray (n, P)
    """

    latents: Sequence[RandomVariable]
    params: Float64

    @abstractmethod
    def one(self, i: int) -> Approximation:
        """Return the i-th."""

    @abstractmethod
    def each(self) -> Iterator[Approximation | None]:
        """Yield all of them, each good until the next one; None for those without parameters."""

    @abstractmethod
    def moments(self, z: RandomVariable) -> Moments:
        """Return means and standard deviations, (n, size) each; NaN for those without parameters."""

    def is_known(self, i: int) -> bool:
        """Return whether the i-th has parameters."""
        return not np.isnan(self.params[i]).any()

    def draws(self, n_draws: int, seeds: npt.NDArray[np.uint64], z: RandomVariable) -> Float64:
        """Return draws of a variable, (n, n_draws, *shape)."""
        out = np.full((len(self.params), n_draws, *z.shape), np.nan)
        for i, approximation in enumerate(self.each()):
            if approximation is not None:
                out[i] = approximation.draws(n_draws, int(seeds[i]), True)[z.name]
        return out

    def _moments_one_by_one(self, z: RandomVariable) -> Moments:
        mean, stddev = (np.full((len(self.params), z.size), np.nan) for _ in range(2))
        for i, approximation in enumerate(self.each()):
            if approximation is not None:
                mean[i], stddev[i] = approximation.moments(z, True)
        return mean, stddev


class ModelApproximations(ManyApproximations):
    """Those of a model; its data by placeholder, (n, *shape) where they differ."""

    def __init__(
        self,
        problem: Problem,
        plan: Plan,
        params: Float64,
        feeds: Mapping[Placeholder, Float64],
        by_problem: Mapping[Placeholder, Float64],
    ) -> None:
        self._problem, self._plan, self.params = problem, plan, params
        self._feeds, self._by_problem = dict(feeds), dict(by_problem)
        self.latents = problem.latents

    def _feeds_of(self, i: int) -> dict[Placeholder, Float64]:
        return {**self._feeds, **{p: rows[i] for p, rows in self._by_problem.items()}}

    def one(self, i: int) -> Approximation:
        """Return the i-th."""
        return ModelApproximation(self._problem, self._plan, self.params[i], self._feeds_of(i))

    def each(self) -> Iterator[Approximation | None]:
        """Yield all of them, through one program."""
        first: ModelApproximation | None = None
        for i in range(len(self.params)):
            if not self.is_known(i):
                yield None
                continue
            if first is None:
                first = ModelApproximation(self._problem, self._plan, self.params[i], self._feeds_of(i))
            first.move(self.params[i], self._feeds_of(i))
            yield first

    def moments(self, z: RandomVariable) -> Moments:
        """Return means and standard deviations, (n, size) each."""
        layout, factor = Layout(self._problem), next(f for f in self._problem.factors if z in f.latents)
        if factor not in layout.families or (z.space.bijector != "identity" and z.space.event_ndim > 0):
            return self._moments_one_by_one(z)
        spec, offset = layout.families[factor]
        if not (spec.normal or z.space.bijector == "identity"):
            return self._moments_one_by_one(z)
        loc, scale = _core.family_moments(spec, self.params[:, offset : offset + spec.n_params])
        begin = sum(n_unconstrained(x) for x in factor.latents[: factor.latents.index(z)])
        part = slice(begin, begin + n_unconstrained(z))
        if z.space.bijector == "identity":
            return loc[:, part], scale[:, part]
        bijector = z.space.transform(z.shape)
        return _transformed(loc[:, part], scale[:, part], lambda u: bijector.forward(u)[0])


class FlatApproximations(ManyApproximations):
    """Those of log densities on R^D with one ready-made family."""

    def __init__(self, densities: Sequence[LogDensity], family: Family, params: Float64, dtype: np.dtype[Any]) -> None:
        self._densities, self._family, self.params, self._dtype = densities, family, params, dtype
        self.latents = (densities[0],)

    def one(self, i: int) -> Approximation:
        """Return the i-th."""
        return FlatApproximation(self._densities[i], self._family, self.params[i], self._dtype)

    def each(self) -> Iterator[Approximation | None]:
        """Yield all of them."""
        for i in range(len(self.params)):
            yield self.one(i) if self.is_known(i) else None

    def moments(self, z: RandomVariable) -> Moments:
        """Return means and standard deviations, (n, size) each."""
        return _core.family_moments(self._family.spec(z.size), self.params)


def _transformed(loc: Float64, scale: Float64, f: Callable[[Float64], Float64]) -> Moments:
    """Return mean and standard deviation of f(u) for normal u with parameters (n, size), elementwise.

    By Gauss-Hermite quadrature, as for a single posterior.
    """
    x, w = np.polynomial.hermite_e.hermegauss(_N_NODES)
    w = w / w.sum()
    mean, stddev = np.empty_like(loc), np.empty_like(loc)
    for rows, n in pieces(len(loc), _N_NODES * loc.shape[1]):
        u = loc[rows] + scale[rows] * x[:, None, None]
        values = f(np.ascontiguousarray(u).reshape(-1, loc.shape[1])).reshape(_N_NODES, n, -1)
        mean[rows] = np.tensordot(w, values, 1)
        stddev[rows] = np.sqrt(np.maximum(0.0, np.tensordot(w, (values - mean[rows]) ** 2, 1)))
    return mean, stddev
