"""A synthetic corpus on disk.

ROOT/settings.json              what it is made of, written first
ROOT/wav/<speaker>/<id>.wav     16 bit, each whole or absent, so that a killed writing can be resumed
ROOT/manifest.csv               written last
"""

from __future__ import annotations

import json
import os
import sys
import wave
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

from unheard.corpora.files import cannot_write, replacing
from unheard.corpora.synthetic.plan import Take, takes, voices
from unheard.corpora.synthetic.settings import PARTS, VERSION, SyntheticSettings
from unheard.corpora.table import write_table
from unheard.errors import ConfigError, CorpusError, did_you_mean
from unheard.manifest import FOUR, Manifest, Note, Utterance

_ALONE = 2000  # utterances that one process makes sooner than others are started
_HEADER = 44  # bytes of a WAV file before its samples
_MAKE = "Make one with unheard.corpora.synthetic.write(folder, demo())."


def write(
    root: str | Path, settings: SyntheticSettings, *, workers: int | None = None, progress: bool = True
) -> Manifest:
    """Makes the corpus of `settings` under `root`, or what is missing of it, and returns its manifest.

    The files do not depend on `workers` (None: one for a small corpus, else one a processor). Memory does not
    grow with the length of the audio. `progress` shows a bar when a person watches. Raises `CorpusError` when
    `root` holds a corpus of other settings, `ManifestError` when the place cannot be written,
    `ConfigError` for a number of workers below one.
    """
    root = Path(root).expanduser().absolute()
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers make nothing", mend="Use at least one.")
    _claim(root, settings)
    speakers = [list(group) for _, group in groupby(takes(settings), key=lambda take: take.speaker)]
    total = sum(map(len, speakers))
    if workers is None:
        workers = 1 if total < _ALONE else os.cpu_count() or 1
    with _bar(total, progress) as advance:
        for done in _make_all(root, settings, speakers, min(workers, len(speakers))):
            advance(done)
    manifest = Manifest(tuple(_row(root, settings, take) for group in speakers for take in group))
    write_table(manifest, root / "manifest.csv")
    return manifest


def read(
    root: str | Path,
    *,
    labels: Iterable[str] | None = None,
    partial: bool = False,
    subset: str | None = None,
) -> Manifest:
    """The manifest of a synthetic corpus; `subset` is one of its parts, train, dev or test.

    The column `part` is in `extra`. Raises `CorpusError` when there is none, for an unknown label or subset,
    and, unless `partial`, when audio of `labels` is missing.
    """
    root = Path(root).expanduser().absolute()
    settings = _settings(root)
    if subset is not None and subset not in PARTS:
        raise CorpusError(f"no subset '{subset}' in a synthetic corpus", mend=did_you_mean(subset, PARTS))
    wanted = tuple(labels) if labels is not None else tuple(e for e in FOUR if e in settings.emotions)
    for label in wanted:
        if label not in settings.emotions:
            raise CorpusError(f"this corpus has no '{label}'", where=root, mend=did_you_mean(label, settings.emotions))
    rows, missing = [], []
    for speaker, group in groupby(takes(settings), key=lambda take: take.speaker):
        folder = root / "wav" / voices(settings)[speaker].name
        there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
        for take in group:
            row = _row(root, settings, take)
            if subset is not None and row.extra["part"] != subset:
                continue
            if f"{take.id}.{settings.format}" in there:
                rows.append(row)
            elif take.emotion in wanted:
                missing.append(take.id)
    if missing and not partial:
        raise CorpusError(
            f"{len(missing)} of its files are missing, '{missing[0]}' first",
            where=root,
            mend="Make them by the same write() again, or read what is there with --partial.",
        )
    notes = (Note("missing", f"{len(missing)} files are missing", tuple(missing)),) if missing else ()
    trap = Note("trap", "invented audio: figures from it support no claim about speech")
    return Manifest(tuple(rows), (*notes, trap))


def _claim(root: Path, settings: SyntheticSettings) -> None:
    """Writes `settings.json`, or finds the same one there."""
    ours = json.loads(json.dumps({"version": VERSION, **asdict(settings)}))
    file = root / "settings.json"
    if file.exists():
        if _parsed(file) != ours:
            raise CorpusError("this folder holds another synthetic corpus", where=root, mend="Choose another folder.")
        return
    with replacing(file) as stream:
        stream.write(json.dumps(ours, indent=1) + "\n")


