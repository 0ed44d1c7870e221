"""Functions of random variables, as random variables with a density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from klqp.model.distributions.change_of_variables import as_log_q, change_variables
from klqp.model.expression import Constant, Expression, as_data
from klqp.model.random_variable import Distribution, RandomVariable, Shape
from klqp.model.supports import POSITIVE, REAL, UNIT_INTERVAL, Support, interval, lower_bounded, upper_bounded

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["TransformedDistribution"]

Float64 = npt.NDArray[np.float64]
_INFINITY = float("inf")


class TransformedDistribution(Distribution):
    """The distribution of a function of a continuous random variable, elementwise, by change of variables.

    Parameters
    ----------
    distribution : Distribution
        Of x. It gives its parameters and is no variable of the model itself.
    bijector : str or tuple
        "exp", "softplus", "sigmoid", or ("affine", shift, scale) for ``shift + scale * x``, whose shift and scale
        (not 0) are numbers, arrays or expressions that broadcast to x.
    name : str, optional

    Examples
    --------
    >>> import klqp
    >>> log_normal = klqp.TransformedDistribution(klqp.Normal(0.0, 1.0), "exp")
    >>> log_normal.support
    'positive'
    """

    def __init__(self, distribution: Distribution, bijector: Any, *, name: str | None = None) -> None:
        if not isinstance(distribution, Distribution):
            raise TypeError(f"distribution must be a distribution, not {type(distribution).__name__}")
        base = self.distribution = distribution
        if base.discrete:
            raise TypeError(f"{type(base).__name__} is discrete: only densities change with the variable")
        self.bijector, constants = _read_bijector(bijector, base.shape)
        self._n_base = len(base.parameters)
        self.parameters = {**base.parameters, **constants}
        number = Support("real", 0, "identity")
        self.parameter_supports = {  # type: ignore[misc]
            **base.parameter_supports,
            **{key: Support(number.name, len(base.event_shape), "identity") for key in constants},
        }
        self.event_shape = base.event_shape
        support = _image(self.bijector, base.space, constants)
        RandomVariable.__init__(self, base.shape, tuple(self.parameters.values()), name=name, support=support)

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
        if log_q:
            value, args = as_log_q(emitter, self, value, args)
        of_base, constants = args[: self._n_base], args[self._n_base :]

        def base(x: int) -> int:
            return self.distribution.emit_log_prob(emitter, x, of_base, scale=scale, summed=summed)

        return change_variables(
            emitter, self, [value, *constants], base, scale=scale, summed=summed, bijector=self.bijector
        )

    def _sample(self, rng: np.random.Generator, shape: Shape, **parameters: Float64) -> Float64:
        base = {key: parameters[key] for key in list(self.parameters)[: self._n_base]}
        return self._forward(self.distribution._sample(rng, shape, **base), parameters)

    def _forward(self, x: Float64, parameters: dict[str, Float64]) -> Float64:
        if self.bijector == "affine":
            return np.asarray(parameters["bijector_shift"] + parameters["bijector_scale"] * x)
        if self.bijector == "exp":
            return np.exp(x)
        from scipy.special import expit

        return np.logaddexp(0.0, x) if self.bijector == "softplus" else np.asarray(expit(x))

    def _mean(self, **parameters: Float64) -> Float64:
        return self._forward(self._affine_moment("_mean", parameters), parameters)

    def _variance(self, **parameters: Float64) -> Float64:
        return np.asarray(parameters["bijector_scale"] ** 2 * self._affine_moment("_variance", parameters))

    def _entropy(self, **parameters: Float64) -> Float64:
        logs = np.broadcast_to(np.log(np.abs(parameters.get("bijector_scale", np.ones(())))), self.shape)
        axes = tuple(range(len(self.batch_shape), len(self.shape)))
        return np.asarray(self._affine_moment("_entropy", parameters) + logs.sum(axes))

    def _affine_moment(self, which: str, parameters: dict[str, Float64]) -> Float64:
        rule = getattr(self.distribution, which, None)
        if self.bijector != "affine" or rule is None:
            raise TypeError(f"the {which[1:]} of this TransformedDistribution has no formula here")
        base = {key: parameters[key] for key in list(self.parameters)[: self._n_base]}
        return np.asarray(rule(**base), np.float64)


def _read_bijector(bijector: Any, shape: Shape) -> tuple[str, dict[str, Expression]]:
    if bijector in ("exp", "softplus", "sigmoid") and isinstance(bijector, str):
        return bijector, {}
    if not (isinstance(bijector, tuple) and len(bijector) == 3 and bijector[0] == "affine"):
        raise ValueError(f"bijector must be 'exp', 'softplus', 'sigmoid' or ('affine', shift, scale), not {bijector!r}")
    from klqp.model.nodes import broadcast_to

    constants = {}
    for key, value in zip(("shift", "scale"), bijector[1:], strict=True):
        what = f"{key} of the affine map"
        expression = value if isinstance(value, Expression) else Constant(as_data(value, what))
        if key == "scale" and isinstance(expression, Constant) and not (expression.value != 0).all():
            raise ValueError(f"{what} must not be 0")
        try:
            if np.broadcast_shapes(expression.shape, shape) != shape:
                raise ValueError
        except ValueError:
            raise ValueError(f"{what} has shape {expression.shape}, but x {shape}") from None
        constants[f"bijector_{key}"] = expression if expression.size == 1 else broadcast_to(expression, shape)
    return "affine", constants


def _image(bijector: str, space: Support, constants: dict[str, Expression]) -> Support:
    """Return the space that a space of numbers, or of vectors of them, is mapped to."""
    from scipy.special import expit

    if space.name == "real":
        low, high = -_INFINITY, _INFINITY
    else:
        lower = (0.0,) if space.name in ("positive", "nonnegative", "unit_interval") else space.lower
        upper = (1.0,) if space.name == "unit_interval" else space.upper
        if space.event_ndim or len(lower) > 1 or len(upper) > 1 or space.name in ("simplex", "ordered"):
            raise ValueError(f"variables that are {space.name} cannot be transformed here")
        low, high = lower[0] if lower else -_INFINITY, upper[0] if upper else _INFINITY
    if bijector == "affine":
        if space.name == "real":
            return space
        shift, scale = constants["bijector_shift"], constants["bijector_scale"]
        if not (isinstance(shift, Constant) and isinstance(scale, Constant) and shift.size == scale.size == 1):
            raise ValueError("the support of an affine function of a bounded variable must be known: use numbers")
        ends = sorted(float(shift.value.item() + scale.value.item() * x) for x in (low, high))
    else:
        maps = {"exp": np.exp, "softplus": lambda x: np.logaddexp(0.0, x), "sigmoid": expit}
        ends = [float(maps[bijector](x)) for x in (low, high)]
    made = _between(ends[0], ends[1], space.event_ndim)
    # A softplus of all numbers goes back to them: with a normal q, softplus of a normal is held exactly.
    return replace(made, bijector="softplus") if bijector == "softplus" and made.name == "positive" else made


def _between(low: float, high: float, event_ndim: int) -> Support:
    if (low, high) == (-_INFINITY, _INFINITY):
        made = REAL
    elif (low, high) == (0.0, _INFINITY):
        made = POSITIVE
    elif (low, high) == (0.0, 1.0):
        made = UNIT_INTERVAL
    elif high == _INFINITY:
        made = lower_bounded(low)
    elif low == -_INFINITY:
        made = upper_bounded(high)
    else:
        made = interval(low, high)
    return replace(made, event_ndim=event_ndim)
