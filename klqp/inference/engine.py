"""Assembly of the core's run from settings, a family and a log density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp._sobol import make_noise
from klqp.families import Family
from klqp.inference.estimator import Demand, EstimatorChoice, choose_estimator
from klqp.inference.settings import Settings
from klqp.model.log_density import LogDensity
from klqp.model.random_variable import RandomVariable
from klqp.targets import make_target

if TYPE_CHECKING:
    from klqp.inference.model_engine import ModelEngine

__all__ = ["Engine"]

Float64 = npt.NDArray[np.float64]


class Engine:
    """The parts of one run, and the run made from them.

    Parameters
    ----------
    latent : LogDensity
    family : Family
    settings : Settings
    demand : Demand
        What a named class forces.
    choice : EstimatorChoice, optional
        The estimator, where it was chosen before.
    gives_gradient : bool, optional
        Whether the log density gives gradients, where that is known; where it is not and the estimator is to be
        chosen, the log density is called once, with the first step's draws. The first step does not repeat that
        call.
    """

    def __init__(
        self,
        latent: LogDensity,
        family: Family,
        settings: Settings,
        demand: Demand,
        choice: EstimatorChoice | None = None,
        gives_gradient: bool | None = None,
    ) -> None:
        self.settings = settings
        self._latent = latent
        self._described = f"{latent.name}: {family.describe()}"
        self._spec = family.spec(latent.size)
        self._target = make_target(latent.fn, latent.shape, settings.dtype)
        self._start = self.start(settings)
        self.gives_gradient = gives_gradient
        if choice is None and gives_gradient is None:
            self.gives_gradient = self._ask_for_gradient()
        self.choice = choice or choose_estimator(settings, demand, bool(self.gives_gradient), self._spec)
        self.run = self._make_run()

    @property
    def words(self) -> str:
        """The estimator in words."""
        return f"{self._described}; {self.choice.words}"

    @property
    def spec(self) -> _core.FamilySpec:
        """The family over the log density's coordinates."""
        return self._spec

    def start(self, settings: Settings) -> Float64:
        """Return the flat vector that a run with these settings starts from."""
        loc, scale = (settings.start_of(which, self._latent, self._latent.size) for which in ("init_loc", "init_scale"))
        return self._spec.start(loc, scale, settings.key)

    def user_data_feed(self, addresses: Sequence[int]) -> _core.Feed:
        """Return what hands a native log density the address of one of many problems."""
        return _core.user_data_feed(self._target, addresses)

    def feed(self, feeds: Mapping[Any, Any]) -> None:
        """Refuse data: a log density has no placeholders."""
        if feeds:
            raise ValueError("feed_dict: this model has no placeholders")

    def require_feeds(self) -> None:
        """Do nothing: there are no placeholders."""

    def pull(self) -> bool:
        """Return False: there are no shared parameters."""
        return False

    def push(self) -> None:
        """Do nothing: there are no shared parameters."""

    def fingerprint(self) -> str:
        """Return what a snapshot must agree in to be continued by this run, as text."""
        s = self.settings
        return (
            f"{self._spec.name} dim={self._spec.dim} rank={self._spec.rank} scale={self._spec.scale} "
            f"df={self._spec.df} components={self._spec.components} "
            f"gradient={self.choice.gradient} entropy={self.choice.entropy} baseline={self.choice.baseline} "
            f"draws={s.draws} n_samples={s.n_samples} seed={s.key} optimizer={s.optimizer.fingerprint()}"
        )

    def unconstrained_normals(self) -> dict[RandomVariable, tuple[Float64, Float64]]:
        """Return location and standard deviations of the latent variable."""
        member = _core.Member(self._spec, self.run.params)
        return {self._latent: (member.mean(), member.stddev())}

    def adopt(self, earlier: Engine | ModelEngine) -> None:
        """Go on from the q, the step count and the traces of another engine's run.

        The optimizer's memory comes along where the two runs agree in everything.
        """
        new, old = self.run.snapshot(), earlier.run.snapshot()
        if self.fingerprint() != earlier.fingerprint():
            kept = ("step", "params", "last_good", "any_good", "trace/", "rejections/")
            old = {name: values for name, values in old.items() if name.startswith(kept)}
            if not isinstance(earlier, Engine):
                params = self._spec.start(*earlier.unconstrained_normals()[self._latent], self.settings.key)
                old |= {"params": params, "last_good": params}
        self.run.restore(new | old)

    def _ask_for_gradient(self) -> bool:
        if not isinstance(self._target, _core.PythonTarget):
            return True
        noise = self._noise(n_groups=1).fill(0, self._spec.noise_dim)
        first_draws = _core.Member(self._spec, self._start).transform(noise)
        return self._target.prime(first_draws)

    def _noise(self, n_groups: int) -> _core.Noise:
        return make_noise(
            self.settings.draws, self.settings.n_samples, self._spec.noise_dim, self.settings.key, n_groups
        )

    def _make_run(self) -> _core.Run:
        settings, estimator = self.settings, self.choice.spec()
        noise, rule = self._noise(self.choice.n_groups), settings.optimizer.spec()
        return _core.Run(self._spec, self._target, noise, estimator, rule, settings.run_config(), self._start)


def as_state(snapshot: dict[str, Any]) -> dict[str, Float64]:
    """Return the core's part of a snapshot, as arrays."""
    return {k: np.atleast_1d(np.asarray(v, np.float64)) for k, v in snapshot.items()}
