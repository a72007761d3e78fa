"""A feature store on disk: one memory-mapped matrix and an index, for one setting.

    FOLDER/store.json           settings, digests, and the names of the two files below
    FOLDER/features-<hash>.f32  float32, little-endian, (all frames, F), in the order of the last manifest, then others
    FOLDER/index-<hash>.csv     a row an utterance: where it lies, how long it is, or why it was skipped

`store.json` is written last and by renaming, so a store is either there or not.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unheard.errors import FeatureError
from unheard.features.settings import FeatureSettings

FORMAT = 1
DESCRIPTION = "store.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One utterance of a store. `status` is `ok`, `skipped` (its audio is bad) or `failed` (unexpectedly).

    `offset` and `frames` are rows of the matrix, `total` the frames before VAD, `voiced` those it found;
    `audio` is the digest of the decoded samples; `key` says which stretch of which file it was, by the
    file itself, its size and its time of change; `reason` is why there are no features.
    """

    key: str
    status: str = "ok"
    offset: int = 0
    frames: int = 0
    total: int = 0
    voiced: int = 0
    seconds: float = 0.0
    audio: str = ""
    reason: str = ""


ENTRY_FIELDS = tuple(field.name for field in fields(Entry))


class FeatureStore:
    """The features of a corpus, opened: `store[id]` is a read-only view (T, F) of the memory-mapped matrix.

    Only the folder travels when a store is pickled. `skipped` gives the reason for every utterance that has
    no features; `unvoiced` are those without a voiced frame, kept whole.
    """

    def __init__(self, folder: str | Path) -> None:
        """Opens the store in `folder`; raises `FeatureError` where none is complete."""
        self.folder = Path(folder)
        described = self._describe()
        while not all((self.folder / described[name]).exists() for name in ("index", "matrix")):
            again = self._describe()  # another process has put a new one in its place meanwhile
            if again == described:
                break
            described = again
        self.settings = FeatureSettings.from_dict(described["settings"])
        self.dim: int = self.settings.dim
        self.settings_digest: str = described["settings_digest"]
        """What the settings' digest was in the version that made the store."""
        self.digest: str = described["digest"]
        """A hash of the matrix: equal digests are equal features."""
        self.manifest_digest: str = described["manifest"]
        self.entries = self._read_index(described["index"])
        present = [(name, entry) for name, entry in self.entries.items() if entry.status == "ok"]
        self.ids: tuple[str, ...] = tuple(name for name, _ in present)
        self.offsets: npt.NDArray[np.int64] = np.array([entry.offset for _, entry in present], np.int64)
        self.lengths: npt.NDArray[np.int64] = np.array([entry.frames for _, entry in present], np.int64)
        self.audio_digest: dict[str, str] = {name: entry.audio for name, entry in present}
        self.skipped: dict[str, str] = {
            name: entry.reason for name, entry in self.entries.items() if entry.status != "ok"
        }
        self.unvoiced: tuple[str, ...] = tuple(
            name for name, entry in present if not entry.voiced and self.settings.vad != "none"
        )
        self.matrix_path = self.folder / described["matrix"]
        self.matrix = self._map(described["frames"])

    @classmethod
    def open(cls, folder: str | Path) -> FeatureStore:
        """The store in `folder`; raises `FeatureError` where none is complete."""
        return cls(folder)

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[str]]:
        return FeatureStore, (str(self.folder),)

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        entry = self.entries.get(name)
        if entry is None or entry.status != "ok":
            why = f"was skipped: {entry.reason}" if entry else "is not in this store"
            raise FeatureError(
                f"utterance '{name}' {why}", where=self.folder, mend="Build the store from this manifest."
            )
        return self.matrix[entry.offset : entry.offset + entry.frames]

    def __contains__(self, name: object) -> bool:
        entry = self.entries.get(name) if isinstance(name, str) else None
        return entry is not None and entry.status == "ok"

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.folder)!r}: {self.summary()})"

    def summary(self) -> str:
        """One line for people: utterances, duration, frames kept, and what was left out and why."""
        present = [entry for entry in self.entries.values() if entry.status == "ok"]
        total, kept = sum(entry.total for entry in present), len(self.matrix)
        hours = sum(entry.seconds for entry in present) / 3600
        parts = [
            f"{len(present):,} utterances ({hours:.2f} h)",
            f"{kept:,} of {total:,} frames kept ({100 * kept / max(total, 1):.0f} %)",
        ]
        if self.unvoiced:
            parts.append(f"{len(self.unvoiced):,} without a voiced frame kept whole")
        if self.skipped:
            why = Counter(_short(reason) for reason in self.skipped.values()).most_common(4)
            parts.append(f"{len(self.skipped):,} skipped ({', '.join(f'{count} {word}' for word, count in why)})")
        return ", ".join(parts)

    def _describe(self) -> dict[str, Any]:
        path = self.folder / DESCRIPTION
        build = "Build it with: unheard features MANIFEST -o STORE"
        try:
            described = json.loads(path.read_text("utf-8"))
            version = described["format"]
            if version == FORMAT:
                for name in ("settings", "settings_digest", "manifest", "digest", "index", "matrix"):
                    described[name]
        except FileNotFoundError:
            raise FeatureError("there is no complete feature store here", where=self.folder, mend=build) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FeatureError(
                f"the description of this store cannot be read ({error})",
                where=path,
                mend="Delete the folder and build it again.",
            ) from None
        if version != FORMAT:
            raise FeatureError(
                f"this store has format {version}, this version of unheard writes {FORMAT}",
                where=self.folder,
                mend="Build it again in another folder.",
            )
        checked: dict[str, Any] = described
        return checked

    def _read_index(self, name: str) -> dict[str, Entry]:
        path = self.folder / name
        try:
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = csv.reader(file)
                if tuple(next(rows)) != ("id", *ENTRY_FIELDS):
                    raise ValueError("unexpected columns")
                return {row[0]: _entry(row) for row in rows}
        except (OSError, ValueError, IndexError, StopIteration) as error:
            raise FeatureError(
                f"the index of this store is damaged ({error})",
                where=path,
                mend="Delete the folder and build it again.",
            ) from None

    def _map(self, frames: int) -> npt.NDArray[np.float32]:
        expected = frames * self.dim * 4
        size = self.matrix_path.stat().st_size if self.matrix_path.exists() else -1
        if size != expected:
            raise FeatureError(
                f"the matrix of this store is {'missing' if size < 0 else f'{size} bytes, not {expected}'}",
                where=self.matrix_path,
                mend="Delete the folder and build it again.",
            )
        if not frames:
            empty = np.zeros((0, self.dim), np.float32)
            empty.flags.writeable = False
            return empty
        mapped = np.memmap(self.matrix_path, dtype="<f4", mode="r", shape=(frames, self.dim))
        return np.asarray(mapped)  # a plain view: slices of np.memmap itself cost several times more


def _entry(row: list[str]) -> Entry:
    offset, frames, total, voiced = map(int, row[3:7])
    return Entry(row[1], row[2], offset, frames, total, voiced, float(row[7]), row[8], row[9])


def _short(reason: str) -> str:
    """The part of a reason that many utterances share."""
    words = {
        "no such file": "missing",
        "empty": "empty",
        "too short": "too short",
        "not numbers": "not finite",
        "cut short": "cut short",
        "breaks off": "cut short",
        "conversion": "need a conversion",
        "no audio": "no audio",
    }
    return next((short for part, short in words.items() if part in reason), "other")


def entry_row(name: str, entry: Entry) -> list[Any]:
    """One row of the index."""
    return [name, *asdict(entry).values()]
