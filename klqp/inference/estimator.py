"""The choice of a gradient estimator, in a form for the core and in words."""

from __future__ import annotations

from dataclasses import dataclass

from klqp import _core
from klqp.inference.plan import entropy_words, score_words
from klqp.inference.settings import Settings

__all__ = ["ENTROPIES", "Demand", "EstimatorChoice", "agree", "choose_estimator"]

ENTROPIES = {
    "reparameterised": ("adaptive", "sticking", "closed_form", "monte_carlo", "proximal"),
    "score": ("monte_carlo", "closed_form"),
}

NO_DERIVATIVE = "its draws have no derivative in the weights"


@dataclass(frozen=True)
class Demand:
    """What a named class forces; None leaves it open."""

    gradient: str | None = None
    entropy: str | None = None
    by_formula: bool = False  # divergences from the prior
    markov_blankets: bool = False  # Rao-Blackwellised score functions


@dataclass(frozen=True)
class EstimatorChoice:
    """An estimator and the reason for it."""

    gradient: str
    entropy: str
    baseline: str
    reason: str
    markov_blankets: bool = False

    @property
    def n_groups(self) -> int:
        """Independent scrambles that Sobol draws must come in."""
        return 2 if self.gradient == "score" else 1

    @property
    def words(self) -> str:
        """The choice in words."""
        how = "reparameterisation gradients"
        if self.gradient == "score":
            how = score_words(self.baseline, self.markov_blankets)
        return f"{how} ({self.reason}); {entropy_words(self.entropy)}"

    def spec(self) -> _core.EstimatorSpec:
        """Return the estimator for the core."""
        return _core.EstimatorSpec(self.gradient, self.entropy, self.baseline)


def choose_estimator(
    settings: Settings,
    demand: Demand,
    gives_gradient: bool,
    spec: _core.FamilySpec,
) -> EstimatorChoice:
    """Choose for one family and one log density.

    From what is asked for, what a named class demands, and what the log density gives.

    Raises
    ------
    TypeError
        If pathwise gradients are wanted of a log density that gives values only.
    ValueError
        If the arguments contradict each other.
    """
    gradient = agree("gradient", settings.gradient, demand.gradient)
    reason = "asked for"
    if gradient == "auto":
        gradient = "reparameterised" if gives_gradient and spec.pathwise else "score"
        reason = f"the log density gives {'its gradient' if gives_gradient else 'values only'}"
        if not spec.pathwise:
            reason = NO_DERIVATIVE
    if gradient == "reparameterised" and not spec.pathwise:
        raise TypeError(f"reparameterisation gradients are not for a mixture: {NO_DERIVATIVE}")
    if gradient == "reparameterised" and not gives_gradient:
        raise TypeError(
            "reparameterisation gradients need the gradient of the log density, but it returned logp alone; "
            "return (logp, grad), or use score-function gradients"
        )
    if settings.enumerate not in ("auto", False):
        raise ValueError("enumerate asks for exact sums, but no q has finitely many states")
    entropy = agree("entropy", settings.entropy, demand.entropy)
    if entropy == "auto":
        entropy = ENTROPIES[gradient][0]
    if entropy not in ENTROPIES[gradient]:
        allowed = ", ".join(map(repr, ("auto", *ENTROPIES[gradient])))
        raise ValueError(f"with {gradient} gradients entropy must be one of {allowed}, not {entropy!r}")
    if entropy == "closed_form" and not spec.has_entropy:
        raise ValueError("the entropy of a mixture has no formula: choose another entropy")
    if gradient == "reparameterised" and settings.baseline != "mean":
        raise ValueError("baseline is for score-function gradients, but these are reparameterised")
    return EstimatorChoice(gradient, entropy, settings.baseline, reason, demand.markov_blankets)


def agree(name: str, asked: str, demanded: str | None) -> str:
    """Return what is demanded or asked for.

    Raises
    ------
    ValueError
        If both are given and differ.
    """
    if demanded is None:
        return asked
    if asked not in ("auto", demanded):
        raise ValueError(f"this class forces {name}={demanded!r}, but {asked!r} was asked for")
    return demanded
