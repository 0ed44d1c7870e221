"""Problem: what an inference is about: latent variables with their q, data, and what they depend on."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp.errors import UnreachedLatentWarning
from klqp.families import MeanFieldNormal
from klqp.inference.latents import Factor
from klqp.model.distributions.normal import Normal
from klqp.model.divergences import has_divergence, known_pairs
from klqp.model.emitter import ancestors
from klqp.model.expression import Expression, Node, as_data
from klqp.model.log_density import LogDensity
from klqp.model.parameter import Parameter, Placeholder
from klqp.model.random_variable import RandomVariable
from klqp.model.supports import NONNEGATIVE, POSITIVE, Support, is_inside

__all__ = [
    "Data",
    "Problem",
    "check_feeds",
    "checked_feeds",
    "checked_value",
    "n_events",
    "read_data",
    "read_factors",
    "read_penalties",
    "require_divergences",
]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """A model, what is known of it, and the approximation to what is not.

    Attributes
    ----------
    factors : tuple of Factor
    observed : dict
        Data, or a placeholder for them, by random variable.
    conditional : dict
        Random variables that take the draws of a fixed q, by variable.
    penalties : tuple
        What regularises parameters: expressions.
    """

    factors: tuple[Factor, ...]
    observed: dict[RandomVariable, Float64 | Placeholder]
    conditional: dict[RandomVariable, RandomVariable]
    penalties: tuple[Expression, ...] = ()

    @cached_property
    def latents(self) -> tuple[RandomVariable, ...]:
        """All latent variables."""
        return tuple(z for factor in self.factors for z in factor.latents)

    @property
    def flat(self) -> LogDensity | None:
        """The one log density on R^D that is all there is, if that is so."""
        if len(self.latents) != 1 or self.observed or self.conditional or self.penalties:
            return None
        (z,) = self.latents
        return z if isinstance(z, LogDensity) and z.is_flat and self.factors[0].family is not None else None

    @cached_property
    def model(self) -> list[Expression]:
        """All expressions of the model, dependencies first."""
        return ancestors([*self.latents, *self.observed, *self.conditional], lambda e: e.inputs)

    @cached_property
    def approximation(self) -> list[Expression]:
        """All expressions of q that are not ready-made, dependencies first."""
        return ancestors([f.q for f in self.factors if isinstance(f.q, RandomVariable)], lambda e: e.inputs)

    @cached_property
    def unlisted(self) -> tuple[RandomVariable, ...]:
        """Random variables of the model that are neither observed nor latent: drawn from their priors."""
        known = {*self.latents, *self.observed, *self.conditional}
        return tuple(e for e in self.model if isinstance(e, RandomVariable) and e not in known)

    @cached_property
    def shared(self) -> frozenset[Expression]:
        """What more than one expression is computed from."""
        roots = [*self.latents, *self.observed, *self.conditional, *self.conditional.values(), *self.penalties]
        roots += [f.q for f in self.factors if isinstance(f.q, RandomVariable)]
        users = Counter(x for e in ancestors(roots, lambda e: e.inputs) for x in set(e.inputs))
        users.update(self.penalties)
        return frozenset(e for e, n in users.items() if n > 1)

    @cached_property
    def drawn(self) -> frozenset[RandomVariable]:
        """Everything that has draws: latent variables, their q's, and variables with a fixed q."""
        qs = (factor.q for factor in self.factors if isinstance(factor.q, RandomVariable))
        return frozenset((*self.latents, *qs, *self.conditional))

    @cached_property
    def indices(self) -> list[tuple[Placeholder, int]]:
        """The placeholders that index arrays, with the number of rows they choose from."""
        return [
            (e.inputs[1], e.inputs[0].shape[0])
            for e in [*self.model, *self.approximation]
            if isinstance(e, Node) and e.op == "gather" and isinstance(e.inputs[1], Placeholder)
        ]

    def parameters(self) -> list[Parameter]:
        """Return all parameters of q, the model and the penalties that are not frozen, in a fixed order."""
        places = [*self.approximation, *self.model, *ancestors(self.penalties, lambda e: e.inputs)]
        return list(dict.fromkeys(e for e in places if isinstance(e, Parameter)))

    def frozen_parameters(self) -> list[Parameter]:
        """Return the parameters of the fixed q's that nothing else has."""
        own = set(self.parameters())
        fixed = ancestors(list(self.conditional.values()), lambda e: e.inputs)
        return [e for e in fixed if isinstance(e, Parameter) and e not in own]

    def check(self) -> None:
        """Refuse data that the model does not have, and warn of latent variables that the data do not reach.

        Raises
        ------
        ValueError
            If there is nothing to optimise, or data are of a variable that nothing depends on.

        Warns
        -----
        UnreachedLatentWarning
        """
        if not self.latents and not self.parameters():
            raise ValueError("there is nothing to optimise: no latent variables and no klqp.Parameter")
        self._check_approximation()
        unknowns = {*self.latents, *self.conditional, *self.unlisted}
        model = self.model
        used = {x for e in model for x in e.inputs}
        varies: dict[Expression, bool] = {}
        for e in model:
            varies[e] = e in unknowns or isinstance(e, Parameter) or any(varies[x] for x in e.inputs)
        for key in (*self.observed, *self.conditional):
            if (
                key not in used
                and not any(varies[x] for x in key.inputs)
                and (key in self.conditional or not varies[key])
            ):
                raise ValueError(
                    f"data has the key {key.name!r}, which depends on no latent variable or parameter of this inference"
                )
        if not self.observed:
            return
        anchors = [*self.observed, *self.conditional, *(z for z in self.latents if isinstance(z, LogDensity))]
        reached = set(ancestors(anchors, lambda e: e.inputs))
        for z in self.latents:
            if z not in reached:
                warnings.warn(
                    f"no data depend on the latent variable {z.name!r}: its posterior is its prior",
                    UnreachedLatentWarning,
                    stacklevel=4,
                )

    def _check_approximation(self) -> None:
        """Refuse q's that take part in the model, or that nothing can draw."""
        own: dict[RandomVariable, RandomVariable] = {}
        for factor in self.factors:
            if not isinstance(factor.q, RandomVariable):
                continue
            z, q = factor.latents[0], factor.q
            if q in own:
                raise ValueError(f"q {q.name!r} is that of {own[q].name!r} and of {z.name!r}: give each its own")
            own[q] = z
        fixed = {q: beta for beta, q in self.conditional.items()}
        model = set(self.model)
        for q, z in (own | fixed).items():
            if q in self.latents:
                raise ValueError(f"q {q.name!r} of {z.name!r} is itself a latent variable")
            if q in self.observed or q in self.conditional:
                raise ValueError(f"q {q.name!r} of {z.name!r} is among the keys of data")
            if q in model:
                raise ValueError(
                    f"the model depends on {q.name!r}, which is the q of {z.name!r}: write the model with {z.name!r}"
                )
        given = {*own, *fixed, *self.latents, *self.observed, *self.conditional}
        for q, z in (own | fixed).items():
            for e in ancestors(q.inputs, lambda e: () if e in given else e.inputs):
                if isinstance(e, RandomVariable) and e not in given:
                    raise ValueError(
                        f"q {q.name!r} of {z.name!r} depends on the random variable {e.name!r}, which is neither "
                        "latent nor among the data"
                    )


