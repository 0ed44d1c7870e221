"""Errors and warnings of klqp, by their consequence.

Mistakes in a call raise the built-in ValueError or TypeError before anything is changed. An exception of the user's
own function passes through with its type and traceback.
"""

from klqp._core import TargetError

__all__ = [
    "GradientError",
    "InterruptedRunWarning",
    "PoorFitWarning",
    "RejectedDrawsWarning",
    "TargetError",
    "UnreachedLatentWarning",
]


class InterruptedRunWarning(UserWarning):
    """A run was interrupted from the keyboard; its state after the last whole step was kept."""


class GradientError(AssertionError):
    """A log density's gradient disagrees with differences of its values."""


class RejectedDrawsWarning(UserWarning):
    """Draws had a log density or gradient that is not finite and were left out."""


class PoorFitWarning(UserWarning):
    """q is no good stand-in for the posterior, or a run did not reach the best q of its family."""


class UnreachedLatentWarning(UserWarning):
    """No data depend on a latent variable."""
