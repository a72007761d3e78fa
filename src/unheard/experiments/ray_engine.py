"""Train cells on a cluster: each cell a Ray task; the run's folder is on a disk that all nodes share.

A task trains its cell as a local worker does, in the same environment, so the numbers are the same. A task whose worker
or node dies is started again and continues from the cell's checkpoint; a lock keeps two attempts of a cell apart.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from unheard import plugins
from unheard.errors import ConfigError, MissingExtra, UnheardError
from unheard.experiments.cell import Outcome, attempt, usual_workers
from unheard.experiments.cell_files import read_history
from unheard.experiments.plan import Cell
from unheard.files import locked, write_text
from unheard.manifest import Utterance
from unheard.parallel import ENVIRONMENT

STRIKES = 4
"""A cell is given up when its worker died so often without another epoch in its history."""
SHARE = 0.25
"""Default share of a GPU for each cell."""
_STARTS = 3  # of a local Ray, whose own processes have 15 s to start, too little on a busy machine
_PATIENCE = 120.0  # seconds until a dead attempt's lock, or a new file, is known to every client of a shared disk
_SAME = ("unheard", "torch", "numpy")  # packages whose versions must agree for numbers to agree


def check(address: str, gpus: float, device: str) -> Any:
    """Return Ray; raise `MissingExtra` without it, `ConfigError` for settings that contradict each other."""
    if gpus < 0:
        raise ConfigError(f"gpus = {gpus} is out of range", mend="Give a share such as 0.25.")
    if gpus and device == "cpu":
        raise ConfigError(f"gpus = {gpus} and device = cpu contradict each other", mend="Give one of them.")
    if "://" in address:
        what = f"'{address}' is not an address of a cluster that this machine is part of"
        raise ConfigError(what, mend="Run this on a machine of the cluster, with --address auto or HOST:PORT.")
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        os.environ.setdefault(name, "0")  # Ray reads them when it is imported
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray") from None
    return ray


def run_cells(
    cells: Sequence[Cell],
    workers: int = 0,
    device: str = "auto",
    tick: Callable[[], None] = lambda: None,
    *,
    address: str = "",
    gpus: float = 0.0,
) -> Iterator[Outcome]:
    """Train `cells` in their order as Ray tasks and yield each as it ends; see `cell.run_cells`.

    `address` is that of a running cluster (`auto` finds the one of this machine); without it Ray is started here and
    stopped afterwards. `workers` limits the cells at once (0: what the cluster has room for); a cell takes one
    processor and the share `gpus` of a GPU. Raises `ConfigError` if no cluster answers, or if a node does not see the
    cells' folders or has other versions installed.
    """
    ray = check(address, gpus, device)
    started = not ray.is_initialized()
    if started:
        _connect(ray, address, workers)
    out = Path(cells[0].settings.out).absolute()
    token = out / f".seen-by-all-{uuid.uuid4().hex}"
    running: dict[Any, int] = {}
    waiting, strikes = deque(range(len(cells))), [0] * len(cells)
    epochs = [len(read_history(cell.folder)) for cell in cells]
    rows: dict[str, Any] = {}  # the utterances of a fold are the same for all its cells: they are sent once
    try:
        some = device.startswith("cuda") or (device != "cpu" and ray.cluster_resources().get("GPU"))
        share = gpus or (SHARE if some else 0.0)
        how = {"num_cpus": 1, "num_gpus": share, "max_retries": 0, "runtime_env": {"env_vars": ENVIRONMENT}}
        task = ray.remote(_train).options(**how)
        write_text(token, token.name)
        while waiting or running:
            while waiting and len(running) < (workers or len(cells)):
                place = waiting.popleft()
                cell = cells[place]
                if cell.data not in rows:
                    rows[cell.data] = ray.put(dict(cell.rows))
                device = cell.settings.device if share or cell.settings.device == "mps" else "cpu"
                settings = replace(cell.settings, out=str(out), device=device)
                there = replace(cell, rows={}, store=cell.store.absolute(), settings=settings)
                running[task.remote(there, rows[cell.data], str(token), _versions(), plugins.registered())] = place
            done, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            tick()
            for reference in done:
                place = running.pop(reference)
                try:
                    yield cells[place], ray.get(reference)
                except ray.exceptions.RayTaskError as error:  # raised by the task: not fit, or without unheard
                    if isinstance(error.cause, ConfigError):
                        raise error.cause from None
                    yield cells[place], f"{type(error.cause).__name__}: {error.cause}"
                except ray.exceptions.RayError as error:  # its worker or node died
                    before, epochs[place] = epochs[place], len(read_history(cells[place].folder))
                    strikes[place] = 0 if epochs[place] > before else strikes[place] + 1
                    if strikes[place] < STRIKES:
                        time.sleep(strikes[place])
                        waiting.appendleft(place)
                        continue
                    why = next(iter(str(error).strip().splitlines()), type(error).__name__)
                    yield cells[place], f"its worker died {STRIKES} times without one more epoch ({why})"
    finally:
        for reference in running:
            with suppress(Exception):  # a cluster that is gone
                ray.cancel(reference, force=True)
        token.unlink(missing_ok=True)
        if started:
            ray.shutdown()


def _connect(ray: Any, address: str, workers: int) -> None:
    """Join the cluster at `address`, or start one of this machine alone."""
    how: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": logging.CRITICAL}
    if not address:
        how |= {"num_cpus": workers or usual_workers("cpu"), "object_store_memory": 2**28, "include_dashboard": False}
    for again in reversed(range(1 if address else _STARTS)):
        try:
            ray.init(**how)
            break
        except Exception as error:  # Ray raises a bare Exception for a start that took too long
            ray.shutdown()
            if again:
                continue
            why = " ".join(str(error).split())[:200]
            what = f"no Ray cluster can be used at '{address}' ({why})" if address else f"Ray did not start ({why})"
            mend = "Check it with `ray status`, or leave out --address." if address else "See /tmp/ray/session_latest."
            raise ConfigError(what, mend=mend) from error
    worker = sys.modules.get("ray._private.worker")
    if hasattr(worker, "_worker_logs_enabled"):  # events of nodes on standard output, where our table goes
        setattr(worker, "_worker_logs_enabled", False)  # noqa: B010 - unknown to type checkers


def _versions() -> dict[str, str]:
    """Versions without the suffix after +, which names the processor a library was built for."""
    return {name: metadata.version(name).partition("+")[0] for name in _SAME}


def _train(
    cell: Cell, rows: Mapping[str, Utterance], token: str, versions: Mapping[str, str], given: dict[Any, Any]
) -> str:
    """Train `cell` on a node; return why it failed, or "". Raises `ConfigError` if the node is not fit for the run."""
    plugins.restore(given)
    node, end = platform.node(), time.monotonic() + _PATIENCE
    if others := [f"{name} {version}" for name, version in _versions().items() if version != versions[name]]:
        ours = ", ".join(f"{name} {version}" for name, version in versions.items())
        what = f"the node {node} has {', '.join(others)}, and its numbers could differ from those of {ours}"
        raise ConfigError(what, mend="Install the same versions on every node.")
    for path in (Path(token), cell.store / "store.json"):
        while not path.is_file():
            if time.monotonic() > end:
                mend = "Put --out, and --store if you name one, on a file system that all nodes mount at the same path."
                raise ConfigError(f"the node {node} does not see this folder", where=path.parent, mend=mend)
            time.sleep(1)
    cell.folder.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            with locked(cell.folder, "training this cell"):
                return attempt(replace(cell, rows=rows))
        except UnheardError as error:  # an attempt before this one still holds the lock
            if time.monotonic() > end:
                return str(error)
            time.sleep(0.5)
