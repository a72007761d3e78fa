"""Predictions as other programs want them: one file a format, each a class with `add`, `failed` and `close`.

A format is imported when it is asked for, so that a first answer is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from unheard.errors import ConfigError, did_you_mean
from unheard.recogniser.formats.base import Job, Sink, Writer

FORMATS = {
    "table": "tables:TableWriter",
    "json": "tables:JsonWriter",
    "jsonl": "tables:JsonlWriter",
    "csv": "tables:CsvWriter",
    "rttm": "annotations:RttmWriter",
    "labelstudio": "annotations:LabelStudioWriter",
}
"""Formats that are one text -> file and class."""

FOLDERS = {"audformat": "audformat:AudformatWriter"}
"""Formats that are a folder."""

__all__ = ["FOLDERS", "FORMATS", "Job", "Sink", "Writer", "writer"]


def writer(format: str, job: Job, sink: Sink | None, output: Path | None = None) -> Writer:
    """The writer for `format`, into `sink` (default: standard output), or into the folder `output`.

    Raises `ConfigError` for an unknown format, and for a folder that was not named.
    """
    if format in FOLDERS and output is None:
        raise ConfigError(f"{format} is a folder of tables", mend="Name one with --output FOLDER.")
    known = FORMATS | FOLDERS
    if format not in known:
        raise ConfigError(f"unknown format '{format}'", mend=did_you_mean(format, known))
    module, _, name = known[format].partition(":")
    kind = getattr(import_module(f"unheard.recogniser.formats.{module}"), name)
    made: Writer = kind(job, output if format in FOLDERS else sink or Sink(sys.stdout))
    return made
