"""Section on what separates each system from SER_only, and what could have been seen at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from unheard.analysis.statistics import Contrast
from unheard.experiments.summary import ONE_SEED, Summary
from unheard.report.content import (
    Block,
    Cell,
    Column,
    Figure,
    Section,
    Table,
    Text,
    counted,
    known,
    listed,
    percent,
    plain,
    probability,
    share,
)
from unheard.report.performance import METRIC, interval_cell
from unheard.report.plots import Look, differences

Looks = Mapping[str, Look]
FAMILY = {
    "fixed": ("differences", "Differences to SER_only"),
    "chosen": ("differences-chosen", "Differences to SER_only, λ and ε chosen by validation speakers"),
    "classical": ("differences-classical", "Differences of classical systems to SER_only"),
}


def contrasts(summary: Summary, looks: Looks) -> Section:
    """What separates each system from SER_only, and what could have been seen at all."""
    blocks: list[Block] = []
    for family in dict.fromkeys(one.family for one in summary.contrasts):
        own = [one for one in summary.contrasts if one.family == family]
        kind, _, evaluation = family.partition(", ")
        name, caption = FAMILY[kind]
        if evaluation:
            name, caption = f"{name}-{evaluation.replace(' ', '-').replace(',', '')}", f"{caption}, {evaluation}"
        if own:
            blocks += [_contrast_table(own, name, caption), _difference_figure(own, looks, name, caption)]
            blocks += [Text(_in_words(own))]
    if summary.gaps:
        blocks.append(_gap_table(summary.gaps))
    if not blocks:
        blocks = [Text("There is nothing to compare: it needs SER_only and another system with a complete seed.")]
    blocks += [Text(note) for note in summary.notes]
    return Section("differences", "Differences between systems", tuple(blocks))


def _contrast_table(own: Sequence[Contrast], name: str, caption: str) -> Table:
    columns = (
        Column("System", "system", False),
        Column("Metric", "metric", False),
        Column("Δ, points", "difference"),
        Column("95 % interval", "interval"),
        Column("Errors, relative", "rerr"),
        Column("p", "p"),
        Column("p, Holm", "p_holm"),
        Column("Detectable, points", "detectable"),
    )
    rows = tuple(
        (
            plain(one.name),
            plain(METRIC[one.metric]),
            share(one.difference, sign=True),
            interval_cell(one.interval, sign=True),
            Cell(
                "–" if one.rerr is None else f"{percent(-one.rerr, sign=True)} %",
                {"": known(one.rerr)},
            ),
            probability(one.p),
            probability(one.p_holm),
            share(one.detectable),
        )
        for one in own
    )
    first = own[0]
    swaps = f"all {first.arrangements:,}" if first.exact else f"{first.arrangements:,} drawn"
    least = f"{first.smallest_p:.2g}"
    note = (
        f"Unit: the {counted(len(first.speakers), 'test speaker')}. p: paired permutation test, two-sided, {swaps} "
        f"swaps of speakers, the least possible p is {least}. Holm: corrected for the {first.family_size} "
        "contrasts with the same metric. Errors, relative: by how much the error rate changes; less is better (in "
        "the CSV file as a reduction). Detectable: the smallest true difference that a paired t-test finds with 80 % "
        "power at the 5 % level, before any correction."
    )
    if first.smallest_p > 0.05:
        note += " With so few speakers no difference, however large, can be significant."
    if any(len(one.seeds) == 1 for one in own):
        note += f" {ONE_SEED}"
    short = max((one.interval.incomplete for one in own if one.interval), default=0.0)
    if short:
        note += f" In {percent(short)} % of the bootstrap's draws an emotion is missing; UAR is then of the others."
    return Table(name, caption, columns, rows, (note,))


def _gap_table(gaps: Sequence[Contrast]) -> Table:
    columns = (
        Column("System", "system", False),
        Column("Metric", "metric", False),
        Column("Gap of SER_only, points", "gap_baseline"),
        Column("Gap, points", "gap"),
        Column("Δ, points", "difference"),
        Column("95 % interval", "interval"),
        Column("p", "p"),
        Column("p, Holm", "p_holm"),
    )
    rows = tuple(
        (
            plain(one.name),
            plain(METRIC[one.metric]),
            share(one.before, sign=True),
            share(one.after, sign=True),
            share(one.difference, sign=True),
            interval_cell(one.interval, sign=True),
            probability(one.p),
            probability(one.p_holm),
        )
        for one in gaps
    )
    note = (
        "Gap: validation less test, mean over the seeds that both systems have; a negative Δ says that it is smaller "
        f"than SER_only's. Units: the {counted(len(gaps[0].speakers), 'speaker')} that validate or test; tests and "
        "intervals as above, the systems with chosen λ and ε a family of their own."
    )
    if any(one.family == "classical" for one in gaps):
        note += " So are the classical ones."
    return Table(
        "gaps", "The gap between validation and test speakers, compared with SER_only's", columns, rows, (note,)
    )


def _difference_figure(own: Sequence[Contrast], looks: Looks, name: str, caption: str) -> Figure:
    panels = []
    for metric, letters in METRIC.items():
        rows = []
        for one in (c for c in own if c.metric == metric):
            low, high = (one.interval.low, one.interval.high) if one.interval else (math.nan, math.nan)
            rows.append((one.name, looks[one.name], one.difference, low, high))
        panels.append(differences(f"Test {letters}", rows, f"Δ {letters}, points"))
    return Figure(name, f"{caption}, with 95 % intervals over test speakers.", tuple(panels))


def _in_words(own: Sequence[Contrast]) -> str:
    """What the table of contrasts means, in plain sentences."""
    significant = [one for one in own if one.p_holm < 0.05]
    if significant:
        found = [
            f"{one.name} ({METRIC[one.metric]} {percent(one.difference, sign=True)} points)" for one in significant
        ]
        text = f"Different from SER_only beyond chance, after Holm's correction: {listed(found)}. "
    else:
        text = "No system differs from SER_only beyond chance here, after Holm's correction. "
    limits = [one.detectable for one in own if one.metric == "wa" and one.detectable is not None]
    if limits:
        span = percent(min(limits))
        if percent(max(limits)) != span:
            span += f" to {percent(max(limits))}"
        text += (
            f"With these {counted(len(own[0].speakers), 'test speaker')}, a true difference in WA would have to be "
            f"about {span} points to be found four times out of five; smaller ones may be there and stay "
            "unseen. So the lack of a significant difference is no proof that two systems are equal."
        )
    return text
