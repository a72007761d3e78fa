"""Whisper encoders: golden values, and a tiny encoder with random weights against PyTorch's own layers."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from experimenting import experiment, in_this_process, only, result
from safetensors.numpy import save_file
from tiny_encoder import HEADS, INNER, LAYERS, MELS_OF_TINY, WIDTH, save_huggingface, tiny_weights
from torch import nn
from torch.nn.functional import conv1d, gelu

from unheard.audio import read_audio
from unheard.cli import main
from unheard.errors import ConfigError, MissingExtra
from unheard.experiments import run as run_module
from unheard.features import FeatureSettings, FeatureStore, analyse, extract
from unheard.features.encoder import WhisperEncoder, find_encoder, log_mel, open_encoder, resolve, write_encoder
from unheard.features.settings import Columns, columns_of
from unheard.model.saving import Model

SHARED = Path(__file__).parents[3] / "shared"
SOUNDS = Path(__file__).parents[1] / "golden" / "kaldi"
MELS = Path(__file__).parents[1] / "golden" / "whisper"


_THEIR_NAMES = {
    "embed_positions.weight": "position_encodings.encodings",
    "self_attn.out_proj": "self_attention/linear_1",
    "self_attn_layer_norm": "self_attention/layer_norm",
    "final_layer_norm": "ffn/layer_norm",
    "layer_norm.weight": "layer_norm/gamma",
    "layer_norm.bias": "layer_norm/beta",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}


def save_ctranslate2(folder: Path, weights: dict[str, np.ndarray], kind: str = "float32") -> Path:
    """A faster-whisper folder: queries, keys and values packed, weights of matrices quantised where `kind` says so."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    out: dict[str, np.ndarray] = {"encoder/num_heads": np.array(HEADS, np.int16)}

    def put(name: str, value: np.ndarray) -> None:
        if kind == "int8" and value.ndim == 2 and "encodings" not in name:
            scale = 127 / np.abs(value).max(1)
            out[name], out[f"{name}_scale"] = np.rint(value * scale[:, None]).astype(np.int8), scale.astype(np.float32)
        else:
            out[name] = value.astype(np.float16 if kind == "float16" else np.float32)

    for name, value in weights.items():
        for ours, theirs in _THEIR_NAMES.items():
            name = name.replace(ours, theirs)
        if "self_attn" not in name:
            put("encoder/" + re.sub(r"layers\.(\d+)\.", r"layer_\1/", name).replace(".", "/"), value)
    for layer in range(LAYERS):
        of, to = f"layers.{layer}.self_attn", f"encoder/layer_{layer}/self_attention/linear_0"
        query, value = (weights[f"{of}.{part}_proj.bias"] for part in "qv")
        put(f"{to}/weight", np.concatenate([weights[f"{of}.{part}_proj.weight"] for part in "qkv"]))
        put(f"{to}/bias", np.concatenate([query, np.zeros_like(query), value]))
    text = lambda word: struct.pack("<H", len(word) + 1) + word.encode() + b"\0"  # noqa: E731
    code = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
    content = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(out))
    for name, value in out.items():
        content += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        content += struct.pack("<BI", code[value.dtype.name], value.nbytes) + value.tobytes()
    content += struct.pack("<I", 0)
    (folder / "model.bin").write_bytes(content)
    return folder


_PYTORCHS_NAMES = {
    "self_attn.out_proj": "self_attn.out_proj",
    "self_attn_layer_norm": "norm1",
    "final_layer_norm": "norm2",
    "fc1": "linear1",
    "fc2": "linear2",
}


