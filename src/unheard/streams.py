"""Repair of files that libsndfile would misread: unfinished headers and concatenated streams.

Lengths that an encoder never filled in are replaced in a private copy of the file's pages, and concatenated files (WAV,
FLAC, Ogg, MP3) are split.
"""

import io
import mmap
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

Source: TypeAlias = str | Path | BinaryIO


@contextmanager
def from_its_beginning(path: Source) -> Iterator[BinaryIO]:
    """Open a recording for reading bytes; an already open file is rewound before and after."""
    if isinstance(path, (str, Path)):
        with Path(path).open("rb") as opened:
            yield opened
        return
    path.seek(0)
    try:
        yield path
    finally:
        path.seek(0)


_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_SYNC = re.compile(rb"\xff[\xf8\xf9](?=.{14})", re.DOTALL)  # start of a FLAC frame
_OGG = re.compile(rb"OggS\x00(.)", re.DOTALL)
_MP3 = re.compile(rb"\xff[\xe2-\xff][\x10-\xef].(?:.{9}|.{17}|.{32})(?:..)?(Xing|Info|VBRI)(.{12})", re.DOTALL)
_WAV = re.compile(rb"(?:RIFF|RF64).{4}WAVE", re.DOTALL)
_WHOLE: Mapping[bytes, re.Pattern[bytes]] = {
    **dict.fromkeys((b"RIFF", b"RF64"), _WAV),
    b"fLaC": _FLAC,
    b"FORM": re.compile(rb"FORM.{4}AIF[FC]", re.DOTALL),
    b"caff": re.compile(rb"caff\x00\x01..desc", re.DOTALL),
    b".snd": re.compile(rb"\.snd\x00\x00"),
}
"""First bytes -> pattern of the beginning of such a file."""
_STREAMED = re.compile(_FLAC.pattern + rb"|OggS|ID3|\xff[\xe0-\xff]")


def streams_of(path: Source) -> list[BinaryIO]:
    """Return the streams of a concatenated file, or one stream if the header needs repair; else an empty list.

    A file in memory is always returned as a stream: libsndfile may seek before its beginning, where `BytesIO` raises.
    """
    if isinstance(path, (str, Path)) and not Path(path).is_file():  # a pipe can be read only once
        return []
    with from_its_beginning(path) as opened:
        head, size = opened.read(4096), opened.seek(0, io.SEEK_END)
        changes, joined = _length_of_chunk(opened, head, size)
        streamed, in_memory = joined or _STREAMED.match(head), isinstance(path, io.BytesIO)
        if not (changes or streamed or in_memory):
            return []
        opened.seek(0)
        try:  # copy on write: only changed pages take memory
            data = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY))
        except (OSError, ValueError, AttributeError):  # a file in memory
            content = opened.read()
            data = memoryview(bytearray(content) if changes or head[:4] == b"fLaC" else content)
        starts = _starts(data, head, has_length_table(opened)) if streamed else [0]
    for at, new in changes.items():
        data[at : at + len(new)] = new
    ends = [*starts[1:], _end_of_ogg(data) if head[:4] == b"OggS" else size]
    streams = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    mended = [_Bytes(stream) for stream in streams]
    if streamed and not joined and head[:4] != b"OggS":
        mended = list(map(_with_length if head[:4] == b"fLaC" else _with_table, streams))
    if not (changes or in_memory or streams[1:] or mended[0].changed or ends[-1] < size):
        return []
    return [cast("BinaryIO", stream) for stream in mended]


_CHUNKS: Mapping[bytes, tuple[Literal["little", "big"], int, int, bytes, int]] = {
    **dict.fromkeys((b"RIFF", b"RF64"), ("little", 4, 12, b"data", 0)),
    b"RIFX": ("big", 4, 12, b"data", 0),
    b"FORM": ("big", 4, 12, b"SSND", 8),
    b"caff": ("big", 8, 8, b"data", 4),
}
"""First bytes -> byte order and width of a chunk's length, position of the first chunk, name of the chunk with samples,
and number of bytes in that chunk before the samples."""


