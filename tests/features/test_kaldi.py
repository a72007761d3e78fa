"""Features against values of the real Kaldi programs and kaldi-native-fbank, literal equations and known voices."""

from __future__ import annotations

import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import kaldi_native_fbank as knf
import numpy as np
import pytest

from unheard.audio import read_audio
from unheard.errors import AudioError, ConfigError, FeatureError
from unheard.features import FeatureSettings, analyse, build_store, extract
from unheard.features.kaldi import VAD_PRESETS, frame_count, spectral_frames, voiced_frames
from unheard.features.srfft import PowerSpectrum
from unheard.manifest import Manifest, Utterance

GOLDEN = Path(__file__).parents[1] / "golden" / "kaldi"
RECORDINGS = sorted(path.stem for path in GOLDEN.glob("*.wav") if path.stem != "too_short")
PRESETS = {"vad_xvector": "xvector", "vad_ivector": "ivector", "vad_default": "kaldi_default"}


def assert_equals_kaldi(ours: np.ndarray, kaldi: np.ndarray) -> None:
    assert ours.shape == kaldi.shape
    assert ours.dtype == np.float32
    difference = np.abs(ours - kaldi)
    assert np.linalg.norm(difference) < 1e-5 * np.linalg.norm(kaldi)
    # Value by value; those below 1 against 1, since many pass through zero.
    assert np.all(difference < 1e-4 * np.maximum(np.abs(kaldi), 1))


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recording_equals_kaldi(name: str) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")
    samples = read_audio(GOLDEN / f"{name}.wav")
    whole = analyse(samples, FeatureSettings(vad="none")).features
    assert_equals_kaldi(whole[:, :13], golden["mfcc"])
    assert_equals_kaldi(whole, golden["mfcc39"])
    for key, preset in PRESETS.items():
        np.testing.assert_array_equal(voiced_frames(whole[:, 0], VAD_PRESETS[preset]), golden[key] == 1)
    expected = golden["selected_xvector"] if "selected_xvector" in golden else golden["mfcc39"]
    assert_equals_kaldi(extract(GOLDEN / f"{name}.wav"), expected)

    assert len(RECORDINGS) >= 11
    assert {"chirp", "one_frame", "digital_silence", "speech_mandarin"} <= set(RECORDINGS)


def test_no_voiced_frame_keeps_all_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "unheard"):
        assert extract(GOLDEN / "digital_silence.wav").shape == (48, 39)
    assert "no frame is voiced; all 48 are kept" in caplog.text
    analysis = analyse(np.zeros(8000, np.float32), FeatureSettings())
    assert (analysis.voiced, analysis.kept.all()) == (0, True)


def test_samples_of_any_kind_give_the_same_features() -> None:
    path = GOLDEN / "speech_female.wav"
    expected = extract(path)
    samples = read_audio(path)
    np.testing.assert_array_equal(extract(samples), expected)
    np.testing.assert_array_equal(extract((samples * 32_768).astype(np.int16)), expected)
    np.testing.assert_array_equal(extract(samples[:, None]), expected)
    np.testing.assert_array_equal(extract(path, start=0.5, end=1.5), extract(samples, start=0.5, end=1.5))
    np.testing.assert_array_equal(extract(samples, end=len(samples) / 16_000 + 0.05), expected)
    assert extract(samples, sample_rate=8000).shape[0] > 1.5 * len(expected)
    with os.scandir(GOLDEN) as found:
        (entry,) = [one for one in found if one.name == path.name]
    np.testing.assert_array_equal(extract(entry), expected)


FEMALE = read_audio(GOLDEN / "speech_female.wav")
LOUDEST = FEMALE / np.abs(FEMALE).max()


