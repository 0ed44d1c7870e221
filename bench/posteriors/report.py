"""Prints fits: a line for each, the sums by contender and family, and every miss with its numbers."""

from __future__ import annotations

from typing import Any

from bench.posteriors.score import GOOD, LOC, POOR, SCALE, SMALL, Known, references, scored, summary

Row = dict[str, Any]

HEAD = (
    f"{'target':50s} {'contender':16s} {'family':10s} {'seed':>4s} {'ELBO':>12s} {'+-':>6s} {'is_ess':>6s} "
    f"{'calls':>6s} {'points':>8s} {'s':>7s} {'k_hat':>5s} verdict"
)


def line(row: Row) -> str:
    """Return one fit as a line, before there is anything to compare it with."""
    head = f"{row['target']:50s} {row['contender']:16s} {row['family']:10s} {row['seed']:4d} "
    end = f"{row['calls']:6d} {row['points']:8d} {row['seconds']:7.2f}"
    if row.get("elbo") is None:
        return f"{head}{end} {row.get('verdict') or ''} {row['error']}"
    k_hat = f"{row['k_hat']:5.2f}" if row.get("k_hat") is not None else f"{'-':>5s}"
    quality = f"{row['elbo']:12.3f} {row['std_error']:6.3f} {row['is_ess']:6.3f}"
    return f"{head}{quality} {end} {k_hat} {row.get('verdict') or '-'}"


def tables(rows: list[Row], known: Known) -> str:
    """Return sums by contender and family, in Markdown, and the misses."""
    compared = references(rows, known)
    done = [scored(row, compared[row["target"], row["family"]]) for row in rows]
    parts = [_sums(done), _legend(done), "", *_by_target(done), *_misses(done)]
    return "\n".join(parts)


def _sums(rows: list[Row]) -> str:
    out = [
        "| contender | family | fits | within | location | scale | all three | nats short: median, 90 % | points "
        "| calls | s | compiling, s | in the target | wrong ok | wrong warnings | unflagged misses |",
        "|---|---|" + "---:|" * 14,
    ]
    for (name, family), group in _grouped(rows, "contender", "family").items():
        s = summary(group)
        errors = f", {s['errors']} failed" if s["errors"] else ""
        short = "-" if s["short"] is None else f"{s['short'][0]:.3g}, {s['short'][1]:.3g}"
        out.append(
            f"| {name} | {family} | {s['fits']}{errors} | {_of(s['within'])} | {_of(s['loc_ok'])} "
            f"| {_of(s['scale_ok'])} | {_of(s['hit'])} | {short} | {s['points']:.0f} | {s['calls']:.0f} "
            f"| {s['seconds']:.3g} | {s['compile_seconds']:.2g} | {_share(s['inside'])} "
            f"| {_count(s['wrong_ok'])} | {_count(s['wrong_warning'])} | {_count(s['unflagged'])} |"
        )
    return "\n".join(out)


def _legend(rows: list[Row]) -> str:
    best = {(r["target"], r["family"]) for r in rows if r["reference"] != "known" and r["best"] is not None}
    text = (
        f"within: {SMALL} nats of the best ELBO of the family, plus two standard errors; location, scale: {LOC} sd and "
        f"{SCALE:.0%}.\nwrong ok: where the best q has less than {POOR:.0%} effective draws, the fit is not within, or "
        f"no answer is right; wrong warning: within, and more than {GOOD:.0%}.\nMedians; s: processor time without "
        "compiling."
    )
    if best:
        text += f"\nThe best q of {len(best)} targets and families is the best of all fits here (marked ~ below)."
    return "\n" + text


def _by_target(rows: list[Row]) -> list[str]:
    names = sorted({(r["contender"], r["family"]) for r in rows})
    head = f"{'target':50s} {'contender':16s} {'family':10s} {'all three':>9s}"
    out = [f"{head} {'worst short':>11s} {'points':>8s} verdicts"]
    for name, family in names:
        mine = [r for r in rows if (r["contender"], r["family"]) == (name, family)]
        for (target,), group in _grouped(mine, "target").items():
            s, words = summary(group), {}
            for r in group:
                words[r.get("verdict")] = words.get(r.get("verdict"), 0) + 1
            short = [r["short"] for r in group if r["short"] is not None]
            mark = "~" if group[0]["reference"] != "known" and group[0]["best"] is not None else " "
            tally = ", ".join(f"{word or '-'} {n}" for word, n in words.items())
            worst = f"{max(short):11.3f}" if short else f"{'-':>11s}"
            head = f"{target:50s} {name:16s} {family:10s} {_of(s['hit']):>9s}"
            out.append(f"{head} {worst}{mark}{s['points']:8.0f} {tally}")
    return out


def _misses(rows: list[Row]) -> list[str]:
    out = [""]
    for r in rows:
        wrong = [name for name in ("miss", "wrong_ok", "wrong_warning") if r[name]]
        if not wrong:
            continue
        numbers = ", ".join(
            f"{label} {r[name]:.3g}"
            for label, name in (
                ("short", "short"),
                ("+-", "std_error"),
                ("location", "loc_error"),
                ("scale", "scale_error"),
                ("k_hat", "k_hat"),
                ("ess", "ess"),
                ("is_ess of the best", "best_is_ess"),
                ("remaining", "remaining"),
            )
            if r.get(name) is not None
        )
        why = "; ".join(r.get("reasons") or []) or r.get("error") or ""
        out.append(
            f"{' '.join(wrong)}: {r['target']}, {r['contender']}, {r['family']}, seed {r['seed']}: {numbers}; "
            f"{r.get('verdict') or 'no verdict'}: {why}"
        )
    return out


def _grouped(rows: list[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def _of(pair: tuple[int, int] | None) -> str:
    return "-" if pair is None else f"{pair[0]} of {pair[1]}"


def _count(n: int | None) -> str:
    return "-" if n is None else str(n)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
