"""From cells to the table: what an experiment came to.

cells/*/result.json, predictions.csv -> results.csv -> table.md, table.tex
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unheard.experiments.cells import Cell
from unheard.training.metrics import macro_f1, unweighted_average_recall, weighted_accuracy
from unheard.training.strategies import STRATEGIES

COLUMNS = (
    "system", "fold", "seed", "val_wa", "val_uar", "test_wa", "test_uar", "best_epoch", "n_val", "n_test",
    "val_macro_f1", "test_macro_f1", "epochs", "updates", "under_trained", "name", "cell",
    "frames_per_second", "train_seconds",
)  # fmt: skip
"""Columns of `results.csv`, timings last. A fold read in both directions is one row, pooled over both."""


@dataclass(frozen=True)
class Pooled:
    """One seed of a system: accuracies over every utterance's single prediction, all folds together."""

    seed: int
    val_wa: float
    val_uar: float
    test_wa: float
    test_uar: float
    test_macro_f1: float
    test_wa_of_folds: float
    n_test: int


@dataclass(frozen=True)
class Row:
    """One system: its complete seeds pooled, and how many of its cells exist."""

    system: str
    seeds: tuple[Pooled, ...]
    done: int
    wanted: int

    @property
    def name(self) -> str:
        """The paper's name."""
        return STRATEGIES[self.system][0]

    def over_seeds(self, figure: str) -> tuple[float, float]:
        """Mean and sample standard deviation over the complete seeds; NaN where there are too few."""
        values = [float(getattr(pooled, figure)) for pooled in self.seeds]
        mean = statistics.fmean(values) if values else math.nan
        return mean, statistics.stdev(values) if len(values) > 1 else math.nan


def results_csv(cells: Iterable[Cell]) -> str:
    """The text of `results.csv`: a row for every finished cell, by system, fold and seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    order = list(STRATEGIES)
    for cell in sorted(cells, key=lambda c: (order.index(c.system), c.fold.index, c.seed)):
        result = cell.result()
        if result is not None:
            values: dict[str, Any] = result | {"cell": cell.name}
            writer.writerow([_written(values[name]) for name in COLUMNS])
    return text.getvalue()


def _written(value: object) -> object:
    return f"{value:.6f}" if isinstance(value, float) else value


def pool(cells: Sequence[Cell]) -> list[Row]:
    """The systems in the paper's order; a seed counts only when all its folds are there."""
    rows = []
    for system in [key for key in STRATEGIES if any(cell.system == key for cell in cells)]:
        own = [cell for cell in cells if cell.system == system]
        done = [cell for cell in own if cell.result() is not None]
        seeds = sorted({cell.seed for cell in own})
        complete = [s for s in seeds if sum(c.seed == s for c in done) == sum(c.seed == s for c in own)]
        pooled = tuple(_pooled(seed, [c for c in done if c.seed == seed]) for seed in complete)
        rows.append(Row(system, pooled, len(done), len(own)))
    return rows


def _pooled(seed: int, cells: Sequence[Cell]) -> Pooled:
    labels = cells[0].labels
    parts: dict[str, tuple[list[int], list[int]]] = {"dev": ([], []), "test": ([], [])}
    for cell in cells:
        for row in read_predictions(cell.readout_folder() / "predictions.csv"):
            truth, predicted = parts[row["part"]]
            truth.append(labels.index(row["emotion"]))
            predicted.append(labels.index(row["predicted"]))
    (val, val_said), (test, test_said) = (map(np.array, parts[part]) for part in ("dev", "test"))
    results = [cell.result() or {} for cell in cells]
    return Pooled(
        seed=seed,
        val_wa=weighted_accuracy(val, val_said),
        val_uar=unweighted_average_recall(val, val_said, len(labels)),
        test_wa=weighted_accuracy(test, test_said),
        test_uar=unweighted_average_recall(test, test_said, len(labels)),
        test_macro_f1=macro_f1(test, test_said, len(labels)),
        test_wa_of_folds=statistics.fmean(float(result["test_wa"]) for result in results),
        n_test=len(test),
    )


def read_predictions(path: Path) -> list[dict[str, str]]:
    """The rows of a `predictions.csv`."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table_markdown(rows: Sequence[Row], caption: str) -> str:
    """The table that compares the systems, in Markdown."""
    heads = ["System", "Val WA", "Test WA", "Val UAR", "Test UAR", "Macro-F1", "Δ WA", "RERR", "Cells"]
    lines = [
        caption,
        "",
        "| " + " | ".join(heads) + " |",
        "|---|" + "---:|" * (len(heads) - 1),
    ]
    for row in rows:
        figures = [_cell(row, f) for f in ("val_wa", "test_wa", "val_uar", "test_uar", "test_macro_f1")]
        delta, relative = against_baseline(row, rows)
        lines.append(f"| {row.name} | " + " | ".join([*figures, delta, relative, f"{row.done}/{row.wanted}"]) + " |")
    lines += [
        "",
        "WA: plain accuracy, UAR: mean recall over emotions, in percent; each pooled over the folds' single test "
        "predictions, then mean ± sample standard deviation over seeds (– for one seed). Δ WA: points over SER_only; "
        "RERR: relative error-rate reduction. Cells n/N where a system is incomplete: incomplete seeds are not "
        "averaged.",
        "",
    ]
    return "\n".join(lines)


def table_latex(rows: Sequence[Row], caption: str) -> str:
    """The same in LaTeX (booktabs), in the layout of the paper's Tables 2 and 3."""

    special = {c: rf"\{c}" for c in "_%&#${}"} | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
    }

    def escaped(text: str) -> str:
        return "".join(special.get(character, character) for character in text)

    lines = [
        r"\begin{table}",
        rf"\caption{{{escaped(caption)}}}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & Val & Test \\",
        r"\midrule",
        *(
            rf"{escaped(row.name)} & {escaped(_cell(row, 'val_wa'))} & {escaped(_cell(row, 'test_wa'))} \\"
            for row in rows
        ),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cell(row: Row, figure: str) -> str:
    mean, std = row.over_seeds(figure)
    if math.isnan(mean):
        return f"{row.done}/{row.wanted}"
    return f"{100 * mean:.1f} ± " + ("–" if math.isnan(std) else f"{100 * std:.1f}")


def against_baseline(row: Row, rows: Sequence[Row]) -> tuple[str, str]:
    """Difference to SER_only in points of test WA, and as relative error-rate reduction, over the seeds both have."""
    baseline = next((other for other in rows if other.system == "ser"), None)
    if baseline is None or baseline is row:
        return "", ""
    shared = {p.seed for p in row.seeds} & {p.seed for p in baseline.seeds}
    if not shared:
        return "–", "–"
    mean: Callable[[Row], float] = lambda r: statistics.fmean(p.test_wa for p in r.seeds if p.seed in shared)  # noqa: E731
    difference = mean(row) - mean(baseline)
    error = 1.0 - mean(baseline)
    return f"{100 * difference:+.1f}", f"{100 * difference / error:+.1f} %" if error > 0 else "–"
