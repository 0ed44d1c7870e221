"""Draws that are made from gamma draws, with implicit gradients in the concentrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from klqp.model.random_variable import Distribution

if TYPE_CHECKING:
    from klqp.model.emitter import Emitter

__all__ = ["GammaDraws"]


class GammaDraws(Distribution):
    """A distribution whose draws are made from logarithms of gamma draws; not used by itself.

    One standard normal makes a gamma draw z. Its derivative in the concentration a is that of the quantile of its
    probability, dz/da = -(dF(z; a)/da) / p(z; a) (Figurnov, Mohamed and Mnih, *Implicit reparameterization gradients*,
    2018).
    """

    normals_per_element: ClassVar[int] = 1

    @property
    def noise_size(self) -> int:
        """Number of standard normals that make a draw."""
        return self.normals_per_element * self.size

    @staticmethod
    def _emit_log_gamma(emitter: Emitter, concentration: int, noise: int, size: int, begin: int = 0) -> int:
        """Add logarithms of draws of Gamma(concentration, 1) to a program.

        Parameters
        ----------
        emitter : Emitter
        concentration : int
            Number of an array of `size` numbers or of one.
        noise : int
            Number of an array of standard normals; those of the draws begin at `begin`.
        size : int
        begin : int

        Returns
        -------
        int
            Number of an array of `size` numbers.
        """
        return emitter.core.node("log_gamma_draw", [concentration, noise], size, {"begin": [begin]})
