"""Bounded work: so many recordings scored at once, others waiting, one that cannot finish in time refused at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Event
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from unheard.server.refusals import Refusal, busy
from unheard.server.settings import ServerSettings

T = TypeVar("T")

REGISTRY = CollectorRegistry()  # the metrics of this process; those of requests and uploads are in their modules
AUDIO = Counter("unheard_audio_seconds", "Seconds of audio scored", registry=REGISTRY)
WORK = Histogram("unheard_work_seconds", "Seconds of scoring per recording", registry=REGISTRY)
QUEUED = Histogram("unheard_queue_seconds", "Seconds a recording waited before scoring", registry=REGISTRY)
RUNNING = Gauge("unheard_recordings", "Recordings waiting or being scored", registry=REGISTRY)
STREAMS = Gauge("unheard_streams", "Live streams", registry=REGISTRY)

FIRST_SPEED = 50.0  # seconds of audio scored per second, assumed until some have been
STREAMS_A_THREAD = 16  # live streams taken for each thread; each needs about a fiftieth of one
PAUSED_A_THREAD = 2  # recordings begun and overtaken, for each thread
LOOK = 0.05  # seconds between two looks at whether the server stops or the time is over


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

    def _first(self) -> Job | None:
        return min(self._waiting, key=lambda one: one.deadline, default=None)

    def take(self, job: Job) -> None:
        """Wait for a turn, or until the job stops; a job that stopped takes one too, to find that out."""
        with self._changed:
            self._waiting.append(job)
            self._changed.wait_for(lambda: job.stop or (self._free > 0 and job is self._first()))
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
            first, paused = self._first(), sum(one.began is not None for one in self._waiting)
            if first is None or first.deadline >= job.deadline:
                return
            if first.began is None and paused >= self._most_paused:
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
        self.settings, self.speed, self.streams = settings, FIRST_SPEED, 0
        self.stopped = Event()  # set when the server begins to stop
        self.expired = Event()  # set when its grace is over
        self._jobs: list[Job] = []
        self._turns = Turns(settings.threads)
        # those that wait for a turn have a thread, too; those that left give theirs back at once
        self._threads = ThreadPoolExecutor(settings.threads + settings.waiting, thread_name_prefix="unheard")

    @property
    def taken(self) -> int:
        """Recordings waiting or being scored."""
        return len(self._jobs)

    def check_running(self) -> None:
        """Raise `Refusal` 503 where the server stops."""
        if self.stopped.is_set():
            raise Refusal("stopping")

    @contextmanager
    def _admitted(self, job: Job) -> Iterator[None]:
        """Count a job; raises `Refusal` 429 where it could not begin in time."""
        self.check_running()
        threads, most_wait, wait = self.settings.threads, self.settings.max_wait, 0.0
        if self.taken >= threads:
            ahead = sum(one.seconds * (1 - (one.share or 0)) for one in self._jobs if one.deadline <= job.deadline)
            wait = ahead / self.speed / threads
        if wait > most_wait:
            raise busy(wait - most_wait)
        if self.taken >= threads + self.settings.waiting:
            raise busy(max(wait / self.taken, 1.0))
        job.share = 0.0
        self._jobs.append(job)
        try:
            with RUNNING.track_inprogress():
                yield
        finally:
            self._jobs.remove(job)

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Count a live stream; raises `Refusal` 429 where there are as many as the server takes."""
        self.check_running()
        if self.streams >= STREAMS_A_THREAD * self.settings.threads:
            raise busy(30)
        self.streams += 1
        try:
            with STREAMS.track_inprogress():
                yield
        finally:
            self.streams -= 1

    async def run(self, score: Callable[[], T], job: Job, gone: Awaitable[object]) -> T:
        """Wait for a turn and return the result of `score()`; `gone` completes when the client has left.

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
                return score()
            finally:
                self._turns.give(job)

        left = asyncio.ensure_future(gone)
        try:
            with self._admitted(job):
                future = asyncio.wrap_future(self._threads.submit(begin))
                future.add_done_callback(lambda one: one.cancelled() or one.exception())  # nobody may be left to look
                both: set[asyncio.Future[Any]] = {future, left}
                while future not in (await asyncio.wait(both, timeout=LOOK, return_when="FIRST_COMPLETED"))[0]:
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
