"""Section on the accuracy of every system: the paper's table, and what it leaves out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from unheard.analysis.intervals import Interval
from unheard.experiments.summary import LineSummary, Spread, Summary
from unheard.experiments.tables import REPEATED
from unheard.report.content import Block, Cell, Column, Section, Table, Text, interval, listed, percent, plain, spread

METRIC = {"wa": "WA", "uar": "UAR"}


def accuracy(summary: Summary, about: str, select: str = "best") -> Section:
    """The paper's table, and the same with everything it leaves out; `select` says whose weights were read out."""
    blocks: list[Block] = [headline(summary, about, select)]
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


def headline(summary: Summary, about: str, select: str) -> Table:
    """Tables 2 and 3 of the paper: validation and test accuracy; then their gap."""
    if select == "best":
        chose = (
            "validation speakers chose the epoch (and λ and ε where those are chosen), so that their figure is a "
            "little optimistic."
        )
    else:
        chose = (
            "the last epoch is read out, so that validation speakers chose none (λ and ε where those are chosen, and a "
            "classical system's C, they did)."
        )
    alone = any(line.seeds and not line.gap.values for line in summary.lines)  # a test figure and none of validation
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
            spread_cell(line.val_wa),
            spread_cell(line.wa),
            spread_cell(line.gap, sign=True),
            plain(len(line.seeds), len(line.seeds)),
            Cell(f"{line.done}/{line.wanted}", {"done": line.done, "wanted": line.wanted}),
        )
        for line in summary.lines
    ]
    return Table(
        "accuracy",
        f"Weighted accuracy on {about}",
        columns,
        _best_in(rows, (2,) if alone else (1, 2)),
        (
            "WA: share of utterances classified right, pooled over the folds; then mean ± sample standard deviation "
            "over seeds (– where a single seed has none). Gap: validation less test; "
            f"{chose} Bold: the best of a column.",
            *([REPEATED] if alone else []),
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
            interval_cell(line.wa_interval),
            spread_cell(line.uar),
            interval_cell(line.uar_interval),
            spread_cell(line.macro_f1),
            spread_cell(line.wa_of_folds),
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


def spread_cell(figure: Spread, *, sign: bool = False) -> Cell:
    """A figure over seeds."""
    return spread(figure.mean, figure.std, sign=sign)


def interval_cell(found: Interval | None, *, sign: bool = False) -> Cell:
    """An interval, where there is one."""
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
