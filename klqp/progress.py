"""The progress bar of a run."""

from __future__ import annotations

import math
from typing import Any


class Progress:
    """A tqdm bar with the loss and the time left; nothing when it is not wanted."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._started = False

    @property
    def active(self) -> bool:
        """Whether a bar is shown."""
        return self._bar is not None

    def start(self, total: int, n_print: int, show: bool | None) -> None:
        """Open the bar over `total` steps, unless it is open.

        `n_print` is the number of steps between two refreshes, at the most ten a second; 0 shows nothing. With
        `show` None there is a bar on terminals and in notebooks only, so that logs stay readable.
        """
        if self._started or n_print == 0 or show is False:
            return
        self._started = True
        bar_class, in_notebook = _bar_class()
        disable = None if show is None and not in_notebook else False
        bar = bar_class(total=total, disable=disable, mininterval=0.1, miniters=n_print, unit="step")
        self._bar = None if bar.disable else bar

    def show(self, step: int, loss: float) -> None:
        """Move the bar to `step` and show the loss."""
        if self._bar is not None:
            text = f"loss {loss:.5g}" if math.isfinite(loss) else "draws rejected"
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Close the bar, with its last line complete."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
        self._bar, self._started = None, False


def _bar_class() -> tuple[Any, bool]:
    from tqdm.auto import tqdm
    from tqdm.std import tqdm as terminal

    # tqdm.auto's class derives from the notebook's one in a Jupyter kernel.
    in_notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    return (tqdm, True) if in_notebook else (terminal, False)
