"""A NumPy log density inside JAX: a callback that returns value and gradient, with its rule of differentiation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bench.posteriors.targets import Counted

jax.config.update("jax_enable_x64", True)


def log_density(target: Counted) -> Callable[[Any], Any]:
    """Return a function of one point (D,) that can be differentiated, compiled, and mapped with one call for all."""

    def on_host(z: Any) -> tuple[Any, Any]:
        points = np.asarray(z, float).reshape(-1, target.dim)
        with np.errstate(all="ignore"):
            logp, grad = target(np.ascontiguousarray(points))
        return np.asarray(logp, float).reshape(z.shape[:-1]), np.asarray(grad, float).reshape(z.shape)

    def both(z: Any) -> tuple[Any, Any]:
        shapes = jax.ShapeDtypeStruct(z.shape[:-1], z.dtype), jax.ShapeDtypeStruct(z.shape, z.dtype)
        value, gradient = jax.pure_callback(on_host, shapes, z, vmap_method="expand_dims")
        return value, gradient

    @jax.custom_vjp
    def logp(z: Any) -> Any:
        return both(z)[0]

    logp.defvjp(both, lambda grad, g: (g[..., None] * grad,))
    return logp
