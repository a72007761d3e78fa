"""A run in figures: each system over its seeds, and what separates it from SER_only."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from unheard.analysis.statistics import (
    METRICS,
    Contrast,
    Counts,
    Interval,
    contrast,
    corrected,
    count,
    gap_contrast,
    interval,
)
from unheard.errors import RunError

if TYPE_CHECKING:
    from unheard.experiments.records import Line, Predictions, RunRecords, SeedRecord


BASELINE = "ser"


@dataclass(frozen=True)
class Spread:
    """A figure with each seed; `mean` is None without any, `std` (of the sample) with fewer than two."""

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
    """One line of the tables over its complete `seeds`; figures are portions, `confusion` (C, C) is summed over them.

    `wa`, `uar`, `macro_f1` are pooled over the folds, `wa_of_folds` is the mean of the folds'; `val_…` are those of
    the validation speakers, `gap` is val_wa - wa; without values where these only say again what the test speakers say
    (`Line.judged_twice`). `recalls` are by label (no values for one that
    nobody says). Intervals are of the means over seeds; None for one test speaker or no complete seed.
    `counts` has the test speakers' utterances and hits, `val_counts` the validation speakers'; None without a complete
    seed, or where they say nothing of their own. `family` says whose contrasts it is corrected with.
    """

    name: str
    system: str
    chosen: bool
    value: float | None
    seeds: tuple[int, ...]
    done: int
    wanted: int
    wa: Spread
    uar: Spread
    macro_f1: Spread
    wa_of_folds: Spread
    val_wa: Spread
    val_uar: Spread
    val_macro_f1: Spread
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
    """The lines of a run in their order, the contrasts with SER_only, and in words what could not be compared.

    `contrasts` are of test accuracy; `gaps` are of the gap, validation minus test (negative: smaller than SER_only's).
    """

    labels: tuple[str, ...]
    lines: tuple[LineSummary, ...]
    contrasts: tuple[Contrast, ...]
    gaps: tuple[Contrast, ...]
    notes: tuple[str, ...] = ()

    def line(self, name: str) -> LineSummary | None:
        """The line called `name`, if there is one."""
        return next((line for line in self.lines if line.name == name), None)


def summarize(run: RunRecords) -> Summary:
    """All figures of a run; contrasts are over the seeds that a system and SER_only both have complete.

    The systems with fixed knobs are one family for Holm's correction, those whose knob was chosen a second one, and
    classical systems a third: a baseline beside them leaves the other p values as they are.
    Raises `RunError` where two seeds of the run were scored on different utterances.
    """
    lines = tuple(summarize_line(line, run.labels) for line in run.lines)
    baseline = next((line for line in lines if line.system == BASELINE), None)
    contrasts, gaps, notes = [], [], []
    for line in lines:
        if line is baseline:
            continue
        before, after = (one.counts if one else None for one in (baseline, line))
        if baseline is None or before is None or after is None:
            missing = line if line.counts is None else baseline
            reason = f"{missing.name} has no complete seed" if missing else "the run has no SER_only"
            notes.append(f"{line.name} is not compared: {reason}.")
        elif not set(line.seeds) & set(baseline.seeds):
            notes.append(f"{line.name} is not compared: it has no complete seed in common with {baseline.name}.")
        else:
            _same_utterances(before, after, run)
            for metric in METRICS:
                contrasts.append(contrast(line.name, baseline.name, before, after, metric, line.family))
            whole, other = _sides(baseline), _sides(line)
            if whole is None or other is None:  # validation says nothing of its own
                continue
            _same_utterances(whole[0], other[0], run)
            for metric in METRICS:
                gaps.append(gap_contrast(line.name, baseline.name, whole, other, metric, line.family))
    return Summary(run.labels, lines, corrected(contrasts), corrected(gaps), tuple(notes))


def summarize_line(line: Line, labels: tuple[str, ...]) -> LineSummary:
    """The figures of one line over its complete seeds."""

    def spread(figure: Callable[[SeedRecord], float]) -> Spread:
        return Spread(tuple(float(figure(seed)) for seed in line.seeds))

    def of_validation(figure: Callable[[SeedRecord], float]) -> Spread:
        return Spread(()) if line.judged_twice else spread(figure)

    counts = counts_of(line, len(labels)) if line.seeds else None
    confusions = [seed.test.confusion(len(labels)) for seed in line.seeds]
    empty = np.zeros((len(labels), len(labels)), np.int64)
    return LineSummary(
        name=line.name,
        system=line.system,
        chosen=line.chosen,
        value=line.value,
        seeds=tuple(seed.seed for seed in line.seeds),
        done=line.done,
        wanted=line.wanted,
        wa=spread(lambda seed: seed.test.wa),
        uar=spread(lambda seed: seed.test.uar),
        macro_f1=spread(lambda seed: seed.test.macro_f1),
        wa_of_folds=spread(lambda seed: seed.test.wa_of_folds),
        val_wa=of_validation(lambda seed: seed.dev.wa),
        val_uar=of_validation(lambda seed: seed.dev.uar),
        val_macro_f1=of_validation(lambda seed: seed.dev.macro_f1),
        gap=of_validation(lambda seed: seed.dev.wa - seed.test.wa),
        recalls=tuple(_recall(confusions, place) for place in range(len(labels))),
        confusion=sum(confusions, empty),
        wa_interval=interval(counts, "wa") if counts else None,
        uar_interval=interval(counts, "uar") if counts else None,
        counts=counts,
        val_counts=counts_of(line, len(labels), "dev") if line.seeds and not line.judged_twice else None,
        family=line.family,
    )


def counts_of(line: Line, classes: int, part: Literal["dev", "test"] = "test") -> Counts:
    """The speakers' utterances and hits in one part with each complete seed of a line that has one.

    Raises `RunError` where two seeds were scored on different utterances.
    """
    said = {seed.seed: getattr(seed, part) for seed in line.seeds}
    first: Predictions = said[line.seeds[0].seed]
    for seed, own in said.items():
        if own.ids != first.ids or not np.array_equal(own.truth, first.truth):
            raise RunError(
                f"{line.name}: seeds {line.seeds[0].seed} and {seed} were scored on different utterances",
                mend="Train the run anew in a new folder.",
            )
    return count(first.speakers, first.truth, {seed: own.predicted for seed, own in said.items()}, classes)


def _sides(line: LineSummary | None) -> tuple[Counts, Counts] | None:
    """Validation and test counts of a line that has a complete seed."""
    return (line.val_counts, line.counts) if line and line.val_counts and line.counts else None


def _same_utterances(a: Counts, b: Counts, run: RunRecords) -> None:
    if a.speakers != b.speakers or not np.array_equal(a.totals, b.totals):
        raise RunError(
            "two systems of this run were scored on different utterances",
            where=run.folder,
            mend="Train the run anew in a new folder.",
        )


def _recall(confusions: Iterable[NDArray[np.int64]], place: int) -> Spread:
    return Spread(tuple(float(c[place, place] / c[place].sum()) for c in confusions if c[place].any()))


# Contrasts as a Markdown table.

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
