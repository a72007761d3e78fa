"""The starter abstains on what is no voice, and answers real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import KINDS

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


@pytest.mark.parametrize("name", ["emodb", "ravdess", "ased", "nemo"])
def test_real_speech_is_answered_loud_and_quiet(name: str, corpora: Path) -> None:
    recogniser = unheard.load("starter")
    files = sorted(path for path in (corpora / name).rglob("*.*") if path.suffix in (".wav", ".flac", ".ogg"))
    files = files[:: len(files) // 25]
    for gain in (1.0, 0.1):
        left_out = []
        for path in files:
            samples, rate = soundfile.read(path, dtype="float32")
            if "no voice" in (recogniser.predict(gain * samples, sample_rate=rate).abstained or ""):
                left_out.append(path.name)
        assert len(left_out) <= 1, left_out
