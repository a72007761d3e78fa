"""Training many cells at once on one machine: worker processes, one thread each.

On a CPU several single-threaded trainings are much faster than one with many threads. A cell that fails is
reported and the rest go on; a worker that dies is replaced; workers die with their parent.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from unheard.errors import UnheardError
from unheard.experiments.cell import Cell, run_cell
from unheard.files import write_text


@dataclass(frozen=True)
class Event:
    """What happened to a cell: an `epoch` (with its record), `done`, or `failed` (with the reason)."""

    kind: str
    cell: Cell
    record: dict[str, Any]


def run_cells(cells: Sequence[Cell], workers: int = 0, device: str = "auto") -> Iterator[Event]:
    """Train `cells` in their order with `workers` processes, yielding what happens.

    `workers` 0 is one a core on a CPU and one on an accelerator. The results do not depend on how many there are.
    """
    waiting = list(cells)
    workers = min(workers or usual_workers(device), len(waiting))
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    team = [_Worker(context) for _ in range(workers)]
    try:
        while waiting or any(worker.cell for worker in team):
            for worker in team:
                if worker.cell is None and waiting:
                    worker.start(waiting.pop(0))
            busy = [worker for worker in team if worker.cell]
            for ready in wait([w.pipe for w in busy] + [w.process.sentinel for w in busy]):
                for worker in busy:
                    if ready in (worker.pipe, worker.process.sentinel):
                        yield from worker.events()
            for place, worker in enumerate(team):
                if not worker.process.is_alive() and worker.cell is None:
                    team[place] = _Worker(context) if waiting else worker
    finally:
        for worker in team:
            worker.stop()


def usual_workers(device: str) -> int:
    """Trainings at once where nobody says how many: one a core on a CPU, one on an accelerator."""
    if device != "cpu":
        from unheard.training.evaluation import choose_device

        if choose_device(device).type != "cpu":
            return 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


class _Worker:
    """A process that trains one cell after the other, and the parent's end of its pipe."""

    def __init__(self, context: Any) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _Quietly():
            self.process.start()
        theirs.close()
        self.cell: Cell | None = None

    def start(self, cell: Cell) -> None:
        self.cell = cell
        with suppress(OSError):  # a worker that is gone shows in `events`
            self.pipe.send(cell)

    def events(self) -> Iterator[Event]:
        """Everything the worker has said so far; its death, if it died."""
        while self.cell is not None:
            try:
                if not self.pipe.poll():
                    if not self.process.is_alive() and not self.pipe.poll():
                        raise EOFError
                    return
                kind, record = self.pipe.recv()
            except (EOFError, OSError):
                self.process.join()
                cell, self.cell = self.cell, None
                code = self.process.exitcode
                why = "; killed, for want of memory perhaps: try fewer --workers" if code == -9 else ""
                reason = f"its process ended unexpectedly (exit code {code}{why})"
                yield Event("failed", cell, {"reason": reason})
                return
            cell = self.cell
            if kind != "epoch":
                self.cell = None
            yield Event(kind, cell, record)

    def stop(self) -> None:
        self.pipe.close()
        if self.cell is not None:
            self.process.terminate()
        self.process.join(timeout=10)


ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # glibc would hand a batch's memory back to the system and fetch it anew at every step; elsewhere ignored
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
"""Of a process that trains, before it starts."""


@contextmanager
def worker_environment() -> Iterator[None]:
    """A process started in here finds `ENVIRONMENT`."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Quietly:
    """In here a process is started that uses one thread, ignores Ctrl-C, and does not run the main script again.

    Without the last a script that calls `unheard.experiment` outside of `if __name__ == "__main__"` would call it in
    every worker as well.
    """

    def __enter__(self) -> None:
        self.environment = worker_environment()
        self.environment.__enter__()
        main = sys.modules["__main__"]
        self.script = {name: vars(main).get(name) for name in ("__spec__", "__file__")}
        for name in self.script:
            setattr(main, name, None)
        if sys.platform != "win32":  # inherited: Ctrl-C is the parent's to handle, also while a worker starts
            self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def __exit__(self, *error: object) -> None:
        main = sys.modules["__main__"]
        for name, value in self.script.items():
            if value is None and name == "__file__":
                delattr(main, name)
            else:
                setattr(main, name, value)
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        self.environment.__exit__(None, None, None)


def _work(pipe: Connection) -> None:
    """A worker's whole life: cells in, events out; ends when the parent does."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            cell: Cell = pipe.recv()
        except (EOFError, OSError):
            return
        kind, record = attempt(cell, lambda record: pipe.send(("epoch", record)))
        pipe.send((kind, record))


def attempt(cell: Cell, tell: Callable[[dict[str, Any]], None]) -> tuple[str, dict[str, Any]]:
    """Train `cell`: `done` and its result, or `failed` and the reason, with a traceback in its `failure.txt`.

    `tell` receives every epoch's record, and so does TensorBoard if it was asked for.
    """
    try:
        result = run_cell(cell, _reporter(cell, tell))
    except Exception as error:
        with suppress(UnheardError):
            write_text(cell.folder / "failure.txt", traceback.format_exc())
        return "failed", {"reason": reason_of(error)}
    (cell.folder / "failure.txt").unlink(missing_ok=True)
    return "done", result


def reason_of(error: BaseException) -> str:
    """An error in a line for people."""
    return str(error) if isinstance(error, UnheardError) else f"{type(error).__name__}: {error}"


def _reporter(cell: Cell, tell: Callable[[dict[str, Any]], None]) -> Callable[[Mapping[str, Any]], None]:
    if not cell.tensorboard:
        return lambda record: tell(dict(record))
    from unheard.experiments.logging import writer

    log = writer(cell.folder / "tensorboard")

    def report(record: Mapping[str, Any]) -> None:
        log(record)
        tell(dict(record))

    return report


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
