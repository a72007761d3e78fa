"""Recordings as samples: any format libsndfile knows, any rate and depth, one channel out.

    a file -> decode (libsndfile) -> one channel -> finite? -> resample (soxr) -> float32 in [-1, 1]

A recording is read in blocks, so memory is that of the samples asked for, whatever the file holds. One
that ends before its header says, inside the stretch asked for, is an error: half an utterance under a whole
utterance's label is worse than none. Integer formats become float32 by division by their full scale, and
nothing is clipped: float files and resampling may pass ±1 slightly.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
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
from unheard.errors import AudioError, ConfigError, TooLongError
from unheard.streams import Source, has_length_table

if TYPE_CHECKING:
    from typing_extensions import Unpack

Samples: TypeAlias = npt.NDArray[np.float32]
SAMPLE_RATE = 16_000
LONGEST = 3 * 3600.0  # seconds read at once unless told otherwise: three hours, about 700 MB of samples at 16 kHz
SLACK = 0.1  # seconds by which a stretch may pass the end of its recording; annotations are rarely exact

_MP3_SLACK = 0.01  # of the length that an MP3's own table says
_BLOCK = 1 << 20  # frames decoded at a time: 65 s at 16 kHz
_BLOCK_SECONDS = 120


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a recording's header says; `seconds` is `inf` for a stream that does not say."""

    seconds: float
    sample_rate: int
    channels: int
    format: str


@dataclass(frozen=True, slots=True)
class Recording:
    """Samples at the rate asked for, and the digest of the samples as decoded, before resampling.

    Two recordings with one digest are the same sound, whatever their names and lossless formats.
    """

    samples: Samples
    digest: str


def info(path: Source) -> AudioInfo:
    """Duration, rate, channels and format of a recording, from its header alone.

    Raises `AudioError` for what libsndfile cannot read.
    """
    with closing(open_audio(path)) as file:
        known = file.frames < UNKNOWN_LENGTH
        seconds = file.frames / file.samplerate if known else math.inf
        return AudioInfo(seconds, file.samplerate, file.channels, f"{file.format} {file.subtype}")


class Stretch(TypedDict, total=False):
    """What is read of a recording: the arguments of `read_blocks`."""

    start: float
    end: float | None
    sample_rate: int
    channel: str | int
    longest: float


def read_audio(path: Source, **stretch: Unpack[Stretch]) -> Samples:
    """One channel of one stretch of a recording: float32 (N,) in [-1, 1]; arguments and errors as of `read_blocks`.

    Here `longest` is `LONGEST` unless told otherwise.
    """
    return read_recording(path, **stretch).samples


def read_recording(path: Source, **stretch: Unpack[Stretch]) -> Recording:
    """As `read_audio`, with the digest of the decoded samples."""
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
    """One channel of one stretch of a recording at `sample_rate`, block by block, each float32 (N,) in [-1, 1].

    `start` and `end` are seconds (`end` None: to the end). `channel` is `mix` (the mean), `left`, `right` or a number
    counted from 1. `digest` is updated with the samples before they are resampled. Memory is that of about a minute,
    whatever the file holds. Raises `AudioError` for a file that is missing, empty, no audio, cut short or not finite,
    for a stretch outside it, and for more than `longest` seconds; perhaps late, after blocks that were fine.
    """
    with closing(open_audio(path)) as file:
        blocks = _blocks(file, path, start, end, channel, longest, digest)
        if file.samplerate == sample_rate:
            yield from blocks
            return
        block, following = next(blocks), next(blocks, None)
        if following is None:  # one block alone goes through in one call
            yield resample(block, file.samplerate, sample_rate)
            return
        import soxr

        stream = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32")
        while following is not None:
            yield stream.resample_chunk(block)
            block, following = following, next(blocks, None)
        yield stream.resample_chunk(block, last=True)


def resample(samples: Samples, rate: int, sample_rate: int = SAMPLE_RATE) -> Samples:
    """Samples (N,) at `rate` Hz as samples at `sample_rate` Hz (soxr, high quality)."""
    if rate == sample_rate:
        return samples
    import soxr

    resampled: Samples = soxr.resample(samples, rate, sample_rate)
    return resampled


