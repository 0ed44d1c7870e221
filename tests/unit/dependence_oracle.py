"""Which events change what, found by changing each of them."""

import numpy as np

from klqp import _core
from klqp.model.ancestral import evaluate
from klqp.model.emitter import Emitter, ancestors

# Points where the events are changed. Between them, discrete values that choose among others have to take all values.
N_BASES, N_BASES_DISCRETE = 2, 24


class Sources:
    """Latent variables with a global number for each event, and values for them."""

    def __init__(self, *variables, n_categories=3):
        self.variables, self.n_categories = variables, n_categories
        self.first = np.cumsum([0] + [v.n_events for v in variables])

    def declare(self, dependence):
        for variable, first in zip(self.variables, self.first[:-1], strict=True):
            assert dependence.add_source(variable, int(first)) == variable.n_events

    def reached(self, roots):
        """Return the variables that expressions depend on."""
        below = set(ancestors(roots, lambda e: e.inputs))
        return [v for v in self.variables if v in below]

    def events(self, variables):
        """Return the numbers of the variables' events."""
        pairs = zip(self.variables, self.first, strict=False)
        return [int(first) + i for v, first in pairs if v in variables for i in range(v.n_events)]

    def values(self, rng):
        return {v: self._draw(v, rng, v.shape) for v in self.variables}

    def _draw(self, variable, rng, shape):
        if variable.discrete:
            return rng.integers(self.n_categories, size=shape).astype(float)
        return rng.uniform(0.3, 2.0, shape)

    def changed(self, values, event, rng):
        """Return the values with other ones for one event."""
        at = int(np.searchsorted(self.first, event, "right")) - 1
        variable = self.variables[at]
        new = values[variable].reshape(variable.n_events, -1).copy()
        old = new[event - self.first[at]]
        if variable.discrete:
            new[event - self.first[at]] = (old + rng.integers(1, self.n_categories, old.shape)) % self.n_categories
        else:
            new[event - self.first[at]] = self._draw(variable, rng, old.shape)
        return values | {variable: new.reshape(variable.shape)}


def effects(compute, roots, sources):
    """Return the events that change each element of what `compute` finds for the sources' values from the roots."""
    rng = np.random.default_rng(7)
    reached = sources.reached(roots)
    found = None
    for _ in range(N_BASES_DISCRETE if any(v.discrete for v in reached) else N_BASES):
        values = sources.values(rng)
        base = compute(values)
        if found is None:
            found = np.zeros((*base.shape, sources.first[-1]), bool)
        for event in sources.events(reached):
            found[..., event] |= compute(sources.changed(values, event, rng)) != base
    return [set(np.flatnonzero(row).tolist()) for row in found.reshape(-1, found.shape[-1])]


def effects_on(expression, sources, fixed=None):
    """Return the events that change each element of an expression."""
    return effects(lambda values: evaluate([expression], values | (fixed or {}), 1)[0], [expression], sources)


def effects_on_events(variable, sources, value=None, fixed=None):
    """Return the events that change the log density of each event of a variable."""
    roots = [*variable.inputs, *([] if value is None else [value])]
    return effects(lambda values: _log_density(variable, values | (fixed or {}), value), roots, sources)


def _log_density(variable, values, value):
    core = _core.Model()
    emitter = Emitter(core, {})
    for e, array in values.items():
        emitter.arrays[e] = core.data(np.asarray(array, float))
    at = emitter.emit(variable if value is None else value)
    slot = variable.emit_log_prob(emitter, at, [emitter.emit(x) for x in variable.inputs], summed=False)
    return core.evaluate(1, np.zeros(1), np.zeros((1, 1)), [], [slot])[0].reshape(-1)


def members(labels):
    """Return the set of each element of Labels, in C order."""
    return [set(labels.sets[label].tolist()) for label in labels.labels.ravel()]
