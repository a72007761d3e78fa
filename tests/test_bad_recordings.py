"""Whatever is wrong with a recording: an answer, or an error that says what and how to mend it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import RATE, encoded, murmur

import unheard
from unheard.audio import read_audio
from unheard.errors import AudioError, TooLongError, UnheardError
from unheard.recogniser import OnnxModel, Recogniser
from unheard.samples import samples

RECOGNISER = Recogniser(OnnxModel(tiny_model.tiny_proto().SerializeToString(), "tiny"))


@given(st.binary(max_size=200), st.integers(0, 3000), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_damage_anywhere_is_survived(tail: bytes, at: int, value: int) -> None:
    content = bytearray(encoded(murmur(0.1)))
    content[at % len(content)] = value
    for broken in (tail, bytes(content), bytes(content[:at]) + tail):
        try:
            found = RECOGNISER.predict(io.BytesIO(broken), longest=60)
        except UnheardError:
            continue
        assert found.abstained or sum(found.probabilities.values()) == pytest.approx(1, abs=1e-3)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    path = tmp_path / "bomb.flac"
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(60):
            file.write(np.zeros(8000 * 60, np.int16))
    assert path.stat().st_size < 1_000_000  # an hour
    heard: list[float] = []
    with pytest.raises(TooLongError, match=r"longer \(1\.0 h\)"):
        RECOGNISER.predict(path, longest=900, progress=heard.append)
    assert not heard


@pytest.mark.parametrize(
    "given_settings",
    [
        {"pitch": True},
        {"kind": "fbank", "mel_bins": 40, "pitch": True, "log_pitch": "both"},
        {"kind": "functionals", "mel_bins": 40, "cepstra": 21},
        {
            **{"kind": "fbank", "energy": True, "pitch": True, "log_pitch": "both", "deltas": 0},
            **{"thin": 2, "summary": True, "mel_bins": 40, "cepstra": 21},
        },
        {"sample_rate": 8000, "vad": "none"},
    ],
    ids=["pitch", "fbank", "functionals", "summary", "8 kHz"],
)
def test_every_kind_of_features_at_every_length(given_settings: dict[str, object]) -> None:
    proto = tiny_model.tiny_proto(settings=unheard.FeatureSettings(**given_settings))
    recogniser = Recogniser(OnnxModel(proto.SerializeToString(), "tiny"))
    speech = read_audio(samples()[0].path, sample_rate=RATE)[2 * RATE :]  # noise is not answered where there is pitch
    for length in (1, 199, 200, 399, 400, 401, 700, 1600, 4801, 9000, 20_000):
        found = recogniser.predict(speech[:length], sample_rate=RATE)
        assert (found.label is None) == (length < 9000)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (np.zeros((2, 16_000), np.float32), r"\(2, 16000\) have 16000 channels"),
        (np.arange(16_000), "unknown full scale"),
        ([0.0, 0.1, 0.2], "a float is not audio"),
    ],
)
def test_samples_that_are_something_else_are_refused_with_the_mend(samples: object, says: str) -> None:
    with pytest.raises(AudioError, match=says) as refused:
        unheard.load("starter").predict(samples)
    assert refused.value.mend
