"""KLqp, which chooses its gradient estimator, and the named classes, which force one."""

from __future__ import annotations

from typing import Any, ClassVar

from klqp.inference.base import VariationalInference
from klqp.inference.estimator import Demand

__all__ = [
    "KLqp",
    "ReparameterizationEntropyKLqp",
    "ReparameterizationKLKLqp",
    "ReparameterizationKLqp",
    "ScoreEntropyKLqp",
    "ScoreKLKLqp",
    "ScoreKLqp",
    "ScoreRBKLqp",
]


class KLqp(VariationalInference):
    """Minimises KL(q || p(z | x)) by the gradient estimator that fits the model.

    Parameters
    ----------
    latent_vars : list of random variables, or dict
        ``[z]``, with the family in `q`; or ``{z: klqp.FullRankNormal(z)}``.
    data : dict, optional
        Observed values by random variable.
    q : {"mean_field", "full_rank", "low_rank"} or Family, default "mean_field"
        The family when `latent_vars` is a list.
    rank : int, optional
        Of the low-rank family.

    Examples
    --------
    >>> import klqp
    >>> z = klqp.LogDensity(lambda z: (-0.5 * (z**2).sum(1), -z), shape=3)
    >>> inference = klqp.KLqp([z])
    >>> inference.run(n_iter=200, seed=1)
    >>> inference.posterior[z].stddev().shape
    (3,)
    """


class ReparameterizationKLqp(KLqp):
    """Reparameterised gradients, entropy by Monte Carlo."""

    _demand: ClassVar[Demand] = Demand("reparameterised", "monte_carlo")


class ReparameterizationEntropyKLqp(KLqp):
    """Reparameterised gradients, entropy by its formula."""

    _demand: ClassVar[Demand] = Demand("reparameterised", "closed_form")


class ScoreKLqp(KLqp):
    """Score-function gradients, entropy by Monte Carlo."""

    _demand: ClassVar[Demand] = Demand("score", "monte_carlo")


class ScoreEntropyKLqp(KLqp):
    """Score-function gradients, entropy by its formula."""

    _demand: ClassVar[Demand] = Demand("score", "closed_form")


class ScoreRBKLqp(KLqp):
    """Score-function gradients, Rao-Blackwellised over Markov blankets.

    The blanket of the one variable of a log density is the whole density, so that this is `ScoreKLqp` there.
    """

    _demand: ClassVar[Demand] = Demand("score", "monte_carlo")


class _ClosedFormKL(KLqp):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        raise TypeError(
            f"{type(self).__name__} needs a prior with a closed-form divergence from q, and a log density has none; "
            "use KLqp"
        )


class ReparameterizationKLKLqp(_ClosedFormKL):
    """Reparameterised gradients, closed-form divergence from the prior."""


class ScoreKLKLqp(_ClosedFormKL):
    """Score-function gradients, closed-form divergence from the prior."""
