"""Frames of speech encoders: tiny ones with random weights, against transformers used plainly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experimenting import experiment, in_this_process, only, result

from unheard.audio import read_audio
from unheard.cli import main
from unheard.errors import ConfigError, MissingExtra
from unheard.experiments import run as run_module
from unheard.features import FeatureSettings, FeatureStore, analyse, build_store, extract, waveform
from unheard.features.encoder import resolve
from unheard.features.settings import Columns, columns_of
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


def save(folder: Path, family: str = "wavlm", seed: int = 0, normalise: bool | None = True, **changes: Any) -> Path:
    """An encoder with random weights, as `save_pretrained` leaves it."""
    config, model = (getattr(transformers, name) for name in FAMILIES[family])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model(config(**{**TINY, **changes})).save_pretrained(folder)
    if normalise is not None:
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


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_those_of_transformers(tmp_path: Path, family: str, normalise: bool) -> None:
    folder = save(tmp_path / family, family, normalise=normalise)
    samples = read_audio(SPEECH)
    states = plainly(folder, samples, normalise=normalise)
    layers = {"mean": np.mean(states, axis=0), "0": states[0], "1": states[1], "2": states[2]}
    layers["learned"] = np.hstack(states)  # side by side
    for layer, expected in layers.items():
        settings = encoded(encoder=folder, layer=layer, vad="none")
        found = extract(samples, settings)
        assert (found.dtype, found.shape[1]) == (np.float32, settings.dim)
        np.testing.assert_allclose(found, expected, atol=2e-5)
    assert len(found) == 1 + (len(samples) - 400) // 320


def test_a_frame_every_20_ms(encoder: Path) -> None:
    settings = encoded(encoder=encoder, vad="none", pitch=True)
    assert (settings.dim, settings.frame_length_ms, settings.frame_shift_ms) == (12 + 3, 25, 20)
    noise = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)
    for length in (400, 719, 720, 721, 5000):
        assert extract(noise[:length], settings).shape == (1 + (length - 400) // 320, 12 + 3)


def test_unvoiced_frames_are_left_out_as_kaldi_hears_them(encoder: Path) -> None:
    samples = np.concatenate([np.zeros(16_000, np.float32), read_audio(SPEECH), np.zeros(16_000, np.float32)])
    settings = encoded(encoder=encoder)
    everything = extract(samples, replace(settings, vad="none"))
    kept = analyse(samples, FeatureSettings()).kept[::2][: len(everything)]
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(extract(samples, settings), everything[kept])
    silent = analyse(np.zeros(8000, np.float32), settings)
    assert (silent.voiced, len(silent.features)) == (0, 24)


def test_long_recordings_go_a_piece_at_a_time(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = read_audio(SPEECH)
    settings = encoded(encoder=encoder, vad="none")
    whole = extract(samples, settings)
    monkeypatch.setattr(waveform, "_AT_ONCE", 40)
    pieces = extract(samples, settings)
    assert pieces.shape == whole.shape
    scaled = ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)).astype(np.float32)
    second = np.mean(plainly(encoder, scaled[40 * 320 : 79 * 320 + 400], normalise=False), axis=0)
    np.testing.assert_allclose(pieces[40:80], second, atol=2e-5)


def encoded(encoder: Path, **values: Any) -> FeatureSettings:
    return resolve(FeatureSettings(kind="encoder", encoder=str(encoder), **values))


def test_an_encoder_is_what_its_files_say(encoder: Path, tmp_path: Path) -> None:
    settings = encoded(encoder=encoder)
    moved = encoded(encoder=save(tmp_path / "copy"))
    assert (moved, moved.digest) == (settings, settings.digest)
    assert replace(settings, layer="1").digest != settings.digest
    for folder in (save(tmp_path / "other", seed=1), save(tmp_path / "plain", normalise=False)):
        assert encoded(encoder=folder).digest != settings.digest
    for layer in ("mean", "learned"):  # which the files need not be there for
        settings = encoded(encoder=encoder, layer=layer)
        gone = FeatureSettings.from_dict({**settings.as_dict(), "encoder": str(tmp_path / "gone")})
        assert (gone, gone.dim) == (settings, 12 if layer == "mean" else 36)
        other = {"mean": "learned", "learned": "mean"}[layer]
        assert resolve(replace(settings, layer=other)) == encoded(encoder=encoder, layer=other)


def test_a_store_knows_its_encoder(encoder: Path, tmp_path: Path) -> None:
    settings = encoded(encoder=encoder, layer="1")
    names = ("speech_german", "speech_male", "too_short")
    manifest = Manifest(tuple(Utterance(n, str(GOLDEN / f"{n}.wav"), "s", "sad") for n in names))
    store = build_store(manifest, tmp_path / "store", settings, progress=False)
    assert set(store.skipped) == {"too_short"}
    np.testing.assert_array_equal(store["speech_german"], extract(SPEECH, settings))
    assert FeatureStore(tmp_path / "store").settings == settings
    copy = save(tmp_path / "copy")
    again = build_store(manifest, tmp_path / "store", replace(settings, encoder=str(copy)), progress=False)
    assert again.digest == store.digest
    save(copy, seed=3)
    with pytest.raises(ConfigError, match="not the encoder that the settings were made with"):
        build_store(manifest, tmp_path / "another", replace(settings, encoder=str(copy)), progress=False)


def test_the_verb_features_makes_every_kind(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"file,speaker,emotion\n{SPEECH},a,sad\n")
    for kind, dim in {"encoder": 12, "functionals": 287, "fbank": 69, "mfcc": 39}.items():
        more = ["--encoder", str(encoder)] if kind == "encoder" else []
        assert main(["features", str(tmp_path / "m.csv"), "-o", str(tmp_path / kind), "--kind", kind, *more]) == 0
        assert FeatureStore(tmp_path / kind).dim == dim


@pytest.mark.slow
def test_the_same_bytes_from_any_number_of_processes(encoder: Path, tmp_path: Path) -> None:
    settings = encoded(encoder=encoder)
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


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def of_text(folder: Path) -> None:
    transformers.BertConfig().save_pretrained(folder)


def of_other_frames(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "conv_stride": [5, 2, 2, 2, 2, 2, 4]}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no encoder here"),
        (lambda folder: (folder / "config.json").write_text("{"), "no encoder here"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights .model.safetensors"),
        (pickled, "the weights are a pickle .pytorch_model.bin., which can run code"),
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
        extract(SPEECH, encoded(encoder=folder))


def test_weights_may_lack_what_serves_pretraining_and_come_in_parts(tmp_path: Path) -> None:
    folder = save(tmp_path / "encoder")
    expected = extract(SPEECH, encoded(encoder=folder))
    without(folder, "masked_spec_embed")
    np.testing.assert_array_equal(extract(SPEECH, encoded(encoder=folder)), expected)
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="4KB")
    assert not (folder / "model.safetensors").exists()
    np.testing.assert_array_equal(extract(SPEECH, encoded(encoder=folder)), expected)
    next(folder.glob("model-00002-*")).unlink()
    with pytest.raises(ConfigError, match="model-00002"):
        encoded(encoder=folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": ""}, "need an encoder"),
        ({"layer": "3"}, "0 to 2, several"),
        ({"layer": "last"}, "a number, several"),
        ({"energy": True}, "no energy beside"),
        ({"sample_rate": 8000}, "take 16000 Hz"),
        ({"kind": "mfcc"}, "kind mfcc have no encoder"),
        ({"kind": "fbank", "encoder": "", "layer": "2"}, "kind fbank have no encoder"),
    ],
)
def test_settings_that_cannot_work(encoder: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(FeatureSettings(**{"kind": "encoder", "encoder": str(encoder), **values}))


def test_without_transformers_it_says_what_to_install(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = encoded(encoder=encoder)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"unheard\[transformers\]"):
        extract(SPEECH, settings)


def test_settings_load_no_torch(encoder: Path) -> None:
    program = (
        "import sys; from unheard.features import FeatureSettings\nfrom unheard.features.encoder import resolve\n"
        "print(resolve(FeatureSettings(kind='encoder', encoder=sys.argv[1])).dim, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(encoder)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["12", "False"]


def test_frames_are_thinned_and_pitch_is_found(encoder: Path) -> None:
    settings = encoded(encoder=encoder, pitch=True, log_pitch="both")
    every = extract(SPEECH, settings)
    thin = extract(SPEECH, replace(settings, thin=2))
    np.testing.assert_allclose(thin[0], every[:2].mean(axis=0), rtol=1e-5, atol=1e-6)
    assert len(thin) == -(-len(every) // 2)
    assert columns_of(settings) == Columns(log_f0=12 + 3)
    assert extract(SPEECH, encoded(encoder=encoder, layer="learned", pitch=True)).shape[1] == 3 * 12 + 3


def test_an_experiment_learns_the_weights_of_the_layers(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unheard.model.saving import Model

    monkeypatch.setattr(run_module, "run_cells", in_this_process)
    out = tmp_path / "run"
    how = ("--features.kind", "encoder", "--features.encoder", str(encoder), "--features.layer", "learned")
    for _ in range(2):  # its config.yaml is read again
        assert experiment(out, *how, "--features.vad", "none", "--systems", "ser,cgt", "--epochs", "2") == 0
    store = FeatureStore(out / "features")
    assert (store.settings.kind, store.settings.layer, store.dim) == ("encoder", "learned", 3 * 12)
    for system in ("ser", "cgt"):
        assert result(only(out, system))["proof"]["features"] == store.settings.digest
        model = Model.load(only(out, system))
        weights = model.network.embed.weighing.weights.detach()
        assert weights.abs().max() > 1e-6
        assert weights.shape == (model.features.encoder_layers,)


def test_equal_weights_of_the_layers_are_their_mean_and_padding_is_not_read() -> None:
    from unheard.model.network import EmbeddingNetwork, NetworkSettings, initialised

    settings = NetworkSettings(layers=3, layer_width=4, dropout=0.0)
    mean = initialised(EmbeddingNetwork, 0, 4 + 2, NetworkSettings(dropout=0.0)).eval()
    weighing = initialised(EmbeddingNetwork, 0, 3 * 4 + 2, settings).eval()
    weighing.load_state_dict(mean.state_dict() | {"weighing.weights": torch.zeros(3)})
    x, lengths = torch.randn(2, 40, 14), torch.tensor([40, 25])
    x[1, 25:] = torch.nan
    averaged = torch.cat([x[:, :, :12].unflatten(2, (3, 4)).mean(2), x[:, :, 12:]], 2)
    torch.testing.assert_close(weighing(x, lengths), mean(averaged, lengths), rtol=1e-4, atol=1e-5)
