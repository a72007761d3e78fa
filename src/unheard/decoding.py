"""Opening of recordings with libsndfile, or with PyAV or ffmpeg for formats that libsndfile does not support.

Headers are not trusted if more data follows: lengths that an encoder never filled in are replaced before libsndfile
reads them, and files that were concatenated (FLAC, Ogg, MP3) are split into their streams and read as one.
"""

import abc
import importlib.util
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from unheard.errors import AudioError, UnreachableError
from unheard.files import LFS
from unheard.streams import Source, from_its_beginning, streams_of

SampleBlock: TypeAlias = npt.NDArray[np.float32]

UNKNOWN_LENGTH = 1 << 35  # libsndfile reports a huge number of frames for streams that do not state their length
LOWEST_RATE, HIGHEST_RATE = 4000, 10_000_000
"""In Hz; a lower rate cannot carry speech, and a rate out of this range suggests a wrong header."""

MOST_JOINED = 1000  # streams in one file; each takes memory while it is open

CONVERTED = {
    *(".m4a", ".m4b", ".m4r", ".m4v", ".mp4", ".mov", ".3gp", ".3g2", ".aac", ".webm", ".mkv", ".mka", ".wma", ".wmv"),
    *(".asf", ".amr", ".awb", ".mp2", ".spx", ".gsm"),
}
"""Suffixes of formats that PyAV or ffmpeg read and libsndfile does not (it does read .opus)."""
FOREIGN = {
    *(".wv", ".ape", ".tta", ".mpc", ".shn", ".ac3", ".eac3", ".dts", ".ra", ".rm", ".dss", ".ds2", ".qcp", ".oma"),
    *(".avi", ".flv", ".mpg", ".mpeg", ".vob", ".ogv"),
}
"""Suffixes of formats with sound that are not read."""

_SYSTEM_ERROR = 2  # libsndfile's code for an error of the operating system
_MARKS = {
    b"\x1aE\xdf\xa3": "WebM or Matroska",
    b"#!AMR": "AMR",
    b"0&\xb2u": "WMA",
    b"\xff\xf1": "AAC",
    b"\xff\xf9": "AAC",
}
_CODECS = {0x28F: "G.722", 0x64: "G.726", 0x45: "G.726", 0x14: "G.723", 0x55: "MP3 in WAV", 0xFF: "AAC in WAV"}
_AV_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,amr,amrnb,amrwb,asf,aac,adts,mp3,ogg,flac,wav,g722,g726,gsm,aiff,caf"
)


class Decoder(abc.ABC):
    """A recording being decoded; `frames` is at least `UNKNOWN_LENGTH` if the length is not known."""

    samplerate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @abc.abstractmethod
    def read(self, frames: int) -> SampleBlock:
        """Return the next samples (at most `frames`, channels), or an empty array at the end."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the file."""

    def seek(self, frame: int) -> None:
        """Skip frames from the beginning up to `frame`."""
        while frame > 0 and (passed := len(self.read(min(frame, 1 << 18)))):
            frame -= passed

    def missing_frames(self) -> float:
        """Return the number of frames that the header promises but the file lacks; infinite if unknown."""
        return 0


def open_audio(path: Source) -> Decoder:
    """Open a recording for decoding.

    Raises `AudioError` for a file that cannot be read, with the reason and a remedy, and `UnreachableError` for a file
    that cannot be opened now.
    """
    import soundfile

    name = name_of(path)
    try:
        decoder = _open_sndfile(path)
    except (soundfile.LibsndfileError, TypeError, OSError, ValueError) as error:
        refusal, elsewhere = _unreadable(path, name, error)
        converted = _open_converted(path) if elsewhere else None
        if converted is None:
            raise refusal from None
        decoder = converted
    if decoder.format in _ENDLESS:
        decoder.close()
        what = f"is a {decoder.format} file, and this format does not show whether a file is cut short"
        raise AudioError(what, where=name, mend="Convert it to WAV or FLAC.")
    if not LOWEST_RATE <= decoder.samplerate <= HIGHEST_RATE:
        decoder.close()
        wrong = "low to carry speech" if decoder.samplerate < LOWEST_RATE else "high"
        what = f"has a sample rate of {decoder.samplerate} Hz, too {wrong}"
        raise AudioError(what, where=name, mend="Its header may be wrong: export it again with its true rate.")
    return decoder


def name_of(path: Source) -> str:
    """Return the path as text, or the name of an open file."""
    return str(path) if isinstance(path, (str, Path)) else str(getattr(path, "name", "the audio"))


# Formats that libsndfile reads.


