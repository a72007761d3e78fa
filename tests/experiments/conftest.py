"""What the tests of experiments share."""

from __future__ import annotations

import pytest
from experimenting import in_this_process

from unheard.experiments import run as run_module


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process: torch need not be imported again."""
    monkeypatch.setattr(run_module, "run_cells", in_this_process)
