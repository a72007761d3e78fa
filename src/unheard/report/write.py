"""From a run's folder to its report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.summary import Summary, summarise
from unheard.files import write_text, write_whole
from unheard.report import embedding_plots, protocol, results, training
from unheard.report.content import Report
from unheard.report.formats import html_of, latex_of, markdown_of
from unheard.report.plots import look_of, write_figure

LATEX = ("accuracy", "differences", "invariance")
"""Tables that a paper prints, and those named after them with a hyphen."""


def write_report(
    run: str | Path, out: str | Path | None = None, *, say: Callable[[str], None] = lambda _: None
) -> Path:
    """Write the report of the run in folder `run` into `out` (default: the run's own); return `report.html`.

    Beside it: `report.md`, `tables/*.tex`, and `figures/` as SVG, PDF and PNG. Files that an earlier report left there
    and this one lacks are removed. The same run gives the same bytes. Raises `RunError` for a folder without a run and
    `MissingExtra` where Jinja2, matplotlib, scikit-learn or scipy are missing.
    """
    records = read_run(run)
    say("Figures, tests and intervals")
    report = compose(records, summarise(records), say)
    folder = Path(records.folder if out is None else out)
    files = {folder / "report.md": markdown_of(report), folder / "report.html": html_of(report)}
    printed = [table for table in report.tables() if table.name.partition("-")[0] in LATEX]
    files |= {folder / "tables" / f"{table.name}.tex": latex_of(table) for table in printed}
    figures = {
        folder / "figures" / f"{f.name}.{kind}": (f, kind) for f in report.figures() for kind in ("svg", "pdf", "png")
    }
    for known in (*LATEX, "gaps", "curves", "choice", "tsne", "recalls", "confusion", "speakers"):
        for path in (*(folder / "tables").glob(f"{known}*.tex"), *(folder / "figures").glob(f"{known}*.*")):
            if path not in files and path not in figures:
                path.unlink()
    for path, (figure, kind) in figures.items():
        write_whole(path, partial(write_figure, figure.drawing, kind=kind))
    for path, text in files.items():
        write_text(path, text)
    return folder / "report.html"


def compose(run: RunRecords, summary: Summary, say: Callable[[str], None] = lambda _: None) -> Report:
    """Compose the content of a run's report."""
    systems = list(dict.fromkeys(line.system for line in run.lines))
    looks = {line.name: look_of(line.system, systems.index(line.system), line.chosen) for line in run.lines}
    genders = {row.get("speaker", ""): row.get("gender", "") for row in run.utterances.values()}
    corpus = protocol.corpus_name(run)
    sections = (
        results.accuracy(summary, corpus, run.settings.training.select),
        results.contrasts(summary, looks),
        embedding_plots.embeddings(run, say),
        embedding_plots.leakage(run, say),
        results.emotions(summary, looks),
        results.speakers(summary, looks, genders),
        training.trainings(run),
        training.knobs(run),
        protocol.protocol(run),
        protocol.proof(run),
    )
    title = f"Speech emotion recognition on {corpus}"
    return Report(title, protocol.describe(run), results.headline(summary), sections)
