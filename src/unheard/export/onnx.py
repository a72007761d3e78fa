"""Write a trained model as an ONNX file that computes one utterance; the graph is built node by node.

    features (T, F) -> normalise -> description (V,)
                                 -> subtract profile (V,) -> repeat edge frames -> TDNN, TDNN, BiLSTM, FC, pooling
                                                          -> embedding (E,) -> logits (C,), probabilities (C,)

Features of a pretrained encoder come from a file of their own (see `folder.py`); of several layers a learnt weighted
mean is taken first.

There is no batch dimension: the recogniser scores one window at a time, so the graph needs no lengths and no masks. The
edge frames are repeated inside the graph because the statistics and the description are those of the frames before.
No exporter traces the network: a traced loop or shape may hold only for the length it was traced with. Every graph is
compared with PyTorch before it is written.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from unheard import __version__
from unheard.errors import ExportError
from unheard.features.encoder import onnx_session
from unheard.features.normalise import LEAST_STD, Normaliser
from unheard.files import write_whole
from unheard.model.layers import TDNN, VARIANCE_FLOOR, AttentivePooling, BiLSTM, Dense
from unheard.model.network import EmbeddingNetwork, Functionals, Head, LayerWeights
from unheard.model.saving import Model
from unheard.training.augment import SHRINKAGE

Floats = NDArray[np.float32]

OPSET = 17
IR_VERSION = 8  # both are old enough for every onnxruntime of the last years

TOLERANCE = 1e-4
LENGTHS = (1, 2, 17, 60, 301)  # frames of the utterances compared with PyTorch: below, at and above the receptive field

OUTPUTS = ("logits", "embedding", "description")

NORMALISATIONS = ("none", "train", "utterance")
"""Normalisations that need nothing but the utterance itself and can be part of a graph."""

_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""Positions of ONNX's gates in PyTorch's order: input, output, forget, cell in input, forget, cell, output; update,
reset, new in reset, update, new."""

_EVALUATE = "Use the model with `unheard evaluate`."

# Metadata: JSON under the key `unheard` of the file.

FORMAT = 1
WINDOW, HOP = 3.0, 1.0  # long audio is cut into windows of 3 s, a new one every second


@dataclass(frozen=True)
class TrainingCorpus:
    """A corpus that a model was trained on."""

    name: str
    title: str
    language: str
    licence: str
    citation: str = ""
    homepage: str = ""


@dataclass(frozen=True)
class Facts:
    """Metadata of an exported model that `Model` does not contain.

    `licence` is that of the weights, `data` the training corpora; logits are divided by `temperature`.
    """

    name: str = ""
    licence: str = ""
    data: tuple[TrainingCorpus, ...] = ()
    temperature: float = 1.0


FACTS = Facts()


def metadata(model: Model, facts: Facts) -> dict[str, Any]:
    """Return the metadata of an exported model as plain values."""
    return {
        "format": FORMAT,
        "unheard": __version__,
        "name": facts.name,
        "licence": facts.licence,
        "labels": list(model.labels),
        "features": model.features.as_dict(),
        "normalise": model.normaliser.kind,
        "weights": "float32",
        "temperature": facts.temperature,
        "adaptation": {"shrinkage": SHRINKAGE},
        "window": {"seconds": WINDOW, "hop": HOP},
        "data": [asdict(one) for one in facts.data],
        "about": dict(model.about),
    }


