"""Find recordings, and read them: paths, open files, arrays, pipes and microphones to samples.

Samples come in blocks of one channel at the model's sample rate.
"""

import glob
import math
import os
import queue
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from unheard.audio import (
    Mix,
    Samples,
    channel_index,
    checked_rate,
    checked_source,
    finite,
    info,
    read_blocks,
    resample,
    select_channel,
    to_float,
)
from unheard.decoding import CONVERTED, FOREIGN, can_convert
from unheard.errors import AudioError, ConfigError, TooLongError, counted, did_you_mean, needs
from unheard.files import exists, walk_files
from unheard.settings import check_number
from unheard.streams import Source

HEADERS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b".snd")  # first bytes of audio files

SUFFIXES = frozenset(
    {
        *(".wav", ".wave", ".bwf", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
        *(".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc"),
    }
)
"""Endings of recordings in a folder; a file named by its path is read whatever its ending."""

LIST = "-"

PathOrError = str | AudioError  # a path, or the error for a word that names no recording


def recordings(words: Iterable[str], lines: Iterable[bytes] = ()) -> Iterator[PathOrError]:
    """Yield the recordings that `words` name as they are found; `-` stands for `lines`, a path a line."""
    for word in words:
        if word != LIST:
            yield from _paths_of(word)
            continue
        for number, line in enumerate(lines):
            if number == 0 and line.startswith(HEADERS) and b"\0" in line:
                what = "standard input must be a list of paths, and this is a recording"
                yield AudioError(what, where="-", mend="Name /dev/stdin to read it.")
                break
            path = os.fsdecode(line.removeprefix(b"" if number else BOM_UTF8).rstrip(b"\r\n"))
            if path.strip():
                yield from _paths_of("./-" if path == LIST else path)


def is_single(words: Iterable[str]) -> bool:
    """Return whether exactly one recording is named, by its own path; it need not exist."""
    words = list(words)
    if len(words) != 1 or words[0] == LIST:
        return False
    return not Path(words[0]).is_dir() if exists(words[0]) else not glob.has_magic(words[0])


def _paths_of(word: str) -> Iterator[PathOrError]:
    if exists(word):
        yield from _in_folder(word) if Path(word).is_dir() else [word]
    elif "\0" in word:
        yield AudioError("not a valid path", where=word.replace("\0", "\\0"), mend="Check the list.")
    elif not glob.has_magic(word):
        yield word  # reading it raises the error
    else:
        matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - a Path would not take an absolute pattern
        if not matches:
            yield AudioError("no file matches this pattern", where=word, mend="Check it, and put it in quotes.")
        folders = {match for match in matches if Path(match).is_dir()}
        wanted = [match for match in matches if match not in folders or "**" not in word]  # `**` gives what is inside
        inside = (_in_folder(match) if match in folders else [match] for match in wanted)
        yield from dict.fromkeys(path for paths in inside for path in paths)


def _in_folder(folder: str) -> Iterator[PathOrError]:
    """Yield the recordings below `folder`, sorted by path, without hidden files and folders."""
    empty, passed = True, list[Path]()
    readable = SUFFIXES | (set(CONVERTED) if can_convert() else set())
    for path in map(Path, walk_files(folder, regular=False)):
        if path.suffix.lower() in readable:
            yield str(path)
        elif path.suffix.lower() in CONVERTED | FOREIGN:
            passed.append(path)
        else:
            continue
        empty = False
    if passed:
        endings = " ".join(sorted({path.suffix.lower() for path in passed}))
        target = passed[0].with_suffix(".wav").name
        yield AudioError(
            f"{counted(len(passed), 'recording')} in this folder to convert first ({endings})",
            where=folder,
            mend=f'Convert each with: ffmpeg -i "{passed[0]}" -ac 1 -ar 16000 "{target}"'
            + ("" if can_convert() else '; or: pip install "unheard[media]"'),
        )
    if empty:
        mend = f"These endings are read: {' '.join(sorted(SUFFIXES))}."
        yield AudioError("no recording in this folder", where=folder, mend=mend)


# Paths, open files, arrays and entries of data sets

AudioInput: TypeAlias = Source | npt.NDArray[Any] | Mapping[str, Any]
"""A path, an open binary file, samples (N,) or (N, channels), or {"array": samples, "sampling_rate": Hz}."""

AudioInputs: TypeAlias = list[AudioInput] | tuple[AudioInput, ...]

_BLOCK = 1 << 20  # samples of an array in a block


def blocks_of(
    audio: AudioInput, rate: int, *, sample_rate: int | None, channel: str | int, longest: float
) -> Iterable[Samples]:
    """Read one channel of a recording in blocks at `rate` Hz; `sample_rate` is that of an array (None: `rate`).

    Raises `AudioError` for what cannot be read, `TooLongError` above `longest` seconds.
    """
    check_number("longest", longest, 0, math.inf)
    source, sample_rate = _opened(audio, sample_rate)
    if not isinstance(source, np.ndarray):
        return read_blocks(source, sample_rate=rate, channel=channel, longest=longest)
    given = rate if sample_rate is None else checked_rate(sample_rate)
    samples = select_channel(to_float(source), channel)
    if len(samples) > longest * given:
        raise TooLongError(f"the samples are longer than the limit of {longest:g} s")
    if not finite(samples):
        raise AudioError("the samples are not all numbers (NaN or infinite)", mend="Export them again.")
    whole = resample(samples, given, rate)
    return (whole[first : first + _BLOCK] for first in range(0, len(whole), _BLOCK))


def channels_of(audio: AudioInput) -> tuple[str, ...]:
    """Return the names of a recording's channels: mix for one, left and right for two, else numbers from 1."""
    source, _ = _opened(audio, None)
    if isinstance(source, np.ndarray):
        count = 1 if source.ndim == 1 else int(source.shape[-1])
    elif isinstance(source, (str, Path)) and Path(source).exists() and not Path(source).is_file():
        what, mend = "cannot count the channels of a pipe, which can be read only once", "save it as a file first."
        raise AudioError(what, where=str(source), mend=f"Choose --channel mix, or {mend}")
    else:
        count = info(source).channels
    return {1: ("mix",), 2: ("left", "right")}.get(count) or tuple(str(number) for number in range(1, count + 1))


def name_of(audio: AudioInput) -> str:
    """Return the path as given; empty for samples and for files without a name."""
    if isinstance(audio, Mapping):
        return str(audio.get("path") or "")
    return str(audio) if isinstance(audio, (str, Path)) else str(getattr(audio, "name", ""))


def _opened(audio: AudioInput, sample_rate: int | None) -> tuple[Source | npt.NDArray[Any], int | None]:
    """Return an array with its rate, a path, or an open file at its beginning: its channels are read one by one.

    Of an entry of a Hugging Face data set these are the samples and rate, or its path or content where it is not
    decoded. Raises `ConfigError` for other mappings, and for a `sample_rate` that differs from the one inside.
    """
    if isinstance(audio, Mapping):
        given: list[Any] = [audio.get(key) for key in ("array", "sampling_rate", "bytes", "path")]
        array, rate, content, path = given
        if array is not None and rate is not None:
            rate = checked_rate(rate)
            if sample_rate not in (None, rate):
                raise ConfigError(f"sample_rate is {sample_rate} and sampling_rate is {rate}", mend="Give one of them.")
            audio, sample_rate = (np.asarray(array) if isinstance(array, (list, tuple)) else array), rate
        elif isinstance(content, bytes) or path:
            audio = BytesIO(content) if isinstance(content, bytes) else path
        else:
            what = f"a mapping with the keys {', '.join(map(str, audio))} is no recording"
            mend = 'Give {"array": samples, "sampling_rate": Hz}, or the samples and sample_rate=Hz.'
            raise ConfigError(what, mend=mend)
    if isinstance(audio, np.ndarray):
        return audio, sample_rate
    source = checked_source(audio)
    if not isinstance(source, (str, Path)):
        try:
            source.seek(0)
        except (OSError, ValueError) as problem:  # a pipe, or a closed file
            what = f"this open file cannot be read from its beginning ({problem})"
            mend = "Give its path, or its content as io.BytesIO."
            raise AudioError(what, where=name_of(source) or None, mend=mend) from None
    return source, sample_rate


# Raw samples without a header, as from `arecord -t raw` or `ffmpeg -f s16le -`, and a microphone.

FORMATS = {"u8": "|u1", "s16le": "<i2", "s16be": ">i2", "s24le": "", "s32le": "<i4", "f32le": "<f4"}
"""Name (as in FFmpeg) -> numpy's; numpy has no type of 24 bits."""


def pcm_blocks(
    file: BufferedIOBase, format: str = "s16le", *, channels: int = 1, channel: str | int = "mix"
) -> Iterator[Samples]:
    """Read blocks (N,) in [-1, 1] of one channel of interleaved samples as they arrive, until the pipe ends.

    An incomplete frame at the end is dropped. Raises `ConfigError` for an unknown format, `AudioError` for a channel
    that does not exist and for floats that are not finite.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown sample format '{format}'", mend=did_you_mean(format, FORMATS))
    check_number("--channels", channels, 1, 256)
    return _pcm(file, format, channels, Mix(channel_index(channel, channels, "the pipe"), "the pipe"))


def _pcm(file: BufferedIOBase, format: str, channels: int, mix: Mix) -> Iterator[Samples]:
    size = channels * (3 if format == "s24le" else np.dtype(FORMATS[format]).itemsize)
    rest, first = b"", True
    while piece := file.read1(1 << 16):
        if first and piece.startswith(HEADERS):
            what = "this is an audio file with a header, not raw samples"
            raise AudioError(what, mend="Use `unheard predict` for it, or send its samples alone.")
        first, data = False, rest + piece
        whole = len(data) - len(data) % size
        rest = data[whole:]
        if whole:
            samples = np.frombuffer(data[:whole], FORMATS[format] or np.uint8)
            if format == "s24le":
                padded = np.zeros((len(samples) // 3, 4), np.uint8)
                padded[:, 1:] = samples.reshape(-1, 3)
                samples = padded.view("<i4")[:, 0]
            block = mix(to_float(samples).reshape(-1, channels))
            if not finite(block):
                raise AudioError("the pipe holds samples that are not numbers (NaN or infinite)")
            yield block
    mix.check()


BLOCK_SECONDS = 0.1
_MOST_WAITING = 600  # blocks, a minute; further ones are dropped


class Microphone:
    """An input device (extra `microphone`), open inside `with`, at the rate `wanted` or else at its own, `rate`.

    `lost` counts blocks that were dropped because they were not read in time, `overflows` those that the device lost.
    Raises `MissingExtra` without sounddevice, `AudioError` without a microphone.
    """

    def __init__(self, wanted: int, device: str | int | None = None) -> None:
        try:
            with needs("sounddevice", "microphone"):
                import sounddevice
        except OSError as problem:
            what = f"the microphone needs PortAudio ({problem})"
            raise AudioError(what, mend="On Debian: apt install libportaudio2") from None
        self._blocks: queue.Queue[Samples | None] = queue.Queue(_MOST_WAITING)
        self.lost = self.overflows = 0

        def opened(rate: int) -> Any:
            sound = {"samplerate": rate, "blocksize": round(BLOCK_SECONDS * rate), "channels": 1, "dtype": "float32"}
            calls = {"callback": self._take, "finished_callback": lambda: self._put(None)}
            return sounddevice.InputStream(device=device, **sound, **calls)

        try:
            try:
                self.rate, self._stream = wanted, opened(wanted)
            except sounddevice.PortAudioError:
                self.rate = int(sounddevice.query_devices(device, "input")["default_samplerate"])
                self._stream = opened(self.rate)
        except (sounddevice.PortAudioError, ValueError) as problem:
            what = f"no microphone can be used ({str(problem).splitlines()[0]})"
            raise AudioError(what, mend="Connect one, choose it with --device, or send samples with --pcm.") from None

    def __enter__(self) -> "Microphone":
        self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.stop()
        self._stream.close()

    def blocks(self, patience: float = 5.0) -> Iterator[Samples]:
        """Yield blocks (N,) as they are recorded; raises `AudioError` when none comes for `patience` seconds."""
        while True:
            try:
                block = self._blocks.get(timeout=patience)
            except queue.Empty:
                raise AudioError("the microphone is gone", mend="Check that it is connected.") from None
            if block is None:
                return
            yield block

    def _take(self, samples: np.ndarray, frames: int, time: object, status: object) -> None:
        """Receive samples from PortAudio, in its thread and in a buffer that it reuses."""
        self.overflows += bool(getattr(status, "input_overflow", False))
        self._put(samples[:, 0].copy())

    def _put(self, block: Samples | None) -> None:
        try:
            self._blocks.put_nowait(block)
        except queue.Full:
            self.lost += 1
