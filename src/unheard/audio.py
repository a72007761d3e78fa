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
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from unheard.channels import Mix, Samples, channel_index, check_scale, finite
from unheard.errors import AudioError, TooLongError, UnreachableError

if TYPE_CHECKING:
    import soundfile


Source: TypeAlias = str | Path | BinaryIO

SAMPLE_RATE = 16_000
LONGEST = 3 * 3600.0
"""Seconds read at once unless told otherwise: three hours, about 700 MB of samples at 16 kHz."""
SLACK = 0.1
"""Seconds by which a stretch may pass the end of its recording; annotations are rarely exact."""

_MP3_SLACK = 0.01  # of the length that an MP3's own table says
_BLOCK = 1 << 20  # frames decoded at a time: 65 s at 16 kHz
_BLOCK_SECONDS = 120
_UNKNOWN_LENGTH = 1 << 40  # libsndfile gives a huge count for streams that do not say their length


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
    with _open(path) as file:
        known = file.frames < _UNKNOWN_LENGTH
        seconds = file.frames / file.samplerate if known else math.inf
        return AudioInfo(seconds, file.samplerate, file.channels, f"{file.format} {file.subtype}")


def read_audio(
    path: Source,
    *,
    start: float = 0.0,
    end: float | None = None,
    sample_rate: int = SAMPLE_RATE,
    channel: str | int = "mix",
    longest: float = LONGEST,
) -> Samples:
    """One channel of one stretch of a recording: float32 (N,) in [-1, 1] at `sample_rate`.

    `start` and `end` are seconds (`end` None: to the end). `channel` is `mix` (the mean), `left`, `right`
    or a number counted from 1. Raises `AudioError` for a file that is missing, empty, no audio, cut short
    or not finite, for a stretch outside it, and for more than `longest` seconds.
    """
    return read_recording(path, start=start, end=end, sample_rate=sample_rate, channel=channel, longest=longest).samples


def read_recording(
    path: Source,
    *,
    start: float = 0.0,
    end: float | None = None,
    sample_rate: int = SAMPLE_RATE,
    channel: str | int = "mix",
    longest: float = LONGEST,
) -> Recording:
    """As `read_audio`, with the digest of the decoded samples."""
    digest = blake2b(digest_size=16)

    def observed(blocks: Iterator[Samples]) -> Iterator[Samples]:
        for block in blocks:
            digest.update(block.data)
            yield block

    with _open(path) as file:
        blocks = observed(_blocks(file, path, start, end, channel, longest))
        samples = _joined(_resampled(blocks, file.samplerate, sample_rate))
    return Recording(samples, digest.hexdigest())


def read_blocks(
    path: Source,
    *,
    start: float = 0.0,
    end: float | None = None,
    sample_rate: int = SAMPLE_RATE,
    channel: str | int = "mix",
    longest: float = math.inf,
) -> Iterator[Samples]:
    """As `read_audio`, block by block: joined, the blocks are its samples, bit for bit.

    Memory is that of about a minute, whatever the file holds. What is wrong with a file may be found late, after
    blocks that were fine.
    """
    with _open(path) as file:
        yield from _resampled(_blocks(file, path, start, end, channel, longest), file.samplerate, sample_rate)


def resample(samples: Samples, rate: int, sample_rate: int = SAMPLE_RATE) -> Samples:
    """Samples (N,) at `rate` Hz as samples at `sample_rate` Hz (soxr, high quality)."""
    if rate == sample_rate:
        return samples
    import soxr

    resampled: Samples = soxr.resample(samples, rate, sample_rate)
    return resampled


def checked_source(audio: Any) -> Source:
    """A path or an open file; raises `AudioError` for anything else."""
    if isinstance(audio, os.PathLike):
        return Path(audio)
    if not isinstance(audio, str) and not hasattr(audio, "seek"):
        raise AudioError(
            f"a {type(audio).__name__} is no sound", mend="Give a path, an open file, or samples as a numpy array."
        )
    source: Source = audio
    return source


def _name(path: Source) -> str:
    return str(path) if isinstance(path, (str, Path)) else str(getattr(path, "name", "the audio"))


def _open(path: Source) -> soundfile.SoundFile:
    import soundfile

    file: str | bytes | BinaryIO = str(path) if isinstance(path, Path) else path
    if isinstance(file, str) and os.name == "posix":
        file = os.fsencode(file)  # names that are no Unicode can be opened too
    try:
        return soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError, OSError) as error:
        raise unreadable(path, _name(path), error, SAMPLE_RATE) from None