def _open_sndfile(path: Source) -> Decoder:
    if isinstance(path, (str, Path)) and Path(path).is_fifo() and not str(path).startswith(("/dev/", "/proc/")):
        mend = "Save it as a file, or give it on standard input: /dev/stdin."
        raise AudioError("this is a named pipe, and reading it may never end", where=str(path), mend=mend)
    if not isinstance(path, (str, Path)) or Path(path).is_file():
        with from_its_beginning(path) as opened:
            if _coding(opened.read(256)) in ("AAC", "MP4 or M4A"):  # which it may take for MP3, by the file's name
                raise ValueError("no format of libsndfile")
    streams = streams_of(path)
    if len(streams) == 1:
        return _Sndfile(streams[0])
    if streams:
        return _Joined(streams, name_of(path))
    if isinstance(path, (str, Path)):  # on POSIX names that are not Unicode can be opened too
        return _Sndfile(os.fsencode(path) if os.name == "posix" else str(path))
    return _Sndfile(path)


class _Sndfile(Decoder):
    """libsndfile's decoder."""

    def __init__(self, file: str | bytes | BinaryIO) -> None:
        import soundfile

        self._file = soundfile.SoundFile(file)
        self._error = soundfile.LibsndfileError
        self.samplerate, self.channels, self.frames = self._file.samplerate, self._file.channels, self._file.frames
        self.format, self.subtype = self._file.format, self._file.subtype
        self._unknown, self._log = self.frames >= UNKNOWN_LENGTH, self._file.extra_info
        if self.format == "NIST":  # libsndfile's log lacks the header's fields
            with from_its_beginning(os.fsdecode(file) if isinstance(file, (str, bytes)) else file) as opened:
                self._log = opened.read(1024).decode("latin-1")
            self._file.seek(0)

    def read(self, frames: int) -> SampleBlock:
        block: SampleBlock = np.full((min(frames, self.frames), self.channels), np.nan, np.float32)
        try:
            block = self._file.read(out=block)
        except self._error:  # after damage; or of unknown length, where it seeks after reading, which fails at the end
            block = block[: int(np.isfinite(block[:, 0]).sum())]
            if not (self._unknown or len(block)):
                raise
        return block

    def seek(self, frame: int) -> None:
        try:
            self._file.seek(frame)
        except self._error:  # a coding without random access (GSM, some ADPCM)
            super().seek(frame)

    def close(self) -> None:
        self._file.close()

    def missing_frames(self) -> float:
        pattern = _CUT.get(self.format)
        match = re.search(pattern, self._log, re.MULTILINE) if pattern else None
        if match is None:
            return 0
        if not match.groupdict():
            return math.inf
        if "frames" in match.groupdict():
            return max(0.0, int(match["frames"]) - float(self.frames))
        promised, present = int(match["promised"]), int(match["present"])
        if (promised >= 0x7FFFF000 and self.format in ("WAV", "WAVEX", "AU", "AIFF")) or present <= 0:
            return 0  # the length was unknown when the header was written to a pipe
        return float(max(0, round(self.frames * (promised / present - 1))))


_CUT = {
    **dict.fromkeys(("WAV", "WAVEX"), r"^data : (?P<promised>\d+) \(should be (?P<present>\d+)\)"),
    "AIFF": r"^ *SSND : (?P<promised>\d+) \(should be (?P<present>\d+)\)",
    "AU": r"^ *Data Size *: (?P<promised>\d+) \(should be (?P<present>\d+)\)",
    "W64": r"^riff : (?P<promised>\d+) \(should be (?P<present>\d+)\)",
    "RF64": r"frame count (?P<present>\d+) does not match value from 'ds64' chunk of (?P<promised>\d+)",
    "VOC": r"^Seems to be a truncated file",
    "SVX": r"^ *BODY : (?P<promised>\d+) \(should be (?P<present>\d+)\)",
    "MAT4": r"truncated\. (?P<present>\d+) <--> (?P<promised>\d+)",
    "WVE": r"^Data length (?P<promised>\d+) should be (?P<present>\d+)",
    "MAT5": r"Cols : (?P<frames>\d+)\s(?![\s\S]*Cols)",
    **dict.fromkeys(("AVR", "MPC2K"), r"^ *Frames +: (?P<frames>\d+)"),
    "NIST": r"^sample_count -i (?P<frames>\d+)",
    "OGG": r"^Ogg ?: Junk after the last page",
}
"""Format -> pattern in libsndfile's log for a file that ends before its header says; libsndfile reads the rest."""
_ENDLESS = ("IRCAM", "PAF", "PVF", "SD2", "XI")  # formats whose header does not state where the samples end


