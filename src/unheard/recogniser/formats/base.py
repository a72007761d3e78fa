"""What every format has to offer, and what it is told beforehand."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from unheard.errors import UnheardError
from unheard.files import replacing, takes_no_replacement
from unheard.recogniser.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Job:
    """What is about to be written: the model's `labels`, name and licence, and how.

    `timeline` asks the formats that have a choice (table, csv) for a row a segment; `single`: one recording was named,
    and gets one answer instead of a list of one.
    """

    labels: tuple[str, ...]
    model: str
    version: str = ""
    licence: str = ""
    timeline: bool = False
    single: bool = False


class Writer(Protocol):
    """Takes predictions one by one; what it wrote is complete after `close`."""

    def add(self, prediction: Prediction) -> None:
        """Write one prediction."""

    def failed(self, file: str, error: UnheardError) -> None:
        """Write that `file` has none, where the format has a place for that."""

    def close(self) -> None:
        """Write what is left."""


# Where text goes: standard output line by line, or a file that appears whole.


def takes_all(stream: IO[str]) -> bool:
    """Whether every letter can be written to `stream`; not so on a Windows console, or in a C locale."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


class Sink:
    """Text that goes out as soon as it is written; bytes of file names that are no Unicode are shown escaped."""

    def __init__(self, stream: IO[str], *, at_once: bool = True) -> None:
        self._stream, self._at_once = stream, at_once
        self.ascii = not takes_all(stream)

    def write(self, text: str) -> None:
        """Write `text`."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        if self._at_once:
            self._stream.flush()


@contextmanager
def sink(output: Path | None) -> Iterator[Sink]:
    """Standard output, or `output`, which takes its place only when the block ends well.

    Of a block that is interrupted there is `output` with `.partial` behind it.
    """
    if output is None:
        yield Sink(sys.stdout)
    else:
        with replacing(output) as file:
            try:
                yield Sink(file, at_once=False)
            except KeyboardInterrupt:
                with suppress(OSError):  # as of a full disk: stopping is what was asked for
                    _keep(file, output)
                raise


def _keep(file: IO[str], output: Path) -> None:
    """What is written so far, beside `output`; a pipe or a device has no beside."""
    if not takes_no_replacement(output):
        file.flush()
        kept = output.with_name(f"{output.name}.partial")
        shutil.copyfile(file.name, kept)
        print(f"unheard: what was answered until then is in {kept}", file=sys.stderr)
