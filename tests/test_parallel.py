"""Worker processes: order, death, errors, environment, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from unheard.parallel import Died, map_unordered


def square(x: int) -> int:
    return x * x


def dies_on_seven(x: int) -> int:
    if x == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def dies_once(path: Path) -> str:
    if not path.exists():
        path.touch()
        os._exit(3)
    return "second try"


def environment(name: str) -> str:
    time.sleep(0.6)
    return os.environ[name]


def fails(x: int) -> int:
    raise ValueError(f"no {x}")


@pytest.mark.parametrize(("workers", "chunk"), [(1, 1), (2, 4), (3, 100)])
def test_every_item_has_its_result(workers: int, chunk: int) -> None:
    found = dict(map_unordered(square, range(10), workers=workers, chunk=chunk))
    assert found == {x: x * x for x in range(10)}


def test_an_item_that_kills_its_worker_twice_is_reported_and_the_rest_go_on() -> None:
    found = dict(map_unordered(dies_on_seven, range(12), workers=2, chunk=5))
    died = found.pop(7)
    assert isinstance(died, Died)
    assert "SIGKILL" in died.reason
    assert "memory" in died.reason
    assert found == {x: x for x in range(12) if x != 7}


def test_an_item_whose_worker_dies_is_tried_once_more_and_errors_are_raised_here(tmp_path: Path) -> None:
    assert list(map_unordered(dies_once, [tmp_path / "tried"], isolate=True)) == [(0, "second try")]
    with pytest.raises(ValueError, match=r"no \d"):
        list(map_unordered(fails, range(3), workers=2))


def test_one_thread_a_worker_and_ticks_while_it_is_busy() -> None:
    ticks: list[int] = []
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
    found = map_unordered(environment, names, workers=1, chunk=2, isolate=True, tick=lambda: ticks.append(1))
    assert [value for _, value in found] == ["1", "1"]
    assert len(ticks) >= 2


ORPHANS = """
import os, sys, time
from unheard.parallel import map_unordered
def say(x):
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(60)
list(map_unordered(say, [0], isolate=True))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes have no parents on Windows")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    note, script = tmp_path / "pid", tmp_path / "script.py"
    script.write_text(ORPHANS)
    parent = subprocess.Popen([sys.executable, script, note])
    try:
        wait_until(lambda: note.exists() and note.read_text() != "")
    finally:
        parent.kill()
        parent.wait()
    stat = Path(f"/proc/{note.read_text()}/stat")
    wait_until(lambda: not is_alive(int(note.read_text())) or (stat.exists() and stat.read_text().split()[2] == "Z"))


def wait_until(done: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
