"""Targets: reads them from a folder of posteriors, from a user's module, or from the hard ones built in."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bench.posteriors.clock import Times, now

FAMILIES = {"mean_field": "meanfield", "full_rank": "fullrank"}  # klqp's name -> that of best_gaussian.json


@dataclass
class Target:
    """A log density with its gradient, and what is known of the best q's; see the package's text."""

    name: str
    dim: int
    log_density: Callable[[Any], Any]
    best: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    has_optimum: bool = True


class Counted:
    """A target's log density that counts its calls, its points, and the seconds inside.

    These are of wall-clock time, whose clock costs nothing to read: a system call would weigh more than a small target.
    """

    def __init__(self, target: Target) -> None:
        self.target, self.dim = target, target.dim
        self.calls, self.points, self.seconds = 0, 0, 0.0
        self.first: Times | None = None  # the clocks at the first call

    def __call__(self, z: Any) -> Any:
        if self.first is None:
            self.first = now()
        started = time.perf_counter()
        self.calls += 1
        self.points += len(z)
        try:
            return self.target.log_density(z)
        finally:
            self.seconds += time.perf_counter() - started


def checked(given: Any) -> Target:
    """Return what a user gives as a target, once it has answered at one point.

    Raises
    ------
    TypeError
        If an attribute is missing, or the answer has the wrong form.
    """
    for name in ("name", "dim", "log_density"):
        if not hasattr(given, name):
            raise TypeError(f"a target needs the attributes name, dim and log_density; {given!r} has no {name}")
    best = getattr(given, "best", None) or {}
    unknown = set(best) - set(FAMILIES)
    if unknown:
        raise TypeError(f"{given.name}: best has the keys {sorted(unknown)}; families are {list(FAMILIES)}")
    target = Target(str(given.name), int(given.dim), given.log_density, best, getattr(given, "has_optimum", True))
    with np.errstate(all="ignore"):
        answer = target.log_density(np.zeros((2, target.dim)))
    shapes = [np.shape(part) for part in answer] if isinstance(answer, tuple) else np.shape(answer)
    if shapes != [(2,), (2, target.dim)]:
        raise TypeError(
            f"{target.name}: log_density of points (2, {target.dim}) must return logp (2,) and its gradient "
            f"(2, {target.dim}), not {shapes}"
        )
    return target


def from_folder(folder: Path) -> list[Target]:
    """Return the posteriors of a folder with posteriors.py and best_gaussian.json; say which have no data."""
    module = load_file(folder / "posteriors.py")
    targets = []
    for name, best in json.loads((folder / "best_gaussian.json").read_text()).items():
        try:
            posterior = module.make(name)
        except (KeyError, FileNotFoundError) as missing:
            print(f"{name}: left out, no data ({missing!r})")
            continue
        known = {q: best[key] for q, key in FAMILIES.items() if key in best}
        targets.append(Target(name, posterior.dim, posterior.log_density, known))
    return targets


def from_module(where: str) -> list[Target]:
    """Return the targets of ``FILE.py[:name]`` or ``package.module[:name]``."""
    place, colon, name = where.rpartition(":") if ":" in Path(where).name else (where, "", "")
    is_file = place.endswith(".py")
    module = load_file(Path(place)) if is_file else importlib.import_module(place)
    name = name if colon else "TARGETS"
    if not hasattr(module, name):
        raise AttributeError(f"{place} has no {name!r}: name the variable with the targets, as in {place}:name")
    found = getattr(module, name)
    found = _made(found)
    if hasattr(found, "log_density"):
        found = [found]
    values: Iterable[Any] = found.values() if isinstance(found, Mapping) else found
    return [checked(_made(value)) for value in values]


def _made(value: Any) -> Any:
    """Return what a function or a class makes, anything else as it is."""
    is_maker = isinstance(value, type) or (callable(value) and not hasattr(value, "log_density"))
    return value() if is_maker else value


def load_file(path: Path) -> ModuleType:
    """Return the module that a file is; it may import its neighbours, and have dataclasses, which look it up.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    spec = importlib.util.spec_from_file_location(f"targets of {path.resolve()}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no Python file {path}")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec.loader.exec_module(module)
    return module
