"""Reading of recordings: any format that libsndfile supports, any rate and bit depth, one channel of output.

    a file -> decode (libsndfile) -> one channel -> finite? -> resample (soxr) -> float32 in [-1, 1]

A recording is read in blocks, so memory depends on the segment requested, not on the length of the file. A file that
ends before its header says, inside that segment, is an error: half an utterance under the label of the whole one is
worse than none. Integer formats are divided by their full scale. Nothing is clipped: float files and resampling may
exceed ±1 slightly.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from io import TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from unheard.decoding import (
    HIGHEST_RATE,
    LOWEST_RATE,
    UNKNOWN_LENGTH,
    Decoder,
    name_of,
    open_audio,
)
from unheard.errors import AudioError, ConfigError, TooLongError, counted
from unheard.streams import Source, has_length_table

if TYPE_CHECKING:
    from typing_extensions import Unpack

Samples: TypeAlias = npt.NDArray[np.float32]
SAMPLE_RATE = 16_000
LONGEST = 3 * 3600.0  # seconds read at once by default: three hours, about 700 MB of samples at 16 kHz
SLACK = 0.1  # seconds by which a segment may exceed its recording; annotations are rarely exact

_MP3_SLACK = 0.01  # as a fraction of the length that an MP3's own table states
_BLOCK = 1 << 20  # frames decoded at a time: 65 s at 16 kHz
_BLOCK_SECONDS = 120


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The header of a recording; `seconds` is `inf` for a stream that does not state its length."""

    seconds: float
    sample_rate: int
    channels: int
    format: str


@dataclass(frozen=True, slots=True)
class Recording:
    """Samples at the requested rate, and the digest of the samples as decoded, before resampling.

    Two recordings with the same digest hold the same sound, even under different names and lossless formats.
    """

    samples: Samples
    digest: str


def info(path: Source) -> AudioInfo:
    """Return the duration, rate, channels and format of a recording from its header.

    Raises `AudioError` if it cannot be read as audio.
    """
    with closing(open_audio(path)) as file:
        known = file.frames < UNKNOWN_LENGTH
        seconds = file.frames / file.samplerate if known else math.inf
        return AudioInfo(seconds, file.samplerate, file.channels, f"{file.format} {file.subtype}")


class Stretch(TypedDict, total=False):
    """The segment of a recording to read: the arguments of `read_blocks`."""

    start: float
    end: float | None
    sample_rate: int
    channel: str | int
    longest: float


def read_audio(path: Source, **stretch: Unpack[Stretch]) -> Samples:
    """Return one channel of a segment of a recording: float32 (N,) in [-1, 1].

    Arguments and errors as in `read_blocks`, except that `longest` defaults to `LONGEST`.
    """
    return read_recording(path, **stretch).samples


def read_recording(path: Source, **stretch: Unpack[Stretch]) -> Recording:
    """Return the samples as `read_audio` does, with the digest of the decoded samples."""
    digest = blake2b(digest_size=16)
    stretch.setdefault("longest", LONGEST)
    pieces = list(read_blocks(path, digest=digest, **stretch))
    return Recording(pieces[0] if len(pieces) == 1 else np.concatenate(pieces), digest.hexdigest())


def read_blocks(
    path: Source,
    *,
    start: float = 0.0,
    end: float | None = None,
    sample_rate: int = SAMPLE_RATE,
    channel: str | int = "mix",
    longest: float = math.inf,
    digest: blake2b | None = None,
) -> Iterator[Samples]:
    """Yield one channel of a segment of a recording at `sample_rate`, in blocks: float32 (N,) in [-1, 1].

    `start` and `end` are seconds (`end` None: to the end). `channel` is `mix` (the mean), `left`, `right` or a number
    counted from 1. `digest` is updated with the samples before resampling. At most about a minute is held in memory.
    Raises `AudioError` for a file that is missing, empty, not audio, cut short or not finite, for a segment outside the
    file, and for more than `longest` seconds; possibly only after some blocks have been yielded.
    """
    with closing(open_audio(path)) as file:
        blocks = _blocks(file, path, start, end, channel, longest, digest)
        if file.samplerate == sample_rate:
            yield from blocks
            return
        block, following = next(blocks), next(blocks, None)
        if following is None:  # a single block needs no stream
            yield resample(block, file.samplerate, sample_rate)
            return
        import soxr

        stream = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32")
        while following is not None:
            yield stream.resample_chunk(block)
            block, following = following, next(blocks, None)
        yield stream.resample_chunk(block, last=True)


