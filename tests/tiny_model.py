"""A tiny ONNX model that keeps the contract of exported ones, made by hand so that its answers are visible.

The description of an utterance is its mean frame; the embedding is that less the profile; logits are W·embedding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

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
    inputs = f"float[frames, {width}] features" + profile * f", float[{width}] profile"
    outputs = f"float[{classes}] logits, float[{classes}] probabilities"
    graph = onnx.parser.parse_graph(
        f"""tiny ({inputs}) => ({outputs}, float[{width}] embedding, float[{width}] description) {{
            description = ReduceMean <axes = [0], keepdims = 0> (features)
            embedding = {"Sub (description, profile)" if profile else "Identity (description)"}
            logits = MatMul (embedding, weights)
            cooled = Div (logits, temperature)
            probabilities = Softmax <axis = -1> (cooled)
        }}"""
    )
    constants = {"weights": weights(width, classes), "temperature": np.array(TEMPERATURE, np.float32)}
    if profile:
        constants["profile"] = np.zeros(width, np.float32)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    described = metadata(labels, settings, **changed)
    helper.set_model_props(model, {"unheard": json.dumps(described) if text is None else text})
    return model


def write_tiny(path: Path, **options: Any) -> Path:
    """Write the model to `path` and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny_proto(**options).SerializeToString())
    return path
