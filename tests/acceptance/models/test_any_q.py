"""Any distribution with draws as q: the optimum that KLqp finds against minimisation of the exact KL by quadrature."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import optimize, special, stats

import klqp
from klqp.model.distributions.events_registry import EVENT_DISTRIBUTIONS
from klqp.model.distributions.registry import DISTRIBUTIONS

from . import targets
from .quadrature import (
    Rule,
    beta,
    categories,
    continuous,
    dirichlet,
    discrete,
    normal_plane,
    of_normals,
    on_circle,
    relaxed,
    relaxed_pair,
)


class Row(NamedTuple):
    """A q: its target, how klqp says it, its expectations, and where its parameters start."""

    target: Callable[[], tuple[Any, Mapping[Any, Any]]]
    q: Callable[..., Any]
    rule: Callable[..., Rule]
    start: Mapping[str, tuple[Any, str]]  # value and support


REAL = {"loc": (0.2, "real"), "scale": (1.0, "positive")}
SHAPE_SCALE = {"concentration": (2.5, "positive"), "scale": (1.2, "positive")}
LOGITS = {"logits": (0.2, "real")}
THREE = {"logits": ([0.1, -0.2, 0.3], "real")}
NORMALS = {
    "logits": ([0.0, 0.0], "real"),
    "loc": ([-1.0, 1.0], "real"),
    "scale": ([0.7, 0.7], "positive"),
}
ROWS = {
    "Normal": Row(targets.line, klqp.Normal, lambda loc, scale: continuous(stats.norm(loc, scale)), REAL),
    "Laplace": Row(targets.line, klqp.Laplace, lambda loc, scale: continuous(stats.laplace(loc, scale)), REAL),
    "Cauchy": Row(targets.line, klqp.Cauchy, lambda loc, scale: continuous(stats.cauchy(loc, scale)), REAL),
    "Logistic": Row(targets.line, klqp.Logistic, lambda loc, scale: continuous(stats.logistic(loc, scale)), REAL),
    "Gumbel": Row(targets.line, klqp.Gumbel, lambda loc, scale: continuous(stats.gumbel_r(loc, scale)), REAL),
    "StudentT": Row(
        targets.line,
        lambda loc, scale: klqp.StudentT(4.0, loc, scale),
        lambda loc, scale: continuous(stats.t(4, loc, scale)),
        REAL,
    ),
    "StudentT, free df": Row(
        targets.line,
        klqp.StudentT,
        lambda df, loc, scale: continuous(stats.t(df, loc, scale)),
        {"df": (3.0, "positive"), **REAL},
    ),
    "Mixture": Row(
        targets.two_modes,
        lambda logits, loc, scale: klqp.Mixture(
            klqp.Categorical(logits=logits), [klqp.Normal(loc[k], scale[k]) for k in range(2)]
        ),
        of_normals,
        NORMALS,
    ),
    "MixtureSameFamily": Row(
        targets.two_modes,
        lambda logits, loc, scale: klqp.MixtureSameFamily(klqp.Categorical(logits=logits), klqp.Normal(loc, scale)),
        of_normals,
        NORMALS,
    ),
    "LogNormal": Row(
        targets.positive, klqp.LogNormal, lambda loc, scale: continuous(stats.lognorm(scale, 0, np.exp(loc))), REAL
    ),
    "Gamma": Row(
        targets.positive,
        klqp.Gamma,
        lambda concentration, rate: continuous(stats.gamma(concentration, scale=1 / rate)),
        {"concentration": (1.0, "positive"), "rate": (1.0, "positive")},
    ),
    "Weibull": Row(
        targets.positive,
        klqp.Weibull,
        lambda concentration, scale: continuous(stats.weibull_min(concentration, 0, scale)),
        SHAPE_SCALE,
    ),
    "Exponential": Row(
        targets.positive,
        klqp.Exponential,
        lambda rate: continuous(stats.expon(scale=1 / rate)),
        {"rate": (1.0, "positive")},
    ),
    "Chi2": Row(targets.positive, klqp.Chi2, lambda df: continuous(stats.chi2(df)), {"df": (1.0, "positive")}),
    "InverseGamma": Row(
        targets.scale,
        klqp.InverseGamma,
        lambda concentration, scale: continuous(stats.invgamma(concentration, 0, scale)),
        SHAPE_SCALE,
    ),
    "HalfNormal": Row(
        targets.scale, klqp.HalfNormal, lambda scale: continuous(stats.chi(1, 0, scale)), {"scale": (0.5, "positive")}
    ),
    "HalfCauchy": Row(
        targets.scale,
        lambda scale: klqp.HalfCauchy(0.0, scale),
        lambda scale: continuous(stats.halfcauchy(0, scale)),
        {"scale": (0.5, "positive")},
    ),
    "Beta": Row(
        targets.share,
        klqp.Beta,
        lambda concentration1, concentration0: beta(concentration1, concentration0),
        {"concentration1": (1.0, "positive"), "concentration0": (1.0, "positive")},
    ),
    "RelaxedBernoulli": Row(
        targets.share, klqp.RelaxedBernoulli, relaxed, {"temperature": (0.8, "positive"), **LOGITS}
    ),
    "VonMises": Row(
        targets.angle, klqp.VonMises, on_circle, {"loc": (0.2, "real"), "concentration": (1.0, "positive")}
    ),
    "Dirichlet": Row(targets.simplex, klqp.Dirichlet, dirichlet, {"concentration": ([1.0, 1.0, 1.0], "positive")}),
    "RelaxedOneHotCategorical": Row(
        targets.two_shares,
        lambda temperature, logits: klqp.RelaxedOneHotCategorical(temperature, logits=klqp.stack([logits, 0.0])),
        lambda temperature, logits: relaxed_pair(temperature, np.array([logits, 0.0])),
        {"temperature": (0.8, "positive"), **LOGITS},
    ),
    "MultivariateNormalDiag": Row(
        targets.plane,
        klqp.MultivariateNormalDiag,
        lambda loc, scale_diag: normal_plane(loc, np.diag(scale_diag)),
        {"loc": ([0.0, 0.0], "real"), "scale_diag": ([1.0, 1.0], "positive")},
    ),
    "MultivariateNormalTriL": Row(
        targets.plane,
        klqp.MultivariateNormalTriL,
        normal_plane,
        {"loc": ([0.0, 0.0], "real"), "scale_tril": (np.eye(2), "cholesky_cov")},
    ),
    "PointMass": Row(
        targets.positive,
        klqp.PointMass,
        lambda params: Rule(np.array([params]), np.ones(1), np.zeros(1)),
        {"params": (1.0, "positive")},
    ),
    "Poisson": Row(
        targets.count, klqp.Poisson, lambda rate: discrete(stats.poisson(rate)), {"rate": (3.0, "positive")}
    ),
    "Poisson, log rate": Row(
        targets.count,
        lambda log_rate: klqp.Poisson(log_rate=log_rate),
        lambda log_rate: discrete(stats.poisson(np.exp(log_rate))),
        {"log_rate": (1.0, "real")},
    ),
    "NegativeBinomial": Row(
        targets.count,
        lambda total_count, logits: klqp.NegativeBinomial(total_count, logits=logits),
        lambda total_count, logits: discrete(stats.nbinom(total_count, special.expit(-logits))),
        {"total_count": (4.0, "positive"), **LOGITS},
    ),
    "Geometric": Row(
        targets.count, klqp.Geometric, lambda logits: discrete(stats.geom(special.expit(logits), -1)), LOGITS
    ),
    "Binomial": Row(
        targets.few,
        lambda logits: klqp.Binomial(9.0, logits=logits),
        lambda logits: discrete(stats.binom(9, special.expit(logits)), 10),
        LOGITS,
    ),
    "BetaBinomial": Row(
        targets.few,
        lambda a, b: klqp.BetaBinomial(9.0, a, b),
        lambda a, b: discrete(stats.betabinom(9, a, b), 10),
        {"a": (3.0, "positive"), "b": (3.0, "positive")},
    ),
    "Bernoulli": Row(
        targets.binary, klqp.Bernoulli, lambda logits: discrete(stats.bernoulli(special.expit(logits)), 2), LOGITS
    ),
    "Categorical": Row(targets.category, klqp.Categorical, lambda logits: categories(np.arange(3.0), logits), THREE),
    "OneHotCategorical": Row(
        targets.one_hot, klqp.OneHotCategorical, lambda logits: categories(np.eye(3), logits), THREE
    ),
}


class Flat:
    """The parameters of a row as one vector without bounds."""

    def __init__(self, start: Mapping[str, tuple[Any, str]]) -> None:
        self.parameters = {name: klqp.Parameter(value, support=support) for name, (value, support) in start.items()}

    @property
    def value(self) -> np.ndarray:
        return np.concatenate([p.unconstrained for p in self.parameters.values()])

    def arrays(self, u: np.ndarray) -> dict[str, np.ndarray]:
        out, begin = {}, 0
        for name, p in self.parameters.items():
            end = begin + p.n_unconstrained
            value = p.support.transform(p.shape).forward(np.ascontiguousarray(u[None, begin:end]))[0]
            out[name], begin = value.reshape(p.shape)[()], end
        return out


def exact_elbo(row: Row, values: Mapping[str, np.ndarray]) -> float:
    rule = row.rule(**values)
    return float(np.sum(rule.weight * (targets.LOG_P[row.target](rule.x) - rule.log_q)))


def best_elbo(row: Row, flat: Flat, *starts: np.ndarray) -> float:
    def loss(u):
        return -exact_elbo(row, flat.arrays(u))

    return max(-optimize.minimize(loss, u, method="BFGS", options={"gtol": 1e-7}).fun for u in starts)


def fitted(row: Row, **options):
    flat = Flat(row.start)
    start = flat.value
    z, data = row.target()
    inference = klqp.KLqp({z: row.q(**flat.parameters)}, data=data)
    inference.run(n_iter=4000, n_samples=50, seed=1, progress=False, **options)
    return inference, flat, start


def assert_optimal(row: Row, **options) -> None:
    """Within 2e-4 nats of the best that this q can do: its parameters are within 2 % of their posterior scale."""
    inference, flat, start = fitted(row, **options)
    found = exact_elbo(row, flat.arrays(flat.value))
    assert row.rule(**flat.arrays(flat.value)).weight.sum() == pytest.approx(1.0, abs=1e-9)
    assert -1e-7 < best_elbo(row, flat, start, flat.value) - found < 2e-4
    estimate = inference.posterior.elbo(20_000, seed=2)
    assert abs(estimate.value - found) < 4 * estimate.std_error + 1e-9


@pytest.mark.parametrize("name", ROWS)
def test_optimum(name):
    assert_optimal(ROWS[name])


def test_modes_far_apart():
    """Draws move from mode to mode as the weights change, so that their derivatives are noisy; scores are not."""
    row = ROWS["MixtureSameFamily"]._replace(target=targets.far_modes)
    assert_optimal(row, gradient="score")
    noise = {}
    for gradient in ("auto", "score"):
        inference, _, _ = fitted(row, gradient=gradient)
        noise[gradient] = inference.gradient_noise(500, seed=1)["z"].noise
    assert noise["score"] < 0.1 * noise["auto"]


def test_table_is_complete():
    """Each distribution that can be a q has a row; a Uniform's support moves with its parameters."""
    classes = [row.distribution for row in DISTRIBUTIONS] + list(EVENT_DISTRIBUTIONS)
    able = {cls.__name__ for cls in classes if hasattr(cls, "emit_draw")}
    assert able - {"Uniform"} == {name.split(",")[0] for name in ROWS}