def _blocks(
    file: soundfile.SoundFile, path: Source, start: float, end: float | None, channel: str | int, longest: float
) -> Iterator[Samples]:
    """One channel of [start, end) seconds, block by block, at the file's own rate; at least one block."""
    import soundfile

    name, rate, total = _name(path), file.samplerate, file.frames
    known = total < _UNKNOWN_LENGTH
    if not (0 <= start < math.inf) or (end is not None and not end > start):
        raise AudioError(f"the stretch {start} to {end} s is empty", where=name, mend="Correct start and end.")
    mix = Mix(channel_index(channel, file.channels, name), name)
    size = min(_BLOCK, _BLOCK_SECONDS * rate)  # of a slow recording too, so that it cannot swell when resampled
    first = round(start * rate)
    last = total if end is None else round(end * rate)
    if known and last > total:
        if last > total + SLACK * rate:
            raise AudioError(
                f"ends at {total / rate:.2f} s, before the stretch {start:.2f} to {last / rate:.2f} s",
                where=name,
                mend="Correct start and end, or copy the recording again.",
            )
        last = total
    if known and end is None and missing_frames(file) > SLACK * rate:
        raise cut_short(name, total / rate, (total + missing_frames(file)) / rate)
    if known and first >= last:
        raise AudioError(
            "holds no samples" if not total else "ends before the stretch starts",
            where=name,
            mend="Copy or record it again." if not total else "Correct start and end.",
        )
    if known and (last - first) / rate > longest:
        raise _too_long(name, (last - first) / rate, longest)
    done = 0
    try:
        _skip(file, first, size)
        while first + done < last:
            block = file.read(min(size, last - first - done), dtype="float32", always_2d=True)
            if not len(block):
                break
            done += len(block)
            if done / rate > longest:
                raise _too_long(name, done / rate, longest)
            mono = mix(block)
            if not finite(mono):
                raise AudioError(
                    "holds samples that are not numbers (NaN or infinite)",
                    where=name,
                    mend="Export it again.",
                )
            if file.subtype in ("FLOAT", "DOUBLE"):
                check_scale(mono, name)
            yield mono
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"breaks off after {(first + done) / rate:.2f} s ({error.error_string.rstrip('.')})",
            where=name,
            mend="Copy it again.",
        ) from None
    # An MP3's length is a guess without a table of its own, and rough with one; elsewhere a shortfall means a cut file,
    # and wherever an end was asked for.
    rough = file.format == "MP3" and (first + done > (1 - _MP3_SLACK) * total or not has_table(path))
    if known and first + done < last - SLACK * rate and not (rough and end is None):
        raise cut_short(name, (first + done) / rate, total / rate)
    mix.check()
    if not done:
        raise AudioError("holds no samples", where=name, mend="Copy or record it again.")


def _resampled(blocks: Iterator[Samples], rate: int, sample_rate: int) -> Iterator[Samples]:
    """Blocks at `rate` Hz as blocks at `sample_rate` Hz; one block alone goes through in one call."""
    if rate == sample_rate:
        yield from blocks
        return
    block, following = next(blocks), next(blocks, None)
    if following is None:
        yield resample(block, rate, sample_rate)
        return
    import soxr

    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32")
    while following is not None:
        yield stream.resample_chunk(block)
        block, following = following, next(blocks, None)
    yield stream.resample_chunk(block, last=True)


def _joined(blocks: Iterator[Samples]) -> Samples:
    pieces = list(blocks)
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _skip(file: soundfile.SoundFile, frames: int, size: int) -> None:
    """Go to the frame `frames`, by reading where a coding (GSM, some ADPCM) cannot be entered in the middle."""
    import soundfile

    try:
        if frames:
            file.seek(frames)
    except soundfile.LibsndfileError:
        while frames > 0 and (passed := len(file.read(min(size, frames), dtype="float32", always_2d=True))):
            frames -= passed


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.1f} s"


def _too_long(name: str, seconds: float, longest: float) -> TooLongError:
    return TooLongError(
        f"is longer ({_time(seconds)}) than the {_time(longest)} read at once",
        where=name,
        mend="Read it in stretches with start and end, or raise the limit `longest`.",
    )


# What is wrong with a file that libsndfile refuses, or that ends before its header says.

_SYSTEM_ERROR = 2  # libsndfile's code for what the operating system refused
_ENCODED_ELSEWHERE = {".m4a", ".mp4", ".aac", ".webm", ".mkv", ".mka", ".wma", ".amr", ".3gp", ".mov"}


