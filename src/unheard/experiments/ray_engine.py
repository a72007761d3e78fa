"""Training many cells at once on a cluster: each cell a Ray task, where the run's folder is on a disk all nodes share.

State is files here too: a task trains its cell as a local worker would, in the same environment, and its numbers are
the same. What it has come to is read from the cell's history. A task whose worker or node dies is started again and
goes on from the cell's checkpoint; a lock keeps two attempts of one cell apart, should the first live on unseen.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from unheard.errors import ConfigError, MissingExtra, UnheardError
from unheard.experiments.cell import Cell
from unheard.experiments.launch import ENVIRONMENT, Event, attempt, reason_of, usual_workers
from unheard.files import locked, write_text
from unheard.manifest import Utterance

LOOK_SECONDS = 1.0
"""How often the cells' histories are looked at."""

STRIKES = 4
"""A cell is given up when its worker died so often without leaving one more epoch."""

SHARE = 0.25
"""Of a GPU, for each cell where nobody says how much."""

_PAUSE = 2.0  # seconds for each strike, before a cell is tried again: what its worker died of may pass
_STARTS = 3  # of Ray here: it gives its own processes 15 s, which a busy machine may not keep at once
_PATIENCE = 120.0  # seconds until a dead attempt's lock, or a new file, is known to every client of a shared disk
_TOGETHER = ("unheard", "torch", "numpy")  # whose versions must agree on all nodes for numbers to agree


def check(address: str, gpus: float, device: str) -> Any:
    """Ray; raises `MissingExtra` without it and `ConfigError` for settings that contradict each other."""
    if gpus < 0:
        raise ConfigError(f"gpus = {gpus} is out of range", mend="Give a share such as 0.25.")
    if gpus and device == "cpu":
        raise ConfigError(f"gpus = {gpus} and device = cpu contradict each other", mend="Give one of them.")
    if "://" in address:
        raise ConfigError(
            f"'{address}' is not an address of a cluster this machine is part of",
            mend="Run this on a machine of the cluster, with --address auto or HOST:PORT.",
        )
    # before Ray is imported: it reads them then
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray") from None
    return ray


def run_cells(
    cells: Sequence[Cell], workers: int = 0, device: str = "auto", *, address: str = "", gpus: float = 0.0
) -> Iterator[Event]:
    """Train `cells` in their order as Ray tasks, yielding what happens, as `launch.run_cells` does.

    `address` is that of a running cluster (`auto` finds the one this machine belongs to); without one Ray is started
    here and stopped afterwards; a Ray that runs in this process already is used. `workers` limits the cells at once,
    0 is what the cluster has room for; a cell takes one processor and the share `gpus` of a GPU. Raises `ConfigError`
    where no cluster answers, where a node does not see the cells' folders or has other versions installed.
    """
    if not cells:
        return
    ray = check(address, gpus, device)
    started = not ray.is_initialized()
    if started:
        _connect(ray, address, workers)
    try:
        share = gpus or (SHARE if device != "cpu" and ray.cluster_resources().get("GPU") else 0.0)
        if device.startswith("cuda") and not share:
            share = SHARE  # of a node that is still to come
        yield from _Team(ray, cells, share).run(workers or len(cells))
    finally:
        if started:
            ray.shutdown()


def _connect(ray: Any, address: str, workers: int) -> None:
    """Join the cluster at `address`, or start one of this machine alone."""
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    for again in reversed(range(1 if address else _STARTS)):
        try:
            if address:
                ray.init(address=address, **quiet)
            else:
                here = {"num_cpus": workers or usual_workers("cpu"), "object_store_memory": 2**28}
                ray.init(address="local", include_dashboard=False, **here, **quiet)
            _hush()
            return
        except Exception as error:  # Ray raises a bare Exception for a start that took too long
            ray.shutdown()
            if again:
                continue
            why = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"no Ray cluster can be used at '{address}' ({why})" if address else f"Ray did not start ({why})",
                mend="Check it with `ray status`, or leave out --address for one of this machine alone."
                if address
                else "Try again, or look into /tmp/ray/session_latest/logs.",
            ) from error


def _hush() -> None:
    """Ray prints what befalls its nodes to standard output, where our table goes, and knows no option against it."""
    worker = sys.modules.get("ray._private.worker")
    if hasattr(worker, "_worker_logs_enabled"):
        setattr(worker, "_worker_logs_enabled", False)  # noqa: B010 - no attribute a type checker knows


@dataclass
class _Try:
    """A cell, the task that trains it while there is one, and how far its history has been told."""

    cell: Cell
    told: int
    size: int = 0
    reference: Any = None
    strikes: int = 0
    not_before: float = 0.0