def _length_of_chunk(opened: BinaryIO, head: bytes, size: int) -> tuple[dict[int, bytes], bool]:
    """Return the bytes to replace (position -> bytes) in a chunked file, and whether another file follows in it.

    A length counts as never filled in if it is 0, or if anything but a chunk or zeros follows the samples.
    """
    if head[:4] == b".snd":
        opened.seek(min(size, sum(int.from_bytes(head[at : at + 4], "big") for at in (4, 8))))
        return ({8: b"\xff" * 4} if head[8:12] == bytes(4) else {}), opened.read(4) == b".snd"
    if head[:4] not in _CHUNKS:
        return {}, False
    order, width, at, samples, before = _CHUNKS[head[:4]]
    name, stated, sizes = b"", 0, b""
    for _ in range(1000):
        opened.seek(min(at, size))
        name, stated = opened.read(4), int.from_bytes(opened.read(width), order)
        at += 4 + width
        if name == samples or at > size:
            break
        sizes = opened.read(16) if name == b"ds64" else sizes  # sizes of an RF64 file and of its samples
        at += stated + (stated % 2 if width == 4 else 0)
    if name != samples or at > size:
        return {}, False
    stated = int.from_bytes(sizes[8:], "little") if sizes and stated == 0xFFFFFFFF else stated
    opened.seek(min(at + stated, size))
    follows = opened.read(1 << 16)  # may begin with a padding byte
    if stated > before and head[:4] in _WHOLE and _WHOLE[head[:4]].match(follows, follows.startswith(b"\0")):
        return {}, True
    named = re.match(rb"\0?(?:[A-Za-z0-9 _]{4}|ID3|TAG)", follows) is not None
    if stated <= before:
        chunk = named and at + stated + 4 + width + int.from_bytes(follows[4 : 4 + width], order) <= size + 1
        unfinished = size > at + before and not chunk
    else:
        unfinished = len(follows) > 4096 and not named and any(follows)
    if not (unfinished or (stated >> 63 and size > at + before)):
        return {}, False
    length = min(size - at, 256**width - 1).to_bytes(width, order)
    return {at - width: length} | ({0: b"RIFF"} if head[:4] == b"RF64" else {}), False


def _starts(data: memoryview, head: bytes, has_table: bool) -> list[int]:
    """Return the byte positions where the streams of a file begin."""
    if head[:4] == b"OggS":
        pages = [(page.start(), bool(page[1][0] & 0x02)) for page in _OGG.finditer(data)]
        # the first pages of multiplexed streams are adjacent
        before = [False, *(first for _, first in pages)]
        return [at for (at, first), follows in zip(pages, before, strict=False) if first and not follows] or [0]
    if head[:4] in _WHOLE:
        return [match.start() for match in _WHOLE[head[:4]].finditer(data)]
    tables = list(_MP3.finditer(data))
    starts = {0, *(table.start() for table in tables[has_table:])}  # the first table belongs to the first stream
    tags: set[int] = set()  # positions of tags skipped: many tables may point to the same one
    for table in tables:  # if it states the bytes of its stream, another stream without a table may follow
        flags = table[2][3]
        end = table.start() + int.from_bytes(table[2][8:] if flags & 1 else table[2][4:8], "big")
        while flags & 2 and end not in tags and (tag := _length_of_tag(bytes(data[end : end + 10]))):
            tags.add(end)
            end += tag
        if flags & 2 and re.match(rb"\xff[\xe2-\xff][\x10-\xef]", data[end : end + 4]):
            starts.add(end)
    return sorted(starts)


def _end_of_ogg(data: memoryview) -> int:
    """Return where the page that ends the last stream ends, as tags or zeros may follow; without one, the length."""
    tail = bytes(data[-(1 << 17) :])
    page = tail[at:] if (at := tail.rfind(b"OggS\0")) >= 0 else b""
    if len(page) < 27 or not page[5] & 0x04:
        return len(data)
    length = 27 + page[26] + sum(page[27 : 27 + page[26]])
    return len(data) - max(0, len(page) - length)


def has_length_table(path: Source) -> bool:
    """Return whether the first frame of an MP3 states the number of frames (Xing, LAME or Fraunhofer header)."""
    with from_its_beginning(path) as opened:
        opened.seek(_length_of_tag(opened.read(10)))
        head = opened.read(4096)
    table = _MP3.search(head[: _frame_length(head)] if _LAYER_3.match(head) else head)
    return table is not None and (table[1] == b"VBRI" or bool(table[2][3] & 1 and any(table[2][4:8])))


