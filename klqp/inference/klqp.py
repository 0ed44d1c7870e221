"""KLqp, which chooses its gradient estimator, and the named classes, which force one."""

from __future__ import annotations

from typing import ClassVar

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
    """Minimises KL(q || p(z | x)) by the gradient estimator that fits each factor of q.

    Reparameterised gradients where draws have a derivative, exact sums over discrete variables of few states, and
    Rao-Blackwellised score functions elsewhere; `estimator` says what was chosen and why (docs/gradients.md).

    Parameters
    ----------
    latent_vars : list of random variables, or dict
        ``[w, b]``, with the family in `q`, and Bernoulli and categorical variables with q's of their own; or q by
        variable: ``{w: klqp.Normal(loc, scale), (b, c): klqp.FullRankNormal([b, c])}``, where the parameters of a
        random variable q are `Parameter` objects, or expressions of them, of data, and of other latent variables.
    data : dict, optional
        Observed values by random variable: ``{y: y_train}``, or a placeholder for them; ``{beta: qbeta}`` draws beta
        from a q that is not optimised.
    q : str or Family, default "mean_field"
        "mean_field", "full_rank", "low_rank", "block", "student_t", "mean_field_student_t", "mixture", or a family:
        the family when `latent_vars` is a list.
    rank : int, optional
        Of the low-rank family.

    Examples
    --------
    >>> import klqp
    >>> mu = klqp.Normal(0.0, 1.0, name="mu")
    >>> x = klqp.Normal(mu, 1.0, shape=50)
    >>> inference = klqp.KLqp([mu], data={x: [0.0] * 50})
    >>> inference.run(n_iter=1000, seed=1)
    >>> inference.posterior[mu].stddev().round(2)
    array(0.14)
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

    The score of each event of a factor, an element or a vector of its batch, is weighted with those elements of the
    terms alone that depend on the event's draw. The blanket of the one variable of a log density is the whole density,
    so that this is `ScoreKLqp` there.
    """

    _demand: ClassVar[Demand] = Demand("score", "monte_carlo", markov_blankets=True)


class ReparameterizationKLKLqp(KLqp):
    """Reparameterised gradients, divergence from the prior by formula, given the draws of the prior's parents.

    Needs pairs of q and prior that have one (`KLqp` names them in its error); TypeError otherwise.
    """

    _demand: ClassVar[Demand] = Demand("reparameterised", "closed_form", by_formula=True)


class ScoreKLKLqp(KLqp):
    """Score-function gradients, divergence from the prior by formula, given the draws of the prior's parents.

    Needs pairs of q and prior that have one (`KLqp` names them in its error); TypeError otherwise.
    """

    _demand: ClassVar[Demand] = Demand("score", "closed_form", by_formula=True)