def _settings(root: Path) -> SyntheticSettings:
    file = root / "settings.json"
    if not file.exists():
        raise CorpusError("no synthetic corpus here: it has no 'settings.json'", where=root, mend=_MAKE)
    values = _parsed(file)
    version = values.pop("version", None)
    if version != VERSION:
        raise CorpusError(f"made by version {version} of the generator, this is {VERSION}", where=file, mend=_MAKE)
    try:
        return SyntheticSettings(**values)  # type: ignore[arg-type]
    except (TypeError, ValueError, ConfigError) as problem:
        raise CorpusError(f"not the settings of a corpus ({problem})", where=file, mend=_MAKE) from problem


def _parsed(file: Path) -> dict[str, object]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise CorpusError(f"it cannot be read ({problem})", where=file, mend=_MAKE) from problem
    if not isinstance(values, dict):
        raise CorpusError("not the settings of a corpus", where=file, mend=_MAKE)
    return values


def _row(root: Path, settings: SyntheticSettings, take: Take) -> Utterance:
    voice = voices(settings)[take.speaker]
    return Utterance(
        id=take.id,
        audio=str(root / "wav" / voice.name / f"{take.id}.{settings.format}"),
        speaker=voice.name,
        emotion=take.emotion,
        gender=voice.gender,
        session=f"session{take.speaker // 2 + 1}" if settings.sessions else "",
        text=f"sentence {take.sentence + 1}",
        corpus="synthetic",
        original=take.emotion,
        extra={"part": settings.part(take.speaker)},
    )


def _make_all(root: Path, settings: SyntheticSettings, speakers: list[list[Take]], workers: int) -> Iterator[int]:
    """Makes the files, a speaker after another; yields how many more are there."""
    if workers == 1:
        for group in speakers:
            yield _make(root, settings, group)
        return
    # Not "fork": a process that has threads (PyTorch's, a server's) must not be copied.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(_make, root, settings, group) for group in speakers]
        try:
            for task in tasks:
                yield task.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _make(root: Path, settings: SyntheticSettings, group: list[Take]) -> int:
    """Makes what is missing of one speaker; NumPy is loaded only here."""
    from unheard.corpora.synthetic.voice import render

    folder = root / "wav" / voices(settings)[group[0].speaker].name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        for take in group:
            name = f"{take.id}.{settings.format}"
            if not _whole(there.get(name, 0), settings, take):
                temporary = folder / f".{name}.tmp"
                _save(temporary, render(settings, take).tobytes(), settings)
                temporary.replace(folder / name)
    except OSError as problem:
        raise cannot_write(folder, problem) from problem
    return len(group)


def _whole(size: int, settings: SyntheticSettings, take: Take) -> bool:
    """Whether a file of `size` bytes is the whole utterance; a power cut can leave a renamed file empty."""
    if settings.format == "wav":
        return size == _HEADER + 2 * round(take.duration * settings.sample_rate)
    return size > 0


def _save(path: Path, samples: bytes, settings: SyntheticSettings) -> None:
    if settings.format == "wav":
        with path.open("wb") as stream, wave.open(stream, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(settings.sample_rate)
            file.writeframes(samples)
        return
    import numpy as np
    import soundfile

    soundfile.write(path, np.frombuffer(samples, "<i2"), settings.sample_rate, "PCM_16", format="FLAC")


class _bar:
    """A progress bar with a rate and the time left where a person watches, else nothing."""

    def __init__(self, total: int, wanted: bool) -> None:
        self.total = total
        self.wanted = wanted and sys.stderr.isatty()

    def __enter__(self):  # type: ignore[no-untyped-def]
        if not self.wanted:
            return lambda done: None
        from rich.console import Console
        from rich.progress import Progress

        self.progress = Progress(console=Console(stderr=True))
        self.progress.start()
        task = self.progress.add_task("synthetic corpus", total=self.total)
        return lambda done: self.progress.advance(task, done)

    def __exit__(self, *_: object) -> None:
        if self.wanted:
            self.progress.stop()
