"""From records to the table of a run, and tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from unheard.experiments.records import RunRecords
from unheard.experiments.summary import Line, baseline_of, hardly_trained, single_class
from unheard.features.normalise import TRANSDUCTIVE
from unheard.files import write_text
from unheard.splits import default_protocol

FIGURES = (("wa", "dev"), ("wa", "test"), ("uar", "dev"), ("uar", "test"), ("macro_f1", "test"))
"""Figure and part of the table's columns."""

REPEATED = (
    "No validation figure (–) where both directions of each fold use the same network, as they do when the last epoch "
    "is evaluated: the same predictions would count as validation and as test."
)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table whose first `left` columns are aligned left, the others right."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * left + "---:|" * (len(heads) - left)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def write_table(run: RunRecords, total_folds: int = 0) -> str:
    """Write the run's table.md; return it."""
    table = table_markdown(run.lines, caption(run, total_folds))
    write_text(run.folder / "table.md", table)
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
    rows = [
        [
            line.name,
            *(_cell(line, figure, part) for figure, part in FIGURES),
            *against_baseline(line, lines),
            f"{line.done}/{line.wanted}",
        ]
        for line in lines
    ]
    written = [
        caption,
        "",
        markdown_table(heads, rows),
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
            "λ and ε: fixed beforehand, and chosen on each fold's own validation speakers, seed 0 (see the report)."
        )
    cautions = filter(None, (single_class(lines), hardly_trained(lines)))
    written += [word for caution in cautions for word in ("", f"**Note.** {caution}")]
    return "\n".join([*written, ""])


def _cell(line: Line, figure: str, part: str) -> str:
    spread = line.over_seeds(figure, part)
    return str(spread) if spread.values or line.seeds else f"{line.done}/{line.wanted}"


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
