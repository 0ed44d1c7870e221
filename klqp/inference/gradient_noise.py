"""The signal and the noise in the gradient of each factor of q."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.compiled import CompiledModel
from klqp.inference.problem import Problem
from klqp.model.emitter import ancestors
from klqp.model.expression import Expression
from klqp.model.parameter import Parameter
from klqp.model.random_variable import RandomVariable

__all__ = ["GradientNoise", "measure", "places"]

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WARM_UP = 50  # steps in which adaptive estimators learn their coefficients


@dataclass(frozen=True)
class GradientNoise:
    """Mean and spread of a stochastic gradient over steps at fixed parameters.

    Attributes
    ----------
    mean, std : ndarray (n,)
        Of each of the factor's parameters, unconstrained.
    n_steps : int
        Steps that they come from.
    """

    mean: Float64
    std: Float64
    n_steps: int

    @property
    def signal(self) -> float:
        """Norm of the expected gradient, the share of noise in the mean taken out."""
        return math.sqrt(max(0.0, float(np.sum(self.mean**2 - self.std**2 / self.n_steps))))

    @property
    def noise(self) -> float:
        """Root of the summed variances of one step's gradient."""
        return float(np.linalg.norm(self.std))

    @property
    def signal_to_noise(self) -> float:
        """``signal / noise``; infinite without noise. It is 0 at an optimum, whatever the estimator."""
        return self.signal / self.noise if self.noise > 0 else math.inf

    def __repr__(self) -> str:
        return f"GradientNoise(signal={self.signal:.3g}, noise={self.noise:.3g}, n_steps={self.n_steps})"


def places(problem: Problem, compiled: CompiledModel) -> dict[str, Ints]:
    """Return where the parameters of each factor lie in the flat vector; those of none under "model"."""
    out: dict[str, Ints] = {}
    left = dict(compiled.layout.offsets)
    owned: set[Expression] = {f.q for f in problem.factors if isinstance(f.q, RandomVariable)}
    for factor in problem.factors:
        if factor.family is not None:
            spec, offset = compiled.layout.families[factor]
            out[factor.name] = np.arange(offset, offset + spec.n_params)
            continue
        assert isinstance(factor.q, RandomVariable)
        own = ancestors(factor.q.inputs, lambda e: () if e in owned else e.inputs)
        parts = [_range(p, left.pop(p)) for p in own if isinstance(p, Parameter) and p in left]
        out[factor.name] = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    if left:
        out["model"] = np.concatenate([_range(p, offset) for p, offset in left.items()])
    return out


def _range(parameter: Parameter, offset: int) -> Ints:
    return np.arange(offset, offset + parameter.n_unconstrained)


def measure(run: _core.Run, n_steps: int, where: dict[str, Ints]) -> dict[str, GradientNoise]:
    """Return the gradient's noise, by factor, at a run's parameters."""
    for step in range(WARM_UP):
        run.gradient(step)
    # Differences from one gradient, so that the spread is not lost in rounding.
    gradients = (run.gradient(WARM_UP + step)[1] for step in range(n_steps))
    first = next(gradients)
    total, squares = np.zeros_like(first), np.zeros_like(first)
    for gradient in gradients:
        total += gradient - first
        squares += (gradient - first) ** 2
    mean = total / n_steps
    std = np.sqrt(np.maximum(0.0, squares / n_steps - mean**2) * n_steps / (n_steps - 1))
    return {name: GradientNoise(first[at] + mean[at], std[at], n_steps) for name, at in where.items()}
