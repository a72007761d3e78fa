"""Store the weights of a model file as int8, a quarter of the size, and measure the cost in accuracy.

Each output channel of a weight has its own scale, and the file holds round(weight / scale) in -127...127. The graph
begins by multiplying them out, which onnxruntime does once when it loads the file. Activations stay float32.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unheard.errors import ExportError, Say, silent
from unheard.experiments.evaluate import rows_with_labels, training_identities, was_trained_on
from unheard.experiments.plan import rows_with_features
from unheard.export.onnx import encoded
from unheard.features import FeatureSettings, build_store
from unheard.features.encoder import onnx_session
from unheard.files import cannot_read, write_whole
from unheard.manifest import Manifest
from unheard.model.saving import Model
from unheard.training.metrics import unweighted_average_recall, weighted_accuracy

SUMMED = {"Conv": (1, 2), "LSTM": (2,), "GRU": (2,), "MatMul": (0,)}
"""Operator -> the axes of its weight that it sums over; the others are output channels."""

LEAST = 256  # smaller weights stay float32


def quantise(path: str | Path, output: str | Path) -> Path:
    """Write the model file `path` with int8 weights to `output`; return that path.

    Raises `ExportError` for a file that is not an exported model.
    """
    path, output = Path(path), Path(output)
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        properties = {entry.key: entry.value for entry in model.metadata_props}
        metadata = json.loads(properties["unheard"]) | {"weights": "int8"}
    except OSError as problem:
        raise cannot_read(path, problem, ExportError) from problem
    except Exception as problem:  # protobuf's errors have no common class
        what = f"this is not an exported model ({type(problem).__name__})"
        raise ExportError(what, where=path, mend="Make one: unheard export") from problem
    graph = model.graph
    summed = {name: SUMMED[node.op_type] for node in graph.node if node.op_type in SUMMED for name in node.input[1:]}
    initializers, nodes = [], []
    for tensor in graph.initializer:
        axes, values = summed.get(tensor.name), numpy_helper.to_array(tensor)
        if axes is None or values.size < LEAST or max(axes) >= values.ndim:
            initializers.append(tensor)
            continue
        int8, scale = as_int8(values, axes)
        names = [f"{tensor.name}.{part}" for part in ("int8", "scale", "whole")]
        initializers += [numpy_helper.from_array(int8, names[0]), numpy_helper.from_array(scale, names[1])]
        nodes.append(helper.make_node("Cast", [names[0]], [names[2]], name=names[2], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [names[2], names[1]], [tensor.name], name=tensor.name))
    small = onnx.ModelProto()
    small.CopyFrom(model)
    del small.graph.initializer[:], small.graph.node[:]
    small.graph.initializer.extend(initializers)
    small.graph.node.extend([*nodes, *graph.node])
    helper.set_model_props(small, properties | {"unheard": encoded(metadata)})
    onnx.checker.check_model(small, full_check=True)
    write_whole(output, lambda temporary: temporary.write_bytes(small.SerializeToString()))
    return output


def as_int8(values: NDArray[np.float32], axes: tuple[int, ...]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 values and their scales, one for all values along `axes`; the error is at most half a scale."""
    largest = np.abs(values).max(axis=axes, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.round(values / scale).astype(np.int8), scale


@dataclass(frozen=True)
class Cost:
    """The full and the small file compared on the same recordings, in this order.

    `size` is in bytes, with the encoder, if any; `changed` counts the labels that differ, `shift` is the largest
    difference of a probability. `seen`: the model was trained on these speakers, so that only the differences mean
    something.
    """

    utterances: int
    speakers: int
    seen: bool
    size: tuple[int, int]
    wa: tuple[float, float]
    uar: tuple[float, float]
    changed: int
    shift: float


def measure_cost(
    model: Model,
    files: tuple[Path, Path],
    manifest: Manifest,
    *,
    small_features: FeatureSettings | None = None,
    encoders: tuple[int, int] = (0, 0),
    say: Say = silent,
) -> Cost:
    """Compare two exported files of `model`, full and small, on the rows of `manifest` that have one of its labels.

    The small one reads `small_features`, the model's own where they are None; `encoders` are the sizes of their
    encoders in bytes. Speakers that the model was trained on are left out where there are others. Raises
    `UnheardError` where no recording is left.
    """
    rows = rows_with_labels(model, manifest, None, say)
    trained = training_identities(model)
    unseen = rows.where(lambda row: not was_trained_on(row, trained))
    rows = unseen if len(unseen) else rows
    with tempfile.TemporaryDirectory(prefix="unheard-") as temporary:
        store = build_store(rows, Path(temporary, "full"), model.features)
        rows, features = rows_with_features(rows, store, say), small_features or model.features
        small_store = store if features == model.features else build_store(rows, Path(temporary, "small"), features)
        runs = [(onnx_session(path.read_bytes()), of) for path, of in zip(files, (store, small_store), strict=True)]
        a, b = (
            np.stack([run.run(["probabilities"], {"features": of[name]})[0] for name in rows.ids]) for run, of in runs
        )  # (n, C)
    truth = np.array([model.labels.index(row.emotion) for row in rows])
    p, q, classes = a.argmax(axis=1), b.argmax(axis=1), len(model.labels)
    return Cost(
        utterances=len(rows),
        speakers=len(rows.speakers),
        seen=not len(unseen),
        size=(files[0].stat().st_size + encoders[0], files[1].stat().st_size + encoders[1]),
        wa=(weighted_accuracy(truth, p), weighted_accuracy(truth, q)),
        uar=(unweighted_average_recall(truth, p, classes), unweighted_average_recall(truth, q, classes)),
        changed=int((p != q).sum()),
        shift=float(np.abs(a - b).max()),
    )