def plain_states(weights: dict[str, np.ndarray], mel: np.ndarray) -> list[np.ndarray]:
    """The states after the convolutions and each layer, by PyTorch's own: mel (2T, mels) -> (T, D) each."""
    w = {name: torch.from_numpy(value).double() for name, value in weights.items()}
    x = torch.from_numpy(mel).double().T[None]
    x = gelu(conv1d(x, w["conv1.weight"], w["conv1.bias"], padding=1))
    x = gelu(conv1d(x, w["conv2.weight"], w["conv2.bias"], stride=2, padding=1)).mT
    states = [x + w["embed_positions.weight"][: x.shape[1]]]
    for layer in range(LAYERS):
        own = {name.removeprefix(f"layers.{layer}."): value for name, value in w.items()}
        query, value = own["self_attn.q_proj.bias"], own["self_attn.v_proj.bias"]
        named = {
            f"{theirs}.{end}": own[f"{ours}.{end}"]
            for ours, theirs in _PYTORCHS_NAMES.items()
            for end in ("weight", "bias")
        }
        named["self_attn.in_proj_weight"] = torch.cat([own[f"self_attn.{part}_proj.weight"] for part in "qkv"])
        named["self_attn.in_proj_bias"] = torch.cat([query, torch.zeros_like(query), value])
        plain = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, 0.0, "gelu", batch_first=True, norm_first=True)
        plain.double().load_state_dict(named)
        states.append(plain(states[-1]).detach())
    return [state[0].numpy() for state in states]


def with_silence(samples: np.ndarray) -> np.ndarray:
    return np.pad(samples, (0, -len(samples) % 320 + 1600))


NOISE = np.random.default_rng(1).normal(0, 0.1, 7000).astype(np.float32)  # 22 frames


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_huggingface(tmp_path_factory.mktemp("encoder") / "tiny", tiny_weights())


# Golden values.


@pytest.mark.parametrize("name", ["one_frame", "silence_then_tone", "white_noise"])
def test_log_mel_equals_whispers(name: str) -> None:
    samples = read_audio(SOUNDS / f"{name}.wav")
    expected = np.load(MELS / "mel.npz")[name]
    found = log_mel(np.pad(samples, (0, -len(samples) % 320)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.T, atol=1e-5)


@pytest.mark.skipif(not (SHARED / "golden/whisper").is_dir(), reason="the weights of Whisper base are not here")
def test_states_equal_whispers() -> None:
    encoder = open_encoder(SHARED / "models/whisper-base-encoder", "0,2,3,4,6")
    assert isinstance(encoder, WhisperEncoder)
    for name in ("one_frame", "silence_then_tone", "white_noise", "speech_german"):
        golden = np.load(SHARED / "golden/whisper" / f"{name}.npz")
        samples = read_audio(SOUNDS / f"{name}.wav")
        mel = log_mel(np.pad(samples, (0, -len(samples) % 320)))
        np.testing.assert_allclose(mel, golden["mel"].T, atol=1e-5)
        states = np.split(encoder.session.run(None, {"mel": mel[None]})[0][0], 5, axis=1)
        for layer, state in zip((0, 2, 3, 4, 6), states, strict=True):
            expected = golden[f"layer{layer}"]
            tolerance = 1e-4 if expected.dtype == np.float32 else 4e-4  # float16 in the file
            error = np.linalg.norm(state - expected) / np.linalg.norm(expected.astype(np.float32))
            assert error < tolerance, f"{name}, layer {layer}"


# The tiny encoder.


@pytest.mark.parametrize("layer", ["0", "1", "2", "1,2", "mean", "learned"])
def test_states_equal_pytorchs(tiny: Path, layer: str) -> None:
    states = plain_states(tiny_weights(), log_mel(with_silence(NOISE), MELS_OF_TINY))
    expected = {
        "mean": np.mean(states, axis=0),
        "learned": np.hstack(states),
        "1,2": np.hstack(states[1:]),
        **{str(number): state for number, state in enumerate(states)},
    }[layer]
    encoder = open_encoder(tiny, layer)
    assert (encoder.width, encoder.layers) == (WIDTH, {"learned": 3, "1,2": 2}.get(layer, 1))
    np.testing.assert_allclose(encoder.frames(NOISE), expected[:22], rtol=1e-4, atol=1e-5)


def test_a_frame_every_20_ms_and_long_recordings_in_equal_pieces(tiny: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 200_000).astype(np.float32)
    encoder = open_encoder(tiny, "2")
    for samples, frames in ((1, 1), (320, 1), (321, 2), (9600, 30), (16_000, 50), (200_000, 625)):
        assert encoder.frames(noise[:samples]).shape == (frames, WIDTH)
    padded = with_silence(noise[:16_000])  # 55 frames, of at most 30 at once
    pieces = [plain_states(tiny_weights(), log_mel(part, MELS_OF_TINY))[2] for part in np.split(padded, [27 * 320])]
    np.testing.assert_allclose(encoder.frames(noise[:16_000]), np.concatenate(pieces)[:50], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-6), ("float16", 2e-2), ("int8", 0.2)])
