"""Report sections on the results: accuracy, differences between systems, emotions and speakers."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from unheard.analysis.intervals import Spread
from unheard.analysis.statistics import Contrast
from unheard.errors import counted
from unheard.experiments.summary import REPEATED, Summary, single_class
from unheard.report.content import (
    NOTHING,
    Block,
    Figure,
    Section,
    Table,
    Text,
    limits,
    listed,
    or_nan,
    percent,
    probability,
    spread,
)
from unheard.report.plots import Look, confusions, differences, dots
from unheard.training.recipe import AS_WRITTEN

Looks = Mapping[str, Look]
METRIC = {"wa": "WA", "uar": "UAR"}
ONE_SEED = "Only one seed: p accounts for the choice of speakers, not for the randomness of training."


def headline(summary: Summary) -> str:
    """Return a sentence on the best system by validation accuracy and the systems that differ from SER_only."""
    complete = [line for line in summary.lines if line.seeds]
    if not complete:
        return "No system has a complete seed yet."
    validated = not any(line.unvalidated for line in complete)
    best = max(complete, key=lambda line: or_nan(line.over_seeds("wa", "dev" if validated else "test").mean))
    wa, uar = (_spread(best.over_seeds(metric)) for metric in METRIC)
    text = f"{best.name}: WA {wa} %, UAR {uar} % on unseen speakers"
    if len(complete) > 1:
        text = f"{'Best on validation speakers' if validated else 'Highest on the test speakers'} is {text}"
    if summary.contrasts:
        significant = [c for c in summary.contrasts if c.p_holm < 0.05 and c.metric == "wa"]
        names = [f"{c.name} ({percent(c.difference, sign=True)} points of WA)" for c in significant]
        text += (
            f"; significantly different from SER_only in WA: {listed(names)}"
            if names
            else "; no difference from SER_only in WA is significant"
        )
    return f"{text}. {single_class(complete)}".rstrip()


def accuracy(summary: Summary, corpus: str, select: str = "best") -> Section:
    """Return the section with the paper's Tables 2 and 3 and the gap, then UAR and F1 with intervals."""
    selection = {
        "best": "validation speakers chose the epoch (and λ and ε if chosen), which favours their figure",
        "last": "the last epoch is used, whatever its validation accuracy",
    }[select]
    unvalidated = any(line.unvalidated for line in summary.lines)
    accuracies = [[line.over_seeds("wa", part) for part in ("dev", "test")] for line in summary.lines]
    main = Table(
        "accuracy",
        f"Weighted accuracy (WA, %) on {corpus}",
        ("System", "Val WA, %", "Test WA, %", "Gap, points", "Seeds", "Trainings"),
        tuple(
            (line.name, *map(_spread, row), _spread(line.gap, sign=True), str(len(line.seeds)),
             f"{line.finished}/{line.planned}")
            for line, row in zip(summary.lines, accuracies, strict=True)
        ),
        (
            "WA: share of utterances classified correctly, pooled over the folds; mean ± sample standard deviation "
            f"over seeds. Gap: validation minus test; {selection}. Bold: best of a column.",
            *([REPEATED] if unvalidated else []),
        ),
        _best(accuracies, {2: 1} if unvalidated else {1: 0, 2: 1}),
    )  # fmt: skip
    figures = [[line.over_seeds(figure) for figure in ("uar", "macro_f1", "wa_of_folds")] for line in summary.lines]
    more = Table(
        "test-figures",
        "Test figures other than weighted accuracy",
        ("System", "WA, 95 % interval", "UAR, %", "UAR, 95 % interval", "Macro-F1, %", "Mean of folds' WA, %"),
        tuple(
            (line.name, limits(line.interval("wa")), _spread(uar), limits(line.interval("uar")), *map(_spread, more))
            for line, (uar, *more) in zip(summary.lines, figures, strict=True)
        ),
        (
            "UAR: mean recall over the emotions. Intervals: percentile bootstrap of the mean over seeds, resampling "
            "whole test speakers.",
        ),
        _best(figures, {2: 0, 4: 1, 5: 2}),
    )
    warnings = [single_class(summary.lines)]
    incomplete = [line for line in summary.lines if line.finished < line.planned]
    if incomplete:
        missing = [f"{line.name} {line.finished}/{line.planned} trainings" for line in incomplete]
        warnings = [f"Incomplete: {listed(missing)}. A seed counts only when all its folds are trained.", *warnings]
    return Section("accuracy", "Accuracy", (main, *(Text(text, warning=True) for text in warnings if text), more))


