"""Draws of random variables from their own distribution inside a program, with NumPy's samplers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from klqp.model.random_variable import Distribution

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["PriorDraw"]

Float64 = npt.NDArray[np.float64]


class PriorDraw:
    """Draws a variable once for each draw of a step; seeded by noise, so that it is a function of seed, step and draw.

    No cotangent flows through it to its parameters.
    """

    def __init__(self, variable: Distribution, varies: list[bool]) -> None:
        self._variable = variable
        self._varies = varies

    @classmethod
    def emit(cls, emitter: Emitter, variable: Any, args: list[int], noise: int) -> int:
        """Add the draw to a program.

        Raises
        ------
        TypeError
            If its parameters depend on what is optimised: the gradient would be wrong.
        """
        if not isinstance(variable, Distribution):
            raise TypeError(f"{variable!r} is neither latent nor observed, and cannot be drawn from its prior")
        cls.require_no_gradient(emitter, variable, args)
        call = cls(variable, [not emitter.core.flags(slot)[2] for slot in args])
        return emitter.core.python(call, [*args, noise], variable.size)

    @staticmethod
    def require_no_gradient(emitter: Emitter, variable: Distribution, args: list[int]) -> None:
        """Raise TypeError if parameters of draws without a gradient depend on what is optimised."""
        if any(emitter.core.flags(slot)[1] for slot in args):
            raise TypeError(
                f"{variable.name!r} is neither latent nor observed, and its draws ({type(variable).__name__}) have no "
                "gradient in the parameters it depends on: list it among latent_vars"
            )

    def forward(self, args: list[Float64]) -> Float64:
        """Return draws (rows, size)."""
        *given, noise = args
        v = self._variable
        out = np.empty((len(noise), v.size))
        for s in range(len(noise)):
            rng = np.random.Generator(np.random.Philox(key=np.frombuffer(_digest(noise[s]), np.uint64)))
            parameters = {
                key: (a[s] if varies else a[0]).reshape(p.shape)
                for (key, p), a, varies in zip(v.parameters.items(), given, self._varies, strict=True)
            }
            out[s] = np.broadcast_to(v._sample(rng, v.shape, **parameters), v.shape).ravel()
        return out

    def backward(self, args: list[Float64], cot: Float64) -> list[None]:
        """Return nothing for every argument."""
        return [None] * len(args)


def _digest(noise: Float64) -> bytes:
    import hashlib  # loads OpenSSL

    return hashlib.blake2b(noise.tobytes(), digest_size=16).digest()
