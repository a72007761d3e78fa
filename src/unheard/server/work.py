"""Bounded work: so many recordings scored at once, others waiting, one that cannot finish in time refused at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from threading import Event
from typing import Any, TypeVar

from unheard.server.metrics import AUDIO, QUEUED, RUNNING, WORK
from unheard.server.refusals import busy, stopping, too_slow
from unheard.server.settings import ServerSettings

T = TypeVar("T")

FIRST_SPEED = 50.0
"""Seconds of audio scored per second, assumed until some have been."""


class Work:
    """The queue of a server and the threads that score.

    Waiting and working are bounded apart: a recording that would be expected to wait longer than `max_wait` is refused
    at once, with the time after which it would not; scoring may take `timeout` and a tenth of the recording's
    duration. A thread cannot be stopped from outside: scoring looks at its `stop` event after every block.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.speed = FIRST_SPEED
        self.stopped = asyncio.Event()  # set when the server begins to stop
        self.expired = asyncio.Event()  # set when its grace is over
        self._owed = 0.0  # seconds of audio waiting or being scored
        self._taken = 0
        self._free = asyncio.Semaphore(settings.concurrency)
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="unheard")

    @property
    def taken(self) -> int:
        """Recordings waiting or being scored."""
        return self._taken

    def expected_wait(self) -> float:
        """Return the seconds until one more recording would begin."""
        if self._taken < self.settings.concurrency:
            return 0.0
        return self._owed / self.speed / self.settings.concurrency

    @asynccontextmanager
    async def admitted(self, seconds: float) -> AsyncIterator[None]:
        """Count a recording of `seconds` as owed work; raises `Refusal` 429 where it could not begin in time."""
        if self.stopped.is_set():
            raise stopping()
        wait = self.expected_wait()
        if wait > self.settings.max_wait:
            raise busy(wait - self.settings.max_wait)
        if self._taken >= self.settings.concurrency + self.settings.waiting:
            raise busy(max(wait / self._taken, 1.0))
        self._taken += 1
        self._owed += seconds
        RUNNING.set(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._owed -= seconds
            RUNNING.set(self._taken)

    async def run(self, job: Callable[[Event], T], seconds: float, gone: Awaitable[object]) -> T:
        """Wait for a turn and return the result of `job`, whose argument is an event set when nobody waits any more.

        `seconds` is the duration of the audio; `gone` completes when the client has left. Raises what the job raises,
        and `Refusal` 503 where the server stops first, 504 where scoring takes too long.
        """
        began = time.monotonic()
        left: asyncio.Future[object] = asyncio.ensure_future(gone)
        stopped, expired = (asyncio.create_task(event.wait()) for event in (self.stopped, self.expired))
        turn = asyncio.create_task(self._free.acquire())
        stop = Event()
        try:
            waiting: set[asyncio.Future[Any]] = {turn, left, stopped}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done() or left.done():
                if turn.done():
                    self._free.release()
                raise stopping()
            QUEUED.observe(time.monotonic() - began)
            began = time.monotonic()
            future = asyncio.get_running_loop().run_in_executor(self._threads, job, stop)
            future.add_done_callback(self._ended)
            limit = self.settings.timeout + seconds / 10
            waiting = {future, left, expired}
            await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                stop.set()
                raise stopping() if expired.done() or left.done() else too_slow()
            spent = max(time.monotonic() - began, 1e-4)
            WORK.observe(spent)
            AUDIO.inc(seconds)
            if seconds > 1:
                self.speed += 0.2 * (seconds / spent - self.speed)
            return future.result()
        finally:
            stop.set()
            for task in (left, stopped, expired, turn):
                task.cancel()

    def _ended(self, future: asyncio.Future[T]) -> None:
        with suppress(BaseException):  # nobody may be left to ask for its exception
            future.exception()
        self._free.release()