class _Joined(Decoder):
    """Decoder of several consecutive streams in one file; raises `AudioError` if their rates or channels differ."""

    def __init__(self, streams: Sequence[BinaryIO], name: str) -> None:
        if len(streams) > MOST_JOINED:
            what = f"joins {len(streams):,} recordings, more than the {MOST_JOINED:,} read as one"
            raise AudioError(what, where=name, mend="Give them as separate files.")
        self._parts, self._part = [_Sndfile(stream) for stream in streams], 0
        parts, first = self._parts, self._parts[0]
        if len({(part.samplerate, part.channels) for part in parts}) > 1:
            self.close()
            raise _differing(name)
        self.samplerate, self.channels, self.format = first.samplerate, first.channels, first.format
        self.subtype, self.frames = first.subtype, sum(part.frames for part in parts)

    def read(self, frames: int) -> SampleBlock:
        while self._part < len(self._parts):
            block = self._parts[self._part].read(frames)
            if len(block):
                return block
            self._part += 1
        return np.zeros((0, self.channels), np.float32)

    def seek(self, frame: int) -> None:
        self._part = 0
        while self._part < len(self._parts) - 1 and frame >= self._parts[self._part].frames:
            frame -= self._parts[self._part].frames
            self._part += 1
        part = self._parts[self._part]
        part.seek(min(frame, part.frames))

    def missing_frames(self) -> float:
        return sum(part.missing_frames() for part in self._parts)

    def close(self) -> None:
        for part in self._parts:
            part.close()


def _differing(name: str) -> AudioError:
    what = "joins recordings of different sample rates or channels"
    return AudioError(what, where=name, mend="Give them as separate files.")


# Formats that libsndfile does not read.


def can_convert() -> bool:
    """Return whether PyAV or ffmpeg is installed for formats that libsndfile does not read."""
    return importlib.util.find_spec("av") is not None or shutil.which("ffmpeg") is not None


def _is_joined(path: Source) -> bool:
    """Return whether a file is several concatenated ones (WAV, MP4), of which decoders would read only the first."""
    files, at = 0, 0
    with from_its_beginning(path) as opened:
        for _ in range(1000):  # an MP4 box begins with its size (4 bytes; 1: 8 bytes after the type) and its type
            opened.seek(at)
            head = opened.read(16)
            length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
            files, at = files + (head[4:8] == b"ftyp"), at + length
            if length < 8:
                break
    return files > 1 or len(streams_of(path)) > 1


def _open_converted(path: Source) -> Decoder | None:
    """Open a file with PyAV (extra `media`) or ffmpeg; return None without either or if they cannot read it."""
    if _is_joined(path):
        what = "joins several recordings, of which only the first would be read"
        raise AudioError(what, where=name_of(path), mend="Give them as separate files.")
    with suppress(ImportError):
        import av

        with suppress(av.FFmpegError, ValueError, OSError):
            return _PyAV(path)
        return None
    if (ffmpeg := shutil.which("ffmpeg")) and isinstance(path, (str, Path)):
        import soundfile

        wave = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as its decoder
        command = [ffmpeg, "-v", "error", "-i", f"file:{path}", "-vn", "-f", "au", "-c:a", "pcm_f32be", "-"]
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=wave, stderr=subprocess.DEVNULL).returncode == 0:
            wave.seek(0)
            with suppress(soundfile.LibsndfileError):
                return _Sndfile(wave)
        wave.close()
    return None


