"""Sections on whom and what the systems recognise: emotions and speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unheard.analysis.counts import Floats
from unheard.experiments.summary import Summary
from unheard.report.content import Column, Figure, Section, Table, Text, known, percent, plain, share, tiled
from unheard.report.performance import METRIC, spread_cell
from unheard.report.plots import Look, confusion, dots

Looks = Mapping[str, Look]


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
            *(spread_cell(line.recalls[place]) for line in there),
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
            Figure("recalls", "Recall of each emotion, mean over seeds. Dashed: chance.", tuple(recall), "two", key),
            Figure(
                "confusion",
                "Confusion matrices of the test speakers: percent of the true emotion, and below it the utterances, "
                "summed over seeds.",
                panels,
                tiled(len(panels)),
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
                "two",
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
        found.append(f"{system}: {names[worst]}, {percent(float(column[worst]))}\u00a0%")
    return "; ".join(found)
