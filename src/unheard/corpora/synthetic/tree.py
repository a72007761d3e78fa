"""A synthetic corpus on disk.

ROOT/settings.json              what it is made of, written first
ROOT/wav/<speaker>/<id>.wav     16 bit, each whole or absent, so that a killed writing can be resumed
ROOT/manifest.csv               written last
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import wave
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from unheard.corpora.kaldi import write_kaldi
from unheard.corpora.releases.iemocap import SUBSETS
from unheard.corpora.synthetic.plan import (
    PARTS,
    VERSION,
    SyntheticSettings,
    Take,
    counts,
    iemocap_shaped,
    takes,
    voices,
)
from unheard.corpora.table import write_table
from unheard.errors import ConfigError, CorpusError, ManifestError, UnheardError, did_you_mean
from unheard.files import cannot_write, replacing, write_text
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


# The files of a synthetic corpus, made by one process or several.
#
# The processes are plain ones that read the settings from the corpus' folder: children of `multiprocessing`
# would import the caller's main script again. Process number n of W makes speakers n, n + W, n + 2W, ...

MAKE = "Make one with unheard.corpora.synthetic.write(folder, demo())."
_HEADER = 44  # bytes of a WAV file before its samples
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_CHILD = "from unheard.corpora.synthetic.tree import _child; _child()"


def audio_path(root: Path, settings: SyntheticSettings, take: Take) -> Path:
    """Where the audio of one utterance is."""
    return root / "wav" / voices(settings)[take.speaker].name / f"{take.id}.{settings.format}"


def make_all(root: Path, settings: SyntheticSettings, workers: int) -> Iterator[int]:
    """Makes the files that are missing; yields how many more are there.

    Raises `ManifestError` when one cannot be written, `CorpusError` when a process dies.
    """
    if workers == 1:
        yield from _make_share(root, settings, 0, 1)
        return
    package = str(Path(__file__).resolve().parents[3])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **dict.fromkeys(_THREADS, "1"), "PYTHONPATH": paths, "PYTHONUTF8": "1"}
    said: queue.Queue[dict[str, object]] = queue.Queue()
    children, threads = [], []
    try:
        for number in range(workers):
            command = [sys.executable, "-c", _CHILD, str(root), str(number), str(workers)]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, encoding="utf-8")
            children.append(child)
            threads.append(threading.Thread(target=_listen, args=(child, said), daemon=True))
            threads[-1].start()
        running = workers
        while running:
            try:
                message = said.get(timeout=0.5)  # waiting without end could not be interrupted on Windows
            except queue.Empty:
                continue
            if "done" in message:
                yield int(str(message["done"]))
            elif "problem" in message:
                raise ManifestError(str(message["problem"]), where=root, mend=str(message["mend"]))
            elif message["ended"] == 0:
                running -= 1
            else:
                raise CorpusError(
                    f"a process that makes it ended with {message['ended']}",
                    where=root,
                    mend="Do the same again, perhaps with fewer workers: what is made is kept.",
                )
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
            child.wait()
        for thread in threads:
            thread.join()
        for child in children:
            if child.stdout is not None:
                child.stdout.close()


def _listen(child: subprocess.Popen[str], said: queue.Queue[dict[str, object]]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        said.put(json.loads(line))
    said.put({"ended": child.wait()})


def _child() -> None:
    """The whole life of a process started by `make_all`."""
    root, number, workers = sys.argv[1:]
    try:
        for done in _make_share(Path(root), load(Path(root)), int(number), int(workers)):
            print(json.dumps({"done": done}), flush=True)
    except UnheardError as problem:
        what = problem.what if problem.where is None else f"{problem.where} {problem.what}"
        print(json.dumps({"problem": what, "mend": problem.mend or ""}), flush=True)
    except BrokenPipeError:  # the process that asked for it is gone
        os._exit(1)


def _make_share(root: Path, settings: SyntheticSettings, number: int, workers: int) -> Iterator[int]:
    for speaker, group in groupby(takes(settings), key=lambda take: take.speaker):
        if speaker % workers == number:
            yield _make(root, settings, list(group))


def _make(root: Path, settings: SyntheticSettings, group: list[Take]) -> int:
    """Makes what is missing of one speaker; NumPy is loaded only here."""
    from unheard.corpora.synthetic.voice import render

    folder = audio_path(root, settings, group[0]).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        for take in group:
            path = audio_path(root, settings, take)
            if not _whole(there.get(path.name, 0), settings, take):
                temporary = path.with_name(f".{path.name}.tmp")
                _save(temporary, render(settings, take).tobytes(), settings)
                temporary.replace(path)
    except OSError as problem:
        raise cannot_write(folder, problem, ManifestError) from problem
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


def load(root: Path) -> SyntheticSettings:
    """The settings of the corpus at `root`; raises `CorpusError` when there is none that this version made."""
    file = root / "settings.json"
    if not file.exists():
        raise CorpusError("no synthetic corpus here: it has no 'settings.json'", where=root, mend=MAKE)
    values = parsed(file)
    version = values.pop("version", None)
    if version != VERSION:
        raise CorpusError(f"made by version {version} of the generator, this is {VERSION}", where=file, mend=MAKE)
    try:
        return SyntheticSettings(**values)  # type: ignore[arg-type]
    except (TypeError, ValueError, ConfigError) as problem:
        raise CorpusError(f"not the settings of a corpus ({problem})", where=file, mend=MAKE) from problem


def parsed(file: Path) -> dict[str, object]:
    """The values in a `settings.json`; raises `CorpusError` when it holds none."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise CorpusError(f"it cannot be read ({problem})", where=file, mend=MAKE) from problem
    if not isinstance(values, dict):
        raise CorpusError("not the settings of a corpus", where=file, mend=MAKE)
    return values


