"""Worker processes of a build: started as plain subprocesses, one thread of the parent a worker.

Not `multiprocessing`: its spawned children import the caller's main script again, which breaks notebooks,
`python -c` and every script without a main guard. A worker that dies (a decoder that crashes, a process
killed for memory) costs one recording a second try, and if it dies again, that recording alone.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unheard.errors import FeatureError
from unheard.features.matrix import Entry
from unheard.features.settings import FeatureSettings
from unheard.features.worker import Place, Shard, Task

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
