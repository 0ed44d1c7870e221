"""The data of many problems: what they share, and what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp.inference.problem import Problem, check_feeds
from klqp.model.expression import Expression, as_data
from klqp.model.parameter import Placeholder
from klqp.model.random_variable import RandomVariable

__all__ = ["Lengths", "ManyData"]

Float64 = npt.NDArray[np.float64]
Problems = npt.NDArray[np.int64]


@dataclass
class ManyData:
    """Data of B problems.

    Attributes
    ----------
    n : int
        B.
    shared : dict
        ``data`` for `KLqp`, with placeholders for the observations that differ.
    by_problem : dict
        Arrays (B, *shape) by placeholder.
    """

    n: int
    shared: dict[Any, Any] = field(default_factory=dict)
    by_problem: dict[Placeholder, Float64] = field(default_factory=dict)

    @classmethod
    def read(cls, data: Any, n: int | None) -> ManyData:
        """Return what the data say of n problems, or of as many as they have rows for.

        Raises
        ------
        TypeError, ValueError
            If shapes do not fit, or nothing says how many problems there are.
        """
        if data is not None and not isinstance(data, Mapping):
            raise TypeError(f"data must be a dict by random variable or placeholder, not {type(data).__name__}")
        read, counts = cls(0), {} if n is None else {"n_problems": n}
        for key, value in (data or {}).items():
            if not isinstance(key, (RandomVariable, Placeholder)):
                raise TypeError(
                    f"the keys of data must be random variables or placeholders, but {key!r} is a {type(key).__name__}"
                )
            rows = None if isinstance(value, Expression) else _rows(key, value)
            if rows is None:
                read.shared[key] = value
                continue
            counts[f"the data of {key.name!r}"] = len(rows)
            read._add(key, rows)
        if not counts:
            raise ValueError("nothing says how many problems there are: no data differ; give n_problems")
        if len(set(counts.values())) > 1:
            raise ValueError(f"the numbers of problems differ: {', '.join(f'{k} {v}' for k, v in counts.items())}")
        read.n = next(iter(counts.values()))
        return read

    def _add(self, key: RandomVariable | Placeholder, rows: Float64) -> None:
        to = key
        if isinstance(key, RandomVariable):
            to = Placeholder(key.shape, False, key.name)
            self.shared[key] = to
        assert isinstance(to, Placeholder)
        if to.integer and not (rows == np.floor(rows)).all():
            raise TypeError(f"the data of {key.name!r} must be integers")
        self.by_problem[to] = rows

    def first(self) -> dict[Any, Any]:
        """Return data for a `KLqp` of problem 0."""
        return {**self.shared, **{p: rows[0] for p, rows in self.by_problem.items()}}

    def check(self, problem: Problem) -> None:
        """Refuse data that the variables observed by them cannot take.

        Raises
        ------
        ValueError
            With the number of the first problem that has such data.
        """
        try:
            check_feeds(problem, self.by_problem)
        except ValueError:
            for b in range(self.n):
                try:
                    check_feeds(problem, {p: rows[b] for p, rows in self.by_problem.items()})
                except ValueError as error:
                    raise ValueError(f"problem {b}: {error}") from None
            raise


def _rows(key: RandomVariable | Placeholder, value: Any) -> Float64 | None:
    """Return data that differ as an array (B, *shape); None for those that all problems share."""
    what = f"the data of {key.name!r}"
    try:
        shape = np.shape(value)
    except ValueError:
        raise ValueError(
            f"{what} are arrays of different shapes; for problems of different lengths give a function model(n) "
            "instead of the latent variables"
        ) from None
    if shape == key.shape:
        return None
    if len(shape) != len(key.shape) + 1 or shape[1:] != key.shape:
        each = ", ".join(("B", *map(str, key.shape)))
        raise ValueError(
            f"{what} must have shape {key.shape}, the same for all problems, or ({each}{',' * (not key.shape)}) with a "
            f"row for each, but it has shape {shape}"
        )
    return _as_rows(value, what)


def _as_rows(value: Any, what: str) -> Float64:
    """Return as `as_data`, without a copy of what is an array of float64 already."""
    if isinstance(value, np.ndarray) and value.dtype == np.float64 and value.flags.c_contiguous and value.size:
        if (bad := np.flatnonzero(np.isnan(value.reshape(len(value), -1)).any(1))).size:
            raise ValueError(f"{what} must not hold NaN, but problem {bad[0]} has one")
        view = value.view()
        view.flags.writeable = False
        return view
    return as_data(value, what)


@dataclass
class Lengths:
    """Data by name of problems of different lengths.

    Attributes
    ----------
    data : dict
    lengths : ndarray (B,)
    ragged : frozenset of str
        Names of the lists with one array for each problem.
    """

    data: Mapping[str, Any]
    lengths: Problems
    ragged: frozenset[str]

    @classmethod
    def read(cls, data: Any, n: int | None) -> Lengths:
        """Return the data with the length of each problem: that of the first axis of its arrays in lists.

        Raises
        ------
        TypeError, ValueError
            If there are no lists, or their lengths do not agree.
        """
        if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
            raise TypeError("with a function model(n), data must be a dict by name")
        ragged = {key: value for key, value in data.items() if isinstance(value, (list, tuple))}
        if not ragged:
            raise ValueError("with a function model(n), data must hold a list with one array for each problem")
        lengths = {key: np.array([_length(key, x) for x in value], np.int64) for key, value in ragged.items()}
        name, first = next(iter(lengths.items()))
        for other, these in lengths.items():
            if len(these) != len(first):
                raise ValueError(f"{name!r} has arrays for {len(first)} problems, but {other!r} for {len(these)}")
            if (bad := np.flatnonzero(these != first)).size:
                b = bad[0]
                raise ValueError(f"problem {b} has length {first[b]} in {name!r}, but {these[b]} in {other!r}")
        if n is not None and n != len(first):
            raise ValueError(f"n_problems is {n}, but {name!r} has arrays for {len(first)} problems")
        return cls(data, first, frozenset(ragged))

    def groups(self) -> Iterator[tuple[int, Problems]]:
        """Yield the lengths, greatest first, and the numbers of the problems that have them."""
        for length in np.unique(self.lengths)[::-1]:
            yield int(length), np.flatnonzero(self.lengths == length)

    def data_of(self, problems: Problems, names: Mapping[str, Any]) -> ManyData:
        """Return the data of problems of one length; `names` has their variables by name."""
        if set(names) != set(self.data):
            raise ValueError(f"model(n) names {sorted(names)}, but data has {sorted(self.data)}")
        out: dict[Any, Any] = {}
        for name, value in self.data.items():
            key, what = names[name], f"the data of {name!r}"
            if name in self.ragged:
                try:
                    out[key] = as_data([value[b] for b in problems], what)
                except ValueError as error:
                    raise ValueError(f"of problems {_few(problems)}: {error}") from None
            elif isinstance(key, Expression) and np.ndim(value) > key.ndim and len(value) == len(self.lengths):
                out[key] = np.asarray(value)[problems]
            else:
                out[key] = value
        return ManyData.read(out, len(problems))


def _length(name: str, value: Any) -> int:
    shape = np.shape(value)
    if not shape or shape[0] == 0:
        raise ValueError(f"the list {name!r} must hold arrays with elements, but one has shape {shape}")
    return int(shape[0])


def _few(problems: Problems) -> str:
    return ", ".join(map(str, problems[:3])) + (", ..." if len(problems) > 3 else "")
