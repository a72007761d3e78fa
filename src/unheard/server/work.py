"""Bounded work: so many recordings scored at once, others waiting, one that cannot finish in time refused at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Event
from typing import Any, TypeVar

from unheard.server.metrics import AUDIO, QUEUED, RUNNING, STREAMS, WORK
from unheard.server.refusals import Refusal, busy
from unheard.server.settings import ServerSettings

T = TypeVar("T")

FIRST_SPEED = 50.0
"""Seconds of audio scored per second, assumed until some have been."""

STREAMS_A_THREAD = 16
"""Live streams taken for each thread; each needs about a fiftieth of one."""

PAUSED_A_THREAD = 2
"""Recordings begun and overtaken, for each thread."""

LOOK = 0.05
"""Seconds between two looks at whether the server stops or the time is over."""


@dataclass(eq=False)
class Job:
    """A recording of `seconds`, as the thread that scores it and the request that waits for it know it."""

    seconds: float = 0.0
    deadline: float = 0.0  # who has the earliest is scored first
    share: float | None = None  # of the recording that is done; None before admission
    began: float | None = None  # when scoring began
    since: float | None = None  # when its present turn began
    spent: float = 0.0  # seconds of its turns before
    stop: bool = False  # nobody waits any more
    pause: Callable[[], object] = lambda: None  # called between two pieces of work

    def working(self) -> float:
        """Return the seconds of work so far, without those in which others had their turn."""
        since = self.since
        return self.spent + (time.monotonic() - since if since is not None else 0.0)


class Turns:
    """So many jobs work at once; of the others the one with the earliest deadline is next, also between two pieces."""

    def __init__(self, count: int) -> None:
        self._free, self._most_paused = count, PAUSED_A_THREAD * count
        self._waiting: list[Job] = []
        self._changed = Condition()

    def take(self, job: Job) -> None:
        """Wait for a turn, or until the job stops; a job that stopped takes one too, to find that out."""
        with self._changed:
            self._waiting.append(job)
            self._changed.wait_for(
                lambda: job.stop or (self._free > 0 and job is min(self._waiting, key=lambda one: one.deadline))
            )
            self._waiting.remove(job)
            self._free -= 1
            self._changed.notify_all()
        job.since = time.monotonic()
        job.began = job.began or job.since

    def give(self, job: Job) -> None:
        """End the turn of a job."""
        job.spent, job.since = job.working(), None
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def pass_on(self, job: Job) -> None:
        """Let those that have an earlier deadline go first; few are paused at once, since each keeps decoded audio."""
        with self._changed:
            first = min(self._waiting, key=lambda one: one.deadline, default=job)
            paused = sum(one.began is not None for one in self._waiting)
            if first.deadline >= job.deadline or (first.began is None and paused >= self._most_paused):
                return
        self.give(job)
        self.take(job)

    def cancel(self, job: Job) -> None:
        """Stop a job, also where it waits."""
        with self._changed:
            job.stop = True
            self._changed.notify_all()


class Work:
    """The queue of a server and the threads that score.

    A job's deadline is the recording's duration after its arrival, at most `max_wait`, so that short recordings
    overtake long ones, and none waits for ever. Waiting and working are bounded apart: a recording that would be
    expected to wait longer than `max_wait` is refused at once, with the time after which it would not; scoring may take
    `timeout` and a tenth of the duration. A thread cannot be stopped from outside: scoring looks at `Job.stop` after
    every piece. Nothing here belongs to one event loop.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.speed = FIRST_SPEED
        self.stopped = Event()  # set when the server begins to stop
        self.expired = Event()  # set when its grace is over
        self.streams = 0
        """Live streams."""
        self._jobs: list[Job] = []
        self._turns = Turns(settings.threads)
        # those that wait for a turn have a thread, too; those that left give theirs back at once
        self._threads = ThreadPoolExecutor(settings.threads + settings.waiting, thread_name_prefix="unheard")

    @property
    def taken(self) -> int:
        """Recordings waiting or being scored."""
        return len(self._jobs)

    def expected_wait(self, deadline: float) -> float:
        """Return the seconds until a recording with this deadline would begin."""
        if self.taken < self.settings.threads:
            return 0.0
        ahead = sum(job.seconds * (1 - (job.share or 0)) for job in self._jobs if job.deadline <= deadline)
        return ahead / self.speed / self.settings.threads

    @contextmanager
    def _admitted(self, job: Job) -> Iterator[None]:
        """Count a job; raises `Refusal` 429 where it could not begin in time."""
        if self.stopped.is_set():
            raise Refusal("stopping")
        wait = self.expected_wait(job.deadline)
        if wait > self.settings.max_wait:
            raise busy(wait - self.settings.max_wait)
        if self.taken >= self.settings.threads + self.settings.waiting:
            raise busy(max(wait / self.taken, 1.0))
        job.share = 0.0
        self._jobs.append(job)
        RUNNING.set(self.taken)
        try:
            yield
        finally:
            self._jobs.remove(job)
            RUNNING.set(self.taken)

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Count a live stream; raises `Refusal` 429 where there are as many as the server takes."""
        if self.stopped.is_set():
            raise Refusal("stopping")
        if self.streams >= STREAMS_A_THREAD * self.settings.threads:
            raise busy(30)
        self.streams += 1
        STREAMS.set(self.streams)
        try:
            yield
        finally:
            self.streams -= 1
            STREAMS.set(self.streams)

    async def run(self, score: Callable[[Job], T], job: Job, gone: Awaitable[object]) -> T:
        """Wait for a turn and return the result of `score(job)`; `gone` completes when the client has left.

        Raises what `score` raises, and `Refusal`: 429 where it could not begin in time, 503 where the server stops
        first, 504 where scoring takes too long.
        """
        arrived, limit = time.monotonic(), self.settings.timeout + job.seconds / 10
        job.deadline = arrived + min(job.seconds, self.settings.max_wait)
        job.pause = lambda: self._turns.pass_on(job)

        def begin() -> T:
            self._turns.take(job)
            try:
                if job.stop:
                    raise Refusal("stopping")
                return score(job)
            finally:
                self._turns.give(job)

        left: asyncio.Future[Any] = asyncio.ensure_future(gone)
        try:
            with self._admitted(job):
                future = asyncio.wrap_future(self._threads.submit(begin))
                future.add_done_callback(_looked_at)
                while not future.done():
                    await asyncio.wait({future, left}, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
                    if future.done():
                        break
                    if left.done() or self.expired.is_set() or (self.stopped.is_set() and job.began is None):
                        raise Refusal("stopping")
                    if job.working() > limit:
                        raise Refusal("timeout")
                QUEUED.observe((job.began or arrived) - arrived)
                WORK.observe(job.spent)
                AUDIO.inc(job.seconds)
                if job.seconds > 1:
                    self.speed += 0.2 * (job.seconds / max(job.spent, 1e-4) - self.speed)
                return future.result()
        finally:
            self._turns.cancel(job)
            left.cancel()


def _looked_at(future: asyncio.Future[Any]) -> None:
    """Look at the exception of a job for whom nobody may be left."""
    if not future.cancelled():
        future.exception()
