"""TensorBoard summaries through tensorboardX (``pip install klqp[tensorboard]``), with Edward's tags."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from klqp.model.parameter import Parameter

__all__ = ["TensorBoardLog"]

_TAGS = {
    "loss": "loss",
    "loss/p_log_prob": "log_p",
    "loss/p_log_lik": "log_lik",
    "loss/q_entropy": "entropy",
    "loss/kl_penalty": "kl",
    "loss/reg_penalty": "penalty",
}


class TensorBoardLog:
    """Writes what a run measures: ``loss`` and its parts, ``parameter/*``, ``gradient/*`` and ``gradient_norm/*``.

    Parameters
    ----------
    logdir : path
    timestamp : bool
        Write to a folder in it that is named by the time.
    variables : sequence of Parameter, optional
        The parameters to log; default all.
    """

    def __init__(self, logdir: str | os.PathLike[str], timestamp: bool, variables: Sequence[Parameter] | None) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError("logdir needs tensorboardX: pip install klqp[tensorboard]") from None
        path = os.path.expanduser(os.fspath(logdir))
        if timestamp:
            path = os.path.join(path, time.strftime("%Y%m%d_%H%M%S"))
        self._writer = SummaryWriter(path)
        self._variables = variables

    def write(self, engine: Any) -> None:
        """Write the last step's quantities."""
        run, step = engine.run, engine.run.step_count
        last = run.last
        for tag, name in _TAGS.items():
            self._writer.add_scalar(tag, last[name], step)
        self._writer.add_scalar("loss/q_log_prob", -last["entropy"], step)
        self._writer.add_scalar("gradient_norm/all", last["grad_norm"], step)
        compiled = getattr(engine, "compiled", None)
        if compiled is None:
            return
        gradient, params = run.last_gradient, run.params
        for i, (p, offset) in enumerate(compiled.layout.offsets.items()):
            if self._variables is not None and p not in self._variables:
                continue
            name, part = p.name or f"parameter_{i}", slice(offset, offset + p.n_unconstrained)
            self._writer.add_histogram(f"parameter/{name}", p._bijector.forward(params[None, part])[0], step)
            self._writer.add_histogram(f"gradient/{name}", gradient[part], step)
            self._writer.add_scalar(f"gradient_norm/{name}", float(np.linalg.norm(gradient[part])), step)

    def flush(self) -> None:
        """Write everything to disk."""
        self._writer.flush()
