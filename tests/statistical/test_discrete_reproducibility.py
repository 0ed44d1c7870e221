"""The same bits with discrete factors: over threads, breaks, files and pickles, with every baseline."""

import pickle

import numpy as np
import pytest

import klqp

TOTAL, BREAK = 40, 17
BASELINES = ["mean", "optimal", "running", "none"]


def values_only(z):
    return (-0.5 * z**2 + np.sin(z)).sum(1)


def flat():
    """Return an inference over one log density that gives values only."""
    return klqp.KLqp([klqp.LogDensity(values_only, shape=3)])


def model(n=6):
    """Return an inference with a pathwise factor, a count with scores, and a structured binary plate."""
    w = klqp.Normal(0.0, 1.0, name="w")
    b = klqp.Bernoulli(probs=0.4, shape=n, name="b")
    k = klqp.Poisson(2.0, shape=n, name="k")
    y = klqp.Normal(w + 2.0 * b + k, 1.0)
    slope = klqp.Parameter(0.1, name="slope")
    latents = {
        k: klqp.Poisson(klqp.Parameter(np.ones(n), support="positive")),
        b: klqp.Bernoulli(logits=slope * k + klqp.Parameter(np.zeros(n))),
        w: klqp.MeanFieldNormal(),
    }
    return klqp.KLqp(latents, data={y: np.linspace(0.0, 6.0, n)})


MAKERS = {"log density": flat, "model": model}


def assert_same_state(one, other):
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def options_of(baseline):
    return {"n_iter": TOTAL, "n_samples": 4, "seed": 3, "baseline": baseline, "enumerate": False}


@pytest.fixture(params=MAKERS, name="make")
def _make(request):
    return MAKERS[request.param]


@pytest.mark.parametrize("baseline", BASELINES)
def test_broken_runs_give_the_bits_of_unbroken_ones(make, baseline, tmp_path):
    """By hand, from a dict, from a file and from a pickle."""
    options = options_of(baseline)
    whole = make()
    whole.run(**options)
    assert np.all(np.isfinite(whole.losses))

    by_hand = make()
    by_hand.initialize(**options)
    for _ in range(TOTAL):
        by_hand.update()
    assert_same_state(whole.snapshot(), by_hand.snapshot())

    first = make()
    first.initialize(**options)
    for _ in range(BREAK):
        first.update()
    kept = first.snapshot()
    first.save(tmp_path / "state.npz")
    for state in (kept, tmp_path / "state.npz"):
        second = make()
        second.initialize(**options)
        second.restore(state)
        second.resume()
        assert_same_state(whole.snapshot(), second.snapshot())

    third = pickle.loads(pickle.dumps(first))
    third.resume()
    assert_same_state(whole.snapshot(), third.snapshot())
    first.resume()
    assert_same_state(whole.snapshot(), first.snapshot())


def test_running_baselines_are_part_of_the_state(make):
    """They are remembered by a snapshot and forgotten by reset."""
    inference = make()
    inference.run(**options_of("running"))
    after = inference.snapshot()
    fresh = make()
    fresh.initialize(**options_of("running"))
    learnt = [name for name in after if "scores" in name or "past" in name or "baseline" in name]
    assert learnt
    assert any(np.any(after[name] != fresh.snapshot()[name]) for name in learnt)
    inference.reset()
    for name in learnt:
        np.testing.assert_array_equal(inference.snapshot()[name], fresh.snapshot()[name])


def test_going_on_counts_on():
    """A second run with the same settings keeps the running baselines too."""
    rule = klqp.optimizers.Adam(schedule="constant")
    options = {**options_of("running"), "optimizer": rule}
    parts, whole = model(), model()
    parts.run(**{**options, "n_iter": BREAK})
    parts.run(**{**options, "n_iter": TOTAL - BREAK})
    whole.run(**options)
    np.testing.assert_array_equal(parts.losses, whole.losses)


@pytest.mark.parametrize("change", [{"baseline": "mean"}, {"seed": 4}, {"n_samples": 5}], ids=str)
def test_snapshots_of_other_settings_are_refused(make, change):
    one, other = make(), make()
    one.run(**options_of("running"))
    other.run(**{**options_of("running"), **change})
    before = one.snapshot()
    with pytest.raises(ValueError, match="the snapshot is of another run"):
        one.restore(other.snapshot())
    assert_same_state(before, one.snapshot())


def test_snapshots_with_other_sums_are_refused():
    def plate(**options):
        b = klqp.Bernoulli(probs=0.4, shape=4, name="b")
        y = klqp.Normal(2.0 * b, 1.0)
        inference = klqp.KLqp([b], data={y: np.arange(4.0)})
        inference.run(n_iter=5, seed=1, **options)
        return inference

    with pytest.raises(ValueError, match="the snapshot is of another run"):
        plate().restore(plate(enumerate=False).snapshot())


def test_a_pickled_posterior_of_discrete_variables():
    inference = model()
    inference.run(**options_of("running"))
    posterior = pickle.loads(pickle.dumps(inference.posterior))
    for name in ("w", "b", "k"):
        np.testing.assert_array_equal(posterior[name].mean(), inference.posterior[name].mean())
        np.testing.assert_array_equal(posterior[name].sample(5, seed=1), inference.posterior[name].sample(5, seed=1))


def large(summed):
    """Return an inference large enough that its steps are shared out over threads."""
    n = 6000
    b = klqp.Bernoulli(probs=0.4, shape=n, name="b")
    z = klqp.Categorical(probs=[0.5, 0.3, 0.2], shape=n, name="z")
    mu = klqp.Normal([0.0, 2.0, 4.0], 1.0, name="mu")
    y = klqp.Normal(mu[z] + 0.5 * b, 1.0)
    q = {
        b: klqp.Bernoulli(logits=klqp.Parameter(np.zeros(n))),
        z: klqp.Categorical(logits=klqp.Parameter(np.zeros((n, 3)))),
        mu: klqp.MeanFieldNormal(),
    }
    inference = klqp.KLqp(q, data={y: np.linspace(-1.0, 5.0, n)})
    inference.initialize(n_iter=12, n_samples=12, seed=5, enumerate=summed, n_threads=1)
    assert ("exact sums" in inference.estimator) == summed
    return inference


@pytest.mark.parametrize(
    "options",
    [{"enumerate": True}, *({"enumerate": False, "baseline": baseline} for baseline in BASELINES)],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_same_bits_on_any_number_of_threads(options):
    states = {}
    for n_threads in (1, 2, 3):
        inference = large(options["enumerate"])
        n_samples = 4 if options.get("baseline") == "optimal" else 12
        inference.run(n_iter=12, n_samples=n_samples, seed=5, n_threads=n_threads, restart=True, **options)
        states[n_threads] = inference.snapshot()
    assert np.all(np.isfinite(states[1]["trace/loss"]))
    assert_same_state(states[1], states[2])
    assert_same_state(states[1], states[3])