def encoded(values: Mapping[str, Any]) -> str:
    """Encode metadata for the file."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


# The graph


def export_model(model: Model, path: str | Path, facts: Facts = FACTS) -> Path:
    """Write `model` to the ONNX file `path` after comparing it with PyTorch; return the path.

    Raises `ExportError` for a model that cannot be exported, and where the file does not compute what PyTorch does.
    """
    path = Path(path)
    content = build_graph(model, facts).SerializeToString()
    check(model, content)
    write_whole(path, lambda temporary: temporary.write_bytes(content))
    return path


def build_graph(model: Model, facts: Facts = FACTS) -> onnx.ModelProto:
    """Build the ONNX graph of `model` with its metadata; raises `ExportError` for a model that cannot be exported."""
    if model.features.foreign:
        what = f"the features of this model ('{model.features.kind}') are not computed by this package"
        raise ExportError(what, mend=_EVALUATE)
    if len(model.labels) < 2:
        raise ExportError("this model has a single emotion", mend="Train it with two or more.")
    graph, embed = Graph(), model.network.embed
    frames = normalised(graph, model.normaliser)
    graph("Identity", single(graph, mean(graph, exact(graph, frames))), name="description")
    if model.adapts:
        frames = graph("Sub", frames, graph.constant("profile", np.zeros(embed.features)))  # also an optional input
    embedding = embedded(graph, embed, frames)
    logits = graph("Identity", head(graph, "emotion", model.network.emotion, embedding), name="logits")
    graph("Softmax", graph("Div", logits, graph.constant("temperature", facts.temperature)), name="probabilities")

    def value(name: str, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    width, labels = model.features.dim, len(model.labels)
    built = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "unheard",
            [value("features", "frames", width), *[value("profile", width)] * model.adapts],
            [
                value("logits", labels),
                value("probabilities", labels),
                value("embedding", model.settings.embedding),
                value("description", width),
            ],
            [numpy_helper.from_array(values, name) for name, values in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="unheard",
    )
    helper.set_model_props(built, {"unheard": encoded(metadata(model, facts))})
    onnx.checker.check_model(built, full_check=True)
    return built


class Graph:
    """ONNX nodes and constants, each known by the name of its value.

    `graph("Relu", x)` appends a node with one output and returns the output's name.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def __call__(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Append a node; `name` is that of its output, made up where it is empty."""
        output = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: ArrayLike) -> str:
        """Add a float32 constant."""
        self.constants[name] = np.array(values, np.float32, order="C")
        return name

    def integers(self, *values: int) -> str:
        """Add a vector of int64, such as axes or a shape."""
        name = "_".join(["integers", *map(str, values)])
        self.constants[name] = np.array(values, np.int64)
        return name


def exact(graph: Graph, x: str) -> str:
    """Add a cast to double precision: a sum over thousands of frames in single precision loses the fourth digit."""
    return graph("Cast", x, to=TensorProto.DOUBLE)


def single(graph: Graph, x: str) -> str:
    """Add a cast to single precision."""
    return graph("Cast", x, to=TensorProto.FLOAT)


def mean(graph: Graph, x: str) -> str:
    """Add the mean over time: (T, C) -> (C,)."""
    return graph("ReduceMean", x, axes=[0], keepdims=0)


def normalised(graph: Graph, normaliser: Normaliser) -> str:
    """Add the normalisation, as `Normaliser.apply`: (T, F) -> (T, F)."""
    if normaliser.kind == "none":
        return "features"
    if normaliser.kind == "train":
        if normaliser.mean is None or normaliser.std is None:
            raise ExportError("the normalisation of this model has not been fitted")
        centred = graph("Sub", "features", graph.constant("normaliser.mean", normaliser.mean[0]))
        return graph("Div", centred, graph.constant("normaliser.std", normaliser.std[0]))
    if normaliser.kind == "utterance":
        frames = exact(graph, "features")
        centred = graph("Sub", frames, mean(graph, frames))
        deviation = graph("Sqrt", mean(graph, graph("Mul", centred, centred)))
        constant = graph("Less", deviation, exact(graph, graph.constant("least_std", LEAST_STD)))
        divisor = graph("Where", constant, exact(graph, graph.constant("one", 1.0)), deviation)
        return single(graph, graph("Div", centred, divisor))
    what = f"normalisation '{normaliser.kind}' needs more than the utterance itself and cannot be exported"
    raise ExportError(what, mend=f"Train with one of: {', '.join(NORMALISATIONS)}.")


def embedded(graph: Graph, network: EmbeddingNetwork, frames: str) -> str:
    """Add the network, as `EmbeddingNetwork.forward`: (T, F) -> (E,)."""
    x = frames
    if network.summary is not None:
        x = graph("Slice", x, graph.integers(0), graph.integers(network.framed), graph.integers(1))
    if network.weighing is not None:
        x = weighed(graph, network.weighing, x)
    if network.receptive_field > 1:
        x = edges_repeated(graph, x, network.receptive_field)
    for number, layer in enumerate(network.tdnn):
        x = tdnn(graph, f"tdnn{number}", cast(TDNN, layer), x)
    if network.rnn is not None:
        x = norm(graph, "rnn.norm", network.rnn_norm, bilstm(graph, "rnn", network.rnn, x))
    pooled = statistics(graph, network.pooling, dense(graph, "dense", network.dense, x))
    if network.summary is None:
        return graph("Identity", pooled, name="embedding")
    appended = functionals(graph, network.summary, frames, network.framed)
    return graph("Concat", pooled, appended, axis=0, name="embedding")


