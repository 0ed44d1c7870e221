"""Group "draws": draws with pathwise gradients of distributions made from gamma draws, beside JAX and PyTorch."""

import numpy as np

import klqp
from bench.report import Table
from bench.timing import interleaved, summary
from klqp import _core
from klqp.model.emitter import Emitter

PEERS = {}
try:
    from bench.peers.jax_draws import JaxDraws

    PEERS["JAX"] = JaxDraws
except ImportError:
    pass
try:
    from bench.peers.torch_draws import TorchDraws

    PEERS["PyTorch"] = TorchDraws
except ImportError:
    pass

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
    """Whether mean gradients of some calls of klqp and a peer are within 5 standard errors of each other."""
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
        ["distribution", "klqp", *(title for name in PEERS for title in (name, f"{name} / klqp"))],
        notes=[
            "Noise, draws and the gradient of a weighted sum in the parameters, from Python; klqp on one thread, peers "
            "on all they take.",
            "JAX: jax.random and its derivative, compiled, its compilation not included.",
        ],
    )
    table.notes += [f"{name} is not installed: left out." for name in ("JAX", "PyTorch") if name not in PEERS]
    for label, variable, kind, parameters in cases(settings.quick):
        ours = Draws(variable, len(parameters), weights)
        peers = {name: peer(kind, parameters, N_DRAWS, weights) for name, peer in PEERS.items()}
        for name, peer in peers.items():
            if not agree((ours, lambda peer=peer: peer()[1])):
                table.failures.append(f"{label}: gradients of klqp and {name} differ")
        times = interleaved({"klqp": ours, **peers}, settings, batch=0.005)
        row = [label, float(np.median(times["klqp"])) * 1e9 / weights.size]
        for name in peers:
            ratio = float(np.median(times[name] / times["klqp"]))
            row += [float(np.median(times[name])) * 1e9 / weights.size, ratio]
        table.rows.append(row)
        compiling = {f"{name} compiles": peer.compile_seconds for name, peer in peers.items() if peer.compile_seconds}
        table.details.append({"distribution": label, **{key: summary(t) for key, t in times.items()}, **compiling})
    yield table
