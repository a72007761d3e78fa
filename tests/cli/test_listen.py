"""`unheard listen`: raw samples from a pipe, and a simulated microphone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from sounds import RATE, call, murmur

import unheard
from unheard.audio import Samples
from unheard.errors import AudioError, ConfigError, MissingExtra
from unheard.recogniser.sources import FORMATS, Microphone, pcm_blocks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model.write_tiny(tmp_path_factory.mktemp("model") / "model.onnx"))


# pipes


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


@pytest.mark.parametrize(
    ("content", "options", "error", "message"),
    [
        (b"", {"format": "s16"}, ConfigError, "Did you mean 's16le'"),
        (b"", {"channels": 0}, ConfigError, "--channels = 0 is out of range"),
        (b"", {"channel": "right"}, AudioError, "has 1 channel, not a channel 'right'"),
        (b"RIFF\x24\0\0\0WAVEfmt ", {}, AudioError, "an audio file with a header"),
        (np.array([np.nan], "<f4").tobytes(), {"format": "f32le"}, AudioError, "not numbers"),
    ],
)
def test_pipes_that_cannot_be_read(
    content: bytes, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        list(pcm_blocks(io.BytesIO(content), **options))


def test_a_pipe_gives_the_segments_of_the_file(
    model: str, tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = (call() * 32_767).astype("<i2")
    expected = [segment.as_dict() for segment in unheard.load(model).predict(samples).segments]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(samples.tobytes())))
    out, _ = cli("listen", model, "--pcm", "-", "--rate", "16000", "--format", "s16le", "--jsonl")
    assert [json.loads(line) for line in out.splitlines()] == expected
    path = tmp_path / "call.pcm"
    path.write_bytes(samples.tobytes())
    out, _ = cli("listen", model, "--pcm", path, "--jsonl", "--partial")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [{k: v for k, v in line.items() if k != "final"} for line in lines if line["final"]] == expected
    assert len(lines) > len(expected)
    out, err = cli("listen", model, "--pcm", path, "--adapt")
    assert len(out.splitlines()) >= 3
    assert "adapting" in err
    assert "20.0 s, " in err


def test_uncertain_segments_of_a_pipe(model: str, tmp_path: Path, cli: Any) -> None:
    (tmp_path / "pipe").write_bytes(as_bytes(call(), "f32le"))
    command = ["listen", model, "--pcm", tmp_path / "pipe", "--format", "f32le", "--jsonl", "--min-confidence"]
    found = [json.loads(line) for line in cli(*command, "0.9999")[0].splitlines()]
    assert found
    assert not [one for one in found if one["label"]]
    assert any(one["abstained"].startswith("uncertain: ") for one in found)
    cli(*command, "2", code=2)


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


@pytest.mark.parametrize(
    ("pipe", "message"),
    [(["empty"], "no audio received"), (["missing"], "cannot be read"), (["-", "--rate", "1"], "rate of 1 Hz")],
)
def test_nothing_in_the_pipe(
    model: str, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipe: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    assert message in cli("listen", model, "--pcm", *pipe, code=2)[1]


# microphones


class SimulatedError(Exception):
    pass


class SimulatedStream:
    """Plays `sound` in blocks from a thread of its own, as PortAudio does."""

    sound = murmur(5)
    rates = (16_000,)

    def __init__(self, samplerate, blocksize, callback, finished_callback, **options) -> None:
        if samplerate not in self.rates:
            raise SimulatedError("Invalid sample rate [PaErrorCode -9997]")
        self.block, self.callback, self.finished = blocksize, callback, finished_callback

    def start(self) -> None:
        self.thread = threading.Thread(target=self.play)
        self.thread.start()

    def play(self) -> None:
        for first in range(0, len(self.sound), self.block):
            buffer = self.sound[first : first + self.block, None].copy()
            self.callback(buffer, len(buffer), None, None)
            buffer[:] = np.nan  # PortAudio reuses its buffer
        self.finished()

    def stop(self) -> None:
        self.thread.join()

    def close(self) -> None:
        pass


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a module `sounddevice` whose streams have other attributes."""

    def install(**attributes: Any) -> None:
        module = types.ModuleType("sounddevice")
        module.InputStream = type("Stream", (SimulatedStream,), attributes)
        module.PortAudioError = SimulatedError
        module.query_devices = lambda device, kind: {"default_samplerate": 44_100.0}
        monkeypatch.setitem(sys.modules, "sounddevice", module)

    return install


