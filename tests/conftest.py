"""Fixtures that every test file shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks: threads would only wait for each other

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder with real corpora beside the checkout; tests that need it skip where it does not exist."""
    folder = SHARED / "corpora"
    if not folder.is_dir():
        pytest.skip("needs the folder of real corpora beside the checkout")
    return folder