def resample(samples: Samples, rate: int, sample_rate: int = SAMPLE_RATE) -> Samples:
    """Resample samples (N,) from `rate` to `sample_rate` Hz (soxr, high quality)."""
    if rate == sample_rate:
        return samples
    import soxr

    resampled: Samples = soxr.resample(samples, rate, sample_rate)
    return resampled


def checked_source(audio: Any) -> Source:
    """Return `audio` if it is a path or an open file; raises `AudioError` for anything else."""
    if not isinstance(audio, str) and (hasattr(audio, "numpy") or hasattr(audio, "__array__")):
        give = "x.cpu().numpy()" if hasattr(audio, "numpy") else "numpy.asarray(x)"
        mend = f"Give {give}, as a tensor's .numpy() does, of shape (N,) or (N, channels); paths as a list: list(x)."
        raise AudioError(f"a {type(audio).__module__}.{type(audio).__name__} is not a numpy array", mend=mend)
    if not isinstance(audio, (str, os.PathLike)) and (not hasattr(audio, "seek") or isinstance(audio, TextIOBase)):
        mend = "Give a path, a file opened with mode 'rb', or samples as a numpy array."
        raise AudioError(f"a {type(audio).__name__} is not audio", mend=mend)
    source: Source = Path(audio) if isinstance(audio, os.PathLike) else audio
    return source


def checked_rate(rate: int) -> int:
    """Return `rate` as an int; raises `ConfigError` if it is not a whole number or out of range."""
    if isinstance(rate, (str, bytes)):
        raise ConfigError(f"the sample rate {rate!r} is text", mend=f"Give a number, such as int({rate!r}).")
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.integer, np.floating)):
        raise ConfigError(f"the sample rate is a {type(rate).__name__}, not a number", mend="Give it as an int.")
    if rate != int(rate if np.isfinite(rate) else 0):
        raise ConfigError(f"a sample rate of {rate} Hz is not a whole number", mend="Give it as an int.")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        mend = f"Give the samples per second, {LOWEST_RATE} or more."
        raise ConfigError(f"a sample rate of {rate} Hz is out of range", mend=mend)
    return int(rate)


def check_stretch(start: float, end: float | None, name: str | None = None) -> None:
    """Raise `AudioError` if the segment from `start` to `end` seconds is empty."""
    if not 0 <= start < math.inf or (end is not None and not end > start):
        raise AudioError(f"the stretch {start} to {end} s is empty", where=name, mend="Correct start and end.")


def _blocks(
    file: Decoder,
    path: Source,
    start: float,
    end: float | None,
    channel: str | int,
    longest: float,
    digest: blake2b | None,
) -> Iterator[Samples]:
    """Yield one channel of [start, end) seconds at the file's own rate, in at least one block."""
    import soundfile

    name, rate, total = name_of(path), file.samplerate, file.frames
    known = total < UNKNOWN_LENGTH
    first, last = _span(file, name, start, end)
    mix = Mix(channel_index(channel, file.channels, name), name)
    size = min(_BLOCK, _BLOCK_SECONDS * rate)  # bounds the size after resampling at low rates, too

    def check_length(frames: int) -> None:
        if frames / rate > longest:
            is_long, most = (f"{s / 3600:.1f} h" if s >= 3600 else f"{s:.1f} s" for s in (frames / rate, longest))
            mend = "Read it in stretches with start and end, or raise the limit `longest`."
            raise TooLongError(f"is longer ({is_long}) than the {most} read at once", where=name, mend=mend)

    if known:
        check_length(last - first)
    done = 0
    try:
        if first:
            file.seek(first)
        while first + done < last and len(block := file.read(min(size, last - first - done))):
            done += len(block)
            check_length(done)
            mono = mix(block)
            if not finite(mono):
                what = "holds samples that are not numbers (NaN or infinite)"
                raise AudioError(what, where=name, mend="Export it again.")
            if file.subtype in ("FLOAT", "DOUBLE"):
                check_scale(mono, name)
            if digest is not None:
                digest.update(mono.data)
            yield mono
    except soundfile.LibsndfileError as error:
        after = f" after {(first + done) / rate:.2f} s" if done else ""
        what = f"breaks off{after} ({error.error_string.rstrip('.')})"
        raise AudioError(what, where=name, mend="Copy it again.") from None
    # The length of an MP3 is a guess without a length table and rough with one. In other formats, and if an end was
    # requested, missing samples mean a truncated file.
    rough = file.format == "MP3" and (first + done > (1 - _MP3_SLACK) * total or not has_length_table(path))
    if known and first + done < last - SLACK * rate and not (rough and end is None):
        raise _cut_short(name, (first + done) / rate, total / rate)
    mix.check()
    if not done:
        raise AudioError("holds no samples", where=name, mend="Copy or record it again.")