@pytest.mark.parametrize(
    ("audio", "options", "message"),
    [
        (GOLDEN / "too_short.wav", {}, r"too short: 24\.9 ms"),
        (np.zeros(0, np.float32), {}, "too short"),
        (np.full(16_000, np.nan), {}, "NaN"),
        (np.full(16_000, 1e30) * np.sin(np.arange(16_000)), {}, "too large"),
        # integers as floats; 120: 16 bits, 49 dB below full scale
        *((LOUDEST * loudest, {}, "too large: floats lie in") for loudest in (120, 512, 32_768, 2**31)),
        *((audio, {}, "is not audio") for audio in ([0.1, 0.2], None, b"abc")),
        *(
            (audio, stretch, "stretch")
            for audio in (GOLDEN / "speech_female.wav", FEMALE)
            for stretch in ({"start": -1}, {"end": -1.0}, {"start": 1, "end": 99}, {"start": 99})
        ),
    ],
)
def test_what_cannot_be_analysed_is_said(audio: Any, options: dict[str, float], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        extract(audio, **options)
    assert np.isfinite(extract(LOUDEST * 90)).all()
    with pytest.raises(ConfigError, match="100 Hz is out of range"):
        extract(FEMALE, sample_rate=100)


def test_frames_do_not_depend_on_how_many_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(3).normal(0, 1000, 32_000).astype(np.float32)
    together = spectral_frames(samples, FeatureSettings())
    for widths in ((1,), (7, 50), (1000,)):
        monkeypatch.setattr("unheard.features.kaldi._WIDTHS", widths)
        np.testing.assert_allclose(spectral_frames(samples, FeatureSettings()), together, rtol=1e-5, atol=1e-4)


def test_threads_do_not_share_buffers() -> None:
    path = GOLDEN / "speech_german.wav"
    expected = extract(path)
    with ThreadPoolExecutor(8) as pool:
        for features in pool.map(lambda _: extract(path), range(32)):
            np.testing.assert_array_equal(features, expected)


@pytest.mark.parametrize("points", [4, 8, 32, 128, 256, 512])
def test_the_power_spectrum_is_that_of_the_dft(points: int) -> None:
    x = np.random.default_rng(points).normal(size=(2 * points, 5)).astype(np.float32)
    expected = np.abs(np.fft.rfft(x.astype(np.float64), axis=0)) ** 2
    spectrum = PowerSpectrum(points, 5)
    for _ in range(2):
        spectrum.samples[:] = x[0::2], x[1::2]
        spectrum.run()
        np.testing.assert_allclose(spectrum.power, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_dither_is_seeded() -> None:
    samples = read_audio(GOLDEN / "speech_male.wav")
    plain, noisy = FeatureSettings(), FeatureSettings(dither=1.0)
    first = extract(samples, noisy)
    np.testing.assert_array_equal(first, extract(samples, noisy))
    for other in (plain, FeatureSettings(dither=1.0, dither_seed=1)):
        assert not np.array_equal(first, extract(samples, other))
    assert np.isfinite(extract(np.zeros(16_000, np.float32), noisy)).all()


def test_every_setting_changes_the_digest() -> None:
    default = FeatureSettings()
    others = {
        "sample_rate": 8000, "frame_length_ms": 20.0, "frame_shift_ms": 5.0, "preemphasis": 0.95, "mel_bins": 30,
        "low_hz": 40.0, "high_hz": 7000.0, "cepstra": 20, "lifter": 0.0, "deltas": 1, "delta_window": 3,
        "dither": 1.0, "dither_seed": 7, "vad": "none", "kind": "fbank", "pitch": True, "log_pitch": "both",
        "pitch_low_hz": 60.0, "pitch_high_hz": 500.0, "thin": 2, "copy": 1,
    }  # fmt: skip
    names = {field.name for field in fields(FeatureSettings)}
    elsewhere = {"energy", "summary", "encoder", "layer", "encoder_digest", "encoder_width", "encoder_layers", "pool"}
    elsewhere |= {"level", "folder", "width", "code"}  # of ready-made frames and plug-ins
    assert set(others) | elsewhere == names, "a setting is not tested"
    assert FeatureSettings(kind="fbank", energy=True).digest != FeatureSettings(kind="fbank").digest
    whole = FeatureSettings(kind="fbank", energy=True, pitch=True, log_pitch="both", deltas=0)
    assert replace(whole, summary=True).digest != whole.digest  # an encoder's settings are in test_encoder.py
    digests = {replace(default, **{name: value}).digest for name, value in others.items()}
    assert len(digests | {default.digest}) == len(others) + 1
    assert default.digest == "b0b2ac87c4aa", "results published with the default settings must still match"
    assert FeatureSettings(dither=1.0).digest == "eb6bb9500c0c"
    assert FeatureSettings(low_hz=20).digest == default.digest, "20 and 20.0 are one setting"
    assert FeatureSettings.from_dict(default.as_dict()) == default
    samples = read_audio(GOLDEN / "speech_german.wav")
    for name, value in others.items():
        settings = replace(default, **{name: value})
        assert extract(samples, settings, sample_rate=16_000).shape[1] == settings.dim


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *(({name: value}, name) for name, value in [
            ("sample_rate", 0), ("mel_bins", 2), ("cepstra", 40), ("deltas", -1), ("low_hz", 9000.0),
            ("mel_bins", "many"), ("mel_bins", 23.5), ("high_hz", 10.0), ("frame_shift_ms", 0.0), ("pitch", "yes"),
            ("pitch_low_hz", 400.0), ("pitch_high_hz", 2000.0), ("log_pitch", "cooked"), ("lifter", float("nan")),
            ("dither", float("inf")), ("frame_length_ms", "inf"),
        ]),
        ({"vad": "xvectors"}, "Did you mean 'xvector'"),
        ({"kind": "fbanks"}, "Did you mean 'fbank'"),
        ({"energy": True}, "as c0"),
        ({"pitch": True, "sample_rate": 22_050}, "at 22050 Hz"),
        ({"kind": "functionals", "sample_rate": 22_050}, "at 22050 Hz"),
        ({"pitch": True, "sample_rate": 2000}, "4 kHz"),
        ({"mel_bin": 23}, "Did you mean 'mel_bins'"),
        ({"mel_bins": 200}, "too many"),
    ],
)  # fmt: skip
def test_settings_out_of_range_or_that_contradict_each_other(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        extract(np.zeros(16_000, np.float32), FeatureSettings.from_dict(values))
    assert FeatureSettings(pitch=True, sample_rate=44_100).dim == 42


RATE = 16_000
SCALE = np.float32(32_768)


@pytest.mark.parametrize("name", RECORDINGS)
def test_log_mel_and_pitch_are_those_of_kaldi_native_fbank(name: str) -> None:
    samples = read_audio(GOLDEN / f"{name}.wav")
    large = (samples * SCALE).tolist()
    for bins in (23, 40):
        options = knf.FbankOptions()
        options.frame_opts.dither, options.mel_opts.num_bins, options.use_energy = 0, bins, True
        plain = knf.OnlineFbank(options)
        plain.accept_waveform(RATE, large)
        plain.input_finished()
        expected = np.stack([plain.get_frame(t) for t in range(plain.num_frames_ready)])
        settings = FeatureSettings(kind="fbank", mel_bins=bins, energy=True, deltas=0, vad="none")
        ours = extract(samples, settings)
        assert ours.shape == expected.shape == (len(ours), bins + 1)
        bands, loudest = np.exp(expected[:, 1:]), np.exp(expected[:, 1:].max(axis=1, keepdims=True))
        assert np.all(np.abs(np.exp(ours[:, 1:]) - bands) < 1e-5 * loudest)
        if name not in ("chirp", "silence_then_tone"):  # beside one strong tone quiet bands depend on the FFT: srfft.py
            difference = np.abs(ours - expected)
            assert np.linalg.norm(difference) < 1e-5 * np.linalg.norm(expected)
            assert np.mean(difference < 1e-4 * np.maximum(np.abs(expected), 1)) > 0.999
        np.testing.assert_array_equal(extract(samples, replace(settings, energy=False)), ours[:, 1:])

    process = knf.ProcessPitchOptions(add_raw_log_pitch=True)
    expected = knf.compute_and_process_kaldi_pitch(knf.PitchExtractionOptions(), process, large)
    mfcc = extract(samples, FeatureSettings(vad="none"))
    for log_pitch, columns in {"normalised": [0, 1, 2], "raw": [0, 2, 3], "both": [0, 1, 2, 3]}.items():
        ours = extract(samples, FeatureSettings(pitch=True, log_pitch=log_pitch, vad="none"))
        assert ours.shape == (len(mfcc), 39 + len(columns))
        np.testing.assert_array_equal(ours[:, :39], mfcc)
        common = min(len(ours), len(expected))
        assert len(ours) - common <= 1
        np.testing.assert_array_equal(ours[:common, 39:], expected[:common][:, columns])


@pytest.mark.parametrize("name", ["speech_female", "speech_mandarin"])
def test_cepstra_are_the_cosine_transform_of_log_mel(name: str) -> None:
    samples = read_audio(GOLDEN / f"{name}.wav") * SCALE
    bands, cepstra = (spectral_frames(samples, FeatureSettings(**how)) for how in ({"kind": "fbank"}, {"lifter": 0.0}))
    cosines = np.cos(np.pi / 23 * np.outer(np.arange(23) + 0.5, np.arange(1, 13)))
    np.testing.assert_allclose(cepstra[:, 1:], np.sqrt(2 / 23) * bands[:, 1:] @ cosines, atol=2e-4)
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
    energy = spectral_frames(read_audio(path) * SCALE, FeatureSettings())[:, 0]
    np.testing.assert_array_equal(kept, voiced_frames(energy, VAD_PRESETS["xvector"]))


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
