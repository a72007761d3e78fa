"""Bounded work: so many recordings scored at once, others waiting, one that cannot finish in time refused at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any, TypeVar

from unheard.server.metrics import AUDIO, QUEUED, RUNNING, STREAMS, WORK
from unheard.server.refusals import Refusal, busy
from unheard.server.settings import ServerSettings

T = TypeVar("T")

FIRST_SPEED = 50.0
"""Seconds of audio scored per second, assumed until some have been."""

STREAMS_A_THREAD = 16
"""Live streams taken for each thread; each needs about a fiftieth of one."""

LOOK = 0.05
"""Seconds between two looks at whether the server stops or the time is over."""


@dataclass
class Job:
    """What the thread that scores and the request that waits for it know of each other."""

    began: float | None = None  # when scoring began
    share: float | None = None  # of the recording that is done; None before admission
    stop: bool = False  # nobody waits any more


class Work:
    """The queue of a server and the threads that score.

    Waiting and working are bounded apart: a recording that would be expected to wait longer than `max_wait` is refused
    at once, with the time after which it would not; scoring may take `timeout` and a tenth of the recording's
    duration. A thread cannot be stopped from outside: scoring looks at `Job.stop` after every block. Nothing here
    belongs to one event loop.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.speed = FIRST_SPEED
        self.stopped = Event()  # set when the server begins to stop
        self.expired = Event()  # set when its grace is over
        self.taken = 0
        """Recordings waiting or being scored."""
        self.streams = 0
        """Live streams."""
        self._owed = 0.0  # seconds of audio waiting or being scored
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="unheard")

    def expected_wait(self) -> float:
        """Return the seconds until one more recording would begin."""
        if self.taken < self.settings.threads:
            return 0.0
        return self._owed / self.speed / self.settings.threads

    @asynccontextmanager
    async def admitted(self, seconds: float) -> AsyncIterator[None]:
        """Count a recording of `seconds` as owed work; raises `Refusal` 429 where it could not begin in time."""
        if self.stopped.is_set():
            raise Refusal("stopping")
        wait = self.expected_wait()
        if wait > self.settings.max_wait:
            raise busy(wait - self.settings.max_wait)
        if self.taken >= self.settings.threads + self.settings.waiting:
            raise busy(max(wait / self.taken, 1.0))
        self.taken += 1
        self._owed += seconds
        RUNNING.set(self.taken)
        try:
            yield
        finally:
            self.taken -= 1
            self._owed -= seconds
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

    async def run(self, score: Callable[[Job], T], job: Job, seconds: float, gone: Awaitable[object]) -> T:
        """Wait for a turn and return the result of `score(job)`.

        `seconds` is the duration of the audio; `gone` completes when the client has left. Raises what `score` raises,
        and `Refusal` 503 where the server stops first, 504 where scoring takes too long.
        """
        queued, limit = time.monotonic(), self.settings.timeout + seconds / 10

        def begin() -> T:
            job.began = time.monotonic()
            return score(job)

        left: asyncio.Future[Any] = asyncio.ensure_future(gone)
        future = asyncio.wrap_future(self._threads.submit(begin))
        try:
            while not future.done():
                await asyncio.wait({future, left}, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
                if future.done():
                    break
                if left.done() or self.expired.is_set() or (self.stopped.is_set() and job.began is None):
                    raise Refusal("stopping")
                if job.began is not None and time.monotonic() - job.began > limit:
                    raise Refusal("timeout")
            assert job.began is not None
            QUEUED.observe(job.began - queued)
            spent = max(time.monotonic() - job.began, 1e-4)
            WORK.observe(spent)
            AUDIO.inc(seconds)
            if seconds > 1:
                self.speed += 0.2 * (seconds / spent - self.speed)
            return future.result()
        finally:
            job.stop = True
            left.cancel()
            future.cancel()  # leaves the queue where it has not begun
