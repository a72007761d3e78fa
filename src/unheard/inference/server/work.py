"""Bounded work: so many recordings at once, so many waiting, one more is told to come back later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from threading import Event
from typing import Any, TypeVar

from unheard.inference.server.refusals import busy, too_slow

T = TypeVar("T")


class Work:
    """The places of a server and the threads that work in them.

    A place is taken before an upload is read, so that uploads in memory are bounded too. A thread cannot be
    stopped from outside: a job that missed its time keeps its place until it notices `stop` or is done, whether
    or not its client was answered.
    """

    def __init__(self, concurrency: int, waiting: int) -> None:
        self.places = concurrency + waiting
        self.taken = 0
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="unheard")

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A place for one request; raises the `Refusal` 429 when all are taken."""
        if self.taken >= self.places:
            raise busy()
        self.taken += 1
        place = Place(self._threads)
        try:
            yield place
        finally:
            place.leave(self._free)

    def _free(self) -> None:
        self.taken -= 1


class Place:
    """One request's place: it can have one job done."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._stop = Event()
        self._job: Future[Any] | None = None
        self._ended: asyncio.Future[Any] | None = None

    async def run(self, job: Callable[[Event], T], timeout: float) -> T:
        """The result of `job`, which is given an event that is set when nobody waits for it any more.

        Raises what the job raises, or the `Refusal` 504 after `timeout` seconds, those of waiting included.
        """
        future = self._threads.submit(job, self._stop)
        self._job, self._ended = future, asyncio.wrap_future(future)
        self._ended.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # a late one is nobody's
        done, _ = await asyncio.wait({self._ended}, timeout=timeout)
        if not done:
            raise too_slow()
        return future.result()

    def leave(self, free: Callable[[], None]) -> None:
        """Frees the place: now, or when the job that nobody waits for any more has ended."""
        self._stop.set()
        if self._job is None or self._ended is None or self._ended.done():
            free()
            return
        self._ended.add_done_callback(lambda _: free())
        self._job.cancel()  # where it has not begun
