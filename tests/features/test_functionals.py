"""Functionals: every number is what its name says; as features of their own, and in each of an utterance's frames."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unheard.audio import read_audio
from unheard.errors import ConfigError
from unheard.features import FeatureSettings, FeatureStore, analyse, build_store, extract
from unheard.features.analysis import thinned
from unheard.features.functionals import (
    FUNCTIONALS,
    PERCENTILES,
    frame_settings,
    functionals,
    names,
    percentiles,
    summarise,
)
from unheard.features.settings import columns_of
from unheard.manifest import Manifest, Utterance

GOLDEN = Path(__file__).parents[1] / "golden" / "kaldi"
RECORDINGS = sorted(path.stem for path in GOLDEN.glob("*.wav") if path.stem != "too_short")
RATE = 16_000
EVERY_FRAME = replace(FUNCTIONALS, vad="none")


def named(audio: object, settings: FeatureSettings = FUNCTIONALS) -> dict[str, float]:
    return dict(zip(names(settings), functionals(audio, settings).tolist(), strict=True))


def buzz(f0: np.ndarray) -> np.ndarray:
    """Ten harmonics over the contour `f0` (N,) in Hz."""
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    return sum(0.05 * np.sin(k * phase) / k for k in range(1, 11)).astype(np.float32)


def test_every_number_has_one_name() -> None:
    assert len(set(names())) == len(names()) == FUNCTIONALS.dim == 287
    small = replace(FUNCTIONALS, mel_bins=20, cepstra=5)
    assert functionals(GOLDEN / "speech_male.wav", small).shape == (small.dim,) == (len(names(small)),)
    assert small.digest != FUNCTIONALS.digest


@pytest.mark.parametrize("name", RECORDINGS)
def test_statistics_are_those_of_the_frames_that_speak(name: str) -> None:
    samples = read_audio(GOLDEN / f"{name}.wav")
    found = named(samples)
    frames = extract(samples, frame_settings(FUNCTIONALS)).astype(np.float64)
    kept = analyse(samples, FeatureSettings()).kept
    bands = extract(samples, FeatureSettings(kind="fbank", mel_bins=40, deltas=1, vad="none")).astype(np.float64)
    np.testing.assert_allclose([found[f"mel{k:02}.mean"] for k in range(40)], frames[kept, 1:41].mean(0), atol=1e-4)
    deviations = [found[f"mel{k:02}.deviation"] for k in range(40)]
    np.testing.assert_allclose(deviations, frames[kept, 1:41].std(0), atol=1e-4)
    moving = [found[f"delta.mel{k:02}.deviation"] for k in range(40)]
    np.testing.assert_allclose(moving, bands[kept, 40:].std(0), atol=1e-4)
    for percent in (1, 20, 50, 80, 99):
        assert found[f"energy.p{percent}"] == pytest.approx(np.percentile(frames[kept, 0], percent), abs=1e-4)
    cosine = np.sqrt(2 / 40) * np.cos(np.pi / 40 * 3 * (np.arange(40) + 0.5))
    assert found["cep03.mean"] == pytest.approx((frames[kept, 1:41] @ cosine).mean(), abs=1e-3)
    weights = np.exp(frames[kept, 0])
    colour = frames[kept, 1 + 7] - frames[kept, 1:41].mean(1)
    assert found["loud.mel07"] == pytest.approx((weights * colour).sum() / weights.sum(), abs=1e-3)
    assert found["speech.share"] == pytest.approx(kept.mean(), abs=1e-6)
    assert found["recording.log_seconds"] == pytest.approx(np.log(len(kept) / 100), abs=1e-5)
    assert found["speech.log_seconds"] == pytest.approx(np.log(kept.sum() / 100), abs=1e-5)


def test_pitch_is_that_of_the_voice() -> None:
    rising = named(buzz(np.geomspace(100, 200, RATE)))
    assert rising["logF0.mean"] == pytest.approx(np.log(np.sqrt(100 * 200)), abs=0.03)
    assert rising["voiced.slope.mean"] == pytest.approx(np.log(2), rel=0.05), "an octave a second"
    assert rising["logF0.p99"] - rising["logF0.p1"] == pytest.approx(np.log(2), rel=0.06)
    assert rising["delta.logF0.p50"] == pytest.approx(np.log(2) / 100, rel=0.3), "F0 moves in steps of 0.5 %"
    assert rising["logF0.slope"] == pytest.approx(np.log(2) / 2, rel=0.05)
    assert rising["voiced.slope.rising"] == 1
    falling = named(buzz(np.geomspace(200, 100, RATE)))
    assert falling["voiced.slope.mean"] == pytest.approx(-np.log(2), rel=0.05)
    assert falling["voiced.slope.rising"] == 0
    assert rising["voiced.share"] > 0.95


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.78, 0.82, 0.9, 1.0])
def test_voiced_is_what_kaldi_finds_more_likely_voiced_than_not(correlation: float) -> None:
    frames = np.zeros((5, 44), np.float32)
    frames[:, -3] = 2 * ((1.0001 - correlation) ** 0.15 - 1)
    found = dict(zip(names(), summarise(frames, np.ones(5, bool), FUNCTIONALS).tolist(), strict=True))
    assert found["voicing.mean"] == pytest.approx(correlation, abs=1e-3)
    n = correlation
    odds = -5.2 + 5.4 * np.exp(7.5 * (n - 1)) + 4.8 * n - 2 * np.exp(-10 * n) + 4.2 * np.exp(20 * (n - 1))
    assert found["voiced.share"] == (odds > 0)


def test_voiced_segments_are_counted() -> None:
    noise = np.random.default_rng(0).normal(0, 0.03, 3 * RATE)
    voice = buzz(np.full(3 * RATE, 150.0))
    second = np.arange(3 * RATE) / RATE
    found = named(np.where((second % 1 > 0.2) & (second % 1 < 0.8), voice, noise).astype(np.float32), EVERY_FRAME)
    assert found["voiced.segments_a_second"] == pytest.approx(1, abs=0.02)
    assert found["voiced.length.mean"] == pytest.approx(0.6, abs=0.06)
    assert found["voiced.share"] == pytest.approx(0.6, abs=0.06)
    assert found["logF0.p50"] == pytest.approx(np.log(150), abs=0.01)


@pytest.mark.parametrize("settings", [FUNCTIONALS, EVERY_FRAME])
def test_without_a_voice_there_still_is_a_number_everywhere(settings: FeatureSettings) -> None:
    random = np.random.default_rng(1)
    for samples in (np.zeros(8000), random.normal(0, 1e-4, 8000), np.full(400, 0.1), np.eye(1, 400, 200)[0]):
        found = named(samples.astype(np.float32), settings)
        assert np.isfinite(list(found.values())).all()
        if found["voiced.share"] == 0:
            assert found["logF0.p50"] == found["loud.logF0"] == pytest.approx(np.log(np.sqrt(50 * 400)), abs=1e-5)
            assert found["logF0.deviation"] == found["voiced.length.mean"] == 0
    assert named(np.zeros(8000, np.float32), settings)["voiced.share"] == 0


def test_frames_left_out_by_the_vad_do_not_count() -> None:
    frames = extract(GOLDEN / "speech_male.wav", frame_settings(FUNCTIONALS))
    kept = np.zeros(len(frames), bool)
    kept[20:80] = True
    changed = frames.copy()
    changed[90:] = changed[90:][::-1]  # further away than the differences reach
    np.testing.assert_array_equal(summarise(changed, kept, FUNCTIONALS), summarise(frames, kept, FUNCTIONALS))
    assert not np.array_equal(summarise(frames, ~kept, FUNCTIONALS), summarise(frames, kept, FUNCTIONALS))


def test_percentiles_are_those_of_numpy() -> None:
    for frames in (1, 2, 3, 5, 51, 101, 298, 1000):
        values = np.random.default_rng(frames).standard_normal((frames, 3)) * [1e-3, 1, 1e3]
        values[:, 1] = values[:, 1].round(1)  # with ties
        np.testing.assert_array_equal(percentiles(values), np.percentile(values, PERCENTILES, axis=0))


def test_a_store_holds_one_row_an_utterance(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [Utterance(n, str(GOLDEN / f"{n}.wav"), "s", "sad") for n in ("speech_male", "digital_silence", "too_short")]
    with caplog.at_level(logging.WARNING, "unheard"):
        store = build_store(Manifest(tuple(rows)), tmp_path / "store", FUNCTIONALS, progress=False)
    assert store.matrix.shape == (2, 287)
    np.testing.assert_array_equal(store["speech_male"][0], functionals(GOLDEN / "speech_male.wav"))
    assert store.unvoiced == ("digital_silence",)
    assert set(store.skipped) == {"too_short"}
    assert FeatureStore(tmp_path / "store").settings == FUNCTIONALS


STRONG = FeatureSettings(
    kind="fbank", mel_bins=40, cepstra=21, energy=True, deltas=0, pitch=True, log_pitch="both", thin=2, summary=True
)


def speech(seconds: float = 1.5) -> np.ndarray:
    t = np.arange(round(16_000 * seconds)) / 16_000
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    return (0.05 * voice * (1 + np.sin(2 * np.pi * 3 * t))).astype(np.float32)


def test_thinned_frames_are_means_of_those_in_a_row() -> None:
    for frames, n, left in ((6, 2, 3), (7, 2, 4), (1, 3, 1), (5, 1, 5)):
        x = np.random.default_rng(0).normal(size=(frames, 3)).astype(np.float32)
        expected = [x[k : k + n].mean(axis=0) for k in range(0, frames, n)]
        assert len(expected) == left
        np.testing.assert_allclose(thinned(x, n), expected, atol=1e-6)


def test_the_summary_is_the_functionals_in_every_frame() -> None:
    found, plain = extract(speech(), STRONG), extract(speech(), replace(STRONG, summary=False))
    assert found.shape[1] == STRONG.dim == plain.shape[1] + STRONG.summary_dim
    assert np.array_equal(found[:, : plain.shape[1]], plain)
    assert (found[:, plain.shape[1] :] == functionals(speech(), FUNCTIONALS)).all()
    raw = extract(speech(), replace(STRONG, log_pitch="raw"))
    assert np.array_equal(raw[0, -287:], found[0, -287:])
    columns = columns_of(STRONG)
    assert (columns.bands, columns.energy, columns.log_f0, columns.summary) == (slice(1, 41), 0, 44, 287)

    for change in ({"kind": "mfcc", "energy": False}, {"deltas": 1}, {"log_pitch": "normalised"}):
        with pytest.raises(ConfigError, match="a summary needs mel bands, energy and raw log F0"):
            replace(STRONG, **change)
