"""A tiny ONNX model that keeps the contract of exported ones, made by hand so that its answers are visible.

The description of an utterance is its mean frame; the embedding is that less the voice; logits are W·embedding.
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
    voice: bool = True,
    text: str | None = None,
    **changed: Any,
) -> onnx.ModelProto:
    """The model; `text` instead of its metadata, `changed` for single values of it."""
    settings = settings or FeatureSettings()
    width, classes = settings.dim, len(labels)
    given = {
        "zero": np.zeros(1, np.int64),
        "one": np.ones(1, np.int64),
        "weights": weights(width, classes),
        "temperature": np.array(TEMPERATURE, np.float32),
        "start": np.array(0, np.int64),
        "step": np.array(1, np.int64),
        "time": np.array(1, np.int64),
        **({"voice": np.zeros((1, width), np.float32)} if voice else {}),
    }
    nodes = [
        helper.make_node("Shape", ["features"], ["shape"]),
        helper.make_node("Gather", ["shape", "time"], ["frames"]),
        helper.make_node("Range", ["start", "frames", "step"], ["at"]),
        helper.make_node("Unsqueeze", ["lengths", "one"], ["limit"]),
        helper.make_node("Less", ["at", "limit"], ["valid"]),
        helper.make_node("Cast", ["valid"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "two"], ["mask3"]),
        helper.make_node("Mul", ["features", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["total"], keepdims=0),
        helper.make_node("Cast", ["limit"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["total", "count"], ["description"]),
        helper.make_node("Sub", ["description", "voice"], ["embedding"])
        if voice
        else helper.make_node("Identity", ["description"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "weights"], ["logits"]),
        helper.make_node("Div", ["logits", "temperature"], ["cooled"]),
        helper.make_node("Softmax", ["cooled"], ["probabilities"], axis=-1),
    ]
    given["two"] = np.full(1, 2, np.int64)
    value = helper.make_tensor_value_info
    inputs = [
        value("features", TensorProto.FLOAT, ["batch", "frames", width]),
        value("lengths", TensorProto.INT64, ["batch"]),
    ]
    if voice:
        inputs.append(value("voice", TensorProto.FLOAT, ["voices", width]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [
            value("logits", TensorProto.FLOAT, ["batch", classes]),
            value("probabilities", TensorProto.FLOAT, ["batch", classes]),
            value("embedding", TensorProto.FLOAT, ["batch", width]),
            value("description", TensorProto.FLOAT, ["batch", width]),
        ],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
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
