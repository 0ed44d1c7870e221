"""Use of a fitted model: copies with latent variables replaced, scores of predictions, posterior predictive checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from klqp._checks import positive_int
from klqp._seeds import Seed
from klqp.model.ancestral import ancestral, parameters_of_draws
from klqp.model.ancestral import evaluate as evaluate_expressions
from klqp.model.emitter import ancestors
from klqp.model.expression import Expression, as_data
from klqp.model.random_variable import Distribution, RandomVariable, rng_of
from klqp.posterior import Marginal

__all__ = ["Predictive", "copy", "evaluate", "ppc"]

Float64 = npt.NDArray[np.float64]
Replacement: TypeAlias = "Marginal | RandomVariable | npt.ArrayLike"
Metric: TypeAlias = "str | Callable[[Float64, Float64], float]"


class Predictive:
    """A random variable whose latent variables are replaced: drawn from posteriors, or set to numbers.

    Made by `copy`.
    """

    def __init__(self, variable: Distribution, replacements: Mapping[RandomVariable, Any]) -> None:
        self.variable = variable
        self.replacements = dict(replacements)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value."""
        return self.variable.shape

    @property
    def name(self) -> str:
        """Name of the variable."""
        return self.variable.name

    def sample(self, n: int | None = None, seed: Seed = None) -> Float64:
        """Return draws ``(n, *shape)``, each with fresh values of the replaced variables.

        Parameters
        ----------
        n : int, optional
            Number of draws; default: one, without an axis for it.
        seed : int, SeedSequence, Generator or None
        """
        draws = 1 if n is None else positive_int("n", n)
        out = self._draw(draws, rng_of(seed))[self.variable]
        return out[0] if n is None else out

    def mean(self, n: int = 1000, seed: Seed = None) -> Float64:
        """Return the mean over `n` draws of the replaced variables of the variable's mean given them."""
        return np.asarray(self._given(n, rng_of(seed), "_mean").mean(0))

    def log_prob(self, x: npt.ArrayLike, n: int = 1000, seed: Seed = None) -> Float64:
        """Return log p of each event of a value given the replaced variables, one row for each of `n` draws of them."""
        value = as_data(x, f"the value of {self.name!r}")
        if value.shape != self.shape:
            raise ValueError(f"the value of {self.name!r} must have shape {self.shape}, not {value.shape}")
        known = self._draw(positive_int("n", n), rng_of(seed), with_self=False)
        node = _LogProb(self.variable, value)
        (out,) = evaluate_expressions([node], known, n)
        return np.broadcast_to(out, (n, *self.variable.batch_shape))

    def _given(self, n: int, rng: np.random.Generator, which: str) -> Float64:
        """Return a moment of the variable for each draw of what it depends on."""
        known = self._draw(positive_int("n", n), rng, with_self=False)
        rule = getattr(self.variable, which, None)
        if rule is None:
            raise TypeError(f"the {which[1:]} of {type(self.variable).__name__} has no formula here")
        values = rule(**parameters_of_draws(self.variable, n, known))
        return np.broadcast_to(values, (n, *self.shape))

    def _draw(self, n: int, rng: np.random.Generator, with_self: bool = True) -> dict[Expression, Float64]:
        given = _values(self.replacements, n, rng)
        roots: list[Expression] = [self.variable] if with_self else list(self.variable.inputs)
        return ancestral(variable_roots=roots, n=n, rng=rng, given=given)

    def __repr__(self) -> str:
        names = ", ".join(z.name for z in self.replacements)
        return f"<copy of {self.variable!r} with {names or 'nothing'} replaced>"


class _LogProb(Expression):
    """The log density of a variable at a value, as an expression of its parameters."""

    def __init__(self, variable: Distribution, value: Float64) -> None:
        super().__init__(variable.batch_shape, variable.inputs)
        self._variable, self._value = variable, value

    def emit(self, emitter: Any, inputs: Sequence[int]) -> int:
        value = emitter.core.data(self._value)
        return self._variable.emit_log_prob(emitter, value, inputs, summed=False)


def _values(replacements: Mapping[RandomVariable, Any], n: int, rng: np.random.Generator) -> dict[Expression, Float64]:
    """Return n values of each replaced variable; those of one posterior are its joint draws."""
    joint: dict[int, dict[str, Float64]] = {}
    values: dict[Expression, Float64] = {}
    for z, replacement in replacements.items():
        if isinstance(replacement, Marginal):
            posterior = replacement._posterior
            if id(posterior) not in joint:
                joint[id(posterior)] = posterior.sample(n, rng)
            draws = joint[id(posterior)][replacement._variable.name]
        elif isinstance(replacement, Distribution):
            draws = replacement.sample(n, rng)
        else:
            draws = np.broadcast_to(as_data(replacement, f"the value of {z.name!r}"), (n, *z.shape))
        if draws.shape != (n, *z.shape):
            raise ValueError(f"{z.name!r} has shape {z.shape}, but what replaces it has shape {draws.shape[1:]}")
        values[z] = np.ascontiguousarray(draws)
    return values


