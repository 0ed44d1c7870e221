"""FlatView: a fit seen as one ready-made family over R^D and a log density there, where it is that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._threads import get_num_threads
from klqp.inference.engine import Engine
from klqp.inference.log_joint import LogJoint
from klqp.model.log_density import LogDensity
from klqp.targets import make_target

if TYPE_CHECKING:
    from klqp.inference.model_engine import ModelEngine
    from klqp.inference.problem import Problem

__all__ = ["ALONE", "FlatView", "flat_view"]

Float64 = npt.NDArray[np.float64]

# What a fit must be for there to be a view, to follow the name of a family.
ALONE = (
    "over all latent variables, full data without scale or parameters to be learnt, and a log density with gradients"
)


@dataclass(frozen=True)
class FlatView:
    """A log density with its gradient on R^D, and the family over it.

    It can be pickled where it knows its source.

    Attributes
    ----------
    target : Target
    spec : FamilySpec
    names : tuple of (str, int)
        Latent variables with the number of their coordinates, in order.
    source : LogDensity or LogJoint, optional
        What the target was made of.
    dtype : dtype, default float64
        What the log density is called with.
    n_threads : int
        Most threads for a native log density.
    """

    target: _core.Target
    spec: _core.FamilySpec
    names: tuple[tuple[str, int], ...]
    source: LogDensity | LogJoint | None = None
    dtype: npt.DTypeLike = np.float64
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

    def __reduce__(self) -> Any:
        spec = (self.spec.name, self.spec.dim, self.spec.rank, self.spec.scale)
        return _rebuilt, (self.source, spec, self.names, self.dtype)


def flat_view(problem: Problem, engine: Engine | ModelEngine) -> FlatView | None:
    """Return the view of an engine's fit; None where there is more to it than one family, or no gradient."""
    if isinstance(engine, Engine):
        known = engine.gives_gradient
        if not (engine.choice.gradient == "reparameterised" if known is None else known):
            return None
        z, (factor,) = problem.latents[0], problem.factors
        assert factor.family is not None
        assert isinstance(z, LogDensity)
        dtype = engine.settings.dtype
        target = make_target(z.fn, z.shape, dtype)
        return FlatView(target, factor.family.spec(z.size), ((z.name, z.size),), z, dtype, engine.settings.n_threads)
    settings = engine.settings
    whole = len(engine.problem.factors) == 1 and engine.problem.factors[0].family is not None
    plain = not (problem.conditional or problem.penalties or problem.parameters() or problem.unlisted)
    if not (whole and plain and engine.gives_gradient) or settings.scale or settings.kl_scaling or engine.own_objective:
        return None
    log_joint = LogJoint(list(problem.latents), {**problem.observed, **engine.feeds})
    (factor,) = engine.problem.factors
    spec, _ = engine.compiled.layout.families[factor]
    names = tuple((name, part.stop - part.start) for name, part in log_joint.slices.items())
    return FlatView(log_joint.__klqp_target__(), spec, names, log_joint, n_threads=settings.n_threads)


def _rebuilt(
    source: LogDensity | LogJoint, spec: tuple[str, int, int, str], names: Any, dtype: npt.DTypeLike
) -> FlatView:
    own = isinstance(source, LogJoint)
    target = source.__klqp_target__() if own else make_target(source.fn, source.shape, dtype)  # type: ignore[union-attr]
    name, dim, rank, scale = spec
    return FlatView(target, _core.FamilySpec(name, dim, rank=rank, scale=scale), names, source, dtype)
