"""Fixtures that every test file shares."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder with real corpora beside the checkout; tests that need it skip where it does not exist."""
    folder = SHARED / "corpora"
    if not folder.is_dir():
        pytest.skip("needs the folder of real corpora beside the checkout")
    return folder