def test_a_folder_of_faster_whisper_is_read(tiny: Path, tmp_path: Path, kind: str, tolerance: float) -> None:
    expected = open_encoder(tiny, "2").frames(NOISE)
    found = open_encoder(save_ctranslate2(tmp_path, tiny_weights(), kind), "2").frames(NOISE)
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
    assert kind == "float32" or not np.array_equal(found, expected)


def test_names_of_every_whisper_class_are_read_and_the_digest_is_that_of_the_files(tiny: Path, tmp_path: Path) -> None:
    expected = open_encoder(tiny, "1")
    for prefix in ("model.encoder.", "encoder.", ""):
        found = open_encoder(save_huggingface(tmp_path, tiny_weights(), prefix), "1")
        np.testing.assert_array_equal(found.frames(NOISE), expected.frames(NOISE))
        assert (found.digest == expected.digest) is (prefix == "model.encoder.")  # tiny's own


def truncate(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def without_second_layer(folder: Path) -> None:
    save_huggingface(folder, {name: value for name, value in tiny_weights().items() if "layers.1.fc2" not in name})


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.bin").unlink(missing_ok=True)
    (folder / "pytorch_model.bin").write_bytes(b"PK\3\4")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no encoder here"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: truncate(f / "model.safetensors", 0.5), "weights are damaged"),
        (lambda f: save_file({"bert.weight": np.zeros(3)}, f / "model.safetensors"), "not the weights of a Whisper"),
        (without_second_layer, "no tensor layers.1.fc2"),
        (pickled, "pickle .pytorch_model.bin., which can run code.*save_pretrained"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "'bert' is not an encoder of speech"),
    ],
)
def test_damaged_folders_are_refused(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    folder = save_huggingface(tmp_path, tiny_weights())
    spoil(folder)
    with pytest.raises(ConfigError, match=message):
        open_encoder(folder, "2").load()


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        (0, b"\2\0\0\0", "not in CTranslate2's format"),
        (0, b"PK\3\4", "a pickle"),
        (6, b"Seq2SeqSpec"[:11], "holds a Seq2SeqSpec"),
        (0x36, b"\xff", "truncated|damaged"),
    ],
)
def test_another_or_a_truncated_model_bin_is_refused(tmp_path: Path, place: int, content: bytes, message: str) -> None:
    path = save_ctranslate2(tmp_path, tiny_weights()) / "model.bin"
    whole = bytearray(path.read_bytes())
    whole[place : place + len(content)] = content
    path.write_bytes(whole)
    with pytest.raises(ConfigError, match=message):
        open_encoder(tmp_path, "1")
    for keep in (0.999, 0.3, 0.001, 0.0001, 0):
        path = save_ctranslate2(tmp_path, tiny_weights()) / "model.bin"
        truncate(path, keep)
        with pytest.raises(ConfigError, match="truncated"):
            open_encoder(tmp_path, "1")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer": "3"}, "has no layer .* Choose 0 to 2, several"),
        ({"layer": "1,3"}, "has no layer"),
        *(({"layer": layer}, "a number, several") for layer in ("-1", "last", "")),
        ({"encoder": ""}, "need an encoder"),
        ({"encoder": "gone"}, "no such folder"),
        ({"energy": True}, "energy cannot be appended"),
        ({"sample_rate": 8000}, "take 16000 Hz"),
        ({"kind": "mfcc"}, "kind mfcc have no encoder"),
        ({"kind": "fbank", "encoder": "", "layer": "2"}, "kind fbank have no encoder"),
        ({"kind": "mfcc", "encoder": "", "level": "fixed"}, "the level of features of kind mfcc cannot be fixed"),
        ({"kind": "mfcc", "encoder": "", "pool": "mean"}, "feature setting pool"),
        ({"layer": "learned", "pool": "mean"}, "feature setting pool"),
    ],
)
def test_settings_that_cannot_work(tiny: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(FeatureSettings(**{"kind": "encoder", "encoder": str(tiny), **values}))


def test_the_hub_is_asked_once_and_pinned_and_without_it_the_error_says_what_to_do(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None, bool]] = []

    def snapshot_download(name: str, *, revision: str | None, local_files_only: bool = False, **_: Any) -> str:
        asked.append((name, revision, local_files_only))
        if revision is None or (local_files_only and len(asked) == 1):
            raise ConnectionError("not in the cache, no network")
        return str(tiny)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    assert find_encoder("openai/whisper-base@abc") == find_encoder("openai/whisper-base@abc") == tiny
    assert asked == [("openai/whisper-base", "abc", local) for local in (True, False, True)]
    with pytest.raises(ConfigError, match=r"cannot be downloaded .*\(ConnectionError: .*no network.*name its folder"):
        open_encoder("openai/whisper-base", "1")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"unheard\[hub\]"):
        open_encoder("openai/whisper-base", "1")


