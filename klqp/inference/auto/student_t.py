"""Student-t fits: sample averages from a Normal fit, then polished where that makes them exact (docs/maths.md 11.8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from klqp import _core
from klqp.inference.auto.base_draws import base_draws
from klqp.inference.auto.counted import Counted
from klqp.inference.auto.saa import Fit, Frame, first_inverse, optimise

__all__ = ["START_DF", "stretched"]

Float64 = npt.NDArray[np.float64]

START_DF = 10.0
_FLAT, _FEWER = 200.0, 30.0
_CLOSE = 0.1  # mean square of the score's difference, by coordinate, at which a fit is polished
_MOST_STEPS = 30
_TOLERANCE = 1e-14  # nats
_RISE = 10.0  # by which the nats to go may rise in between
_SCRAMBLE = 1 << 21  # of the draws of the polish


def stretched(target: Counted, normal: Fit, key: int, name: Callable[[int], str]) -> Fit:
    """Return the Student-t fit that starts from a Normal one; its degrees of freedom are learnt where they may be."""
    spec = target.view.spec
    start = replace(normal.candidate, df=spec.df or START_DF)
    if not normal.converged:
        return replace(normal, candidate=start)
    try:
        fit = optimise(target, spec, start, key, name)
    except _core.TargetError as error:  # the tails reach where the log density is not finite
        return replace(normal, candidate=start, converged=False, why=str(error))
    if not spec.df and fit.converged and (fit.candidate.df or 0.0) > _FLAT:
        # With so many degrees of freedom their gradient vanishes wherever they are: look again from fewer.
        again = optimise(target, spec, replace(fit.candidate, df=_FEWER), key, name)
        better = again.converged and again.losses[-1] < fit.losses[-1]
        fit = replace(again if better else fit, losses=fit.losses + again.losses)
    if fit.converged:
        fit = _polished(target, spec, fit, key)
    return replace(fit, losses=normal.losses + fit.losses)


def _polished(target: Counted, spec: _core.FamilySpec, fit: Fit, key: int) -> Fit:
    """Return the fit where the mean over fixed draws of the path gradient of log p - log q vanishes.

    That gradient (sticking the landing) is zero at every draw where q is the posterior, so that the end is exact there
    whatever the draws are. Away from it the sample average's optimum is the better estimate, and kept.
    """
    frame = Frame.of(spec, fit.candidate)
    noise = base_draws(fit.n_draws, spec.noise_dim, key, _SCRAMBLE)
    params = frame.params(fit.candidate)
    _, grad = target.evaluate(frame.to_z(_core.Member(frame.spec, params).transform(noise)))
    inverse = first_inverse(frame, params, noise, grad)
    best, best_gain = None, np.inf
    for _ in range(_MOST_STEPS):
        gradient, distance = _path_gradient(target, frame, params, noise)
        step = inverse(gradient)
        gain = 0.5 * float(gradient @ step)
        if not (gain < _RISE * best_gain and distance < _CLOSE):
            break
        if gain < best_gain:
            best, best_gain = params, gain
        if gain < _TOLERANCE:
            break
        params = params + step
    return fit if best is None else replace(fit, candidate=frame.candidate(best, fit.candidate))


def _path_gradient(target: Counted, frame: Frame, params: Float64, noise: Float64) -> tuple[Float64, float]:
    """Return the gradient, and the mean square of the score's difference; infinite where a draw has none."""
    member = _core.Member(frame.spec, params)
    y = member.transform(noise)
    log_p, grad = target.evaluate(frame.to_z(y))
    if not (np.isfinite(log_p).all() and np.isfinite(grad).all()):
        return np.zeros_like(params), np.inf
    score = frame.pull(grad) + member.precision_times(y)
    return member.pullback(noise, np.ascontiguousarray(score / len(y))), float((score**2).mean())
