"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from experimenting import in_this_process

from unheard.experiments import run as run_module


@pytest.fixture(autouse=True, scope="module")
def one_process() -> Iterator[None]:
    """Train in this process: torch need not be imported again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "run_cells", in_this_process)
        yield
