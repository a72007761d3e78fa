"""The benchmark of inference: its recordings, and what it says a stage takes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model

from benchmarks import inference
from unheard.features import FeatureSettings
from unheard.recogniser import Recogniser
from unheard.recogniser.model import OnnxModel

PITCHED = FeatureSettings(kind="fbank", mel_bins=40, deltas=0, pitch=True)


def recogniser(settings: FeatureSettings) -> Recogniser:
    content = tiny_model.tiny_proto(settings=settings).SerializeToString()
    return Recogniser(OnnxModel(content, "tiny"), windows=inference.WHOLE)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("voices")
    inference.voices(folder, 12.0)
    return sorted(folder.iterdir())


def test_invented_voices_last_three_seconds_and_are_answered(files: list[Path]) -> None:
    assert [file.name for file in files] == ["0.wav", "1.flac", "2.wav", "3.flac"]
    assert {soundfile.info(file).frames for file in files} == {48_000}
    assert all(recogniser(PITCHED).predict(file).label for file in files)


def test_stages_are_parts_of_the_whole(files: list[Path]) -> None:
    untouched = inference.analysis.pitch_frames
    found = inference.shares(recogniser(PITCHED), files, rounds=1)
    assert list(found) == ["front end", "of it pitch", "graph"]
    assert 0 < found["of it pitch"] < found["front end"] < found["front end"] + found["graph"] < 1
    assert inference.shares(recogniser(FeatureSettings()), files, rounds=1)["of it pitch"] == 0
    assert inference.analysis.pitch_frames is untouched


def test_a_stream_answers_once_a_hop(files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model.write_tiny(tmp_path / "model.onnx")
    inference.stream_part(files, {"tiny": model}, rounds=1)
    milliseconds = re.search(r"tiny +([\d.]+) +([\d.]+) +([\d.]+) ", capsys.readouterr().out)
    assert milliseconds is not None
    middle, late, worst = map(float, milliseconds.groups())
    assert 0 < middle <= late <= worst


def test_pytorch_and_the_graph_are_the_same_model(files: list[Path], tmp_path: Path) -> None:
    model = inference.untrained("paper", files)
    inference.export_model(model, tmp_path / "model.onnx", inference.Facts(name="paper"))
    ours = inference.unheard.load(tmp_path, windows=inference.WHOLE).predict(files[0])
    theirs = inference.pytorch(model, files[0])
    assert np.allclose(list(ours.probabilities.values()), theirs, atol=1e-4)
