"""Reading recordings: formats, rates, channels, stretches, and every kind of bad file."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import encoded, tone

from unheard.audio import Mix, info, read_audio, read_recording, select_channel, to_float
from unheard.errors import AudioError


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_16", 1e-4), ("wav", "PCM_U8", 1e-2), ("wav", "PCM_24", 1e-6), ("wav", "PCM_32", 1e-6),
        ("wav", "FLOAT", 1e-7), ("wav", "DOUBLE", 1e-7), ("wav", "ULAW", 2e-2), ("flac", "PCM_16", 1e-4),
        ("flac", "PCM_24", 1e-6), ("aiff", "PCM_16", 1e-4), ("ogg", "VORBIS", 5e-2), ("mp3", None, 5e-2),
    ],
)  # fmt: skip
def test_every_format_gives_the_same_samples(
    tmp_path: Path, suffix: str, subtype: str | None, tolerance: float
) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(), 16_000, subtype=subtype)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    middle = slice(4000, 12_000)  # lossy codecs smear the edges
    if suffix == "mp3":  # which also delay
        assert abs(len(samples) - 16_000) < 3000
        assert np.sqrt(np.mean(samples[middle] ** 2)) == pytest.approx(0.4 / np.sqrt(2), abs=0.02)
    else:
        assert samples.shape == (16_000,)
        np.testing.assert_allclose(samples[middle], tone()[middle], atol=tolerance)


@pytest.mark.parametrize("rate", [4000, 8000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_every_rate_is_resampled(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(rate=rate), rate, subtype="PCM_U8" if rate == 4000 else "PCM_16")
    samples = read_audio(path)
    assert abs(len(samples) - 16_000) <= 4
    n = min(len(samples), 16_000)
    np.testing.assert_allclose(samples[2000 : n - 2000], tone()[2000 : n - 2000], atol=2e-2)


def test_long_recordings_are_resampled_in_blocks_to_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(3.0, 44_100), 44_100)
    whole = read_recording(path)
    monkeypatch.setattr("unheard.audio._BLOCK", 10_007)
    blocks = read_recording(path)
    assert abs(len(blocks.samples) - len(whole.samples)) <= 1
    n = min(len(blocks.samples), len(whole.samples))
    np.testing.assert_allclose(blocks.samples[:n], whole.samples[:n], atol=1e-5)
    assert blocks.digest == whole.digest


def test_channels(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    left, right = tone(hz=300), tone(hz=700)
    soundfile.write(path, np.stack([left, right], 1), 16_000, subtype="FLOAT")
    for channel, expected in {"left": left, "right": right, 2: right, "mix": (left + right) / 2}.items():
        np.testing.assert_allclose(read_audio(path, channel=channel), expected, atol=1e-7)
    for wrong in (3, "middle", "each", 0):
        with pytest.raises(AudioError, match="channel"):
            read_audio(path, channel=wrong)
    soundfile.write(path, np.stack([tone() * k / 8 for k in range(8)], 1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path, channel="8"), tone() * 7 / 8, atol=1e-7)
    assert info(path).channels == 8


def test_channels_that_cancel_each_other_are_no_silence(tmp_path: Path) -> None:
    path = tmp_path / "balanced.wav"
    soundfile.write(path, np.stack([tone(), -0.999 * tone()], axis=1), 16_000)
    with pytest.raises(AudioError, match=r"balanced.wav: its channels cancel each other out.*Choose one channel"):
        read_audio(path)
    np.testing.assert_allclose(read_audio(path, channel="left"), tone(), atol=1e-4)
    with pytest.raises(AudioError, match=r"the samples: its channels cancel"):
        select_channel(np.stack([tone(), -tone()], axis=1), "mix")


@pytest.mark.parametrize("size", [1, 160, 5000])
def test_whether_channels_cancel_does_not_depend_on_the_blocks(size: int) -> None:
    samples = np.stack([tone(), -tone()], axis=1)[:5000]
    mix, fine = Mix(None, "a pipe"), Mix(None, "a pipe")
    for first in range(0, len(samples), size):
        assert not mix(samples[first : first + size]).any()
        fine(np.abs(samples[first : first + size]))
    with pytest.raises(AudioError, match="a pipe: its channels cancel each other out"):
        mix.check()
    fine.check()
    Mix(None).check()  # of nothing
    mix(np.zeros((size, 3), np.float32))  # samples with other channels follow
    mix.check()


def test_what_only_sounds_like_cancelling(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((2, 16_000)).astype(np.float32)
    fine = {
        "one side silent": np.stack([tone(), 0 * tone()]),
        "upside down, but not the same": np.stack([tone(), 0.1 * noise[0] - tone()]),
        "silence on both sides": np.stack([1e-4 * tone(), -1e-4 * tone()]),
        "too short to tell": np.stack([tone(0.1), -tone(0.1)]),
        "two persons": noise,
    }
    for what, samples in fine.items():
        mixed = select_channel(np.ascontiguousarray(samples.T), "mix")
        np.testing.assert_allclose(mixed, samples.mean(axis=0), atol=1e-6, err_msg=what)


def test_a_stretch(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(2.0), 16_000)
    whole = read_audio(path)
    np.testing.assert_array_equal(read_audio(path, start=0.5, end=1.25), whole[8000:20_000])
    assert len(read_audio(path, start=1.5, end=2.05)) == 8000, "annotations may pass the end a little"
    for stretch, message in (
        ({"end": 2.5}, r"ends at 2\.00 s"),
        ({"start": 2.5, "end": 3.0}, r"ends at|before the stretch"),
        ({"start": 1.0, "end": 1.0}, "empty"),
        ({"longest": 1.0}, "longer"),
    ):
        with pytest.raises(AudioError, match=message):
            read_audio(path, **stretch)


def test_info_and_file_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.5, 8000), 8000)
    assert (info(path).seconds, info(path).sample_rate) == (1.5, 8000)
    np.testing.assert_array_equal(read_audio(io.BytesIO(path.read_bytes())), read_audio(path))
    with pytest.raises(AudioError, match="as audio"):
        read_audio(io.BytesIO(b"not audio at all"))


def test_the_digest_is_of_the_sound_not_of_the_file(tmp_path: Path) -> None:
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, (tone() * 32_767).astype(np.int16), 16_000)
    soundfile.write(tmp_path / "c.wav", (tone() * -32_767).astype(np.int16), 16_000)
    a, b, c = (read_recording(tmp_path / name).digest for name in ("a.wav", "b.flac", "c.wav"))
    assert a == b != c


def test_bad_files_say_what_and_how_to_mend(tmp_path: Path) -> None:
    whole = encoded(tone(), format="WAV", subtype="PCM_16")
    flac = encoded(np.random.default_rng(0).normal(0, 0.1, 160_000), format="FLAC")
    cases = {
        "empty.wav": (b"", "empty"),
        "text.wav": (b"this is a text and no sound at all", "as audio.*it is text: 'this is"),
        "header.wav": (whole[:44], "no samples"),
        "cut.wav": (whole[:20_000], "cut short"),
        "cut.flac": (flac[:100_000], r"breaks off after \d\.\d\d s"),
        "short_header.wav": (whole[:20], "as audio"),
        "phone.m4a": (b"\0\0\0\x20ftypM4A " + bytes(100), "ffmpeg -i"),
        "browser.webm": (b"\x1aE\xdf\xa3" + bytes(100), "ffmpeg -i"),
        "renamed.wav": (b"\0\0\0\x20ftypM4A " + bytes(100), "ffmpeg -i"),
        "raw.raw": (bytes(1000), "as audio"),
        **{
            f"{rate}.wav": (whole[:24] + struct.pack("<I", rate) + whole[28:], message)
            for rate, message in ((1, "too low to carry"), (3999, "too low to carry"), (2**31 - 1, "too high"))
        },
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudioError, match=message) as caught:
            read_audio(tmp_path / name)
        assert caught.value.mend, name
        assert name in str(caught.value)
    for path, message in ((tmp_path / "nowhere.wav", "no such file"), (tmp_path, "folder")):
        with pytest.raises(AudioError, match=message):
            read_audio(path)
    assert len(read_audio(tmp_path / "cut.wav", end=0.5)) == 8000, "part of a cut file can still be named"


WHOLE = [
    ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("NIST", "PCM_16"), ("VOC", "PCM_16"),
    ("CAF", "PCM_16"), ("WAVEX", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "subtype"), WHOLE)
def test_a_cut_file_of_any_format_is_not_taken_for_a_whole_one(tmp_path: Path, format: str, subtype: str) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 9 * 16_000)
    content = encoded(samples, format=format, subtype=subtype)
    assert len(read_audio(io.BytesIO(content))) == pytest.approx(len(samples), abs=2000)
    cut = tmp_path / "cut"
    cut.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(AudioError, match=r"cut short|malformed|breaks off"):
        read_audio(cut)


def test_a_stretch_of_a_coding_that_cannot_be_entered_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "gsm.wav"
    soundfile.write(path, np.tile(tone(), 3), 8000, format="WAV", subtype="GSM610")
    whole = read_audio(path, sample_rate=8000)
    np.testing.assert_array_equal(read_audio(path, start=1.5, end=2.25, sample_rate=8000), whole[12_000:18_000])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * 32_768, "too large"),
        *(
            (lambda x, bad=bad: np.where(np.arange(len(x)) == 777, bad, x), "not numbers")
            for bad in (np.nan, np.inf, -np.inf)
        ),
    ],
)
def test_floats_at_another_scale_or_no_numbers_are_refused(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    soundfile.write(tmp_path / "a.wav", change(tone()), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=rf"a\.wav.*{message}"):
        read_audio(tmp_path / "a.wav")


def test_integers_are_divided_by_their_full_scale() -> None:
    np.testing.assert_array_equal(to_float(np.array([-32_768, 0, 16_384], np.int16)), [-1, 0, 0.5])
    np.testing.assert_array_equal(to_float(np.array([0, 128, 192], np.uint8)), [-1, 0, 0.5])
    for wrong in (np.zeros((2, 2, 2)), np.zeros(5, complex), np.ma.masked_greater(tone(), 0.3), np.zeros((1000, 0))):
        with pytest.raises(AudioError, match=r"not audio|have 0 channels"):
            to_float(wrong)
