"""Weights as int8: the error is bounded, the answers are nearly the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from exporting import NETWORKS, random_model, utterances

from unheard.errors import ExportError
from unheard.export import onnx as onnx_file
from unheard.export.onnx import Facts, export_model
from unheard.export.quantise import as_int8, quantise
from unheard.features.encoder import onnx_session


def test_int8_of_a_small_matrix() -> None:
    values = np.array([[1.27, -0.5, 0.004], [0.0, 0.0, 0.0], [-254.0, 127.0, 1.1]], np.float32)
    whole, scale = as_int8(values, (1,))
    np.testing.assert_allclose(scale[:, 0], [0.01, 1.0, 2.0], rtol=1e-6)
    assert whole.tolist() == [[127, -50, 0], [0, 0, 0], [-127, 64, 1]]  # 63.5 and 0.55 rounded


@pytest.mark.parametrize("name", NETWORKS)
def test_small_file_nearly_same_answers(name: str, tmp_path: Path) -> None:
    full = export_model(random_model(NETWORKS[name]), tmp_path / "model.onnx", Facts(name="tiny"))
    small = quantise(full, tmp_path / "model.int8.onnx")
    assert small.stat().st_size < 0.3 * full.stat().st_size
    runs = [onnx_session(path.read_bytes()) for path in (small, full)]
    for frames in utterances((1, 17, 300)):
        ours, exact = (onnx_file.by_onnx(run, frames) for run in runs)
        assert 0 < np.abs(ours[0] - exact[0]).max() < 0.05
        np.testing.assert_array_equal(ours[2], exact[2])  # no weight takes part in the description
    found = [
        json.loads({entry.key: entry.value for entry in onnx.load(path).metadata_props}["unheard"])
        for path in (full, small)
    ]
    assert found[1] == found[0] | {"weights": "int8"}
    assert [value.name for value in onnx.load(small).graph.input] == ["features", "profile"]


def test_no_model_of_ours(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"what")
    for name in ("x.onnx", "missing.onnx"):
        with pytest.raises(ExportError, match=name):
            quantise(tmp_path / name, tmp_path / "y.onnx")
    assert not (tmp_path / "y.onnx").exists()