def checked_source(audio: Any) -> Source:
    """A path or an open file; raises `AudioError` for anything else."""
    if not isinstance(audio, str) and (hasattr(audio, "numpy") or hasattr(audio, "__array__")):
        give = "x.cpu().numpy()" if hasattr(audio, "numpy") else "numpy.asarray(x)"
        mend = f"Give {give}, as a tensor's .numpy() does, of shape (N,) or (N, channels); paths as a list: list(x)."
        raise AudioError(f"a {type(audio).__module__}.{type(audio).__name__} is not a numpy array", mend=mend)
    if not isinstance(audio, (str, os.PathLike)) and not hasattr(audio, "seek"):
        mend = "Give a path, an open file, or samples as a numpy array."
        raise AudioError(f"a {type(audio).__name__} is no sound", mend=mend)
    source: Source = Path(audio) if isinstance(audio, os.PathLike) else audio
    return source


def checked_rate(rate: int) -> int:
    """Return `rate`; raises `ConfigError` where it is no number or out of range."""
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
    """Raise `AudioError` where no seconds lie from `start` to `end`."""
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
    """One channel of [start, end) seconds, block by block, at the file's own rate; at least one block."""
    import soundfile

    name, rate, total = name_of(path), file.samplerate, file.frames
    known = total < UNKNOWN_LENGTH
    first, last = _span(file, name, start, end)
    mix = Mix(channel_index(channel, file.channels, name), name)
    size = min(_BLOCK, _BLOCK_SECONDS * rate)  # of a slow recording too, so that it cannot swell when resampled

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
    # An MP3's length is a guess without a table of its own, and rough with one; elsewhere a shortfall means a cut file,
    # and wherever an end was asked for.
    rough = file.format == "MP3" and (first + done > (1 - _MP3_SLACK) * total or not has_length_table(path))
    if known and first + done < last - SLACK * rate and not (rough and end is None):
        raise _cut_short(name, (first + done) / rate, total / rate)
    mix.check()
    if not done:
        raise AudioError("holds no samples", where=name, mend="Copy or record it again.")


def _span(file: Decoder, name: str, start: float, end: float | None) -> tuple[int, int]:
    """The first frame of a stretch and the one behind it; raises `AudioError` where it does not lie in the file."""
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
    """The error for a recording with `present` of `promised` seconds (infinite: not known)."""
    there = f"{present:.2f} s" + (f" of {promised:.2f} s" if math.isfinite(promised) else "")
    mend = "Copy it again; in a manifest, start and end may name the part to use."
    return AudioError(f"is cut short: {there} are there", where=name, mend=mend)


# Samples of any type and any number of channels as one channel of float32.

MOST_CHANNELS = 64  # no recording has more; what seems to is transposed

LOUDEST = 100.0
"""Float samples beyond 1 are amplified; beyond this (40 dB) they are integers as floats, at another scale."""

_CANCELLED = 1e-4
"""Power of a mix against that of its loudest channel from which on the channels cancel each other: 40 dB."""
_AUDIBLE = 1e-6  # power of a channel below which it is silence anyway: 60 dB below full scale
_ENOUGH = 4000  # samples from which on two channels are not opposite by chance


def to_float(samples: npt.NDArray[Any]) -> Samples:
    """Samples of any number type as float32 in [-1, 1]; integers are divided by their full scale.

    Raises `AudioError` for what holds no real numbers, is not (N,) or (N, channels), whose full scale nobody knows,
    and for floats at another scale.
    """
    what, mend, kind = "", "Give (samples, channels): x.T.", samples.dtype.kind
    if samples.ndim not in (1, 2) or kind not in "fiu" or isinstance(samples, np.ma.MaskedArray):
        what = f"samples of shape {samples.shape} and type {samples.dtype} are no sound"
        mend = "Give floats in [-1, 1] or integers, of shape (samples,) or (samples, channels); paths: list(x)."
    elif samples.ndim == 2 and not 0 < samples.shape[1] <= max(MOST_CHANNELS, samples.shape[0]):
        what = f"samples of shape {samples.shape} have {samples.shape[1]} channels"
    elif kind in "iu" and samples.dtype.itemsize > 4:
        what = f"samples of type {samples.dtype} do not say how loud the loudest is"
        mend = "Give them as what they were recorded in, say x.astype(numpy.int16), or floats in [-1, 1]."
    if what:
        raise AudioError(what, mend=mend)
    if kind == "f":
        check_scale(samples)
        return samples.astype(np.float32, copy=False)
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return ((samples - (scale if kind == "u" else 0.0)) / scale).astype(np.float32)


