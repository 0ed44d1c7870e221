"""LogJoint: a model's log density as a function of unconstrained coordinates, with its gradient."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.latents import read_latent_vars
from klqp.inference.problem import Problem, checked_value, read_data
from klqp.model.ancestral import pack
from klqp.model.emitter import Emitter
from klqp.model.fused import emit_total
from klqp.model.parameter import Parameter, Placeholder
from klqp.model.random_variable import RandomVariable
from klqp.targets import coerce

__all__ = ["LogJoint"]

Float64 = npt.NDArray[np.float64]


class LogJoint:
    """The joint log density of latent variables and data, as a function with its gradient.

    ``log p(x, z(u)) + log |dz/du|``, where z are the latent variables and u, on R^dim, their unconstrained coordinates.
    Samplers, optimizers and `klqp.fit` ask for it; the native program of an inference of the model computes it.

    Parameters
    ----------
    latent_vars : list of random variables
        The latent variables: their coordinates, one variable after the other, are what the function takes.
    data : dict
        Observed values by random variable, and values of placeholders.

    Attributes
    ----------
    dim : int
        Number of unconstrained coordinates.
    slices : dict
        Where the coordinates of each latent variable lie, by name.

    Raises
    ------
    TypeError
        If an argument has another type, or a latent variable is discrete.
    ValueError
        If shapes or supports do not fit, a placeholder has no data, or the model has a random variable that is neither
        latent nor observed.

    Notes
    -----
    A `klqp.Parameter` of the model has the value that it has when the function is made. Threads may share a function:
    it computes one call after the other.

    Examples
    --------
    >>> import numpy as np, klqp
    >>> mu, sigma = klqp.Normal(0.0, 10.0, name="mu"), klqp.HalfCauchy(0.0, 1.0, name="sigma")
    >>> x = klqp.Normal(mu, sigma, shape=3)
    >>> log_joint = klqp.LogJoint([mu, sigma], data={x: [1.0, 2.0, 4.0]})
    >>> logp, grad = log_joint(np.zeros((5, 2)))
    >>> logp.shape, grad.shape
    ((5,), (5, 2))
    >>> log_joint.constrain(np.zeros((1, 2)))
    {'mu': array([0.]), 'sigma': array([1.])}
    """

    def __init__(self, latent_vars: Iterable[RandomVariable], data: Mapping[Any, Any] | None = None) -> None:
        if isinstance(latent_vars, Mapping):
            raise TypeError("latent_vars must be a list: a joint log density has no approximation")
        factors = read_latent_vars(latent_vars, None, None)
        read = read_data(data)
        if read.conditional:
            key = next(iter(read.conditional))
            raise TypeError(f"the data of {key.name!r} must be numbers, not a random variable")
        self._problem = Problem(factors, read.observed, {})
        self._feeds = read.feeds
        self.latent_vars = self._problem.latents
        self._check()
        self.slices: dict[str, slice] = {}
        self.dim = 0
        for z in self.latent_vars:
            n = z.space.transform(z.shape).n_unconstrained
            self.slices[z.name] = slice(self.dim, self.dim + n)
            self.dim += n
        self._target = self.__klqp_target__()
        self._lock = threading.Lock()

    def __call__(self, u: npt.ArrayLike) -> tuple[Float64, Float64]:
        """Return the log density at S points, and its gradient.

        Parameters
        ----------
        u : array_like (S, dim)
            Unconstrained coordinates.

        Returns
        -------
        logp : ndarray (S,)
            Not finite where the model is not defined.
        grad : ndarray (S, dim)
        """
        points = self._points(u)
        if not len(points):
            return np.zeros(0), points.copy()
        with self._lock:
            logp, grad = self._target.evaluate(points)
        assert grad is not None
        return logp, grad

    def constrain(self, u: npt.ArrayLike) -> dict[str, Float64]:
        r"""Return the latent variables' values at S points.

        Parameters
        ----------
        u : array_like (S, dim)

        Returns
        -------
        dict
            By name, ``(S, *shape)``.
        """
        points = self._points(u)
        out = {}
        for z in self.latent_vars:
            mine = np.ascontiguousarray(points[:, self.slices[z.name]])
            out[z.name] = z.space.transform(z.shape).forward(mine)[0].reshape(-1, *z.shape)
        return out

    def unconstrain(self, values: Mapping[Any, npt.ArrayLike]) -> Float64:
        r"""Return the unconstrained coordinates of values of all latent variables: the inverse of `constrain`.

        Parameters
        ----------
        values : dict
            By random variable or name: ``(S, *shape)``.

        Returns
        -------
        ndarray (S, dim)
            NaN or infinite where a value is outside its variable's support or on its boundary.

        Raises
        ------
        ValueError
            If a variable is missing, or shapes do not fit.
        """
        given = {getattr(key, "name", key): value for key, value in values.items()}
        if given.keys() != self.slices.keys():
            raise ValueError(f"values must have the keys {list(self.slices)}, not {list(given)}")
        n = len(np.atleast_1d(given[self.latent_vars[0].name]))
        columns = []
        for z in self.latent_vars:
            array = coerce(np.asarray(given[z.name]), (n, *z.shape), f"the values of {z.name!r}")
            columns.append(z.space.transform(z.shape).inverse(array.reshape(n, -1)))
        return np.concatenate(columns, axis=1)

    def __klqp_target__(self) -> _core.Target:
        """Return the log density as a run of the core takes it: a program of its own."""
        core = _core.Model()
        parameters = [e for e in self._problem.model if isinstance(e, Parameter)]
        offsets, params = pack(parameters)
        emitter = Emitter(core, offsets, trainable=set(), shared=self._problem.shared)
        u = core.input(self.dim)
        for z in self.latent_vars:
            begin = self.slices[z.name].start
            if z.space.bijector == "identity":
                whole = z.size == self.dim
                emitter.arrays[z] = u if whole else core.node("slice", [u], z.size, {"begin": [begin]}, {})
            else:
                emitter.arrays[z], log_jacobian = emitter.transform(z.space, z.shape, u, begin)
                total = emitter.total(log_jacobian, z.space.transform(z.shape).n_events)
                core.term("prior", z.name, total)
        for variable, value in self._problem.observed.items():
            fed = isinstance(value, Placeholder)
            emitter.arrays[variable] = emitter.emit(value) if fed else core.data(value)  # type: ignore[arg-type]
        for e in self._problem.model:
            if isinstance(e, RandomVariable):
                kind = "likelihood" if e in self._problem.observed else "prior"
                core.term(kind, e.name, emit_total(emitter, e, emitter.arrays[e]))
        for placeholder, values in self._feeds.items():
            emitter.set_placeholder(placeholder, values)
        return core.as_target(u, params)

    def _check(self) -> None:
        problem = self._problem
        if not problem.latents:
            raise ValueError("latent_vars must have at least one random variable")
        for z in problem.latents:
            if z in problem.observed:
                raise ValueError(f"{z.name!r} is both latent and observed")
            z.space.bijector_args(z.shape)  # refuses spaces without a transform
        if problem.unlisted:
            names = [z.name for z in problem.unlisted]
            raise ValueError(f"the random variables {names} are neither latent nor observed")
        placeholders = {e for e in problem.model if isinstance(e, Placeholder)}
        placeholders |= {v for v in problem.observed.values() if isinstance(v, Placeholder)}
        if missing := [p.name for p in placeholders if p not in self._feeds]:
            raise ValueError(f"the placeholders {missing} have no data")
        for variable, value in problem.observed.items():
            if isinstance(value, Placeholder):
                checked_value(variable, self._feeds[value])

    def _points(self, u: npt.ArrayLike) -> Float64:
        array = np.asarray(u)
        if array.ndim != 2:
            raise ValueError(f"u must have shape (S, {self.dim}), but it has shape {array.shape}")
        return coerce(array, (len(array), self.dim), "u")

    def __reduce__(self) -> Any:
        data: dict[Any, Any] = {**self._problem.observed, **self._feeds}
        return LogJoint, (list(self.latent_vars), data)

    def __repr__(self) -> str:
        return f"<klqp.LogJoint of {', '.join(self.slices)}: dim={self.dim}>"
