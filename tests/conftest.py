"""Fixtures that every test file shares."""

from __future__ import annotations

import os
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


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all four systems after three epochs; who changes it works on a copy."""
    from experimenting import experiment, in_this_process

    from unheard.experiments import run as run_module

    out = tmp_path_factory.mktemp("done") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "run_cells", in_this_process)
        assert experiment(out, "--epochs", "3") == 0
    return out