def read_factors(factors: tuple[Factor, ...], auto_transform: bool = True) -> None:
    """Refuse approximations that do not fit their variables.

    Raises
    ------
    TypeError
        If a variable is discrete and its q not, or the other way round, or q lives on another support.
    ValueError
        If shapes differ.
    """
    for factor in factors:
        if isinstance(factor.q, RandomVariable):
            _check_q(factor.latents[0], factor.q, auto_transform)
            continue
        for z in factor.latents:
            if z.discrete:
                raise TypeError(
                    f"the latent variable {z.name!r} is discrete ({type(z).__name__}), and {factor.describe()} is not: "
                    "give it a discrete q of its own, such as klqp.Bernoulli(logits=klqp.Parameter(...)), or "
                    "marginalise it (klqp.Mixture, klqp.HiddenMarkov)"
                )
            z.space.bijector_args(z.shape)  # refuses spaces without a transform
            if not auto_transform and z.space.bijector != "identity":
                raise TypeError(f"{z.name!r} is {z.support} and q real; auto_transform=False forbids the transform")


def shares_space(q: RandomVariable, z: RandomVariable) -> bool:
    """Return whether draws of q are values of z as they are."""
    return getattr(q, "any_space", False) or is_inside(q.space, z.space)


def n_events(z: RandomVariable) -> int:
    """Return the number of events of a variable: what a scale applies to, and what has a score."""
    return int(getattr(z, "n_events", 1))


