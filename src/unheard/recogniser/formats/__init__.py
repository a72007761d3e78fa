"""Write predictions for other programs: one writer a format, each imported when it is asked for.

Text goes to standard output at once, or to a file that appears whole.
"""

from __future__ import annotations

import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO

from unheard.errors import ConfigError, UnheardError, did_you_mean
from unheard.files import replacing, takes_no_replacement
from unheard.recogniser.prediction import Prediction

FORMATS = {
    "table": "tables:TableWriter",
    "json": "tables:JsonWriter",
    "jsonl": "tables:JsonlWriter",
    "csv": "tables:CsvWriter",
    "rttm": "annotations:RttmWriter",
    "srt": "annotations:SrtWriter",
    "textgrid": "annotations:TextGridWriter",
    "labelstudio": "annotations:LabelStudioWriter",
}
"""Formats that are one text -> file and class."""

FOLDERS = {"audformat": "audformat:AudformatWriter"}
"""Formats that are a folder."""

ENDINGS = {
    "": "table",
    ".txt": "table",
    **{f".{name}": name for name in ("json", "jsonl", "csv", "rttm", "srt", "textgrid")},
}
"""Ending of an output file -> format."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a writer needs to know beforehand: the model's labels, name, version and licence.

    `timeline` asks table and csv for a row a segment; `single`: one recording was named, so that JSON is one object
    instead of a list; `turns`: segments are turns of speakers.
    """

    labels: tuple[str, ...]
    model: str
    version: str = ""
    licence: str = ""
    timeline: bool = False
    single: bool = False
    turns: bool = False


class Writer(ABC):
    """Take predictions one by one; the output is complete after `close`."""

    @abstractmethod
    def add(self, prediction: Prediction) -> None:
        """Write one prediction."""

    def failed(self, file: str, error: UnheardError) -> None:  # noqa: B027 - optional
        """Write that `file` has no prediction, where the format has a place for that."""

    def close(self) -> None:  # noqa: B027 - optional
        """Write the end."""


class Sink:
    """Text that is written at once; bytes of file names that are not Unicode are shown escaped."""

    def __init__(self, stream: IO[str], *, at_once: bool = True) -> None:
        self._stream, self._at_once = stream, at_once
        self.ascii = not takes_all(stream)

    def write(self, text: str) -> None:
        """Write `text`."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        if self._at_once:
            self._stream.flush()


def writer(format: str, job: Job, sink: Sink | None, output: Path | None = None) -> Writer:
    """Return the writer for `format`, into `sink` (default: standard output) or into the folder `output`.

    Raises `ConfigError` for an unknown format and where the folder is missing, `MissingExtra` without the package that
    a format needs.
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


def format_of(output: Path | None) -> str:
    """Return the format that the ending of `output` asks for; raises `ConfigError` for an unknown ending."""
    ending = "" if output is None else output.suffix.lower()
    if ending not in ENDINGS:
        known = " ".join(sorted(filter(None, ENDINGS)))
        raise ConfigError(
            f"no format has the ending '{ending}'", where=output, mend=f"Use one of {known}, or name it with --format."
        )
    return ENDINGS[ending]


def takes_all(stream: IO[str]) -> bool:
    """Return whether `stream` takes every letter; a Windows console or a C locale does not."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


@contextmanager
def sink(output: Path | None) -> Iterator[Sink]:
    """Open standard output, or `output`, which is replaced only when the block ends well.

    After Ctrl-C the answers so far are in `output` with `.partial` appended.
    """
    if output is None:
        yield Sink(sys.stdout)
        return
    with replacing(output) as file:
        try:
            yield Sink(file, at_once=False)
        except KeyboardInterrupt:
            with suppress(OSError):  # such as a full disk
                if not takes_no_replacement(output):  # a pipe or a device
                    file.flush()
                    kept = output.with_name(f"{output.name}.partial")
                    shutil.copyfile(file.name, kept)
                    print(f"unheard: the answers so far are in {kept}", file=sys.stderr)
            raise
