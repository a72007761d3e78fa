"""The feature store: the features of a corpus for one choice of settings, in one memory-mapped matrix.

    manifest -> missing utterances -> worker processes -> a partial file -> the matrix in the manifest's order

    FOLDER/store.json           settings, digests, and the names of the two files below
    FOLDER/features-<hash>.bin  little-endian, (all frames, F): the utterances of the last manifest, then others
    FOLDER/index-<hash>.csv     one row per utterance: its position and length, or why it was skipped

`store.json` is written last and renamed into place, so a store is either complete or absent. Features are reused from
the store and from the partial files of interrupted builds if the segment, the file, its size and its modification time
are unchanged.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from unheard.audio import read_recording
from unheard.errors import AudioError, FeatureError, UnreachableError, counted
from unheard.features.analysis import analyse, as_they_are, frames_in
from unheard.features.changes import changed
from unheard.features.encoder import encoder_of, resolve
from unheard.features.kaldi import pitch_library
from unheard.features.settings import FeatureSettings
from unheard.files import locked, write_json
from unheard.manifest import Manifest
from unheard.parallel import Died, available_cores, map_unordered, progress_bar

FORMAT = 1
DESCRIPTION = "store.json"
FAILED = "failed"

logger = logging.getLogger("unheard")

_CHUNK = 16  # recordings a worker takes at a time
_FEW = 64  # recordings per process; with fewer, another process costs more than it saves
_MOST_ENCODERS = 8  # processes that each hold an encoder in memory


@dataclass(frozen=True, slots=True)
class Entry:
    """One utterance of a store. `status` is `ok`, `skipped` (unusable audio) or `failed` (unexpected; tried again).

    `offset` and `frames` locate the features in rows of their file. `total` counts the frames before VAD, `voiced` the
    voiced ones. `audio` is the digest of the decoded samples. `key` identifies the segment by file, size and
    modification time. `reason` says why there are no features.
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


_COLUMNS = ("id", *(field.name for field in fields(Entry)))


class _Segment(NamedTuple):
    key: str
    audio: str
    start: float
    end: float | None
    channel: str


_Stored: TypeAlias = tuple[Entry, Path]  # an entry, and the file with its features


class FeatureStore:
    """An open feature store: `store[id]` is a read-only view (T, F) of the memory-mapped matrix.

    Pickling a store stores only its folder. `skipped` maps every utterance without features to the reason. `unvoiced`
    lists the utterances without voiced frames, whose frames are all kept.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open the store in `folder`; raises `FeatureError` if it is incomplete or damaged."""
        self.folder = Path(folder)
        described = self._described()
        if not all((self.folder / described[name]).exists() for name in ("index", "matrix")):
            described = self._described()  # another process may have replaced the files meanwhile
        self.settings = FeatureSettings.from_dict(described["settings"])
        self.dim: int = self.settings.dim
        self.digest: str = described["digest"]
        """A hash of the matrix: equal digests mean equal features."""
        self.entries = _read_index(self.folder / described["index"])
        present = {name: entry for name, entry in self.entries.items() if entry.status == "ok"}
        self.ids: tuple[str, ...] = tuple(present)
        self.audio_digest = {name: entry.audio for name, entry in present.items()}
        self.skipped = {name: entry.reason for name, entry in self.entries.items() if entry.status != "ok"}
        quiet = [name for name, entry in present.items() if not entry.voiced]
        self.unvoiced = tuple(quiet) if self.settings.vad != "none" else ()
        self.matrix_path = self.folder / described["matrix"]
        self.matrix = self._map(described["frames"])

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[str]]:
        return FeatureStore, (str(self.folder),)

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        entry = self.entries.get(name)
        if entry is None or entry.status != "ok":
            why = f"was skipped: {entry.reason}" if entry else "is not in this store"
            mend = "Build the store from this manifest."
            raise FeatureError(f"utterance '{name}' {why}", where=self.folder, mend=mend)
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
        """Return one line: utterances, duration, frames kept, and the number of skipped utterances by reason."""
        present = [entry for entry in self.entries.values() if entry.status == "ok"]
        total, kept = sum(entry.total for entry in present), len(self.matrix)
        hours, share = sum(entry.seconds for entry in present) / 3600, 100 * kept / max(total, 1)
        parts = [f"{counted(len(present), 'utterance')} ({hours:.2f} h)"]
        parts.append(f"{kept:,} of {total:,} frames kept ({share:.0f} %)")
        if self.unvoiced:
            parts.append(f"{len(self.unvoiced):,} without a voiced frame kept whole")
        if self.skipped:
            why = Counter(_short(reason) for reason in self.skipped.values()).most_common(4)
            parts.append(f"{len(self.skipped):,} skipped ({', '.join(f'{count} {word}' for word, count in why)})")
        return ", ".join(parts)

    def _described(self) -> dict[str, Any]:
        path = self.folder / DESCRIPTION
        try:
            described: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if described["format"] != FORMAT:
                what = f"this store has format {described['format']}, this version of unheard writes {FORMAT}"
                raise FeatureError(what, where=self.folder, mend="Build it again in another folder.")
            return {name: described[name] for name in ("settings", "digest", "index", "matrix", "frames")}
        except FileNotFoundError:
            mend = "Build it with: unheard features MANIFEST -o STORE"
            raise FeatureError("there is no complete feature store here", where=self.folder, mend=mend) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, f"the description of this store cannot be read ({error})") from None

    def _map(self, frames: int) -> npt.NDArray[np.float32]:
        expected = frames * self.dim * 4
        size = self.matrix_path.stat().st_size if self.matrix_path.exists() else -1
        if size != expected:
            state = "missing" if size < 0 else f"{size} bytes, not {expected}"
            raise _damaged(self.matrix_path, f"the matrix of this store is {state}")
        if not frames:
            return np.broadcast_to(np.float32(0), (0, self.dim))
        # A plain view: slices of np.memmap itself cost several times more.
        return np.asarray(np.memmap(self.matrix_path, dtype="<f4", mode="r", shape=(frames, self.dim)))


