"""`unheard listen`: raw samples from a pipe, and a microphone that is made up."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from sounds import RATE, call, murmur

import unheard
from unheard.cli import main
from unheard.errors import AudioError, ConfigError, MissingExtra
from unheard.recogniser.microphone import Microphone
from unheard.recogniser.sources import FORMATS, pcm_blocks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model.write_tiny(tmp_path_factory.mktemp("model") / "model.onnx"))


class Trickle(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        super().__init__(content)
        self._sizes = sizes or [1 << 16]
        self._turn = 0

    def read1(self, size: int | None = -1, /) -> bytes:
        self._turn += 1
        return self.read(self._sizes[self._turn % len(self._sizes)])


def as_bytes(samples: np.ndarray, format: str) -> bytes:
    if format == "f32le":
        return samples.astype("<f4").tobytes()
    bits = int(format[1:3].rstrip("lb"))
    whole = np.round(samples.astype(np.float64) * 2 ** (bits - 1)).astype(np.int64)
    if format == "u8":
        return (whole + 128).astype(np.uint8).tobytes()
    order = "big" if format.endswith("be") else "little"
    return b"".join(int(value).to_bytes(bits // 8, order, signed=True) for value in whole.reshape(-1))


@given(st.lists(st.integers(1, 999), max_size=6), st.sampled_from(sorted(FORMATS)))
def test_every_sample_format_in_pieces_of_any_size(sizes: list[int], format: str) -> None:
    samples = np.array([[0.5, -0.25], [0.0, 0.75], [-1.0, 0.125]] * 50, np.float32)
    pipe = as_bytes(samples, format)
    for channel, expected in (("left", samples[:, 0]), ("2", samples[:, 1]), ("mix", samples.mean(axis=1))):
        blocks = list(pcm_blocks(Trickle(pipe + b"\0", sizes), format, channels=2, channel=channel))
        np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-7)


def test_pipes_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="Did you mean 's16le'"):
        pcm_blocks(io.BytesIO(), "s16")
    with pytest.raises(ConfigError, match="0 channels"):
        pcm_blocks(io.BytesIO(), channels=0)
    with pytest.raises(AudioError, match="has 1 channel, not a channel 'right'"):
        pcm_blocks(io.BytesIO(), channel="right")
    with pytest.raises(AudioError, match="an audio file with a header"):
        list(pcm_blocks(io.BytesIO(b"RIFF\x24\0\0\0WAVEfmt ")))
    with pytest.raises(AudioError, match="not numbers"):
        list(pcm_blocks(io.BytesIO(np.array([np.nan], "<f4").tobytes()), "f32le"))


def test_a_pipe_says_what_the_file_says(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = (call() * 32_767).astype("<i2")
    expected = [segment.as_dict() for segment in unheard.load(model).predict(samples).segments]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(samples.tobytes())))
    assert main(["listen", model, "--pcm", "-", "--rate", "16000", "--format", "s16le", "--jsonl"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == expected
    path = tmp_path / "call.pcm"
    path.write_bytes(samples.tobytes())
    assert main(["listen", model, "--pcm", str(path), "--jsonl", "--partial"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ended = [{k: v for k, v in line.items() if k != "final"} for line in lines if line["final"]]
    assert ended == expected
    assert len(lines) > len(ended)
    assert main(["listen", model, "--pcm", str(path), "--adapt"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) >= 3
    assert "adapting" in err
    assert "20.0 s, " in err


def test_segments_are_printed_while_the_pipe_is_open(model: str) -> None:
    samples = np.concatenate([murmur(4), np.zeros(8 * RATE, np.float32)])
    command = [sys.executable, "-m", "unheard", "listen", model, "--pcm", "-", "--format", "f32le", "--jsonl"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write(samples.tobytes())
        running.stdin.flush()
        first = json.loads(running.stdout.readline())
        assert (first["start"], first["end"]) == (0.0, 4.0)
        running.stdin.close()
        assert json.loads(running.stdout.readline())["abstained"] == "no speech"
        assert running.wait(timeout=30) == 0


def test_nothing_in_the_pipe(model: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert main(["listen", model, "--pcm", str(tmp_path / "empty")]) == 2
    assert "nothing was heard" in capsys.readouterr().err
    assert main(["listen", model, "--pcm", str(tmp_path / "missing")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert main(["listen", model, "--pcm", "-", "--rate", "1"]) == 2
    assert "sample rate of 1 Hz" in capsys.readouterr().err


# a microphone


class MadeUpStream:
    """Plays `SOUND` in blocks from a thread of its own, as PortAudio does."""

    sound = murmur(5)
    rates = (16_000,)

    def __init__(self, samplerate, blocksize, callback, finished_callback, **options) -> None:  # type: ignore[no-untyped-def]
        if samplerate not in self.rates:
            raise MadeUpError("Invalid sample rate [PaErrorCode -9997]")
        self.rate, self.block = samplerate, blocksize
        self.callback, self.finished, self.options = callback, finished_callback, options
        self.closed = False

    def start(self) -> None:
        def play() -> None:
            for first in range(0, len(self.sound), self.block):
                buffer = self.sound[first : first + self.block, None].copy()
                self.callback(buffer, len(buffer), None, None)
                buffer[:] = np.nan  # PortAudio takes its buffer back
            self.finished()

        self.thread = threading.Thread(target=play)
        self.thread.start()

    def stop(self) -> None:
        self.thread.join()

    def close(self) -> None:
        self.closed = True


class MadeUpError(Exception):
    pass


def made_up(stream: type[MadeUpStream], rate: float = 44_100.0) -> types.ModuleType:
    module = types.ModuleType("sounddevice")
    module.InputStream = stream  # type: ignore[attr-defined]
    module.PortAudioError = MadeUpError  # type: ignore[attr-defined]
    module.query_devices = lambda device, kind: {"default_samplerate": rate}  # type: ignore[attr-defined]
    return module


def test_listening_to_a_microphone(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", made_up(MadeUpStream))
    assert main(["listen", model, "--jsonl"]) == 0
    out, err = capsys.readouterr()
    expected = unheard.load(model).predict(murmur(5))
    assert [json.loads(line) for line in out.splitlines()] == [one.as_dict() for one in expected.segments]
    assert "Ctrl-C" in err


def test_a_microphone_at_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(MadeUpStream):
        rates = (44_100,)

    monkeypatch.setitem(sys.modules, "sounddevice", made_up(Other))
    with Microphone(16_000) as microphone:
        assert microphone.rate == 44_100
        heard = np.concatenate(list(microphone.blocks()))
    np.testing.assert_array_equal(heard, Other.sound)


def test_no_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(MadeUpStream):
        rates = ()

    monkeypatch.setitem(sys.modules, "sounddevice", made_up(Nothing))
    with pytest.raises(AudioError, match="no microphone can be used"):
        Microphone(16_000)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"unheard\[microphone\]"):
        Microphone(16_000)


def test_a_microphone_that_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(MadeUpStream):
        sound = np.zeros(0, np.float32)

        def start(self) -> None:
            self.thread = threading.Thread(target=lambda: None)
            self.thread.start()

    monkeypatch.setitem(sys.modules, "sounddevice", made_up(Stuck))
    with Microphone(16_000) as microphone, pytest.raises(AudioError, match="the microphone is gone"):
        next(microphone.blocks(patience=0.05))


def test_what_was_heard_before_a_microphone_went_is_kept(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", made_up(MadeUpStream))
    plain = Microphone.blocks

    def gone(self: Microphone, patience: float = 5.0):  # type: ignore[no-untyped-def]
        yield from plain(self)
        self.lost = 7
        raise AudioError("the microphone is gone", mend="Check that it is connected.")

    monkeypatch.setattr(Microphone, "blocks", gone)
    assert main(["listen", model, "--jsonl"]) == 2
    out, err = capsys.readouterr()
    expected = unheard.load(model).predict(murmur(5))
    assert [json.loads(line) for line in out.splitlines()] == [one.as_dict() for one in expected.segments]
    for said in ("5.0 s, ", "0.7 s or more are missing", "the microphone is gone"):
        assert said in err


def test_a_clip_is_enrolled_by_the_channel_that_is_heard(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a call the caller's own side, not both; a clip with one channel has no other."""
    call, mono = tmp_path / "call.wav", tmp_path / "mono.wav"
    soundfile.write(call, np.stack([murmur(3), 0.3 * murmur(3)[::-1]], 1), 16_000, subtype="FLOAT")
    soundfile.write(mono, murmur(2), 16_000, subtype="FLOAT")
    ear = unheard.load(model)
    profile = ear.enrol(mono, profile=ear.enrol(call, channel="right"))
    expected = ear.predict(call, channel="right", profile=profile)
    words = ["predict", model, str(call), "--channel", " Right", "--format", "json"]
    assert main([*words, "--enrol", str(call), "--enrol", str(mono)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    assert said["channel"] == expected.channel == "right"


def test_ctrl_c_ends_listening_well(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", made_up(MadeUpStream))
    plain = Microphone.blocks

    def interrupted(self: Microphone, patience: float = 5.0):  # type: ignore[no-untyped-def]
        for number, block in enumerate(plain(self)):
            if number == 35:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(Microphone, "blocks", interrupted)
    assert main(["listen", model]) == 0
    assert "3.5 s" in capsys.readouterr().err
