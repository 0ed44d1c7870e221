"""Random variables: the latent quantities a posterior is wanted of."""

from __future__ import annotations

import math
import pickle
from typing import Any

from klqp._checks import positive_int
from klqp.native import capsule_of

__all__ = ["LogDensity", "RandomVariable"]


class RandomVariable:
    """A named quantity with a shape; compared by identity, so that copies are the variable itself.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Shape of one value; () for a scalar.
    support : str
        The space of its values.
    """

    def __init__(self, shape: int | tuple[int, ...], *, name: str, support: str = "real") -> None:
        self.shape = _as_shape(shape)
        self.name = name
        self.support = support

    @property
    def size(self) -> int:
        """Number of coordinates of one value."""
        return math.prod(self.shape)

    def __copy__(self) -> RandomVariable:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RandomVariable:
        return self

    def __repr__(self) -> str:
        return f"<klqp.{type(self).__name__} {self.name!r} shape={self.shape}>"


class LogDensity(RandomVariable):
    """A random variable whose log density, up to a constant, is the user's own function.

    Parameters
    ----------
    fn : callable or native function
        ``fn(z)`` with ``z`` of shape ``(S, *shape)``: S values at once. It returns ``logp (S,)`` and the gradient
        ``(S, *shape)`` as a pair, or ``logp`` alone when only score-function gradients are to be used. -inf says
        that a value is outside the support. A native function (see `klqp.native`) sees ``(S, D)``.
    shape : int or tuple of int
        Shape of one value; ``D`` means ``(D,)``, ``()`` a scalar.
    support : {"real"}
        The function is defined on all of R^D.
    name : str, default "z"
        Key of the variable in ``inference.posterior``.

    Raises
    ------
    TypeError, ValueError
        If `fn` is not callable, or shape or support are not as above.
    """

    def __init__(self, fn: Any, *, shape: int | tuple[int, ...], support: str = "real", name: str = "z") -> None:
        if capsule_of(fn) is None and not callable(fn):
            raise TypeError(f"the log density must be callable or a native function, not {type(fn).__name__}")
        if support != "real":
            raise ValueError(
                f"support must be 'real', not {support!r}: write the log density on R^D, with the log-Jacobian of "
                "the transform included"
            )
        if not isinstance(name, str) or not name:
            raise ValueError(f"name must be a string that is not empty, not {name!r}")
        super().__init__(shape, name=name, support=support)
        self.fn = fn

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if not _can_be_pickled(self.fn):
            state["fn"] = LostLogDensity()
        return state


class LostLogDensity:
    """Stands for a log density that could not be pickled with its results."""

    def __call__(self, *_: Any) -> Any:
        """Raise ValueError."""
        raise ValueError(
            "the log density could not be pickled with these results (a lambda or a nested function, perhaps): "
            "moments and draws are here, but nothing that evaluates it"
        )


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


def _as_shape(shape: Any) -> tuple[int, ...]:
    sizes = shape if isinstance(shape, tuple) else (shape,)
    return tuple(positive_int("each size in shape", n) for n in sizes)
