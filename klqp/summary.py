"""Tables of posterior moments and quantiles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from klqp.approximation import Approximation

__all__ = ["Summary"]

_QUANTILES = (0.05, 0.5, 0.95)


class Summary:
    """A table with one row for each coordinate: print it, or read ``names`` and ``columns``.

    Attributes
    ----------
    names : list of str
        Row names, like ``z[0, 2]``.
    columns : dict of str to ndarray
        ``mean``, ``sd`` and the quantiles ``5%``, ``50%``, ``95%``.
    """

    def __init__(self, names: list[str], columns: Mapping[str, npt.NDArray[np.float64]], max_rows: int) -> None:
        self.names = names
        self.columns = dict(columns)
        self._max_rows = max_rows

    @classmethod
    def of_approximation(cls, approximation: Approximation, max_rows: int) -> Summary:
        """Return the table of a posterior approximation, in the variables' own spaces."""
        names: list[str] = []
        parts: dict[str, list[npt.NDArray[np.float64]]] = {}
        for z in approximation.latents:
            names += [z.name + (str(list(index)) if index else "") for index in np.ndindex(*z.shape)]
            mean, sd = approximation.moments(z, True)
            columns = {"mean": mean, "sd": sd}
            columns |= {f"{q:.0%}": approximation.quantile(z, q) for q in _QUANTILES}
            for name, values in columns.items():
                parts.setdefault(name, []).append(values.ravel())
        return cls(names, {name: np.concatenate(values) for name, values in parts.items()}, max_rows)

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        shown = self._shown_rows()
        header = ["", *self.columns]
        rows = [[self.names[i], *(f"{column[i]:.4g}" for column in self.columns.values())] for i in shown]
        widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
        lines = [
            " ".join([row[0].ljust(widths[0]), *(c.rjust(w + 1) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in [header, *rows]
        ]
        hidden = len(self) - len(shown)
        if hidden:
            lines.insert(1 + len(shown) // 2, f"... {hidden} rows not shown")
        return "\n".join(lines)

    __repr__ = __str__

    def _shown_rows(self) -> list[int]:
        n, most = len(self), max(2, self._max_rows)
        if n <= most:
            return list(range(n))
        return [*range(most // 2), *range(n - most // 2, n)]
