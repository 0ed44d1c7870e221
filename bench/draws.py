"""Group "draws": draws with pathwise gradients of distributions made from gamma draws, beside JAX."""

import numpy as np

import klqp
from bench.report import Table
from bench.timing import interleaved, summary
from klqp import _core
from klqp.model.emitter import Emitter

try:
    from bench.peers.jax_draws import JaxDraws
except ImportError:
    JaxDraws = None

N_DRAWS, SIZE = 10, 1000
OPTIMISATION_STREAM = 0


class Draws:
    """New draws of a variable at every call, and cotangents of its first parameters for given ones of the draws."""

    def __init__(self, variable, n_learnt, weights):
        self._core, self._weights, self._step = _core.Model(), weights, 0
        values = [p.value.ravel() for p in variable.parameters.values()]
        learnt = values[:n_learnt]
        offsets = np.cumsum([0, *(v.size for v in learnt)]).tolist()
        args = [self._core.parameter(at, v.size) for at, v in zip(offsets, learnt, strict=False)]
        args += [self._core.data(v) for v in values[n_learnt:]]
        self._params, self._ends = np.concatenate(learnt), offsets[1:-1]
        noise = self._core.noise(0, variable.noise_size, variable.noise_kind)
        self._out = variable.emit_draw(Emitter(self._core, {}), noise, args)

    def __call__(self):
        """Return the gradients; the draws stay in the program."""
        n = len(self._weights)
        noise = self._core.draw_noise(0, OPTIMISATION_STREAM, self._step * n, n)
        self._step += 1
        grad, _ = self._core.pullback(n, self._params, noise, [], self._out, self._weights)
        return np.split(grad, self._ends)


def cases(quick):
    """Yield (label, variable, JAX's name, parameters)."""
    for a in (3.0,) if quick else (0.1, 3.0, 100.0):
        yield f"Gamma({a:g})", klqp.Gamma(np.full(SIZE, a)), "Gamma", [np.full(SIZE, a)]
    if quick:  # JAX compiles each for half a minute
        return
    mixed = np.geomspace(0.05, 200.0, SIZE)
    yield "Gamma(0.05 ... 200)", klqp.Gamma(mixed), "Gamma", [mixed]
    parameters = [np.full(SIZE, 2.0), np.full(SIZE, 5.0)]
    yield "Beta(2, 5)", klqp.Beta(*parameters), "Beta", parameters
    yield "Dirichlet(2, ..., 2)", klqp.Dirichlet(parameters[0]), "Dirichlet", parameters[:1]


def agree(contenders):
    """Whether mean gradients of some calls of klqp and JAX are within 5 standard errors of each other."""
    means = []
    for draw in contenders:
        grads = np.array([np.concatenate([np.ravel(g) for g in draw()]).sum() for _ in range(40)])
        means.append((grads.mean(), grads.std(ddof=1) / np.sqrt(len(grads))))
    (x, x_error), (y, y_error) = means
    return abs(x - y) < 5 * np.hypot(x_error, y_error)


def run(settings):
    """Yield the table."""
    weights = np.cos(np.arange(N_DRAWS * SIZE)).reshape(N_DRAWS, SIZE) + 1.5
    table = Table(
        f"Nanoseconds a draw with its gradient, S={N_DRAWS} draws of {SIZE} elements, float64",
        ["distribution", "klqp", "JAX", "JAX / klqp", "JAX compiles (ms)"],
        notes=[
            "Noise, draws and the gradient of a weighted sum in the parameters, from Python; klqp on one thread.",
            "JAX: jax.random and its derivative, compiled, its compilation not included.",
        ],
    )
    if JaxDraws is None:
        table.notes.append("JAX is not installed: its columns are left out.")
    for label, variable, name, parameters in cases(settings.quick):
        contenders = {"klqp": Draws(variable, len(parameters), weights)}
        compiled = None
        if JaxDraws is not None:
            peer = JaxDraws(name, parameters, N_DRAWS, weights)
            contenders["JAX"], compiled = peer, peer.compile_seconds * 1e3
            if not agree((contenders["klqp"], lambda peer=peer: peer()[1])):
                table.failures.append(f"{label}: gradients of klqp and JAX differ")
        times = interleaved(contenders, settings, batch=0.005)
        each = {key: t * 1e9 / weights.size for key, t in times.items()}
        ratio = float(np.median(times["JAX"] / times["klqp"])) if "JAX" in times else None
        table.rows.append(
            [
                label,
                float(np.median(each["klqp"])),
                float(np.median(each["JAX"])) if "JAX" in each else None,
                ratio,
                compiled,
            ]
        )
        table.details.append({"distribution": label, **{key: summary(t) for key, t in each.items()}})
    yield table
