"""Sections on what the systems reach: accuracies, differences, emotions, speakers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from unheard.experiments.report.content import (
    Block,
    Cell,
    Column,
    Figure,
    Section,
    Table,
    Text,
    counted,
    interval,
    known,
    listed,
    percent,
    plain,
    probability,
    share,
    spread,
)
from unheard.experiments.report.figures import Look, confusion, differences, dots
from unheard.experiments.statistics.bootstrap import Interval
from unheard.experiments.statistics.contrasts import Contrast
from unheard.experiments.statistics.counts import Floats
from unheard.experiments.statistics.summary import LineSummary, Spread, Summary

Looks = Mapping[str, Look]
METRIC = {"wa": "WA", "uar": "UAR"}
FAMILY = {
    "fixed": ("differences", "Differences to SER_only"),
    "chosen": ("differences-chosen", "Differences to SER_only, λ and ε chosen by validation speakers"),
}


def accuracy(summary: Summary, about: str) -> Section:
    """The paper's table, and the same with everything it leaves out."""
    blocks: list[Block] = [headline(summary, about)]
    blocks += [
        Text(
            f"Incomplete: {listed(short)}. A seed counts only when all its folds are trained; what is missing is not "
            "averaged over.",
            warning=True,
        )
        for short in [[f"{line.name} {line.done}/{line.wanted} trainings" for line in incomplete(summary)]]
        if short
    ]
    return Section("accuracy", "Accuracy", (*blocks, more_figures(summary)))


def incomplete(summary: Summary) -> list[LineSummary]:
    """The lines that have trainings missing."""
    return [line for line in summary.lines if line.done < line.wanted]


def headline(summary: Summary, about: str) -> Table:
    """Tables 2 and 3 of the paper: validation and test accuracy; then their gap."""
    columns = (
        Column("System", "system", False),
        Column("Val WA, %", "val_wa"),
        Column("Test WA, %", "test_wa"),
        Column("Gap, points", "gap"),
        Column("Seeds", "seeds"),
        Column("Trainings", "trainings"),
    )
    rows = [
        (
            plain(line.name),
            _spread(line.val_wa),
            _spread(line.wa),
            _spread(line.gap, sign=True),
            plain(len(line.seeds), len(line.seeds)),
            Cell(f"{line.done}/{line.wanted}", {"done": line.done, "wanted": line.wanted}),
        )
        for line in summary.lines
    ]
    return Table(
        "accuracy",
        f"Weighted accuracy on {about}",
        columns,
        _best_in(rows, (1, 2)),
        (
            "WA: share of utterances classified right, pooled over the folds; then mean ± sample standard deviation "
            "over seeds (– where a single seed has none). Gap: validation less test; validation speakers chose the "
            "epoch, so that their figure is a little optimistic. Bold: the best of a column.",
        ),
    )


def more_figures(summary: Summary) -> Table:
    """Test figures with their intervals."""
    columns = (
        Column("System", "system", False),
        Column("WA, 95 % interval", "wa_interval"),
        Column("UAR, %", "uar"),
        Column("UAR, 95 % interval", "uar_interval"),
        Column("Macro-F1, %", "macro_f1"),
        Column("Mean of folds' WA, %", "mean_of_folds_wa"),
    )
    rows = [
        (
            plain(line.name),
            _interval(line.wa_interval),
            _spread(line.uar),
            _interval(line.uar_interval),
            _spread(line.macro_f1),
            _spread(line.wa_of_folds),
        )
        for line in summary.lines
    ]
    return Table(
        "test-figures",
        "Test figures besides weighted accuracy",
        columns,
        _best_in(rows, (2, 4, 5)),
        (
            "UAR: mean recall over the emotions. Intervals: percentile bootstrap of the mean over seeds, whole test "
            "speakers drawn; they say how much the choice of speakers matters.",
        ),
    )


def contrasts(summary: Summary, looks: Looks) -> Section:
    """What separates each system from SER_only, and what could have been seen at all."""
    blocks: list[Block] = []
    for family, (name, caption) in FAMILY.items():
        own = [one for one in summary.contrasts if one.family == family]
        if own:
            blocks += [_contrast_table(own, name, caption), _difference_figure(own, looks, name, caption)]
            blocks += [Text(_in_words(own))]
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
            _interval(one.interval, sign=True),
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
        "the CSV file as a reduction). Detectable: the smallest true difference that such a test finds with 80 % "
        "power at the 5 % level, before any correction."
    )
    if first.smallest_p > 0.05:
        note += " With so few speakers no difference, however large, can be significant."
    short = max((one.interval.incomplete for one in own if one.interval), default=0.0)
    if short:
        note += f" In {percent(short)} % of the bootstrap's draws an emotion is missing; UAR is then of the others."
    return Table(name, caption, columns, rows, (note,))


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