def weighed(graph: Graph, layer: LayerWeights, x: str) -> str:
    """Add the weighted mean of L layers, as `LayerWeights.forward`: (T, L·W + rest) -> (T, W + rest)."""
    layers, width = layer.sizes
    weights = graph.constant("layer_weights", _array(layer.weights.softmax(0))[:, None])
    start, end, axis = graph.integers(0), graph.integers(layers * width), graph.integers(1)
    states = graph("Reshape", graph("Slice", x, start, end, axis), graph.integers(0, layers, width))
    product = graph("MatMul", graph("Transpose", states, perm=(0, 2, 1)), weights)  # (T, W, 1)
    rest = graph("Slice", x, end, graph.integers(2**31), axis)
    return graph("Concat", graph("Squeeze", product, graph.integers(2)), rest, axis=1)


def edges_repeated(graph: Graph, x: str, at_least: int) -> str:
    """Add the repetition of edge frames, as `valid_frames(at_least=...)`: (T, F) -> (T', F)."""
    missing = graph("Sub", graph.integers(at_least), graph("Shape", x, start=0, end=1))
    missing = graph("Max", missing, graph.integers(0))
    before = graph("Div", missing, graph.integers(2))
    zero = graph.integers(0)
    return graph("Pad", x, graph("Concat", before, zero, graph("Sub", missing, before), zero, axis=0), mode="edge")