class _PyAV(Decoder):
    """Decoder with ffmpeg's codecs through PyAV; files that a container refers to are not opened."""

    def __init__(self, path: Source) -> None:
        import av

        file = str(path) if isinstance(path, (str, Path)) else path
        options = {"protocol_whitelist": "file,pipe", "format_whitelist": _AV_FORMATS}
        self._container = cast(Any, av.open(file, options=options))
        streams = self._container.streams.audio
        if len(streams) != 1 or streams[0].codec_context is None:
            self._container.close()
            if len(streams) < 2:
                raise ValueError("no sound that can be decoded")
            what = f"holds {len(streams)} sound tracks, of which only the first would be read"
            raise AudioError(what, where=name_of(path), mend="Save each as a file: ffmpeg -i IN -map 0:a:1 OUT.wav")
        stream = streams[0]
        self.samplerate, self.channels = int(stream.rate), int(stream.codec_context.channels)
        self.format, self.subtype = self._container.format.name.split(",")[0].upper(), stream.codec_context.name.upper()
        self.frames = UNKNOWN_LENGTH
        self._pieces, self._left = self._decoded(stream, name_of(path)), np.zeros((0, self.channels), np.float32)

    def _decoded(self, stream: Any, name: str) -> Iterator[SampleBlock]:
        """Yield samples to the end; raises `AudioError` for damage, and for a truncated Matroska, MP4 or WAV file."""
        import av

        resampler, rate, count, stated = av.AudioResampler("fltp"), self.samplerate, 0, 0.0
        if stream.duration:
            stated = float(stream.duration * stream.time_base)
        elif self._container.duration and not self._container.streams.video:  # a film's sound may end before its video
            stated = self._container.duration / av.time_base
        try:
            for frame in self._container.decode(stream):
                if (frame.sample_rate, frame.layout.nb_channels) != (rate, self.channels):
                    raise _differing(name)
                for out in resampler.resample(frame):
                    count += out.samples
                    yield out.to_ndarray().T.astype(np.float32, copy=False)
        except av.FFmpegError as error:
            what = f"breaks off after {count / rate:.2f} s ({error.strerror})"
            raise AudioError(what, where=name, mend="Copy it again.") from None
        if self.format in ("MATROSKA", "MOV", "WAV") and count / rate < stated - 0.5:  # other formats estimate it
            what = f"is cut short: it holds {count / rate:.2f} s of {stated:.2f} s"
            raise AudioError(what, where=name, mend="Copy it again.")

    def read(self, frames: int) -> SampleBlock:
        pieces, count = [self._left], len(self._left)
        while count < frames and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece)
            count += len(piece)
        samples = np.concatenate(pieces)
        self._left = samples[frames:]
        return np.ascontiguousarray(samples[:frames])

    def close(self) -> None:
        self._container.close()


def _unreadable(path: Source, name: str, error: Exception) -> tuple[AudioError, bool]:
    """Return the error for a file that libsndfile refused, and whether other decoders may read the file."""
    kind, elsewhere, head = AudioError, False, b""
    with suppress(OSError, ValueError):  # reported below
        if isinstance(path, (str, Path)) and not Path(path).exists():
            return AudioError("there is no such file", where=name, mend="Check the path."), False
        if isinstance(path, (str, Path)) and Path(path).is_dir():
            return AudioError("this is a folder", where=name, mend="Name one recording in it."), False
    try:
        with from_its_beginning(path) as opened:
            head = opened.read(256)
    except (OSError, ValueError) as refused:
        what = f"cannot be opened: {getattr(refused, 'strerror', None) or refused}"
        return UnreachableError(what, where=name, mend="Check the path and its permissions."), False
    reason = (str(getattr(error, "error_string", "")) or "Format not recognised.").rstrip(".")
    coding = _coding(head)
    if not head:
        what, mend = "the file is empty", "Copy or record it again."
    elif head.startswith(LFS):
        what, mend = "this is a Git LFS pointer, not the recording", "Fetch the recordings with: git lfs pull"
    elif coding or Path(name).suffix.lower() in CONVERTED | FOREIGN:
        elsewhere, target = bool(coding) or Path(name).suffix.lower() in CONVERTED, Path(name).with_suffix(".wav").name
        command = f'onvert it with: ffmpeg -i "{name}" -ac 1 -ar 16000 "{target}"'
        what, mend = f"{coding or 'this format'} needs a conversion first", f"C{command}"
        if elsewhere and can_convert():
            what, mend = f"{what}, which failed", f"Copy it again if it is cut or damaged, or c{command}"
        elif elsewhere:
            mend += '; or: pip install "unheard[media]"'
    elif getattr(error, "code", None) == _SYSTEM_ERROR:
        kind, what, mend = UnreachableError, f"cannot be read ({reason})", "Check the disk; try again."
    else:
        if re.fullmatch(rb"[\s!-~]{5,}", head[:40]):  # such as a web page in place of a download
            reason = f"it is text: {head[:40].decode()!r}"
        what = f"cannot be read as audio ({reason})"
        mend = "WAV, FLAC, OGG and MP3 are read; check that the file is complete."
    return kind(what, where=name, mend=mend), elsewhere


def _coding(head: bytes) -> str:
    """Return the name of a coding that libsndfile lacks; empty for others."""
    if head[4:8] == b"ftyp":
        return "MP4 or M4A"
    if head[:4] == b"OggS":
        names = {b"Speex": "Speex", b"\x7fFLAC": "FLAC in Ogg"}
        return next((name for mark, name in names.items() if mark in head[:64]), "")
    if head[:4] == b"RIFF" and (at := head.find(b"fmt ")) > 0:
        return _CODECS.get(int.from_bytes(head[at + 8 : at + 10], "little"), "")
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")