def check_scale(samples: npt.NDArray[Any], name: str | None = None) -> None:
    """Raises `AudioError` for floats at another scale than [-1, 1], such as integers that became floats."""
    loudest = float(np.abs(samples).max(initial=0.0))
    if LOUDEST < loudest < np.inf:
        what = f"the samples are too large: floats lie in [-1, 1], and these reach {loudest:.4g}"
        mend = "Divide them by full scale (32768 of 16-bit ones), or give them as integers."
        raise AudioError(what, where=name, mend=mend)


def select_channel(samples: Samples, channel: str | int) -> Samples:
    """One channel (N,) of samples (N,) or (N, channels); raises `AudioError` where it does not exist."""
    table = samples[:, None] if samples.ndim == 1 else samples
    mix = Mix(channel_index(channel, table.shape[1], "the samples"), "the samples")
    chosen = mix(table)
    mix.check()
    return chosen


def channel_name(channel: str | int) -> str:
    """A channel as it is written in answers: ` Right` is right, `02` is 2."""
    word = str(channel).strip().lower()
    return str(int(word)) if word.isdecimal() else word


def channel_index(channel: str | int, channels: int, name: str) -> int | None:
    """The index of a channel; None: mix them all."""
    word = channel_name(channel)
    if word == "mix":
        return None
    number = {"left": 1, "right": 2}.get(word) or (int(word) if word.isdecimal() else 0)
    if number < 1:
        mend = "Channels: mix, left, right, or a number counted from 1."
        mend += " Each on its own: `unheard predict`, or predict_channels." if word == "each" else ""
        raise AudioError(f"unknown channel '{channel}'", where=name, mend=mend)
    if number > channels:
        what = f"has {channels} channel{'s' * (channels != 1)}, not a channel '{channel}'"
        mend = "Choose mix." if channels == 1 else f"Choose mix, or a number from 1 to {channels}."
        raise AudioError(what, where=name, mend=mend)
    return number - 1


class Mix:
    """Blocks (N, channels) or (N,) as blocks of one channel (N,): that of `index`, or (None) the mean of all.

    `check` afterwards says whether the mean of all was silence only because one channel is another upside down, as
    from a balanced line or a plug that is wired wrong. It does not depend on the blocks that the samples came in.
    """

    def __init__(self, index: int | None, name: str | None = None) -> None:
        self._index, self._name = index, name
        self._samples, self._of_mix = 0, 0.0
        self._of_each: Any = np.zeros(1)

    def __call__(self, block: Samples) -> Samples:
        """The channel of the next block (N, channels) or (N,): (N,)."""
        if block.ndim == 1 or block.shape[1] == 1:
            return block.reshape(-1)
        if self._index is not None:
            return np.ascontiguousarray(block[:, self._index])
        with np.errstate(invalid="ignore", over="ignore"):  # whether it is finite is asked later
            mixed: Samples = block.mean(axis=1, dtype=np.float32)
            if len(self._of_each) not in (1, block.shape[1]):  # samples with other channels follow
                self._samples, self._of_mix, self._of_each = 0, 0.0, np.zeros(1)
            self._samples += len(mixed)
            self._of_mix += float(np.square(mixed).sum(dtype=np.float64))
            self._of_each = self._of_each + np.square(block).sum(axis=0, dtype=np.float64)
        return mixed

    def check(self) -> None:
        """Raises `AudioError` where the channels have cancelled each other out."""
        loudest = self._of_each.max()
        if self._samples >= _ENOUGH and loudest > _AUDIBLE * self._samples and self._of_mix < _CANCELLED * loudest:
            what = "its channels cancel each other out when they are mixed: one is another upside down"
            raise AudioError(what, where=self._name, mend="Choose one channel, such as left.")


def finite(samples: npt.NDArray[Any]) -> bool:
    """Whether all samples are numbers. One reduction instead of a mask: a sum is finite only when every sample is."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(samples.sum(dtype=np.float64)))
