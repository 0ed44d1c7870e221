"""Generalised linear models: which parameters of a distribution a linear predictor can give, and through which link."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from klqp.model import nodes
from klqp.model.expression import Constant, Expression, Node

__all__ = ["GLM", "given", "inverse_of", "log_mean_of_gamma", "log_of"]

Parameters = Mapping[str, Expression]
Link = Callable[[Parameters], Expression | None]


@dataclass(frozen=True)
class GLM:
    """A way in which a distribution is the likelihood of a generalised linear model.

    Attributes
    ----------
    name : str
        Row of the core's registry, `klqp._core.GLM_LIKELIHOODS`.
    link : callable
        Takes the distribution's parameters by name, and returns the linear predictor; None where they have another
        form.
    parameters : tuple of str
        The other parameters, in the core's order.
    vector : str, optional
        The parameter that is a vector for all rows.
    columns : bool
        Whether the linear predictor has a last axis: one number for each category.
    """

    name: str
    link: Link
    parameters: tuple[str, ...] = ()
    vector: str | None = None
    columns: bool = False


def given(key: str) -> Link:
    """Return the link of a parameter that is the linear predictor itself."""
    return lambda parameters: parameters.get(key)


def inverse_of(op: str, key: str) -> Link:
    """Return the link of a parameter that is an elementwise function of the linear predictor."""

    def link(parameters: Parameters) -> Expression | None:
        mean = parameters.get(key)
        return mean.inputs[0] if isinstance(mean, Node) and mean.op == op else None

    return link


def log_of(key: str) -> Link:
    """Return the link of a positive parameter that is a product of exponentials and of positive data or numbers."""

    def link(parameters: Parameters) -> Expression | None:
        logs = _Logs()
        return logs.total() if key in parameters and logs.add(parameters[key]) else None

    return link


def log_mean_of_gamma(parameters: Parameters) -> Expression | None:
    """Return the logarithm of concentration / rate, where that is a sum without logarithms of arrays."""
    logs = _Logs()
    rate = logs.add(parameters["rate"], -1.0)
    concentration = parameters["concentration"]
    return logs.total() if rate and logs.add(concentration) else None


class _Logs:
    """Collects the logarithm of a product as a sum: of arguments of exponentials, and of logarithms of factors.

    A factor that is divided by itself, as the concentration is in the mean of a Gamma variable, leaves nothing.
    """

    def __init__(self) -> None:
        self._exponents: dict[Expression, float] = {}
        self._factors: dict[Expression, float] = {}

    def add(self, x: Expression, sign: float = 1.0) -> bool:
        """Add sign * log(x); return whether that could be done without the logarithm of an array that varies."""
        if x.size > 1 and isinstance(x, Node):
            return self._add_node(x, sign)
        if isinstance(x, Constant) and not (x.value > 0).all():
            return False
        if x.size > 1 and not isinstance(x, Constant):
            return False
        self._factors[x] = self._factors.get(x, 0.0) + sign
        return True

    def _add_node(self, x: Node, sign: float) -> bool:
        if x.op == "exp":
            self._exponents[x.inputs[0]] = self._exponents.get(x.inputs[0], 0.0) + sign
            return True
        if x.op == "reciprocal":
            return self.add(x.inputs[0], -sign)
        if x.op == "multiply_constant" and x.numbers["constant"][0] > 0:
            return self.add(x.inputs[0], sign) and self.add(Constant(x.numbers["constant"][0]), sign)
        if x.op in ("multiply", "divide"):
            a, b = x.inputs
            return self.add(a, sign) and self.add(b, sign if x.op == "multiply" else -sign)
        return False

    def total(self) -> Expression | None:
        """Return the sum; None where there is no exponential in it."""
        parts = [(x, weight) for x, weight in self._exponents.items() if weight != 0]
        if not parts:
            return None
        out: Expression | None = None
        for x, weight in [*parts, *((nodes.log(x), w) for x, w in self._factors.items() if w != 0)]:
            part = x if weight == 1 else nodes.negative(x) if weight == -1 else nodes.multiply(x, weight)
            out = part if out is None else nodes.add(out, part)
        return out
