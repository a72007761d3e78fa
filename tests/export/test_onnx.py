"""The exported graph equals the trained network at all lengths, with and without a speaker profile."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exporting import LABELS, NETWORKS, SMALL, random_model, utterances
from numpy.typing import NDArray

from unheard.errors import ExportError
from unheard.export import onnx as onnx_file
from unheard.export.onnx import Facts, TrainingCorpus, build_graph, export_model
from unheard.features import FeatureSettings, Normaliser
from unheard.features.encoder import onnx_session
from unheard.model.network import NetworkSettings
from unheard.model.saving import Model

LENGTHS = (1, 2, 15, 16, 17, 18, 50, 333, 1500, 6000)
LONG = (SMALL, replace(SMALL, pooling="attentive"), replace(SMALL, cell="gru", lstm=5))  # also for a minute: it is slow
KINDS = [
    *((NETWORKS[name], "train") for name in NETWORKS),
    (replace(SMALL, padding="same"), "train"),
    (replace(SMALL, padding="same"), "utterance"),
    (replace(SMALL, rnn_bn=False), "none"),
    (SMALL, "utterance"),
    (replace(SMALL, tdnn=((16, 4, 3),), lstm=5, dense=7, hidden=()), "train"),
    (replace(SMALL, tdnn=((16, 4, 3),), padding="same", lstm=5), "none"),
    (replace(SMALL, pooling="attentive"), "train"),
    (replace(SMALL, cell="gru", pooling="attentive"), "none"),
    (replace(SMALL, cell="gru", lstm=5), "train"),
    (replace(SMALL, summary=5, summary_width=6, hidden=()), "train"),
    (replace(SMALL, tdnn=(), lstm=0), "train"),
    (replace(SMALL, tdnn=(), lstm=0, layers=3, layer_width=12), "train"),
    (replace(SMALL, layers=3, layer_width=13), "none"),
]


def opened(model: Model, facts: Facts = Facts()) -> Any:  # noqa: B008 - it is frozen
    return onnx_session(build_graph(model, facts).SerializeToString())


def in_double(
    model: Model, frames: NDArray[np.float32], profile: NDArray[np.float32] | None
) -> list[NDArray[np.float64]]:
    """The outputs of PyTorch in double precision, from which both implementations differ by rounding."""
    exact = deepcopy(model.network).double()
    given = torch.from_numpy(model.normaliser.apply(frames))[None].double(), torch.tensor([len(frames)])
    with torch.inference_mode():
        logits, embedding = exact.logits(*given, None if profile is None else torch.from_numpy(profile)[None].double())
        description = exact.embed.describe(*given)
    return [one[0].numpy() for one in (logits, embedding, description)]


@pytest.mark.parametrize(("network", "normalise"), KINDS)
def test_equals_pytorch(network: NetworkSettings, normalise: str) -> None:
    model = random_model(network, normalise)
    run, random = opened(model), np.random.default_rng(2)
    most = len(LENGTHS) - (network not in LONG) - (network.lstm >= 128)
    for frames in utterances(LENGTHS[:most]):
        for profile in (None, random.normal(0, 1, 39).astype(np.float32))[: 1 + (normalise == "train")]:
            outputs = (
                onnx_file.by_onnx(run, frames, profile),
                in_double(model, frames, profile),
                onnx_file.by_torch(model, frames, profile),
            )
            for name, ours, exact, torchs in zip(onnx_file.OUTPUTS, *outputs, strict=True):
                np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-4, err_msg=name)
                # over a minute PyTorch's single precision sums are themselves 3e-4 off
                relative = 1e-4 if len(frames) > 1500 else 0
                np.testing.assert_allclose(ours, torchs, rtol=relative, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("normalise", ["train", "none", "utterance"])
def test_profile_is_an_input_only_after_train_normalisation(normalise: str) -> None:
    run = opened(random_model(SMALL, normalise))
    names = [value.name for value in run.get_overridable_initializers()]
    assert names == ["profile"] * (normalise == "train")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_probabilities_are_tempered(temperature: float) -> None:
    run = opened(random_model(), Facts(temperature=temperature))
    logits, probabilities = run.run(["logits", "probabilities"], {"features": utterances((50,))[0]})
    literal = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    np.testing.assert_allclose(probabilities, literal, rtol=1e-5)


def test_constant_feature_normalised_by_utterance_is_zero() -> None:
    model, (frames,) = random_model(normalise="utterance"), utterances((700,))
    frames[:, 4] = 23.456
    ours, torchs = onnx_file.by_onnx(opened(model), frames), onnx_file.by_torch(model, frames)
    assert abs(ours[2][4]) < 1e-5
    np.testing.assert_allclose(ours[0], torchs[0], atol=1e-4)


def test_file_has_its_metadata(tmp_path: Path) -> None:
    model = replace(random_model(), about={"cell": "ser-fold0"})
    data = TrainingCorpus("emodb", "EmoDB", "de", "CC0")
    facts = Facts(name="tiny", licence="MIT", data=(data,), temperature=1.5)
    loaded = onnx.load(export_model(model, tmp_path / "deep" / "model.onnx", facts))
    found = json.loads({entry.key: entry.value for entry in loaded.metadata_props}["unheard"])
    assert FeatureSettings.from_dict(found.pop("features")) == model.features
    assert found.pop("data")[0]["title"] == "EmoDB"
    del found["unheard"]
    assert found == {
        "format": 1,
        "name": "tiny",
        "licence": "MIT",
        "labels": list(LABELS),
        "normalise": "train",
        "weights": "float32",
        "temperature": 1.5,
        "adaptation": {"shrinkage": 4.0},
        "window": {"seconds": 3.0, "hop": 1.0},
        "about": {"cell": "ser-fold0"},
    }
    assert [value.name for value in loaded.graph.input] == ["features", "profile"]
    assert [value.name for value in loaded.graph.output] == ["logits", "probabilities", "embedding", "description"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: replace(model, normaliser=Normaliser("sliding")), "train, utterance"),
        (lambda model: replace(model, normaliser=Normaliser("speaker")), "train, utterance"),
        (lambda model: replace(model, labels=("angry",)), "a single emotion"),
    ],
)
def test_models_that_cannot_be_exported(change: Callable[[Model], Model], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export_model(change(random_model()), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unheard.export.onnx.VARIANCE_FLOOR", 4.0)
    with pytest.raises(ExportError, match="differs from the trained one"):
        export_model(random_model(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