def contrasts(summary: Summary, looks: Looks) -> Section:
    """Return the section on the differences to SER_only and the smallest detectable differences."""
    blocks: list[Block] = []
    for family in dict.fromkeys(c.family for c in summary.contrasts):
        members = [c for c in summary.contrasts if c.family == family]
        qualifiers = [part for part in family.split(", ") if part not in ("fixed", AS_WRITTEN)]
        name = "-".join(["differences", *qualifiers])
        caption = "Differences from SER_only" + (f" ({', '.join(qualifiers)})" if qualifiers else "")
        panels: dict[str, list[tuple[str, Look, float, float, float]]] = {
            f"Test {name}": [] for name in METRIC.values()
        }
        for c in members:
            low, high = (c.interval.low, c.interval.high) if c.interval else (math.nan, math.nan)
            panels[f"Test {METRIC[c.metric]}"].append((c.name, looks[c.name], c.difference, low, high))
        alt = "; ".join(f"{c.name}, {METRIC[c.metric]}: {percent(c.difference, sign=True)} points" for c in members)
        figure = Figure(name, f"{caption}, with 95 % intervals over test speakers.", alt, differences(panels))
        blocks += [contrast_table(members, name, caption), figure, Text(_significance_text(members))]
    if summary.gaps:
        blocks.append(_gap_table(summary.gaps))
    if not blocks:
        blocks = [Text("A comparison needs SER_only and another system with a complete seed.")]
    return Section("differences", "Differences between systems", (*blocks, *map(Text, summary.notes)))


def contrast_table(contrasts: Sequence[Contrast], name: str, caption: str) -> Table:
    """Return a table with a row for each contrast, and a note on its units, tests and power."""
    rows = tuple(
        (c.name, METRIC[c.metric], percent(c.difference, sign=True), limits(c.interval, sign=True),
         NOTHING if c.rerr is None else f"{percent(c.rerr, sign=True)} %", probability(c.p),
         probability(c.p_holm), percent(c.detectable))
        for c in contrasts
    )  # fmt: skip
    first = contrasts[0]
    units = counted(len(first.speakers), "test speaker")
    swaps = f"all {first.arrangements:,} swaps" if first.exact else f"{first.arrangements:,} drawn swaps"
    note = (
        f"Differences in points of the pooled metric's mean over seeds, on {units}. "
        "Interval: percentile bootstrap over speakers. RERR: relative error-rate reduction. p: paired permutation test "
        f"over speakers, {swaps}, two-sided; Holm: corrected for the contrasts of a family with the same metric. "
        "Detectable: the smallest true difference that a paired t-test at 5 % finds with 80 % power, uncorrected. "
        f"With {units}, p is at least {probability(first.smallest_p)}."
    )
    if first.smallest_p > 0.05:
        note += " That is above 0.05: no difference, however large, can be significant here."
    if any(len(c.seeds) == 1 for c in contrasts):
        note += f" {ONE_SEED}"
    rate = max((c.interval.incomplete for c in contrasts if c.interval), default=0.0)
    if rate:
        note += f" In {percent(rate)} % of the bootstrap draws an emotion is missing; UAR is then that of the others."
    heads = ("System", "Metric", "Δ, points", "95 % interval", "RERR", "p", "p, Holm", "Detectable, points")
    return Table(name, caption, heads, rows, (note,))


def _gap_table(gaps: Sequence[Contrast]) -> Table:
    rows = tuple(
        (c.name, METRIC[c.metric], percent(c.before, sign=True), percent(c.after, sign=True),
         percent(c.difference, sign=True), limits(c.interval, sign=True), probability(c.p),
         probability(c.p_holm))
        for c in gaps
    )  # fmt: skip
    note = (
        "Gap: validation minus test, mean over the seeds that both systems have; a negative Δ is a smaller gap than "
        f"SER_only's. Units: the {counted(len(gaps[0].speakers), 'speaker')} that validate or test; tests and "
        "intervals as above."
    )
    heads = ("System", "Metric", "Gap of SER_only", "Gap", "Δ, points", "95 % interval", "p", "p, Holm")
    caption = "The gap between validation and test speakers, compared with SER_only's"
    return Table("gaps", caption, heads, rows, (note,))


def _significance_text(family: Sequence[Contrast]) -> str:
    significant = [c for c in family if c.p_holm < 0.05]
    names = [f"{c.name} ({METRIC[c.metric]} {percent(c.difference, sign=True)} points)" for c in significant]
    if names:
        text = f"Significantly different from SER_only, after Holm's correction: {listed(names)}."
    else:
        text = "No difference from SER_only is significant after Holm's correction."
    limits = sorted(c.detectable for c in family if c.metric == "wa" and c.detectable is not None)
    if limits:
        span = " to ".join(dict.fromkeys((percent(limits[0]), percent(limits[-1]))))
        text += (
            f" The test has 80 % power to detect a true difference in WA of {span} points with "
            f"{counted(len(family[0].speakers), 'test speaker')}; smaller ones may exist. A difference that is not "
            "significant does not show that two systems are equal."
        )
    return text


