"""The layers of the network as ONNX nodes, one function each; the same numbers as `unheard.model.layers`.

PyTorch's layers see the valid frames of a batch laid end to end. ONNX has no such thing: here a batch stays a grid
(B, T, C), every position beyond an utterance's end repeats its last frame, so that padding is never read, and
whatever sums over time says which positions count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from unheard.model.layers import TDNN, VARIANCE_FLOOR, BiLSTM, Dense
from unheard.model.network import Functionals, Head

_GATES = (0, 3, 1, 2)
"""Where ONNX's gates (input, output, forget, cell) are in PyTorch's order (input, forget, cell, output)."""


@dataclass(frozen=True)
class Grid:
    """A batch of frames: the names of `values` (B, T, C) and of `lengths` (B,), the positions that count."""

    values: str
    lengths: str


def edges_repeated(emit: Emitter, features: str, lengths: str, at_least: int) -> tuple[Grid, str]:
    """`valid_frames(at_least=...)`: (B, T, F) without its padding; and which positions are no repetition (B, T, 1).

    Positions beyond an utterance's end hold its last frame.
    """
    lengths = emit("Reshape", lengths, emit("Shape", features, start=0, end=1))  # one for each utterance, or an error
    target = emit("Max", lengths, emit.whole(at_least))  # (B,)
    place = _places(emit, target)  # (1, T')
    own = emit("Unsqueeze", lengths, emit.whole(1))  # (B, 1)
    missing = emit("Div", emit("Sub", emit("Unsqueeze", target, emit.whole(1)), own), emit.whole(2))
    wanted = emit("Sub", place, missing)  # (B, T')
    last = emit("Sub", own, emit.whole(1))
    source = emit("Min", emit("Max", wanted, emit.whole(0)), last)
    values = emit("GatherND", features, emit("Unsqueeze", source, emit.whole(2)), batch_dims=1)
    genuine = emit("Unsqueeze", emit("Equal", wanted, source), emit.whole(2))
    return Grid(values, target), genuine


def mask(emit: Emitter, lengths: str) -> str:
    """Which positions lie before an utterance's end, (B, T, 1)."""
    inside = emit("Less", _places(emit, lengths), emit("Unsqueeze", lengths, emit.whole(1)))
    return emit("Unsqueeze", inside, emit.whole(2))


def shares(emit: Emitter, where: str, count: str) -> str:
    """What each position adds to a mean: 1 / `count` (B,) in `where` (B, T, 1), else 0; (B, 1, T) of doubles."""
    counting = exact(emit, emit("Transpose", where, perm=(0, 2, 1)))
    return emit("Div", counting, exact(emit, emit("Unsqueeze", count, emit.whole(1, 2))))


def mean_and_variance(emit: Emitter, values: str, share: str) -> tuple[str, str, str]:
    """Of `values` (B, T, C), doubles, over time: mean and variance (B, 1, C), and the values less their mean."""
    mean = emit("MatMul", share, values)
    centred = emit("Sub", values, mean)
    return mean, emit("MatMul", share, emit("Mul", centred, centred)), centred


def exact(emit: Emitter, values: str) -> str:
    """`values` as doubles: a sum over thousands of frames in single precision loses the fourth digit."""
    return emit("Cast", values, to=TensorProto.DOUBLE)


def single(emit: Emitter, values: str) -> str:
    """`values` in single precision again."""
    return emit("Cast", values, to=TensorProto.FLOAT)


