"""Verdict: what was measured of a fit, one word on it, and the reasons in plain English."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from klqp.family_parts import richer_family
from klqp.posterior import ELBO
from klqp.psis import GOOD_K

__all__ = ["Evidence", "Verdict", "judge", "no_convergence"]

Word = Literal["ok", "warn", "fail"]

GOOD_ESS = 0.5  # share of the draws; below it q differs from the posterior even where k_hat is small
MORE_DRAWS = ((4, 0.85), (32, 0.7))  # times as many draws, where fewer left a doubt, with the share that leaves none
SMALL = 0.1  # nats: a run that may still gain more has not converged
MANY_REJECTED = 0.1  # share of fresh draws; more of them and q does not describe the support
FEW_REJECTED = 0.001
OTHER_MODE = 0.02  # estimated share of the posterior's mass
MISSING = 0.03  # likewise, in tails


@dataclass(frozen=True)
class Evidence:
    """What was measured of a fit.

    Attributes
    ----------
    elbo : ELBO or None
        From fresh draws; None where the log density was finite at none of them.
    k_hat, ess : float
        Of Pareto-smoothed importance weights of the same draws; `ess` as a share of them.
    score_residual : float or None
        ``E |L^T (grad log p - grad log q)|^2 / D``: 0 where q = p, of the order of 1 where they have little in common.
        None without the log density's gradient.
    converged : bool or None
        Whether the run found its family's optimum; None where that could not be told.
    stopped : str
        Why the run ended.
    remaining : float or None
        Estimate of the nats by which the ELBO is below the family's optimum.
    signal_to_noise : float or None
        Norm of the expected gradient over the root of its summed variances; 0 at an optimum.
    n_minus_inf, n_invalid : int
        Fresh draws with a log density of -inf, and of NaN or +inf.
    first_rejected : str or None
        The first draw that the run, or this check, had to leave out.
    starts : tuple of float
        ELBOs that different starts reached, the best first.
    other_mode : float
        Estimated share of the posterior's mass around other local optima that q does not cover.
    missing : float or None
        Of a mixture: the share of the posterior's mass to which it gives less than half of its due.
    family : str or None
        The core's name of q's family; None where q is not one ready-made family.
    """

    elbo: ELBO | None
    k_hat: float
    ess: float
    score_residual: float | None
    converged: bool | None
    stopped: str
    remaining: float | None
    signal_to_noise: float | None
    n_minus_inf: int
    n_invalid: int
    first_rejected: str | None
    starts: tuple[float, ...] = ()
    other_mode: float = 0.0
    missing: float | None = None
    family: str | None = None

    def doubtful(self, sure_ess: float) -> bool:
        """Whether more draws may change the word.

        So it is where k_hat says that q is bad and the effective draws that it is good, and where these are fewer than
        `sure_ess`: of heavy tails of the weights few draws see nothing.
        """
        if self.elbo is None or not self.ess >= GOOD_ESS:
            return False
        return not self.k_hat < GOOD_K or self.ess < sure_ess


@dataclass(frozen=True)
class Verdict:
    """Whether a fit can be relied on.

    Attributes
    ----------
    word : {"ok", "warn", "fail"}
        "ok": q is close to the posterior, and the best of its family. "warn": the run did what it could, but q differs
        from the posterior enough to matter. "fail": the result should not be used.
    reasons : tuple of str
        What is wrong and what to try, the worst first; empty for "ok".
    evidence : Evidence
        The numbers.
    """

    word: Word
    reasons: tuple[str, ...]
    evidence: Evidence

    def __str__(self) -> str:
        return "\n".join([self.word, *(f"- {reason}" for reason in self.reasons), *_table(self.evidence)])

    __repr__ = __str__


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on what was measured. Never "ok" where k_hat >= 0.7 or the run did not converge."""
    failures = [*_no_density(evidence), *_no_convergence(evidence)]
    doubts = [*_poor_match(evidence), *_outside(evidence), *_other_modes(evidence), *_light_tails(evidence)]
    word: Word = "fail" if failures else "warn" if doubts else "ok"
    return Verdict(word, (*failures, *doubts), evidence)


def _no_density(e: Evidence) -> list[str]:
    if e.elbo is None:
        return ["the log density is finite at no draw of q: start the run elsewhere (init_loc, init_scale)"]
    rejected = (e.n_minus_inf + e.n_invalid) / e.elbo.n_draws
    if rejected > MANY_REJECTED:
        where = f" ({e.first_rejected})" if e.first_rejected else ""
        return [
            f"{rejected:.0%} of the draws of q have a log density that is not finite{where}; use variables with a "
            "support, or a transform, so that q stays where the model is defined"
        ]
    return []