def emotions(summary: Summary, looks: Looks) -> Section:
    """Return the section with the recall of every emotion and the confusion matrices."""
    complete = [line for line in summary.lines if line.seeds]
    if not complete:
        return Section("emotions", "Emotions", (Text("This needs a system with a complete seed."),))
    per_seed = complete[0].confusion.sum(axis=1) // len(complete[0].seeds)
    rows = tuple(
        (label, str(int(per_seed[i])), *(_spread(line.recalls[i]) for line in complete))
        for i, label in enumerate(summary.labels)
    )
    caption = "Recall of each emotion on the test speakers (%), mean ± standard deviation over seeds"
    table = Table("recalls", caption, ("Emotion", "Utterances", *(line.name for line in complete)), rows)
    values = {line.name: [or_nan(recall.mean) for recall in line.recalls] for line in complete}
    recall = dots({"Recall": values}, summary.labels, looks, "recall, %", references=[1 / len(summary.labels)])
    recall_text = "; ".join(f"{row[0]}: {', '.join(row[2:])}" for row in rows)
    matrices = {line.name: line.confusion for line in complete}
    caption = "Confusion matrices of the test speakers, summed over seeds: percent of the true emotion (utterances)."
    alt = f"Confusion matrices of {listed(list(matrices))}; recalls: {recall_text}"
    blocks = (
        table,
        Figure("recalls", "Recall of each emotion, mean over seeds. Dashed: chance.", recall_text, recall),
        Figure("confusion", caption, alt, confusions(matrices, summary.labels)),
    )
    return Section("emotions", "Emotions", blocks)


def speakers(summary: Summary, looks: Looks, genders: Mapping[str, str]) -> Section:
    """Return the section with WA and UAR of each test speaker."""
    complete = {line.name: line.counts for line in summary.lines if line.counts}
    if not complete:
        return Section("speakers", "Speakers", (Text("This needs a system with a complete seed."),))
    wa, uar = {}, {}
    for name, c in complete.items():
        wa[name] = c.mean_hits.sum(axis=1) / c.totals.sum(axis=1)
        recall = np.divide(c.mean_hits, c.totals, out=np.full(c.totals.shape, np.nan), where=c.totals > 0)
        uar[name] = np.nanmean(recall, axis=1)
    first, counts = next(iter(complete.items()))
    names, totals = counts.speakers, counts.totals.sum(axis=1)
    order = sorted(range(len(names)), key=lambda i: (-wa[first][i], names[i]))
    panels = {
        f"{letters} by test speaker": {name: list(column[order]) for name, column in values.items()}
        for letters, values in (("WA", wa), ("UAR", uar))
    }
    rows = tuple(
        (names[i], genders.get(names[i], "") or NOTHING, str(int(totals[i])),
         *(f"{percent(wa[name][i])} / {percent(uar[name][i])}" for name in complete))
        for i in order
    )  # fmt: skip
    worst = "; ".join(f"{name}: {names[int(np.argmin(x))]}, {percent(min(x))}\u00a0%" for name, x in wa.items())
    ordered = [names[i] for i in order]
    caption = f"Accuracy of each test speaker, mean over seeds; ordered by {first}'s WA. Dashed: chance."
    alt = f"WA and UAR of {counted(len(ordered), 'speaker')}; lowest WA: {worst}"
    drawing = dots(panels, ordered, looks, "%", references=[1 / len(summary.labels)] * 2)
    heads = ("Speaker", "Gender", "Utterances", *complete)
    blocks = (
        Figure("speakers", caption, alt, drawing),
        Text(f"Lowest WA: {worst}."),
        Table("speakers", "WA / UAR of each test speaker (%), mean over seeds", heads, rows),
    )
    return Section("speakers", "Speakers", blocks)


def _spread(figure: Spread, *, sign: bool = False) -> str:
    return spread(figure.mean, figure.std, sign=sign)


def _best(figures: Sequence[Sequence[Spread]], columns: Mapping[int, int]) -> frozenset[tuple[int, int]]:
    """Return the cells with the highest mean of their column, as printed; none for a column with a single value.

    `columns` maps columns of the table to columns of `figures`.
    """
    best = set()
    for column, source in columns.items():
        means = [percent(row[source].mean) for row in figures]
        values = [float(mean) for mean in means if mean != NOTHING]
        if len(values) > 1:
            best |= {(row, column) for row, mean in enumerate(means) if mean == percent(max(values) / 100)}
    return frozenset(best)
