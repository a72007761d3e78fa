"""Read audio from paths, open files, arrays and pipes: blocks of one channel at the model's sample rate."""

from __future__ import annotations

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
    checked_source,
    finite,
    info,
    read_blocks,
    resample,
    select_channel,
    to_float,
)
from unheard.decoding import LOWEST_RATE, Source
from unheard.errors import AudioError, ConfigError, TooLongError, did_you_mean

Audio: TypeAlias = Source | npt.NDArray[Any] | Mapping[str, Any]
"""A path, an open binary file, samples (N,) or (N, channels), or {"array": samples, "sampling_rate": Hz}."""

Several: TypeAlias = list[Audio] | tuple[Audio, ...]

_BLOCK = 1 << 20  # samples of an array in a block


def blocks_of(
    audio: Audio, rate: int, *, sample_rate: int | None, channel: str | int, longest: float
) -> Iterable[Samples]:
    """Read one channel of a recording in blocks at `rate` Hz; `sample_rate` is that of an array (None: `rate`).

    Raises `AudioError` for what cannot be read, `TooLongError` above `longest` seconds.
    """
    if isinstance(audio, Mapping):
        audio, sample_rate = unpacked(audio, sample_rate)
    if not isinstance(audio, np.ndarray):
        _rewind(audio)
        return read_blocks(audio, sample_rate=rate, channel=channel, longest=longest)
    given = rate if sample_rate is None else checked_rate(sample_rate)
    samples = select_channel(to_float(audio), channel)
    if len(samples) > longest * given:
        raise TooLongError(f"the samples are longer than the limit of {longest:g} s")
    if not finite(samples):
        raise AudioError("the samples are not all numbers (NaN or infinite)", mend="Export them again.")
    whole = resample(samples, given, rate)
    return (whole[first : first + _BLOCK] for first in range(0, len(whole), _BLOCK))


def channels_of(audio: Audio) -> tuple[str, ...]:
    """Return the names of a recording's channels: mix for one, left and right for two, else numbers from 1."""
    if isinstance(audio, Mapping):
        audio, _ = unpacked(audio, None)
    if isinstance(audio, np.ndarray):
        count = 1 if audio.ndim == 1 else int(audio.shape[-1])
    else:
        _rewind(audio)
        if isinstance(audio, (str, Path)) and Path(audio).exists() and not Path(audio).is_file():
            raise AudioError(
                "cannot count the channels of a pipe, which can be read only once",
                where=str(audio),
                mend="Choose --channel mix, or save it as a file first.",
            )
        count = info(audio).channels
    return {1: ("mix",), 2: ("left", "right")}.get(count) or tuple(str(number) for number in range(1, count + 1))


def name_of(audio: Audio) -> str:
    """Return the path as given; empty for samples and for files without a name."""
    if isinstance(audio, (str, Path)):
        return str(audio)
    if isinstance(audio, Mapping):
        return str(audio.get("path") or "")
    return "" if isinstance(audio, np.ndarray) else str(getattr(audio, "name", ""))


def unpacked(audio: Mapping[str, Any], sample_rate: int | None) -> tuple[Source | npt.NDArray[Any], int | None]:
    """Return samples and rate of an entry of a Hugging Face data set, or its path or content where it is not decoded.

    Raises `ConfigError` for other mappings, and for a `sample_rate` that differs from the one inside.
    """
    if audio.get("array") is not None and audio.get("sampling_rate") is not None:
        rate = checked_rate(audio["sampling_rate"])
        if sample_rate not in (None, rate):
            raise ConfigError(f"sample_rate is {sample_rate} and sampling_rate is {rate}", mend="Give one of them.")
        array = audio["array"]
        return (np.asarray(array) if isinstance(array, (list, tuple)) else array), rate
    if isinstance(audio.get("bytes"), bytes):
        return BytesIO(audio["bytes"]), sample_rate
    if audio.get("path"):
        return audio["path"], sample_rate
    raise ConfigError(
        f"a mapping with the keys {', '.join(map(str, audio))} is no recording",
        mend='Give {"array": samples, "sampling_rate": Hz}, or the samples and sample_rate=Hz.',
    )


