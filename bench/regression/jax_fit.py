"""The fit in JAX, written by hand: Adam in one compiled scan, in the layout and with the gradient that compile best.

Data are arguments of the compiled function, so that they are not folded into it as constants.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from bench.peers.common import BETA1, BETA2, EPSILON, Answer, learning_rates
from bench.regression.problem import LEARNING_RATE

jax.config.update("jax_enable_x64", True)


def rows(x, z):
    """Return the linear predictor (S, N) of x (N, D), and how to pull back (S, N)."""
    return z @ x.T, lambda residual: residual @ x


def columns(xt, z):
    """Return the linear predictor (S, N) of X kept as xt (D, N), and how to pull back (S, N)."""
    return z @ xt, lambda residual: residual @ xt.T


def draws_last(x, z):
    """Return the linear predictor (N, S) of x (N, D), and how to pull back (N, S)."""
    return x @ z.T, lambda residual: residual.T @ x


# name -> (predictor, whether it wants X transposed in memory, whether draws are the last axis)
LAYOUTS = {"rows": (rows, False, False), "columns": (columns, True, False), "draws last": (draws_last, False, True)}


def by_hand(predict, last):
    """Return log density and gradient at z (S, D), with one exponential for both."""
    axis = 0 if last else 1

    def both(x, y, z):
        eta, pull = predict(x, z)
        outcome = y[:, None] if last else y
        decay = jnp.exp(-jnp.abs(eta))
        softplus = jnp.maximum(eta, 0) + jnp.log1p(decay)
        logp = jnp.sum(outcome * eta - softplus, axis) - 0.5 * jnp.sum(z * z, 1)
        sigmoid = jnp.where(eta >= 0, 1, decay) / (1 + decay)
        return logp, pull(outcome - sigmoid) - z

    return both


def by_autodiff(predict, last):
    """Return log density and gradient at z (S, D), the gradient by jax.grad."""
    axis = 0 if last else 1

    def both(x, y, z):
        def total(z):
            eta, _ = predict(x, z)
            outcome = y[:, None] if last else y
            logp = jnp.sum(outcome * eta - jax.nn.softplus(eta), axis) - 0.5 * jnp.sum(z * z, 1)
            return jnp.sum(logp), logp

        (_, logp), grad = jax.value_and_grad(total, has_aux=True)(z)
        return logp, grad

    return both


GRADIENTS = {"by hand": by_hand, "autodiff": by_autodiff}
# Of the six, those that were the fastest, or near it, at some shape.
VARIANTS = [("rows", "by hand"), ("columns", "by hand"), ("draws last", "by hand"), ("columns", "autodiff")]


def make_fit(log_density, dim, n_draws, init_scale, dtype):
    """Return the fit as a function of (x, y, key, learning rates)."""

    def fit(x, y, key, rates):
        def step(carry, now):
            params, first, second = carry
            t, rate = now
            loc, rho = params
            scale = jnp.exp(rho)
            eps = jax.random.normal(jax.random.fold_in(key, t), (n_draws, dim), dtype)
            logp, glogp = log_density(x, y, loc + scale * eps)
            loss = -(jnp.mean(logp) + 0.5 * jnp.sum(eps * eps) / n_draws + jnp.sum(rho))
            cotangent = glogp + eps / scale
            grad = jnp.stack([jnp.mean(cotangent, 0), jnp.mean(cotangent * eps, 0) * scale])
            first = BETA1 * first + (1 - BETA1) * grad
            second = BETA2 * second + (1 - BETA2) * grad * grad
            power = t.astype(dtype)
            scaled = jnp.sqrt(second / (1 - BETA2**power)) + EPSILON
            return (params + rate / (1 - BETA1**power) * first / scaled, first, second), loss

        zeros = jnp.zeros((2, dim), dtype)
        start = jnp.stack([zeros[0], jnp.full(dim, np.log(init_scale), dtype)])
        (params, _, _), losses = jax.lax.scan(step, (start, zeros, zeros), (jnp.arange(1, len(rates) + 1), rates))
        return params, losses

    return fit


class JaxFit:
    """A compiled fit.

    Parameters
    ----------
    problem : Problem
    n_steps : int
    layout, gradient : str
        Names of `LAYOUTS` and `GRADIENTS`.
    keys : str, optional
        Implementation of JAX's random keys; its default, threefry, if None.

    Attributes
    ----------
    compile_seconds : float
        Tracing and compiling, once.
    """

    def __init__(self, problem, n_steps, layout="rows", gradient="by hand", keys=None):
        predict, transposed, last = LAYOUTS[layout]
        x = jnp.asarray(problem.x.T if transposed else problem.x)
        dtype = x.dtype
        rates = jnp.asarray(learning_rates(n_steps, LEARNING_RATE), dtype)
        self._arguments = x, jnp.asarray(problem.y), jax.random.key(1, impl=keys), rates
        self.label = f"{layout}, {gradient}" + ("" if keys is None else f", {keys}")
        start = time.perf_counter()
        log_density = GRADIENTS[gradient](predict, last)
        fit = make_fit(log_density, problem.dim, problem.n_draws, problem.init_scale, dtype)
        self._fit = jax.jit(fit).lower(*self._arguments).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self):
        """Run the fit."""
        params, _ = jax.block_until_ready(self._fit(*self._arguments))
        mean, rho = np.asarray(params, float)
        return Answer(mean, np.exp(rho))
