"""The benchmark of inference: what it says a stage takes, and that it compares the same model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_model

from benchmarks import inference
from unheard.features import FeatureSettings
from unheard.recogniser import Recogniser
from unheard.recogniser.model import OnnxModel


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("voices")
    inference.voices(folder, 12.0)
    return sorted(folder.iterdir())


def test_stages_are_parts_of_the_whole(files: list[Path]) -> None:
    untouched = inference.analysis.pitch_frames

    def found(settings: FeatureSettings) -> dict[str, float]:
        content = tiny_model.tiny_proto(settings=settings).SerializeToString()
        return inference.shares(Recogniser(OnnxModel(content, "tiny"), windows=inference.WHOLE), files, rounds=1)

    shares = found(FeatureSettings(kind="fbank", mel_bins=40, deltas=0, pitch=True))
    assert list(shares) == ["front end", "of it pitch", "graph"]
    assert 0 < shares["of it pitch"] < shares["front end"] < shares["front end"] + shares["graph"] < 1
    assert found(FeatureSettings())["of it pitch"] == 0
    assert inference.analysis.pitch_frames is untouched


def test_pytorch_and_the_graph_are_the_same_model(files: list[Path], tmp_path: Path) -> None:
    model = inference.untrained("paper", files)
    inference.export_model(model, tmp_path / "model.onnx", inference.Facts(name="paper"))
    ours = inference.unheard.load(tmp_path, windows=inference.WHOLE).predict(files[0])
    theirs = inference.pytorch(model, files[0])
    assert np.allclose(list(ours.probabilities.values()), theirs, atol=1e-4)
