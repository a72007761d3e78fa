"""Changed copies of a recording: drawn from it alone, and what each change is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unheard.audio import read_audio
from unheard.features import changes
from unheard.features.changes import RATE, changed, equalised, in_room, noise, telephone

SPEECH = read_audio(Path(__file__).parents[1] / "golden" / "kaldi" / "speech_german.wav")


def test_a_copy_follows_from_the_samples_and_its_number() -> None:
    first, second = changed(SPEECH, 1), changed(SPEECH, 2)
    np.testing.assert_array_equal(first, changed(SPEECH.copy(), 1))
    assert len(first) != len(second) or not np.allclose(first, second)
    assert not np.array_equal(changed(SPEECH[1:], 1)[:1000], first[:1000])


def test_copies_are_bounded_in_length_and_level() -> None:
    for copy in range(1, 20):
        x = changed(SPEECH, copy)
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert 0 < np.abs(x).max() <= 1
        assert abs(np.log(len(x) / len(SPEECH))) <= changes.WARP + 1e-3


def test_what_cannot_be_analysed_stays_as_it_is_and_silence_silent() -> None:
    for samples in (SPEECH[:1599], np.full(5000, np.nan, np.float32)):
        assert changed(samples, 1) is samples
    assert not changed(np.zeros(RATE, np.float32), 3).any()


def test_a_telephone_passes_300_to_3400_hz() -> None:
    white = np.random.default_rng(0).normal(0, 0.1, RATE)
    line = telephone(white)
    assert len(line) == len(white)
    power, frequencies = np.abs(np.fft.rfft(line)) ** 2, np.fft.rfftfreq(len(line), 1 / RATE)
    assert power[(frequencies >= 250) & (frequencies < 3500)].sum() > 0.99 * power.sum()
    assert np.corrcoef(telephone(SPEECH.astype(float)), SPEECH)[0, 1] > 0.5


def test_a_room_rings_after_the_sound() -> None:
    click = np.zeros(RATE)
    click[1000] = 1.0
    heard = in_room(click, np.random.default_rng(0))
    assert heard[1000] == pytest.approx(1.0)
    assert not np.abs(heard[:1000]).max() > 1e-9
    tail = heard[1001:]
    assert -25 < 10 * np.log10((tail**2).sum()) < -7
    assert (tail[:1500] ** 2).sum() > 10 * (tail[-1500:] ** 2).sum()


def test_noise_has_unit_level_and_an_equaliser_changes_bands_smoothly() -> None:
    random = np.random.default_rng(0)
    assert np.sqrt(np.mean(noise(RATE, random) ** 2)) == pytest.approx(1)
    white = random.normal(0, 0.1, RATE)
    ratio = np.abs(np.fft.rfft(equalised(white, random))) / np.abs(np.fft.rfft(white))
    assert np.abs(np.diff(20 * np.log10(ratio[1:-1]))).max() < 1
    assert 20 * np.log10(ratio.max() / ratio.min()) > 3
