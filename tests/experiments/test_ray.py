"""Experiments on Ray: against a Ray of a few lines, against one of this machine, and on a cluster that loses a node."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from experimenting import (
    RAY_SITE,
    all_numbers,
    cells,
    environment,
    experiment,
    flags,
    in_this_process,
    start,
    wait_until,
)
from unheard.experiments.launch import Event

from unheard.errors import ConfigError, MissingExtra, UnheardError
from unheard.experiments import ray_engine
from unheard.experiments import run as run_module
from unheard.experiments.cell import Cell
from unheard.experiments.config import load
from unheard.experiments.plan import lay_out
from unheard.files import locked

MORE = ("--epochs", "3", "--systems", "ser,dat")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the local engine does."""
    out = tmp_path_factory.mktemp("local") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "run_cells", in_this_process)
        assert experiment(out, *MORE, "--seeds", "2") == 0
    return out


# A Ray of a few lines: tasks run when they are waited for, and die when the test wants them to.


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Other(RayError):
    pass


class Ray:
    """`fate` is asked at the start of each task: an exception it returns is the task's end."""

    exceptions = SimpleNamespace(
        RayError=RayError,
        RayTaskError=RayTaskError,
        RuntimeEnvSetupError=Other,
        TaskUnschedulableError=Other,
        TaskCancelledError=Other,
    )

    def __init__(self, fate: Callable[[Cell], Exception | None] = lambda _: None, gpus: float = 0) -> None:
        self.fate, self.gpus = fate, gpus
        self.asked: list[dict[str, Any]] = []
        self.started: list[str] = []
        self.cancelled: list[Any] = []
        self.devices: set[str] = set()
        self.running = False

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **how: Any) -> None:
        self.running = True
        self.asked.append(how)

    def shutdown(self) -> None:
        self.running = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2, "GPU": self.gpus} if self.gpus else {"CPU": 2}

    def put(self, value: Any) -> Any:
        return value

    def remote(self, function: Any) -> Any:
        def options(**how: Any) -> Any:
            self.asked.append(how)
            return SimpleNamespace(remote=lambda *arguments: self.task(function, arguments))

        return SimpleNamespace(options=options)

    def task(self, function: Any, arguments: Any) -> object:
        reference = SimpleNamespace(run=lambda: function(*arguments), cell=arguments[0])
        return Reference(reference)

    def wait(self, references: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return references[:1], references[1:]

    def get(self, reference: Reference) -> Any:
        cell = reference.inner.cell
        self.started.append(cell.system)
        self.devices.add(cell.device)
        fate = self.fate(cell)
        if fate is not None:
            raise fate
        return reference.inner.run()

    def cancel(self, reference: Any, force: bool) -> None:
        self.cancelled.append(reference.inner.cell.system)


class Reference:
    def __init__(self, inner: Any) -> None:
        self.inner = inner


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Ray], Ray]:
    def use(ray: Ray) -> Ray:
        monkeypatch.setattr(ray_engine, "check", lambda *_: ray)
        monkeypatch.setattr(ray_engine, "_PATIENCE", 0.0)
        monkeypatch.setattr(ray_engine, "_PAUSE", 0.0)
        return ray

    return use


