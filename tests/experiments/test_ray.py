"""Experiments on Ray: with a fake Ray, with one of this machine, and on a cluster that loses a node."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from experimenting import RAY_SITE, all_numbers, cells, corpus, environment, experiment, flags, start, wait_until

from unheard.errors import ConfigError, MissingExtra
from unheard.experiments import ray_engine
from unheard.experiments.config import Experiment, load
from unheard.experiments.plan import Cell, make_plan
from unheard.files import locked

MORE = ("--epochs", "3", "--systems", "ser,dat")


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Ray:
    """Tasks run when they are waited for; an exception that `fate` returns for a cell is the task's end."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, fate: Callable[[Cell], Exception | None] = lambda _: None, gpus: float = 0) -> None:
        self.fate, self.gpus, self.running = fate, gpus, False
        self.asked, self.started, self.cancelled = list[dict[str, Any]](), list[str](), list[str]()
        self.devices = set[str]()

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **how: Any) -> None:
        self.running = True
        self.asked.append(how)

    def shutdown(self) -> None:
        self.running = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2, "GPU": self.gpus}

    def remote(self, function: Any) -> Any:
        def options(**how: Any) -> Any:
            self.asked.append(how)
            return SimpleNamespace(remote=lambda *given: Task(lambda: function(*given), given[0]))

        return SimpleNamespace(options=options)

    def wait(self, references: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return references[:1], references[1:]

    def get(self, task: Task) -> Any:
        self.started.append(task.cell.system)
        self.devices.add(task.cell.settings.device)
        fate = self.fate(task.cell)
        if fate is not None:
            raise fate
        try:
            return task.run()
        except Exception as error:
            raise RayTaskError(error) from error

    def cancel(self, task: Task, force: bool) -> None:
        self.cancelled.append(task.cell.system)


class Task:
    def __init__(self, run: Callable[[], Any], cell: Cell) -> None:
        self.run, self.cell = run, cell


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Ray], Ray]:
    def use(ray: Ray) -> Ray:
        monkeypatch.setattr(ray_engine, "ray_library", lambda: ray)
        monkeypatch.setattr(ray_engine, "_PATIENCE", 0.0)
        monkeypatch.setattr(ray_engine, "time", SimpleNamespace(monotonic=iter(range(10**6)).__next__, sleep=id))
        return ray

    return use


def settings_of(**more: Any) -> Experiment:
    usual = {"corpus": "synthetic", "root": str(corpus()), "out": "run", "recipe": "paper", "emotions": "angry,sad"}
    training = {"batch_size": 4, "lr": 0.03, "batchnorm": "running", "epochs": 3}
    return load(None, {**usual, "systems": "ser,dat", "training": training, **more})


def grid(folder: Path, **more: Any) -> list[Cell]:
    """The cells of SER_only and DAT."""
    cells = make_plan(settings_of(out=str(folder / "run"))).cells
    return [replace(cell, settings=replace(cell.settings, engine="ray", **more)) for cell in cells]