def tdnn(emit: Emitter, name: str, layer: nn.Module, frames: Grid) -> Grid:
    """Affine over shifted frames, ReLU, batch norm: (B, T, inputs) -> (B, T', outputs)."""
    assert isinstance(layer, TDNN)
    span = layer.dilation * (layer.kernel - 1)
    values, lengths, pads = frames.values, frames.lengths, (0, 0)
    if layer.padding == "same":
        values = emit("Where", mask(emit, lengths), values, emit.scalar(0.0))
        pads = (span // 2, span - span // 2)
    else:
        lengths = emit("Sub", lengths, emit.whole(span))
    convolved = emit(
        "Conv",
        emit("Transpose", values, perm=(0, 2, 1)),
        emit.weight(f"{name}.weight", _array(layer.affine.weight)),
        emit.weight(f"{name}.bias", _array(layer.affine.bias)),
        kernel_shape=(layer.kernel,),
        dilations=(layer.dilation,),
        pads=pads,
    )
    active = emit("Relu", emit("Transpose", convolved, perm=(0, 2, 1)))
    return Grid(norm(emit, f"{name}.norm", layer.norm, active), lengths)


def bilstm(emit: Emitter, name: str, layer: BiLSTM, frames: Grid) -> Grid:
    """Bidirectional LSTM, forward states first: (B, T, inputs) -> (B, T, 2 * cells); zero beyond an utterance's end."""
    of_input, of_state, bias = [], [], []
    for lstm in (layer.ahead, layer.back):
        w, r, w_bias, r_bias = (_gates(parameter) for parameter in lstm.all_weights[0])
        of_input.append(w)
        of_state.append(r)
        bias.append(np.concatenate([w_bias, r_bias]))
    states = emit(
        "LSTM",
        emit("Transpose", frames.values, perm=(1, 0, 2)),
        emit.weight(f"{name}.input", np.stack(of_input)),
        emit.weight(f"{name}.state", np.stack(of_state)),
        emit.weight(f"{name}.bias", np.stack(bias)),
        emit("Cast", frames.lengths, to=TensorProto.INT32),
        direction="bidirectional",
        hidden_size=layer.ahead.hidden_size,
    )  # (T, 2, B, cells)
    values = emit("Reshape", emit("Transpose", states, perm=(2, 0, 1, 3)), emit.whole(0, 0, -1))
    return Grid(values, frames.lengths)


def dense(emit: Emitter, name: str, layer: Dense, x: str) -> str:
    """Affine, ReLU, batch norm: (..., inputs) -> (..., outputs)."""
    return norm(emit, f"{name}.norm", layer.norm, emit("Relu", linear(emit, name, layer.affine, x)))


def linear(emit: Emitter, name: str, layer: nn.Linear, x: str) -> str:
    """x Wᵀ + b: (..., inputs) -> (..., outputs)."""
    weight = emit.weight(f"{name}.weight", _array(layer.weight).T)
    return emit("Add", emit("MatMul", x, weight), emit.weight(f"{name}.bias", _array(layer.bias)))


def norm(emit: Emitter, name: str, layer: nn.Module, x: str) -> str:
    """Batch norm as it is in use, one multiplication and one addition a channel: (..., C) -> (..., C)."""
    if not isinstance(layer, nn.BatchNorm1d):
        return x  # nn.Identity: this network has none here
    deviation = np.sqrt(_wide(layer.running_var) + layer.eps)
    slope = _wide(layer.weight) / deviation
    offset = _wide(layer.bias) - _wide(layer.running_mean) * slope
    scaled = emit("Mul", x, emit.weight(f"{name}.slope", slope))
    return emit("Add", scaled, emit.weight(f"{name}.offset", offset))


def mean_std_pooling(emit: Emitter, frames: Grid) -> str:
    """Mean and standard deviation over each utterance's frames: (B, T, C) -> (B, 2C)."""
    share = shares(emit, mask(emit, frames.lengths), frames.lengths)
    mean, variance, _ = mean_and_variance(emit, exact(emit, frames.values), share)
    deviation = emit("Sqrt", emit("Max", variance, exact(emit, emit.scalar(VARIANCE_FLOOR))))
    return emit("Squeeze", single(emit, emit("Concat", mean, deviation, axis=2)), emit.whole(1))


def columns(emit: Emitter, values: str, first: int, last: int) -> str:
    """The columns from `first` up to `last` of (B, T, F)."""
    return emit("Slice", values, emit.whole(first), emit.whole(last), emit.whole(2))


def summary(emit: Emitter, layer: Functionals, frames: Grid, first: int) -> str:
    """What the columns from `first` on, the same in every frame, add to the embedding: (B, T, F) -> (B, width)."""
    earliest = emit("Gather", frames.values, emit.whole(0, alone=True), axis=1)  # (B, F)
    vector = emit("Slice", earliest, emit.whole(first), emit.whole(first + layer.affine.in_features), emit.whole(1))
    clipped = emit("Clip", vector, emit.scalar(-layer.CLIP), emit.scalar(layer.CLIP))
    return linear(emit, "summary", layer.affine, clipped)


def head(emit: Emitter, name: str, layer: Head, embedding: str, output: str) -> str:
    """A classifier: (B, E) -> logits (B, C), under the name `output`."""
    x = embedding
    for number, hidden in enumerate(layer.hidden):
        x = dense(emit, f"{name}.hidden{number}", cast(Dense, hidden), x)
    return emit("Identity", linear(emit, f"{name}.output", layer.output, x), name=output)


def _places(emit: Emitter, lengths: str) -> str:
    """0, 1, ... up to the longest of `lengths` (B,): (1, T)."""
    longest = emit("ReduceMax", lengths, axes=(0,), keepdims=0)
    zero, one = emit.whole(0, alone=True), emit.whole(1, alone=True)
    return emit("Unsqueeze", emit("Range", zero, longest, one), emit.whole(0))


def _array(tensor: Tensor | None) -> NDArray[Any]:
    assert tensor is not None
    return tensor.detach().cpu().numpy()


def _wide(tensor: Tensor | None) -> NDArray[Any]:
    return _array(tensor).astype(np.float64)


def _gates(parameter: Tensor) -> NDArray[Any]:
    """(4H, ...) in ONNX's order of the gates."""
    blocks = np.split(_array(parameter), 4)
    return np.concatenate([blocks[at] for at in _GATES])


# Writing an ONNX graph node by node: names are made up, constants are kept, the caller writes what is computed.


class Emitter:
    """Collects nodes and constants; every value is known by its name.

    `emit("Relu", x)` appends a node and returns the name of its output.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def __call__(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Append a node with one output; `name` is the output's, made up where it is empty."""
        output = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def weight(self, name: str, values: ArrayLike) -> str:
        """A float32 constant under a name of its own."""
        if name in self.constants:
            raise ValueError(f"two constants are called '{name}'")
        self.constants[name] = np.ascontiguousarray(values, np.float32)
        return name

    def scalar(self, value: float) -> str:
        """A float32 scalar, kept once however often it is asked for."""
        return self._shared(f"float_{value:g}", np.array(value, np.float32))

    def whole(self, *values: int, alone: bool = False) -> str:
        """An int64 vector (axes, a shape), or with `alone` an int64 scalar; kept once."""
        name = "_".join(["int" if alone else "ints", *map(str, values)])
        return self._shared(name, np.array(values[0] if alone else values, np.int64))

    def _shared(self, name: str, value: NDArray[Any]) -> str:
        self.constants.setdefault(name, value)
        return name

    def initializers(self) -> list[onnx.TensorProto]:
        """The constants as ONNX keeps them."""
        return [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
