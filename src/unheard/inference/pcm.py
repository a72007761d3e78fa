"""Raw samples without a header, as from a pipe: `arecord -t raw`, `ffmpeg -f s16le -`, a telephone switch."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

import numpy as np
import numpy.typing as npt

from unheard.channels import Mix, Samples, channel_index, finite, to_float
from unheard.errors import AudioError, ConfigError, did_you_mean

FORMATS = {"u8": "|u1", "s16le": "<i2", "s16be": ">i2", "s24le": "", "s32le": "<i4", "f32le": "<f4"}
"""Name (as in FFmpeg) -> numpy's; 24 bits are put together by hand."""

HEADERS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b".snd")
"""How files with recordings begin."""

_BLOCK = 1 << 16  # bytes taken at once, where so many are there


def pcm_blocks(
    file: BufferedIOBase, format: str = "s16le", *, channels: int = 1, channel: str | int = "mix"
) -> Iterator[Samples]:
    """Blocks (N,) in [-1, 1] of one channel of interleaved samples, as soon as they arrive, until the pipe ends.

    Half a frame at the end is dropped. Raises `ConfigError` for an unknown format, `AudioError` for a channel that
    is not there and for floats that are no numbers.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown sample format '{format}'", mend=did_you_mean(format, FORMATS))
    if not 1 <= channels <= 256:
        raise ConfigError(f"{channels} channels are out of range", mend="Give --channels from 1 to 256.")
    index = channel_index(channel, channels, "the pipe")
    return _blocks(file, format, channels, index)


def _blocks(file: BufferedIOBase, format: str, channels: int, index: int | None) -> Iterator[Samples]:
    width = 3 if format == "s24le" else np.dtype(FORMATS[format]).itemsize
    left, begun, mix = b"", False, Mix(index, "the pipe")
    while piece := file.read1(_BLOCK):
        if not begun and piece.startswith(HEADERS):
            raise AudioError(
                "this is a recording with a header, and raw samples are expected",
                mend="Use `unheard predict` for it, or send its samples alone.",
            )
        begun = True
        data = left + piece
        whole = len(data) - len(data) % (width * channels)
        left = data[whole:]
        if whole:
            block = mix(to_float(_decoded(data[:whole], format)).reshape(-1, channels))
            if not finite(block):
                raise AudioError("the pipe holds samples that are not numbers (NaN or infinite)")
            yield block
    mix.check()


def _decoded(data: bytes, format: str) -> npt.NDArray[Any]:
    if format != "s24le":
        samples: npt.NDArray[Any] = np.frombuffer(data, FORMATS[format])
        return samples
    padded = np.zeros((len(data) // 3, 4), np.uint8)
    padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return padded.view("<i4")[:, 0]
