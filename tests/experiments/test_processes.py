"""Worker processes: killed, interrupted, replaced, and started from scripts; real ones, so few of these are quick."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from experimenting import all_numbers, cells, corpus, environment, experiment, flags, numbers, start, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads processes from /proc")

MORE = ("--epochs", "3", "--systems", "ser,dat")


def children(pid: int) -> list[int]:
    """All processes below `pid`."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            own = [int(word) for word in path.read_text().split()]
        except OSError:
            continue
        for child in own:
            found += [child, *children(child)]
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers(pid: int) -> list[int]:
    """The processes below `pid` that train."""
    return [child for child in children(pid) if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes()]


def begun(out: Path) -> bool:
    """Whether a training has done an epoch and is not done."""
    folders = [path.parent for path in out.glob("cells/*/history.jsonl")]
    return any(not (folder / "result.json").exists() for folder in folders)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert experiment(out, *MORE) == 0
    return out


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Start]:
    """Start an experiment in tmp_path/run, slowed down, and wait until it is `ready`; it is gone after the test."""
    processes: list[subprocess.Popen[str]] = []

    def begin(
        *more: str, ready: Callable[[subprocess.Popen[str]], object] = lambda _: begun(tmp_path / "run"), **slow: str
    ) -> subprocess.Popen[str]:
        env = environment(tmp_path / "site", **slow)
        process = start(["experiment", *flags(tmp_path / "run", *MORE, *more)], env=env)
        processes.append(process)
        wait_until(lambda: ready(process), process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_two_workers_a_killed_run_and_one_process_give_the_same_numbers(
    undisturbed: Path, tmp_path: Path, begin: Start
) -> None:
    """Killed in the midst of its trainings, all at once; the same call ends as if nothing had happened."""
    out, process = tmp_path / "run", begin("--workers", "2", SLOW_EPOCHS="0.5")
    below = children(process.pid)
    assert len(workers(process.pid)) == 2
    os.killpg(process.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, below)))
    assert not list(out.glob("cells/*/result.json")) or begun(out)
    again = begin("--workers", "2", ready=bool)
    said, complained = again.communicate(timeout=300)
    assert again.returncode == 0, complained
    assert all_numbers(out) == all_numbers(undisturbed)
    assert said == (undisturbed / "table.md").read_text()


@pytest.mark.slow
def test_workers_die_with_their_parent(undisturbed: Path, tmp_path: Path, begin: Start) -> None:
    out, process = tmp_path / "run", begin("--workers", "2", SLOW_EPOCHS="0.5")
    below = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(map(alive, below)), seconds=20)
    assert experiment(out, *MORE, "--workers", "1") == 0
    assert all_numbers(out) == all_numbers(undisturbed)


@pytest.mark.slow
def test_killed_while_features_are_made(undisturbed: Path, tmp_path: Path, begin: Start) -> None:
    out = tmp_path / "run"
    process = begin(
        ready=lambda _: any(path.stat().st_size for path in out.glob("features/partial-*/*.jsonl")), SLOW_FILES="0.1"
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "features" / "store.json").exists()
    assert experiment(out, *MORE) == 0
    assert all_numbers(out) == all_numbers(undisturbed)


def test_a_worker_that_is_killed_is_replaced_and_its_cell_continued(
    undisturbed: Path, tmp_path: Path, begin: Start
) -> None:
    """As the system does when memory runs out. Meanwhile another process is told that the folder is taken."""
    out, process = tmp_path / "run", begin("--workers", "1", SLOW_EPOCHS="0.7")
    os.kill(workers(process.pid)[-1], signal.SIGKILL)
    assert experiment(out, *MORE) == 2
    said, complained = process.communicate(timeout=300)
    assert process.returncode == 0, complained
    assert said == (undisturbed / "table.md").read_text()
    assert all_numbers(out) == all_numbers(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["starting", "training"])
def test_ctrl_c_ends_with_130_and_one_line(undisturbed: Path, tmp_path: Path, begin: Start, when: str) -> None:
    """Sent to the whole group, as a terminal does; while the workers import torch, or while they train."""
    out = tmp_path / "run"
    ready = (lambda _: begun(out)) if when == "training" else (lambda process: len(workers(process.pid)) == 2)
    process = begin("--workers", "2", ready=ready, SLOW_EPOCHS="0.5")
    below = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, complained = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in complained
    assert complained.splitlines()[-1].startswith("unheard: stopped.")
    wait_until(lambda: not any(map(alive, below)), seconds=20)
    assert experiment(out, *MORE) == 0
    assert all_numbers(out) == all_numbers(undisturbed)


def test_a_script_needs_no_main_guard(undisturbed: Path, tmp_path: Path) -> None:
    """Every worker would run it again, and start workers of its own."""
    script = tmp_path / "compare.py"
    settings = {
        "recipe": "paper",
        "corpus": "synthetic",
        "root": str(corpus()),
        "out": str(tmp_path / "run"),
        "emotions": ["angry", "sad"],
        "systems": ["ser"],
        "epochs": 3,
        "training": {"batch_size": 4, "lr": 0.03, "batchnorm": "running"},
        "network": {"dropout": 0},
        "workers": 1,
    }
    script.write_text(
        "import unheard\nprint('once')\n"
        f"run = unheard.experiment(**{settings!r})\n"
        "print(__file__, __spec__, len(run.failed), len(run.models))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["once", f"{script} None 0 1"]
    ((name, folder),) = cells(tmp_path / "run").items()
    assert numbers(folder) == numbers(cells(undisturbed)[name])
    assert json.loads((folder / "result.json").read_text())["resumed"] is False
