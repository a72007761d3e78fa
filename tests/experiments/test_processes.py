"""Worker processes: killed, interrupted, replaced, and started from scripts; real ones, so few of these are quick."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from experimenting import all_numbers, cells, environment, experiment, flags, start, wait_until

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
        *more: str,
        ready: Callable[[subprocess.Popen[str]], object] = lambda _: begun(tmp_path / "run"),
        script: str = "",
        **slow: str,
    ) -> subprocess.Popen[str]:
        env = environment(tmp_path / "site", **slow)
        process = start(["experiment", *flags(tmp_path / "run", *MORE, *more)], script=script, env=env)
        processes.append(process)
        wait_until(lambda: ready(process), process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_killed_run_is_continued_by_a_script_whose_worker_is_killed(
    undisturbed: Path, tmp_path: Path, begin: Start
) -> None:
    """Killed in the midst of its trainings with all its workers; then as the system does when memory runs out.

    The script needs no main guard, without which every worker would run it again. Meanwhile another process is told
    that the folder is taken. In the end it is as if nothing had happened.
    """
    out, process = tmp_path / "run", begin("--workers", "2", SLOW_EPOCHS="0.5")
    below = children(process.pid)
    assert len(workers(process.pid)) == 2
    os.killpg(process.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, below)))
    assert begun(out)
    for path in out.glob("cells/*/.epoch"):
        path.unlink()
    script = tmp_path / "compare.py"
    script.write_text(
        "import sys\nfrom unheard.cli import main\nprint('once', __spec__)\nsys.exit(main(sys.argv[1:]))\n"
    )
    again = begin(
        "--workers", "1", script=str(script), ready=lambda _: any(out.glob("cells/*/.epoch")), SLOW_EPOCHS="0.7"
    )
    os.kill(workers(again.pid)[-1], signal.SIGKILL)
    assert experiment(out, *MORE) == 2
    said, complained = again.communicate(timeout=300)
    assert again.returncode == 0, complained
    assert said == "once None\n" + (undisturbed / "table.md").read_text()
    assert all_numbers(out) == all_numbers(undisturbed)
    assert any(json.loads((folder / "result.json").read_text())["resumed"] for folder in cells(out).values())


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