def _read_index(path: Path) -> dict[str, Entry]:
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.reader(file)
            if tuple(next(rows)) != _COLUMNS:
                raise ValueError("unexpected columns")
            return {
                name: Entry(key, status, int(offset), int(frames), int(total), int(voiced), float(s), audio, why)
                for name, key, status, offset, frames, total, voiced, s, audio, why in rows
            }
    except (OSError, ValueError, TypeError, StopIteration) as error:
        raise _damaged(path, f"the index of this store is damaged ({error})") from None


def build_store(
    manifest: Manifest,
    folder: str | Path,
    settings: FeatureSettings | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> FeatureStore:
    """Build, complete or open the feature store of `manifest` in `folder`.

    In a new folder, the same manifest, audio and settings give the same bytes for any number of `workers` (default: one
    per core, fewer for small corpora) and of interruptions. Other utterances of an existing store are kept, after those
    of the manifest. An utterance whose audio is unusable or shorter than one frame is listed in `skipped`; one that
    failed unexpectedly is tried again by the next call. Raises `FeatureError` for a folder that has other settings, is
    being built by another process or cannot be written, and for pitch without kaldi-native-fbank.
    """
    settings, folder = resolve(settings or FeatureSettings()), Path(folder)
    if not len(manifest):
        raise FeatureError("the manifest has no utterances", mend="Check how it was made or selected.")
    segments, store = _segments(manifest, settings), _existing(folder, settings)
    if store is not None and _complete(store, segments, failures_too=not os.access(folder, os.W_OK)):
        return store
    if settings.needs_pitch:
        pitch_library()  # without it every recording would fail
    if settings.kind == "encoder":
        encoder_of(settings.encoder, settings.layer, settings.encoder_digest)  # raises once, not for every recording
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, "building this store", FeatureError):
            store = _existing(folder, settings)  # another process may have completed it meanwhile
            if store is None or not _complete(store, segments):
                _fill(store, folder, settings, segments, workers, progress)
    except OSError as error:
        mend = "Free some space or choose another folder, then run this again: finished work is kept."
        raise FeatureError(f"cannot be written: {error.strerror or error}", where=folder, mend=mend) from None
    store = FeatureStore(folder)
    if progress and sys.stderr.isatty():
        print(store.summary(), file=sys.stderr)
    elif store.skipped or store.unvoiced:
        logger.warning("%s: %s", folder, store.summary())
    return store


def copy_folder(store: Path, copy: int) -> Path:
    """Return the folder of the store with augmented copy `copy` (1, 2, ...) of the recordings in the folder `store`."""
    return store / f"copy{copy}"


