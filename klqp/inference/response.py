"""Response: how the optimum of a Normal family moves as the log density is tilted, by conjugate gradients.

Sources: Giordano, Broderick and Jordan, *Covariances, robustness, and variational Bayes* (2018); Giordano, Ingram and
Broderick, *Black box variational inference with a deterministic objective* (2024). Formulas: docs/maths.md 11.7.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.errors import PoorFitWarning
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.candidate import Candidate
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.laplace import MAX_DIM
from klqp.inference.auto.saa import Frame, Objective, location_inverse, n_draws_at_first
from klqp.inference.conjugate_gradients import solve
from klqp.inference.flat_view import FlatView
from klqp.inference.gaussian import unpack
from klqp.inference.standard import Standard, with_orthogonal_columns
from klqp.linear_response import LinearResponse, ResponseApproximation
from klqp.model.random_variable import RandomVariable

__all__ = ["Response", "respond"]

Float64 = npt.NDArray[np.float64]

_FIRST_SCRAMBLE = 1 << 21  # of base draws: independent of the fit's, even with its seed
_REPLICATES = 32  # sets of base draws whose gradients give the error of the optimum
_TOLERANCE = 1e-6  # of the residual; variances have the square of it
_MAX_ITER = 500
_FLAT = 1e-9  # curvature, in units of q's precision, that cannot be told from none
_RIDGE = 0.1  # curvature added where q hardly depends on a parameter
_MOST_NUMBERS = 1 << 21  # of the points in one call of the log density, where one product does not need more
_MOST_UNKNOWNS = 1 << 22  # of the systems solved side by side


class Response:
    """The response of q's location to a tilt of the log density, and to another set of base draws.

    In unconstrained coordinates z of all latent variables. Nothing is computed before it is asked for; what was, is
    kept.

    Parameters
    ----------
    view : FlatView
    params : ndarray (P,)
        Of the family, at the optimum.
    n_draws : int
        Base draws of the Hessian, a power of two.
    n_fitted : int, optional
        Base draws of the sample average of which q is the optimum.
    key : int
        Of the base draws.
    """

    def __init__(self, view: FlatView, params: Float64, n_draws: int, n_fitted: int | None, key: int) -> None:
        self._view, self._params, self._n_draws, self._n_fitted, self._key = view, params, n_draws, n_fitted, key
        self.loc = unpack(view.spec, params)[0]
        self._variance = np.full(view.spec.dim, np.nan)
        self._columns = np.full((view.spec.dim, view.spec.dim), np.nan) if view.spec.dim <= MAX_DIM else None

    @property
    def view(self) -> FlatView:
        """The log density, and the family of q."""
        return self._view

    def check(self) -> None:
        """Solve for one random direction.

        Raises
        ------
        RuntimeError
            If q is not at an optimum.
        TargetError
            If a draw of q has no finite log density.
        """
        direction = np.random.Generator(np.random.Philox(key=self._key)).standard_normal(self.loc.size)
        self._system.columns((direction / self._system.frame.scale)[None])

    def variance(self, at: slice) -> Float64:
        """Return the variances (k,) of some coordinates: a solve each."""
        unknown = [i for i in range(at.start, at.stop) if np.isnan(self._variance[i])]
        for rows, columns in self._solved(unknown):
            self._variance[rows] = columns[np.arange(len(rows)), rows]
        return self._variance[at].copy()

    def covariance(self, at: slice) -> Float64:
        """Return the covariance matrix (k, k) of some coordinates: a solve each."""
        out = np.empty((at.stop - at.start,) * 2)
        known = self._columns is not None
        unknown = [i for i in range(at.start, at.stop) if not known or np.isnan(self._variance[i])]
        for rows, columns in self._solved(unknown):
            self._variance[rows] = columns[np.arange(len(rows)), rows]
            out[[i - at.start for i in rows]] = columns[:, at]
        if self._columns is not None:
            out = self._columns[at, at]
        return 0.5 * (out + out.T)

    def along(self, directions: Float64) -> Float64:
        """Return the covariance matrix (k, k) of linear combinations (k, D) of the coordinates: a solve each."""
        out = self._system.columns(directions) @ directions.T
        return 0.5 * (out + out.T)

    @cached_property
    def std_error(self) -> Float64 | None:
        """Standard errors (D,) of q's location from the finite number of base draws; None where there were none.

        With another set of draws, whose gradient is G, the optimum would differ by -H^-1 G: the spread over 32 sets.
        """
        if self._n_fitted is None:
            return None
        moves = self._system.moves(self._n_fitted, self._key)
        return np.asarray(moves.std(0, ddof=1))

    def _solved(self, coordinates: Sequence[int]) -> Iterator[tuple[list[int], Float64]]:
        """Yield coordinates, some at a time, with their columns (k, D) of the covariance matrix."""
        most = max(1, _MOST_UNKNOWNS // self.view.spec.n_params)
        for first in range(0, len(coordinates), most):
            rows = list(coordinates[first : first + most])
            directions = np.zeros((len(rows), self.loc.size))
            directions[np.arange(len(rows)), rows] = 1.0
            columns = self._system.columns(directions)
            if self._columns is not None:
                self._columns[rows] = columns
            yield rows, columns

    @cached_property
    def _system(self) -> _System:
        return _System(self._view, self._params, self._n_draws, self._key)

    def __getstate__(self) -> dict[str, Any]:
        if self._columns is not None:  # what may be lost with the log density
            self.covariance(slice(0, self.loc.size))
        _ = self.std_error
        return {name: value for name, value in self.__dict__.items() if name != "_system"}


class _System:
    """Minus the ELBO's Hessian over base draws at q, in parameters in which it is near the identity.

    The scales are parameters themselves here, not their logarithms: draws are linear in the parameters, and for a
    log-concave density the objective of the mean-field and full-rank families is convex.
    """

    def __init__(self, view: FlatView, params: Float64, n_draws: int, key: int) -> None:
        self._target, spec = Counted(view), view.spec
        at = Candidate(*unpack(spec, params), origin="the fit", start=-1)
        if spec.name == "low_rank":
            at = with_orthogonal_columns(at)
        linear = _core.FamilySpec(spec.name, spec.dim, rank=spec.rank, scale="linear")
        self.frame = replace(Frame.of(spec, at), spec=linear)
        self._spec, self._at = linear, self.frame.params(at)
        noise = base_draws(n_draws, spec.noise_dim, key, _FIRST_SCRAMBLE)
        self._refuse_bad_draws(noise)
        self._objective = Objective(self._target, self.frame, noise)
        self._standard = Standard(linear, self._at)
        _, grad = self._target.evaluate(self.frame.to_z(_core.Member(self.frame.spec, self._at).transform(noise)))
        self._location = location_inverse(self.frame, self._at, noise, grad)
        self._ridge = _RIDGE * (1.0 - self._standard.information)
        # Standard deviations: rounding over the step, and the step's square, are small then.
        self._step = float(np.finfo(view.dtype).eps) ** 0.2
        self._at_once = max(1, _MOST_NUMBERS // (2 * noise.size))

    def columns(self, directions: Float64) -> Float64:
        """Return covariances (k, D) of linear combinations of z with the coordinates of z."""
        rhs = np.zeros((len(directions), self._spec.n_params))
        rhs[:, : self._spec.dim] = self.frame.pull(directions)
        return self._locations(rhs)

    def moves(self, n_draws: int, key: int) -> Float64:
        """Return how q's location would move (R, D) with other sets of base draws."""
        gradients = np.empty((_REPLICATES, self._spec.n_params))
        for r in range(_REPLICATES):
            noise = base_draws(n_draws, self._spec.noise_dim, key, _FIRST_SCRAMBLE + 1 + r)
            value, gradients[r] = Objective(self._target, self.frame, noise)(self._at)
            if not np.isfinite(value):
                self._refuse_bad_draws(noise)
        return self._locations(gradients - gradients.mean(0))

    def _locations(self, rhs: Float64) -> Float64:
        """Return the locations' part (k, D), in z, of the inverse Hessian times vectors (k, P)."""
        rhs = self._standard.without_turns(self._standard.times(rhs))
        try:
            x, left = solve(self.times, self._precondition, rhs, tolerance=_TOLERANCE, max_iter=_MAX_ITER, flat=_FLAT)
        except np.linalg.LinAlgError:
            raise RuntimeError(
                "q is not at an optimum: minus the ELBO has a direction without positive curvature there, so that it "
                "has no linear response: run on, start the fit elsewhere (init_loc), or give a prior to what has none; "
                "diagnose() says more"
            ) from None
        if (left > 1).any():
            warnings.warn(
                f"{int((left > 1).sum())} of {len(left)} systems for the linear response were not solved in "
                f"{_MAX_ITER} iterations: their relative residuals are up to {left.max() * _TOLERANCE:.1g}",
                PoorFitWarning,
                stacklevel=2,
            )
        return self.frame.to_z(self._standard.times(x)[:, : self._spec.dim]) - self.frame.loc

    def times(self, p: Float64) -> Float64:
        """Return the Hessian's products with vectors (k, P), by central differences of the gradient."""
        length = np.sqrt((p**2).sum(1))[:, None]
        steps, out = self._standard.times(p * (self._step / length)), np.empty_like(p)
        for first in range(0, len(p), self._at_once):
            s = steps[first : first + self._at_once]
            values, gradients = self._objective.batch(np.concatenate([self._at + s, self._at - s]))
            if not np.isfinite(values).all():
                raise _core.TargetError(
                    "the log density, or its gradient, is not finite close to a draw of q: its curvature is unknown"
                )
            out[first : first + len(s)] = gradients[: len(s)] - gradients[len(s) :]
        product = self._standard.times(out * (0.5 * length / self._step))
        return self._standard.without_turns(product + self._ridge * p)

    def _precondition(self, r: Float64) -> Float64:
        dim, out = self._spec.dim, r / (self._standard.information + self._ridge)
        if self._location is not None:
            out[:, :dim] = self._standard.unroot(self._location(self._standard.unroot(r[:, :dim])))
        return self._standard.without_turns(out)

    def _refuse_bad_draws(self, noise: Float64) -> None:
        member = _core.Member(self._spec, self._at)
        logp, grad = self._target.evaluate(self.frame.to_z(member.transform(noise)))
        bad = int((~(np.isfinite(logp) & np.isfinite(grad).all(1))).sum())
        if bad:
            raise _core.TargetError(
                f"the log density, or its gradient, is not finite at {bad} of {len(noise)} draws of q: linear response "
                "needs a q that stays where the model is defined; use variables with a support, or a transform"
            )


def respond(
    latents: Sequence[RandomVariable],
    view: FlatView,
    params: Float64,
    n_draws: int | None,
    n_fitted: int | None,
    key: int,
) -> LinearResponse:
    """Return the linear response of a fit, after a check that there is one; see `VariationalInference.linear_response`.

    Parameters
    ----------
    latents : sequence of RandomVariable
        In the order of the view's coordinates.
    view, params, n_draws, n_fitted, key
        See `Response`; any number of draws, by default the fit's.
    """
    n = 1 << (n_draws - 1).bit_length() if n_draws is not None else max(n_fitted or 0, n_draws_at_first(view.spec))
    response = Response(view, params, n, n_fitted, key)
    response.check()
    return LinearResponse(ResponseApproximation(latents, response))
