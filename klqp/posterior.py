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
from klqp.approximation import Approximation
from klqp.errors import RejectedDrawsWarning
from klqp.model.random_variable import RandomVariable
from klqp.reweighted import Reweighted
from klqp.summary import Summary
from klqp.targets import coerce

__all__ = ["ELBO", "Marginal", "Posterior"]

Float64 = npt.NDArray[np.float64]


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

    def __init__(self, posterior: Posterior, variable: RandomVariable, in_own_space: bool = True) -> None:
        self._posterior = posterior
        self._variable = variable
        self._own = in_own_space

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value."""
        return self._variable.shape if self._own else (self._posterior._approximation.n_unconstrained(self._variable),)

    @property
    def unconstrained(self) -> Marginal:
        """The same in the variable's unconstrained coordinates, where q is what it says; flat."""
        return Marginal(self._posterior, self._variable, in_own_space=False)

    def mean(self) -> Float64:
        """Return the mean, of the variable's shape."""
        return self._moments()[0].reshape(self.shape)

    def stddev(self) -> Float64:
        """Return the standard deviations, of the variable's shape."""
        return self._moments()[1].reshape(self.shape)

    def variance(self) -> Float64:
        """Return the variances, of the variable's shape."""
        return self.stddev() ** 2

    def covariance(self) -> Float64:
        """Return the covariance matrix (size, size) of the variable's coordinates in C order."""
        return self._posterior._approximation.covariance(self._variable, self._own)

    def sample(self, n: int, seed: Seed = None) -> Float64:
        """Return `n` draws, of shape ``(n, *shape)``."""
        return self._posterior._draws(n, seed, self._own)[self._variable.name].reshape(n, *self.shape)

    def _moments(self) -> tuple[Float64, Float64]:
        return self._posterior._approximation.moments(self._variable, self._own)

    def __repr__(self) -> str:
        return f"<posterior of {self._variable.name!r}, shape {self.shape}>"


class Posterior(Mapping["str | RandomVariable", Marginal]):
    """The joint posterior approximation; a mapping from each latent variable, or its name, to its marginal.

    It can be pickled. The log density goes along where it can be pickled itself; where not, `elbo` raises afterwards.
    """

    def __init__(self, approximation: Approximation) -> None:
        self._approximation = approximation

    # --- mapping ---------------------------------------------------------------------------------------------
    def __getitem__(self, key: str | RandomVariable) -> Marginal:
        for z in self._approximation.latents:
            if key is z or (isinstance(key, str) and key == z.name):
                return Marginal(self, z)
        names = ", ".join(repr(name) for name in self)
        raise KeyError(f"no latent variable {key!r}; there is {names}")

    def __iter__(self) -> Iterator[str]:
        return iter(z.name for z in self._approximation.latents)

    def __len__(self) -> int:
        return len(self._approximation.latents)

    # --- moments and draws -----------------------------------------------------------------------------------
    def mean(self) -> dict[str, Float64]:
        """Return the means by name."""
        return {name: self[name].mean() for name in self}

    def stddev(self) -> dict[str, Float64]:
        """Return the standard deviations by name."""
        return {name: self[name].stddev() for name in self}

    def sample(self, n: int, seed: Seed = None) -> dict[str, Float64]:
        """Return `n` joint draws by name, draws first."""
        return self._draws(n, seed, True)

    def log_prob(self, draws: Mapping[Any, npt.ArrayLike] | npt.ArrayLike) -> Float64:
        """Return log q at given points, a density over the variables' own spaces.

        Parameters
        ----------
        draws : dict by variable or name, or array
            Points ``(n, *shape)``, as `sample` gives them; the array alone with one latent variable.

        Returns
        -------
        ndarray (n,)
        """
        latents = self._approximation.latents
        if not isinstance(draws, Mapping):
            if len(latents) != 1:
                raise TypeError(f"draws must be a dict by name: {list(self)}")
            draws = {latents[0].name: draws}
        names = list(self)
        draws = {next((z.name for z in latents if key is z), key): values for key, values in draws.items()}
        if set(draws) != set(names):
            if len(names) == 1:
                raise KeyError(f"draws must have the key {names[0]!r} and no other, not {list(draws)}")
            raise KeyError(f"draws must have the keys {names} and no others, not {list(draws)}")
        arrays, n = {}, None
        for z in latents:
            array = np.asarray(draws[z.name])
            n = (array.shape[0] if array.ndim else 1) if n is None else n
            arrays[z.name] = coerce(array, (n, *z.shape), "draws" if len(latents) == 1 else f"draws of {z.name!r}")
        return self._approximation.log_density(arrays)

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
        log_p, log_q = self._approximation.log_ratio(positive_int("n_draws", n_draws), as_key(seed))
        return self._elbo(log_p, log_p - log_q)

    def reweighted(self, n_draws: int = 4000, seed: Seed = None) -> Reweighted:
        """Return moments and draws corrected by importance sampling from q, with Pareto-smoothed weights.

        The correction is good where q covers the posterior, which the result's ``k_hat`` says.

        Parameters
        ----------
        n_draws : int, default 4000
        seed : int, SeedSequence, Generator or None

        Returns
        -------
        Reweighted

        Warns
        -----
        PoorFitWarning
            If k_hat is above ``min(1 - 1 / log10(n_draws), 0.7)``: the results cannot be relied on.

        Raises
        ------
        ValueError
            If `n_draws` is not a positive integer, or the log density was lost in pickling.
        TargetError
            If it is finite at no draw.
        """
        return Reweighted.of_approximation(self._approximation, n_draws, seed)

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
        return Summary.of_approximation(self._approximation, max_rows)

    def __repr__(self) -> str:
        return f"<posterior of {list(self)}: {self._approximation.describe()}>"

    def _draws(self, n: int, seed: Seed, in_own_space: bool) -> dict[str, Float64]:
        return self._approximation.draws(positive_int("n", n), as_key(seed), in_own_space)
