"""MP3s that end too early: those with a table of their length say so, those without cannot."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.audio import read_audio
from unheard.decoding import has_length_table
from unheard.errors import AudioError

NOISE = (0.1 * np.random.default_rng(0).standard_normal(8 * 16_000)).astype(np.float32)


def mp3(mode: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, NOISE, 16_000, format="MP3", bitrate_mode=mode)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)])
def test_a_cut_mp3_with_a_table_is_not_taken_for_a_whole_one(tmp_path: Path, mode: str, tag: bytes) -> None:
    content = tag + mp3(mode)
    assert has_length_table(io.BytesIO(content))
    whole, cut = tmp_path / "whole.mp3", tmp_path / "cut.mp3"
    whole.write_bytes(content)
    assert len(read_audio(whole)) == pytest.approx(len(NOISE), abs=3000)
    for share in (0.5, 0.9, 0.97):
        cut.write_bytes(content[: round(share * len(content))])
        for source in (cut, io.BytesIO(cut.read_bytes())):
            with pytest.raises(AudioError, match="is cut short"):
                read_audio(source)
        with pytest.raises(AudioError, match="is cut short"):
            read_audio(cut, start=1.0, end=7.95)
        assert len(read_audio(cut, start=0.5, end=3.0)) == 40_000  # what is there can be named


def test_an_mp3_without_a_table_has_a_length_that_is_a_guess(tmp_path: Path) -> None:
    content = mp3("CONSTANT")
    place = max(content.find(word) for word in (b"Xing", b"Info"))
    bare = content[content.index(content[:2], place) :]  # from the second frame on
    assert not has_length_table(io.BytesIO(bare))
    path = tmp_path / "bare.mp3"
    path.write_bytes(bare[: len(bare) // 2])
    assert len(read_audio(path))