def copy(variable: RandomVariable, replace: Mapping[Any, Any] | None = None) -> Predictive:
    """Return a random variable with some of those it depends on replaced: the posterior predictive.

    Parameters
    ----------
    variable : random variable
    replace : dict
        By random variable what takes its place: its posterior ``inference.posterior[z]``, another random variable, or
        numbers. Several variables of one posterior get its joint draws.

    Returns
    -------
    Predictive
        With ``sample(n, seed)``, ``mean()`` and ``log_prob(x)``.

    Raises
    ------
    TypeError, ValueError
        If `variable` cannot be drawn, or does not depend on a key of `replace`.

    Examples
    --------
    >>> import klqp
    >>> w = klqp.Normal(0.0, 1.0, name="w")
    >>> y = klqp.Normal(2.0 * w, 1.0)
    >>> klqp.copy(y, {w: 3.0}).sample(5, seed=1).shape
    (5,)
    """
    if not isinstance(variable, Distribution):
        raise TypeError(f"copy takes a random variable that can be drawn, not {type(variable).__name__}")
    above = set(ancestors([variable], lambda e: e.inputs))
    for z in replace or {}:
        if not isinstance(z, RandomVariable) or z not in above or z is variable:
            name = getattr(z, "name", repr(z))
            raise ValueError(f"{variable.name!r} does not depend on {name!r}")
    return Predictive(variable, replace or {})


def _binary_accuracy(y: Float64, mean: Float64) -> float:
    return float(np.mean((mean > 0.5) == (y > 0.5)))


def _cross_entropy(y: Float64, mean: Float64) -> float:
    p = np.clip(mean, 1e-15, 1 - 1e-15)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))


METRICS: dict[str, Callable[[Float64, Float64], float]] = {
    "mean_squared_error": lambda y, mean: float(np.mean((y - mean) ** 2)),
    "mean_absolute_error": lambda y, mean: float(np.mean(np.abs(y - mean))),
    "mean_absolute_percentage_error": lambda y, mean: float(100 * np.mean(np.abs((y - mean) / y))),
    "mean_squared_logarithmic_error": lambda y, mean: float(np.mean((np.log1p(y) - np.log1p(mean)) ** 2)),
    "binary_accuracy": _binary_accuracy,
    "binary_crossentropy": _cross_entropy,
    "poisson": lambda y, mean: float(np.mean(mean - y * np.log(np.maximum(mean, 1e-300)))),
    "hinge": lambda y, mean: float(np.mean(np.maximum(0.0, 1.0 - y * mean))),
    "squared_hinge": lambda y, mean: float(np.mean(np.maximum(0.0, 1.0 - y * mean) ** 2)),
    "cosine_proximity": lambda y, mean: float(np.sum(y * mean) / np.sqrt(np.sum(y**2) * np.sum(mean**2))),
}
METRICS |= {"mse": METRICS["mean_squared_error"], "mae": METRICS["mean_absolute_error"]}


def evaluate(
    metrics: Metric | Sequence[Metric],
    data: Mapping[Any, npt.ArrayLike],
    n_samples: int = 500,
    seed: Seed = None,
) -> float | list[float]:
    """Score predictions against data.

    Parameters
    ----------
    metrics : str, callable, or list of them
        "log_likelihood" is log E_q[p(y | z)], summed over the events of y; "mean_log_likelihood_given_draws" is
        E_q[log p(y | z)] instead. The others compare y with the mean prediction: "mean_squared_error" ("mse"),
        "mean_absolute_error" ("mae"), "mean_absolute_percentage_error", "mean_squared_logarithmic_error",
        "binary_accuracy", "binary_crossentropy", "categorical_accuracy" (most probable class), "poisson", "hinge",
        "squared_hinge", "cosine_proximity"; or a callable ``f(y, mean)``.
    data : dict
        One copy (see `copy`) and its observed value.
    n_samples : int, default 500
        Draws of the replaced variables.
    seed : int, SeedSequence, Generator or None

    Returns
    -------
    float, or list of float for a list of metrics

    Raises
    ------
    TypeError, ValueError
        If there is not one copy in data, or a metric is unknown.
    """
    if not isinstance(data, Mapping) or len(data) != 1:
        raise ValueError("data must be a dict of one copy and its value: {klqp.copy(y, {w: posterior[w]}): y_test}")
    (predictive, value), n = next(iter(data.items())), positive_int("n_samples", n_samples)
    if isinstance(predictive, Distribution):
        predictive = Predictive(predictive, {})
    if not isinstance(predictive, Predictive):
        raise TypeError(f"the key of data must be a copy, not {type(predictive).__name__}: see klqp.copy")
    y = as_data(value, f"the data of {predictive.name!r}")
    if y.shape != predictive.shape:
        raise ValueError(f"the data of {predictive.name!r} must have shape {predictive.shape}, not {y.shape}")
    several = isinstance(metrics, Sequence) and not isinstance(metrics, str)
    wanted: list[Any] = list(metrics) if several else [metrics]  # type: ignore[arg-type]
    scores = [_score(metric, predictive, y, n, seed) for metric in wanted]
    return scores if several else scores[0]


