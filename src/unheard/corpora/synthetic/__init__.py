"""Synthetic voices, with a setting that controls how far the speaker predicts the emotion in training.

Speakers act emotions over several sentences, in speech-like sound with a few parameters per speaker:

    settings -> plan (utterances and their delivery) -> voice (sound) -> files, manifest

At `entanglement` 0, speaker and emotion are independent and all parts have the same distribution, so that no method can
gain from removing the speaker. At higher values, every training speaker favours one emotion and speaks through a
channel whose colour correlates with it. In the parts dev and test, colours and emotions are independent, so a model
that relies on the colour fails. Use the protocol `given` with the column `part`: other splits test training speakers.

Accuracy of a linear discriminant on mean and deviation of the MFCC (64 speakers, 32 of them in training, 2 s per
utterance): at entanglement 0, 81 % on known and 81 % on unseen speakers; at 0.5, 79 and 74 %; at 1, 86 and 55 %.

**Frozen.** The generator was finished before any system was trained on it, and must not be changed because of results;
a change in sound requires a new `VERSION`. Results on it support no claim about speech.

    ROOT/settings.json              its settings, written first
    ROOT/wav/<speaker>/<id>.wav     16 bit, each complete or absent, so that an interrupted call can be resumed
    ROOT/manifest.csv               written last
"""

import json
import os
import wave
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial as bound
from pathlib import Path
from typing import Any

from unheard.corpora.corpus import Corpus, finish
from unheard.corpora.synthetic.plan import PARTS, VERSION, SyntheticSettings, Take, counts, demo, takes, voices
from unheard.corpora.table import write_table
from unheard.errors import ConfigError, CorpusError, ManifestError
from unheard.files import cannot_write, write_json
from unheard.manifest import Manifest, Utterance
from unheard.parallel import Died, map_unordered, progress_bar

__all__ = ["PARTS", "SYNTHETIC", "VERSION", "SyntheticSettings", "demo", "read", "write"]

_FEW = 2000  # number of utterances below which further processes are not worth starting
_HEADER = 44  # bytes of a WAV file before its samples
_SOURCE = "the generator's own preset `demo`; other settings make other numbers"

SYNTHETIC = Corpus(
    name="synthetic",
    title="Synthetic voices",
    language="none",
    licence="MIT, as the program that makes it",
    citation="Made by unheard.corpora.synthetic.",
    homepage="",
    obtain="Make it with: unheard synthetic FOLDER.",
    layout="settings.json and wav/<speaker>/<speaker>-<emotion>-<sentence>-<repetition>.wav",
    genders={f"s{number:02d}": "female" if number % 2 else "male" for number in range(1, 17)},
    counts={"angry": 128, "happy": 128, "neutral": 128, "sad": 128},
    sources=dict.fromkeys(("utterances", "speakers", "counts", "licence"), _SOURCE),
    traps=("Invented audio: figures from it support no claim about speech.",),
    subsets=dict.fromkeys(PARTS, ()),
)


def write(
    root: str | Path, settings: SyntheticSettings, *, workers: int | None = None, progress: bool = True
) -> Manifest:
    """Write the missing files of the corpus with `settings` to `root`, and return its manifest.

    The files do not depend on `workers` (None: one for a small corpus, else one per core). `progress` shows a bar on a
    terminal. Raises `CorpusError` if `root` contains a corpus with other settings or a worker dies, and `ManifestError`
    if the folder cannot be written.
    """
    root = Path(root).expanduser().absolute()
    file, ours = root / "settings.json", {"version": VERSION, **asdict(settings)}
    if not file.exists():
        write_json(file, ours, ManifestError)
    elif _parsed(file) != json.loads(json.dumps(ours)):
        raise CorpusError("this folder holds another synthetic corpus", where=root, mend="Choose another folder.")
    total = sum(sum(counts(settings, speaker)) for speaker in range(settings.speakers))
    workers = (1 if total < _FEW else 0) if workers is None else workers
    with progress_bar("synthetic corpus", settings.speakers, progress) as advance:
        for _, result in map_unordered(bound(_make, root, settings), range(settings.speakers), workers=workers):
            if isinstance(result, Died):
                mend = "Run it again, perhaps with fewer workers: finished files are kept."
                raise CorpusError(f"a worker died: {result.reason}", where=root, mend=mend)
            advance()
    manifest = Manifest(tuple(_row(root, settings, take) for take in takes(settings)))
    write_table(manifest, root / "manifest.csv")
    return manifest


def read(
    root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False, subset: str | None = None
) -> Manifest:
    """Read a synthetic corpus; `subset` is one of its parts, train, dev or test (the column `part` of `extra`).

    Raises `CorpusError` if there is no corpus of this version, for an unknown label, and, unless `partial`, if audio of
    `labels` is missing.
    """
    root = Path(root).expanduser().absolute()
    file = root / "settings.json"
    if not file.exists():
        raise CorpusError("no synthetic corpus here: it has no 'settings.json'", where=root, mend=SYNTHETIC.obtain)
    values = _parsed(file)
    version = values.pop("version", None)
    if version != VERSION:
        what = f"made by version {version} of the generator, this is {VERSION}"
        raise CorpusError(what, where=file, mend=SYNTHETIC.obtain)
    try:
        settings = SyntheticSettings(**values)
    except (TypeError, ValueError, ConfigError) as problem:
        what = f"not the settings of a corpus ({problem})"
        raise CorpusError(what, where=file, mend=SYNTHETIC.obtain) from problem
    corpus = replace(SYNTHETIC, counts=dict.fromkeys(settings.emotions, 0))
    rows = [_row(root, settings, take) for take in takes(settings)]
    rows = [row for row in rows if subset in (None, row.extra["part"])]
    existing = {entry.path for folder in (root / "wav").glob("*") if folder.is_dir() for entry in os.scandir(folder)}
    present = [row for row in rows if row.audio in existing]
    clips = {row.id: row.emotion for row in rows}
    return finish(corpus, root, present, labels=labels, partial=partial, clips=clips)


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as problem:
        raise CorpusError(f"it cannot be read ({problem})", where=file, mend=SYNTHETIC.obtain) from problem


def _row(root: Path, settings: SyntheticSettings, take: Take) -> Utterance:
    voice = voices(settings)[take.speaker]
    return Utterance(
        id=take.id,
        audio=str(root / "wav" / voice.name / f"{take.id}.wav"),
        speaker=voice.name,
        emotion=take.emotion,
        gender=voice.gender,
        session=f"session{take.speaker // 2 + 1}" if settings.sessions else "",
        text=f"sentence {take.sentence + 1}",
        corpus="synthetic",
        original=take.emotion,
        extra={"part": settings.part(take.speaker)},
    )


def _make(root: Path, settings: SyntheticSettings, speaker: int) -> None:
    """Write the missing files of one speaker; NumPy is imported only here."""
    from unheard.corpora.synthetic.voice import render

    folder = root / "wav" / voices(settings)[speaker].name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        for take in takes(settings, speaker):
            path = folder / f"{take.id}.wav"
            # after a power failure, a renamed file may be empty or short
            if sizes.get(path.name) != _HEADER + 2 * round(take.duration * settings.sample_rate):
                temporary = path.with_name(f".{path.name}.tmp")
                with temporary.open("wb") as stream, wave.open(stream, "wb") as file:
                    file.setparams((1, 2, settings.sample_rate, 0, "NONE", ""))
                    file.writeframes(render(settings, take).tobytes())
                temporary.replace(path)
    except OSError as problem:
        raise cannot_write(folder, problem, ManifestError) from problem