class _Team:
    """The tasks of a call."""

    def __init__(self, ray: Any, cells: Sequence[Cell], share: float) -> None:
        self.ray, self.share = ray, share
        self.waiting = [_Try(cell, len(_history(cell))) for cell in cells]
        self.running: dict[Any, _Try] = {}
        self.task = ray.remote(_train).options(
            num_cpus=1,
            num_gpus=share,
            max_retries=0,  # we do it, and count only those that came no further
            runtime_env={"env_vars": ENVIRONMENT},
        )
        # the utterances of a fold are the same for all its cells: they travel once
        self.rows: dict[tuple[str, str], Any] = {}
        self.out = cells[0].out.absolute()
        self.token = self.out / f".seen-by-all-{uuid.uuid4().hex}"

    def run(self, limit: int) -> Iterator[Event]:
        write_text(self.token, self.token.name)
        try:
            while self.waiting or self.running:
                for one in [one for one in self.waiting if one.not_before <= time.monotonic()]:
                    if len(self.running) < limit:
                        self.waiting.remove(one)
                        self._submit(one)
                if not self.running:
                    time.sleep(0.1)
                    continue
                done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=LOOK_SECONDS)
                for one in self.running.values():
                    yield from _news(one)
                for reference in done:
                    one = self.running.pop(reference)
                    yield from self._ended(one)
        finally:
            for reference in self.running:
                with suppress(Exception):  # a cluster that is gone
                    self.ray.cancel(reference, force=True)
            self.token.unlink(missing_ok=True)

    def _submit(self, one: _Try) -> None:
        cell = one.cell
        key = (cell.split, cell.data)
        if key not in self.rows:
            self.rows[key] = self.ray.put(dict(cell.rows))
        device = "cpu" if not self.share and cell.device != "mps" else cell.device
        there = replace(cell, rows={}, out=cell.out.absolute(), store=cell.store.absolute(), device=device)
        one.reference = self.task.remote(there, self.rows[key], str(self.token), _versions())
        self.running[one.reference] = one

    def _ended(self, one: _Try) -> Iterator[Event]:
        """What the end of a task means: a result, a failure, or another attempt."""
        gone = self.ray.exceptions
        try:
            kind, record = self.ray.get(one.reference)
        except gone.RayTaskError as error:  # before it could train, such as a node without unheard
            yield Event("failed", one.cell, {"reason": reason_of(error.cause)})
            return
        except (gone.RuntimeEnvSetupError, gone.TaskUnschedulableError, gone.TaskCancelledError) as error:
            yield Event("failed", one.cell, {"reason": reason_of(error)})
            return
        except gone.RayError as error:
            before, seen = one.told, list(_news(one))
            yield from seen
            one.strikes = 0 if one.told > before else one.strikes + 1
            if one.strikes >= STRIKES:
                why = f"its worker died {one.strikes} times without one more epoch ({_first_line(error)})"
                yield Event("failed", one.cell, {"reason": why})
                return
            one.not_before = time.monotonic() + _PAUSE * one.strikes
            self.waiting.insert(0, one)
            return
        if kind == "unfit":
            raise ConfigError(record["what"], where=record["where"], mend=record["mend"])
        yield from _news(one)
        yield Event(kind, one.cell, record)


def _news(one: _Try) -> Iterator[Event]:
    """The epochs a cell has left on disk since the last time."""
    try:
        size = _history_of(one.cell).stat().st_size
    except OSError:  # none yet
        return
    if size == one.size:
        return
    one.size, records = size, _history(one.cell)
    for record in records[one.told :]:
        yield Event("epoch", one.cell, record)
    one.told = max(one.told, len(records))


def _history(cell: Cell) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in _history_of(cell).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):  # none yet; or a disk that shows a new file before all of it
        return []


def _history_of(cell: Cell) -> Path:
    return cell.folder / "history.jsonl"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _versions() -> dict[str, str]:
    """Without what follows a +, which says for which processor a library was built."""
    return {name: metadata.version(name).partition("+")[0] for name in _TOGETHER}


def _train(
    cell: Cell, rows: Mapping[str, Utterance], token: str, versions: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """The task: what became of `cell`, or `unfit` and why this node cannot train it."""
    import torch

    torch.set_num_threads(1)
    unfit = _unfit(cell, Path(token), versions)
    if unfit:
        return "unfit", unfit
    cell = replace(cell, rows=rows)
    with ExitStack() as stack:
        try:
            cell.folder.mkdir(parents=True, exist_ok=True)
            _take(stack, cell.folder)
        except (OSError, UnheardError) as error:
            return "failed", {"reason": reason_of(error)}
        return attempt(cell, lambda _: None)


def _unfit(cell: Cell, token: Path, versions: Mapping[str, str]) -> dict[str, str]:
    """Why this node cannot train for the others; nothing where it can."""
    node = platform.node()
    others = [f"{name} {version}" for name, version in _versions().items() if version != versions[name]]
    if others:
        ours = ", ".join(f"{name} {version}" for name, version in versions.items())
        return {
            "what": f"the node {node} has {', '.join(others)}, and its numbers could differ from those of {ours}",
            "where": "",
            "mend": "Install the same versions on every node.",
        }
    end = time.monotonic() + _PATIENCE
    for path in (token, cell.store / "store.json"):
        while not path.is_file():
            if time.monotonic() > end:
                return {
                    "what": f"the node {node} does not see this folder",
                    "where": str(path.parent),
                    "mend": "Put --out, and --store if you name one, on a file system that every node mounts "
                    "at the same path.",
                }
            time.sleep(1)
    return {}


def _take(stack: ExitStack, folder: Path) -> None:
    """Hold the cell's lock until `stack` ends, once an attempt before this one has let it go."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            stack.enter_context(locked(folder, "training this cell"))
            return
        except UnheardError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