def _length_of_tag(head: bytes) -> int:
    """Return the length in bytes of the MP3 tag that begins with `head` (10 bytes), or 0 if it is not a tag."""
    if head[:3] == b"TAG":
        return 128
    if head[:3] != b"ID3" or len(head) < 10:
        return 0  # the size is stored in four times seven bits
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def _with_length(flac: memoryview) -> "_Bytes":
    """Return a FLAC stream; if its header states fewer samples than the stream has, mark the length as unknown."""
    if len(flac) < 42:  # the header
        return _Bytes(flac)
    stated, block = (flac[21] & 0x0F) << 32 | int.from_bytes(flac[22:26], "big"), int.from_bytes(flac[8:10], "big")
    tail = bytes(flac[max(42, len(flac) - (1 << 16)) :]) if stated else b""
    last = 0
    for at in [sync.start() for sync in _SYNC.finditer(tail)][:-21:-1]:  # a frame has at most two chance matches
        header = tail[at : at + 16]  # the number of the frame, or of its first sample, is coded like UTF-8 in 1-7 bytes
        more = max(0, 7 - (header[4] ^ 0xFF).bit_length())
        end = 5 + more + {6: 1, 7: 2}.get(header[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(header[2] & 0x0F, 0)
        if end < len(header) and _crc8(header[:end]) == header[end]:
            last = header[4] & (0x7F >> more + 1 if more else 0x7F)
            for byte in header[5 : 5 + more]:
                last = last << 6 | byte & 0x3F
            last *= 1 if header[1] & 1 else block
        if last:
            break
    if stated > last or (stated and not last):
        return _Bytes(flac)
    flac[21], flac[22:26] = flac[21] | 0x0F, b"\xff" * 4
    return _Bytes(flac, changed=True)


def _crc8(data: bytes) -> int:
    """Return the checksum of a FLAC frame header."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ 0x107 * (crc >> 7)
    return crc


_LAYER_3 = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef].", re.DOTALL)
_KBPS: dict[int, tuple[int, ...]] = {3: (0, *range(32, 64, 8), *range(64, 128, 16), *range(128, 256, 32), 256, 320)}
_KBPS |= dict.fromkeys((0, 2), (0, *range(8, 64, 8), *range(64, 160, 16), 160))
"""Version (3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5) -> bit rates of a Layer III frame by index."""


def _with_table(data: memoryview) -> "_Bytes":
    """Return an MP3 stream with a leading frame that states their number; without it, libsndfile guesses the length."""
    stream = _Bytes(data)
    if has_length_table(cast("BinaryIO", stream)):
        return stream
    at, count = _length_of_tag(bytes(data[:10])), 0
    first = _LAYER_3.match(data, at)
    if first is None or not _LAYER_3.match(data, at + _frame_length(first[0])):
        return stream
    while match := _LAYER_3.search(data, at):
        at, header = match.start(), match[0]
        if header[1] & 0xFE == first[0][1] & 0xFE and header[2] & 0x0C == first[0][2] & 0x0C:
            count, at = count + 1, at + _frame_length(header)
        else:
            at += 1
    header = bytes([0xFF, first[0][1] | 1, 0xE0 | first[0][2] & 0x0C, first[0][3]])  # long enough at its highest rate
    side = ((9, 17) if header[1] >> 3 & 3 != 3 else (17, 32))[header[3] >> 6 != 3]
    frame = header + bytes(side) + b"Xing" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
    return _Bytes(data[first.start() :], frame.ljust(_frame_length(header), b"\0"), changed=True)


def _frame_length(header: bytes) -> int:
    """Return the length in bytes of the Layer III frame that begins with `header` (4 bytes)."""
    version = header[1] >> 3 & 3
    rate = (44_100, 48_000, 32_000, 1 << 30)[header[2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]  # the last: invalid
    slots = (144 if version == 3 else 72) * 1000 * _KBPS[version][header[2] >> 4] // rate
    return max(4, slots + (header[2] >> 1 & 1))


class _Bytes(io.RawIOBase):
    """A read-only file of the bytes `front` and `data`; `changed` if it differs from the recording's file."""

    def __init__(self, data: memoryview, front: bytes = b"", *, changed: bool = False) -> None:
        self._front, self._data, self.changed, self._place = memoryview(front), data, changed, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, (0, self._place, len(self._front) + len(self._data))[whence] + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        behind = self._place - len(self._front)
        part = self._data[behind:] if behind >= 0 else self._front[self._place :]
        part = part[: len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)
