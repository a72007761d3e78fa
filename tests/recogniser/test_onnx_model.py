"""Model files from strangers: refused with a reason, whatever they contain."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import external_data_helper, helper, numpy_helper
from sounds import murmur

import unheard
from unheard.cli import main
from unheard.errors import ConfigError, ModelError
from unheard.recogniser import OnnxModel, Recogniser, hub, model
from unheard.recogniser import model as packaged
from unheard.recogniser.model import CARD, describe, read_metadata

CONTENT = tiny_model.tiny_proto().SerializeToString()


def refused(content: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        OnnxModel(content, "stranger.onnx")
    assert str(caught.value).startswith("stranger.onnx: ")
    return str(caught.value)


def test_a_model_knows_itself(tmp_path: Path) -> None:
    path = tiny_model.write_tiny(tmp_path / "model.onnx")
    (tmp_path / "README.md").write_text("# A card\n\nNot for deciding anything about a person.\n")
    found = OnnxModel.open(tmp_path)
    assert found.labels == tiny_model.LABELS
    assert found.metadata.features == unheard.FeatureSettings()
    assert (found.metadata.shrinkage, found.metadata.windows.seconds, found.metadata.windows.hop) == (4.0, 3.0, 1.0)
    assert (found.name, found.profile_width) == ("tiny", 39)
    assert OnnxModel.open(path).digest == found.digest
    text = describe(found)
    for piece in ("CC BY-NC-SA 4.0", "Made up: CC0", "angry, happy, neutral, sad", "Not for deciding"):
        assert piece in text


# other files


def test_something_else() -> None:
    assert "not an ONNX model that can be run" in refused(b"")
    assert "not an ONNX model that can be run" in refused(b"\x80\x04\x95 a pickle")
    assert "not an ONNX model that can be run" in refused(CONTENT[: len(CONTENT) // 2])
    bare = tiny_model.tiny_proto()
    del bare.metadata_props[:]
    assert "not made by unheard" in refused(bare.SerializeToString())


@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_flipped_byte_is_refused_or_harmless(at: int, flip: int) -> None:
    broken = bytearray(CONTENT)
    broken[at] ^= flip
    try:
        found = Recogniser(OnnxModel(bytes(broken), "stranger.onnx")).predict(murmur(0.5))
    except unheard.UnheardError:
        return
    assert found.abstained or sum(found.probabilities.values()) == pytest.approx(1, abs=1e-3)


def test_weights_in_other_files_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where a graph given as bytes would have them looked for
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(10_000))
    proto = tiny_model.tiny_proto()
    for tensor in proto.graph.initializer:
        if tensor.name == "weights":
            external_data_helper.set_external_data(tensor, location="secret.bin", offset=0, length=39 * 4 * 4)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="not an ONNX model that can be run"):
        OnnxModel.open(path)


def test_other_graphs_are_refused() -> None:
    assert "can be run" in refused(CONTENT.replace(b"profile", b"prof\xffle"))
    renamed = tiny_model.tiny_proto()
    renamed.graph.output[3].name = "embedding2"
    renamed.graph.node.append(helper.make_node("Identity", ["description"], ["embedding2"]))
    assert "the graph must map features" in refused(renamed.SerializeToString())
    narrow = unheard.FeatureSettings(deltas=1)
    assert "(T, 26)" in refused(tiny_model.tiny_proto(features=narrow.as_dict()).SerializeToString())
    two = OnnxModel(tiny_model.tiny_proto(labels=("angry", "sad")).SerializeToString(), "two")
    two.metadata = OnnxModel(CONTENT, "four").metadata
    nan = tiny_model.tiny_proto()
    for tensor in nan.graph.initializer:
        if tensor.name == "weights":
            tensor.raw_data = np.full(39 * 4, np.nan, np.float32).tobytes()
    for model_ in (two, OnnxModel(nan.SerializeToString(), "nan")):
        with pytest.raises(ModelError, match="not finite, or do not fit the labels"):
            Recogniser(model_).predict(murmur(1))


HOSTILE = {
    "a loop whose condition stays true": (
        """always = Constant <value = bool {1}> ()
        looped = Loop <body = step (int64 i, bool go, float[39] x) => (bool on, float[39] y)
            {on = Identity (go) y = Abs (x)}> ("", always, shift)
        embedding = Identity (looped)""",
        "more than 2 s",
    ),
    "40 GB of zeros": (
        """shape = Constant <value = int64[2] {10000000000, 1}> ()
        one = ReduceMax <keepdims = 0> (features)
        many = Expand (one, shape)
        least = ReduceMin <keepdims = 0> (many)
        embedding = Add (shift, least)""",
        "the model failed on a short clip",
    ),
    "a constant of 40 GB that is a few bytes in the file": (
        """least = ReduceMin <keepdims = 0> (many)
        embedding = Add (shift, least)""",
        "hostile.onnx: this is not an",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_graph_that_takes_all_time_or_memory_is_found_in_a_process_of_its_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, why = HOSTILE[name]
    graph = f"graph (float[frames, 39] features, float[39] shift) => (float[39] embedding) {{ {text} }}"
    steps = list(onnx.parser.parse_graph(graph).node)
    if name.startswith("a constant"):
        one, place = numpy_helper.from_array(np.ones(1, np.float32)), numpy_helper.from_array(np.zeros(1, np.int64))
        zeros = helper.make_sparse_tensor(one, place, [10**10])
        steps.insert(0, helper.make_node("Constant", [], ["many"], sparse_value=zeros))
    hostile = tiny_model.tiny_proto(profile=False)
    nodes = [*hostile.graph.node]
    nodes[1].output[0] = "shift"
    del hostile.graph.node[:]
    hostile.graph.node.extend([*nodes[:2], *steps, *nodes[2:]])
    path = tmp_path / "hostile.onnx"
    path.write_bytes(hostile.SerializeToString())
    monkeypatch.setattr(hub, "TRIAL_SECONDS", 2 if "loop" in name else 20)
    assert main(["serve", str(path), "--port", "0"]) == 2
    assert why in capsys.readouterr().err


def test_a_fine_graph_passes_the_trial_whatever_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resource.py").write_text("raise SystemExit('a stranger's program ran')")
    monkeypatch.chdir(tmp_path)
    hub.try_out(tiny_model.write_tiny(tmp_path / "fine.onnx"))


# metadata


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "has no format number"),
        ('{"format": "1"}', "has no format number"),
        ('{"format": 2, "unheard": "9.0"}', "newer unheard (format 2, version 9.0)"),
        ('{"format": 1}', "has no about"),
        ("1" * (1 << 20) + "1", "characters long"),
        ({"labels": ["angry"]}, "all different"),
        ({"labels": ["angry", "angry"]}, "all different"),
        ({"labels": ["angry", "sad\x1b[2J\n"]}, "all different"),
        ({"labels": ["angry", 3]}, "that is not a text"),
        ({"labels": "angry,sad"}, "that is not a list"),
        ({"features": {"sample_rate": 16_000, "spell": 1}}, "unknown feature setting 'spell'"),
        ({"features": {"sample_rate": -1}}, "out of range"),
        ({"features": {"frame_shift_ms": float("nan")}}, "is not JSON"),
        ({"features": {"kind": "encoder", "encoder": "/etc"}}, "an encoder without its digest and width"),
        ({"features": {"kind": ["mfcc"]}}, "which are unknown here"),
        ({"features": None}, "that is not a table"),
        ({"window": {"seconds": 1e9, "hop": 1}}, "out of range"),
        ({"window": {"seconds": "3", "hop": 1}}, "that is not a number"),
        ({"adaptation": {"shrinkage": -1}}, "not below 0"),
        ({"adaptation": []}, "that is not a table"),
        ({"temperature": True}, "that is not a number"),
        ({"data": [1]}, "that is not a table"),
        ({"about": {"a": 1}}, "that is not a text"),
        ({"name": None}, "that is not a text"),
    ],
)
def test_metadata_that_cannot_be_read(changed: str | dict[str, Any], message: str) -> None:
    text = changed if isinstance(changed, str) else json.dumps(tiny_model.metadata() | changed)
    with pytest.raises(ModelError) as caught:
        read_metadata(text, "stranger.onnx")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(tiny_model.metadata())), JSON)
@settings(max_examples=200, deadline=None)
def test_any_value_is_taken_or_refused(key: str, value: Any) -> None:
    try:
        read_metadata(json.dumps(tiny_model.metadata() | {key: value}), "stranger.onnx")
    except ModelError:
        return


# paths


def test_places_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / "model.safetensors").touch()
    cases = {
        tmp_path: "no model.onnx in this folder",
        tmp_path / "cell": "unheard export",
        tmp_path / "cell" / "model.safetensors": "has not been exported",
        tmp_path / "nothing.onnx": "no such file",
        Path("a\0b"): "no such file",
    }
    for path, message in cases.items():
        with pytest.raises(ModelError, match=message):
            unheard.load(path)
    tiny_model.write_tiny(tmp_path / "model.onnx")
    assert model.LARGEST > 2 * 637_000_000  # whisper-large-v3's encoder at half precision
    monkeypatch.setattr(model, "LARGEST", 100)
    with pytest.raises(ModelError, match="must not exceed"):
        unheard.load(tmp_path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(target: str | Path) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return make


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pipe, "not a regular file"),
        (link("/dev/zero"), "a link out of this folder"),
        (link("/dev/stdin"), "a link out of this folder"),
        (link(CARD), "not an ONNX model"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    ],
)
def test_only_regular_files_inside_the_folder_are_read(
    spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    (tmp_path / CARD).write_text("# A card")
    spoil(tiny_model.write_tiny(tmp_path / "model.onnx"))
    with pytest.raises(ModelError, match=message):
        OnnxModel.open(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("spoil", [pipe, link("/etc/hostname"), link("/dev/zero")])
def test_a_card_from_elsewhere_is_not_shown(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    tiny_model.write_tiny(tmp_path / "model.onnx")
    (tmp_path / CARD).write_text("# A card")
    assert OnnxModel.open(tmp_path).card() == "# A card"
    spoil(tmp_path / CARD)
    assert OnnxModel.open(tmp_path).card() == ""


def test_a_snapshot_of_the_hub_may_link_to_its_blobs(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    tiny_model.write_tiny(tmp_path / "blobs" / "0a1b")
    snapshot = tmp_path / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "model.onnx").symlink_to("../../blobs/0a1b")
    assert OnnxModel.open(snapshot).labels == tiny_model.LABELS
    (tmp_path / "other").write_bytes((tmp_path / "blobs" / "0a1b").read_bytes())
    (snapshot / "model.onnx").unlink()
    (snapshot / "model.onnx").symlink_to("../../other")
    with pytest.raises(ModelError, match="a link out of this folder"):
        OnnxModel.open(snapshot)


def test_a_file_that_differs_from_its_checksum_is_refused(tmp_path: Path) -> None:
    path, sums = tiny_model.write_tiny(tmp_path / "model.onnx"), tmp_path / "SHA256SUMS"
    sums.write_text(f"{'0' * 64}  other.onnx\n{hashlib.sha256(path.read_bytes()).hexdigest()}  model.onnx\n")
    assert OnnxModel.open(tmp_path).labels == OnnxModel.open(path).labels
    sums.write_text(sums.read_text().upper().replace("MODEL.ONNX", "model.onnx"))  # as on Windows
    assert OnnxModel.open(tmp_path).labels == OnnxModel.open(path).labels
    content = bytearray(path.read_bytes())
    for bit in range(0, 8 * len(content), 8 * len(content) // 20):
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(ModelError, match="differs from its checksum in SHA256SUMS"):
            OnnxModel.open(tmp_path)
        content[bit // 8] ^= 1 << bit % 8
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match="a Git LFS pointer"):
        OnnxModel.open(tmp_path)


def test_models_of_the_package_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "__init__.py").touch()
    monkeypatch.setattr(packaged.unheard, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ModelError, match="No model came with this package"):
        unheard.load("starter")
    tiny_model.write_tiny(tmp_path / "models" / "starter" / "model.onnx")
    assert list(packaged.packaged_models()) == ["starter"]
    assert unheard.load("starter").labels == tiny_model.LABELS
    with pytest.raises(ModelError, match="Did you mean 'starter'"):
        unheard.load("startr")


@pytest.mark.parametrize("threads", [0, -3, 257, 2**31])
def test_threads_that_no_machine_has(threads: int, tmp_path: Path) -> None:
    tiny_model.write_tiny(tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match=r"threads = .* out of range"):
        OnnxModel.open(tmp_path / "model.onnx", threads=threads)
