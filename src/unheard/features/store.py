"""Building a feature store: parallel, resumable, atomic, bounded in memory, and deterministic.

    manifest -> what is not known yet -> worker processes, a shard each -> one matrix in the manifest's order

Features are reused from the store itself and from the shards of interrupted builds, wherever the stretch,
the file, its size and its time of change are the same; a manifest that has grown costs only its new rows. What a store
holds besides stays: several experiments may share one, each with a selection of its own.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from unheard.errors import FeatureError
from unheard.features.encoder import check
from unheard.features.matrix import DESCRIPTION, ENTRY_FIELDS, FORMAT, Entry, FeatureStore, entry_row
from unheard.features.pitch import library
from unheard.features.settings import FeatureSettings
from unheard.features.worker import Place, Shard, Task, committed
from unheard.files import locked
from unheard.manifest import Manifest, Utterance

__all__ = ["FeatureStore", "build_store"]

logger = logging.getLogger("unheard")

FAILED = "failed"
"""The status of an utterance for a reason that was not foreseen, and may be gone."""

_ENCODERS = 8  # processes that each hold one in memory, of a gigabyte perhaps
_ROWS_A_WORKER = 64  # below this another process costs more than it saves


def build_store(
    manifest: Manifest,
    folder: str | Path,
    settings: FeatureSettings | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> FeatureStore:
    """The feature store of `manifest` in `folder`, built, completed or simply opened.

    The same manifest, audio and settings give the same bytes for any number of `workers` (default: one a
    core, fewer for small corpora) and however often it was interrupted, in a new folder; in one that holds other
    utterances too these stay, behind the manifest's. An utterance whose audio is bad or
    shorter than one frame is skipped, counted and named in `skipped`, never fatal; one that failed for want of memory,
    say, is tried again by the next call. Raises `FeatureError`
    for a folder that holds other settings, is being built by another process or cannot be written, and for
    pitch without kaldi-native-fbank.
    """
    settings = settings or FeatureSettings()
    folder = Path(folder)
    if not len(manifest):
        raise FeatureError("the manifest has no utterances", mend="Check how it was made or selected.")
    tasks = _tasks(manifest)
    store = _existing(folder, settings)
    if store is not None and _serves(store, tasks, failures_too=not os.access(folder, os.W_OK)):
        return store
    if settings.needs_pitch:
        library()  # without it every recording would fail
    if settings.kind == "ssl":
        check(settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, "building this store", FeatureError):
            store = _existing(folder, settings)  # another process may have finished it meanwhile
            if store is None or not _serves(store, tasks):
                partial = folder / f"partial-{settings.digest}"
                partial.mkdir(exist_ok=True)
                known = _known(store, partial, settings, {task.key for task in tasks.values()})
                missing = list({task.key: task for task in tasks.values() if task.key not in known}.values())
                for place in _shown(_results(missing, partial, settings, workers), len(missing), progress):
                    known[place.entry.key] = place
                places = {name: known[task.key] for name, task in tasks.items()}
                if store is None or not _says_the_same(store, places):
                    _write(folder, settings, places | _others(store, tasks))
                _clean(folder)
    except OSError as error:
        raise unwritable(folder, error.strerror or str(error)) from None
    store = FeatureStore(folder)
    if progress and sys.stderr.isatty():
        print(store.summary(), file=sys.stderr)
    elif store.skipped or store.unvoiced:
        logger.warning("%s: %s", folder, store.summary())
    return store


def _tasks(manifest: Manifest) -> dict[str, Task]:
    """What has to be read for every row, by id; each file is looked at once."""
    state: dict[str, str] = {}

    def task(row: Utterance) -> Task:
        if row.audio not in state:
            try:
                stat = os.stat(row.audio)  # noqa: PTH116 - a Path for each of a million rows is slow
                # the time of change goes along where files change places; which file it is does too
                state[row.audio] = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
            except (OSError, ValueError):
                state[row.audio] = "absent"
        end = None if row.end is None else float(row.end)
        parts = [row.audio, state[row.audio], float(row.start), end, row.channel]
        return Task(_digest(map(repr, parts)), row.audio, float(row.start), end, row.channel)

    return {row.id: task(row) for row in manifest}


def _digest(parts: Iterable[str]) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _existing(folder: Path, settings: FeatureSettings) -> FeatureStore | None:
    if not (folder / DESCRIPTION).exists():
        return None
    store = FeatureStore(folder)
    if store.settings != settings:
        ours, theirs = settings.as_dict(), store.settings.as_dict()
        differing = ", ".join(
            f"{name} {theirs[name]} there, {ours[name]} here" for name in ours if ours[name] != theirs[name]
        )
        raise FeatureError(
            f"this store was made with other settings ({differing})",
            where=folder,
            mend="Choose another folder, or delete this one.",
        )
    if store.settings_digest != settings.digest:
        raise FeatureError(
            "this store was made by another version, in which the same settings gave other values",
            where=folder,
            mend="Choose another folder, or delete this one.",
        )
    return store


def _serves(store: FeatureStore, tasks: Mapping[str, Task], failures_too: bool = False) -> bool:
    """Whether a store has all that is wanted; what failed unexpectedly is not had, unless nothing can be written."""
    entries = store.entries
    return all(
        name in entries and entries[name].key == task.key and (failures_too or entries[name].status != FAILED)
        for name, task in tasks.items()
    )


def _says_the_same(store: FeatureStore, places: Mapping[str, Place]) -> bool:
    """Whether a store already holds these results: what failed has failed again, and nothing else is new."""
    entries = store.entries
    return all(
        name in entries and (entries[name].key, entries[name].status) == (place.entry.key, place.entry.status)
        for name, place in places.items()
    )


def _others(store: FeatureStore | None, tasks: Mapping[str, Task]) -> dict[str, Place]:
    """What a store holds besides, by id."""
    if store is None:
        return {}
    width = store.dim * 4
    return {
        name: Place(entry, store.matrix_path, entry.offset * width)
        for name, entry in store.entries.items()
        if name not in tasks
    }


def _known(store: FeatureStore | None, partial: Path, settings: FeatureSettings, wanted: set[str]) -> dict[str, Place]:
    """The results that need not be made again, by key. Unexpected failures are tried again."""
    width = settings.dim * 4
    known = {place.entry.key: place for place in committed(partial, settings.dim)}
    if store is not None:
        for entry in store.entries.values():
            known[entry.key] = Place(entry, store.matrix_path, entry.offset * width)
    return {key: place for key, place in known.items() if key in wanted and place.entry.status != FAILED}


def _results(missing: list[Task], partial: Path, settings: FeatureSettings, workers: int | None) -> Iterator[Place]:
    if workers is None:
        try:
            cores = len(os.sched_getaffinity(0))
        except AttributeError:  # not on macOS and Windows
            cores = os.cpu_count() or 1
        workers = min(cores, -(-len(missing) // _ROWS_A_WORKER))
        if settings.kind == "ssl":
            workers = min(workers, _ENCODERS)
    attempt = len(list(partial.glob("*.jsonl")))  # shards of earlier attempts are read, never appended to
    return analysed(missing, partial, f"shard-{attempt}", settings, min(workers, len(missing)))


def _shown(places: Iterator[Place], total: int, progress: bool) -> Iterator[Place]:
    """The same results, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal and total)
    columns = (
        TextColumn("features"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=hidden) as bar:
        task = bar.add_task("", total=total, rate="")
        seconds = 0.0
        for place in places:
            yield place
            seconds += place.entry.seconds
            elapsed = bar.tasks[0].elapsed or 0.0
            bar.update(task, advance=1, rate=f"{seconds / elapsed:,.0f}× real time" if elapsed > 0.5 else "")


def _write(folder: Path, settings: FeatureSettings, places: dict[str, Place]) -> None:
    """Matrix, index and description, in the order of `places`; the last makes the others valid."""
    matrix, index = folder / "features.tmp", folder / "index.tmp"
    frames, width = 0, settings.dim * 4
    content, listing = blake2b(digest_size=16), blake2b(digest_size=16)
    with ExitStack() as stack:
        out = stack.enter_context(matrix.open("wb"))
        rows = csv.writer(stack.enter_context(index.open("w", newline="", encoding="utf-8", errors="surrogateescape")))
        rows.writerow(("id", *ENTRY_FIELDS))
        sources: dict[Path, BinaryIO] = {}
        for name, place in places.items():
            entry = replace(place.entry, offset=frames)
            if entry.status == "ok" and place.file is not None:
                if place.file not in sources:
                    sources[place.file] = stack.enter_context(place.file.open("rb"))
                sources[place.file].seek(place.byte)
                features = sources[place.file].read(entry.frames * width)
                if len(features) != entry.frames * width:
                    raise FeatureError(
                        "features vanished while they were put together",
                        where=place.file,
                        mend="Run this again.",
                    )
                out.write(features)
                content.update(features)
                frames += entry.frames
            row = entry_row(name, entry)
            rows.writerow(row)
            listing.update(repr(row).encode("utf-8", "surrogateescape"))
        out.flush()
        os.fsync(out.fileno())
    digest = content.hexdigest()
    names = {"matrix": f"features-{digest[:12]}.f32", "index": f"index-{listing.hexdigest()[:12]}.csv"}
    matrix.replace(folder / names["matrix"])
    index.replace(folder / names["index"])
    description = {
        "format": FORMAT,
        "settings": settings.as_dict(),
        "settings_digest": settings.digest,
        "manifest": _digest([settings.digest, *(f"{name}\t{place.entry.key}" for name, place in places.items())]),
        "digest": digest,
        "utterances": len(places),
        "frames": frames,
        "dim": settings.dim,
        **names,
    }
    written = folder / "store.tmp"
    with written.open("w", encoding="utf-8") as file:
        json.dump(description, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    written.replace(folder / DESCRIPTION)


_SHARDS = re.compile(r"partial-[0-9a-f]{12}")
_OURS = re.compile(r"(?:features-[0-9a-f]{12}\.f32|index-[0-9a-f]{12}\.csv)")
"""What a build leaves in its folder; anything else there is somebody's own."""


def _clean(folder: Path) -> None:
    """Removes shards and the files of the store before this one."""
    described = json.loads((folder / DESCRIPTION).read_text("utf-8"))
    current = {described["matrix"], described["index"]}
    for path in folder.iterdir():
        if _SHARDS.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
        elif _OURS.fullmatch(path.name) and path.name not in current:
            try:
                path.unlink()
            except OSError:  # still mapped by a reader on Windows: the next build removes it
                logger.debug("%s is in use and stays", path)


# Worker processes of a build: started as plain subprocesses, one thread of the parent a worker.
#
# Not `multiprocessing`: its spawned children import the caller's main script again, which breaks notebooks,
# `python -c` and every script without a main guard. A worker that dies (a decoder that crashes, a process
# killed for memory) costs one recording a second try, and if it dies again, that recording alone.

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def analysed(
    tasks: Sequence[Task], folder: Path, name: str, settings: FeatureSettings, workers: int
) -> Iterator[Place]:
    """Every task's result as it comes, in any order; shards `<name>-<worker>` are written in `folder`.

    Raises `FeatureError` where a shard cannot be written; what was committed stays.
    """
    if workers <= 1:
        try:
            with Shard(folder, f"{name}-0", settings) as shard:
                for task in tasks:
                    yield shard.add(task)
        except OSError as error:
            raise unwritable(folder, error.strerror or str(error)) from None
        return
    waiting = deque(tasks)
    results: queue.Queue[Place | Exception] = queue.Queue()
    stop = threading.Event()
    threads = [
        threading.Thread(target=_feed, args=(waiting, results, stop, folder, f"{name}-{index}", settings), daemon=True)
        for index in range(workers)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in tasks:
            result = _next(results)
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def unwritable(folder: Path, reason: str) -> FeatureError:
    """The error of a disk that is full or may not be written."""
    return FeatureError(
        f"cannot be written: {reason}",
        where=folder,
        mend="Make room or choose another folder, then run this again: what is done is kept.",
    )


def _next(results: queue.Queue[Place | Exception]) -> Place | Exception:
    while True:
        try:
            return results.get(timeout=0.5)  # waiting without end could not be interrupted on Windows
        except queue.Empty:
            continue


def _feed(
    waiting: deque[Task],
    results: queue.Queue[Place | Exception],
    stop: threading.Event,
    folder: Path,
    name: str,
    settings: FeatureSettings,
) -> None:
    """One thread: hands tasks to its worker, one at a time, and replaces it when it dies."""
    worker: _Worker | None = None
    started = 0
    try:
        while waiting and not stop.is_set():
            try:
                task = waiting.popleft()
            except IndexError:  # another thread took the last one
                break
            place = None
            for _ in range(2):
                if worker is None:
                    worker = _Worker(folder, f"{name}-{started}", settings)
                    started += 1
                place = worker.ask(task)
                if place is not None:
                    break
                worker.close()
                worker = None
            results.put(place or Place(_crashed(task)))
    except Exception as error:
        results.put(error)
    finally:
        if worker is not None:
            worker.close()


def _crashed(task: Task) -> Entry:
    return Entry(task.key, "failed", reason=f"{task.audio}: the process that read it died twice")


class _Worker:
    """One subprocess and its shard; raises `FeatureError` where it cannot start or cannot write."""

    def __init__(self, folder: Path, name: str, settings: FeatureSettings) -> None:
        self._folder = folder
        self._shard = folder / f"{name}.f32"
        package = str(Path(__file__).resolve().parents[2])
        inherited = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            **dict.fromkeys(_THREADS, "1"),
            "PYTHONPATH": os.pathsep.join([package, *([inherited] if inherited else [])]),
            "PYTHONSAFEPATH": "1",
            "PYTHONUTF8": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from unheard.features.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # MP3 decoders grumble about every odd header
            env=environment,
            encoding="utf-8",
        )
        answer = self._exchange({"folder": str(folder.resolve()), "name": name, "settings": asdict(settings)})
        if answer is None:
            self.close()
            raise FeatureError("a worker process could not start", mend="Use one worker: workers=1.")

    def ask(self, task: Task) -> Place | None:
        """The result of one task; None when the process died over it."""
        answer = self._exchange(asdict(task))
        if answer is None:
            return None
        return Place(Entry(**answer["entry"]), self._shard, answer["byte"])

    def close(self) -> None:
        """Ends the process once it has done what it has in hand."""
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # it is gone already
                pass
        self._process.wait()

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any] | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            return None
        if not line.endswith("\n"):
            return None
        answer: dict[str, Any] = json.loads(line)
        if "unwritable" in answer:
            raise unwritable(self._folder, answer["unwritable"])
        return answer