def test_the_numbers_are_those_of_the_local_engine(done: Path, tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    """Also when every task's worker dies once."""
    died: set[str] = set()

    def fate(cell: Cell) -> Exception | None:
        first = cell.name not in died
        died.add(cell.name)
        return RayError("the node died") if first else None

    ray = use(Ray(fate))
    assert experiment(tmp_path / "run", "--epochs", "3", "--engine", "ray") == 0
    assert all_numbers(tmp_path / "run") == all_numbers(done)
    assert len(ray.started) == 8
    assert not ray.running
    assert not list((tmp_path / "run").glob(".seen-by-all-*"))
    init, task = ray.asked
    assert (init["address"], init["include_dashboard"]) == ("local", False)
    assert (task["num_cpus"], task["num_gpus"], task["max_retries"]) == (1, 0, 0)
    assert task["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "1"
    assert ray.devices == {"cpu"}


def test_a_cell_that_kills_its_workers_is_given_up(tmp_path: Path, use: Callable[[Ray], Ray], cli: Any) -> None:
    ray = use(Ray(lambda cell: RayError("no memory\nmore") if cell.system == "dat" else None))
    _, err = cli("experiment", *flags(tmp_path / "run", *MORE, "--engine", "ray"), code=1)
    assert ray.started.count("dat") == ray_engine.STRIKES
    assert "its worker died 4 times without completing another epoch (no memory)" in err
    assert (tmp_path / "run" / "table.md").exists()


def test_a_worker_that_dies_often_and_comes_further_is_not_given_up(tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    cell = grid(tmp_path)[0]
    history = cell.folder / "history.jsonl"
    history.parent.mkdir(parents=True)

    def fate(cell: Cell) -> Exception | None:
        done = history.read_text() if history.exists() else ""
        if done.count("\n") == 2 * ray_engine.STRIKES:
            history.unlink()
            return None
        history.write_text(done + json.dumps({"epoch": done.count("\n") + 1}) + "\n")
        return RayError("taken away")

    use(Ray(fate))
    assert list(ray_engine.run_cells([cell])) == [(cell, "")]


def test_failures_are_reported_once(tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    """A task that raises, a training that fails, and a cell whose lock another attempt holds."""
    ray = use(Ray(lambda cell: RayTaskError(ImportError("No module 'unheard'")) if cell.system == "ser" else None))
    ser, dat = grid(tmp_path)
    dat.folder.mkdir(parents=True)
    (dat.folder / "checkpoint.pt").write_bytes(b"rubbish")
    (_, first), (_, second) = ray_engine.run_cells([ser, dat])
    assert first == "ImportError: No module 'unheard'"
    assert "the checkpoint cannot be used" in second
    assert (dat.folder / "failure.txt").exists()
    with locked(dat.folder, "training this cell"):
        ((_, third),) = ray_engine.run_cells([dat])
    assert "is training this cell" in third
    assert ray.started == ["ser", "dat", "dat"]


def test_a_closed_iterator_cancels_its_tasks_and_a_running_ray_is_left_running(
    tmp_path: Path, use: Callable[[Ray], Ray]
) -> None:
    ray = use(Ray())
    ray.running = True
    outcomes = ray_engine.run_cells(grid(tmp_path))
    assert next(outcomes)[1] == ""
    outcomes.close()
    assert ray.cancelled == ["dat"]
    assert ray.running


@pytest.mark.parametrize(("given", "wanted"), [({}, 0.25), ({"gpus": 0.5}, 0.5), ({"device": "cpu"}, 0.0)])
def test_the_share_of_a_gpu(given: dict[str, Any], wanted: float, tmp_path: Path, use: Callable[[Ray], Ray]) -> None:
    ray = use(Ray(lambda _: RayTaskError(ValueError("stop here")), gpus=2))
    list(ray_engine.run_cells(grid(tmp_path, **given)))
    assert ray.asked[-1]["num_gpus"] == wanted
    assert ray.devices == {"auto" if wanted else "cpu"}


def test_a_node_that_is_not_fit_ends_the_run(
    tmp_path: Path, use: Callable[[Ray], Ray], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Ray())
    with monkeypatch.context() as patch:
        patch.setattr(ray_engine, "write_text", lambda *_: None)  # as if it were written on another disk
        with pytest.raises(ConfigError, match=r"cannot access this folder\. Put --out"):
            list(ray_engine.run_cells(grid(tmp_path)))
    versions = {"unheard": "1", "torch": "2.6.0", "numpy": "2"}
    asked = iter([versions, versions, versions | {"torch": "2.7.0"}])
    monkeypatch.setattr(ray_engine, "_versions", lambda: next(asked))
    with pytest.raises(ConfigError, match=r"has torch 2\.7\.0, and its numbers could differ from those of .*2\.6\.0"):
        list(ray_engine.run_cells(grid(tmp_path)))


@pytest.mark.parametrize(("address", "times", "message"), [("", 3, "Ray did not"), ("head:6379", 1, "no Ray cluster")])
def test_a_start_that_fails(
    address: str, times: int, message: str, tmp_path: Path, use: Callable[[Ray], Ray], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def init(**how: Any) -> None:
        tried.append(how["address"])
        raise Exception("timed out")

    monkeypatch.setattr(use(Ray()), "init", init)
    with pytest.raises(ConfigError, match=message):
        list(ray_engine.run_cells(grid(tmp_path, address=address)))
    assert tried == [address or "local"] * times


def test_settings_that_cannot_be_and_ray_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, message in (
        ({"gpus": 0.5, "device": "cpu"}, "contradict each other"),
        ({"gpus": -0.5}, "out of range"),
        ({"address": "ray://head:10001"}, "with --address auto or HOST:PORT"),
    ):
        with pytest.raises(ConfigError, match=message):
            settings_of(engine="ray", **given)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "unheard\[ray\]"'):
        ray_engine.ray_library()


# With Ray itself.


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
            sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]  # Ray looks for ports too shortly
            ports = {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
            for one in sockets:
                one.close()
            cluster.add_node(num_cpus=processors, include_dashboard=False, **ports)
        yield cluster
    finally:
        cluster.shutdown()


def in_the_middle(out: Path) -> list[Path]:
    """The cells that have finished an epoch and have no result."""
    begun = [path.parent for path in out.glob("cells/*/history.jsonl")]
    return [folder for folder in begun if not (folder / "result.json").exists()]


def node_of(cluster: Any, folder: Path) -> Any:
    """The node that trains a cell: the parent of the process that has the cell's lock open is the node's raylet."""
    lock = str(folder / ".lock")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(file.readlink()) == lock for file in (process / "fd").iterdir()):
                above = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                nodes = cluster.worker_nodes
                return next(node for node in nodes if node.all_processes["raylet"][0].process.pid == above)
        except OSError:
            continue
    raise AssertionError("nobody trains this cell")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_node_killed_in_the_middle_changes_no_number(cluster: Any, tmp_path: Path) -> None:
    local, out = tmp_path / "local", tmp_path / "run"
    assert experiment(local, *MORE, "--seeds", "2") == 0
    arguments = flags(out, *MORE, "--seeds", "2", "--engine", "ray", "--address", cluster.address)
    process: subprocess.Popen[str] = start(["experiment", *arguments], env=environment())
    try:
        wait_until(lambda: in_the_middle(out), process, seconds=400)
        cluster.remove_node(node_of(cluster, in_the_middle(out)[0]), allow_graceful=False)
        printed, complained = process.communicate(timeout=500)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, complained
    assert printed == (local / "table.md").read_text()
    assert all_numbers(out) == all_numbers(local)
    assert any(json.loads((f / "result.json").read_text())["resumed"] for f in cells(out).values())
    assert not list(out.glob(".seen-by-all-*"))
