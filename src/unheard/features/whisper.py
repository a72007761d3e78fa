"""Whisper encoders (Radford et al. 2022): reading of weights, and export of the first layers as an ONNX graph.

    Hugging Face folder      config.json, model.safetensors (or its parts with an index)
    faster-whisper folder    model.bin of CTranslate2 (binary version 4 and later)

Tensors have Hugging Face's names without prefix (`conv1.weight`, `layers.0.fc1.bias`) and are memory-mapped, so that
only the layers in use take memory. Pickles are never opened; PyTorch is not needed.

    mel (B, 2T, mels) -> two convolutions, GELU (B, T, D) + positions -> layers, pre-norm -> states (B, T, D)

Convolutions are matrix products over three neighbouring frames. Attention and bias with GELU use onnxruntime's fused
operators; its fused residual with layer norm is slower than separate operators. With `int8` the weights of all matrix
products are stored as 7-bit integers with a scale per column, and inputs are quantised dynamically. Processors without
VNNI would saturate with 8 bits.
"""

import json
import mmap
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unheard.errors import ConfigError, needs

Floats = npt.NDArray[np.float32]
Tensors = dict[str, npt.NDArray[Any]]

_CTRANSLATE2 = "model.bin"
_AGAIN = "Download or copy it again."
_HEAD = 64  # width of an attention head in every released Whisper


class Weights:
    """Tensors and sizes of the Whisper encoder in `folder`, whose config.json is `config`.

    Raises `ConfigError` for weights that are missing, damaged, truncated, or of another kind of model.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        tensors: Tensors = {}
        for path in weight_files(folder):
            if path.suffix != ".json":
                tensors |= _read(path)
        prefix = next((p for p in ("model.encoder.", "encoder.", "") if f"{p}conv1.weight" in tensors), "")
        self.tensors = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        self.folder = folder
        self.width, self.mels, kernel = (*self.tensor("conv1.weight").shape, 0, 0, 0)[:3]
        if kernel != 3:
            raise ConfigError("not the weights of a Whisper encoder: conv1.weight", where=folder, mend=_AGAIN)
        self.layers = len({name.split(".")[1] for name in self.tensors if name.startswith("layers.")})
        heads = int(self.tensors.get("num_heads", config.get("encoder_attention_heads", 0)))
        self.heads = heads or self.width // _HEAD
        self.positions = len(self.tensor("embed_positions.weight"))

    def tensor(self, name: str) -> Floats:
        """Return a tensor as float32; raises `ConfigError` if it is missing."""
        if name not in self.tensors:
            raise ConfigError(f"not the weights of a Whisper encoder: no tensor {name}", where=self.folder, mend=_AGAIN)
        return self.tensors[name].astype(np.float32)


def weight_files(folder: Path) -> list[Path]:
    """Return the files with the weights in `folder`; raises `ConfigError` if there are none, or only pickles."""
    index = folder / "model.safetensors.index.json"
    if (single := folder / "model.safetensors").is_file():
        return [single]
    if index.is_file():
        try:
            parts = sorted({str(part) for part in json.loads(index.read_text("utf-8"))["weight_map"].values()})
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(f"the index of the weights is damaged ({error})", where=index, mend=_AGAIN) from None
        if absent := [part for part in parts if not (folder / part).is_file() or Path(part).name != part]:
            raise ConfigError(f"a part of the weights is missing: {absent[0]}", where=folder, mend=_AGAIN)
        return [index, *(folder / part for part in parts)]
    pickles = sorted(path for ending in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(ending))
    if folder / _CTRANSLATE2 in pickles and not _is_pickle(folder / _CTRANSLATE2):
        return [folder / _CTRANSLATE2]
    if pickles:
        mend = "Convert it where you trust it: transformers' AutoModel.from_pretrained(FOLDER).save_pretrained(NEW) "
        mend += "writes safetensors."
        raise ConfigError(f"the weights are a pickle ({pickles[0].name}), which can run code", where=folder, mend=mend)
    mend = "Name a folder in Hugging Face's or faster-whisper's layout."
    raise ConfigError("no weights (model.safetensors)", where=folder, mend=mend)


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2).startswith((b"PK", b"\x80"))  # a zip of torch.save, or a bare pickle


def _read(path: Path) -> Tensors:
    """Map the tensors of a file; every length in it is checked against the file size."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    try:
        return _ctranslate2(data, path) if path.name == _CTRANSLATE2 else _safetensors(data)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        what = " ".join(str(error).split())[:100]
        raise ConfigError(f"the weights are damaged or truncated ({what})", where=path, mend=_AGAIN) from None


def _view(data: mmap.mmap | bytes, kind: str, shape: Sequence[int], start: int, length: int) -> npt.NDArray[Any]:
    """Return the tensor at data[start : start + length]; raises `ValueError` if its length is wrong."""
    dtype = np.dtype(np.uint16 if kind == "bfloat16" else kind)
    count = int(np.prod(shape, dtype=object))
    if count * dtype.itemsize != length or start + length > len(data):
        raise ValueError(f"{length} bytes for a tensor of shape {tuple(shape)}, {len(data)} in the file")
    value = np.frombuffer(data, dtype, count, start).reshape(shape)
    return (value.astype(np.uint32) << 16).view(np.float32) if kind == "bfloat16" else value