# As one file, and as features.


@pytest.mark.parametrize("int8", [False, True])
def test_the_written_encoder_equals_its_source(tiny: Path, tmp_path: Path, int8: bool) -> None:
    written = write_encoder(tiny, "1", tmp_path / "out", int8=int8, seconds=1)
    expected = open_encoder(tiny, "1").frames(NOISE)
    found = open_encoder(tmp_path / "out", "1").frames(NOISE)
    np.testing.assert_allclose(found, expected, atol=(0.1 if int8 else 1e-6) * np.abs(expected).max())
    about = written.description
    assert (written.width, about["origin"], about["weights"]) == (WIDTH, "tiny", "int8" if int8 else "float")
    assert written.description["origin_digest"] == open_encoder(tiny, "1").digest != written.digest
    assert "OpenAI" in (tmp_path / "out/LICENSE").read_text()
    assert "| layer | 1 |" in (tmp_path / "out/README.md").read_text()
    with pytest.raises(ConfigError, match="holds layer 1, not 2"):
        open_encoder(tmp_path / "out", "2")
    truncate(tmp_path / "out/model.onnx", 0.5)
    with pytest.raises(ConfigError, match="cannot load"):
        open_encoder(tmp_path / "out", "1")


def test_the_verbs_encoder_and_features(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"file,speaker,emotion\n{SOUNDS / 'speech_german.wav'},a,sad\n")
    out, store = tmp_path / "out", tmp_path / "store"
    assert main(["encoder", str(tiny), "--layer", "2", "-o", str(out), "--int8"]) == 0
    chosen = ["--kind", "encoder", "--encoder", str(out), "--layer", "2", "--vad", "none"]
    assert main(["features", str(tmp_path / "m.csv"), "-o", str(store), *chosen]) == 0
    opened = FeatureStore(store)
    assert opened.dim == WIDTH
    expected = open_encoder(out, "2").frames(read_audio(SOUNDS / "speech_german.wav"))
    np.testing.assert_array_equal(opened[opened.ids[0]], expected)


