"""A model file with its weights as bytes: a quarter of the size, the arithmetic as before.

Each output channel of a weight gets a scale of its own, and the file keeps round(weight / scale) in -127...127; the
graph begins by multiplying them out again, which onnxruntime does once, when it loads the file.

Activations stay as they are. Quantised on the fly they would share one range over a whole batch: what is said of an
utterance would depend on the others beside it and on its padding, and a stream would no longer agree with a file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unheard.errors import ExportError
from unheard.experiments.cell import full_name
from unheard.experiments.evaluate import known_rows, trained_on
from unheard.experiments.plan import usable
from unheard.export.metadata import encoded
from unheard.export.parity import session
from unheard.features import FeatureStore, build_store
from unheard.files import cannot_read, write_whole
from unheard.manifest import Manifest
from unheard.model.saving import Model
from unheard.training.metrics import unweighted_average_recall, weighted_accuracy

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


# What a model file with smaller weights costs in accuracy, on recordings.

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cost:
    """Two files on the same recordings, the larger first: `size` in bytes, WA, UAR; `changed` labels between them.

    `shift` is the largest difference of a probability. `seen` says that the model was trained on these speakers:
    its accuracies then say nothing of others, their difference still does.
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
    full: str | Path,
    small: str | Path,
    manifest: Manifest,
    *,
    store: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Cost:
    """Compare two exported files of `model` on the rows of `manifest` whose label it knows.

    Only speakers that the model was not trained on count, where there are any. `store` keeps the features. Raises
    `ExportError` where no recording is left.
    """
    rows = known_rows(model, manifest, None, say)
    heard = trained_on(model)
    unseen = rows.where(lambda row: full_name(row) not in heard)
    seen = not len(unseen)
    rows = rows if seen else unseen
    with ExitStack() as stack:
        where = Path(store) if store else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unheard-")))
        features = build_store(rows, where, model.features)
        rows = usable(rows, features, say)
        if not len(rows):
            raise ExportError("no recording is left to compare the two files on", mend="Name another manifest.")
        said = [probabilities(Path(path), features, rows.ids) for path in (full, small)]
    truth = np.array([model.labels.index(row.emotion) for row in rows])
    predicted = [one.argmax(axis=1) for one in said]
    return Cost(
        utterances=len(rows),
        speakers=len(rows.speakers),
        seen=seen,
        size=(Path(full).stat().st_size, Path(small).stat().st_size),
        wa=(weighted_accuracy(truth, predicted[0]), weighted_accuracy(truth, predicted[1])),
        uar=(
            unweighted_average_recall(truth, predicted[0], len(model.labels)),
            unweighted_average_recall(truth, predicted[1], len(model.labels)),
        ),
        changed=int((predicted[0] != predicted[1]).sum()),
        shift=float(np.abs(said[0] - said[1]).max()),
    )


def probabilities(path: Path, store: FeatureStore, ids: tuple[str, ...]) -> Floats:
    """Compute the probabilities of the utterances `ids` of a store with the model file `path`: (n, C)."""
    run = session(path.read_bytes())
    return np.stack([run.run(["probabilities"], {"features": store[name]})[0] for name in ids])
