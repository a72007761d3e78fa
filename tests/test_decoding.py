"""Recordings whose headers do not say what is there, joined and cut files, and codings that libsndfile lacks."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sounds import RATE, encoded

from unheard import streams
from unheard.audio import info, read_audio
from unheard.decoding import open_audio
from unheard.errors import AudioError
from unheard.streams import has_length_table

SAMPLES = (0.1 * np.sin(np.arange(32_000) / 20)).astype(np.float32)
NOISE = (0.1 * np.random.default_rng(0).standard_normal(8 * 16_000)).astype(np.float32)


def with_bytes(content: bytes, changes: dict[int, bytes]) -> bytes:
    for at, new in changes.items():
        content = content[:at] + new + content[at + len(new) :]
    return content


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


FLAC, WAV, AIFF, RF64, CAF, AU = (
    encoded(SAMPLES, format=format, subtype="PCM_16") for format in ("FLAC", "WAV", "AIFF", "RF64", "CAF", "AU")
)
STREAMED = with_bytes(FLAC, {21: bytes([FLAC[21] & 0xF0]), 22: bytes(4)})
NOTE = chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"no metadata\0\0\0\0\0"))
RIFX = b"RIFX" + bytes(4) + b"WAVEfmt " + struct.pack(">IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
UNFINISHED = {
    "FLAC with 0 samples stated": STREAMED,
    "FLAC with half of the samples stated": with_bytes(FLAC, {22: struct.pack(">I", 16_000)}),
    "WAV": with_bytes(WAV, {4: bytes(4), 40: bytes(4)}),
    "WAV written to a pipe": with_bytes(WAV, {40: b"\xff" * 4}),
    "WAV of half a second": with_bytes(WAV, {4: struct.pack("<I", 16_036), 40: struct.pack("<I", 16_000)}),
    "WAV after a long chunk": WAV[:12] + chunk(b"bext", bytes(6000)) + with_bytes(WAV[12:], {28: bytes(4)}),
    "WAV after a note of the word": WAV[:36] + NOTE + with_bytes(WAV[36:], {4: bytes(4)}),
    "WAV of big-endian samples": RIFX + b"data" + bytes(4) + np.frombuffer(WAV[44:], "<i2").astype(">i2").tobytes(),
    "AIFF of 0": with_bytes(AIFF, {AIFF.index(b"SSND") + 4: struct.pack(">I", 0)}),
    "AIFF of 8": with_bytes(AIFF, {AIFF.index(b"SSND") + 4: struct.pack(">I", 8)}),
    "RF64 of 0": with_bytes(RF64, {RF64.index(b"ds64") + 8: bytes(24)}),
    "RF64 of unknown length": with_bytes(RF64, {RF64.index(b"ds64") + 8: b"\xff" * 24}),
    "CAF of 0": with_bytes(CAF, {CAF.index(b"data") + 4: bytes(8)}),
    "CAF of unknown length": with_bytes(CAF, {CAF.index(b"data") + 4: b"\xff" * 8}),
    "AU of 0": with_bytes(AU, {8: bytes(4)}),
}


@pytest.mark.parametrize("content", UNFINISHED.values(), ids=UNFINISHED.keys())
def test_lengths_that_were_never_filled_in(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        np.testing.assert_allclose(read_audio(source), SAMPLES, atol=1e-3)
    np.testing.assert_allclose(read_audio(path, start=0.5, end=1.5), SAMPLES[8000:24_000], atol=1e-3)


@pytest.mark.parametrize("tail", [chunk(b"LIST", b"INFO" + bytes(5000)), bytes(6000), b"TAG" + bytes(6000)])
def test_what_follows_the_samples_is_no_sound(tail: bytes) -> None:
    assert len(read_audio(io.BytesIO(WAV + tail))) == len(SAMPLES)
    odd = encoded(SAMPLES[:31_999], subtype="PCM_U8")[: 44 + 31_999]  # without the zero that makes it even
    assert len(read_audio(io.BytesIO(odd + tail))) == 31_999
    ogg = encoded(NOISE, format="OGG")
    assert len(read_audio(io.BytesIO(ogg + tail))) == len(read_audio(io.BytesIO(ogg + ogg + tail))) / 2 == len(NOISE)
    with pytest.raises(AudioError, match="is cut short"):
        read_audio(io.BytesIO(ogg[:-200] + tail))


def test_a_recording_without_samples_does_not_read_the_chunk_behind_them() -> None:
    with pytest.raises(AudioError, match="holds no samples"):
        read_audio(io.BytesIO(with_bytes(WAV[:44], {40: bytes(4)}) + NOTE))


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "RF64"])
def test_joined_recordings_are_read_to_the_end(format: str, tmp_path: Path) -> None:
    first, second = (encoded(samples, format=format) for samples in (SAMPLES, SAMPLES[::-1].copy()))
    path = tmp_path / "joined"
    path.write_bytes(first + second + first)
    parts = [read_audio(io.BytesIO(part)) for part in (first, second, first)]
    whole = np.concatenate(parts)
    for source in (path, io.BytesIO(path.read_bytes())):
        np.testing.assert_array_equal(read_audio(source), whole)
    middle = read_audio(path, start=2.5, end=3.5)[6000:]  # an MP3 decoder needs some frames to settle
    np.testing.assert_allclose(middle, whole[46_000:56_000], atol=1e-2)
    assert info(path).seconds == pytest.approx(6, abs=0.2)


def test_joined_recordings_of_different_rates_or_cut_ones_are_refused() -> None:
    with pytest.raises(AudioError, match="different sample rates"):
        read_audio(io.BytesIO(FLAC + encoded(SAMPLES, 8000, "FLAC")))
    ogg = encoded(NOISE, format="OGG")
    with pytest.raises(AudioError, match="is cut short"):
        read_audio(io.BytesIO(ogg + ogg[: len(ogg) // 2]))


def test_what_a_malicious_file_can_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that all name one chain of tags, a stream full of what begins a frame, and thousands of tiny streams."""
    calls = {"_length_of_tag": 0, "_crc8": 0}
    for name, function in [(name, getattr(streams, name)) for name in calls]:

        def counted(data: bytes, name: str = name, function: Callable[[bytes], int] = function) -> int:
            calls[name] += 1
            return function(data)

        monkeypatch.setattr(streams, name, counted)
    table = b"\xff\xfb\x90\x00" + bytes(9) + b"Xing" + struct.pack(">II", 3, 1)
    tables = b"".join(table + struct.pack(">I", 29 * left) for left in range(500, 0, -1))
    streams.streams_of(io.BytesIO(tables + b"ID3\4\0\0\0\0\0\0" * 500))
    streams.streams_of(io.BytesIO(FLAC[:42] + b"\xff\xf8" * 10_000))
    assert calls["_length_of_tag"] < 2000
    assert calls["_crc8"] <= 20
    with pytest.raises(AudioError, match="joins 1,001 recordings, more than the 1,000"):
        info(io.BytesIO(encoded(SAMPLES[:16], format="FLAC") * 1001))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_in_a_table_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="named pipe"):
        info(tmp_path / "a.wav")


