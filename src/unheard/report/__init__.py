"""The report of a run: one self-contained HTML page, the same in Markdown, and figures and tables for a paper.

records, statistics -> content (sections of text, tables, figures) -> HTML, Markdown, LaTeX, SVG, PDF, PNG
"""

from functools import partial
from pathlib import Path

from unheard.errors import Say, silent
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.summary import Summary, summarise
from unheard.files import write_text, write_whole
from unheard.report import embedding_plots, protocol, results
from unheard.report.content import Figure, Report, Table, html_of, latex_of, markdown_of
from unheard.report.plots import look_of, write_figure

__all__ = ["compose", "write_report"]

KINDS = ("svg", "pdf", "png")  # formats of the figures

LATEX = ("accuracy", "differences", "invariance")
"""Tables exported for a paper, together with those whose name continues with a hyphen."""


def write_report(run: str | Path, out: str | Path | None = None, *, say: Say = silent) -> Path:
    """Write the report of the run in folder `run` into `out` (default: the run's folder); return `report.html`.

    Also writes `report.md`, `tables/*.tex`, and `figures/` as SVG, PDF and PNG. Outdated files of an earlier report are
    removed. The same run gives the same bytes. Raises `RunError` for a folder without a run, and `MissingExtra` if
    Jinja2, matplotlib, scikit-learn or scipy is missing.
    """
    records = read_run(run)
    say("Figures, tests and intervals")
    report = compose(records, summarise(records), say)
    folder = Path(records.folder if out is None else out)
    texts = {"report.md": markdown_of(report), "report.html": html_of(report)}
    tables = [block for block in report.blocks() if isinstance(block, Table) and block.name.partition("-")[0] in LATEX]
    texts |= {f"tables/{table.name}.tex": latex_of(table) for table in tables}
    drawings = [block for block in report.blocks() if isinstance(block, Figure)]
    figures = {f"figures/{figure.name}.{kind}": (figure.drawing, kind) for figure in drawings for kind in KINDS}
    for name in (*LATEX, "gaps", "curves", "choice", "tsne", "recalls", "confusion", "speakers"):
        for path in (*folder.glob(f"tables/{name}*.tex"), *folder.glob(f"figures/{name}*.*")):
            if path.relative_to(folder).as_posix() not in {*texts, *figures}:
                path.unlink()
    for name, (drawing, kind) in figures.items():
        write_whole(folder / name, partial(write_figure, drawing, kind=kind))
    for name, text in texts.items():
        write_text(folder / name, text)
    return folder / "report.html"


def compose(run: RunRecords, summary: Summary, say: Say = silent) -> Report:
    """Return the content of a run's report."""
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
        protocol.trainings(run),
        protocol.chosen(run),
        protocol.protocol(run),
        protocol.proof(run),
    )
    title = f"Speech emotion recognition on {corpus}"
    return Report(title, protocol.describe(run), results.headline(summary), sections)
