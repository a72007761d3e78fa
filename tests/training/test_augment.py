"""Invented speakers: what is done to features, and that nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from unheard.errors import ConfigError
from unheard.features import FeatureSettings
from unheard.features.settings import Columns, columns_of
from unheard.training.augment import Augmentation, augment

COLUMNS = Columns(slice(1, 41), 0, 44)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 45)).astype(np.float32)


def random() -> np.random.Generator:
    return np.random.default_rng(7)


def test_at_strength_nothing_it_is_a_copy(x: np.ndarray) -> None:
    said = augment(x, COLUMNS, Augmentation(), random())
    assert np.array_equal(said, x)
    assert said is not x
    assert not Augmentation().on
    assert Augmentation(pace=0.1).on


@pytest.mark.parametrize(
    "how",
    [
        Augmentation(tract=0.1),
        Augmentation(colour=0.3),
        Augmentation(pitch=0.3),
        Augmentation(pace=0.1),
        Augmentation(time_masks=2),
        Augmentation(band_masks=2),
    ],
)
def test_the_same_seed_invents_the_same_speaker_and_the_utterance_stays(x: np.ndarray, how: Augmentation) -> None:
    before = x.copy()
    once, again = (augment(x, COLUMNS, how, random()) for _ in range(2))
    other = augment(x, COLUMNS, how, np.random.default_rng(8))
    assert np.array_equal(once, again)
    assert np.array_equal(x, before)
    assert once.shape != other.shape or not np.array_equal(once, other)
    assert once.dtype == np.float32


def test_a_longer_tract_stretches_the_bands_and_them_alone(x: np.ndarray) -> None:
    ramp = x.copy()
    ramp[:, 1:41] = np.arange(40)
    said = augment(ramp, COLUMNS, Augmentation(tract=0.1), random())
    factor = random().uniform(0.9, 1.1)
    assert np.allclose(said[:, 1:41], np.minimum(np.arange(40) * factor, 39), atol=1e-4)
    assert np.array_equal(said[:, 0], x[:, 0])
    assert np.array_equal(said[:, 41:], x[:, 41:])


def test_a_colour_is_one_curve_for_the_whole_utterance_and_its_level_is_the_energys(x: np.ndarray) -> None:
    said = augment(x, COLUMNS, Augmentation(colour=0.3), random())
    added = said[:, 1:41] - x[:, 1:41]
    assert np.allclose(added, added[0], atol=1e-6)
    heights = random().normal(0, 0.3, 6)
    place = np.linspace(0, np.pi, 40)
    assert np.allclose(added[0], sum(h * np.cos(k * place) for k, h in enumerate(heights)), atol=1e-5)
    assert np.allclose(said[:, 0] - x[:, 0], heights[0], atol=1e-6)
    assert np.array_equal(said[:, 41:], x[:, 41:])


def test_pitch_moves_log_f0_by_one_number(x: np.ndarray) -> None:
    said = augment(x, COLUMNS, Augmentation(pitch=0.5), random())
    moved = said - x
    assert np.allclose(moved[:, 44], random().normal(0, 0.5), atol=1e-6)
    assert not moved[:, :44].any()


def test_pace_resamples_time(x: np.ndarray) -> None:
    ramp = np.repeat(np.arange(60, dtype=np.float32)[:, None], 45, axis=1)
    said = augment(ramp, COLUMNS, Augmentation(pace=0.2), random())
    pace = random().uniform(0.8, 1.2)
    assert len(said) == round(60 / pace)
    assert np.allclose(said[:, 3], np.linspace(0, 59, len(said)), atol=1e-4)
    assert augment(ramp[:1], COLUMNS, Augmentation(pace=0.2), random()).shape == (1, 45)


def test_masks_leave_out_what_they_say(x: np.ndarray) -> None:
    said = augment(x, COLUMNS, Augmentation(time_masks=1), np.random.default_rng(3))
    gone = ~said.any(axis=1)
    assert 0 < gone.sum() < 12
    said = augment(x, COLUMNS, Augmentation(band_masks=1), np.random.default_rng(3))
    gone = ~said.any(axis=0)
    assert 0 < gone.sum() < 8
    assert not gone[0]
    assert not gone[41:].any()


def test_columns_of_the_settings() -> None:
    both = FeatureSettings(kind="fbank", mel_bins=40, energy=True, deltas=0, pitch=True, log_pitch="both")
    assert columns_of(both) == COLUMNS
    assert columns_of(FeatureSettings()) == Columns()
    assert columns_of(FeatureSettings(kind="fbank", deltas=0)) == Columns(slice(0, 23))
    assert columns_of(FeatureSettings(pitch=True, log_pitch="raw")) == Columns(log_f0=41)


def test_what_the_features_do_not_have_cannot_be_changed() -> None:
    Augmentation(pace=0.1, time_masks=1).check(Columns())
    with pytest.raises(ConfigError, match=r"tract needs .* mel bands.*--features.kind fbank --features.deltas 0"):
        Augmentation(tract=0.1).check(columns_of(FeatureSettings()))
    with pytest.raises(ConfigError, match=r"log F0.*--features.pitch --features.log-pitch both"):
        Augmentation(pitch=0.1).check(Columns(slice(0, 23)))
    with pytest.raises(ConfigError, match=r"pace = 0\.7"):
        Augmentation(pace=0.7)
