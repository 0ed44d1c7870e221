"""Draws of q weighted so that they stand for draws of the posterior itself."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._checks import positive_int
from klqp._seeds import Seed, as_key
from klqp.approximation import Approximation
from klqp.errors import PoorFitWarning
from klqp.family_parts import richer_family
from klqp.model.random_variable import RandomVariable
from klqp.psis import PSIS, smooth_weights

__all__ = ["Reweighted", "WeightedMarginal"]

Float64 = npt.NDArray[np.float64]


class WeightedMarginal:
    """Weighted draws of one latent variable, in its own space and shape."""

    def __init__(self, draws: Float64, weights: Float64) -> None:
        self.draws, self._weights = draws, weights

    def mean(self) -> Float64:
        """Return the weighted mean, of the variable's shape."""
        return np.asarray(np.tensordot(self._weights, self.draws, 1))

    def variance(self) -> Float64:
        """Return the weighted variances, of the variable's shape."""
        return np.asarray(np.tensordot(self._weights, (self.draws - self.mean()) ** 2, 1))

    def stddev(self) -> Float64:
        """Return the weighted standard deviations, of the variable's shape."""
        return np.sqrt(self.variance())

    def covariance(self) -> Float64:
        """Return the weighted covariance matrix (size, size) of the variable's coordinates in C order."""
        centred = (self.draws - self.mean()).reshape(len(self.draws), -1)
        return np.asarray((self._weights[:, None] * centred).T @ centred)

    def quantile(self, probability: float) -> Float64:
        """Return weighted quantiles of the variable's elements, of the variable's shape."""
        flat = self.draws.reshape(len(self.draws), -1)
        order = np.argsort(flat, axis=0, kind="stable")
        reached = np.cumsum(self._weights[order], axis=0) >= probability * (1.0 - 1e-12)
        first = np.take_along_axis(order, reached.argmax(0)[None], axis=0)
        values: Float64 = np.take_along_axis(flat, first, axis=0)[0]
        return values.reshape(self.draws.shape[1:])


class Reweighted(Mapping["str | RandomVariable", WeightedMarginal]):
    """Moments and draws of the posterior by importance sampling from q, with Pareto-smoothed weights.

    A mapping from each latent variable, or its name, to its weighted marginal.

    Attributes
    ----------
    k_hat : float
        Shape of the tail of the weights; above `good_k` the results cannot be relied on.
    ess : float
        Effective number of draws.
    log_evidence : float
        Estimate of log p(x), from the smoothed weights.
    n_rejected : int
        Draws whose log density was NaN or +inf; their weight is 0. (-inf is a weight of 0 by right.)
    """

    def __init__(
        self, latents: Sequence[RandomVariable], draws: dict[str, Float64], psis: PSIS, log_evidence: float, lost: int
    ) -> None:
        self._latents, self._draws, self._psis = latents, draws, psis
        self.k_hat, self.ess, self.log_evidence, self.n_rejected = psis.k_hat, psis.ess, log_evidence, lost

    @classmethod
    def of_approximation(cls, approximation: Approximation, n_draws: int, seed: Seed) -> Reweighted:
        """Draw from an approximation and weight the draws; see `Posterior.reweighted`."""
        draws, log_p, log_q = approximation.weighted_draws(positive_int("n_draws", n_draws), as_key(seed))
        log_ratio, n_invalid = usable_ratio(log_p, log_q)
        psis = smooth_weights(log_ratio)
        out = cls(approximation.latents, draws, psis, log_evidence(log_ratio, psis), n_invalid)
        if psis.k_hat > psis.good_k:
            warnings.warn(
                f"k_hat = {psis.k_hat:.2f} is above {psis.good_k:.2f}: q is too far from the posterior for its draws "
                f"to be corrected by weights; {richer_family(approximation.family_name())}",
                PoorFitWarning,
                stacklevel=3,
            )
        return out

    # --- mapping ---------------------------------------------------------------------------------------------
    def __getitem__(self, key: str | RandomVariable) -> WeightedMarginal:
        for z in self._latents:
            if key is z or (isinstance(key, str) and key == z.name):
                return WeightedMarginal(self._draws[z.name], self._psis.weights)
        raise KeyError(f"no latent variable {key!r}; there is {', '.join(repr(name) for name in self)}")

    def __iter__(self) -> Iterator[str]:
        return iter(z.name for z in self._latents)

    def __len__(self) -> int:
        return len(self._latents)

    # --- moments and draws -----------------------------------------------------------------------------------
    @property
    def weights(self) -> Float64:
        """The smoothed weights (n_draws,), which sum to one."""
        return self._psis.weights

    @property
    def good_k(self) -> float:
        """The largest k_hat at which this many draws are enough."""
        return self._psis.good_k

    def mean(self) -> dict[str, Float64]:
        """Return the means by name."""
        return {name: self[name].mean() for name in self}

    def stddev(self) -> dict[str, Float64]:
        """Return the standard deviations by name."""
        return {name: self[name].stddev() for name in self}

    def sample(self, n: int, seed: Seed = None, *, replace: bool = True) -> dict[str, Float64]:
        """Return `n` joint draws by name, draws first: the weighted draws, resampled.

        Parameters
        ----------
        n : int
        seed : int, SeedSequence, Generator or None
        replace : bool, default True
            Whether a draw may come more than once. Without replacement the n draws differ, and are closer to q than
            to the posterior where n is not small against `ess`.

        Raises
        ------
        ValueError
            Without replacement, if fewer than n draws have a positive weight.
        """
        n = positive_int("n", n)
        rng = np.random.Generator(np.random.Philox(key=as_key(seed)))
        if replace:
            chosen = np.minimum(np.searchsorted(np.cumsum(self.weights), rng.random(n)), len(self.weights) - 1)
        else:
            n_positive = int(np.isfinite(self._psis.log_weights).sum())
            if n > n_positive:
                raise ValueError(f"n={n} draws without replacement, but only {n_positive} have a positive weight")
            # The n largest of log w + Gumbel noise are a sample without replacement.
            chosen = np.argsort(-(self._psis.log_weights + rng.gumbel(size=len(self.weights))), kind="stable")[:n]
        return {name: values[chosen] for name, values in self._draws.items()}

    def __repr__(self) -> str:
        n = len(self.weights)
        return f"<posterior of {list(self)} from {n} weighted draws: k_hat={self.k_hat:.2f}, ess={self.ess:.0f}>"


def usable_ratio(log_p: Float64, log_q: Float64) -> tuple[Float64, int]:
    """Return log p - log q with -inf where log p is not a number or +inf, and how many of these there are.

    Raises
    ------
    TargetError
        If log p is finite nowhere.
    """
    invalid = np.isnan(log_p) | np.isposinf(log_p)
    log_ratio = np.where(invalid, -np.inf, log_p) - log_q
    if not np.isfinite(log_ratio).any():
        raise _core.TargetError(f"the log density is finite at none of {len(log_p)} draws from q")
    return log_ratio, int(invalid.sum())


def log_evidence(log_ratio: Float64, psis: PSIS) -> float:
    """Return the estimate of log p(x): the log of the mean smoothed ratio.

    The smoothed weights are proportional to the smoothed ratios, and equal to the raw ones outside the tail; the
    smallest finite ratio fixes the constant.
    """
    at = int(np.argmin(np.where(np.isfinite(log_ratio), log_ratio, np.inf)))
    return float(log_ratio[at] - psis.log_weights[at]) - math.log(len(log_ratio))