def _check_q(z: RandomVariable, q: RandomVariable, auto_transform: bool) -> None:
    if not hasattr(q, "emit_draw"):
        raise TypeError(
            f"q {q.name!r} of {z.name!r} is a {type(q).__name__}, which has no draws inside a program here: use a "
            "distribution that has them, or a ready-made family such as klqp.MeanFieldNormal"
        )
    if q.discrete != z.discrete and not (getattr(q, "any_space", False) and not z.discrete):
        words = ("discrete", "not") if q.discrete else ("not discrete", "is")
        raise TypeError(
            f"q {q.name!r} of {z.name!r} is {words[0]} ({type(q).__name__}) and the variable {words[1]} "
            f"({type(z).__name__})"
        )
    if shares_space(q, z):
        if q.shape != z.shape:
            raise ValueError(f"q {q.name!r} has shape {q.shape}, but {z.name!r} has shape {z.shape}")
        _check_categories(z, q)
        return
    if q.space.bijector != "identity" or not auto_transform:
        reason = "" if auto_transform else "; auto_transform=False forbids a transform"
        raise TypeError(f"q {q.name!r} lives on {_space(q)}, but {z.name!r} on {_space(z)}{reason}")
    n = z.space.transform(z.shape).n_unconstrained
    if q.size != n:
        raise ValueError(
            f"q {q.name!r} has {q.size} coordinates, but {z.name!r} on {z.support} with shape {z.shape} has {n} "
            "unconstrained ones"
        )


def _check_categories(z: RandomVariable, q: RandomVariable) -> None:
    """Refuse a q that gives categories which the variable does not have."""
    n, most = getattr(q, "n_categories", None), getattr(z, "n_categories", None)
    if n is not None and most is not None and n > most:
        raise ValueError(f"q {q.name!r} has {n} categories, but {z.name!r} has {most}")


def _space(variable: RandomVariable) -> str:
    space = variable.space
    return (
        f"{space.name} from {space.lower or '-inf'} to {space.upper or 'inf'}"
        if space.lower or space.upper
        else str(space)
    )


@dataclass(frozen=True)
class Data:
    """What ``data`` says: observed values, fixed q's, and first values of placeholders."""

    observed: dict[RandomVariable, Float64 | Placeholder]
    conditional: dict[RandomVariable, RandomVariable]
    feeds: dict[Placeholder, Float64]


def read_data(data: Mapping[Any, Any] | None) -> Data:
    """Return what the data say, checked.

    Raises
    ------
    TypeError
        If a key is not a random variable, or values are not numbers.
    ValueError
        If values have another shape than the variable, hold NaN, or lie outside its support.
    """
    if data is not None and not isinstance(data, Mapping):
        raise TypeError(f"data must be a dict by random variable, not {type(data).__name__}")
    read = Data({}, {}, {})
    for key, value in (data or {}).items():
        if isinstance(key, Placeholder):
            read.feeds[key] = key.checked(value)
        elif not isinstance(key, RandomVariable):
            raise TypeError(
                f"the keys of data must be random variables or placeholders, but {key!r} is a {type(key).__name__}"
            )
        elif isinstance(value, RandomVariable):
            _check_q(key, value, auto_transform=True)
            read.conditional[key] = value
        else:
            read.observed[key] = checked_value(key, value)
    return read


def checked_value(variable: RandomVariable, value: Any) -> Float64 | Placeholder:
    """Return an observed value as an array, or the placeholder for it.

    Raises
    ------
    TypeError, ValueError
        As `read_data`.
    """
    what = f"the data of {variable.name!r}"
    if isinstance(value, Expression):
        if not isinstance(value, Placeholder):
            raise TypeError(f"{what} must be numbers, a placeholder or a random variable q, not {value!r}")
        if value.shape != variable.shape:
            raise ValueError(f"{what} must have shape {variable.shape}, but the placeholder has {value.shape}")
        return value
    array = as_data(value, what)
    if array.shape != variable.shape:
        raise ValueError(f"{what} must have shape {variable.shape}, but it has shape {array.shape}")
    _check_inside(variable, array)
    return array


def _check_inside(variable: RandomVariable, array: Float64) -> None:
    what = f"the data of {variable.name!r}"
    # Zeros are data of many distributions on the positive numbers; where they are not, the run says so.
    space = NONNEGATIVE if variable.space is POSITIVE else variable.space
    if not space.contains(array):
        raise ValueError(f"{what} must be {_expected(variable)}, but it holds {_outlier(space, array)}")


