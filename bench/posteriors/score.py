"""Scores: what rows of fits say beside the best q of their family, row by row and in sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

SMALL = 0.1  # nats below the best ELBO, beside two standard errors
LOC, SCALE = 0.1, 0.1  # of the best q's standard deviations
POOR, GOOD = 0.1, 0.7  # effective share of the best q's draws: below, the verdict must warn; above, it must not

Row = dict[str, Any]
Known = Mapping[tuple[str, str], Mapping[str, Any]]  # (target, family) -> what is known of the best q


def references(rows: Iterable[Row], known: Known) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what each (target, family) is compared with.

    What is known comes first. The rest is of the row with the highest ELBO among those whose draws were all finite, or
    among all where there is none; "from" says which it was.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["target"], row["family"]), []).append(row)
    found = {}
    for key, group in groups.items():
        given = dict(known.get(key, {}))
        usable = [r for r in group if r.get("elbo") is not None and r["has_optimum"]]
        usable = [r for r in usable if not r["rejected"]] or usable
        best: Row = max(usable, key=lambda r: r["elbo"], default={})
        mine = {"elbo": best.get("elbo"), "mu": best.get("loc"), "sd": best.get("sd"), "is_ess": best.get("is_ess")}
        if "elbo" in given:
            # Without a location in it, the best q's may be any of several, such as either of two equal modes.
            mine |= {"mu": None, "sd": None}
        found[key] = mine | given | {"from": "known" if "elbo" in given else "best of all fits"}
    return found


def scored(row: Row, reference: Mapping[str, Any]) -> Row:
    """Return the row with nats short, errors of location and scale, whether they are small, and of the verdict.

    `within`, `loc_ok` and `scale_ok` are None where there is nothing to compare with.
    """
    out = row | {"best": reference["elbo"], "best_is_ess": reference["is_ess"], "reference": reference["from"]}
    out |= dict.fromkeys(("short", "loc_error", "scale_error", "within", "loc_ok", "scale_ok"))
    failed = row.get("elbo") is None
    if row["has_optimum"] and reference["elbo"] is not None:
        if failed:
            out |= {"within": False, "loc_ok": False, "scale_ok": False}
        else:
            out["short"] = reference["elbo"] - row["elbo"]
            out["within"] = bool(out["short"] < SMALL + 2.0 * row["std_error"])
            out |= _moments(row, reference)
    verdict = row.get("verdict")
    right = out["within"] and out["loc_ok"] is not False and out["scale_ok"] is not False
    ess = reference["is_ess"]
    hopeless = not row["has_optimum"] or (ess is not None and ess < POOR)
    return out | {
        "miss": row["has_optimum"] and not right,
        "wrong_ok": verdict == "ok" and (hopeless or not out["within"]),
        "wrong_warning": verdict in ("warn", "fail") and ess is not None and ess > GOOD and bool(out["within"]),
        "unflagged": verdict == "ok" and row["has_optimum"] and not right,
    }


def _moments(row: Row, reference: Mapping[str, Any]) -> Row:
    sd = reference["sd"]
    if sd is None:
        return {}
    scale = float(np.abs(np.asarray(row["sd"]) / sd - 1.0).max())
    out: Row = {"scale_error": scale, "scale_ok": bool(scale <= SCALE)}
    if reference["mu"] is not None:
        loc = float((np.abs(np.subtract(row["loc"], reference["mu"])) / sd).max())
        out |= {"loc_error": loc, "loc_ok": bool(loc <= LOC)}
    return out


def summary(rows: list[Row]) -> Row:
    """Return the sums over scored rows of one contender and family; numbers that nobody has are None.

    `inside` is the share of the time, compiling left out, that the target took: 1 less the contender's own.
    """
    compared = [r for r in rows if r["within"] is not None]
    short = [np.inf if r["short"] is None else r["short"] for r in compared]
    judged = [r for r in rows if r.get("verdict") not in (None, "error")]
    running = [max(r["seconds"] - (r.get("compile_seconds") or 0.0), 1e-9) for r in rows]
    inside = [r["inside"] for r in rows if "inside" in r]

    wrongs = ("wrong_ok", "wrong_warning", "unflagged")

    def share(name: str) -> tuple[int, int] | None:
        known = [r[name] for r in compared if r[name] is not None]
        return (sum(known), len(known)) if known else None

    return {
        "fits": len(rows),
        "errors": sum(r.get("error") is not None for r in rows),
        "within": share("within"),
        "loc_ok": share("loc_ok"),
        "scale_ok": share("scale_ok"),
        "hit": (sum(not r["miss"] for r in compared), len(compared)) if compared else None,
        "short": (float(np.median(short)), float(np.quantile(short, 0.9, method="higher"))) if short else None,
        "calls": float(np.median([r["calls"] for r in rows])),
        "points": float(np.median([r["points"] for r in rows])),
        "seconds": float(np.median(running)),
        "wall_seconds": float(np.median([r["wall_seconds"] for r in rows])),
        "compile_seconds": float(np.median([r.get("compile_seconds") or 0.0 for r in rows])),
        "inside": float(np.median(inside)) if inside else None,
        **{name: sum(r[name] for r in judged) if judged else None for name in wrongs},
    }