def _segments(manifest: Manifest, settings: FeatureSettings) -> dict[str, _Segment]:
    """Return id -> segment for every row; for precomputed frames, the segment is their file."""
    state: dict[str, str] = {}
    segments = {}
    for row in manifest:
        audio, start, end = row.audio, float(row.start), None if row.end is None else float(row.end)
        if settings.kind == "npy":
            audio, start, end = str(Path(settings.folder) / f"{row.id}.npy"), 0.0, None
        if audio not in state:
            try:
                stat = os.stat(audio)  # noqa: PTH116 - a Path for each of a million rows is slow
                # with the inode, since files that are swapped keep their size and modification time
                state[audio] = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
            except (OSError, ValueError):
                state[audio] = "absent"
        parts = "".join(f"{part!r}\n" for part in (audio, state[audio], start, end, row.channel))
        key = blake2b(parts.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        segments[row.id] = _Segment(key, audio, start, end, row.channel)
    return segments


def _existing(folder: Path, settings: FeatureSettings) -> FeatureStore | None:
    if not (folder / DESCRIPTION).exists():
        return None
    store = FeatureStore(folder)
    if store.settings == settings:
        return store
    ours, theirs = settings.as_dict(), store.settings.as_dict()
    differing = ", ".join(f"{n}: {theirs[n]}, not {ours[n]}" for n in ours if ours[n] != theirs[n])
    what = f"this store was made with other settings ({differing})"
    raise FeatureError(what, where=folder, mend="Choose another folder, or delete this one.")


def _complete(store: FeatureStore, segments: Mapping[str, _Segment], failures_too: bool = False) -> bool:
    """Return whether a store holds all segments; `failures_too` also accepts failed ones."""
    entries = store.entries
    return all(
        name in entries and entries[name].key == segment.key and (failures_too or entries[name].status != FAILED)
        for name, segment in segments.items()
    )


def _fill(
    store: FeatureStore | None,
    folder: Path,
    settings: FeatureSettings,
    segments: Mapping[str, _Segment],
    workers: int | None,
    progress: bool,
) -> None:
    part, width = folder / f"partial-{settings.digest}", settings.dim * 4
    part.mkdir(exist_ok=True)
    existing: dict[str, _Stored] = {}
    if store is not None:
        existing = {name: (entry, store.matrix_path) for name, entry in store.entries.items()}
    finished = [*_committed(part, width), *existing.values()]
    by_key = {entry.key: (entry, file) for entry, file in finished if entry.status != FAILED}
    missing = list({segment.key: segment for segment in segments.values() if segment.key not in by_key}.values())
    if workers is None:
        most = _MOST_ENCODERS if settings.kind == "encoder" else available_cores()
        workers = min(available_cores(), most, -(-len(missing) // _FEW))
    workers = max(workers, 1)
    chunk = min(_CHUNK, len(missing) // (4 * workers) + 1)
    analysed = partial(_analysed, settings=settings)
    results = map_unordered(analysed, missing, workers=workers, chunk=chunk, quiet=True)
    data = part / f"{len(list(part.glob('*.jsonl')))}.bin"  # files of earlier attempts are only read
    log = data.with_suffix(".jsonl")
    bar = progress_bar("features", len(missing), progress)
    with data.open("wb") as features, log.open("wb") as lines, bar as advance:
        seconds, offset = 0.0, 0
        for index, result in results:
            if isinstance(result, Died):
                result = Entry(missing[index].key, FAILED, reason=f"{missing[index].audio}: {result.reason}"), b""
            entry, content = replace(result[0], offset=offset), result[1]
            features.write(content)
            features.flush()
            lines.write(json.dumps({"crc": zlib.crc32(content), **asdict(entry)}).encode() + b"\n")
            lines.flush()  # commits the features: those without a line, left by a killed process, are ignored
            by_key[entry.key] = entry, data
            offset += entry.frames
            seconds += entry.seconds
            advance(seconds)
    requested = {name: by_key[segment.key] for name, segment in segments.items()}
    old, new = ({n: (e.key, e.status) for n, (e, _) in d.items() if n in requested} for d in (existing, requested))
    if old != new:
        _write(folder, settings, requested | existing | requested)  # requested ones first; they replace existing ones
    _clean(folder)


def _analysed(segment: _Segment, settings: FeatureSettings) -> tuple[Entry, bytes]:
    """Analyse one segment; return its entry and its features as bytes. Unusable audio becomes a skipped entry."""
    key, audio, start, end, channel = segment
    try:
        if settings.kind == "npy":
            analysis, seconds = as_they_are(frames_in(audio, settings.width), settings), 0.0
            digest = blake2b(analysis.features.tobytes(), digest_size=16).hexdigest()
        else:
            recording = read_recording(audio, start=start, end=end, sample_rate=settings.sample_rate, channel=channel)
            samples = changed(recording.samples, settings.copy) if settings.copy else recording.samples
            analysis, digest = analyse(samples, settings), recording.digest
            seconds = round(len(samples) / settings.sample_rate, 4)
    except AudioError as error:
        status = FAILED if isinstance(error, UnreachableError) else "skipped"
        return Entry(key, status, reason=str(error) if error.where else f"{audio}: {error}"), b""
    except Exception as error:  # one recording must never stop a corpus
        return Entry(key, FAILED, reason=f"{audio}: unexpected {type(error).__name__}: {error}"), b""
    features = analysis.features.astype("<f4", copy=False)
    entry = Entry(key, "ok", 0, len(features), len(analysis.kept), analysis.voiced, seconds, digest)
    return entry, features.tobytes()


def _committed(part: Path, width: int) -> Iterator[_Stored]:
    """Yield the entries that interrupted builds committed in `part`, except damaged ones."""
    for log in sorted(part.glob("*.jsonl")):
        data = log.with_suffix(".bin")
        if not data.exists():
            continue
        with log.open("rb") as lines, data.open("rb") as features:
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):
                    values: dict[str, Any] = json.loads(line)
                    crc, entry = values.pop("crc"), Entry(**values)
                    features.seek(entry.offset * width)
                    if zlib.crc32(features.read(entry.frames * width)) == crc:
                        yield entry, data


def _write(folder: Path, settings: FeatureSettings, utterances: Mapping[str, _Stored]) -> None:
    """Write matrix and index, then the description, which makes them valid."""
    matrix, index = folder / "features.tmp", folder / "index.tmp"
    frames, width = 0, settings.dim * 4
    content, listing = blake2b(digest_size=16), blake2b(digest_size=16)
    with ExitStack() as stack:
        out = stack.enter_context(matrix.open("wb"))
        rows = csv.writer(stack.enter_context(index.open("w", newline="", encoding="utf-8", errors="surrogateescape")))
        rows.writerow(_COLUMNS)
        sources: dict[Path, BinaryIO] = {}
        for name, (entry, file) in utterances.items():
            if entry.status == "ok":
                if file not in sources:
                    sources[file] = stack.enter_context(file.open("rb"))
                sources[file].seek(entry.offset * width)
                features = sources[file].read(entry.frames * width)
                if len(features) != entry.frames * width:
                    raise _damaged(file, "features vanished while the store was written")
                out.write(features)
                content.update(features)
            row = [name, *asdict(replace(entry, offset=frames)).values()]
            frames += entry.frames
            rows.writerow(row)
            listing.update(repr(row).encode("utf-8", "surrogateescape"))
        out.flush()
        os.fsync(out.fileno())
    digest = content.hexdigest()
    names = {"matrix": f"features-{digest[:12]}.bin", "index": f"index-{listing.hexdigest()[:12]}.csv"}
    matrix.replace(folder / names["matrix"])
    index.replace(folder / names["index"])
    described = {"format": FORMAT, "settings": settings.as_dict(), "digest": digest, "frames": frames, **names}
    write_json(folder / DESCRIPTION, described, FeatureError)


_OURS = re.compile(r"features-[0-9a-f]{12}\.bin|index-[0-9a-f]{12}\.csv")
_PARTS = re.compile(r"partial-[0-9a-f]{12}")


def _clean(folder: Path) -> None:
    """Remove partial files of interrupted builds and files of the previous store; keep all others."""
    described = json.loads((folder / DESCRIPTION).read_text("utf-8"))
    for path in folder.iterdir():
        if _PARTS.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
        elif _OURS.fullmatch(path.name) and path.name not in (described["matrix"], described["index"]):
            with suppress(OSError):  # still mapped by a reader on Windows: the next build removes it
                path.unlink()


def _damaged(path: Path, what: str) -> FeatureError:
    return FeatureError(what, where=path, mend="Delete the folder and build it again.")


def _short(reason: str) -> str:
    """Return a short form of a reason, for counting."""
    words = {"no such file": "missing", "empty": "empty", "too short": "too short", "not numbers": "not finite",
             "cut short": "cut short", "breaks off": "cut short", "conversion": "need a conversion",
             "as audio": "not audio"}  # fmt: skip
    return next((short for part, short in words.items() if part in reason), "other")
