"""A model file with its weights as bytes: a quarter of the size, the arithmetic as before.

Each output channel of a weight gets a scale of its own, and the file keeps round(weight / scale) in -127...127; the
graph begins by multiplying them out again, which onnxruntime does once, when it loads the file.

Activations stay as they are. Quantised on the fly they would share one range over a whole batch: what is said of an
utterance would depend on the others beside it and on its padding, and a stream would no longer agree with a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unheard.errors import ExportError
from unheard.export.metadata import encoded
from unheard.files import cannot_read, write_whole

SUMMED = {"Conv": (1, 2), "LSTM": (2,), "MatMul": (0,)}
"""Operator -> the axes of its weight that it sums over; the others are output channels, each with its scale."""

LEAST = 256
"""Smaller weights stay as they are: they would save nothing."""


def quantise(path: str | Path, output: str | Path) -> Path:
    """Write the model file `path` with its weights as int8 to `output`; returns that path.

    Raises `ExportError` for a file that is no model of ours.
    """
    path, output = Path(path), Path(output)
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        properties = {entry.key: entry.value for entry in model.metadata_props}
        said: dict[str, Any] = json.loads(properties["unheard"])
    except OSError as problem:
        raise cannot_read(path, problem, ExportError) from problem
    except Exception as problem:  # protobuf's errors share no class
        raise ExportError(
            f"this is no exported model ({type(problem).__name__})", where=path, mend="Make one with: unheard export"
        ) from problem
    small = quantised(model)
    helper.set_model_props(small, properties | {"unheard": encoded(said | {"weights": "int8"})})
    write_whole(output, lambda temporary: temporary.write_bytes(small.SerializeToString()))
    return output


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` whose large weights are int8 and are multiplied out at its beginning."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    graph = small.graph
    summed = {name: SUMMED[node.op_type] for node in graph.node if node.op_type in SUMMED for name in node.input[1:]}
    kept, nodes = [], []
    for tensor in graph.initializer:
        axes, values = summed.get(tensor.name), numpy_helper.to_array(tensor)
        if axes is None or values.size < LEAST or max(axes) >= values.ndim:
            kept.append(tensor)
            continue
        whole, scale = as_bytes(values, axes)
        names = [f"{tensor.name}.{part}" for part in ("int8", "scale", "whole")]
        kept += [numpy_helper.from_array(whole, names[0]), numpy_helper.from_array(scale, names[1])]
        nodes.append(helper.make_node("Cast", [names[0]], [names[2]], name=names[2], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [names[2], names[1]], [tensor.name], name=tensor.name))
    nodes += graph.node
    for field, content in ((graph.initializer, kept), (graph.node, nodes)):
        copies = [type(one).FromString(one.SerializeToString()) for one in content]
        del field[:]
        field.extend(copies)
    onnx.checker.check_model(small, full_check=True)
    return small


def as_bytes(values: NDArray[np.float32], axes: tuple[int, ...]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """`values` as int8 and their scales, one for all values along `axes`; their product is at most half a scale off."""
    largest = np.abs(values).max(axis=axes, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.round(values / scale).astype(np.int8), scale
