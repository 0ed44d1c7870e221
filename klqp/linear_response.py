"""Linear response: the Normal with the variances and covariances that q itself cannot hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.approximation import _ELBO_STREAM, _POSTERIOR_STREAM, MOMENT_KEY, N_DRAWS, Approximation, pieces
from klqp.inference.gaussian import pack
from klqp.model.random_variable import RandomVariable
from klqp.normal_coordinates import is_identity, moments_in_space, quantile_in_space, to_unconstrained
from klqp.posterior import Posterior
from klqp.targets import coerce

if TYPE_CHECKING:
    from klqp.inference.response import Response

__all__ = ["LinearResponse", "ResponseApproximation"]

Float64 = npt.NDArray[np.float64]


class LinearResponse(Posterior):
    """The Normal with q's location and the linear-response covariance; a mapping as `Posterior` is.

    In unconstrained coordinates the covariance of z_i and z_j is the derivative of q's location of z_j as the log
    density is tilted by t z_i and q follows to its new optimum. It is exact where the posterior is a Normal, however
    poor q's own variances are, and one order better than these where it is nearly one. In a variable's own space the
    moments are those of that Normal through the transform of the support.

    Everything is computed when it is asked for and then kept. Variances of a variable, its covariance matrix and its
    moments cost one linear system for each of its unconstrained coordinates, solved side by side by conjugate
    gradients: an iteration evaluates the log density at ``2 n_draws`` points a system, in few large calls, and some 3
    to 30 iterations are needed (few up to 500 dimensions). Joint draws and densities (`sample`, `log_prob`, `elbo`,
    `reweighted`) need the systems of all D coordinates and a (D, D) matrix; `along` needs one for each direction, and
    `std_error` 32 in all. Pickling solves what is left first, up to 500 dimensions.

    Systems raise RuntimeError where q is no optimum, and TargetError where the log density is not finite close to a
    draw of q; `PoorFitWarning` says that they were not solved in 500 iterations.
    """

    _approximation: ResponseApproximation

    def std_error(self) -> dict[str, Float64] | None:
        """Return by name the standard errors (n_unconstrained,) that q's location owes to its number of base draws.

        Where q is the optimum of a sample average over fixed draws (``method="auto"`` or "saa") another set of draws
        would have led to another optimum; these are the standard deviations, from gradients over 32 other sets, to
        about 13 %. None where it is not.
        """
        errors = self._approximation.response.std_error
        return None if errors is None else {z.name: errors[at] for z, at in self._approximation.parts()}

    def along(self, directions: Mapping[Any, npt.ArrayLike] | npt.ArrayLike) -> Float64:
        """Return the covariance matrix (k, k) of k linear combinations of the unconstrained coordinates.

        Parameters
        ----------
        directions : dict by variable or name, or array
            Coefficients ``(k, n_unconstrained)``, 0 for variables that are left out; the array alone with one latent
            variable.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a key is no latent variable, or a shape is another.
        """
        return self._approximation.response.along(self._directions(directions))

    def _directions(self, given: Mapping[Any, npt.ArrayLike] | npt.ArrayLike) -> Float64:
        parts = self._approximation.parts()
        if not isinstance(given, Mapping):
            if len(parts) != 1:
                raise TypeError(f"directions must be a dict by name: {list(self)}")
            given = {parts[0][0]: given}
        if not given:
            raise ValueError("directions is empty: give the coefficients of at least one variable")
        by_name = {self[key]._variable.name: np.asarray(value) for key, value in given.items()}
        first = next(iter(by_name.values()))
        out = np.zeros((len(first) if first.ndim else 1, self._approximation.response.loc.size))
        for z, at in parts:
            if z.name in by_name:
                shape = (len(out), at.stop - at.start)
                out[:, at] = coerce(by_name[z.name], shape, f"directions of {z.name!r}")
        return out


class ResponseApproximation(Approximation):
    """A Normal over the unconstrained coordinates of latent variables, its covariance computed as far as needed."""

    def __init__(self, latents: Sequence[RandomVariable], response: Response) -> None:
        self.latents, self.response = tuple(latents), response
        self._cache: dict[Any, Any] = {}

    def parts(self) -> list[tuple[RandomVariable, slice]]:
        """Return the latent variables with the places of their coordinates."""
        out, begin = [], 0
        for z, (_, size) in zip(self.latents, self.response.view.names, strict=True):
            out.append((z, slice(begin, begin + size)))
            begin += size
        return out

    def _part(self, z: RandomVariable) -> slice:
        return next(at for other, at in self.parts() if other is z)

    def draws(self, n: int, key: int, in_own_space: bool) -> dict[str, Float64]:
        """Return joint draws by name."""
        u = np.concatenate([self._member.transform(noise) for _, noise in self._noise(n, key, _POSTERIOR_STREAM)])
        return {z.name: self._values(z, u[:, at]) if in_own_space else u[:, at] for z, at in self.parts()}

    def moments(self, z: RandomVariable, in_own_space: bool) -> tuple[Float64, Float64]:
        """Return means and standard deviations, flat."""
        loc, scale = self._normal_marginals(z)
        found = moments_in_space(z, loc, scale) if in_own_space else (loc, scale)
        if found is not None:
            return found
        draws = self._fixed_draws(z)
        return draws.mean(0), draws.std(0, ddof=1)

    def quantile(self, z: RandomVariable, probability: float) -> Float64:
        """Return quantiles of the variable's elements, flat."""
        found = quantile_in_space(z, *self._normal_marginals(z), probability)
        return np.asarray(np.quantile(self._fixed_draws(z), probability, axis=0)) if found is None else found

    def covariance(self, z: RandomVariable, in_own_space: bool) -> Float64:
        """Return the covariance matrix of the variable's coordinates."""
        if not in_own_space or is_identity(z):
            return self._covariance(z).copy()
        return np.atleast_2d(np.cov(self._fixed_draws(z), rowvar=False))

    def log_density(self, draws: Mapping[str, Float64]) -> Float64:
        """Return the log density (n,) of joint values by name."""
        n = len(next(iter(draws.values())))
        total, inside, coordinates = np.zeros(n), np.ones(n, np.bool_), []
        for z in self.latents:
            u, log_jacobian, within = to_unconstrained(z, draws[z.name].reshape(n, -1))
            coordinates.append(u)
            total -= log_jacobian
            inside &= within
        total += self._member.log_density(np.ascontiguousarray(np.concatenate(coordinates, axis=1)))
        return np.where(inside, total, -np.inf)

    def log_ratio(self, n: int, key: int) -> tuple[Float64, Float64]:
        """Return log p and log q of fresh draws, both as densities of the unconstrained coordinates."""
        return self.weighted_draws(n, key)[1:]

    def weighted_draws(self, n: int, key: int) -> tuple[dict[str, Float64], Float64, Float64]:
        """Return draws by name, log p and log q."""
        u, log_p, log_q = np.empty((n, self.response.loc.size)), np.empty(n), np.empty(n)
        for rows, noise in self._noise(n, key, _ELBO_STREAM):
            u[rows] = self._member.transform(noise)
            log_p[rows] = self.response.view.evaluate(u[rows])[0]
            log_q[rows] = self._member.log_density_of_noise(noise)
        return {z.name: self._values(z, u[:, at]) for z, at in self.parts()}, log_p, log_q

    def n_unconstrained(self, z: RandomVariable) -> int:
        """Return the number of a variable's unconstrained coordinates."""
        return int(self._part(z).stop - self._part(z).start)

    def family_name(self) -> str | None:
        """Return the name of the family it is of."""
        return "full_rank"

    def describe(self) -> str:
        """Return the Normal in words."""
        return f"Normal with the linear-response covariance of a {self.response.view.spec.name.replace('_', '-')} fit"

    @property
    def _member(self) -> _core.Member:
        """The Normal over all coordinates."""
        if "member" not in self._cache:
            dim = self.response.loc.size
            lower = _cholesky(self.response.covariance(slice(0, dim)))
            spec = _core.FamilySpec("full_rank", dim)
            self._cache["member"] = _core.Member(spec, pack(spec, self.response.loc, np.diag(lower), lower))
        return self._cache["member"]  # type: ignore[no-any-return]

    def _noise(self, n: int, key: int, stream: int) -> Iterator[tuple[slice, Float64]]:
        for rows, m in pieces(n, self.response.loc.size):
            yield rows, self._member.noise(key, stream, rows.start, m)

    def _normal_marginals(self, z: RandomVariable) -> tuple[Float64, Float64]:
        at = self._part(z)
        return self.response.loc[at].copy(), np.sqrt(self.response.variance(at))

    def _covariance(self, z: RandomVariable) -> Float64:
        if ("covariance", z.name) not in self._cache:
            self._cache["covariance", z.name] = self.response.covariance(self._part(z))
        return self._cache["covariance", z.name]  # type: ignore[no-any-return]

    def _fixed_draws(self, z: RandomVariable) -> Float64:
        """Return draws (N, size) of one variable, of a fixed seed."""
        if ("draws", z.name) not in self._cache:
            loc, lower = self.response.loc[self._part(z)], _cholesky(self._covariance(z))
            noise = np.random.Generator(np.random.Philox(key=MOMENT_KEY)).standard_normal((N_DRAWS, len(loc)))
            self._cache["draws", z.name] = self._values(z, loc + noise @ lower.T).reshape(N_DRAWS, -1)
        return self._cache["draws", z.name]  # type: ignore[no-any-return]

    @staticmethod
    def _values(z: RandomVariable, u: Float64) -> Float64:
        """Return values (n, *shape) for coordinates (n, n_unconstrained)."""
        values = u.copy() if is_identity(z) else z.space.transform(z.shape).forward(np.ascontiguousarray(u))[0]
        return values.reshape(len(u), *z.shape)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": {}}


def _cholesky(covariance: Float64) -> Float64:
    try:
        return np.asarray(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        raise RuntimeError(
            "the linear-response covariance is not positive definite, so that it has no draws: take more base draws "
            "(n_draws)"
        ) from None
