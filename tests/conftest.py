"""Fixtures that every test file shares."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks: threads would only wait for each other

LONGEST = ("test_readme.py", "test_processes.py", "test_ray.py", "test_trainer.py", "test_report.py")
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first: two processes that share the work then end at about the same time."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder with real corpora beside the checkout; tests that need it skip where it does not exist."""
    folder = SHARED / "corpora"
    if not folder.is_dir():
        pytest.skip("needs the folder of real corpora beside the checkout")
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_process() -> Iterator[None]:
    """Experiments train in the process of the test, where torch is imported; rooms without it import none."""
    with pytest.MonkeyPatch.context() as patch:
        if "torch" in sys.modules:
            from experimenting import in_this_process

            patch.setattr("unheard.experiments.run.run_cells", in_this_process)
        yield


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Run `unheard WORDS` in this process, which has to end with `code`, and return what it prints: (out, err)."""
    from unheard.cli import main

    def run(*words: object, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        assert main([str(word) for word in words]) == code
        return capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all four systems after three epochs; who changes it works on a copy."""
    from experimenting import experiment

    out = tmp_path_factory.mktemp("done") / "run"
    assert experiment(out, "--epochs", "3") == 0
    return out
