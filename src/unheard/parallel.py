"""Single-threaded worker processes; a worker that dies costs at most the item that killed it.

Every worker is a separate loky executor, so that the items of a dead worker are known. Unlike `multiprocessing`, loky
does not run the caller's script again (notebooks, `python -c`, no main guard).
"""

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
    # otherwise glibc returns a batch's memory to the system and requests it again at every step; ignored elsewhere
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
"""Environment variables of every worker, set before it starts."""


@dataclass(frozen=True)
class Died:
    """The result of an item whose worker process died twice."""

    reason: str


class _Worker:
    """A worker process and its current items, if any."""

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
    """Block Ctrl-C in processes started in this context, even while they import: signal masks are inherited."""
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
    """Apply `function` to every item in worker processes; yield (index of the item, result) in order of completion.

    `workers` 0 means one per core. One worker means this process, unless `isolate` requests a separate one. A worker
    receives `chunk` items at a time. If it dies, each of them is tried once more, alone, and an item that kills its
    worker again yields `Died`. Exceptions of `function` are raised here and stop the remaining work. `quiet` discards
    what workers print. `tick` is called about twice a second while workers are busy.
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
    """Show a progress bar if standard error is a terminal; yields a function to call after every item.

    Its argument is the seconds of audio processed so far, shown as a multiple of real time; 0 shows no rate.
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
    why = "; perhaps out of memory: try fewer workers" if killed else ""
    return f"its process died twice ({code[0] if code else 'no exit code'}{why})"


def _begin(quiet: bool, parent: int) -> None:
    """Prepare a worker: ignore Ctrl-C, which the parent handles, free standard output, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, ValueError):
        if quiet:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(2, 1)  # output of a decoder must not mix with the parent's
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent or sys.platform == "win32":
        time.sleep(1)
    os._exit(1)