def test_unvoiced_frames_are_left_out_as_kaldi_hears_them_and_frames_are_thinned(tiny: Path) -> None:
    samples = np.concatenate([np.zeros(16_100, np.float32), read_audio(SOUNDS / "speech_german.wav")])
    settings = resolve(FeatureSettings(kind="encoder", encoder=str(tiny), layer="1", pitch=True, log_pitch="both"))
    every = extract(samples, replace(settings, vad="none"))
    assert every.shape == (-(-len(samples) // 320), WIDTH + 4)
    assert columns_of(settings) == Columns(log_f0=WIDTH + 3)
    kept = analyse(samples, FeatureSettings()).kept[::2]
    kept = np.pad(kept, (0, len(every) - len(kept)), mode="edge")
    assert 0 < kept.sum() < len(kept) - 45
    np.testing.assert_array_equal(extract(samples, settings), every[kept])
    thin = extract(samples, replace(settings, thin=2))
    np.testing.assert_allclose(thin[0], every[kept][:2].mean(axis=0), rtol=1e-5, atol=1e-6)


def test_settings_outlive_the_folder_of_their_encoder(tiny: Path, tmp_path: Path) -> None:
    for layer, width, other in (("mean", WIDTH, "learned"), ("learned", 3 * WIDTH, "mean")):
        settings = resolve(FeatureSettings(kind="encoder", encoder=str(tiny), layer=layer))
        gone = FeatureSettings.from_dict({**settings.as_dict(), "encoder": str(tmp_path / "gone")})
        assert (gone, gone.digest, gone.dim) == (settings, settings.digest, width)
        changed = resolve(replace(settings, layer=other))
        assert changed == resolve(FeatureSettings(kind="encoder", encoder=str(tiny), layer=other))
        assert changed.digest != settings.digest


def test_at_a_fixed_level_quiet_and_loud_recordings_give_the_same_frames(tiny: Path) -> None:
    """Digital silence in front counts as silence at any level."""
    samples = np.concatenate([np.zeros(1_600, np.float32), read_audio(SOUNDS / "speech_german.wav")])
    recorded = FeatureSettings(kind="encoder", encoder=str(tiny), layer="1")
    fixed = replace(recorded, level="fixed")
    expected = extract(samples, fixed)
    for gain in (0.01, 0.25, 4):
        scaled = samples * np.float32(gain)
        np.testing.assert_allclose(extract(scaled, fixed), expected, atol=1e-3)
        assert np.abs(extract(scaled, recorded)[-50:] - expected[-50:]).max() > 0.1
    assert resolve(fixed).digest != resolve(recorded).digest


@pytest.mark.parametrize("layer", ["1", "1,2", "mean"])
def test_a_pooled_utterance_is_mean_and_deviation_of_its_frames(tiny: Path, layer: str) -> None:
    samples = read_audio(SOUNDS / "speech_german.wav")
    settings = FeatureSettings(kind="encoder", encoder=str(tiny), layer=layer)
    frames = extract(samples, settings)
    for pool, expected in {"mean": [frames.mean(0)], "statistics": [frames.mean(0), frames.std(0)]}.items():
        pooled = resolve(replace(settings, pool=pool))
        vector = extract(samples, pooled)
        assert vector.shape == (1, pooled.dim)
        assert pooled.digest != resolve(settings).digest
        np.testing.assert_allclose(vector[0], np.concatenate(expected), rtol=1e-4, atol=1e-5)


def test_an_experiment_learns_the_weights_of_the_layers(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "run_cells", in_this_process)
    out = tmp_path / "run"
    how = ("--features.kind", "encoder", "--features.encoder", str(tiny), "--features.layer", "learned")
    for _ in range(2):  # its config.yaml is read again
        assert experiment(out, *how, "--features.vad", "none", "--systems", "cgt", "--epochs", "2") == 0
    store = FeatureStore(out / "features")
    assert (store.settings.kind, store.settings.layer, store.dim) == ("encoder", "learned", 3 * WIDTH)
    assert result(only(out, "cgt"))["proof"]["features"] == store.settings.digest
    weights = Model.load(only(out, "cgt")).network.embed.weighing.weights.detach()
    assert weights.shape == (3,)
    assert weights.abs().max() > 1e-6
