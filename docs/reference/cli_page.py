"""mkdocs hook: generate `reference/cli.md` from the verbs' `--help`."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from typing import Any

from mkdocs.structure.files import File, Files

from unheard.cli import VERBS, main


def on_files(files: Files, config: Any) -> Files:
    """Add the page to the site's files."""
    os.environ["COLUMNS"] = "110"  # the width rich writes for
    parts = ["# Command line", "Generated from `unheard COMMAND --help`."]
    for verb, (_, summary) in VERBS.items():
        text = io.StringIO()
        with redirect_stdout(text):
            main([verb, "--help"])
        lines = "\n".join(line.rstrip() for line in text.getvalue().splitlines())
        parts += [f"## {verb}", summary, f"```text\n{lines.strip()}\n```"]
    files.append(File.generated(config, "reference/cli.md", content="\n\n".join(parts) + "\n"))
    return files
