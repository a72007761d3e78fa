"""The exported graph is the trained network: over all lengths, alone and in batches, with and without a voice."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exporting import LABELS, NETWORKS, SMALL, random_model, utterances
from numpy.typing import NDArray

from unheard.errors import ConfigError, ExportError
from unheard.export import parity
from unheard.export.metadata import Data, Facts
from unheard.export.onnx import build_graph, export_model
from unheard.features import FeatureSettings, Normaliser
from unheard.model.network import NetworkSettings
from unheard.model.saving import Model

LENGTHS = (1, 2, 15, 16, 17, 18, 50, 333, 1500, 6000)
KINDS = [
    *((NETWORKS[name], "train") for name in NETWORKS),
    (replace(SMALL, padding="same"), "train"),
    (replace(SMALL, padding="same"), "utterance"),
    (replace(SMALL, rnn_bn=False), "none"),
    (SMALL, "utterance"),
    (replace(SMALL, tdnn=((16, 4, 3),), lstm=5, dense=7, hidden=()), "train"),
    (replace(SMALL, tdnn=((16, 4, 3),), padding="same", lstm=5), "none"),
    (replace(SMALL, summary=5, summary_width=6, hidden=()), "train"),
]


def in_double(
    model: Model, frames: list[NDArray[np.float32]], voice: NDArray[np.float32] | None
) -> list[NDArray[np.float64]]:
    """Logits, embeddings and descriptions of PyTorch in double precision: the truth both are measured by."""
    exact = deepcopy(model.network).double()
    x, lengths = parity.padded([model.normaliser.apply(one) for one in frames])
    given = torch.from_numpy(x).double(), torch.from_numpy(lengths)
    with torch.inference_mode():
        logits, embedding = exact.logits(*given, None if voice is None else torch.from_numpy(voice).double())
        description = exact.embed.describe(*given)  # type: ignore[operator]
    return [one.numpy() for one in (logits, embedding, description)]


@pytest.mark.parametrize(("network", "normalise"), KINDS)
def test_equals_pytorch(network: NetworkSettings, normalise: str) -> None:
    model = random_model(network, normalise)
    content = build_graph(model).SerializeToString()
    lengths = LENGTHS if network.lstm < 128 else LENGTHS[:-1]  # the largest takes its time
    frames = utterances(lengths)
    knows_voices = normalise == "train"
    voice = np.random.default_rng(2).normal(0, 1, (len(lengths), 39)).astype(np.float32) if knows_voices else None
    together = parity.by_onnx(content, frames, voice)
    single = parity.by_torch(model, frames, voice)
    for name, ours, exact, torchs in zip(
        parity.OUTPUTS, together, in_double(model, frames, voice), single, strict=True
    ):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-4, err_msg=name)
        # over a minute PyTorch's single precision sums are themselves 3e-4 off
        np.testing.assert_allclose(ours[:9], torchs[:9], rtol=0, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(ours, torchs, rtol=1e-4, atol=1e-4, err_msg=name)
    for place, one in enumerate(frames):
        alone = parity.by_onnx(content, [one], None if voice is None else voice[place : place + 1])
        for ours, exact in zip(alone, together, strict=True):
            np.testing.assert_allclose(ours, exact[place : place + 1], rtol=0, atol=2e-5)


@pytest.mark.parametrize("normalise", ["train", "none", "utterance"])
def test_a_voice_is_for_models_that_know_an_average_one(normalise: str) -> None:
    """What differs from the training speakers' mean: without that mean it would be the level of the recording."""
    session = parity.session(build_graph(random_model(SMALL, normalise)).SerializeToString())
    inputs = {value.name for value in (*session.get_inputs(), *session.get_overridable_initializers())}
    assert ("voice" in inputs) == (normalise == "train")


def test_one_emotion_is_no_model() -> None:
    model = random_model(SMALL, "train")
    with pytest.raises(ExportError, match="tells nothing apart"):
        build_graph(replace(model, labels=("angry",)))


def test_padding_is_never_read() -> None:
    """By_onnx pads with NaN; here with numbers of every size, and with a grid wider than any utterance."""
    run = parity.session(build_graph(random_model(replace(SMALL, padding="same"), "utterance")).SerializeToString())
    frames = utterances((1, 9, 40))
    x, lengths = parity.padded(frames)
    clean = run.run(None, {"features": x, "lengths": lengths})
    wide = np.full((3, 77, 39), -1e30, np.float32)
    wide[0], wide[1] = np.nan, np.inf
    for row, one in zip(wide, frames, strict=True):
        row[: len(one)] = one
    for ours, theirs in zip(run.run(None, {"features": wide, "lengths": lengths}), clean, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_bad_utterance_does_not_spoil_its_neighbours() -> None:
    run = parity.session(build_graph(random_model()).SerializeToString())
    x, lengths = parity.padded(utterances((30, 40)))
    clean = run.run(["logits"], {"features": x, "lengths": lengths})[0]
    x[0, 3] = np.nan
    spoiled = run.run(["logits"], {"features": x, "lengths": lengths})[0]
    np.testing.assert_array_equal(spoiled[1], clean[1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"lengths": np.array([31])},
        {"lengths": np.array([30, 30])},
        {"voice": np.zeros((1, 38), np.float32)},
        {"voice": np.zeros((2, 39), np.float32)},
        {"features": np.zeros((1, 30, 38), np.float32)},
    ],
)
def test_inputs_that_do_not_fit_are_errors(wrong: dict[str, NDArray[np.float32]]) -> None:
    run = parity.session(build_graph(random_model()).SerializeToString())
    fine = {"features": utterances((30,))[0][None], "lengths": np.array([30])}
    assert run.run(["logits"], fine)[0].shape == (1, 4)
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        run.run(["logits"], fine | wrong)