_SAFETENSORS_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def _safetensors(data: mmap.mmap | bytes) -> Tensors:
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:body].decode())
    header.pop("__metadata__", None)
    tensors: Tensors = {}
    for name, entry in header.items():
        if entry["dtype"] in _SAFETENSORS_TYPES:
            start, end = entry["data_offsets"]
            tensors[name] = _view(data, _SAFETENSORS_TYPES[entry["dtype"]], entry["shape"], body + start, end - start)
    return tensors


_CTRANSLATE2_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
_CTRANSLATE2_NAMES = {
    "position_encodings.encodings": "embed_positions.weight",
    "self_attention.linear_0": "self_attn.qkv_proj",
    "self_attention.linear_1": "self_attn.out_proj",
    "self_attention.layer_norm": "self_attn_layer_norm",
    "ffn.layer_norm": "final_layer_norm",
    "ffn.linear_0": "fc1",
    "ffn.linear_1": "fc2",
    "layer_norm.gamma": "layer_norm.weight",
    "layer_norm.beta": "layer_norm.bias",
}


def _ctranslate2(data: mmap.mmap | bytes, path: Path) -> Tensors:
    """Read the encoder's tensors, with Hugging Face's names; queries, keys and values are split, integers rescaled."""
    position = 0

    def taken(length: int) -> int:
        nonlocal position
        position += length
        return position - length

    def number(code: str) -> int:
        return int(struct.unpack_from("<" + code, data, taken(struct.calcsize("<" + code)))[0])

    def text() -> str:
        length = number("H")
        return bytes(data[taken(length) : position]).rstrip(b"\0").decode()

    version = number("I")
    if not 4 <= version <= 100:
        raise ConfigError("model.bin is not in CTranslate2's format", where=path, mend="Convert the model again.")
    kind, _ = text(), number("I")
    if kind != "WhisperSpec":
        raise ConfigError(f"model.bin holds a {kind}, not Whisper", where=path, mend="Name a Whisper model.")
    variables: Tensors = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, length = dict(enumerate(_CTRANSLATE2_TYPES))[number("B")], number("I")
        variables[name] = _view(data, kind, shape, taken(length), length)
    variables |= {text(): variables[text()] for _ in range(number("I"))}  # aliases
    tensors: Tensors = {}
    for name, value in variables.items():
        if not name.startswith("encoder/") or name.endswith("_scale"):
            continue
        if f"{name}_scale" in variables:  # int8: a scale per row; int16: a single scale
            scale = variables[f"{name}_scale"].astype(np.float32)
            value = value / scale.reshape(scale.shape + (1,) * (value.ndim - scale.ndim))
        name = name.replace("encoder/layer_", "layers.").removeprefix("encoder/").replace("/", ".")
        for theirs, ours in _CTRANSLATE2_NAMES.items():
            name = name.replace(theirs, ours)
        parts = np.split(value, 3) if "qkv_proj" in name else [value]
        tensors |= {name.replace("qkv_proj", f"{part}_proj"): v for part, v in zip("qkv", parts, strict=False)}
    return tensors


# The graph.

_EPSILON = 1e-5
_LARGEST = 63


def build_graph(
    weights: Weights, layers: Sequence[int], *, average: bool = False, int8: bool = False, frames: int = 1500
) -> Any:
    """Return the `onnx.ModelProto` that computes the states after `layers` (0: after the convolutions).

    Several layers are concatenated (B, T, len(layers) · D), or averaged if `average`. The graph has no layer above the
    highest requested one, and positions only for T up to `frames`.
    """
    with needs("onnx", "train"):
        import onnx
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
    info, real = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    inputs = [info("mel", real, ["batch", "mel_frames", weights.mels])]
    outputs = [info("states", real, ["batch", "frames", width])]
    made = onnx.helper.make_graph(graph.nodes, "whisper_encoder", inputs, outputs, graph.constants)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(made, opset_imports=opsets, ir_version=8, producer_name="unheard")


class _Graph:
    """Nodes and constants of the graph; every method returns the name of its node's output."""

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
        """Add a constant, stored in float16 if that is exact."""
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
        """Return a convolution's weight (out, in, 3) as the matrix (3 · in, out) for three concatenated frames."""
        weight: Floats = self.weights.tensor(name).transpose(2, 1, 0)
        return weight.reshape(-1, weight.shape[2])

    def of(self, name: str) -> str:
        return self.constant(self.weights.tensor(name))

    def product(self, x: str, weight: Floats) -> str:
        """Compute x @ weight, with weight (in, out)."""
        if not self.int8:
            return self.node("MatMul", [x, self.half(weight)])
        scale = np.maximum(np.abs(weight).max(0) / _LARGEST, np.finfo(np.float32).tiny).astype(np.float32)
        rounded = np.rint(weight / scale).astype(np.int8)
        zero = np.zeros(len(scale), np.int8)
        return self.node("DynamicQuantizeMatMul", [x, *map(self.constant, (rounded, scale, zero))])

    def stem(self) -> str:
        """Apply conv1 (kernel 3), GELU, conv2 (kernel 3, stride 2), GELU, positions: (B, 2T, mels) -> (B, T, D)."""
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
        """Compute the states 0 to `layers`: x + attention(norm(x)), then x + network(norm(x))."""
        tensor = self.weights.tensor
        states = [self.stem()]
        for layer in range(layers):
            name, x = f"layers.{layer}", states[-1]
            weight = np.hstack([tensor(f"{name}.self_attn.{part}_proj.weight").T for part in "qkv"])
            query, value = (tensor(f"{name}.self_attn.{part}_proj.bias") for part in "qv")  # keys have no bias
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