def _no_convergence(e: Evidence) -> list[str]:
    much = e.remaining is not None and not e.remaining <= SMALL
    return [no_convergence(e.stopped, e.remaining)] if e.converged is False or much else []


def no_convergence(stopped: str, remaining: float | None) -> str:
    """Return in words that a run did not converge, given why it ended and the nats that remain."""
    much = remaining is not None and not remaining <= SMALL
    still = f"; the ELBO is still about {remaining:.2g} nats below the best of its family" if much else ""
    advice = "" if ";" in stopped else "; run on, or start it elsewhere (init_loc, init_scale)"
    return f"the run did not converge: {stopped}{still}{advice}"


def _poor_match(e: Evidence) -> list[str]:
    richer = richer_family(e.family)
    if e.elbo is None:
        return []
    if not e.k_hat < GOOD_K:
        return [f"k_hat = {e.k_hat:.2f}, at least {GOOD_K}: q is far from the posterior in tails or spread; {richer}"]
    if not e.ess >= GOOD_ESS:
        return [f"{e.ess:.0%} of the draws of q are effective ones: q differs from the posterior; {richer}"]
    if e.converged is None:
        return ["it could not be told whether the run converged: look at inference.losses, or run on"]
    return []


def _outside(e: Evidence) -> list[str]:
    if e.elbo is None:
        return []
    n = e.elbo.n_draws
    where = f" ({e.first_rejected})" if e.first_rejected else ""
    out = []
    if e.n_invalid:
        out.append(
            f"the log density is NaN or +inf at {e.n_invalid} of {n} draws{where}: what q should be there is unknown; "
            "repair the function, or let it return -inf outside the support"
        )
    if e.n_minus_inf > FEW_REJECTED * n and e.n_minus_inf + e.n_invalid <= MANY_REJECTED * n:
        out.append(
            f"{e.n_minus_inf} of {n} draws of q are outside the support{where}; a transform of the variables would "
            "keep q inside"
        )
    return out


def _other_modes(e: Evidence) -> list[str]:
    if e.other_mode >= OTHER_MODE:
        mixture = e.family is not None and e.family.endswith("mixture")
        advice = "a q of one mode cannot hold them all: use q='mixture'"
        if mixture:
            advice = "use more components (klqp.NormalMixture(n_components=))"
        return [
            f"other starts found other modes, with about {e.other_mode:.0%} of the posterior's mass, that q does not "
            f"cover: run from several init_loc, and compare; {advice}"
        ]
    return []


def _light_tails(e: Evidence) -> list[str]:
    if e.missing is None or e.missing < MISSING:
        return []
    return [
        f"q gives about {e.missing:.0%} of the posterior's mass less than half of its due: its tails are too light; "
        f"{richer_family(e.family)}"
    ]


def _table(e: Evidence) -> list[str]:
    rows: list[tuple[str, str]] = []
    if e.elbo is not None:
        rows.append(("ELBO", f"{e.elbo.value:.2f} +- {e.elbo.std_error:.2g} nats"))
        rows.append(("k_hat", f"{e.k_hat:.2f}"))
        rows.append(("effective draws", f"{e.ess:.0%} of {e.elbo.n_draws}"))
    if e.missing is not None:
        rows.append(("mass it misses", f"{e.missing:.1%}"))
    if e.score_residual is not None:
        rows.append(("score residual", f"{e.score_residual:.2g}"))
    state = {True: "yes", False: "no", None: "not known"}[e.converged]
    rows.append(("converged", f"{state} ({e.stopped})"))
    if e.remaining is not None:
        rows.append(("remaining", f"about {e.remaining:.2g} nats"))
    if e.signal_to_noise is not None and math.isfinite(e.signal_to_noise):
        rows.append(("gradient signal to noise", f"{e.signal_to_noise:.2g}"))
    rows.append(("rejected draws", f"{e.n_minus_inf} at -inf, {e.n_invalid} not a number"))
    if len(e.starts) > 1:
        rows.append(("starts", ", ".join(f"{elbo:.2f}" for elbo in e.starts)))
    width = max(len(name) for name, _ in rows)
    return [f"  {name:{width}s}  {value}" for name, value in rows]