def test_joined_recordings_without_lengths_of_their_own() -> None:
    for content in (STREAMED + FLAC, FLAC + STREAMED + STREAMED):
        assert len(read_audio(io.BytesIO(content))) == content.count(b"fLaC") * len(SAMPLES)
    mp3 = encoded(SAMPLES, format="MP3")
    tag = b"TAG" + bytes(125) + b"ID3\x04\0\0\0\0\x01\0" + bytes(128)
    for content in (mp3 + without_table(mp3), mp3 + tag + without_table(mp3), without_table(mp3) + mp3):
        assert len(read_audio(io.BytesIO(content))) == pytest.approx(2 * len(SAMPLES), abs=3000)
    table = encoded(NOISE, format="MP3")
    unfinished = with_bytes(table, {table.index(b"Xing") + 8: bytes(8)})  # no frames, no bytes
    assert len(read_audio(io.BytesIO(unfinished))) == pytest.approx(len(NOISE), abs=3000)


def without_table(mp3: bytes) -> bytes:
    """From the second frame on."""
    return mp3[mp3.index(mp3[:2], max(mp3.find(word) for word in (b"Xing", b"Info"))) :]


def converted(tmp_path: Path, name: str, rate: int = 16_000) -> Path:
    av = pytest.importorskip("av", reason="needs PyAV (extra `media`)")
    path = tmp_path / name
    codec = {"m4a": "aac", "aac": "aac", "webm": "libopus", "mp2": "mp2", "wav": "g722"}[name.partition(".")[2]]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=48_000 if codec == "libopus" else rate)
        stream.layout = "mono" if codec == "g722" else "stereo"
        frame = av.AudioFrame.from_ndarray((32767 * SAMPLES).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        resampler = av.AudioResampler(stream.format, stream.layout, stream.rate, stream.codec_context.frame_size or 960)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["a.m4a", "a.aac", "a.webm", "a.wav", "a.mp2"])
