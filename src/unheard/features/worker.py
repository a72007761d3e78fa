"""What one process does in building a store: rows in, features appended to a shard of its own.

A shard is a pair of files that only grow: `<name>.f32` takes the features of an utterance, then
`<name>.jsonl` takes one line that commits them. Whatever a killed process leaves behind without its line
does not count, so a resumed build loses at most the utterance in hand.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from unheard.audio import read_recording
from unheard.errors import AudioError, UnreachableError
from unheard.features.analysis import analyse
from unheard.features.matrix import Entry
from unheard.features.settings import FeatureSettings


@dataclass(frozen=True, slots=True)
class Task:
    """One stretch of one recording to be analysed; `key` changes when the file does."""

    key: str
    audio: str
    start: float
    end: float | None
    channel: str


@dataclass(frozen=True, slots=True)
class Place:
    """An entry, and the file and byte where its features lie (None: it has none)."""

    entry: Entry
    file: Path | None = None
    byte: int = 0


class Shard:
    """An append-only pair of files; used as a context manager."""

    def __init__(self, folder: Path, name: str, settings: FeatureSettings) -> None:
        self._settings = settings
        self.path = folder / f"{name}.f32"
        self._data = self.path.open("ab")
        self._log = (folder / f"{name}.jsonl").open("ab")
        self._end = self._data.tell()

    def __enter__(self) -> Shard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._data, self._log):
            try:
                file.close()
            except OSError:  # a full disk: what could not be flushed was never committed
                file.close()

    def add(self, task: Task) -> Place:
        """Analyses one utterance and commits it; bad audio becomes a skipped entry.

        Raises `OSError` where the shard itself cannot be written.
        """
        try:
            recording = read_recording(
                task.audio,
                start=task.start,
                end=task.end,
                sample_rate=self._settings.sample_rate,
                channel=task.channel,
            )
            analysis = analyse(recording.samples, self._settings)
        except AudioError as error:
            status = "failed" if isinstance(error, UnreachableError) else "skipped"  # failures are tried again
            return self._commit(Entry(task.key, status, reason=_with_place(error, task.audio)), b"")
        except Exception as error:  # one recording must never stop a corpus
            reason = f"{task.audio}: unexpected {type(error).__name__}: {error}"
            return self._commit(Entry(task.key, "failed", reason=reason), b"")
        entry = Entry(
            task.key,
            frames=len(analysis.features),
            total=len(analysis.kept),
            voiced=analysis.voiced,
            seconds=round(len(recording.samples) / self._settings.sample_rate, 4),
            audio=recording.digest,
        )
        return self._commit(entry, analysis.features.astype("<f4", copy=False).tobytes())

    def _commit(self, entry: Entry, features: bytes) -> Place:
        byte = self._end
        self._data.write(features)
        self._data.flush()
        self._end += len(features)
        line = {"byte": byte, "crc": zlib.crc32(features), **asdict(entry)}
        self._log.write(json.dumps(line).encode() + b"\n")
        self._log.flush()
        return Place(entry, self.path, byte)


def committed(folder: Path, dim: int) -> Iterator[Place]:
    """The utterances that earlier, interrupted builds committed in `folder`; damaged ones are left out."""
    for log in sorted(folder.glob("*.jsonl")):
        data = log.with_suffix(".f32")
        if not data.exists():
            continue
        with log.open("rb") as lines, data.open("rb") as features:
            for line in lines:
                try:
                    values: dict[str, Any] = json.loads(line)
                    byte, crc = values.pop("byte"), values.pop("crc")
                    entry = Entry(**values)
                except (ValueError, KeyError, TypeError):
                    continue
                features.seek(byte)
                if zlib.crc32(features.read(entry.frames * dim * 4)) == crc:
                    yield Place(entry, data, byte)


def _with_place(error: AudioError, audio: str) -> str:
    return str(error) if error.where else f"{audio}: {error}"


def main() -> None:
    """The worker process: a line of JSON a task on stdin, a line a result on stdout.

    The first line names folder, shard and settings. It ends when stdin does, so no worker outlives a
    parent that was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a decoder that prints must not garble the answers

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    setup = json.loads(sys.stdin.readline())
    try:
        with Shard(Path(setup["folder"]), setup["name"], FeatureSettings.from_dict(setup["settings"])) as shard:
            answer(ready=True)
            for line in sys.stdin:
                place = shard.add(Task(**json.loads(line)))
                answer(entry=asdict(place.entry), byte=place.byte)
    except OSError as error:
        answer(unwritable=f"{error.strerror or error}")