def _span(file: Decoder, name: str, start: float, end: float | None) -> tuple[int, int]:
    """Return the first frame of a segment and the one after its last; raises `AudioError` if it is outside the file."""
    check_stretch(start, end, name)
    rate, total = file.samplerate, file.frames
    first, known = round(start * rate), total < UNKNOWN_LENGTH
    last = (total if known else 1 << 62) if end is None else round(end * rate)
    if not known:
        return first, last
    if last > total + SLACK * rate:
        what = f"ends at {total / rate:.2f} s, before the stretch {start:.2f} to {last / rate:.2f} s"
        raise AudioError(what, where=name, mend="Correct start and end, or copy the recording again.")
    last = min(last, total)
    if end is None and file.missing_frames() > SLACK * rate:
        raise _cut_short(name, total / rate, (total + file.missing_frames()) / rate)
    if first >= last > 0:
        raise AudioError("ends before the stretch starts", where=name, mend="Correct start and end.")
    return first, last


def _cut_short(name: str, present: float, promised: float) -> AudioError:
    """Return the error for a recording with `present` of `promised` seconds (infinite: unknown)."""
    length = f"{present:.2f} s" + (f" of {promised:.2f} s" if math.isfinite(promised) else "")
    mend = "Copy it again; in a manifest, start and end may name the part to use."
    return AudioError(f"is cut short: it holds {length}", where=name, mend=mend)


# Conversion of samples of any type and number of channels to one channel of float32.

MOST_CHANNELS = 64  # an array with more channels is taken to be transposed

LOUDEST = 100.0
"""Float samples above 1 are amplified; above this (40 dB) they are taken to be integers stored as floats."""

_CANCELLED = 1e-4
"""Ratio of the power of a mix to its loudest channel's below which the channels cancel each other: -40 dB."""
_AUDIBLE = 1e-6  # power of a channel below which it counts as silence: 60 dB below full scale
_ENOUGH = 4000  # number of samples above which two channels are not opposite by chance


def to_float(samples: npt.NDArray[Any]) -> Samples:
    """Convert samples of any real type to float32 in [-1, 1]; integers are divided by their full scale.

    Raises `AudioError` for samples that are not real, not of shape (N,) or (N, channels), integers of unknown full
    scale, or floats at another scale.
    """
    what, mend, kind = "", "Give (samples, channels): x.T.", samples.dtype.kind
    if samples.ndim not in (1, 2) or kind not in "fiu" or isinstance(samples, np.ma.MaskedArray):
        what = f"samples of shape {samples.shape} and type {samples.dtype} are not audio"
        mend = "Give floats in [-1, 1] or integers, of shape (samples,) or (samples, channels); paths: list(x)."
    elif samples.ndim == 2 and not 0 < samples.shape[1] <= max(MOST_CHANNELS, samples.shape[0]):
        what = f"samples of shape {samples.shape} have {samples.shape[1]} channels"
    elif kind in "iu" and samples.dtype.itemsize > 4:
        what = f"samples of type {samples.dtype} have an unknown full scale"
        mend = "Give them in the type they were recorded in, such as x.astype(numpy.int16), or as floats in [-1, 1]."
    if what:
        raise AudioError(what, mend=mend)
    if kind == "f":
        check_scale(samples)
        return samples.astype(np.float32, copy=False)
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return ((samples - (scale if kind == "u" else 0.0)) / scale).astype(np.float32)


