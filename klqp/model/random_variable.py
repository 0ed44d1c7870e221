"""Random variables: what models and approximations are made of."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from klqp._seeds import Seed, as_key
from klqp.model.expression import Constant, Expression, as_data, as_expression
from klqp.model.fitting import fit_events
from klqp.model.supports import REAL, Support

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter
    from klqp.model.glm import GLM

__all__ = ["Distribution", "ElementwiseDistribution", "RandomVariable"]

Float64 = npt.NDArray[np.float64]
Shape = tuple[int, ...]

_counter = itertools.count()


class RandomVariable(Expression):
    """A named random quantity; as an expression it stands for its value.

    Compared by identity: there is no global graph, and copies are the variable itself.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Shape of one value; () for a scalar.
    support : str
        The space of its values.
    """

    def __init__(self, shape: Shape, inputs: Sequence[Expression] = (), *, name: str | None, support: Support) -> None:
        super().__init__(shape, inputs)
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"name must be a string that is not empty, not {name!r}")
        self.name = name if name is not None else f"{type(self).__name__}_{next(_counter)}"
        self.space = support

    @property
    def support(self) -> str:
        """Name of the space of its values."""
        return self.space.name

    @property
    def discrete(self) -> bool:
        """Whether the values are discrete."""
        return self.space.discrete

    @property
    def integer(self) -> bool:
        """Whether the values are integers, which can index arrays."""
        return self.space.discrete and self.space.event_ndim == 0

    def emit_log_prob(
        self,
        emitter: Emitter,
        value: int,
        args: Sequence[int],
        *,
        scale: int | None = None,
        summed: bool = True,
        log_q: bool = False,
    ) -> int:
        """Add the log density to a program.

        Parameters
        ----------
        emitter : Emitter
        value : int
            Number of the array of the value, of the variable's size.
        args : sequence of int
            Numbers of the arrays of `inputs`.
        scale : int, optional
            Number of an array of factors, one for each event or one for all.
        summed : bool
            One number, or one for each event.
        log_q : bool
            It belongs to q.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<klqp.{type(self).__name__} {self.name!r} shape={self.shape}>"