def test_description_is_the_mean_of_the_normalised_frames_whatever_the_voice() -> None:
    model = random_model()
    run = parity.session(build_graph(model).SerializeToString())
    frames = utterances((1, 5, 200))
    x, lengths = parity.padded(frames)
    literal = np.stack([model.normaliser.apply(one).mean(0) for one in frames])
    for voice in (np.zeros((1, 39), np.float32), np.full((3, 39), 7, np.float32)):
        said = run.run(["description"], {"features": x, "lengths": lengths, "voice": voice})[0]
        np.testing.assert_allclose(said, literal, atol=1e-5)


def test_no_voice_is_the_average_voice_and_one_voice_serves_a_batch() -> None:
    run = parity.session(build_graph(random_model()).SerializeToString())
    x, lengths = parity.padded(utterances((20, 60)))
    given = {"features": x, "lengths": lengths}
    voice = np.random.default_rng(0).normal(size=(1, 39)).astype(np.float32)
    without = run.run(["logits"], given)[0]
    np.testing.assert_array_equal(without, run.run(["logits"], given | {"voice": 0 * voice})[0])
    shared = run.run(["logits"], given | {"voice": voice})[0]
    np.testing.assert_array_equal(shared, run.run(["logits"], given | {"voice": np.repeat(voice, 2, 0)})[0])
    assert np.abs(shared - without).max() > 1e-3


def test_probabilities_are_tempered() -> None:
    frames = {"features": utterances((50,))[0][None], "lengths": np.array([50])}
    for temperature in (0.5, 1.0, 3.0):
        run = parity.session(build_graph(random_model(), Facts(temperature=temperature)).SerializeToString())
        logits, probabilities = run.run(["logits", "probabilities"], frames)
        literal = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
        np.testing.assert_allclose(probabilities, literal, rtol=1e-5)


def test_constant_feature_normalised_by_utterance_is_zero_not_noise() -> None:
    model = random_model(normalise="utterance")
    frames = utterances((700,))
    frames[0][:, 4] = 23.456
    description = parity.by_onnx(build_graph(model).SerializeToString(), frames)[2]
    assert abs(description[0, 4]) < 1e-5
    ours, torchs = (parity.by_onnx(build_graph(model).SerializeToString(), frames), parity.by_torch(model, frames))
    np.testing.assert_allclose(ours[0], torchs[0], atol=1e-4)


def test_file_says_what_it_is(tmp_path: Path) -> None:
    model = replace(random_model(), about={"cell": "ser-fold0"})
    data = Data("emodb", "EmoDB", "de", "CC0")
    facts = Facts(name="tiny", licence="MIT", data=(data,), temperature=1.5)
    path = export_model(model, tmp_path / "deep" / "model.onnx", facts)
    loaded = onnx.load(path)
    said = json.loads({entry.key: entry.value for entry in loaded.metadata_props}["unheard"])
    assert said["format"] == 1
    assert said["labels"] == list(LABELS)
    assert FeatureSettings.from_dict(said["features"]) == model.features
    assert (said["name"], said["licence"], said["normalise"], said["temperature"]) == ("tiny", "MIT", "train", 1.5)
    assert said["adaptation"] == {"shrinkage": 4.0}
    assert said["window"] == {"seconds": 3.0, "hop": 1.0}
    assert said["data"][0]["title"] == "EmoDB"
    assert said["about"] == {"cell": "ser-fold0"}
    assert said["weights"] == "float32"
    assert [value.name for value in loaded.graph.input] == ["features", "lengths", "voice"]
    assert [value.name for value in loaded.graph.output] == ["logits", "probabilities", "embedding", "description"]


@pytest.mark.parametrize("kind", ["sliding", "speaker"])
def test_normalisation_that_needs_more_is_refused(kind: str, tmp_path: Path) -> None:
    model = replace(random_model(), normaliser=Normaliser(kind))
    with pytest.raises(ExportError, match="train, utterance"):
        export_model(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unheard.export.layers.VARIANCE_FLOOR", 4.0)
    with pytest.raises(ExportError, match="differs from the trained one"):
        export_model(random_model(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": float("nan")}, {"shrinkage": -1.0},
                                   {"window_hop": 0.0}, {"window_hop": 4.0}])  # fmt: skip
def test_facts_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Facts(**wrong)  # type: ignore[arg-type]


def test_a_model_of_an_encoders_frames_is_refused() -> None:
    features = FeatureSettings(kind="encoder", encoder_digest="0" * 16, encoder_width=39)
    with pytest.raises(ExportError, match="pretrained encoder"):
        build_graph(replace(random_model(SMALL, "train"), features=features))
