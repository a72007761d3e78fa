"""Log-mel bands and Kaldi's pitch: against kaldi-native-fbank used plainly, and on voices whose F0 is known."""

from __future__ import annotations

import sys
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import pytest

from unheard.audio import read_audio
from unheard.errors import FeatureError
from unheard.features import FeatureSettings, analyse, build_store, extract
from unheard.features.kaldi import VAD_PRESETS, frame_count, spectral_frames, voiced_frames
from unheard.manifest import Manifest, Utterance

GOLDEN = Path(__file__).parents[1] / "golden" / "kaldi"
RECORDINGS = sorted(path.stem for path in GOLDEN.glob("*.wav") if path.stem != "too_short")
RATE = 16_000


def scaled(name: str) -> np.ndarray:
    return read_audio(GOLDEN / f"{name}.wav") * np.float32(32_768)


def voice(f0: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Ten harmonics over the contour `f0` (N,) in Hz, falling by 6 dB an octave; peak about 0.3."""
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 11))
    tone = 0.3 * tone / np.abs(tone).max()
    return (tone + noise * np.random.default_rng(0).normal(size=len(f0))).astype(np.float32)


@pytest.mark.parametrize("bins", [23, 40])
@pytest.mark.parametrize("name", RECORDINGS)
def test_log_mel_is_that_of_kaldi_native_fbank(name: str, bins: int) -> None:
    samples = scaled(name)
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = bins
    options.use_energy = True
    plain = knf.OnlineFbank(options)
    plain.accept_waveform(RATE, samples.tolist())
    plain.input_finished()
    expected = np.stack([plain.get_frame(t) for t in range(plain.num_frames_ready)])
    settings = FeatureSettings(kind="fbank", mel_bins=bins, energy=True, deltas=0, vad="none")
    ours = extract(samples / np.float32(32_768), settings)
    assert ours.shape == expected.shape == (len(ours), bins + 1)
    bands, loudest = np.exp(expected[:, 1:]), np.exp(expected[:, 1:].max(axis=1, keepdims=True))
    assert np.all(np.abs(np.exp(ours[:, 1:]) - bands) < 1e-5 * loudest)
    if name not in (
        "chirp",
        "silence_then_tone",
    ):  # beside one strong tone, quiet bands hear which FFT it is: see fft.py
        difference = np.abs(ours - expected)
        assert np.linalg.norm(difference) < 1e-5 * np.linalg.norm(expected)
        assert np.mean(difference < 1e-4 * np.maximum(np.abs(expected), 1)) > 0.999
    np.testing.assert_array_equal(
        extract(samples / np.float32(32_768), FeatureSettings(kind="fbank", mel_bins=bins, deltas=0, vad="none")),
        ours[:, 1:],
    )


@pytest.mark.parametrize("name", ["speech_female", "speech_mandarin"])
def test_cepstra_are_the_cosine_transform_of_log_mel(name: str) -> None:
    samples = scaled(name)
    bands = spectral_frames(samples, FeatureSettings(kind="fbank"))
    cepstra = spectral_frames(samples, FeatureSettings(lifter=0.0))
    at = np.arange(23) + 0.5
    for c in range(1, 13):
        expected = np.sqrt(2 / 23) * bands[:, 1:] @ np.cos(np.pi / 23 * c * at)
        np.testing.assert_allclose(cepstra[:, c], expected, atol=2e-4)
    np.testing.assert_array_equal(cepstra[:, 0], bands[:, 0])


def test_voice_activity_is_that_of_the_energy_whatever_the_features() -> None:
    path = GOLDEN / "speech_german.wav"
    kept = analyse(read_audio(path), FeatureSettings()).kept
    for settings in (
        FeatureSettings(kind="fbank"),
        FeatureSettings(kind="fbank", mel_bins=40, energy=True, pitch=True),
        FeatureSettings(pitch=True, log_pitch="both"),
    ):
        analysis = analyse(read_audio(path), settings)
        np.testing.assert_array_equal(analysis.kept, kept)
        assert analysis.features.shape == (kept.sum(), settings.dim)
    energy = spectral_frames(scaled("speech_german"), FeatureSettings())[:, 0]
    np.testing.assert_array_equal(kept, voiced_frames(energy, VAD_PRESETS["xvector"]))


@pytest.mark.parametrize(
    ("log_pitch", "columns"), [("normalised", [0, 1, 2]), ("raw", [0, 2, 3]), ("both", [0, 1, 2, 3])]
)
@pytest.mark.parametrize("name", RECORDINGS)
def test_pitch_is_that_of_kaldi_native_fbank(name: str, log_pitch: str, columns: list[int]) -> None:
    samples = scaled(name)
    options = knf.ProcessPitchOptions(add_raw_log_pitch=True)
    expected = knf.compute_and_process_kaldi_pitch(knf.PitchExtractionOptions(), options, samples.tolist())
    settings = FeatureSettings(pitch=True, log_pitch=log_pitch, vad="none")
    ours = extract(samples / np.float32(32_768), settings)
    assert ours.shape == (frame_count(len(samples), settings), 39 + len(columns))
    np.testing.assert_array_equal(ours[:, :39], extract(samples / np.float32(32_768), FeatureSettings(vad="none")))
    common = min(len(ours), len(expected))
    assert len(ours) - common <= 1
    np.testing.assert_array_equal(ours[:common, 39:], expected[:common][:, columns])


RAW = FeatureSettings(pitch=True, log_pitch="raw", deltas=0, vad="none")
VOICING, RAW_LOG_F0 = 13, 15


@pytest.mark.parametrize(
    ("low", "high", "noise"),
    [(80, 80, 0.0), (120, 120, 0.01), (210, 210, 0.0), (350, 350, 0.01), (100, 200, 0.0), (300, 150, 0.01)],
)
def test_known_voices_are_found(low: float, high: float, noise: float) -> None:
    f0 = np.geomspace(low, high, RATE)
    found = extract(voice(f0, noise), RAW)
    centre = np.clip(np.arange(len(found)) * 160 + 200, 0, RATE - 1)
    error = np.abs(np.exp(found[:, RAW_LOG_F0]) / f0[centre] - 1)
    # A frame's pitch is that of its window and one lag more: a glide of an octave a second moves by 1 % in that.
    assert np.percentile(error, 95) < (0.01 if low == high else 0.03)
    assert np.median(found[:, VOICING]) < -0.9


def test_noise_and_silence_are_not_voiced() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, RATE).astype(np.float32)
    tone = voice(np.full(RATE, 150.0))
    assert np.median(extract(noise, RAW)[:, VOICING]) > np.median(extract(tone, RAW)[:, VOICING]) + 0.5
    assert np.median(extract(np.zeros(RATE, np.float32), RAW)[:, VOICING]) > -0.1


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_pitch_is_always_a_number_and_as_long_as_the_rest(rate: int) -> None:
    random = np.random.default_rng(2)
    settings = FeatureSettings(sample_rate=rate, pitch=True, log_pitch="both", vad="none", deltas=1)
    frame = settings.samples_per_frame
    for count in (frame, frame + 1, frame + 3, 2 * frame - 1, 7 * frame + 11, rate):
        t = np.arange(count)
        for samples in (
            np.zeros(count),
            np.full(count, 0.5),
            random.normal(0, 1e-9, count),
            np.clip(random.normal(0, 10, count), -1, 1),
            np.clip(10 * np.sin(2 * np.pi * 180 * t / rate), -1, 1),
            np.where(t == count // 2, 1.0, 0.0),
        ):
            features = extract(samples.astype(np.float32), settings)
            assert features.shape == (frame_count(count, settings), settings.dim)
            assert np.isfinite(features).all()


def test_without_the_library_only_pitch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaldi_native_fbank", None)
    path = GOLDEN / "speech_male.wav"
    assert extract(path, FeatureSettings(kind="fbank")).shape[1] == 69
    with pytest.raises(FeatureError, match=r"needs kaldi-native-fbank.*pip install"):
        extract(path, FeatureSettings(pitch=True))
    manifest = Manifest((Utterance("u", str(path), "s", "sad"),))
    with pytest.raises(FeatureError, match="needs kaldi-native-fbank"):
        build_store(manifest, tmp_path / "store", FeatureSettings(pitch=True), progress=False)
    assert not (tmp_path / "store").exists()
