"""A synthetic corpus on disk.

ROOT/settings.json              what it is made of, written first
ROOT/wav/<speaker>/<id>.wav     16 bit, each whole or absent, so that a killed writing can be resumed
ROOT/manifest.csv               written last
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from unheard.corpora.synthetic.make import audio_path, load, make_all, parsed
from unheard.corpora.synthetic.plan import Take, counts, takes, voices
from unheard.corpora.synthetic.settings import PARTS, VERSION, SyntheticSettings
from unheard.corpora.table import write_table
from unheard.errors import ConfigError, CorpusError, ManifestError, did_you_mean
from unheard.files import replacing
from unheard.manifest import FOUR, Manifest, Note, Utterance

_ALONE = 2000  # utterances that one process makes sooner than others are started


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
    total = sum(sum(counts(settings, speaker)) for speaker in range(settings.speakers))
    if workers is None:
        workers = 1 if total < _ALONE else os.cpu_count() or 1
    with _bar(total, progress) as advance:
        for done in make_all(root, settings, min(workers, settings.speakers)):
            advance(done)
    manifest = Manifest(tuple(_row(root, settings, take) for take in takes(settings)))
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
    settings = load(root)
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
        if parsed(file) != ours:
            raise CorpusError("this folder holds another synthetic corpus", where=root, mend="Choose another folder.")
        return
    with replacing(file, ManifestError) as stream:
        stream.write(json.dumps(ours, indent=1) + "\n")


def _row(root: Path, settings: SyntheticSettings, take: Take) -> Utterance:
    voice = voices(settings)[take.speaker]
    return Utterance(
        id=take.id,
        audio=str(audio_path(root, settings, take)),
        speaker=voice.name,
        emotion=take.emotion,
        gender=voice.gender,
        session=f"session{take.speaker // 2 + 1}" if settings.sessions else "",
        text=f"sentence {take.sentence + 1}",
        corpus="synthetic",
        original=take.emotion,
        extra={"part": settings.part(take.speaker)},
    )


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