def emotions(summary: Summary, looks: Looks) -> Section:
    """Recall of every emotion, and what is taken for what."""
    there = [line for line in summary.lines if line.seeds]
    if not there:
        return Section("emotions", "Emotions", (Text("This needs a system with a complete seed."),))
    columns = [Column("Emotion", "emotion", False), Column("Utterances", "utterances")]
    columns += [Column(f"{line.name}, %", f"recall_{line.name}") for line in there]
    per_seed = there[0].confusion.sum(axis=1) // len(there[0].seeds)
    rows = tuple(
        (
            plain(label),
            plain(int(per_seed[place]), int(per_seed[place])),
            *(_spread(line.recalls[place]) for line in there),
        )
        for place, label in enumerate(summary.labels)
    )
    table = Table("recalls", "Recall of each emotion on the test speakers, mean ± std over seeds", tuple(columns), rows)
    values = {line.name: [known(recall.mean) for recall in line.recalls] for line in there}
    chance = 1 / len(summary.labels)
    axis = "recall, %"
    recall = dots("Recall", list(summary.labels), values, looks, axis, reference=chance, limits=(0.0, 1.0))
    panels = tuple(confusion(line.name, line.confusion, summary.labels) for line in there)
    key = tuple(looks[line.name].key(line.name) for line in there)
    return Section(
        "emotions",
        "Emotions",
        (
            table,
            Figure("recalls", "Recall of each emotion, mean over seeds. Dashed: chance.", tuple(recall), 2, key),
            Figure(
                "confusion",
                "Confusion matrices of the test speakers: percent of the true emotion, and below it the utterances, "
                "summed over seeds.",
                panels,
                4 if len(panels) == 4 else 3,
            ),
        ),
    )


def speakers(summary: Summary, looks: Looks, genders: Mapping[str, str]) -> Section:
    """WA and UAR of each test speaker."""
    there = [(line, line.counts) for line in summary.lines if line.counts is not None]
    if not there:
        return Section("speakers", "Speakers", (Text("This needs a system with a complete seed."),))
    first = there[0][1]
    names = first.speakers
    figures = {
        metric: {line.name: by_speaker(counts.mean_hits, counts.totals, metric) for line, counts in there}
        for metric in METRIC
    }
    order = sorted(range(len(names)), key=lambda i: (-figures["wa"][there[0][0].name][i], names[i]))
    panels = []
    for metric, letters in METRIC.items():
        values = {name: [float(column[i]) for i in order] for name, column in figures[metric].items()}
        panels += dots(f"{letters} by test speaker", [names[i] for i in order], values, looks, f"{letters}, %",
                       reference=1 / len(summary.labels))  # fmt: skip
    tables = []
    for metric, letters in METRIC.items():
        columns = [Column("Speaker", "speaker", False), Column("Gender", "gender", False), Column("Utterances", "n")]
        columns += [Column(name, name) for name in figures[metric]]
        rows = tuple(
            (
                plain(names[i]),
                plain(genders.get(names[i], "") or "–", genders.get(names[i], "")),
                plain(int(first.totals[i].sum()), int(first.totals[i].sum())),
                *(share(float(column[i])) for column in figures[metric].values()),
            )
            for i in order
        )
        caption = f"{letters} of each test speaker in percent, mean over seeds"
        tables.append(Table(f"speakers-{metric}", caption, tuple(columns), rows))
    lowest = _lowest(figures["wa"], names)
    return Section(
        "speakers",
        "Speakers",
        (
            Figure(
                "speakers",
                "Accuracy on each test speaker, mean over seeds; the speakers in the order of "
                f"{there[0][0].name}'s WA. Dashed: chance.",
                tuple(panels),
                2,
                tuple(looks[line.name].key(line.name) for line, _ in there),
            ),
            Text(f"Worst served (WA): {lowest}."),
            *tables,
        ),
    )


def by_speaker(hits: Floats, totals: Floats, metric: str) -> Floats:
    """WA or UAR of each speaker (U,) from hits and totals (U, C); UAR over the emotions the speaker shows."""
    if metric == "wa":
        each: Floats = hits.sum(axis=1) / totals.sum(axis=1)
        return each
    recall = np.divide(hits, totals, out=np.full(hits.shape, np.nan), where=totals > 0)
    mean: Floats = np.nanmean(recall, axis=1)
    return mean


def _lowest(figures: Mapping[str, Floats], names: Sequence[str]) -> str:
    found = []
    for system, column in figures.items():
        worst = int(np.argmin(column))
        found.append(f"{system}: {names[worst]}, {percent(float(column[worst]))} %")
    return "; ".join(found)


def _spread(figure: Spread, *, sign: bool = False) -> Cell:
    return spread(figure.mean, figure.std, sign=sign)


def _interval(found: Interval | None, *, sign: bool = False) -> Cell:
    return interval(found.low if found else None, found.high if found else None, sign=sign)


def _best_in(rows: Sequence[tuple[Cell, ...]], places: Sequence[int]) -> tuple[tuple[Cell, ...], ...]:
    """The rows with the highest mean of the columns at `places` marked, where there is something to choose."""
    marked = [list(row) for row in rows]
    for place in places:
        means = [_mean_of(row[place]) for row in rows]
        finite = [mean for mean in means if math.isfinite(mean)]
        if len(finite) < 2:
            continue
        best = percent(max(finite))  # equal as printed is equally good
        for row, mean in zip(marked, means, strict=True):
            if math.isfinite(mean) and percent(mean) == best:
                row[place] = replace(row[place], best=True)
    return tuple(map(tuple, marked))


def _mean_of(cell: Cell) -> float:
    mean = cell.data.get("mean", math.nan)
    return mean if isinstance(mean, float) else math.nan