def checked_rate(rate: int) -> int:
    """Return `rate`; raises `ConfigError` where it is no number or out of range."""
    if isinstance(rate, (str, bytes)):
        raise ConfigError(f"the sample rate {rate!r} is text", mend=f"Give a number, such as int({rate!r}).")
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.integer, np.floating)):
        raise ConfigError(f"the sample rate is a {type(rate).__name__}, not a number", mend="Give it as an int.")
    if rate != int(rate if np.isfinite(rate) else 0):
        raise ConfigError(f"a sample rate of {rate} Hz is not a whole number", mend="Give it as an int.")
    if not LOWEST_RATE <= rate <= 10_000_000:
        raise ConfigError(
            f"a sample rate of {rate} Hz is out of range", mend=f"Give the samples per second, {LOWEST_RATE} or more."
        )
    return int(rate)


def _rewind(audio: Source) -> None:
    """Go to the beginning of an open file, whose channels are read one after another."""
    if not isinstance(checked_source(audio), (str, Path)):
        try:
            audio.seek(0)  # type: ignore[union-attr]
        except (OSError, ValueError) as problem:  # a pipe, or a closed file
            raise AudioError(
                f"this open file cannot be read from its beginning ({problem})",
                where=str(getattr(audio, "name", "")) or None,
                mend="Give its path, or its content as io.BytesIO.",
            ) from None


# Raw samples without a header, as from `arecord -t raw` or `ffmpeg -f s16le -`.

FORMATS = {"u8": "|u1", "s16le": "<i2", "s16be": ">i2", "s24le": "", "s32le": "<i4", "f32le": "<f4"}
"""Name (as in FFmpeg) -> numpy's; numpy has no type of 24 bits."""

HEADERS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b".snd")
"""First bytes of audio files."""


def pcm_blocks(
    file: BufferedIOBase, format: str = "s16le", *, channels: int = 1, channel: str | int = "mix"
) -> Iterator[Samples]:
    """Read blocks (N,) in [-1, 1] of one channel of interleaved samples as they arrive, until the pipe ends.

    An incomplete frame at the end is dropped. Raises `ConfigError` for an unknown format, `AudioError` for a channel
    that does not exist and for floats that are not finite.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown sample format '{format}'", mend=did_you_mean(format, FORMATS))
    if not 1 <= channels <= 256:
        raise ConfigError(f"{channels} channels are out of range", mend="Give --channels from 1 to 256.")
    return _blocks(file, format, channels, channel_index(channel, channels, "the pipe"))


def _blocks(file: BufferedIOBase, format: str, channels: int, index: int | None) -> Iterator[Samples]:
    width = 3 if format == "s24le" else np.dtype(FORMATS[format]).itemsize
    rest, first, mix = b"", True, Mix(index, "the pipe")
    while piece := file.read1(1 << 16):
        if first and piece.startswith(HEADERS):
            raise AudioError(
                "this is an audio file with a header, not raw samples",
                mend="Use `unheard predict` for it, or send its samples alone.",
            )
        first = False
        data = rest + piece
        whole = len(data) - len(data) % (width * channels)
        rest = data[whole:]
        if whole:
            block = mix(to_float(_decoded(data[:whole], format)).reshape(-1, channels))
            if not finite(block):
                raise AudioError("the pipe holds samples that are not numbers (NaN or infinite)")
            yield block
    mix.check()


def _decoded(data: bytes, format: str) -> npt.NDArray[Any]:
    if format != "s24le":
        return np.frombuffer(data, FORMATS[format])
    padded = np.zeros((len(data) // 3, 4), np.uint8)
    padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return padded.view("<i4")[:, 0]