def test_codings_that_libsndfile_lacks_are_read_by_pyav_if_they_are_whole(name: str, tmp_path: Path) -> None:
    path = converted(tmp_path, name)
    content = path.read_bytes()
    for source in (path, io.BytesIO(content)):
        samples = read_audio(source)
        assert len(samples) == pytest.approx(32_000, abs=4000)
        assert np.abs(samples).max() == pytest.approx(0.1, abs=0.03)
    for source in (path, io.BytesIO(content + content)):
        path.write_bytes(content + content)
        if name == "a.aac":  # another sample rate; and under the name of an MP3, which libsndfile would believe
            with pytest.raises(AudioError, match="different sample rates"):
                read_audio(io.BytesIO(content + converted(tmp_path, "b.aac", 32_000).read_bytes()))
            assert len(read_audio(path.rename(tmp_path / "a.mp3"))) == pytest.approx(64_000, abs=8000)
        elif name in ("a.m4a", "a.wav"):  # of which decoders read the first alone
            with pytest.raises(AudioError, match="joins several recordings"):
                read_audio(source)
        else:
            assert len(read_audio(source)) == pytest.approx(64_000, abs=8000)
    if name != "a.mp2":  # which says nowhere how long it is
        path.write_bytes(content[: len(content) * 6 // 10])
        with pytest.raises(AudioError, match=r"is cut short|breaks off|which failed.*if it is cut"):
            read_audio(path)


def test_tracks_that_would_not_be_heard_are_refused(tmp_path: Path) -> None:
    path = converted(tmp_path, "a.m4a")
    with pytest.raises(AudioError, match="which failed"):
        read_audio(io.BytesIO(path.read_bytes().replace(b"mp4a", b"ac-4").replace(b"esds", b"free")))  # not decoded
    av = pytest.importorskip("av")
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mkv"), "w") as out:
        tracks = [out.add_stream_from_template(source.streams.audio[0]) for _ in range(2)]
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = tracks[0]
                out.mux(packet)
    with pytest.raises(AudioError, match="holds 2 sound tracks"):
        read_audio(tmp_path / "b.mkv")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x20ftypM4A ", "MP4 or M4A"),
        (b"\x1aE\xdf\xa3", "WebM or Matroska"),
        (b"#!AMR\n", "AMR"),
        (b"RIFF\0\0\0\0WAVEfmt \x12\0\0\0\x8f\x02", "G.722"),
        (b"RIFF\0\0\0\0WAVEfmt \x12\0\0\0\x45\x00", "G.726"),
        (b"OggS\0\x02" + bytes(22) + b"\x01\x50Speex   1.2.1", "Speex"),
        (b"OggS\0\x02" + bytes(22) + b"\x01\x33\x7fFLAC\x01", "FLAC in Ogg"),
    ],
)
def test_codings_are_named_with_the_conversion(
    head: bytes, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unheard.decoding._open_converted", lambda path: None)
    monkeypatch.setattr("unheard.decoding.can_convert", lambda: False)
    path = tmp_path / "a.bin"
    path.write_bytes(head + bytes(200))
    with pytest.raises(AudioError, match=f"{name} needs a conversion first.*ffmpeg -i"):
        read_audio(path)


def without_pyav(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.modules['av'] = None; import unheard.audio as a; print(len(a.read_audio({str(path)!r})))"
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)


def test_without_pyav_and_ffmpeg_the_conversion_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(99))
    done = without_pyav(path, PATH=str(Path(sys.executable).parent))
    assert "MP4 or M4A needs a conversion first" in done.stderr


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_ffmpeg_reads_them_where_pyav_is_absent(tmp_path: Path) -> None:
    assert int(without_pyav(converted(tmp_path, "a.m4a")).stdout) == pytest.approx(32_000, abs=4000)


def test_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(AudioError, match="Git LFS pointer"):
        open_audio(path)


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)])
def test_a_cut_mp3_with_a_table_is_not_taken_for_a_whole_one(tmp_path: Path, mode: str, tag: bytes) -> None:
    content = tag + encoded(NOISE, format="MP3", bitrate_mode=mode)
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


@pytest.mark.parametrize("format", ["AVR", "SVX", "MAT4", "MAT5", "MPC2K", "NIST", "W64", "WVE"])
def test_a_cut_file_of_any_format_says_how_much_is_missing(tmp_path: Path, format: str) -> None:
    content = encoded(NOISE, 8000 if format == "WVE" else RATE, format=format)
    path = tmp_path / f"cut.{format.lower()}"
    path.write_bytes(content[: len(content) // 2])
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(AudioError, match=r"is cut short: it holds \d+\.\d\d s of (8|16)\.00 s"):
            read_audio(source)
    assert len(read_audio(io.BytesIO(content), sample_rate=info(io.BytesIO(content)).sample_rate)) == len(NOISE)


@pytest.mark.parametrize("format", ["IRCAM", "PAF", "PVF", "XI"])
def test_formats_that_do_not_say_how_long_they_are_are_refused(format: str) -> None:
    with pytest.raises(AudioError, match=f"{format} file, and this format does not show whether a file is cut short"):
        read_audio(io.BytesIO(encoded(NOISE, format=format)))


def test_an_mp3_without_a_table_is_read_to_the_end(tmp_path: Path) -> None:
    """libsndfile takes the rate of its first frame for that of all: it would read half of the noise, in silence."""
    bare = without_table(encoded(NOISE, format="MP3"))
    assert not has_length_table(io.BytesIO(bare))
    path = tmp_path / "bare.mp3"
    for content, seconds in ((bare, 8), (b"ID3\x04\0\0\0\0\x01\0" + bytes(128) + bare, 8), (bare[: len(bare) // 2], 4)):
        path.write_bytes(content)
        assert len(read_audio(path)) / 16_000 == pytest.approx(seconds, abs=0.15)
        assert info(path).seconds == pytest.approx(seconds, abs=0.15)
    assert len(read_audio(path, start=1.0, end=2.0)) == 16_000
