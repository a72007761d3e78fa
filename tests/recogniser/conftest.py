"""The tiny model, whose answers can be computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_model

from unheard.recogniser import Recogniser, load


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny_model.write_tiny(path / "model.onnx")
    return path


@pytest.fixture(scope="session")
def recogniser(folder: Path) -> Recogniser:
    return load(folder)
