"""Figures of a run: each system over its seeds, and its contrast with SER_only; contrasts as Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from unheard.analysis.counts import METRICS, Counts, count
from unheard.analysis.intervals import Interval, interval
from unheard.analysis.statistics import Contrast, contrast, corrected, gap_contrast
from unheard.errors import RunError
from unheard.experiments.records import baseline_of

if TYPE_CHECKING:
    from unheard.experiments.records import Line, Predictions, RunRecords, SeedRecord

BASELINE = "ser"
ONE_SEED = (
    "Only one seed: p is about other speakers tested with these networks; the same systems trained again may differ by "
    "more."
)


@dataclass(frozen=True)
class Spread:
    """A figure of each seed; `mean` is None without seeds, `std` (sample) with fewer than two."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        """In percent: `62.5 ± 17.7`, `62.5 ± –` for one seed, `–` for none."""
        if self.mean is None:
            return "–"
        return f"{100 * self.mean:.1f} ± " + ("–" if self.std is None else f"{100 * self.std:.1f}")


@dataclass(frozen=True, eq=False)
class LineSummary:
    """A line of the tables over its complete `seeds`. Figures are portions; `confusion` (C, C) is summed over seeds.

    `wa`, `uar` and `macro_f1` are pooled over the folds, `wa_of_folds` is the mean of the folds' WA; `val_wa` is that
    of the validation speakers and `gap` is val_wa - wa, without values if validation repeats the test
    (`Line.judged_twice`). `recalls` are by label, without values for a label that does not occur. Intervals are of the
    means over seeds. `counts` are of the test speakers, `val_counts` of the validation speakers. Intervals and counts
    are None if unknown. Contrasts are corrected within a `family`.
    """

    name: str
    system: str
    chosen: bool
    seeds: tuple[int, ...]
    done: int
    wanted: int
    wa: Spread
    uar: Spread
    macro_f1: Spread
    wa_of_folds: Spread
    val_wa: Spread
    gap: Spread
    recalls: tuple[Spread, ...]
    confusion: NDArray[np.int64]
    wa_interval: Interval | None
    uar_interval: Interval | None
    counts: Counts | None
    val_counts: Counts | None
    family: str = "fixed"


@dataclass(frozen=True, eq=False)
class Summary:
    """The lines of a run in their order, contrasts with SER_only, and notes on what is not compared.

    `contrasts` are of test accuracy; `gaps` are of the gap, validation minus test (negative: smaller than SER_only's).
    """

    labels: tuple[str, ...]
    lines: tuple[LineSummary, ...]
    contrasts: tuple[Contrast, ...]
    gaps: tuple[Contrast, ...]
    notes: tuple[str, ...] = ()


def summarise(run: RunRecords) -> Summary:
    """Compute all figures of a run; contrasts are over the seeds that a system and SER_only both have complete.

    Systems with fixed options are one family for Holm's correction, those with λ or ε chosen on validation speakers a
    second one, classical systems a third. Raises `RunError` if seeds or systems were scored on different utterances.
    """
    lines = tuple(summarise_line(line, run.labels) for line in run.lines)
    by_name = {line.name: line for line in lines}
    contrasts, gaps, notes = [], [], []
    for own, line in zip(run.lines, lines, strict=True):
        base = baseline_of(own, run.lines, BASELINE)
        baseline = by_name[base.name] if base else None
        if line is baseline:
            continue
        if baseline is None:
            notes.append(f"{line.name} is not compared: the run has no SER_only.")
        elif line.counts is None or baseline.counts is None:
            missing = line if line.counts is None else baseline
            notes.append(f"{line.name} is not compared: {missing.name} has no complete seed.")
        elif not set(line.seeds) & set(baseline.seeds):
            notes.append(f"{line.name} is not compared: it has no complete seed in common with {baseline.name}.")
        else:
            pairs = [(baseline.counts, line.counts)]
            if baseline.val_counts and line.val_counts:
                pairs.append((baseline.val_counts, line.val_counts))
            if not all(before.same_utterances(after) for before, after in pairs):
                raise RunError(
                    "two systems of this run were scored on different utterances",
                    where=run.folder,
                    mend="Run the experiment in a new folder.",
                )
            for metric in METRICS:
                contrasts.append(contrast(line.name, baseline.name, pairs[:1], metric, line.family))
                if len(pairs) == 2:  # validation speakers add information
                    before, after = ((validation, test) for test, validation in zip(*pairs, strict=True))
                    gaps.append(gap_contrast(line.name, baseline.name, before, after, metric, line.family))
    return Summary(run.labels, lines, corrected(contrasts), corrected(gaps), tuple(notes))


def summarise_line(line: Line, labels: tuple[str, ...]) -> LineSummary:
    """Compute the figures of one line over its complete seeds."""

    def test(figure: Callable[[SeedRecord], float]) -> Spread:
        return Spread(tuple(float(figure(seed)) for seed in line.seeds))

    def validation(figure: Callable[[SeedRecord], float]) -> Spread:
        return Spread(()) if line.judged_twice else test(figure)

    counts = counts_of(line, len(labels)) if line.seeds else None
    confusions = [seed.test.confusion(len(labels)) for seed in line.seeds]
    return LineSummary(
        name=line.name,
        system=line.system,
        chosen=line.chosen,
        seeds=tuple(seed.seed for seed in line.seeds),
        done=line.done,
        wanted=line.wanted,
        wa=test(lambda seed: seed.test.wa),
        uar=test(lambda seed: seed.test.uar),
        macro_f1=test(lambda seed: seed.test.macro_f1),
        wa_of_folds=test(lambda seed: seed.test.wa_of_folds),
        val_wa=validation(lambda seed: seed.dev.wa),
        gap=validation(lambda seed: seed.dev.wa - seed.test.wa),
        recalls=tuple(
            Spread(tuple(float(c[i, i] / c[i].sum()) for c in confusions if c[i].any())) for i in range(len(labels))
        ),
        confusion=sum(confusions, np.zeros((len(labels), len(labels)), np.int64)),
        wa_interval=interval(counts, "wa") if counts else None,
        uar_interval=interval(counts, "uar") if counts else None,
        counts=counts,
        val_counts=counts_of(line, len(labels), "dev") if line.seeds and not line.judged_twice else None,
        family=line.family,
    )


def counts_of(line: Line, emotions: int, part: Literal["dev", "test"] = "test") -> Counts:
    """Count the speakers' utterances and hits in one part, for each complete seed of a line that has one.

    Raises `RunError` if two seeds were scored on different utterances.
    """
    parts: dict[int, Predictions] = {seed.seed: getattr(seed, part) for seed in line.seeds}
    first = parts[line.seeds[0].seed]
    for seed, own in parts.items():
        if own.ids != first.ids or not np.array_equal(own.truth, first.truth):
            raise RunError(
                f"{line.name}: seeds {line.seeds[0].seed} and {seed} were scored on different utterances",
                mend="Run the experiment in a new folder.",
            )
    return count(first.speakers, first.truth, {seed: own.predicted for seed, own in parts.items()}, emotions)


# Contrasts in Markdown.


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table whose first `left` columns are aligned left, the others right."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * left + "---:|" * (len(heads) - left)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def contrast_table(contrasts: Sequence[Contrast]) -> str:
    """Return a Markdown table with a row for each contrast, differences in points."""
    heads = ("Contrast", "Metric", "Difference", "95 % interval", "RERR", "p", "p (Holm)", "Detectable")
    rows = [
        (
            f"{one.name} − {one.baseline}" if one.name != one.baseline else one.name,
            one.metric.upper(),
            signed(one.points),
            interval_text(one.interval, signs=True),
            "–" if one.rerr is None else f"{signed(100 * one.rerr)} %",
            p_text(one.p),
            p_text(one.p_holm),
            "–" if one.detectable is None else f"{100 * one.detectable:.1f}",
        )
        for one in contrasts
    ]
    return markdown_table(heads, rows, left=2)


def explanation(contrasts: Sequence[Contrast]) -> str:
    """Return a paragraph on units and tests, and on what so few speakers can show."""
    first = contrasts[0]
    units = len(first.speakers)
    how = f"all {first.arrangements:,} swaps" if first.exact else f"{first.arrangements:,} drawn swaps"
    text = (
        f"Differences in points of the pooled metric's mean over seeds, on {units} test "
        f"speaker{'s' if units != 1 else ''}. Interval: percentile bootstrap over speakers. RERR: relative error-rate "
        f"reduction. p: paired permutation test over speakers, {how}, two-sided; Holm: corrected for the contrasts "
        "of a family with the same metric. Detectable: the smallest true difference that a paired t-test finds with "
        f"80 % power at p < 0.05, uncorrected. With so many speakers no p is below {p_text(first.smallest_p)}."
    )
    if first.smallest_p > 0.05:
        text += " That is above 0.05: no difference, however large, can be significant here."
    if any(len(one.seeds) == 1 for one in contrasts):
        text += f" {ONE_SEED}"
    short = max((one.interval.incomplete for one in contrasts if one.interval), default=0.0)
    if short > 0:
        text += f" In {100 * short:.1f} % of the bootstrap draws an emotion is missing; UAR is then that of the others."
    return text


def signed(points: float) -> str:
    """Return `+1.3`, `-0.4`, or `0.0` for a number that rounds to 0."""
    text = f"{points:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def interval_text(found: Interval | None, *, signs: bool = False) -> str:
    """Return `[51.2, 60.3]` in percent, with signs for a difference; a dash for None."""
    if found is None:
        return "–"
    ends = [signed(100 * end) if signs else f"{100 * end:.1f}" for end in (found.low, found.high)]
    return f"[{', '.join(ends)}]"


def p_text(p: float) -> str:
    """Return p with three decimals, four below 0.01."""
    return f"{p:.4f}" if p < 0.01 else f"{p:.3f}"
