"""Stochastic: steps of Adam that find their size, average their iterates, and stop by themselves.

After RABVI (Welandawe, Andersen, Vehtari and Huggins, *A framework for improving the reliability of black-box
variational inference*, 2024), with losses on common random numbers in the place of divergences by formula, so that any
q will do.
Formulas and thresholds: docs/maths.md 11.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klqp.inference.auto.budget import BudgetSpent
from klqp.inference.auto.iterates import Iterates
from klqp.inference.auto.outcome import Outcome
from klqp.inference.auto.stepper import Stepper
from klqp.inference.verdict import SMALL

__all__ = ["Metric", "descend"]

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_RATE, _NATS_A_STEP = 0.1, 5.0  # of the first stage in units of q, lowered for a P where such steps change q by more
_RATIO = 3.0  # between the rates of stages
_MOST_STAGES = 12
_TRIP, _FEWEST_TRIPS, _MOST_TRIPS = 25, 8, 200  # steps of a leg on the way; legs
_STEADY, _WAVERING = 0.6, 0.3  # net displacement over the length of the way, for longer and for shorter steps
_LONGEST = 4.0  # first rates, as the steps of other parameters than locations
_FIRST_LOOK, _LATER = 400, 1.5  # steps of a stage before it is looked at, and the growth until the next look
_R_HAT = 1.1
_THINNING, _SPARSEST = 4, 32  # steps between iterates that are kept
_LONG, _DOUBT = 2_000, 10.0  # steps after which a stage need not be stationary to end; how much worse it is taken to be
_MUCH_TOO_LONG = 10_000  # steps after which the first stage ends
_TOLERANCE = 0.02  # nats that may remain ...
_PATIENCE = 20_000  # ... and steps from which on as many more may, up to half of what the verdict lets pass
_EVALUATIONS, _MOST_EVALUATIONS = 8, 64  # steps whose noise and data the losses of a look are averaged over
_PARTS = (2, 4, 8)  # of a stage's end, whose means say how far the average may be off
_ROUGH = 1.0  # nats of noise in an average from which smaller steps are needed
_CLEAR = 2.5  # standard errors by which a slope must differ from 0
_ENOUGH = 3  # gradients for each parameter from which their covariance is taken
_FAR = 100.0  # times its direction's length that a jump goes at most
_COARSE = 4.0  # times its noise by which an average must have moved to be left at once


@dataclass(frozen=True)
class Metric:
    """What steps are measured in.

    Attributes
    ----------
    units : callable
        Returns the units (P,) of parameters (P,).
    locations : ndarray of bool (P,)
        Parameters that may have far to go.
    """

    units: Callable[[Float64], Float64]
    locations: Bools


@dataclass(frozen=True)
class _Look:
    """What was seen at the end of a stage so far: an average, and the nats it loses."""

    average: Float64
    rate: float
    n_averaged: int
    noise: float  # by its own Monte Carlo error
    change: float | None  # by having moved from the last stage's average, noise of both included
    last_noise: float
    stationary: bool
    drift: float  # by gradients that still point one way
    ahead: Float64  # where these point to

    @property
    def bias(self) -> float | None:
        """Nats by which the rate shifts the average: as many as the last change of the rate gained."""
        return None if self.change is None else max(0.0, self.change - self.noise - self.last_noise)

    @property
    def doubt(self) -> float:
        """Factor on nats: iterates that still drift may have far to go."""
        return 1.0 if self.stationary else _DOUBT

    @property
    def remaining(self) -> float | None:
        return None if self.bias is None else self.doubt * (self.noise + self.bias) + self.drift


def descend(stepper: Stepper, metric: Metric, key: int, far: bool, origin: str = "") -> Outcome:
    """Take a run to its optimum, or as near as its budget allows; the best average becomes its parameters.

    Parameters
    ----------
    stepper : Stepper
    metric : Metric
    key : int
    far : bool
        Whether the optimum may be far from where the run is.
    origin : str
        Where the run starts, in words.

    Raises
    ------
    TargetError
        If the log density is not finite at the start, or too often later.
    """
    descent = _Descent(stepper, metric, key)
    run, interrupted = stepper.run, False
    try:
        if far:
            descent.travel()
        descent.go_through_stages()
    except BudgetSpent as spent:
        descent.why = str(spent)
        try:
            descent.look_again()
        except KeyboardInterrupt:
            interrupted = True
    except KeyboardInterrupt:
        descent.why, interrupted = "it was interrupted", True
    finally:
        run.set_relative_rates(np.empty(0))
    look = descent.look
    run.set_params(descent.best())
    remaining = None if look is None else look.remaining
    return Outcome(
        params=run.params,
        converged=descent.converged or (not interrupted and remaining is not None and remaining <= SMALL),
        why=descent.why,
        remaining=remaining,
        words=descent.words(origin),
        interrupted=interrupted,
        by_steps=True,
    )


class _Descent:
    """The stages of a run, and what was seen of them."""

    def __init__(self, stepper: Stepper, metric: Metric, key: int) -> None:
        self._stepper, self._metric = stepper, metric
        self._rng = np.random.Generator(np.random.Philox(key=key))
        size = stepper.run.params.size
        self._first_rate = min(_RATE, math.sqrt(2.0 * _NATS_A_STEP / size))
        self._rate = self._first_rate
        self._iterates: Iterates | None = None
        self._losses: list[float] = []  # of the steps after which iterates were taken
        self._in_stage = 0
        self._stage = 0
        self._last: _Look | None = None  # of the stage before
        self.look: _Look | None = None  # of this stage, or where it has none, of the one before
        self.converged, self.why = False, ""

    # --- on the way ----------------------------------------------------------------------------------------------
    def travel(self) -> None:
        """Go towards the optimum in legs, with longer steps for parameters that go steadily one way."""
        run, rate = self._stepper.run, self._first_rate
        stretch = np.ones(run.params.size)
        longest = np.where(self._metric.locations, 1e12, max(1.0, _LONGEST * _RATE / rate))
        for leg in range(_MOST_TRIPS):
            before = run.params
            relative = self._metric.units(before) * stretch
            self._stepper.begin(relative)
            self._stepper.take(rate, _TRIP)
            with np.errstate(invalid="ignore", divide="ignore"):
                steadiness = np.nan_to_num(np.abs(run.params - before) / (rate * _TRIP * relative))
            stretch = np.where(steadiness > _STEADY, np.minimum(2.0 * stretch, longest), stretch)
            stretch = np.where(steadiness < _WAVERING, np.maximum(0.5 * stretch, 1.0), stretch)
            if leg + 1 >= _FEWEST_TRIPS and not (stretch > 1.0).any():
                break

    # --- stages --------------------------------------------------------------------------------------------------
    def go_through_stages(self) -> None:
        """Go through stages of ever smaller steps until few nats remain."""
        for _ in range(_MOST_STAGES):
            self._begin_stage(None if self._last is None else self._last.average)
            until = _FIRST_LOOK
            while True:
                self._take(max(until - self._in_stage, 0))
                if self._ended():
                    break
                until = int(_LATER * until) if self._in_stage else until
            if self.converged:
                return
            self._last = self.look
            self._rate /= _RATIO
        self.why = f"{_MOST_STAGES} stages did not suffice"

    def _begin_stage(self, at: Float64 | None = None) -> None:
        run = self._stepper.run
        if at is not None:
            run.set_params(at)
        start = run.params
        self._iterates, self._losses = Iterates(start, self._rng), []
        self._in_stage, self._stage = 0, self._stage + 1
        self._stepper.begin(self._metric.units(start))

    def _take(self, n: int) -> None:
        assert self._iterates is not None
        while n > 0:
            sparse = max(_THINNING, min(_SPARSEST, self._iterates.block))
            some = 1 if self._stepper.one_by_one else min(n, sparse)
            self._stepper.take(self._rate, some)
            self._in_stage += some
            self._iterates.add(self._stepper.run.params, self._stepper.run.last_gradient)
            self._losses.append(self._stepper.run.last["loss"])
            n -= some

    def _ended(self) -> bool:
        """Look at the stage; return whether it has done what it can."""
        assert self._iterates is not None
        fraction, stationary = self._iterates.stationary(_R_HAT)
        if not stationary and self._in_stage < _LONG:
            self._stepper.run.set_relative_rates(self._metric.units(self._stepper.run.params))
            return False
        look = self._look_at(fraction, stationary)
        if look is None:
            return False
        self.look = look
        if look.drift > max(0.5 * self._allowed(), 2.0 * look.noise):
            self._jump(look)
            return False
        if look.noise > _ROUGH and not self._falls():
            return True
        if self._last is None or look.bias is None:
            return stationary or look.doubt * look.noise <= _ROUGH or self._in_stage >= _MUCH_TOO_LONG
        allowed = self._allowed()
        if look.doubt * look.noise <= 0.5 * allowed:
            if look.doubt * look.bias <= 0.5 * allowed:
                self.converged, self.why = True, "the averages of its iterates no longer change"
            return True
        return look.bias > max(allowed, _COARSE * look.noise)

    def _jump(self, look: _Look) -> None:
        """Begin the stage anew where its gradients point to, unless that is worse."""
        found = self._stepper.losses([look.average, look.ahead], _EVALUATIONS)
        if found is None:
            return
        with np.errstate(invalid="ignore"):
            gain = found[:, 0] - found[:, 1]
            if not float(gain.mean()) > -2.0 * float(gain.std(ddof=1)) / math.sqrt(len(gain)):
                return
        self._stage -= 1
        self._begin_stage(look.ahead)

    def _falls(self) -> bool:
        """Return whether the losses of the stage's iterates are still falling."""
        third, fourth = np.array_split(np.array(self._losses), 4)[2:]
        errors = third.var(ddof=1) / len(third) + fourth.var(ddof=1) / len(fourth)
        return bool(third.mean() - fourth.mean() > 2.0 * math.sqrt(errors))

    def _allowed(self) -> float:
        n = self._stepper.n_steps
        return min(0.5 * SMALL, _TOLERANCE * max(1.0, n / _PATIENCE))

    def look_again(self) -> None:
        """Look once more at a stage that the budget has cut short, where that costs little beside its steps."""
        cost = 16 * _EVALUATIONS
        if self._iterates is None or self._in_stage < max(_FIRST_LOOK, cost):
            return
        fraction, stationary = self._iterates.stationary(_R_HAT)
        look = self._look_at(fraction, stationary)
        if look is not None and (self.look is None or look.noise <= max(0.5 * SMALL, self.look.noise)):
            self.look = look

    def _look_at(self, fraction: float, stationary: bool) -> _Look | None:
        """Return a look at the average over an end of the stage; None where its loss cannot be told."""
        assert self._iterates is not None
        eighths = self._iterates.parts(fraction, 8)
        if eighths is None:
            return None
        average = eighths.mean(0)
        gradients = [self._iterates.gradients(fraction, n) for n in (8, None)]
        directions = _directions(eighths, self._metric.units(average), gradients[1])
        points = [part for m in _PARTS for part in eighths.reshape(m, 8 // m, -1).mean(1)]
        points += [average + v for v in directions] + [average - v for v in directions]
        if self._last is not None:
            points += [self._last.average, 2.0 * average - self._last.average]
        excess = self._excess(average, points)
        if excess is None:
            return None
        noise = max(_above(values) for values in _noises(excess))
        if not math.isfinite(noise):
            return None
        plus, minus = sum(_PARTS), sum(_PARTS) + len(directions)
        bends = (excess[:, plus:minus] + excess[:, minus : minus + len(directions)]).mean(0)
        drift, step = _drift(directions, bends, gradients)
        change, last_noise = None, 0.0
        if self._last is not None:
            change, last_noise = _above(excess[:, -2:].mean(1)), self._last.noise
            change = change if math.isfinite(change) else math.inf
        n_averaged = int(fraction * self._in_stage)
        return _Look(average, self._rate, n_averaged, noise, change, last_noise, stationary, drift, average + step)

    def _excess(self, average: Float64, points: list[Float64]) -> Float64 | None:
        """Return by how much losses at points, the parts' means first, are above that at their average (n, m).

        The average is over as many steps' noise as the parts need; None where data ran out at once. First differences
        of the losses cancel in all that is made of these, and with them nearly all noise.
        """
        rows: list[Float64] = []
        while len(rows) < _MOST_EVALUATIONS:
            more = self._stepper.losses([average, *points], _EVALUATIONS)
            if more is None:
                break
            rows += list(more[:, 1:] - more[:, :1])
            noises = _noises(np.array(rows))
            errors = [float(values.std(ddof=1)) / math.sqrt(len(values)) for values in noises]
            if max(errors) <= max(0.1 * _TOLERANCE, 0.25 * max(_above(values) for values in noises)):
                break
        return np.array(rows) if rows else None

    # --- the end -------------------------------------------------------------------------------------------------
    def best(self) -> Float64:
        """Return the average to keep: the last looked at, else that of the stage's second half, else the iterate."""
        if self.look is not None:
            return self.look.average
        parts = self._iterates.parts(0.5, 1) if self._iterates is not None else None
        return self._stepper.run.params if parts is None else parts[0]

    def words(self, origin: str) -> str:
        """Return what was done, in words."""
        began = f" from {origin}" if origin else ""
        if self.look is None:
            return f"Adam{began}, {self._stepper.n_steps} steps, without an average that is stationary"
        stages = f"{self._stage} stage{'s' if self._stage > 1 else ''}"
        return (
            f"Adam{began}, {self._stepper.n_steps} steps in {stages}; the mean of the last {self.look.n_averaged} "
            f"iterates at steps of {self.look.rate:.2g} of q's units"
        )


def _noises(excess: Float64) -> list[Float64]:
    """Return the nats that an average loses by its error, from the means of its halves, quarters and eighths."""
    ends = np.cumsum(_PARTS)
    return [excess[:, end - m : end].mean(1) / (m - 1) for m, end in zip(_PARTS, ends, strict=True)]


def _directions(eighths: Float64, units: Float64, gradients: Float64) -> Float64:
    """Return directions (m, P) in which a stage may have far to go, at about the length by which its means differ.

    In a long valley iterates move too slowly for their averages to show how far they have to go. The first direction is
    the one in which the means of its eighths are spread most. Where there are enough gradients (n, P) for their
    covariance S, and Hotelling's test says that their mean g is not 0, the second one is S^-1 g, the step of a natural
    gradient: noise of gradients is small along valleys.
    """
    _, sizes, axes = np.linalg.svd((eighths - eighths.mean(0)) / units, full_matrices=False)
    out = [sizes[0] * axes[0] * units]
    n, size = gradients.shape
    if n >= _ENOUGH * size:
        scaled = gradients * units
        mean = scaled.mean(0)
        covariance = np.atleast_2d(np.cov(scaled.T))
        covariance[np.diag_indices(size)] *= 1.0 + 1e-9
        try:
            push = np.linalg.solve(covariance, mean)
        except np.linalg.LinAlgError:
            return np.array(out)
        hotelling = (n - size) / size * float(mean @ push)  # F with (size, n - size) degrees of freedom
        if hotelling > 1.0 + _CLEAR * math.sqrt(2.0 / size + 2.0 / (n - size)):
            out.append(push * units * sizes[0] / float(np.linalg.norm(push)))
    return np.array(out)


def _drift(directions: Float64, bends: Float64, gradients: list[Float64]) -> tuple[float, Float64]:
    """Return the nats to be gained in the best of some directions, and the step that gains them.

    Parameters
    ----------
    directions : ndarray (m, P)
    bends : ndarray (m,)
        Second derivatives of the loss along them.
    gradients : list of ndarray (n, P)
        Means over parts of the steps, coarser and finer ones.
    """
    most, step = 0.0, np.zeros(directions.shape[1])
    for direction, bend in zip(directions, bends, strict=True):
        slopes = [parts @ direction for parts in gradients]
        error = max(float(s.std(ddof=1)) / math.sqrt(len(s)) for s in slopes)
        slope = float(slopes[0].mean())
        if not bend > 0.0 or not abs(slope) > _CLEAR * error:
            continue
        nats = 0.5 * (slope**2 - error**2) / bend
        if nats > most:
            most, step = nats, -max(-_FAR, min(_FAR, slope / bend)) * direction
    return most, step


def _above(values: Float64) -> float:
    """Return the mean of nats that cannot be negative, and one standard error more."""
    return max(0.0, float(values.mean())) + float(values.std(ddof=1)) / math.sqrt(len(values))
