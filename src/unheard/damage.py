"""What is wrong with a file that libsndfile refuses, or that ends before its header says."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from unheard.errors import AudioError, UnreachableError

if TYPE_CHECKING:
    import soundfile

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
