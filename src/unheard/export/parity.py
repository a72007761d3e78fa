"""An exported model compared with the PyTorch model it was made from, before anybody uses it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions

from unheard.errors import ExportError
from unheard.model.network import EmbeddingNetwork
from unheard.model.saving import Model

TOLERANCE = 1e-4
LENGTHS = (1, 2, 17, 60, 301)
"""Frames of the utterances compared: below, at and above what the network sees at once."""

OUTPUTS = ("logits", "embedding", "description")

Floats = NDArray[np.float32]


def check(model: Model, content: bytes, tolerance: float = TOLERANCE) -> float:
    """The largest difference between the ONNX file `content` and `model`, alone and in a batch, with a voice where it
    knows voices.

    Raises `ExportError` where it is above `tolerance`, relative to the output where that is above 1.
    """
    random = np.random.default_rng(0)
    utterances = [random.normal(0, 1, (n, model.features.dim)).astype(np.float32) for n in LENGTHS]
    if model.normaliser.kind == "train" and model.normaliser.mean is not None and model.normaliser.std is not None:
        utterances = [x * model.normaliser.std[0] + model.normaliser.mean[0] for x in utterances]
    voice = None
    if model.adapts:
        voice = random.normal(0, 1, (len(LENGTHS), embedding_network(model).features)).astype(np.float32)
    expected = by_torch(model, utterances, voice)
    worst = max(
        difference(by_onnx(content, utterances, voice), expected),
        difference(
            by_onnx(content, utterances[-1:], None if voice is None else voice[-1:]), [one[-1:] for one in expected]
        ),
    )
    if not worst <= tolerance:
        raise ExportError(
            f"the exported model differs from the trained one by {worst:.2g}, more than {tolerance:g}",
            mend="Nothing was written; a model whose training went astray has weights far out of the usual range.",
        )
    return worst


def by_torch(model: Model, utterances: list[Floats], voice: Floats | None = None) -> list[Floats]:
    """`OUTPUTS` of PyTorch for `utterances`, each (T, F) and not normalised."""
    x, lengths = (torch.from_numpy(array) for array in padded([model.normaliser.apply(x) for x in utterances]))
    known = None if voice is None else torch.from_numpy(voice)
    with torch.inference_mode():
        logits, embedding = model.network.logits(x, lengths, known)
        description = embedding_network(model).describe(x, lengths)
    return [value.numpy() for value in (logits, embedding, description)]


def by_onnx(content: bytes, utterances: list[Floats], voice: Floats | None = None) -> list[Floats]:
    """`OUTPUTS` of the ONNX file for the same; its padding is not a number, so that one that is read shows."""
    x, lengths = padded(utterances, np.nan)
    given = {"features": x, "lengths": lengths} | ({} if voice is None else {"voice": voice})
    return list(session(content).run(list(OUTPUTS), given))


def session(content: bytes) -> InferenceSession:
    """The ONNX file `content`, ready to run on a CPU."""
    options = SessionOptions()
    options.log_severity_level = 3  # a default for `voice` is meant to be an input too
    return InferenceSession(content, options, providers=["CPUExecutionProvider"])


def embedding_network(model: Model) -> EmbeddingNetwork:
    """The network of `model`; raises `ExportError` for one that is not known here."""
    network = model.network.embed
    if not isinstance(network, EmbeddingNetwork):
        raise ExportError("this network is not known here")
    return network


def padded(utterances: list[Floats], blank: float = 0.0) -> tuple[Floats, NDArray[np.int64]]:
    """Utterances (T, F) as one batch (B, T, F) with their lengths (B,)."""
    lengths = np.array([len(x) for x in utterances], np.int64)
    x = np.full((len(utterances), int(lengths.max()), utterances[0].shape[1]), blank, np.float32)
    for row, utterance in zip(x, utterances, strict=True):
        row[: len(utterance)] = utterance
    return x, lengths


def difference(one: list[Floats], other: list[Floats]) -> float:
    """The largest difference, relative to values above 1; infinite where something is not a number."""
    worst = max(float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b)))) for a, b in zip(one, other, strict=True))
    return worst if np.isfinite(worst) else float("inf")