def test_the_numbers_are_those_of_the_local_engine(local: Path, tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    ray = use(Ray())
    assert experiment(tmp_path / "run", *MORE, "--seeds", "2", "--engine", "ray") == 0
    assert all_numbers(tmp_path / "run") == all_numbers(local)
    assert not ray.running
    assert not list((tmp_path / "run").glob(".seen-by-all-*"))
    init, task = ray.asked
    assert init["address"] == "local"
    assert init["include_dashboard"] is False
    assert (task["num_cpus"], task["num_gpus"], task["max_retries"]) == (1, 0, 0)
    assert task["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "1"
    assert ray.devices == {"cpu"}


def test_a_task_whose_worker_dies_is_started_again(local: Path, tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    died: set[str] = set()

    def fate(cell: Cell) -> Exception | None:
        if cell.name in died:
            return None
        died.add(cell.name)
        return RayError("the node died")

    ray = use(Ray(fate))
    assert experiment(tmp_path / "run", *MORE, "--seeds", "2", "--engine", "ray") == 0
    assert len(ray.started) == 8
    assert all_numbers(tmp_path / "run") == all_numbers(local)


def test_a_cell_that_kills_its_workers_is_given_up_and_the_rest_goes_on(
    tmp_path: Path, use: Callable[[Ray], Ray], capsys: pytest.CaptureFixture[str]
) -> None:
    ray = use(Ray(lambda cell: RayError("no memory\nmore") if cell.system == "dat" else None))
    assert experiment(tmp_path / "run", *MORE, "--engine", "ray") == 1
    assert ray.started.count("dat") == ray_engine.STRIKES
    said = capsys.readouterr().err
    assert "its worker died 4 times without one more epoch (no memory)" in said
    assert (tmp_path / "run" / "table.md").exists()


def test_progress_forgives(tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    """A worker that dies again and again on a machine that is taken away often, each time an epoch further."""
    ray = use(Ray())
    (cell,) = grid(tmp_path, "--epochs", "12", "--systems", "ser")
    history = cell.folder / "history.jsonl"

    def fate(cell: Cell) -> Exception | None:
        done = history.read_text() if history.exists() else ""
        if done.count("\n") == 2 * ray_engine.STRIKES:
            history.unlink()
            return None
        history.parent.mkdir(parents=True, exist_ok=True)
        history.write_text(done + json.dumps({"epoch": done.count("\n") + 1}) + "\n")
        return RayError("taken away")

    ray.fate = fate
    events = list(ray_engine.run_cells([cell]))
    assert events[-1].kind == "done"
    told = [event.record["epoch"] for event in events if event.kind == "epoch"]
    assert told == list(range(1, 13))


def test_exceptions_are_not_tried_again(tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    ray = use(Ray(lambda cell: RayTaskError(ModuleNotFoundError("No module named 'unheard'"))))
    (event,) = ray_engine.run_cells(grid(tmp_path, *MORE, "--systems", "ser"))
    assert event.kind == "failed"
    assert event.record["reason"] == "ModuleNotFoundError: No module named 'unheard'"
    assert ray.started == ["ser"]


def test_a_training_that_fails_is_told_and_not_tried_again(tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    ray = use(Ray())
    (cell,) = grid(tmp_path, *MORE, "--systems", "ser")
    cell.folder.mkdir(parents=True)
    (cell.folder / "checkpoint.pt").write_bytes(b"rubbish")
    (event,) = ray_engine.run_cells([cell])
    assert event.kind == "failed"
    assert "the checkpoint cannot be used" in event.record["reason"]
    assert (cell.folder / "failure.txt").exists()
    assert ray.started == ["ser"]


def test_who_stops_listening_cancels_what_runs(tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    ray = use(Ray())
    events = ray_engine.run_cells(grid(tmp_path, *MORE))
    assert isinstance(events, Iterator)
    next(event for event in events if event.kind == "done")
    events.close()  # type: ignore[attr-defined]
    assert ray.cancelled == ["dat"]
    assert not ray.running


def test_a_ray_that_runs_already_is_used_and_left_running(tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    ray = use(Ray())
    ray.running = True
    assert kinds(ray_engine.run_cells(grid(tmp_path, *MORE))) == {"ser": "done", "dat": "done"}
    assert ray.running


def test_the_share_of_a_gpu(tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    """A quarter where the cluster has GPUs, as much as is asked for, and none for `cpu`."""
    chosen = grid(tmp_path, *MORE, "--systems", "ser")
    for given, wanted in (({}, 0.25), ({"gpus": 0.5}, 0.5), ({"device": "cpu"}, 0.0)):
        ray = use(Ray(lambda _: RayTaskError(ValueError("stop here")), gpus=2))
        list(ray_engine.run_cells(chosen, **given))  # type: ignore[arg-type]
        assert ray.asked[-1]["num_gpus"] == wanted
        assert ray.devices == {"auto" if wanted else "cpu"}


def test_a_node_that_does_not_see_the_folder_ends_the_run(
    tmp_path: Path, use: Callable[[Ray], Ray], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Ray())
    monkeypatch.setattr(ray_engine, "write_text", lambda *_: None)  # as if it were written on another disk
    assert experiment(tmp_path / "run", *MORE, "--engine", "ray") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{tmp_path / 'run'}: the node" in said
    assert "does not see this folder. Put --out" in said


def test_a_node_with_other_versions_ends_the_run(
    tmp_path: Path, use: Callable[[Ray], Ray], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Ray())
    asked = iter([{"unheard": "1", "torch": "2.6.0", "numpy": "2"}, {"unheard": "1", "torch": "2.7.0", "numpy": "2"}])
    monkeypatch.setattr(ray_engine, "_versions", lambda: next(asked))
    with pytest.raises(ConfigError, match=r"has torch 2\.7\.0, and its numbers could differ from those of .*2\.6\.0"):
        list(ray_engine.run_cells(grid(tmp_path, *MORE, "--systems", "ser")))


def test_an_attempt_waits_until_the_one_before_has_let_go(
    tmp_path: Path, use: Callable[[Ray], Ray], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Ray())
    (cell,) = grid(tmp_path, *MORE, "--systems", "ser")
    cell.folder.mkdir(parents=True)
    with locked(cell.folder, "training this cell"):
        (event,) = ray_engine.run_cells([cell])  # in vain: it may wait no time
        assert event.kind == "failed"
        assert "is training this cell" in event.record["reason"]
        assert not (cell.folder / "history.jsonl").exists()
    monkeypatch.setattr(ray_engine, "_PATIENCE", 60.0)
    held, let_go = threading.Event(), threading.Event()

    def first() -> None:
        with locked(cell.folder, "training this cell"):
            held.set()
            let_go.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    held.wait(60)
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: let_go.set())
    monkeypatch.setattr(ray_engine, "time", clock)
    assert kinds(ray_engine.run_cells([cell])) == {"ser": "done"}
    assert let_go.is_set()
    thread.join()


def kinds(events: Iterator[Event]) -> dict[str, str]:
    """System -> how its cell ended."""
    return {event.cell.system: event.kind for event in events}


def grid(folder: Path, *more: str) -> list[Cell]:
    given = flags(folder / "run", *more)
    words = {name.removeprefix("--"): value for name, value in zip(given[::2], given[1::2], strict=True)}
    nested: dict[str, Any] = {}
    for name, value in words.items():
        *rooms, last = name.replace("-", "_").split(".")
        place = nested
        for room in rooms:
            place = place.setdefault(room, {})
        place[last] = value
    nested["training"]["lr"] = float(nested["training"]["lr"])
    return list(lay_out(load(None, nested)).cells)


# Settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--gpus", "-1"), "gpus = -1.0 is out of range"),
        (("--gpus", "0.5", "--device", "cpu"), "contradict each other"),
        (("--address", "ray://head:10001"), "with --address auto or HOST:PORT"),
        (("--engine", "raz"), "unknown engine 'raz'. Did you mean 'ray'?"),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: tuple[str, ...], said: str
) -> None:
    engine = () if "--engine" in given else ("--engine", "ray")
    assert experiment(tmp_path / "run", *MORE, *engine, *given) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run" / "features").exists()


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "unheard\[ray\]"'):
        lay_out(load(None, {"corpus": "emodb", "root": str(tmp_path), "out": str(tmp_path), "engine": "ray"}))


def test_a_start_that_fails_is_tried_again_and_then_explained(tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    chosen = grid(tmp_path, *MORE, "--systems", "ser")
    for address, times, said in (("", 3, "Ray did not start"), ("head:6379", 1, "no Ray cluster can be used at 'head")):
        ray = use(Ray())
        tried: list[str] = []

        def init(tried: list[str] = tried, **how: Any) -> None:
            tried.append(how["address"])
            raise Exception("timed out")

        ray.init = init  # type: ignore[method-assign]
        with pytest.raises(ConfigError, match=said):
            list(ray_engine.run_cells(chosen, address=address))
        assert tried == [address or "local"] * times


# Real ones


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that must be gone when the test is over, whatever happened."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_on_this_machine(local: Path, tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    out = tmp_path / "run"
    process = start(["experiment", *flags(out, *MORE, "--seeds", "2", "--engine", "ray")], env=environment())
    started.append(process)
    said, complained = process.communicate(timeout=600)
    assert process.returncode == 0, complained
    assert said == (local / "table.md").read_text()
    assert "Traceback" not in complained
    assert "ray" not in complained.lower()  # its own logs stay in its own files
    assert all_numbers(out) == all_numbers(local)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that trains nothing, and three nodes of one processor whose epochs take three seconds."""
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    from ray.cluster_utils import Cluster

    for name, value in environment(tmp_path / "site", RAY_SITE, SLOW_EPOCHS="3").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster()
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    try:
        for processors in (0, 1, 1, 1):
            # known ports: Ray would give its own processes 15 s to find some, too little on a busy machine
            for again in (True, True, False):
                ports = dict(zip(names, free_ports(len(names)), strict=True))
                try:
                    cluster.add_node(num_cpus=processors, include_dashboard=False, **ports)
                    break
                except Exception:  # a node's own 30 s are over: a busy machine
                    if not again:
                        raise
        yield cluster
    finally:
        cluster.shutdown()


def in_the_middle(out: Path) -> list[Path]:
    """The cells that have done an epoch and are not done."""
    begun = [path.parent for path in out.glob("cells/*/history.jsonl")]
    return [folder for folder in begun if not (folder / "result.json").exists()]


def node_of(cluster: Any, folder: Path) -> Any:
    """The node that trains a cell: its lock names the process, whose parent is the node's raylet."""
    process = int((folder / ".lock").read_text().split()[-1])
    above = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return next(node for node in cluster.worker_nodes if node.all_processes["raylet"][0].process.pid == above)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_node_killed_in_the_middle_changes_no_number(
    cluster: Any, local: Path, tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    out = tmp_path / "run"
    arguments = flags(out, *MORE, "--seeds", "2", "--engine", "ray", "--address", cluster.address)
    process = start(["experiment", *arguments], env=environment())
    started.append(process)

    wait_until(lambda: in_the_middle(out), process, seconds=400)
    cluster.remove_node(node_of(cluster, in_the_middle(out)[0]), allow_graceful=False)
    said, complained = process.communicate(timeout=500)
    assert process.returncode == 0, complained
    assert said == (local / "table.md").read_text()
    assert all_numbers(out) == all_numbers(local)
    assert any(json.loads((f / "result.json").read_text())["resumed"] for f in cells(out).values())
    assert not any((folder / "failure.txt").exists() for folder in cells(out).values())
    assert not list(out.glob(".seen-by-all-*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ctrl_c_on_a_cluster_stops_the_tasks(
    cluster: Any, local: Path, tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    out = tmp_path / "run"
    arguments = flags(out, *MORE, "--seeds", "2", "--engine", "ray", "--address", cluster.address)
    process = start(["experiment", *arguments], env=environment())
    started.append(process)
    wait_until(lambda: in_the_middle(out), process, seconds=400)
    os.killpg(process.pid, signal.SIGINT)
    _, complained = process.communicate(timeout=300)
    assert process.returncode == 130
    assert complained.splitlines()[-1].startswith("unheard: stopped.")
    for folder in cells(out).values():
        wait_until(lambda folder=folder: nobody_trains(folder), seconds=60)  # type: ignore[misc]
    assert any(not (folder / "result.json").exists() for folder in cells(out).values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "run_cells", in_this_process)
        assert experiment(out, *MORE, "--seeds", "2") == 0
    assert all_numbers(out) == all_numbers(local)


def nobody_trains(folder: Path) -> bool:
    try:
        with locked(folder, "looking"):
            return True
    except UnheardError:
        return False
