"""Models on a pretrained encoder: one folder, the answers of training, and no other encoder than theirs."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from exporting import SMALL, random_model
from tiny_encoder import WIDTH, save_huggingface, tiny_weights

import unheard
from unheard.audio import read_audio
from unheard.errors import ConfigError, ModelError
from unheard.export.folder import write_folder
from unheard.export.onnx import Facts, by_torch
from unheard.features import FeatureSettings
from unheard.features.analysis import analyse
from unheard.features.encoder import resolve, write_encoder
from unheard.model.saving import Model
from unheard.recogniser import OnnxModel
from unheard.recogniser.model import describe

SPEECH = read_audio(Path(__file__).parents[1] / "golden" / "kaldi" / "speech_german.wav")
LIGHT = replace(SMALL, tdnn=(), lstm=0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_huggingface(tmp_path_factory.mktemp("encoder") / "tiny", tiny_weights())


def model_on(source: Path, layer: str = "1", **settings: object) -> Model:
    features = resolve(FeatureSettings(kind="encoder", encoder=str(source), layer=layer, **settings))  # type: ignore[arg-type]
    return random_model(LIGHT.resolved(features), features=features)


def exported(model: Model, folder: Path, **options: bool) -> Path:
    write_folder(model, folder, Facts(name="tiny"), **options)
    return folder


@pytest.fixture(scope="module")
def folder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(model_on(source), tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize(
    ("layer", "vad", "pool"),
    [
        ("1", "none", "none"),
        ("mean", "xvector", "none"),
        ("1,2", "xvector", "none"),
        ("learned", "none", "none"),
        ("1,2", "xvector", "statistics"),
        ("1", "none", "mean"),
    ],
)
def test_answers_equal_training(source: Path, tmp_path: Path, layer: str, vad: str, pool: str) -> None:
    model = model_on(source, layer, vad=vad, pool=pool)
    found = OnnxModel.open(exported(model, tmp_path))
    assert found.metadata.features.encoder == "encoder"  # no path of this machine
    each = "every 20 ms" if pool == "none" else "per utterance"
    assert f"{model.features.dim} features of a pretrained encoder {each};" in (tmp_path / "README.md").read_text()
    profile = np.random.default_rng(0).normal(0, 1, model.features.dim).astype(np.float32)
    for samples in (SPEECH[:400], SPEECH[:721], SPEECH, np.tile(SPEECH, 30)):  # 1, 2 to some thousand frames
        frames = analyse(samples, found.metadata.features, found.encoder).features
        theirs = analyse(samples, model.features).features
        for given in (None, profile):
            outputs = found.run(frames, given)
            for ours, exact in zip(
                (outputs.logits, outputs.embedding, outputs.description), by_torch(model, theirs, given), strict=True
            ):
                np.testing.assert_allclose(ours, exact, atol=1e-4, rtol=1e-4)


def test_a_model_describes_its_encoder(folder: Path) -> None:
    text = describe(OnnxModel.open(folder))
    assert "encoder: layer 1 of tiny, float weights, licence MIT" in text


def test_int8_makes_the_encoder_small(source: Path, tmp_path: Path, folder: Path) -> None:
    small = exported(model_on(source), tmp_path, int8=True)
    assert {path.relative_to(small).as_posix() for path in small.rglob("*") if path.is_file()} == {
        *("model.onnx", "README.md", "config.json", "SHA256SUMS"),
        *("encoder/model.onnx", "encoder/LICENSE", "encoder/README.md"),
    }
    ours, exact = OnnxModel.open(small), OnnxModel.open(folder)
    assert (ours.encoder.description["weights"], exact.encoder.description["weights"]) == ("int8", "float")
    frames = [analyse(SPEECH, one.metadata.features, one.encoder).features for one in (ours, exact)]
    assert 0 < np.abs(frames[0] - frames[1]).max() < 0.1 * np.abs(frames[1]).max()
    assert "with int8 weights" in (small / "README.md").read_text()
    said = [json.loads((path / "config.json").read_text())["weights"] for path in (small, folder)]
    read = [json.loads(onnx_properties(path / "model.onnx"))["weights"] for path in (small, folder)]
    assert said == read == ["int8", "float32"]
    logits = [one.run(frames[1], None).logits for one in (ours, exact)]
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.05


def onnx_properties(path: Path) -> str:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}["unheard"]


def test_an_encoder_that_is_a_file_already_is_copied(source: Path, tmp_path: Path) -> None:
    written = write_encoder(source, "1", tmp_path / "int8", int8=True)
    model = model_on(tmp_path / "int8")
    found = OnnxModel.open(exported(model, tmp_path / "model", int8=True))
    assert found.encoder.digest == written.digest == model.features.encoder_digest
    write_encoder(source, "1", tmp_path / "float")
    with pytest.raises(unheard.UnheardError, match=r"floats already.*unheard encoder SOURCE --int8"):
        exported(model_on(tmp_path / "float"), tmp_path / "other", int8=True)
    assert not (tmp_path / "other").exists()


def test_another_encoder_than_in_training_is_refused(source: Path, tmp_path: Path) -> None:
    model = model_on(source)
    other = save_huggingface(tmp_path / "other", tiny_weights(seed=1))
    moved = replace(model, features=replace(model.features, encoder=str(other)))
    with pytest.raises(ConfigError, match="not the encoder that the settings were made with"):
        exported(moved, tmp_path / "out")


def test_profiles_count(folder: Path) -> None:
    recogniser = unheard.load(folder)
    profile = recogniser.enrol(SPEECH[: 2 * 16_000], name="anna")
    assert (profile.utterances, profile.mean.shape) == (1, (WIDTH,))
    plain, adapted = recogniser.predict(SPEECH), recogniser.predict(SPEECH, profile=profile)
    assert plain.label
    assert plain.probabilities != adapted.probabilities


def test_windows_without_speech_are_not_encoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recogniser, calls = unheard.load(folder), []
    assert recogniser.model.encoder is not None
    encode = recogniser.model.encoder.frames
    monkeypatch.setattr(
        recogniser.model.encoder, "frames", lambda samples: calls.append(len(samples)) or encode(samples)
    )
    assert recogniser.predict(np.zeros(10 * 16_000, np.float32)).abstained == "silence"
    assert not calls
    recogniser.predict(SPEECH)
    assert calls


def test_a_prediction_needs_neither_torch_nor_onnx(folder: Path) -> None:
    clip = Path(__file__).parents[1] / "golden" / "kaldi" / "speech_german.wav"
    program = (
        "import sys, unheard\n"
        f"assert unheard.load({str(folder)!r}).predict({str(clip)!r}).label\n"
        "assert not {'torch', 'onnx', 'safetensors', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def linked_folder(folder: Path) -> None:
    (folder / "encoder").rename(folder.parent / "elsewhere")
    (folder / "encoder").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: flip(f / "encoder/model.onnx"),
            "not the encoder that the model was exported with, or a damaged one",
        ),
        (lambda f: flip(f / "model.onnx"), "differs from its checksum in SHA256SUMS"),
        (lambda f: (f / "encoder/model.onnx").unlink(), "needs the folder encoder beside it"),
        (linked_folder, "a link out of this folder"),
    ],
)
def test_folders_that_were_changed_are_refused(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoilt = shutil.copytree(folder, tmp_path / "model")
    assert OnnxModel.open(spoilt).digest == OnnxModel.open(folder).digest
    spoil(spoilt)
    with pytest.raises(ModelError, match=message):
        OnnxModel.open(spoilt)


def test_checksums_are_those_of_sha256sum(folder: Path) -> None:
    lines = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert lines == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.onnx", "encoder/model.onnx")
    }