def tdnn(graph: Graph, name: str, layer: TDNN, x: str) -> str:
    """Add a dilated convolution, ReLU and batch norm: (T, inputs) -> (T', outputs)."""
    span = layer.dilation * (layer.kernel - 1)
    convolved = graph(
        "Conv",
        graph("Unsqueeze", graph("Transpose", x, perm=(1, 0)), graph.integers(0)),
        graph.constant(f"{name}.weight", _array(layer.affine.weight)),
        graph.constant(f"{name}.bias", _array(layer.affine.bias)),
        kernel_shape=(layer.kernel,),
        dilations=(layer.dilation,),
        pads=(span // 2, span - span // 2) if layer.padding == "same" else (0, 0),
    )  # (1, outputs, T')
    frames = graph("Transpose", graph("Squeeze", convolved, graph.integers(0)), perm=(1, 0))
    return norm(graph, f"{name}.norm", layer.norm, graph("Relu", frames))


def bilstm(graph: Graph, name: str, layer: BiLSTM, x: str) -> str:
    """Add a bidirectional LSTM or GRU, forward states first: (T, inputs) -> (T, 2 * cells)."""
    mode = layer.ahead.mode
    reset: dict[str, Any] = {"linear_before_reset": 1} if mode == "GRU" else {}
    weights = [[_gates(w, _GATES[mode]) for w in direction.all_weights[0]] for direction in (layer.ahead, layer.back)]
    states = graph(
        mode,
        graph("Unsqueeze", x, graph.integers(1)),
        graph.constant(f"{name}.input", [of_input for of_input, *_ in weights]),
        graph.constant(f"{name}.state", [of_state for _, of_state, *_ in weights]),
        graph.constant(f"{name}.bias", [np.concatenate(biases) for _, _, *biases in weights]),
        direction="bidirectional",
        hidden_size=layer.ahead.hidden_size,
        **reset,
    )  # (T, 2, 1, cells)
    return graph("Reshape", states, graph.integers(0, -1))


def dense(graph: Graph, name: str, layer: Dense, x: str) -> str:
    """Add an affine layer, ReLU and batch norm: (..., inputs) -> (..., outputs)."""
    return norm(graph, f"{name}.norm", layer.norm, graph("Relu", linear(graph, name, layer.affine, x)))


def linear(graph: Graph, name: str, layer: nn.Linear, x: str) -> str:
    """Add x Wᵀ + b: (..., inputs) -> (..., outputs)."""
    product = graph("MatMul", x, graph.constant(f"{name}.weight", _array(layer.weight).T))
    return graph("Add", product, graph.constant(f"{name}.bias", _array(layer.bias)))


def norm(graph: Graph, name: str, layer: nn.Module, x: str) -> str:
    """Add batch norm in evaluation mode, one multiplication and one addition: (..., C) -> (..., C)."""
    if not isinstance(layer, nn.BatchNorm1d):
        return x  # nn.Identity: this network has no batch norm here
    weight, bias, center, variance = (
        _array(one).astype(np.float64) for one in (layer.weight, layer.bias, layer.running_mean, layer.running_var)
    )
    slope = weight / np.sqrt(variance + layer.eps)
    scaled = graph("Mul", x, graph.constant(f"{name}.slope", slope))
    return graph("Add", scaled, graph.constant(f"{name}.offset", bias - center * slope))


def statistics(graph: Graph, layer: nn.Module | None, x: str) -> str:
    """Add mean and standard deviation over time, weighted if `layer` is an attentive pooling: (T, C) -> (2C,)."""
    weights = None
    if isinstance(layer, AttentivePooling):
        hidden = graph("Tanh", linear(graph, "pooling", layer.affine, x))
        scores = graph("MatMul", hidden, graph.constant("pooling.score", _array(layer.score.weight).T))  # (T, 1)
        weights = graph("Softmax", exact(graph, scores), axis=0)
    elif layer is not None:
        what = f"the pooling {type(layer).__name__} is a plug-in, which cannot be exported"
        raise ExportError(what, mend=_EVALUATE)

    def expectation(x: str) -> str:
        if weights is None:
            return mean(graph, x)
        return graph("ReduceSum", graph("Mul", weights, x), graph.integers(0), keepdims=0)

    x = exact(graph, x)
    average = expectation(x)
    centred = graph("Sub", x, average)
    variance = expectation(graph("Mul", centred, centred))
    floor = exact(graph, graph.constant("variance_floor", VARIANCE_FLOOR))
    return single(graph, graph("Concat", average, graph("Sqrt", graph("Max", variance, floor)), axis=0))


def functionals(graph: Graph, layer: Functionals, frames: str, first: int) -> str:
    """Add the layer on the functionals, which are the columns from `first` of every frame: (T, F) -> (width,)."""
    begin, end = graph.integers(0, first), graph.integers(1, first + layer.affine.in_features)
    vector = graph("Squeeze", graph("Slice", frames, begin, end, graph.integers(0, 1)), graph.integers(0))
    low, high = graph.constant("clip.low", -layer.CLIP), graph.constant("clip.high", layer.CLIP)
    return linear(graph, "summary", layer.affine, graph("Clip", vector, low, high))


def head(graph: Graph, name: str, layer: Head, x: str) -> str:
    """Add a classifier: embedding (E,) -> logits (C,)."""
    for number, hidden in enumerate(layer.hidden):
        x = dense(graph, f"{name}.hidden{number}", cast(Dense, hidden), x)
    return linear(graph, f"{name}.output", layer.output, x)


def _array(tensor: Tensor | None) -> NDArray[Any]:
    assert tensor is not None
    return tensor.detach().cpu().numpy()


def _gates(parameter: Tensor, order: tuple[int, ...]) -> NDArray[Any]:
    """Reorder the gates of (gates * H, ...) for ONNX."""
    blocks = np.split(_array(parameter), len(order))
    return np.concatenate([blocks[at] for at in order])


# Parity


def check(model: Model, content: bytes) -> None:
    """Raise `ExportError` where the ONNX file `content` and `model` differ by more than `TOLERANCE`.

    Differences are relative for outputs above 1.
    """
    random, run, worst = np.random.default_rng(0), onnx_session(content), 0.0
    for length in LENGTHS:
        frames = random.normal(0, 1, (length, model.features.dim)).astype(np.float32)
        if model.normaliser.mean is not None and model.normaliser.std is not None:
            frames = frames * model.normaliser.std[0] + model.normaliser.mean[0]
        profile = random.normal(0, 1, model.features.dim).astype(np.float32) if model.adapts else None
        for ours, theirs in zip(by_onnx(run, frames, profile), by_torch(model, frames, profile), strict=True):
            difference = float(np.max(np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))))
            worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    if worst > TOLERANCE:
        what = f"the exported model differs from the trained one by {worst:.2g}, more than {TOLERANCE:g}"
        mend = "Nothing was written. Check that the training converged: its weights are far out of the usual range."
        raise ExportError(what, mend=mend)


def by_torch(model: Model, frames: Floats, profile: Floats | None = None) -> list[Floats]:
    """Compute `OUTPUTS` with PyTorch for one utterance (T, F) that is not normalised."""
    x = torch.from_numpy(model.normaliser.apply(frames))[None]
    lengths, vector = torch.tensor([len(frames)]), None if profile is None else torch.from_numpy(profile)[None]
    with torch.inference_mode():
        logits, embedding = model.network.logits(x, lengths, vector)
        description = model.network.embed.describe(x, lengths)
    return [value[0].numpy() for value in (logits, embedding, description)]


def by_onnx(run: Any, frames: Floats, profile: Floats | None = None) -> list[Floats]:
    """Compute `OUTPUTS` with an ONNX session for the same utterance."""
    inputs = {"features": frames} | ({} if profile is None else {"profile": profile})
    return list(run.run(list(OUTPUTS), inputs))