def _score(metric: Any, predictive: Predictive, y: Float64, n: int, seed: Seed) -> float:
    if metric in ("log_likelihood", "mean_log_likelihood_given_draws"):
        log_p = predictive.log_prob(y, n, seed).reshape(n, -1).sum(1)
        if metric == "mean_log_likelihood_given_draws":
            return float(log_p.mean())
        most = log_p.max()
        return float(most + np.log(np.mean(np.exp(log_p - most)))) if np.isfinite(most) else float(most)
    if metric == "categorical_accuracy":
        draws = predictive.sample(n, seed)
        classes = np.arange(int(max(draws.max(), y.max())) + 1)
        votes = (draws[..., None] == classes).mean(0)
        return float(np.mean(votes.argmax(-1) == y))
    rule = metric if callable(metric) else METRICS.get(metric)
    if rule is None:
        names = ", ".join(
            map(repr, ["log_likelihood", "mean_log_likelihood_given_draws", "categorical_accuracy", *METRICS])
        )
        raise ValueError(f"unknown metric {metric!r}; there are {names}")
    return float(rule(y, _mean_prediction(predictive, n, seed)))


def _mean_prediction(predictive: Predictive, n: int, seed: Seed) -> Float64:
    if hasattr(predictive.variable, "_mean"):
        return predictive.mean(n, seed)
    return np.asarray(predictive.sample(n, seed).mean(0))


def ppc(
    statistic: Callable[[dict[Any, Float64], dict[Any, Float64]], npt.ArrayLike],
    data: Mapping[RandomVariable, npt.ArrayLike],
    latent_vars: Mapping[RandomVariable, Any] | None = None,
    n_samples: int = 100,
    seed: Seed = None,
) -> tuple[Float64, Float64]:
    """Compare a statistic of the data with its values in data that the model makes up.

    Parameters
    ----------
    statistic : callable
        ``T(data, latent_vars)`` of two dicts by random variable, each with one value of a variable's shape.
    data : dict
        Observed values by random variable.
    latent_vars : dict, optional
        What takes the place of latent variables, as in `copy`: ``{w: inference.posterior[w]}`` for a posterior
        predictive check; without it a prior predictive check.
    n_samples : int, default 100
    seed : int, SeedSequence, Generator or None

    Returns
    -------
    replicated, observed : ndarray (n_samples, ...)
        The statistic of replicated data, and of the observed data, each with the same draws of the latent variables.

    Raises
    ------
    TypeError, ValueError
        If data have other shapes than their variables.
    """
    if not callable(statistic):
        raise TypeError(f"the statistic must be callable, not {type(statistic).__name__}")
    n, rng = positive_int("n_samples", n_samples), rng_of(seed)
    observed = {}
    for y, value in data.items():
        array = as_data(value, f"the data of {y.name!r}")
        if array.shape != y.shape:
            raise ValueError(f"the data of {y.name!r} must have shape {y.shape}, not {array.shape}")
        observed[y] = array
    given = _values(latent_vars or {}, n, rng)
    drawn = ancestral(variable_roots=list(observed), n=n, rng=rng, given=given)
    latents = list(given) or [e for e in drawn if isinstance(e, RandomVariable) and e not in observed]
    replicated, real = [], []
    for s in range(n):
        values = {z: drawn[z][s] for z in latents}
        replicated.append(np.asarray(statistic({y: drawn[y][s] for y in observed}, values), np.float64))
        real.append(np.asarray(statistic(dict(observed), values), np.float64))
    return np.stack(replicated), np.stack(real)
