"""Write the first layers of a Whisper encoder as an ONNX graph (Radford et al. 2022), without PyTorch.

    mel (B, 2T, mels) -> two convolutions, GELU (B, T, D) + positions -> layers, pre-norm -> states (B, T, D)

Convolutions are matrix products over three neighbouring frames. Attention and bias with GELU are onnxruntime's fused
operators; its fused residual with layer norm is slower than its parts. With `int8` the weights of all matrix products
are stored as integers of 7 bits and a scale for each column, and inputs are quantised as they come: processors without
VNNI saturate on 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unheard.errors import MissingExtra
from unheard.features.encoder_weights import Floats, Weights

_EPSILON = 1e-5
_LARGEST = 63


def build_graph(
    weights: Weights, layers: Sequence[int], *, average: bool = False, int8: bool = False, frames: int = 1500
) -> Any:
    """Return the `onnx.ModelProto` that computes the states after `layers` (0: after the convolutions).

    Several layers come side by side (B, T, len(layers) · D), or as their mean with `average`. Nothing above the
    highest layer is in the graph, and positions only for T up to `frames`.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtra("onnx", "train") from None
    graph = _Graph(onnx, weights, int8, frames)
    states = graph.states(max(layers))
    chosen = [states[layer] for layer in layers]
    if len(chosen) == 1:
        graph.node("Identity", chosen, "states")
    elif average:
        graph.node("Mean", chosen, "states")
    else:
        graph.node("Concat", chosen, "states", axis=-1)
    width = weights.width * (1 if average else len(layers))
    info = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(
        graph.nodes,
        "whisper_encoder",
        [info("mel", onnx.TensorProto.FLOAT, ["batch", "mel_frames", weights.mels])],
        [info("states", onnx.TensorProto.FLOAT, ["batch", "frames", width])],
        graph.constants,
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(made, opset_imports=opsets, ir_version=8, producer_name="unheard")


class _Graph:
    """Nodes and constants of the graph; every method returns the name of what its node gives."""

    def __init__(self, onnx: Any, weights: Weights, int8: bool, frames: int) -> None:
        self.onnx, self.weights, self.int8, self.frames = onnx, weights, int8, frames
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        fused = kind in ("BiasGelu", "MultiHeadAttention", "DynamicQuantizeMatMul")
        outputs = outputs or (f"{kind}_{len(self.nodes)}",)
        domain = "com.microsoft" if fused else ""
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), list(outputs), domain=domain, **attributes))
        return outputs[0]

    def constant(self, value: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def half(self, value: Floats) -> str:
        """A constant that is stored in float16 where nothing is lost by it."""
        with np.errstate(over="ignore"):
            short = value.astype(np.float16)
        if not np.array_equal(short.astype(np.float32), value):
            return self.constant(value)
        return self.node("Cast", [self.constant(short)], to=self.onnx.TensorProto.FLOAT)

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def part(self, x: str, start: int, end: int, *, axis: int) -> str:
        return self.node("Slice", [x, self.ints(start), self.ints(end), self.ints(axis)])

    def kernel(self, name: str) -> Floats:
        """A convolution's weight (out, in, 3) as the matrix (3 · in, out) of three frames side by side."""
        weight: Floats = self.weights.tensor(name).transpose(2, 1, 0)
        return weight.reshape(-1, weight.shape[2])

    def of(self, name: str) -> str:
        return self.constant(self.weights.tensor(name))

    def product(self, x: str, weight: Floats) -> str:
        """x @ weight, weight (in, out)."""
        if not self.int8:
            return self.node("MatMul", [x, self.half(weight)])
        scale = np.maximum(np.abs(weight).max(0) / _LARGEST, np.finfo(np.float32).tiny).astype(np.float32)
        rounded = np.rint(weight / scale).astype(np.int8)
        zero = np.zeros(len(scale), np.int8)
        return self.node("DynamicQuantizeMatMul", [x, *map(self.constant, (rounded, scale, zero))])

    def stem(self) -> str:
        """conv1 (kernel 3), GELU, conv2 (kernel 3, stride 2), GELU, positions: (B, 2T, mels) -> (B, T, D)."""
        width = self.weights.width
        around = self.node("Pad", ["mel", self.ints(0, 1, 0, 0, 1, 0)])
        shifted = [self.part(around, start, end, axis=1) for start, end in ((0, -2), (1, -1), (2, 2**31))]
        x = self.product(self.node("Concat", shifted, axis=2), self.kernel("conv1.weight"))
        x = self.node("BiasGelu", [x, self.of("conv1.bias")])
        pairs = self.node("Reshape", [x, self.ints(0, -1, 2 * width)])  # frames 2t and 2t + 1 in a row
        odd = self.part(pairs, width, 2 * width, axis=2)
        before = self.node("Pad", [odd, self.ints(0, 1, 0, 0, -1, 0)])  # frame 2t - 1
        x = self.product(self.node("Concat", [before, pairs], axis=2), self.kernel("conv2.weight"))
        x = self.node("BiasGelu", [x, self.of("conv2.bias")])
        length = self.part(self.node("Shape", [x]), 1, 2, axis=0)
        positions = self.half(self.weights.tensor("embed_positions.weight")[: self.frames])
        return self.node("Add", [x, self.node("Slice", [positions, self.ints(0), length])])

    def states(self, layers: int) -> list[str]:
        """The states 0 to `layers`: x + attention(norm(x)), then x + network(norm(x))."""
        tensor = self.weights.tensor
        states = [self.stem()]
        for layer in range(layers):
            name, x = f"layers.{layer}", states[-1]
            weight = np.hstack([tensor(f"{name}.self_attn.{part}_proj.weight").T for part in "qkv"])
            query, value = (tensor(f"{name}.self_attn.{part}_proj.bias") for part in "qv")  # keys have none
            parts = [f"{name}.{part}" for part in "qkv"]
            self.node("Split", [self.product(self.norm(x, f"{name}.self_attn_layer_norm"), weight)], *parts, axis=2)
            packed = self.constant(np.concatenate([query, np.zeros_like(query), value]))
            y = self.node("MultiHeadAttention", [*parts, packed], num_heads=self.weights.heads)
            x = self.residual(x, y, f"{name}.self_attn.out_proj")
            y = self.product(self.norm(x, f"{name}.final_layer_norm"), tensor(f"{name}.fc1.weight").T)
            states.append(self.residual(x, self.node("BiasGelu", [y, self.of(f"{name}.fc1.bias")]), f"{name}.fc2"))
        return states

    def norm(self, x: str, name: str) -> str:
        scale, shift = self.of(f"{name}.weight"), self.of(f"{name}.bias")
        return self.node("LayerNormalization", [x, scale, shift], epsilon=_EPSILON)

    def residual(self, x: str, y: str, name: str) -> str:
        product = self.product(y, self.weights.tensor(f"{name}.weight").T)
        return self.node("Add", [x, self.node("Add", [product, self.of(f"{name}.bias")])])
