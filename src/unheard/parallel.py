"""Worker processes: one thread each, and a worker that dies costs at most the item that killed it.

Every worker is a loky executor of its own, so that it is known which item a dead one had in hand; and loky's processes
do not run the caller's script again, unlike those of `multiprocessing` (notebooks, `python -c`, no main guard).
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from unheard import plugins

Item = TypeVar("Item")
Result = TypeVar("Result")

ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"),
    # glibc would return a batch's memory to the system and fetch it again at every step; ignored elsewhere
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
"""Environment variables of every worker, set before it starts."""


@dataclass(frozen=True)
class Died:
    """In place of a result: the worker process died over this item, twice."""

    reason: str


class _Worker:
    """A process that has some items in hand, or none."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.pool: Any = None
        self.future: Future[list[Any]] | None = None
        self.places = range(0)
        self.again = False

    def start(self, places: range, again: bool, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        if self.pool is None:
            from loky import ProcessPoolExecutor

            begin = (self.quiet, os.getpid())
            self.pool = ProcessPoolExecutor(1, timeout=None, initializer=_begin, initargs=begin, env=ENVIRONMENT)
        self.places, self.again = places, again
        with _no_interrupts():
            self.future = self.pool.submit(_apply, plugins.registered(), function, [items[place] for place in places])

    def stop(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, kill_workers=self.future is not None)
        self.pool = self.future = None


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """A process started in here never sees Ctrl-C, not even while it imports: signal masks are inherited."""
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    from loky.backend import resource_tracker as of_loky

    for tracker in (resource_tracker, of_loky):  # starting one later would unblock Ctrl-C
        tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def available_cores() -> int:
    """Return the number of CPU cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def map_unordered(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int = 0,
    chunk: int = 1,
    isolate: bool = False,
    quiet: bool = False,
    tick: Callable[[], None] | None = None,
) -> Iterator[tuple[int, Result | Died]]:
    """Apply `function` to every item in worker processes; yield (index of the item, result) as results come.

    `workers` 0 means one a core. One worker means this process, unless `isolate` asks for a process all the same.
    A worker takes `chunk` items at a time. When it dies, each item it had in hand is tried once more, alone, and an
    item that kills its worker again yields `Died`. Exceptions of `function` are raised here and stop the rest.
    `quiet` discards what workers print. `tick` is called about twice a second while workers are busy.
    """
    workers = min(workers or available_cores(), -(-len(items) // chunk))
    if workers <= 1 and not isolate:
        for place, item in enumerate(items):
            yield place, function(item)
        return
    waiting = deque((range(len(items))[start : start + chunk], False) for start in range(0, len(items), chunk))
    team = [_Worker(quiet) for _ in range(workers)]
    try:
        while waiting or any(worker.future for worker in team):
            for worker in team:
                if worker.future is None and waiting:
                    worker.start(*waiting.popleft(), function, items)
            wait([w.future for w in team if w.future], timeout=0.5, return_when=FIRST_COMPLETED)
            if tick is not None:
                tick()
            for worker in team:
                if worker.future is None or not worker.future.done():
                    continue
                try:
                    results = worker.future.result()
                except BrokenProcessPool as error:
                    worker.stop()
                    if worker.again:
                        yield worker.places[0], Died(_reason(error))
                    else:
                        waiting.extendleft((range(place, place + 1), True) for place in reversed(worker.places))
                    continue
                worker.future = None
                yield from zip(worker.places, results, strict=True)
    finally:
        for worker in team:
            worker.stop()


@contextmanager
def progress_bar(label: str, total: int, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Show a progress bar on a terminal, nothing elsewhere; call the result after every item.

    Its argument is the seconds of audio done so far, shown as a multiple of real time; 0 shows no rate.
    """
    if not (shown and total and sys.stderr.isatty()):
        yield lambda seconds=0.0: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance(seconds: float = 0.0) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            speed = f"{seconds / elapsed:,.0f}× real time" if seconds and elapsed > 0.5 else ""
            bar.update(task, advance=1, rate=speed)

        yield advance


def _apply(given: dict[Any, Any], function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    plugins.restore(given)
    return [function(item) for item in items]


def _reason(error: BrokenProcessPool) -> str:
    code = re.search(r"SIG\w+|EXIT\(\d+\)", str(error))
    killed = code is not None and code[0].startswith("SIGKILL")
    why = "; perhaps for want of memory: try fewer workers" if killed else ""
    return f"its process died twice ({code[0] if code else 'no exit code'}{why})"


def _begin(quiet: bool, parent: int) -> None:
    """Prepare a worker: Ctrl-C is the parent's to handle, standard output is the parent's, and so is the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, ValueError):
        if quiet:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(2, 1)  # what a decoder prints must not mix with the parent's answers
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent or sys.platform == "win32":
        time.sleep(1)
    os._exit(1)