def check_scale(samples: npt.NDArray[Any], name: str | None = None) -> None:
    """Raise `AudioError` for floats at another scale than [-1, 1], such as integers converted to floats."""
    loudest = float(np.abs(samples).max(initial=0.0))
    if LOUDEST < loudest < np.inf:
        what = f"the samples are too large: floats lie in [-1, 1], and these reach {loudest:.4g}"
        mend = "Divide them by their full scale (32768 for 16-bit samples), or give them as integers."
        raise AudioError(what, where=name, mend=mend)


def select_channel(samples: Samples, channel: str | int) -> Samples:
    """Return one channel (N,) of samples (N,) or (N, channels); raises `AudioError` if it does not exist."""
    table = samples[:, None] if samples.ndim == 1 else samples
    mix = Mix(channel_index(channel, table.shape[1], "the samples"), "the samples")
    chosen = mix(table)
    mix.check()
    return chosen


def channel_name(channel: str | int) -> str:
    """Normalise a channel name: ` Right` becomes `right`, `02` becomes `2`."""
    word = str(channel).strip().lower()
    return str(int(word)) if word.isdecimal() else word


def channel_index(channel: str | int, channels: int, name: str) -> int | None:
    """Return the index of a channel, or None for the mix of all; raises `AudioError` if it does not exist."""
    word = channel_name(channel)
    if word == "mix":
        return None
    number = {"left": 1, "right": 2}.get(word) or (int(word) if word.isdecimal() else 0)
    if number < 1:
        mend = "Channels: mix, left, right, or a number counted from 1."
        mend += " For every channel separately, use `unheard predict` or predict_channels." if word == "each" else ""
        raise AudioError(f"unknown channel '{channel}'", where=name, mend=mend)
    if number > channels:
        what = f"has {counted(channels, 'channel')}, not a channel '{channel}'"
        mend = "Choose mix." if channels == 1 else f"Choose mix, or a number from 1 to {channels}."
        raise AudioError(what, where=name, mend=mend)
    return number - 1


class Mix:
    """Converter of blocks (N, channels) or (N,) to one channel (N,): number `index`, or the mean of all (None).

    `check` then tells whether the mean is silent only because one channel is the inverse of another, as with a balanced
    line or a plug wired wrongly. Its result does not depend on the size of the blocks.
    """

    def __init__(self, index: int | None, name: str | None = None) -> None:
        self._index, self._name = index, name
        self._samples, self._of_mix = 0, 0.0
        self._of_each: Any = np.zeros(1)

    def __call__(self, block: Samples) -> Samples:
        """Return the channel (N,) of the next block (N, channels) or (N,)."""
        if block.ndim == 1 or block.shape[1] == 1:
            return block.reshape(-1)
        if self._index is not None:
            return np.ascontiguousarray(block[:, self._index])
        with np.errstate(invalid="ignore", over="ignore"):  # the caller checks whether samples are finite
            mixed: Samples = block.mean(axis=1, dtype=np.float32)
            if len(self._of_each) not in (1, block.shape[1]):  # the number of channels has changed
                self._samples, self._of_mix, self._of_each = 0, 0.0, np.zeros(1)
            self._samples += len(mixed)
            self._of_mix += float(np.square(mixed).sum(dtype=np.float64))
            self._of_each = self._of_each + np.square(block).sum(axis=0, dtype=np.float64)
        return mixed

    def check(self) -> None:
        """Raise `AudioError` if the channels have cancelled each other out."""
        loudest = self._of_each.max()
        if self._samples >= _ENOUGH and loudest > _AUDIBLE * self._samples and self._of_mix < _CANCELLED * loudest:
            what = "its channels cancel each other out when they are mixed: one is the inverse of another"
            raise AudioError(what, where=self._name, mend="Choose one channel, such as left.")


def finite(samples: npt.NDArray[Any]) -> bool:
    """Return whether all samples are finite; one sum suffices, because it is finite only if every sample is."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(samples.sum(dtype=np.float64)))
