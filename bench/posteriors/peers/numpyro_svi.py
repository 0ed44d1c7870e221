"""NumPyro: SVI with AutoNormal or AutoMultivariateNormal, Adam, one draw a step as `Trace_ELBO` has it.

Its documentation takes Adam with steps from 0.0005 to 0.01 and 1,000 to 20,000 iterations; here 0.01 and 10,000.
"""

from __future__ import annotations

import jax
import numpy as np
import numpyro
from numpyro.distributions import ImproperUniform, constraints
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

from bench.posteriors.answer import Answer
from bench.posteriors.clock import now
from bench.posteriors.peers.jax_target import log_density
from bench.posteriors.targets import Counted

NAME, NEEDS = "numpyro", ("numpyro",)
FAMILIES = ("mean_field", "full_rank")
STEP_SIZE, N_STEPS = 0.01, 10_000


def fit(target: Counted, family: str, seed: int) -> Answer:
    """Fit; compiling is timed apart."""
    logp = log_density(target)

    def model() -> None:
        z = numpyro.sample("z", ImproperUniform(constraints.real_vector, (), (target.dim,)))
        numpyro.factor("target", logp(z))

    guide = AutoNormal(model) if family == "mean_field" else AutoMultivariateNormal(model)
    svi = SVI(model, guide, numpyro.optim.Adam(STEP_SIZE), Trace_ELBO())
    state = svi.init(jax.random.key(seed))

    def steps(state):
        return jax.lax.scan(lambda state, _: svi.update(state), state, None, length=N_STEPS)[0]

    started = now()
    compiled = jax.jit(steps).lower(state).compile()
    compiling = now().since(started)
    params = svi.get_params(jax.block_until_ready(compiled(state)))
    names = ("z_auto_loc", "z_auto_scale") if family == "mean_field" else ("auto_loc", "auto_scale_tril")
    loc, factor = (np.asarray(params[name], float) for name in names)
    return Answer(loc, factor, compiling)
