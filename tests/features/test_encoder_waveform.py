"""Frames of speech encoders: tiny ones with random weights, against transformers used plainly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unheard.audio import read_audio
from unheard.errors import ConfigError, MissingExtra
from unheard.features import FeatureSettings, build_store, extract, waveform
from unheard.features.encoder import resolve
from unheard.manifest import Manifest, Utterance

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

GOLDEN = Path(__file__).parents[1] / "golden" / "kaldi"
SPEECH = GOLDEN / "speech_german.wav"
TINY: dict[str, Any] = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "conv_dim": (6,) * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "attention_dropout": 0.5,
    "hidden_dropout": 0.5,
    "layerdrop": 0.5,
}
FAMILIES = {
    "wavlm": ("WavLMConfig", "WavLMModel"),
    "hubert": ("HubertConfig", "HubertModel"),
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model"),
    "data2vec": ("Data2VecAudioConfig", "Data2VecAudioModel"),
}


def save(folder: Path, family: str = "wavlm", seed: int = 0, normalise: bool = True) -> Path:
    """An encoder with random weights, as `save_pretrained` leaves it."""
    config, model = (getattr(transformers, name) for name in FAMILIES[family])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model(config(**TINY)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalise}))
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("encoder") / "wavlm")


def plainly(folder: Path, samples: np.ndarray, *, normalise: bool = True) -> list[np.ndarray]:
    """All hidden states (T, D), by transformers' own feature extractor and model."""
    prepare = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise)
    x = prepare(samples, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
        return [state[0].numpy() for state in model(x, output_hidden_states=True).hidden_states]


def encoded(encoder: Path, **values: Any) -> FeatureSettings:
    return resolve(FeatureSettings(kind="encoder", encoder=str(encoder), **values))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_those_of_transformers(tmp_path: Path, family: str, normalise: bool) -> None:
    folder = save(tmp_path / family, family, normalise=normalise)
    samples = read_audio(SPEECH)
    states = plainly(folder, samples, normalise=normalise)
    layers = {"mean": np.mean(states, axis=0), "0": states[0], "1": states[1], "2": states[2]}
    layers["learned"] = np.hstack(states)  # side by side
    for layer, expected in layers.items():
        settings = encoded(folder, layer=layer, vad="none")
        found = extract(samples, settings)
        assert (found.dtype, found.shape[1]) == (np.float32, settings.dim)
        np.testing.assert_allclose(found, expected, atol=2e-5)
    assert len(found) == 1 + (len(samples) - 400) // 320


def test_a_frame_every_20_ms(encoder: Path) -> None:
    settings = encoded(encoder, vad="none", pitch=True)
    assert (settings.dim, settings.frame_length_ms, settings.frame_shift_ms) == (12 + 3, 25, 20)
    noise = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)
    for length in (400, 719, 720, 721, 5000):
        assert extract(noise[:length], settings).shape == (1 + (length - 400) // 320, 12 + 3)


def test_long_recordings_go_a_piece_at_a_time(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = read_audio(SPEECH)
    settings = encoded(encoder, vad="none")
    whole = extract(samples, settings)
    monkeypatch.setattr(waveform, "_AT_ONCE", 40)
    pieces = extract(samples, settings)
    assert pieces.shape == whole.shape
    scaled = ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)).astype(np.float32)
    second = np.mean(plainly(encoder, scaled[40 * 320 : 79 * 320 + 400], normalise=False), axis=0)
    np.testing.assert_allclose(pieces[40:80], second, atol=2e-5)


def test_how_the_input_is_scaled_is_part_of_the_encoder(encoder: Path, tmp_path: Path) -> None:
    assert encoded(save(tmp_path / "copy")) == encoded(encoder)
    for folder in (save(tmp_path / "other", seed=1), save(tmp_path / "plain", normalise=False)):
        assert encoded(folder).digest != encoded(encoder).digest


@pytest.mark.slow
def test_the_same_bytes_from_any_number_of_processes(encoder: Path, tmp_path: Path) -> None:
    settings = encoded(encoder)
    rows = [Utterance(path.stem, str(path), "s", "sad") for path in sorted(GOLDEN.glob("*.wav"))]
    digests = {
        build_store(Manifest(tuple(rows)), tmp_path / str(n), settings, workers=n, progress=False).digest
        for n in (1, 2)
    }
    assert len(digests) == 1


def without(folder: Path, name: str) -> None:
    """Take one tensor out of the weights."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    assert name in tensors
    save_file({key: t for key, t in tensors.items() if key != name}, folder / "model.safetensors", {"format": "pt"})


def of_text(folder: Path) -> None:
    transformers.BertConfig().save_pretrained(folder)


def of_other_frames(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "conv_stride": [5, 2, 2, 2, 2, 2, 4]}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (of_text, "'bert' is not an encoder of speech"),
        (of_other_frames, "not an encoder of speech"),
        (lambda folder: without(folder, "feature_projection.projection.weight"), "1 weights of this encoder are miss"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"), "cannot load this encoder"),
    ],
)
def test_what_is_no_encoder_is_refused(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    folder = save(tmp_path / "encoder")
    spoil(folder)
    with pytest.raises(ConfigError, match=message):
        extract(SPEECH, encoded(folder))


def test_weights_may_lack_what_serves_pretraining_and_come_in_parts(tmp_path: Path) -> None:
    folder = save(tmp_path / "encoder")
    expected = extract(SPEECH, encoded(folder))
    without(folder, "masked_spec_embed")
    np.testing.assert_array_equal(extract(SPEECH, encoded(folder)), expected)
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="4KB")
    assert not (folder / "model.safetensors").exists()
    np.testing.assert_array_equal(extract(SPEECH, encoded(folder)), expected)
    next(folder.glob("model-00002-*")).unlink()
    with pytest.raises(ConfigError, match="model-00002"):
        encoded(folder)


def test_torch_and_transformers_are_loaded_with_the_weights(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = encoded(encoder)
    program = (
        "import sys; from unheard.features import FeatureSettings\nfrom unheard.features.encoder import resolve\n"
        "print(resolve(FeatureSettings(kind='encoder', encoder=sys.argv[1])).dim, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(encoder)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["12", "False"]
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"unheard\[transformers\]"):
        extract(SPEECH, settings)
