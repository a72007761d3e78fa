"""Predictions as other programs want them: one file a format, each a class with `add`, `failed` and `close`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from unheard.errors import ConfigError, did_you_mean
from unheard.inference.formats.audformat import AudformatWriter
from unheard.inference.formats.base import Job, Writer
from unheard.inference.formats.csv import CsvWriter
from unheard.inference.formats.json import JsonlWriter, JsonWriter
from unheard.inference.formats.labelstudio import LabelStudioWriter
from unheard.inference.formats.rttm import RttmWriter
from unheard.inference.formats.sink import Sink
from unheard.inference.formats.table import TableWriter

FORMATS: dict[str, Callable[[Job, Sink], Writer]] = {
    "table": TableWriter,
    "json": JsonWriter,
    "jsonl": JsonlWriter,
    "csv": CsvWriter,
    "rttm": RttmWriter,
    "labelstudio": LabelStudioWriter,
}
"""Formats that are one text."""

FOLDERS: dict[str, Callable[[Job, Path], Writer]] = {"audformat": AudformatWriter}
"""Formats that are a folder."""

__all__ = ["FOLDERS", "FORMATS", "Job", "Sink", "Writer", "writer"]


def writer(format: str, job: Job, sink: Sink | None, output: Path | None = None) -> Writer:
    """The writer for `format`, into `sink` (default: standard output), or into the folder `output`.

    Raises `ConfigError` for an unknown format, and for a folder that was not named.
    """
    if format in FOLDERS:
        if output is None:
            raise ConfigError(f"{format} is a folder of tables", mend="Name one with --output FOLDER.")
        return FOLDERS[format](job, output)
    if format not in FORMATS:
        raise ConfigError(f"unknown format '{format}'", mend=did_you_mean(format, [*FORMATS, *FOLDERS]))
    return FORMATS[format](job, sink or Sink(sys.stdout))