def _expected(variable: RandomVariable) -> str:
    space = variable.space
    bounds = [f"at least {space.lower[0]:g}"] if len(space.lower) == 1 else []
    bounds += [f"at most {space.upper[0]:g}"] if len(space.upper) == 1 else []
    words = space.words or f"{space.name} values"
    return f"{words} ({type(variable).__name__})" + (f", {' and '.join(bounds)}" if bounds else "")


def _outlier(space: Support, array: Float64) -> str:
    events = array.reshape(-1, *array.shape[array.ndim - space.event_ndim :])
    for event in events:
        if len(space.lower) <= 1 and len(space.upper) <= 1 and not space.contains(event):
            return str(event)
    return "values outside its bounds"


def read_penalties(regularizers: Mapping[Any, Any] | Sequence[Any] | None) -> tuple[Expression, ...]:
    """Return the regularisation losses as expressions of one number each.

    Raises
    ------
    TypeError
        If one is neither an expression nor a callable that gives one for a parameter.
    """
    if regularizers is None:
        return ()
    if isinstance(regularizers, (str, Expression)) or not isinstance(regularizers, (Mapping, Iterable)):
        raise TypeError(f"regularizers must be a dict or a list, not {type(regularizers).__name__}")
    pairs = regularizers.items() if isinstance(regularizers, Mapping) else [(None, r) for r in regularizers]
    out = []
    for parameter, rule in pairs:
        if parameter is not None and not isinstance(parameter, Parameter):
            raise TypeError(f"the keys of regularizers must be parameters, not {type(parameter).__name__}")
        value = rule(parameter) if callable(rule) and not isinstance(rule, Expression) else rule
        if not isinstance(value, Expression) or value.size != 1:
            raise TypeError(
                "a regularizer must be an expression of one number, or a callable that returns one for a parameter, "
                f"not {value!r}"
            )
        for e in ancestors([value], lambda e: e.inputs):
            if isinstance(e, RandomVariable):
                raise TypeError(
                    f"a regularizer is of parameters, but {value!r} depends on the random variable {e.name!r}"
                )
        out.append(value)
    return tuple(out)


def checked_feeds(feed_dict: Mapping[Any, Any] | None) -> dict[Placeholder, Float64]:
    """Return a feed_dict as arrays; the caller's stays as it is.

    Raises
    ------
    TypeError, ValueError
        If a key is not a placeholder, or data do not fit.
    """
    if feed_dict is None:
        return {}
    if not isinstance(feed_dict, Mapping):
        raise TypeError(f"feed_dict must be a dict by placeholder, not {type(feed_dict).__name__}")
    feeds = {}
    for key, value in feed_dict.items():
        if not isinstance(key, Placeholder):
            raise TypeError(f"the keys of feed_dict must be placeholders, but {key!r} is a {type(key).__name__}")
        feeds[key] = key.checked(value)
    return feeds


def check_feeds(problem: Problem, feeds: Mapping[Placeholder, Float64]) -> None:
    """Refuse data of placeholders that the problem does not have, or that the variables observed by them cannot take.

    Raises
    ------
    ValueError
        If there are such data.
    """
    for variable, value in problem.observed.items():
        if isinstance(value, Placeholder) and value in feeds:
            _check_inside(variable, feeds[value])
    for placeholder, rows in problem.indices:
        if placeholder in feeds:
            index = feeds[placeholder]
            bad = index[(index < 0) | (index >= rows)]
            if bad.size:
                raise ValueError(
                    f"the data of placeholder {placeholder.name!r} must be indices in [0, {rows}), not {bad[0]:g}"
                )


def require_divergences(problem: Problem, variables: Iterable[RandomVariable], who: str) -> None:
    """Refuse latent variables whose divergence of q from the prior has no formula.

    Raises
    ------
    TypeError
        If there is no formula for q and the prior, or q is a joint family.
    """
    wanted = set(variables)
    for factor in problem.factors:
        for z in factor.latents:
            if z in wanted and not _by_formula(factor, z):
                raise TypeError(
                    f"{who} needs the closed-form divergence of q from the prior of {z.name!r}, but the prior is a "
                    f"{type(z).__name__} and q is {factor.describe()}. It is known for a q of the variable's own where "
                    f"q and the prior are {known_pairs()}. KLqp without kl_scaling needs none"
                )


def _by_formula(factor: Factor, z: RandomVariable) -> bool:
    """Return whether the divergence of a factor from a prior has a formula."""
    if isinstance(factor.q, RandomVariable):
        return has_divergence(factor.q, z)
    return isinstance(factor.q, MeanFieldNormal) and isinstance(z, Normal)
