"""From records to the tables of a run: table.md, table.tex, choices.csv."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from unheard.experiments.records import Line, RunRecords, baseline_of
from unheard.experiments.selection import choices_csv
from unheard.features.normalise import TRANSDUCTIVE
from unheard.files import write_text
from unheard.splits import default_protocol

FIGURES = (("wa", "dev"), ("wa", "test"), ("uar", "dev"), ("uar", "test"), ("macro_f1", "test"))
"""Figure and part of the table's columns."""

REPEATED = (
    "No validation figure (–) where both directions of each fold use the same network, as they do when the last epoch "
    "is evaluated: the same predictions would count as validation and as test."
)


def write_tables(run: RunRecords, total_folds: int = 0) -> str:
    """Write the run's table.md, table.tex and, if λ or ε was chosen, choices.csv; return the table in Markdown."""
    title = caption(run, total_folds)
    table = table_markdown(run.lines, title)
    if run.choices:
        write_text(run.folder / "choices.csv", choices_csv(run.choices))
    else:
        (run.folder / "choices.csv").unlink(missing_ok=True)
    write_text(run.folder / "table.md", table)
    write_text(run.folder / "table.tex", table_latex(run.lines, title))
    return table


def caption(run: RunRecords, total_folds: int = 0) -> str:
    """Describe a run in one line; `total_folds` is the number of folds of its protocol."""
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
    """Return the table of the systems in Markdown."""
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
    if any(line.evaluation for line in lines):
        written.append(
            "Each network is evaluated twice with the same weights: as written, and with the statistics of batch norm "
            "re-estimated on the training utterances without dropout. Δ WA is over SER_only under the same evaluation."
        )
    if any(line.judged_twice for line in lines):
        written.append(REPEATED)
    if any(line.chosen for line in lines):
        written.append(
            "λ and ε: fixed beforehand, and chosen on each fold's own validation speakers, seed 0 (see choices.csv)."
        )
    return "\n".join([*written, ""])


def table_latex(lines: Sequence[Line], caption: str) -> str:
    """Return the table in LaTeX (booktabs), in the layout of the paper's Tables 2 and 3."""
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
    """Return the difference to SER_only in points of test WA and as relative error-rate reduction."""
    baseline = baseline_of(line, lines)
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
