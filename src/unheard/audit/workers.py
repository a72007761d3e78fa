"""Processes that listen: plain subprocesses fed through pipes, one thread of the parent each.

Not `multiprocessing`, whose spawned children run the caller's script again. A decoder that crashes takes down
one process; its chunk is then heard one by one, and only what crashes again is given up.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from unheard.audit.hearing import Heard, Place, hear

CHILD = "from unheard.audit.workers import serve; serve()"


class Worker:
    """A child process that answers lists of places with lists of what was heard."""

    def __init__(self) -> None:
        search = os.pathsep.join(folder for folder in sys.path if folder)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **threads, "PYTHONPATH": search},
        )

    def ask(self, places: Sequence[Place]) -> list[Heard]:
        """What these places sound like; EOFError or OSError when the child has died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump(list(places), self.process.stdin)
        self.process.stdin.flush()
        answer: list[Heard] = pickle.load(self.process.stdout)
        return answer

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not yet sent to a dead child
                    pipe.close()
        self.process.wait()


def heard_by(workers: int, chunks: Sequence[Sequence[Place]]) -> Iterator[Heard]:
    """Everything in `chunks`, in order, heard by so many processes."""
    local = threading.local()
    started: list[Worker] = []

    def worker() -> Worker:
        if getattr(local, "worker", None) is None:
            local.worker = Worker()
            started.append(local.worker)
        mine: Worker = local.worker
        return mine

    def ask(places: Sequence[Place]) -> list[Heard]:
        try:
            return worker().ask(places)
        except (EOFError, OSError, pickle.UnpicklingError):
            local.worker = None
        if len(places) == 1:
            return [Heard(error="the process that decoded it died")]
        return [sound for place in places for sound in ask([place])]

    pool = ThreadPoolExecutor(min(workers, len(chunks)))
    try:
        for answer in pool.map(ask, chunks):
            yield from answer
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for each in started:
            each.close()
        pool.shutdown()


def serve() -> None:
    """The child's side: answer until the pipe closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    while True:
        try:
            places = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump([hear(place) for place in places], answers)
        answers.flush()
