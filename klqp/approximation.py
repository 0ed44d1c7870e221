"""Approximations: what a posterior computes with, for one log density or for a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.families import Family
from klqp.family_parts import Marginals
from klqp.model.log_density import LogDensity
from klqp.model.random_variable import RandomVariable
from klqp.targets import make_target

__all__ = ["Approximation", "FlatApproximation"]

Float64 = npt.NDArray[np.float64]

_POSTERIOR_STREAM, _ELBO_STREAM = 1, 2  # docs/counters.md
# Points, and numbers, handled at once when an estimate needs many draws.
_CHUNK, _CHUNK_NUMBERS = 1000, 1 << 20
N_DRAWS, MOMENT_KEY = 20_000, 0x6B6C7170  # for moments that have no formula


def pieces(n: int, width: int) -> Iterator[tuple[slice, int]]:
    """Yield the places of draws 0, ..., n - 1 in pieces of bounded size, and the length of each."""
    piece = max(1, min(_CHUNK, _CHUNK_NUMBERS // max(1, width)))
    for first in range(0, n, piece):
        m = min(piece, n - first)
        yield slice(first, first + m), m


class Approximation(ABC):
    """A q over some latent variables and the model it approximates."""

    latents: Sequence[RandomVariable]

    @abstractmethod
    def draws(self, n: int, key: int, in_own_space: bool) -> dict[str, Float64]:
        """Return joint draws by name, ``(n, *shape)``; unconstrained ones are flat."""

    @abstractmethod
    def moments(self, z: RandomVariable, in_own_space: bool) -> tuple[Float64, Float64]:
        """Return means and standard deviations, flat."""

    @abstractmethod
    def quantile(self, z: RandomVariable, probability: float) -> Float64:
        """Return quantiles of the variable's elements, flat."""

    @abstractmethod
    def covariance(self, z: RandomVariable, in_own_space: bool) -> Float64:
        """Return the covariance matrix of the variable's coordinates."""

    @abstractmethod
    def log_density(self, draws: Mapping[str, Float64]) -> Float64:
        """Return log q (n,) of joint values by name."""

    @abstractmethod
    def log_ratio(self, n: int, key: int) -> tuple[Float64, Float64]:
        """Return log p (n,) and log q (n,) of fresh draws."""

    @abstractmethod
    def weighted_draws(self, n: int, key: int) -> tuple[dict[str, Float64], Float64, Float64]:
        """Return the draws by name, in their own spaces, of which `log_ratio` gives log p and log q, and these."""

    @abstractmethod
    def n_unconstrained(self, z: RandomVariable) -> int:
        """Return the number of a variable's unconstrained coordinates."""

    @abstractmethod
    def describe(self) -> str:
        """Return q in words."""

    @abstractmethod
    def family_name(self) -> str | None:
        """Return the core's name of the family; None where q is not one ready-made family."""


class FlatApproximation(Approximation):
    """A ready-made family over the one variable of a log density on R^D."""

    def __init__(self, latent: LogDensity, family: Family, params: Float64, dtype: np.dtype[Any]) -> None:
        self._latent = latent
        self._family = family
        self._params = params
        self._dtype = dtype
        self.latents = (latent,)
        self._member = _core.Member(family.spec(latent.size), params)

    def draws(self, n: int, key: int, in_own_space: bool) -> dict[str, Float64]:
        """Return draws by name."""
        z = np.empty((n, self._latent.size))
        for rows, noise in self._noise(n, key, _POSTERIOR_STREAM):
            z[rows] = self._member.transform(noise)
        return {self._latent.name: z.reshape(n, *self._latent.shape)}

    def moments(self, z: RandomVariable, in_own_space: bool) -> tuple[Float64, Float64]:
        """Return the family's means and standard deviations."""
        return self._member.mean(), self._member.stddev()

    def quantile(self, z: RandomVariable, probability: float) -> Float64:
        """Return quantiles of the marginals."""
        spec = self._family.spec(self._latent.size)
        if not spec.normal:
            return Marginals.of(spec, self._params).quantile(probability)
        return self._member.mean() + self._member.stddev() * normal_quantile(probability)

    def covariance(self, z: RandomVariable, in_own_space: bool) -> Float64:
        """Return the family's covariance matrix."""
        return self._member.covariance()

    def log_density(self, draws: Mapping[str, Float64]) -> Float64:
        """Return log q."""
        array = draws[self._latent.name]
        return self._member.log_density(array.reshape(len(array), -1))

    def log_ratio(self, n: int, key: int) -> tuple[Float64, Float64]:
        """Return log p and log q of fresh draws."""
        return self.weighted_draws(n, key)[1:]

    def weighted_draws(self, n: int, key: int) -> tuple[dict[str, Float64], Float64, Float64]:
        """Return draws by name, log p and log q."""
        target = make_target(self._latent.fn, self._latent.shape, self._dtype)
        z, log_p, log_q = np.empty((n, self._latent.size)), np.empty(n), np.empty(n)
        for rows, noise in self._noise(n, key, _ELBO_STREAM):
            z[rows] = self._member.transform(noise)
            log_p[rows] = target.evaluate(z[rows], gradient=False)[0]
            log_q[rows] = self._member.log_density_of_noise(noise)
        return {self._latent.name: z.reshape(n, *self._latent.shape)}, log_p, log_q

    def n_unconstrained(self, z: RandomVariable) -> int:
        """Return the variable's size."""
        return z.size

    def describe(self) -> str:
        """Return the family in words."""
        return self._family.describe()

    def family_name(self) -> str | None:
        """Return the core's name of the family."""
        return self._family.spec(self._latent.size).name

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_member"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._member = _core.Member(self._family.spec(self._latent.size), self._params)

    def _noise(self, n: int, key: int, stream: int) -> Iterator[tuple[slice, Float64]]:
        for rows, m in pieces(n, self._latent.size):
            yield rows, self._member.noise(key, stream, rows.start, m)


def normal_quantile(probability: float) -> float:
    """Return the standard normal quantile."""
    from statistics import NormalDist  # slow to import

    return NormalDist().inv_cdf(probability)


def gauss_hermite(loc: Float64, scale: Float64, f: Callable[[Float64], Float64]) -> tuple[Float64, Float64]:
    """Return mean and standard deviation of f(u) for normal u, elementwise, by Gauss-Hermite quadrature."""
    x, w = np.polynomial.hermite_e.hermegauss(100)
    w = w / w.sum()
    values = f(loc + scale * x[:, None])
    mean = w @ values
    return mean, np.sqrt(np.maximum(0.0, w @ (values - mean) ** 2))
