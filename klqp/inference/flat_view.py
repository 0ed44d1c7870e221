"""FlatView: a fit seen as one ready-made family over R^D and a log density there, where it is that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._threads import get_num_threads
from klqp.inference.engine import Engine
from klqp.inference.log_joint import LogJoint
from klqp.targets import make_target

if TYPE_CHECKING:
    from klqp.inference.model_engine import ModelEngine
    from klqp.inference.problem import Problem

__all__ = ["FlatView", "flat_view"]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FlatView:
    """A log density with its gradient on R^D, and the family over it.

    Attributes
    ----------
    target : Target
    spec : FamilySpec
    names : tuple of (str, int)
        Latent variables with the number of their coordinates, in order.
    n_threads : int
        Most threads for a native log density.
    """

    target: _core.Target
    spec: _core.FamilySpec
    names: tuple[tuple[str, int], ...]
    n_threads: int = 1

    def evaluate(self, z: Float64) -> tuple[Float64, Float64]:
        """Return log density (S,) and gradient (S, D) at points (S, D)."""
        z = np.ascontiguousarray(z)
        logp, grad = self.target.evaluate(z, n_threads=self.n_threads, n_cpus=get_num_threads())
        assert grad is not None
        return logp, grad

    def coordinate(self, i: int) -> str:
        """Return the name of a coordinate of R^D."""
        for name, size in self.names:
            if i < size:
                return name if size == 1 else f"{name}[{i}]"
            i -= size
        raise IndexError(i)


def flat_view(problem: Problem, engine: Engine | ModelEngine) -> FlatView | None:
    """Return the view of an engine's fit; None where there is more to it than one family, or no gradient."""
    if isinstance(engine, Engine):
        known = engine.gives_gradient
        if not (engine.choice.gradient == "reparameterised" if known is None else known):
            return None
        z, (factor,) = problem.latents[0], problem.factors
        assert factor.family is not None
        target = make_target(z.fn, z.shape, engine.settings.dtype)  # type: ignore[attr-defined]
        return FlatView(target, factor.family.spec(z.size), ((z.name, z.size),), engine.settings.n_threads)
    settings = engine.settings
    whole = len(engine.problem.factors) == 1 and engine.problem.factors[0].family is not None
    plain = not (problem.conditional or problem.penalties or problem.parameters() or problem.unlisted)
    if not (whole and plain and engine.gives_gradient) or settings.scale or settings.kl_scaling or engine.own_objective:
        return None
    log_joint = LogJoint(list(problem.latents), {**problem.observed, **engine.feeds})
    (factor,) = engine.problem.factors
    spec, _ = engine.compiled.layout.families[factor]
    names = tuple((name, part.stop - part.start) for name, part in log_joint.slices.items())
    return FlatView(log_joint.__klqp_target__(), spec, names, settings.n_threads)
