"""The files of a synthetic corpus, made by one process or several.

The processes are plain ones that read the settings from the corpus' folder: children of `multiprocessing`
would import the caller's main script again. Process number n of W makes speakers n, n + W, n + 2W, ...
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from unheard.corpora.synthetic.plan import Take, takes, voices
from unheard.corpora.synthetic.settings import VERSION, SyntheticSettings
from unheard.errors import ConfigError, CorpusError, ManifestError, UnheardError
from unheard.files import cannot_write

MAKE = "Make one with unheard.corpora.synthetic.write(folder, demo())."
_HEADER = 44  # bytes of a WAV file before its samples
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_CHILD = "from unheard.corpora.synthetic.make import _child; _child()"


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