class Distribution(RandomVariable):
    """A random variable of a named distribution; not used by itself.

    Subclasses give, as NumPy functions of the parameters (arrays that broadcast to the batch shape, perhaps with a
    leading axis of draws): ``_sample(rng, shape, **parameters)``, where shape is that of all the draws, and where
    they exist ``_mean``, ``_variance`` and ``_entropy``.
    """

    # The space of each parameter, by name, in the order of the kernel's arguments.
    parameter_supports: ClassVar[Mapping[str, Support]]
    # For those with native draws, `noise_size` numbers of noise and `emit_draw`: whether the noise is standard "normal"
    # or "uniform" numbers, and whether draws have a derivative in the parameters.
    noise_kind: ClassVar[str] = "normal"
    pathwise: ClassVar[bool] = True
    # The ways in which it is the likelihood of a generalised linear model.
    glm: ClassVar[tuple[GLM, ...]] = ()

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        shape: int | Shape | None,
        name: str | None,
        support: Support = REAL,
        event_shape: Shape = (),
    ) -> None:
        self.parameters = {key: self._read(key, value) for key, value in parameters.items()}
        self.event_shape = event_shape
        super().__init__(self._total_shape(shape), tuple(self.parameters.values()), name=name, support=support)

    # --- shapes ----------------------------------------------------------------------------------------------
    @property
    def batch_shape(self) -> Shape:
        """Shape without the axes of one event."""
        return self.shape[: len(self.shape) - len(self.event_shape)]

    @property
    def n_events(self) -> int:
        """Number of events: of elements for distributions of numbers."""
        return int(np.prod(self.batch_shape, dtype=np.int64))

    def _parameter_batch_shape(self, key: str, parameter: Expression) -> Shape:
        """Return the part of a parameter's shape that belongs to the batch."""
        ndim = self.parameter_supports[key].event_ndim
        return parameter.shape[: parameter.ndim - ndim]

    def _total_shape(self, shape: int | Shape | None) -> Shape:
        shapes = {key: self._parameter_batch_shape(key, p) for key, p in self.parameters.items()}
        kind = type(self).__name__
        try:
            batch = np.broadcast_shapes(*shapes.values())
        except ValueError:
            raise ValueError(f"the parameters of {kind} have shapes that do not broadcast: {shapes}") from None
        if shape is None:
            return batch + self.event_shape
        from klqp._checks import positive_int

        sizes = shape if isinstance(shape, tuple) else (shape,)
        total = tuple(positive_int("each size in shape", n) for n in sizes)
        given = total[: len(total) - len(self.event_shape)]
        try:
            fits = total[len(given) :] == self.event_shape and np.broadcast_shapes(given, batch) == given
        except ValueError:
            fits = False
        if not fits:
            expected = f"{batch} to broadcast" + (f" and events {self.event_shape}" if self.event_shape else "")
            raise ValueError(f"shape {total} of {kind} does not fit its parameters: they need {expected}")
        return total

    def _read(self, key: str, value: Any) -> Expression:
        what = f"{key} of {type(self).__name__}"
        support = self.parameter_supports[key]
        if not isinstance(value, Expression):
            value = Constant(as_data(value, what))
        if isinstance(value, Constant) and not support.contains(value.value):
            raise ValueError(
                f"{what} must be {support.words or support}, not {np.array2string(value.value, threshold=6)}"
            )
        if value.ndim < support.event_ndim:
            raise ValueError(f"{what} must have at least {support.event_ndim} axes, not shape {value.shape}")
        return as_expression(value)

    def check_drawn(self, key: str, values: Float64) -> None:
        """Refuse values of a parameter, computed from drawn parents, that are outside its space.

        Raises
        ------
        ValueError
            If there are such values.
        """
        support = self.parameter_supports[key]
        if not support.contains(values):
            raise ValueError(
                f"{key} of {type(self).__name__} {self.name!r} must be {support.words or support}, but what it "
                f"depends on gave {np.array2string(values, threshold=6)}"
            )

    # --- values ----------------------------------------------------------------------------------------------
    def sample(self, n: int | None = None, seed: Seed = None) -> Float64:
        r"""Draw values; variables that the parameters depend on are drawn first.

        Parameters
        ----------
        n : int, optional
            Number of draws; default: one, without an axis for it.
        seed : int, SeedSequence, Generator or None

        Returns
        -------
        ndarray (n, \*shape), or of the variable's shape
        """
        from klqp.model.ancestral import sample

        return sample(self, n, seed)

    def log_prob(self, x: npt.ArrayLike) -> Float64:
        """Return the log density, or log probability, of values.

        Parameters
        ----------
        x : array_like
            Of the variable's shape, or with leading axes of draws.

        Returns
        -------
        ndarray
            One number for each draw and event: ``x.shape`` without the event's axes.

        Raises
        ------
        TypeError
            If the parameters depend on other random variables.
        ValueError
            If x has another shape or holds NaN.
        """
        from klqp.model.ancestral import log_prob

        return log_prob(self, x)

    def mean(self, axis: int | None = None) -> Any:
        """Return the mean, of the variable's shape; NaN or inf where there is none."""
        if axis is not None:
            return super().mean(axis)
        return self._moment("_mean")

    def variance(self) -> Float64:
        """Return the variances, of the variable's shape."""
        return self._moment("_variance")

    def stddev(self) -> Float64:
        """Return the standard deviations, of the variable's shape."""
        return np.sqrt(self.variance())

    def entropy(self) -> Float64:
        """Return the entropy of each event in nats, of the batch's shape."""
        values = self._moment_value("_entropy")
        return np.broadcast_to(values, self.batch_shape).copy()

    def _moment(self, which: str) -> Float64:
        return np.broadcast_to(self._moment_value(which), self.shape).copy()

    def _moment_value(self, which: str) -> Float64:
        from klqp.model.ancestral import parameter_values

        rule = getattr(self, which, None)
        if rule is None:
            raise TypeError(f"the {which[1:]} of {type(self).__name__} has no formula here")
        with np.errstate(all="ignore"):
            return np.asarray(rule(**parameter_values(self)), np.float64)

    # Draws of a shape, from parameters by name that broadcast to its batch part.
    def _sample(self, *args: Any, **parameters: Any) -> Float64:
        raise TypeError(f"{type(self).__name__} has no sampler")


class ElementwiseDistribution(Distribution):
    """A distribution of numbers whose log density is a kernel; not used by itself.

    `kernel` names it in csrc/kernels/densities.
    """

    kernel: str

    def emit_log_prob(
        self,
        emitter: Emitter,
        value: int,
        args: Sequence[int],
        *,
        scale: int | None = None,
        summed: bool = True,
        log_q: bool = False,
    ) -> int:
        """Add the log density to a program."""
        fitted = [self._fit(emitter, p, slot) for p, slot in zip(self.inputs, args, strict=True)]
        inputs = [value, *fitted] + ([] if scale is None else [scale])
        return emitter.core.density(self.kernel, inputs, self.size, summed, scale is not None, log_q)

    def _fit(self, emitter: Emitter, parameter: Expression, slot: int) -> int:
        """Repeat a parameter's array to the variable's size where it is neither that nor one number."""
        return fit_events(emitter, slot, parameter, 0, self.shape)


def rng_of(seed: Seed) -> np.random.Generator:
    """Return NumPy's generator for a seed."""
    return np.random.Generator(np.random.Philox(as_key(seed)))
