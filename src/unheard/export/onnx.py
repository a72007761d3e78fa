"""A trained model as one ONNX file, built node by node.

    features (B, T, F), lengths (B,), voice (1 or B, V)
        -> normalised -> edge frames repeated -> description (B, V)
                                              -> less the voice -> TDNN, TDNN, BiLSTM, FC, pooling
                                                                -> embedding (B, E) -> logits, probabilities (B, C)

No exporter traces the network: a traced loop, packed sequence or shape is right for the lengths it was traced with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from unheard.errors import ExportError
from unheard.export import layers
from unheard.export.layers import Emitter, Grid
from unheard.export.metadata import Facts, encoded, metadata
from unheard.export.parity import check, embedding_network
from unheard.features.normalise import LEAST_STD, Normaliser
from unheard.files import write_whole
from unheard.model.network import EmbeddingNetwork
from unheard.model.saving import Model

OPSET = 17
IR_VERSION = 8
"""Both old enough for every onnxruntime of the last years."""

NORMALISATIONS = ("none", "train", "utterance")
"""Those that need nothing but the utterance itself and can be part of a graph."""


def export_model(model: Model, path: str | Path, facts: Facts = Facts()) -> Path:  # noqa: B008 - it is frozen
    """Write `model` as an ONNX file to `path`, compared with PyTorch before it appears; returns the path.

    Raises `ExportError` for a model that cannot be one, and where the file does not compute what PyTorch does.
    """
    path = Path(path)
    graph = build_graph(model, facts)
    content = graph.SerializeToString()
    check(model, content)
    write_whole(path, lambda temporary: temporary.write_bytes(content))
    return path


def build_graph(model: Model, facts: Facts = Facts()) -> onnx.ModelProto:  # noqa: B008 - it is frozen
    """`model` as an ONNX graph with its metadata; raises `ExportError` for input that needs more."""
    if model.features.kind == "encoder":
        raise ExportError(
            "this model hears through a pretrained encoder, which is no part of it",
            mend="Only models of Kaldi's features can be exported; use this one with `unheard evaluate`.",
        )
    if len(model.labels) < 2:
        raise ExportError("this model has one emotion and tells nothing apart", mend="Train it with two or more.")
    embed, emotion = embedding_network(model), model.network.emotion
    emit = Emitter()
    frames, genuine = layers.edges_repeated(emit, "features", "lengths", embed.receptive_field)
    frames = normalised(emit, model.normaliser, frames, genuine)
    description(emit, frames, genuine)
    if model.adapts:
        frames = without_voice(emit, frames)
        emit.weight("voice", np.zeros((1, embed.features)))  # an input too: what it is where none is given
    embedding = embedded(emit, embed, frames)
    logits = layers.head(emit, "emotion", emotion, embedding, "logits")
    emit("Softmax", emit("Div", logits, emit.weight("temperature", facts.temperature)), name="probabilities", axis=-1)
    return _assembled(emit, model, embed, facts)


def normalised(emit: Emitter, normaliser: Normaliser, frames: Grid, genuine: str) -> Grid:
    """`Normaliser.apply` on a batch; the statistics of an utterance are those of its genuine frames."""
    if normaliser.kind == "none":
        return frames
    if normaliser.kind == "train":
        if normaliser.mean is None or normaliser.std is None:
            raise ExportError("this model's normalisation has not been fitted")
        mean = emit.weight("normaliser.mean", normaliser.mean[:1])
        deviation = emit.weight("normaliser.std", normaliser.std[:1])
        return Grid(emit("Div", emit("Sub", frames.values, mean), deviation), frames.lengths)
    if normaliser.kind == "utterance":
        share = layers.shares(emit, genuine, "lengths")
        _, variance, centred = layers.mean_and_variance(emit, layers.exact(emit, frames.values), share)
        deviation = emit("Sqrt", variance)
        constant = emit("Less", deviation, layers.exact(emit, emit.scalar(LEAST_STD)))
        divisor = emit("Where", constant, layers.exact(emit, emit.scalar(1.0)), deviation)
        return Grid(layers.single(emit, emit("Div", centred, divisor)), frames.lengths)
    raise ExportError(
        f"normalisation '{normaliser.kind}' needs more than the utterance itself and cannot be exported",
        mend=f"Train with one of: {', '.join(NORMALISATIONS)}.",
    )


def description(emit: Emitter, frames: Grid, genuine: str) -> str:
    """`EmbeddingNetwork.describe`: the mean of the normalised, genuine frames, (B, V)."""
    share = layers.shares(emit, genuine, "lengths")
    mean = layers.single(emit, emit("MatMul", share, layers.exact(emit, frames.values)))
    return emit("Squeeze", mean, emit.whole(1), name="description")


def without_voice(emit: Emitter, frames: Grid) -> Grid:
    """The frames less what is known of the voice."""
    return Grid(emit("Sub", frames.values, emit("Unsqueeze", "voice", emit.whole(1))), frames.lengths)


def embedded(emit: Emitter, network: EmbeddingNetwork, frames: Grid) -> str:
    """`EmbeddingNetwork.forward`: (B, T, F) -> (B, E)."""
    whole = frames
    if network.summary is not None:
        frames = Grid(layers.columns(emit, whole.values, 0, network.framed), frames.lengths)
    for number, layer in enumerate(network.tdnn):
        frames = layers.tdnn(emit, f"tdnn{number}", layer, frames)
    states = layers.bilstm(emit, "rnn", network.rnn, frames)
    values = layers.norm(emit, "rnn.norm", network.rnn_norm, states.values)
    pooled = layers.mean_std_pooling(emit, Grid(layers.dense(emit, "dense", network.dense, values), states.lengths))
    if network.summary is None:
        return emit("Identity", pooled, name="embedding")
    return emit(
        "Concat", pooled, layers.summary(emit, network.summary, whole, network.framed), axis=1, name="embedding"
    )


def _assembled(emit: Emitter, model: Model, embed: EmbeddingNetwork, facts: Facts) -> onnx.ModelProto:
    def value(name: str, *shape: str | int, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    voice, labels = embed.features, len(model.labels)
    graph = helper.make_graph(
        emit.nodes,
        "unheard",
        [
            value("features", "batch", "frames", model.features.dim),
            value("lengths", "batch", kind=TensorProto.INT64),
            *([value("voice", "voices", voice)] if model.adapts else []),
        ],
        [
            value("logits", "batch", labels),
            value("probabilities", "batch", labels),
            value("embedding", "batch", model.settings.embedding),
            value("description", "batch", voice),
        ],
        emit.initializers(),
    )
    built = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="unheard"
    )
    helper.set_model_props(built, {"unheard": encoded(metadata(model, facts))})
    onnx.checker.check_model(built, full_check=True)
    return built
