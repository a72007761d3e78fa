"""Training of cells on a cluster: each cell is a Ray task, and the run's folder is on a disk shared by all nodes.

A task trains its cell like a local worker, in the same environment, and gives the same numbers. A task whose worker or
node dies is restarted and continues from the cell's checkpoint; a lock prevents simultaneous attempts.
"""

import logging
import os
import platform
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from unheard import plugins
from unheard.errors import ConfigError, UnheardError, needs
from unheard.experiments.cell import Outcome, attempt, default_workers
from unheard.experiments.cell_files import read_history
from unheard.experiments.config import Experiment
from unheard.experiments.plan import Cell
from unheard.files import locked, write_text
from unheard.parallel import ENVIRONMENT

STRIKES = 4  # a cell fails when its worker has died this many times without completing another epoch
SHARE = 0.25  # default share of a GPU per cell
_STARTS = 3  # attempts to start a local Ray, whose processes have 15 s, too little on a busy machine
_PATIENCE = 120.0  # seconds until a released lock, or a new file, is visible to every client of a shared disk
_SAME = ("unheard", "torch", "numpy")  # packages whose versions must agree for equal results


def ray_library() -> Any:
    """Return Ray; raises `MissingExtra` without it."""
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        os.environ.setdefault(name, "0")  # Ray reads them when it is imported
    with needs("ray", "ray"):
        import ray
    return ray


def run_cells(cells: Sequence[Cell], tick: Callable[[], None] = lambda: None) -> Iterator[Outcome]:
    """Train `cells` in order as Ray tasks and yield each when it ends; see `cell.run_cells`.

    Without an `address`, Ray is started on this machine and stopped afterwards. A cell takes one processor and a share
    of a GPU. Raises `ConfigError` if no cluster answers, or if a node cannot access the cells' folders or has other
    versions.
    """
    settings = cells[0].settings
    ray, out = ray_library(), Path(settings.out).absolute()
    if started := not ray.is_initialized():
        _connect(ray, settings)
    token = out / f".seen-by-all-{uuid.uuid4().hex}"
    running: dict[Any, Cell] = {}
    waiting, strikes = deque(cells), Counter[tuple[str, int]]()  # strikes by cell and number of epochs
    try:
        gpus = settings.device != "cpu" and ray.cluster_resources().get("GPU")
        share = settings.gpus or (SHARE if gpus or settings.device.startswith("cuda") else 0.0)
        device = settings.device if share or settings.device == "mps" else "cpu"
        options = {"num_cpus": 1, "num_gpus": share, "max_retries": 0, "runtime_env": {"env_vars": ENVIRONMENT}}
        task = ray.remote(_train).options(**options)
        write_text(token, token.name)
        while waiting or running:
            while waiting and len(running) < (settings.workers or len(cells)):
                cell = waiting.popleft()
                remote_settings = replace(cell.settings, out=str(out), device=device)
                remote = replace(cell, store=cell.store.absolute(), settings=remote_settings)
                running[task.remote(remote, str(token), _versions(), plugins.registered())] = cell
            done, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            tick()
            for reference in done:
                cell = running.pop(reference)
                try:
                    yield cell, ray.get(reference)
                except ray.exceptions.RayTaskError as error:  # raised by the task, such as without unheard
                    if isinstance(error.cause, ConfigError):
                        raise error.cause from None
                    yield cell, f"{type(error.cause).__name__}: {error.cause}"
                except ray.exceptions.RayError as error:  # the worker or node died
                    state = cell.name, len(read_history(cell.folder))
                    strikes[state] += 1
                    if strikes[state] < STRIKES:
                        time.sleep(strikes[state])
                        waiting.appendleft(cell)
                        continue
                    why = next(iter(str(error).strip().splitlines()), type(error).__name__)
                    yield cell, f"its worker died {STRIKES} times without completing another epoch ({why})"
    finally:
        for reference in running:
            with suppress(Exception):  # the cluster may be gone
                ray.cancel(reference, force=True)
        token.unlink(missing_ok=True)
        if started:
            ray.shutdown()


def _connect(ray: Any, settings: Experiment) -> None:
    """Connect to the cluster at `address`, or start one on this machine."""
    address, arguments = settings.address, {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if not address:
        processors = settings.workers or default_workers("cpu")
        arguments |= {"num_cpus": processors, "object_store_memory": 2**28, "include_dashboard": False}
    for again in reversed(range(1 if address else _STARTS)):
        try:
            ray.init(address=address or "local", **arguments)
            break
        except Exception as error:  # Ray raises a bare Exception if starting takes too long
            ray.shutdown()
            if again:
                continue
            what = f"no Ray cluster can be used at '{address}'" if address else "Ray did not start"
            mend = "Check it with `ray status`, or leave out --address." if address else "See /tmp/ray/session_latest."
            raise ConfigError(f"{what} ({' '.join(str(error).split())[:200]})", mend=mend) from error
    worker: Any = sys.modules.get("ray._private.worker")
    if hasattr(worker, "_worker_logs_enabled"):  # node events would mix with the table on standard output
        worker._worker_logs_enabled = False


def _versions() -> dict[str, str]:
    """Return the versions of packages without the suffix after +, which names the processor of a build."""
    return {name: metadata.version(name).partition("+")[0] for name in _SAME}


def _train(cell: Cell, token: str, versions: dict[str, str], registered: dict[Any, Any]) -> str:
    """Train `cell` on a node; return the reason if it fails, or "". Raises `ConfigError` if the node is unsuitable."""
    plugins.restore(registered)
    node, end = platform.node(), time.monotonic() + _PATIENCE
    if others := [f"{name} {version}" for name, version in _versions().items() if version != versions[name]]:
        ours = ", ".join(f"{name} {version}" for name, version in versions.items())
        what = f"the node {node} has {', '.join(others)}, and its numbers could differ from those of {ours}"
        raise ConfigError(what, mend="Install the same versions on every node.")
    for path in (Path(token), cell.store / "store.json"):
        while not path.is_file():
            if time.monotonic() > end:
                mend = "Put --out, and --store if you name one, on a file system that all nodes mount at the same path."
                raise ConfigError(f"the node {node} cannot access this folder", where=path.parent, mend=mend)
            time.sleep(1)
    cell.folder.mkdir(parents=True, exist_ok=True)
    try:  # an earlier attempt may still hold the lock
        with locked(cell.folder, "training this cell", patience=_PATIENCE):
            return attempt(cell)
    except UnheardError as error:
        return str(error)
