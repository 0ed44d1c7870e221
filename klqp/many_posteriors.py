"""The posterior approximations of many problems, and how their fits ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._checks import positive_int
from klqp._seeds import Seed, as_key
from klqp.errors import TargetError
from klqp.many_approximations import ManyApproximations
from klqp.model.random_variable import RandomVariable
from klqp.posterior import Posterior

__all__ = ["ManyMarginals", "ManyPosteriors"]

Float64 = npt.NDArray[np.float64]
Part = tuple[npt.NDArray[np.int64], ManyApproximations]  # numbers of the problems, and their q's


class ManyPosteriors(Sequence[Posterior]):
    """What `klqp.fit_many` returns: ``result[b]`` is the posterior of problem b, ``result["w"]`` that of w in all.

    It can be pickled, as a single posterior can.

    Attributes
    ----------
    status : ndarray of str (B,)
        ``"steps"``: all `n_iter` steps, or as many as `klqp.Steps` says, were taken; ``"plateau"``, ``"time"``: that
        rule of `stop` was met; ``"failed"``: see `messages`; ``"interrupted"`` and ``"not started"``: Ctrl-C came.
    messages : list of str
        Of failures; empty for the others.
    n_steps : ndarray of int (B,)
    losses : ndarray (B,)
        Each problem's loss, minus the ELBO, at its last step; a Monte Carlo estimate from `n_samples` draws.
    traces : ndarray (B, n_iter) or None
        The losses of all steps where they were asked for; NaN after the last one.
    seeds : ndarray of uint64 (B,)
        With ``seed=result.seeds[b]`` a `KLqp` run of problem b gives the same posterior.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        seeds: npt.NDArray[np.uint64],
        losses: Float64,
        traces: Float64 | None,
        n_steps: npt.NDArray[np.int64],
        status: npt.NDArray[np.str_],
        messages: list[str],
    ) -> None:
        self._parts = parts
        self.seeds, self.losses, self.traces = seeds, losses, traces
        self.n_steps, self.status, self.messages = n_steps, status, messages
        self._part, self._row = np.empty((2, len(seeds)), np.int64)  # where a problem's q is
        for k, (problems, _) in enumerate(parts):
            self._part[problems], self._row[problems] = k, np.arange(len(problems))

    # --- of one problem, or of one variable ----------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self.seeds)

    @overload  # type: ignore[override]
    def __getitem__(self, key: int | np.integer) -> Posterior: ...
    @overload
    def __getitem__(self, key: str | RandomVariable) -> ManyMarginals: ...
    def __getitem__(self, key: int | np.integer | str | RandomVariable) -> Posterior | ManyMarginals:
        """Return the posterior of a problem by number, or a latent variable's in all problems.

        Raises
        ------
        IndexError, KeyError
            If there is no such problem or variable.
        TargetError
            If the problem has no posterior, because it failed or was not started.
        """
        if isinstance(key, (str, RandomVariable)):
            return ManyMarginals(self, self._name(key))
        if not isinstance(key, (int, np.integer)) or isinstance(key, bool):
            raise TypeError(f"the key must be the number of a problem, a latent variable or its name, not {key!r}")
        b = int(key) + (len(self) if key < 0 else 0)
        if not 0 <= b < len(self):
            raise IndexError(f"there are {len(self)} problems, and no number {key}")
        approximations, i = self._parts[self._part[b]][1], int(self._row[b])
        if not approximations.is_known(i):
            raise TargetError(f"problem {b} has no posterior: {self.status[b]}. {self.messages[b]}".rstrip())
        return Posterior(approximations.one(i))

    def __iter__(self) -> Iterator[Posterior]:
        return (self[b] for b in range(len(self)))

    @property
    def names(self) -> list[str]:
        """The latent variables' names."""
        return [z.name for z in self._parts[0][1].latents]

    @property
    def failed(self) -> npt.NDArray[np.int64]:
        """The numbers of the problems that failed."""
        return np.flatnonzero(self.status == "failed")

    @property
    def params(self) -> Float64:
        """The parameters of q, (B, P); NaN where a problem failed or was not started."""
        out = np.empty((len(self), self._parts[0][1].params.shape[1]))
        for problems, approximations in self._parts:
            out[problems] = approximations.params
        return out

    # --- of all --------------------------------------------------------------------------------------------------
    def mean(self) -> dict[str, Float64]:
        """Return the means by name, (B, *shape)."""
        return {name: self[name].mean() for name in self.names}

    def stddev(self) -> dict[str, Float64]:
        """Return the standard deviations by name, (B, *shape)."""
        return {name: self[name].stddev() for name in self.names}

    def sample(self, n: int, seed: Seed = None) -> dict[str, Float64]:
        """Return `n` joint draws of each problem by name, (B, n, *shape)."""
        key = as_key(seed)
        return {name: self[name].sample(n, key) for name in self.names}

    def __repr__(self) -> str:
        words, counts = np.unique(self.status, return_counts=True)
        ends = ", ".join(f"{count} {word}" for word, count in zip(words, counts, strict=True))
        return f"<posteriors of {self.names} in {len(self)} problems: {ends}>"

    def _name(self, key: str | RandomVariable) -> str:
        for z in self._parts[0][1].latents:
            if key is z or (isinstance(key, str) and key == z.name):
                return z.name
        raise KeyError(f"no latent variable {key!r}; there is {', '.join(map(repr, self.names))}")

    def _variables(self, name: str) -> Iterator[tuple[Part, RandomVariable]]:
        for part in self._parts:
            yield part, next(z for z in part[1].latents if z.name == name)


class ManyMarginals:
    """The posteriors of one latent variable in B problems, in its own space; NaN where a problem has none."""

    def __init__(self, posteriors: ManyPosteriors, name: str) -> None:
        self._posteriors, self._name = posteriors, name

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, *shape)."""
        _, z = next(self._posteriors._variables(self._name))
        return (len(self._posteriors), *z.shape)

    def mean(self) -> Float64:
        """Return the means, (B, *shape)."""
        return self._moments(0)

    def stddev(self) -> Float64:
        """Return the standard deviations, (B, *shape)."""
        return self._moments(1)

    def variance(self) -> Float64:
        """Return the variances, (B, *shape)."""
        return self.stddev() ** 2

    def sample(self, n: int, seed: Seed = None) -> Float64:
        """Return `n` draws of each problem, (B, n, *shape).

        Problem b's are those of its own posterior with a seed that follows from `seed` and b (docs/counters.md).
        """
        n = positive_int("n", n)
        seeds = _core.problem_seeds(as_key(seed), len(self._posteriors))
        out = np.empty((len(self._posteriors), n, *self.shape[1:]))
        for (problems, approximations), z in self._posteriors._variables(self._name):
            out[problems] = approximations.draws(n, seeds[problems], z)
        return out

    def _moments(self, which: int) -> Float64:
        out = np.empty(self.shape)
        for (problems, approximations), z in self._posteriors._variables(self._name):
            out[problems] = approximations.moments(z)[which].reshape(-1, *z.shape)
        return out

    def __repr__(self) -> str:
        return f"<posteriors of {self._name!r}, shape {self.shape}>"
