"""`unheard report`: a finished run as a page to read, print and cite."""

from __future__ import annotations

from pathlib import Path

from unheard.cli.shared import Output, say


def report(run: Path, /, *, output: Output | None = None) -> None:
    """Write the report of a run: tables, tests, figures, and the protocol with its proof.

    Example: unheard report RUN -o report

    Writes report.html (one file that needs no network), report.md, tables/ (CSV and LaTeX) and figures/ (SVG). It
    reads the run's folder only: neither the corpus nor a model is needed, and nothing is trained. What is
    slow to make, or made from files that are not published, is kept there: maps.csv, curves.csv, invariance.json.

    Parameters
    ----------
    run
        Folder of the run (the --out of `unheard experiment`).
    output
        Folder to put the report in (default: RUN).
    """
    from unheard.experiments.report import write_report

    print(write_report(run, output, say=say))
