"""From records to the tables: results.csv, choices.csv, table.md, table.tex."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unheard.experiments.records import Line, RunRecords
from unheard.experiments.selection import KNOBS, choices_csv
from unheard.features.normalise import TRANSDUCTIVE
from unheard.files import write_text
from unheard.splits import default_protocol

COLUMNS = (
    "system", "fold", "seed", "val_wa", "val_uar", "test_wa", "test_uar", "best_epoch", "n_val", "n_test",
    "val_macro_f1", "test_macro_f1", "epochs", "updates", "under_trained", "name", "cell", "options", "normalise",
    "frames_per_second", "train_seconds",
)  # fmt: skip
"""Columns of `results.csv`, timings last. A fold read in both directions is one row, pooled over both."""

VALIDATION = ("val_wa", "val_uar", "val_macro_f1", "n_val")
"""Columns that stay empty where validation would only say the test again, as in the tables."""

FIGURES = (("wa", "dev"), ("wa", "test"), ("uar", "dev"), ("uar", "test"), ("macro_f1", "test"))
"""Figure and part of the table's columns."""

NO_SECOND_OPINION = (
    "No validation figure (–) where each fold is read in both directions and both come to the same network, as they do "
    "when the last epoch is read out: its answers on the same utterances would be counted as validation and as test."
)


def write_tables(run: RunRecords, total_folds: int = 0) -> str:
    """Write the run's results.csv, choices.csv, table.md and table.tex into its folder; returns the table in Markdown.

    Where nothing was chosen there is no choices.csv: one of another call would be read as this one's.
    """
    title = caption(run, total_folds)
    table = table_markdown(run.lines, title)
    write_text(run.folder / "results.csv", results_csv(run))
    if run.choices:
        write_text(run.folder / "choices.csv", choices_csv(run.choices))
    else:
        (run.folder / "choices.csv").unlink(missing_ok=True)
    write_text(run.folder / "table.md", table)
    write_text(run.folder / "table.tex", table_latex(run.lines, title))
    return table


def results_csv(run: RunRecords) -> str:
    """The text of `results.csv`: a row for every finished training, by system, fold, seed and value of its knob."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    twice = {cell.name for line in run.lines if line.judged_twice for seed in line.seeds for cell in seed.cells}
    if run.settings.training.select == "last":  # those of no line too: of incomplete seeds, of values not chosen
        twice |= {cell.name for cell in run.cells if cell.judged_twice}
    for cell in run.cells:
        knob = f"{KNOBS[cell.system].option}={cell.value:g}" if cell.value is not None else ""
        options = knob or cell.result.get("chosen", "")
        normalise = run.settings.normalise  # `speaker` is transductive
        values: dict[str, Any] = {**cell.result, "cell": cell.name, "options": options, "normalise": normalise}
        if cell.name in twice:  # no second opinion
            values = {name: value for name, value in values.items() if name not in VALIDATION}
        writer.writerow([_written(values.get(name, "")) for name in COLUMNS])
    return text.getvalue()


def _written(value: object) -> object:
    return f"{value:.6f}" if isinstance(value, float) else value


def caption(run: RunRecords, total_folds: int = 0) -> str:
    """One line that says what the tables of `run` are about; `total_folds` are those its protocol has."""
    settings = run.settings
    source = settings.corpus or Path(settings.manifest).name
    protocol, folds = settings.protocol or default_protocol(settings.corpus)[0], len(run.folds)
    of_all = f" of {total_folds}" if total_folds > folds else ""
    seeds = max(line.wanted for line in run.lines) // folds
    marks = f", {TRANSDUCTIVE}" if settings.normalise == "speaker" else ""
    return (
        f"{source}: {len(run.utterances)} utterances, {len({u['speaker'] for u in run.utterances.values()})} speakers, "
        f"{', '.join(run.labels)}; protocol {protocol}, {folds}{of_all} fold{'s' * (max(folds, total_folds) > 1)}, "
        f"{seeds} seed{'s' * (seeds > 1)}, {settings.epochs} epochs{marks}"
    )


def table_markdown(lines: Sequence[Line], caption: str) -> str:
    """The table that compares the systems, in Markdown."""
    heads = ["System", "Val WA", "Test WA", "Val UAR", "Test UAR", "Macro-F1", "Δ WA", "RERR", "Cells"]
    written = [
        caption,
        "",
        "| " + " | ".join(heads) + " |",
        "|---|" + "---:|" * (len(heads) - 1),
    ]
    for line in lines:
        figures = [_cell(line, figure, part) for figure, part in FIGURES]
        delta, relative = against_baseline(line, lines)
        cells = [*figures, delta, relative, f"{line.done}/{line.wanted}"]
        written.append(f"| {line.name} | " + " | ".join(cells) + " |")
    written += [
        "",
        "WA: plain accuracy, UAR: mean recall over emotions, in percent; each pooled over the folds' single test "
        "predictions, then mean ± sample standard deviation over seeds (– for one seed). Δ WA: points over SER_only, "
        "over the seeds both have; RERR: relative error-rate reduction. Cells n/N where a system is incomplete: "
        "incomplete seeds are not averaged.",
    ]
    if any(line.judged_twice for line in lines):
        written.append(NO_SECOND_OPINION)
    if any(line.chosen for line in lines):
        written.append(
            "λ and ε: fixed beforehand, and beside it chosen by each fold's own validation speakers on seed 0 (see "
            "choices.csv)."
        )
    return "\n".join([*written, ""])


def table_latex(lines: Sequence[Line], caption: str) -> str:
    """The same in LaTeX (booktabs), in the layout of the paper's Tables 2 and 3."""

    special = {c: rf"\{c}" for c in "_%&#${}"} | {
        "λ": r"$\lambda$",
        "ε": r"$\epsilon$",
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
    }

    def escaped(text: str) -> str:
        return "".join(special.get(character, character) for character in text)

    written = [
        r"\begin{table}",
        rf"\caption{{{escaped(caption)}}}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & Val & Test \\",
        r"\midrule",
        *(
            rf"{escaped(line.name)} & {escaped(_cell(line, 'wa', 'dev'))} & {escaped(_cell(line, 'wa', 'test'))} \\"
            for line in lines
        ),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(written) + "\n"


def _cell(line: Line, figure: str, part: str) -> str:
    if part == "dev" and line.judged_twice:
        return "–"
    mean, std = line.over_seeds(figure, part)
    if math.isnan(mean):
        return f"{line.done}/{line.wanted}"
    return f"{100 * mean:.1f} ± " + ("–" if math.isnan(std) else f"{100 * std:.1f}")


def against_baseline(line: Line, lines: Sequence[Line]) -> tuple[str, str]:
    """Difference to SER_only in points of test WA, and as relative error-rate reduction, over the seeds both have."""
    baseline = next((other for other in lines if other.system == "ser"), None)
    if baseline is None or baseline is line:
        return "", ""
    shared = {s.seed for s in line.seeds} & {s.seed for s in baseline.seeds}
    if not shared:
        return "–", "–"
    own, theirs = (statistics.fmean(s.test.wa for s in one.seeds if s.seed in shared) for one in (line, baseline))
    difference, error = own - theirs, 1.0 - theirs
    fewer = len(shared) < max(len(line.seeds), len(baseline.seeds))
    few = f" ({len(shared)} seed{'s' * (len(shared) > 1)})" if fewer else ""
    return f"{100 * difference:+.1f}{few}", f"{100 * difference / error:+.1f} %" if error > 0 else "–"