Install = Callable[..., None]


def test_listening_to_a_microphone(model: str, cli: Any, sounddevice: Install) -> None:
    sounddevice()
    out, err = cli("listen", model, "--jsonl")
    expected = unheard.load(model).predict(murmur(5))
    assert [json.loads(line) for line in out.splitlines()] == [one.as_dict() for one in expected.segments]
    assert "Ctrl-C" in err


def test_a_microphone_at_its_own_rate(sounddevice: Install) -> None:
    sounddevice(rates=(44_100,))
    with Microphone(16_000) as microphone:
        assert microphone.rate == 44_100
        np.testing.assert_array_equal(np.concatenate(list(microphone.blocks())), SimulatedStream.sound)


def test_no_microphone(sounddevice: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    sounddevice(rates=())
    with pytest.raises(AudioError, match="no microphone can be used"):
        Microphone(16_000)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"unheard\[microphone\]"):
        Microphone(16_000)


def test_a_microphone_that_falls_silent(sounddevice: Install) -> None:
    sounddevice(play=lambda self: None)
    with Microphone(16_000) as microphone, pytest.raises(AudioError, match="the microphone is gone"):
        next(microphone.blocks(patience=0.05))


@pytest.mark.parametrize(
    ("problem", "code", "messages"),
    [
        (AudioError("the microphone is gone"), 2, ("3.5 s, ", "0.7 s or more", "the microphone is gone")),
        (KeyboardInterrupt(), 0, ("3.5 s, ",)),
    ],
)
def test_results_before_the_end_of_a_microphone_are_kept(
    model: str, cli: Any, sounddevice: Install, monkeypatch: pytest.MonkeyPatch,
    problem: BaseException, code: int, messages: tuple[str, ...],
) -> None:  # fmt: skip
    sounddevice()
    plain = Microphone.blocks

    def ending(self: Microphone, patience: float = 5.0) -> Iterator[Samples]:
        for number, block in enumerate(plain(self)):
            if number == 35:
                self.lost = 7
                raise problem
            yield block

    monkeypatch.setattr(Microphone, "blocks", ending)
    out, err = cli("listen", model, "--jsonl", code=code)
    expected = unheard.load(model).predict(murmur(5)[: 35 * 1600])
    assert [json.loads(line) for line in out.splitlines()] == [one.as_dict() for one in expected.segments]
    assert all(message in err for message in messages)


def test_a_clip_is_enrolled_by_the_channel_that_is_scored(model: str, tmp_path: Path, cli: Any) -> None:
    """The caller's own side of a call, not both; a clip with one channel has no other."""
    call, mono = tmp_path / "call.wav", tmp_path / "mono.wav"
    soundfile.write(call, np.stack([murmur(3), 0.3 * murmur(3)[::-1]], 1), 16_000, subtype="FLOAT")
    soundfile.write(mono, murmur(2), 16_000, subtype="FLOAT")
    recogniser = unheard.load(model)
    profile = recogniser.enrol(mono, profile=recogniser.enrol(call, channel="right"))
    expected = recogniser.predict(call, channel="right", profile=profile)
    words = ["predict", model, call, "--channel", " Right", "--format", "json"]
    found = json.loads(cli(*words, "--enrol", call, "--enrol", mono)[0])
    assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    assert found["channel"] == expected.channel == "right"