def unreadable(path: str | Path | BinaryIO, name: str, error: Exception, sample_rate: int) -> AudioError:
    """Why libsndfile refused `path`, in words that help."""
    head = b""
    if isinstance(path, (str, Path)):
        file = Path(path)
        try:
            if not file.exists():
                return AudioError("there is no such file", where=name, mend="Check the path.")
            if file.is_dir():
                return AudioError("this is a folder", where=name, mend="Name one recording in it.")
            with file.open("rb") as opened:
                head = opened.read(16)
        except (OSError, ValueError) as refused:
            reason = getattr(refused, "strerror", None) or str(refused)
            return UnreachableError(
                f"cannot be opened: {reason}", where=name, mend="Check the path and its permissions."
            )
    else:
        path.seek(0)
        head = path.read(16)
    if not head:
        return AudioError("the file is empty", where=name, mend="Copy or record it again.")
    elsewhere = head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3" or head[:6] == b"#!AMR\n"
    if elsewhere or Path(name).suffix.lower() in _ENCODED_ELSEWHERE:
        target = Path(name).with_suffix(".wav").name
        return AudioError(
            "this format needs a conversion first",
            where=name,
            mend=f'Convert it with: ffmpeg -i "{name}" -ac 1 -ar {sample_rate} "{target}"',
        )
    reason = str(getattr(error, "error_string", "")) or "Format not recognised."
    if getattr(error, "code", None) == _SYSTEM_ERROR:
        return UnreachableError(f"cannot be read ({reason.rstrip('.')})", where=name, mend="Check the disk; try again.")
    return AudioError(
        f"this is no audio that can be read ({reason.rstrip('.')})",
        where=name,
        mend="WAV, FLAC, OGG and MP3 are read; check that the file is whole.",
    )


_CUT = {
    "WAV": r"^data : (?P<promised>\d+) \(should be (?P<present>\d+)\)",
    "WAVEX": r"^data : (?P<promised>\d+) \(should be (?P<present>\d+)\)",
    "AIFF": r"^ *SSND : (?P<promised>\d+) \(should be (?P<present>\d+)\)",
    "AU": r"^ *Data Size *: (?P<promised>\d+) \(should be (?P<present>\d+)\)",
    "W64": r"^riff : (?P<promised>\d+) \(should be (?P<present>\d+)\)",
    "RF64": r"frame count (?P<present>\d+) does not match value from 'ds64' chunk of (?P<promised>\d+)",
    "VOC": r"^Seems to be a truncated file",
    "OGG": r"^Ogg ?: Junk after the last page",
}
"""Format -> what libsndfile's log says of a file that ends before its header says; it reads what is there."""


def missing_frames(file: soundfile.SoundFile) -> float:
    """Frames that the header promises beyond the end of the file, infinite where it does not say how many."""
    if file.format == "NIST" and isinstance(file.name, (str, bytes)):  # libsndfile's log says nothing of it
        with Path(os.fsdecode(file.name)).open("rb") as opened:
            count = re.search(rb"^sample_count -i (\d+)", opened.read(1024), re.MULTILINE)
        return max(0.0, int(count[1]) - float(file.frames)) if count else 0
    found = re.search(_CUT[file.format], file.extra_info, re.MULTILINE) if file.format in _CUT else None
    if found is None or not file.frames:
        return 0
    if not found.groupdict():
        return math.inf
    promised, present = int(found["promised"]), int(found["present"])
    if (promised >= 0x7FFFF000 and file.format in ("WAV", "WAVEX", "AU", "AIFF")) or present <= 0:
        return 0  # written to a pipe: the length was not known
    frames: int = file.frames
    return max(0, round(frames * (promised / present - 1)))


def has_table(path: str | Path | BinaryIO) -> bool:
    """Whether an MP3 says in its first frame how long it is (Xing's, LAME's or Fraunhofer's header)."""
    if isinstance(path, (str, Path)):
        with Path(path).open("rb") as opened:
            return _table_in(opened)
    place = path.tell()
    try:
        return _table_in(path)
    finally:
        path.seek(place)


def _table_in(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(10)
    tag = 0
    if head[:3] == b"ID3" and len(head) == 10:  # its size is in four times seven bits
        tag = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(tag)
    frame = file.read(4096)
    return any(word in frame for word in (b"Xing", b"Info", b"VBRI"))


def cut_short(name: str, present: float, promised: float) -> AudioError:
    """The error for a recording with `present` of `promised` seconds (infinite: nobody knows of how many)."""
    there = f"{present:.2f} s" + (f" of {promised:.2f} s" if math.isfinite(promised) else "")
    return AudioError(
        f"is cut short: {there} are there",
        where=name,
        mend="Copy it again; in a manifest, start and end may name the part to use.",
    )
