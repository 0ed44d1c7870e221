"""The choice of a gradient estimator, in a form for the core and in words."""

from __future__ import annotations

from dataclasses import dataclass

from klqp import _core
from klqp.inference.settings import Settings

__all__ = ["Demand", "EstimatorChoice", "choose_estimator"]

_ENTROPIES = {
    "reparameterised": ("adaptive", "sticking", "closed_form", "monte_carlo", "proximal"),
    "score": ("monte_carlo", "closed_form"),
}
_WORDS = {
    "sticking": "entropy by sticking the landing: no variance left where q equals the posterior",
    "closed_form": "entropy by its formula",
    "monte_carlo": "entropy by Monte Carlo",
    "adaptive": "entropy by an adaptive mixture of its formula and sticking the landing",
    "proximal": "entropy by proximal steps on the scales",
}


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
    forced_entropy: bool = False
    markov_blankets: bool = False

    @property
    def n_groups(self) -> int:
        """Independent scrambles that Sobol draws must come in."""
        return 2 if self.gradient == "score" else 1

    @property
    def words(self) -> str:
        """The choice in words."""
        return self.words_for(self.entropy)

    def words_for(self, entropy: str, by_formula: bool = False) -> str:
        """Return the choice for a factor with some treatment of its entropy, in words."""
        if self.gradient == "score":
            kind = "averaged" if self.baseline == "mean" else "per-coordinate optimal"
            how = f"score-function gradients with leave-one-out {kind} baselines"
            if self.markov_blankets:
                how += ", Rao-Blackwellised over Markov blankets"
        else:
            how = "reparameterisation gradients"
        rest = (
            "divergence from the prior by its formula, given the draws of its parents"
            if by_formula
            else _WORDS[entropy]
        )
        return f"{how} ({self.reason}); {rest}"

    def spec(self) -> _core.EstimatorSpec:
        """Return the estimator for the core."""
        return _core.EstimatorSpec(self.gradient, self.entropy, self.baseline)


def choose_estimator(
    settings: Settings,
    demand: Demand,
    gives_gradient: bool,
    subject: str = "the log density",
) -> EstimatorChoice:
    """Choose from what is asked for, what a named class demands, and what the log density gives.

    Raises
    ------
    TypeError
        If pathwise gradients are wanted of a log density that gives values only.
    ValueError
        If the arguments contradict each other.
    """
    gradient = _agree("gradient", settings.gradient, demand.gradient)
    reason = "asked for"
    if gradient == "auto":
        gradient = "reparameterised" if gives_gradient else "score"
        reason = f"{subject} gives its gradient" if gives_gradient else f"{subject} gives values only"
    if gradient == "reparameterised" and not gives_gradient:
        raise TypeError(
            "reparameterisation gradients need the gradient of the log density, but it returned logp alone; "
            "return (logp, grad), or use score-function gradients"
        )
    entropy = _agree("entropy", settings.entropy, demand.entropy)
    if entropy == "auto":
        entropy = _ENTROPIES[gradient][0]
    if entropy not in _ENTROPIES[gradient]:
        allowed = ", ".join(map(repr, ("auto", *_ENTROPIES[gradient])))
        raise ValueError(f"with {gradient} gradients entropy must be one of {allowed}, not {entropy!r}")
    if gradient == "reparameterised" and settings.baseline != "mean":
        raise ValueError("baseline is for score-function gradients, but these are reparameterised")
    forced = demand.entropy is not None
    return EstimatorChoice(gradient, entropy, settings.baseline, reason, forced, demand.markov_blankets)


def _agree(name: str, asked: str, demanded: str | None) -> str:
    if demanded is None:
        return asked
    if asked not in ("auto", demanded):
        raise ValueError(f"this class forces {name}={demanded!r}, but {asked!r} was asked for")
    return demanded
