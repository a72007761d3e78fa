"""From a run's folder to its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unheard.errors import MissingExtra
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.summary import Summary, summarise
from unheard.files import write_text
from unheard.report import differences, groups, performance, process, protocol
from unheard.report import embedding_plots as spaces
from unheard.report.content import LAYOUTS, Report
from unheard.report.plots import look_of
from unheard.report.svg import together
from unheard.report.tables import csv_of, latex_like_paper, latex_of, markdown_of

SOMETIMES = {
    "tables": (
        *("differences", "differences-chosen", "differences-classical", "gaps", "epochs", "choice", "invariance"),
        *("recalls", "speakers-wa", "speakers-uar"),
    ),
    "figures": (
        *("differences", "differences-chosen", "differences-classical", "curves", "choice", "tsne", "invariance"),
        *("recalls", "confusion", "speakers"),
    ),
}
"""What a report has only of some runs: tables and figures an earlier report may have left in the folder."""


def write_report(
    run: str | Path, out: str | Path | None = None, *, say: Callable[[str], None] = lambda _: None
) -> Path:
    """Write the report of the run in the folder `run` into `out` (default: the run's own); returns `report.html`.

    Beside it: `report.md`, `tables/*.csv`, `tables/*.tex`, `figures/*.svg`; of an earlier report's those that this one
    has no more are removed. The same run gives the same bytes. Raises
    `RunError` for a folder that holds no run and `MissingExtra` where Jinja2, scikit-learn or scipy are missing.
    """
    records = read_run(run)
    say("Figures, tests and intervals")
    report = compose(records, summarise(records), say)
    folder = Path(records.folder if out is None else out)
    page = html_of(report)  # before anything is written: it may lack its template engine
    for table in report.tables():
        write_text(folder / "tables" / f"{table.name}.csv", csv_of(table))
        paper = table.name == "accuracy"
        write_text(folder / "tables" / f"{table.name}.tex", latex_like_paper(table) if paper else latex_of(table))
    for figure in report.figures():
        write_text(
            folder / "figures" / f"{figure.name}.svg", together(figure.panels, LAYOUTS[figure.layout], figure.caption)
        )
    for place, names in SOMETIMES.items():
        there = {one.name for one in (report.tables() if place == "tables" else report.figures())}
        for gone in (name for name in names if name not in there):
            for path in (folder / place).glob(f"{gone}.*"):
                path.unlink()
    write_text(folder / "report.md", markdown_of(report))
    write_text(folder / "report.html", page)
    return folder / "report.html"


def compose(run: RunRecords, summary: Summary, say: Callable[[str], None] = lambda _: None) -> Report:
    """The content of a run's report."""
    systems = list(dict.fromkeys(line.system for line in run.lines))
    looks = {line.name: look_of(line.system, systems.index(line.system), line.chosen) for line in run.lines}
    genders = {row.get("speaker", ""): row.get("gender", "") for row in run.utterances.values()}
    corpus = protocol.corpus_name(run)
    sections = (
        performance.accuracy(summary, corpus, run.settings.training.select),
        differences.contrasts(summary, looks),
        spaces.embeddings(run, say),
        spaces.invariance(run, say),
        groups.emotions(summary, looks),
        groups.speakers(summary, looks, genders),
        process.curves(run),
        process.knobs(run, looks),
        protocol.protocol(run),
        protocol.proof(run),
    )
    return Report(f"Speech emotion recognition on {corpus}", protocol.describe(run), sections)


# A report as one HTML file that needs nothing else: style and drawings are inside, and nothing is loaded.


def html_of(report: Report) -> str:
    """The page. Words are escaped by the template engine, drawings escape their own.

    Raises `MissingExtra` without Jinja2.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise MissingExtra("jinja2", "train") from error
    room = "unheard.report"
    environment = Environment(
        loader=PackageLoader(room, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source = environment.loader.get_source(environment, "style.css")[0]  # type: ignore[union-attr]
    page: str = environment.get_template("report.html").render(report=report, style=Markup(source), drawn=Markup)
    return page
