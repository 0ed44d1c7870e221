"""The posterior approximation q: moments, draws, densities, and its ELBO."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._checks import positive_int
from klqp._seeds import Seed, as_key
from klqp.errors import RejectedDrawsWarning
from klqp.families import Family
from klqp.model.log_density import LogDensity, RandomVariable
from klqp.summary import Summary
from klqp.targets import coerce, make_target

__all__ = ["ELBO", "Marginal", "Posterior"]

Float64 = npt.NDArray[np.float64]

_POSTERIOR_STREAM, _ELBO_STREAM = 1, 2  # docs/counters.md
# Points, and numbers, handed to the log density at once when an estimate needs many draws.
_CHUNK, _CHUNK_NUMBERS = 1000, 1 << 20


@dataclass(frozen=True)
class ELBO:
    """A Monte Carlo estimate of the ELBO.

    Attributes
    ----------
    value : float
        Mean of log p - log q over the draws with a finite log density, in nats.
    std_error : float
        Its standard error; NaN for fewer than two draws.
    n_draws : int
    n_rejected : int
        Draws left out because their log density was not finite. With any, the ELBO in the strict sense is -inf: q
        reaches outside the support.
    """

    value: float
    std_error: float
    n_draws: int
    n_rejected: int


class Marginal:
    """The posterior of one latent variable, in its own space and shape."""

    def __init__(self, posterior: Posterior, variable: RandomVariable) -> None:
        self._posterior = posterior
        self._variable = variable

    def mean(self) -> Float64:
        """Return the mean, of the variable's shape."""
        return self._posterior._member.mean().reshape(self._variable.shape)

    def stddev(self) -> Float64:
        """Return the standard deviations, of the variable's shape."""
        return self._posterior._member.stddev().reshape(self._variable.shape)

    def variance(self) -> Float64:
        """Return the variances, of the variable's shape."""
        return self.stddev() ** 2

    def covariance(self) -> Float64:
        """Return the covariance matrix (size, size) of the variable's coordinates in C order."""
        return self._posterior._member.covariance()

    def sample(self, n: int, seed: Seed = None) -> Float64:
        """Return `n` draws, of shape ``(n, *shape)``."""
        return self._posterior._sample(n, seed).reshape(n, *self._variable.shape)

    def __repr__(self) -> str:
        return f"<posterior of {self._variable.name!r}, shape {self._variable.shape}>"


