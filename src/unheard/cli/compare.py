"""`unheard compare`: two runs on the same split side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from unheard.cli.shared import Output


def compare(
    run_a: Path, run_b: Path, /, *, format: Literal["md", "csv", "json"] = "md", output: Output | None = None
) -> None:
    """Put two runs side by side: each system in both, with the difference B - A tested over the test speakers.

    Example: unheard compare runs/emodb runs/emodb-no-dropout

    Refuses runs on different splits, labels or data, saying what differs; other settings that differ are listed.

    Parameters
    ----------
    run_a
        The --out of an experiment.
    run_b
        The --out of another one.
    format
        Markdown, CSV or JSON.
    output
        File to write to instead.
    """
    from unheard.experiments.compare import compare_runs, to_csv, to_json, to_markdown
    from unheard.experiments.records import read_run

    comparison = compare_runs(read_run(run_a), read_run(run_b))
    text = {"md": to_markdown, "csv": to_csv, "json": to_json}[format](comparison)
    if output is None:
        sys.stdout.write(text)
    else:
        from unheard.files import write_text

        write_text(output, text)
