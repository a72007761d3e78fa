"""Contrasts as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from unheard.experiments.statistics.bootstrap import Interval
from unheard.experiments.statistics.contrasts import Contrast
from unheard.experiments.statistics.summary import Summary

FAMILIES = {
    "fixed": "Knobs fixed beforehand",
    "chosen": "Knobs chosen by validation speakers (a family of its own)",
    "classical": "Classical systems (a family of their own)",
}


ONE_SEED = (
    "Of one seed: p is about other speakers heard by these very networks; the same systems trained again may differ by "
    "more."
)


def contrasts_markdown(summary: Summary) -> str:
    """The contrasts with SER_only, a table a family, and how to read them; says so where there are none."""
    parts = [
        f"{title}:\n\n{contrast_table([one for one in summary.contrasts if one.family == family])}"
        for family, title in FAMILIES.items()
        if any(one.family == family for one in summary.contrasts)
    ]
    parts += [explanation(summary.contrasts)] if parts else []
    if summary.gaps:
        parts += [
            "The gap between validation and test speakers, compared with SER_only's (points; negative: smaller; the "
            f"units are all speakers that validate or test):\n\n{gap_table(summary.gaps)}"
        ]
    parts += ["\n".join(f"- {note}" for note in summary.notes)] if summary.notes else []
    return "\n\n".join(parts or ["Nothing to compare: the run has one system."]) + "\n"


def contrast_table(contrasts: Sequence[Contrast]) -> str:
    """A row a contrast, differences in points."""
    heads = ("Contrast", "Metric", "Difference", "95 % interval", "RERR", "p", "p (Holm)", "Detectable")
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2)]
    lines += ["| " + " | ".join(cells(one)) + " |" for one in contrasts]
    return "\n".join(lines)


def gap_table(gaps: Sequence[Contrast]) -> str:
    """A row a line and metric: both gaps, and their difference in points."""
    heads = ("System", "Metric", "Gap of the baseline", "Gap", "Difference", "95 % interval", "p", "p (Holm)")
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2)]
    for one in gaps:
        _, metric, difference, interval, _, p, p_holm, _ = cells(one)
        row = (one.name, metric, signed(100 * one.before), signed(100 * one.after), difference, interval, p, p_holm)
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def cells(one: Contrast) -> tuple[str, ...]:
    """The words of a contrast's row: what, metric, difference, interval, RERR, p, Holm's p, detectable difference."""
    return (
        f"{one.name} − {one.baseline}" if one.name != one.baseline else one.name,
        one.metric.upper(),
        signed(one.points),
        interval_text(one.interval, signs=True),
        "–" if one.rerr is None else f"{signed(100 * one.rerr)} %",
        p_text(one.p),
        p_text(one.p_holm),
        "–" if one.detectable is None else f"{100 * one.detectable:.1f}",
    )


def explanation(contrasts: Sequence[Contrast]) -> str:
    """One paragraph: units, tests, and what so few speakers can show at all."""
    if not contrasts:
        return ""
    first = contrasts[0]
    units = len(first.speakers)
    how = f"all {first.arrangements:,} swaps" if first.exact else f"{first.arrangements:,} drawn swaps"
    text = (
        f"Differences in points of the pooled metric's mean over seeds, on {units} test "
        f"speaker{'s' if units != 1 else ''}. Interval: percentile bootstrap over speakers. RERR: relative error-rate "
        f"reduction. p: paired permutation test over speakers, {how}, two-sided; Holm: corrected for the contrasts "
        "of a family with the same metric. Detectable: the smallest true difference found with 80 % power at "
        f"p < 0.05 by a paired t-test, uncorrected. With so many speakers no p is below {p_text(first.smallest_p)}."
    )
    if first.smallest_p > 0.05:
        text += " That is above 0.05: no difference, however large, can be significant here."
    if any(len(one.seeds) == 1 for one in contrasts):
        text += f" {ONE_SEED}"
    short = max((one.interval.incomplete for one in contrasts if one.interval), default=0.0)
    if short > 0:
        text += (
            f" In {100 * short:.1f} % of the bootstrap's draws an emotion is missing; UAR is then that of the others."
        )
    return text


def signed(points: float) -> str:
    """`+1.3`, `-0.4`, and `0.0` for what rounds to nothing."""
    text = f"{points:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def interval_text(found: Interval | None, *, signs: bool = False) -> str:
    """`[51.2, 60.3]` in percent, with signs for a difference; a dash where there is none."""
    if found is None:
        return "–"
    ends = [signed(100 * end) if signs else f"{100 * end:.1f}" for end in (found.low, found.high)]
    return f"[{', '.join(ends)}]"


def p_text(p: float) -> str:
    """Three decimals, four below 0.01."""
    return f"{p:.4f}" if p < 0.01 else f"{p:.3f}"
