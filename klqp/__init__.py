"""klqp: black-box variational inference at the speed of C++, from NumPy."""

from klqp import optimizers, schedules, testing
from klqp._core import __version__
from klqp._threads import get_num_threads, set_num_threads
from klqp.errors import InterruptedRunWarning, RejectedDrawsWarning, TargetError, UnreachedLatentWarning
from klqp.families import FullRankNormal, LowRankNormal, MeanFieldNormal
from klqp.inference.base import Inference, VariationalInference
from klqp.inference.fit import fit
from klqp.inference.klqp import (
    KLqp,
    ReparameterizationEntropyKLqp,
    ReparameterizationKLKLqp,
    ReparameterizationKLqp,
    ScoreEntropyKLqp,
    ScoreKLKLqp,
    ScoreKLqp,
    ScoreRBKLqp,
)
from klqp.model.deterministic import Deterministic
from klqp.model.distributions.normal import Normal
from klqp.model.log_density import LogDensity
from klqp.model.nodes import exp, log, sigmoid, softplus, tanh
from klqp.model.parameter import Parameter, placeholder
from klqp.native import NativeLogDensity, get_include
from klqp.stopping import Plateau, Steps, TimeLimit

__all__ = [
    "FullRankNormal",
    "Inference",
    "InterruptedRunWarning",
    "KLqp",
    "LogDensity",
    "LowRankNormal",
    "MeanFieldNormal",
    "NativeLogDensity",
    "Plateau",
    "RejectedDrawsWarning",
    "ReparameterizationEntropyKLqp",
    "ReparameterizationKLKLqp",
    "ReparameterizationKLqp",
    "ScoreEntropyKLqp",
    "ScoreKLKLqp",
    "ScoreKLqp",
    "ScoreRBKLqp",
    "Steps",
    "TargetError",
    "TimeLimit",
    "VariationalInference",
    "__version__",
    "fit",
    "get_include",
    "get_num_threads",
    "optimizers",
    "schedules",
    "set_num_threads",
    "testing",
]