class Posterior(Mapping["str | RandomVariable", Marginal]):
    """The joint posterior approximation; a mapping from each latent variable, or its name, to its marginal.

    It can be pickled. The log density goes along where it can be pickled itself; where not, `elbo` raises afterwards.
    """

    def __init__(self, latent: LogDensity, family: Family, params: Float64, dtype: np.dtype[Any]) -> None:
        self._latent = latent
        self._family = family
        self._params = params
        self._dtype = dtype
        self._member = _core.Member(family.spec(self._latent.size), params)

    # --- mapping ---------------------------------------------------------------------------------------------
    def __getitem__(self, key: str | RandomVariable) -> Marginal:
        if key is self._latent or key == self._latent.name:
            return Marginal(self, self._latent)
        raise KeyError(f"no latent variable {key!r}; there is {self._latent.name!r}")

    def __iter__(self) -> Iterator[str]:
        yield self._latent.name

    def __len__(self) -> int:
        return 1

    # --- moments and draws -----------------------------------------------------------------------------------
    def mean(self) -> dict[str, Float64]:
        """Return the means by name."""
        return {name: self[name].mean() for name in self}

    def stddev(self) -> dict[str, Float64]:
        """Return the standard deviations by name."""
        return {name: self[name].stddev() for name in self}

    def sample(self, n: int, seed: Seed = None) -> dict[str, Float64]:
        """Return `n` joint draws by name, draws first."""
        return {self._latent.name: self[self._latent].sample(n, seed)}

    def log_prob(self, draws: Mapping[str, npt.ArrayLike] | npt.ArrayLike) -> Float64:
        """Return log q at given points.

        Parameters
        ----------
        draws : dict by name, or array
            Points ``(n, *shape)``, as `sample` gives them; the array alone with one latent variable.

        Returns
        -------
        ndarray (n,)
        """
        name, shape = self._latent.name, self._latent.shape
        if isinstance(draws, Mapping):
            unknown = set(draws) - {name}
            if unknown or name not in draws:
                raise KeyError(f"draws must have the key {name!r} and no other, not {list(draws)}")
            draws = draws[name]
        array = np.asarray(draws)
        array = coerce(array, (array.shape[0] if array.ndim else 1, *shape), "draws")
        return self._member.log_density(array.reshape(len(array), -1))

    # --- quality ---------------------------------------------------------------------------------------------
    def elbo(self, n_draws: int = 1000, seed: Seed = None) -> ELBO:
        """Estimate the ELBO from fresh draws.

        Parameters
        ----------
        n_draws : int, default 1000
        seed : int, SeedSequence, Generator or None

        Returns
        -------
        ELBO
            With fields ``value`` and ``std_error``.

        Warns
        -----
        RejectedDrawsWarning
            If draws had a log density that is not finite.

        Raises
        ------
        ValueError
            If `n_draws` is not a positive integer, or the log density was lost in pickling.
        TargetError
            If it is finite at no draw.
        """
        n, key = positive_int("n_draws", n_draws), as_key(seed)
        target = make_target(self._latent.fn, self._latent.shape, self._dtype)
        log_p, log_q = np.empty(n), np.empty(n)
        for rows, noise in self._noise(n, key, _ELBO_STREAM):
            log_p[rows] = target.evaluate(self._member.transform(noise), gradient=False)[0]
            log_q[rows] = self._member.log_density_of_noise(noise)
        return self._elbo(log_p, log_p - log_q)

    @staticmethod
    def _elbo(log_p: Float64, log_ratio: Float64) -> ELBO:
        ratio = log_ratio[np.isfinite(log_p)]
        n_rejected = len(log_p) - len(ratio)
        if not len(ratio):
            raise _core.TargetError(f"the log density is finite at none of {len(log_p)} draws from q")
        if n_rejected:
            warnings.warn(
                f"{n_rejected} of {len(log_p)} draws had a log density that is not finite and were left out",
                RejectedDrawsWarning,
                stacklevel=3,
            )
        std_error = float(ratio.std(ddof=1) / np.sqrt(len(ratio))) if len(ratio) > 1 else float("nan")
        return ELBO(float(ratio.mean()), std_error, len(log_p), n_rejected)

    def summary(self, max_rows: int = 40) -> Summary:
        """Return a table of means, standard deviations and quantiles; print it or read its columns."""
        marginal = self[self._latent]
        return Summary.of_normal(
            self._latent.name, self._latent.shape, marginal.mean().ravel(), marginal.stddev().ravel(), max_rows
        )

    # --- pickling --------------------------------------------------------------------------------------------
    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_member"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._member = _core.Member(self._family.spec(self._latent.size), self._params)

    def __repr__(self) -> str:
        return f"<posterior of {list(self)}: {self._family.describe()}>"

    def _sample(self, n: int, seed: Seed) -> Float64:
        z = np.empty((positive_int("n", n), self._latent.size))
        for rows, noise in self._noise(len(z), as_key(seed), _POSTERIOR_STREAM):
            z[rows] = self._member.transform(noise)
        return z

    def _noise(self, n: int, key: int, stream: int) -> Iterator[tuple[slice, Float64]]:
        """Yield the noise of draws 0, ..., n - 1 in pieces, so that memory stays bounded."""
        piece = max(1, min(_CHUNK, _CHUNK_NUMBERS // self._latent.size))
        for first in range(0, n, piece):
            m = min(piece, n - first)
            yield slice(first, first + m), self._member.noise(key, stream, first, m)
