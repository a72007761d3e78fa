"""The starter abstains on what is no voice, and answers real speech."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import KINDS, RATE

import unheard


def test_sounds_without_a_voice_get_no_confident_answer() -> None:
    recogniser = unheard.load("starter")
    confident = []
    for kind in KINDS:
        for seed in range(5):
            sound = kind(np.random.default_rng(seed))
            found = recogniser.predict((0.5 * sound / np.abs(sound).max()).astype(np.float32))
            if max(found.probabilities.values(), default=0) > 0.6:
                confident.append((kind.__name__, seed))
    assert len(confident) <= 0.05 * 5 * len(KINDS), confident
    assert all(count <= 2 for count in Counter(name for name, _ in confident).values()), confident


def short_sound(draw: np.random.Generator) -> np.ndarray:
    """A tone, string or noise of 0.4 to 0.9 s, steady, fading or struck."""
    time = np.arange(round(RATE * draw.uniform(0.4, 0.9))) / RATE
    kind = draw.integers(3)
    if kind == 2:
        sound = draw.standard_normal(len(time))
    else:
        phase = 2 * np.pi * draw.uniform(100, 1500) * time
        sound = sum(np.sin(k * phase) / k for k in range(1, (1, 9)[kind] + 1))
    envelope = (np.ones(len(time)), np.hanning(len(time)), np.exp(-time * draw.uniform(3, 12)))[draw.integers(3)]
    found = sound * envelope + 1e-4 * draw.standard_normal(len(time))
    return (draw.uniform(0.1, 0.8) * found / np.abs(found).max()).astype(np.float32)


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_short_sounds_without_a_voice_are_not_answered(pause: float) -> None:
    recogniser = unheard.load("starter")
    answered = []
    for seed in range(60):
        sound = np.pad(short_sound(np.random.default_rng(seed)), round(pause * RATE))
        if recogniser.predict(sound).label is not None:
            answered.append(seed)
    assert len(answered) <= 3, answered


def recordings(folder: Path, most: int) -> list[tuple[np.ndarray, int]]:
    files = sorted(path for path in folder.rglob("*.*") if path.suffix in (".wav", ".flac", ".ogg"))
    return [soundfile.read(path, dtype="float32") for path in files[:: len(files) // most]]


@pytest.mark.parametrize("name", ["emodb", "ravdess", "ased", "nemo"])
def test_real_speech_is_answered_short_loud_and_quiet(name: str, corpora: Path) -> None:
    recogniser, draw, left_out, count = unheard.load("starter"), np.random.default_rng(1), 0, 0
    for samples, rate in recordings(corpora / name, 40):
        length = round(rate * draw.uniform(0.4, 0.9))
        energy = np.cumsum(np.square(samples, dtype=np.float64))
        loudest = int((energy[length:] - energy[:-length]).argmax())
        reason = recogniser.predict(samples[loudest : loudest + length], sample_rate=rate).abstained or ""
        count += not reason.startswith("too little")
        left_out += "no voice" in reason
    assert left_out <= 0.05 * count, (left_out, count)
    for gain in (1.0, 0.1):
        found = [recogniser.predict(gain * one, sample_rate=rate) for one, rate in recordings(corpora / name, 12)]
        assert len(found) >= 12
        assert sum(one.label is None for one in found) <= 1
