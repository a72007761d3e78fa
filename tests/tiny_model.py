"""A tiny ONNX model that keeps the contract of exported ones, made by hand so that its answers are visible.

The description of an utterance is its mean frame; the embedding is that less the profile; logits are W·embedding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from unheard.features import FeatureSettings

LABELS = ("angry", "happy", "neutral", "sad")
TEMPERATURE = 2.0


def weights(features: int, classes: int) -> np.ndarray:
    return (np.random.default_rng(7).standard_normal((features, classes)) * 0.05).astype(np.float32)


def metadata(
    labels: tuple[str, ...] = LABELS, settings: FeatureSettings | None = None, **changed: Any
) -> dict[str, Any]:
    return {
        "format": 1,
        "unheard": "0.1.0",
        "name": "tiny",
        "licence": "CC BY-NC-SA 4.0",
        "labels": list(labels),
        "features": (settings or FeatureSettings()).as_dict(),
        "normalise": "none",
        "temperature": TEMPERATURE,
        "adaptation": {"shrinkage": 4.0},
        "window": {"seconds": 3.0, "hop": 1.0},
        "data": [{"name": "made", "title": "Made up", "language": "none", "licence": "CC0"}],
        "about": {"corpus": "made"},
        **changed,
    }


def tiny_proto(
    labels: tuple[str, ...] = LABELS,
    settings: FeatureSettings | None = None,
    *,
    profile: bool = True,
    text: str | None = None,
    **changed: Any,
) -> onnx.ModelProto:
    """The model; `text` instead of its metadata, `changed` for single values of it."""
    settings = settings or FeatureSettings()
    width, classes = settings.dim, len(labels)
    constants: dict[str, np.ndarray] = {
        "weights": weights(width, classes),
        "temperature": np.array(TEMPERATURE, np.float32),
        **({"profile": np.zeros(width, np.float32)} if profile else {}),
    }
    nodes = [
        helper.make_node("ReduceMean", ["features"], ["description"], axes=[0], keepdims=0),
        helper.make_node("Sub", ["description", "profile"], ["embedding"])
        if profile
        else helper.make_node("Identity", ["description"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "weights"], ["logits"]),
        helper.make_node("Div", ["logits", "temperature"], ["cooled"]),
        helper.make_node("Softmax", ["cooled"], ["probabilities"], axis=-1),
    ]

    def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("features", "frames", width), *[value("profile", width)] * profile],
        [
            value("logits", classes),
            value("probabilities", classes),
            value("embedding", width),
            value("description", width),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    described = metadata(labels, settings, **changed)
    helper.set_model_props(model, {"unheard": json.dumps(described) if text is None else text})
    return model


def write_tiny(path: Path, **options: Any) -> Path:
    """Write the model to `path` and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny_proto(**options).SerializeToString())
    return path