# A synthetic corpus in the layout of another, so that everything can be tried at full size without its licence.
#
# Files are linked, or copied where the disk knows no links: the sound is the synthetic corpus's own.

_TURNS = 40  # of a speaker in a dialogue; the release has some 30
_LABELS = {"angry": ("ang",), "happy": ("hap", "exc"), "neutral": ("neu",), "sad": ("sad",)}
_SECONDS = 5.0  # from one turn to the next: nobody reads the times


def iemocap_counts() -> dict[str, dict[str, int]]:
    """The utterances of the paper's subset of IEMOCAP: speaker -> emotion -> number, woman before man."""
    return {speaker: dict(counts) for speaker, counts in SUBSETS["paper"].speaker_counts.items()}


def write_iemocap(root: str | Path, *, seed: int = 0, progress: bool = True) -> tuple[Manifest, Path]:
    """A synthetic corpus with the counts of IEMOCAP's improvised four-class subset, in IEMOCAP's layout too.

    `root/Session1` to `root/Session5` hold label files, transcripts and links to the sound: the reader of
    `iemocap` finds 2943 utterances of ten speakers. Returns the manifest of the synthetic corpus and the tree.
    """
    settings = iemocap_shaped(iemocap_counts(), seed)
    manifest = write(root, settings, progress=progress)
    folder = Path(root).expanduser().absolute()
    _write_sessions(manifest, tuple(iemocap_counts()), folder)
    return manifest, folder


def write_kaldi_directory(
    root: str | Path, settings: SyntheticSettings, *, progress: bool = True
) -> tuple[Manifest, Path]:
    """A synthetic corpus of `settings`, and the Kaldi data directory `root/kaldi` that describes it."""
    manifest = write(root, settings, progress=progress)
    folder = Path(root).expanduser().absolute() / "kaldi"
    write_kaldi(manifest, folder)
    return manifest, folder


def _write_sessions(manifest: Manifest, speakers: Sequence[str], folder: Path) -> None:
    """`speakers` are IEMOCAP's names, 1F, 1M, 2F, …, for the manifest's in their order."""
    names = dict(zip(manifest.speakers, speakers, strict=True))
    dialogues: dict[str, list[tuple[str, Utterance, str]]] = {}
    turns: Counter[str] = Counter()
    labels: Counter[tuple[str, str]] = Counter()
    for row in manifest:
        session, speaker = names[row.speaker][0], names[row.speaker][1]
        number, turn = divmod(turns[row.speaker], _TURNS)
        turns[row.speaker] += 1
        marker = "FM"[number % 2]  # who wears the markers alternates, whoever speaks
        dialogue = f"Ses0{session}{marker}_impro{number + 1:02d}"
        choice = _LABELS[row.emotion]
        label = choice[labels[row.speaker, row.emotion] % len(choice)]
        labels[row.speaker, row.emotion] += 1
        dialogues.setdefault(dialogue, []).append((f"{dialogue}_{speaker}{turn:03d}", row, label))
    for dialogue, said in dialogues.items():
        home = folder / f"Session{dialogue[4]}"
        lines, texts = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
        for place, (name, row, label) in enumerate(said):
            times = f"{place * _SECONDS:.4f} - {(place + 1) * _SECONDS:.4f}"
            lines += [f"[{times}]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]", ""]
            texts.append(f"{name} [{times.replace(' ', '')}]: {row.text}")
            sound = Path(row.audio)
            _link(sound, home / "sentences" / "wav" / dialogue / f"{name}{sound.suffix}")
        write_text(home / "dialog" / "transcriptions" / f"{dialogue}.txt", "\n".join(texts) + "\n")
        write_text(home / "dialog" / "EmoEvaluation" / f"{dialogue}.txt", "\n".join(lines) + "\n")


def _link(source: Path, target: Path) -> None:
    """`target` as another name of the file `source`, or as a copy of it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.stat().st_size == source.stat().st_size:
            return
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:  # a file system without links, or across two of them
            shutil.copyfile(source, target)
    except OSError as problem:
        raise cannot_write(target, problem, ManifestError) from problem
