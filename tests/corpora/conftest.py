"""Fixtures of the readers' tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def shared_cases() -> Path:
    """The folder of inputs that fail elsewhere, beside the checkout; tests skip where it does not exist."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip("needs the folder of cases beside the checkout")
    return folder
