"""Archives from strangers, unpacked so that they can write nowhere but where they are told.

Every name is checked before anything is written; only plain files come out; their size is counted while it
is written, because the size an archive declares is a promise.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from unheard.corpora.part import unwritable
from unheard.errors import FetchError

MOST_FILES = 200_000
"""Files in one archive; the largest corpus with a reader has 35,000."""

_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError, NotImplementedError
)  # fmt: skip
_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out: how many files and bytes, and one SHA-256 over all names and contents.

    `contents` does not depend on the order, the times or the compression in the archive.
    """

    files: int
    size: int
    contents: str


def unpack(
    archive: Path, folder: Path, *, strip: int = 0, keep: Sequence[str] = (), most_bytes: int | None = None
) -> Unpacked:
    """Write the plain files of a zip or tar `archive` into `folder`.

    `strip` leading folders are taken off each name; with `keep` only names that match one of these patterns
    come out. `most_bytes` bounds the sum, by default 64 MiB plus 50 times the archive's size. Raises
    `FetchError` for anything that is no such archive, is damaged, is too large, names a place outside
    `folder`, or holds links, devices, encrypted or doubled files; then what was written so far is of no use.
    """
    limit = most_bytes if most_bytes is not None else (64 << 20) + 50 * archive.stat().st_size
    size, digests = 0, {}
    with _members(archive) as members:
        chosen: dict[str, Any] = {}
        for name, member in members:
            target = _target(archive, name, strip)
            if target is None or (keep and not any(fnmatchcase(target, pattern) for pattern in keep)):
                continue
            if target in chosen:
                raise _refuse(archive, f"holds '{target}' twice")
            chosen[target] = member
            if len(chosen) > MOST_FILES:
                raise _refuse(archive, f"holds more than {MOST_FILES:,} files")
        for target, open_member in chosen.items():
            digest = hashlib.sha256()
            with open_member() as source, _created(folder.joinpath(*target.split("/"))) as write:
                while block := source.read(1 << 20):
                    size += len(block)
                    if size > limit:
                        raise _refuse(archive, f"unpacks to more than {limit:,} bytes")
                    digest.update(block)
                    write(block)
            digests[target] = digest.hexdigest()
    whole = hashlib.sha256()
    for target in sorted(digests):
        whole.update(f"{digests[target]}  {target}\n".encode())
    return Unpacked(len(digests), size, whole.hexdigest())


@contextmanager
def _created(path: Path) -> Iterator[Callable[[bytes], None]]:
    """A new file as a function that writes to it; an `OSError` of the disk becomes a `FetchError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except OSError as error:
        raise unwritable(path, error) from error

    def write(block: bytes) -> None:
        try:
            file.write(block)
        except OSError as error:
            raise unwritable(path, error) from error

    with file:
        yield write


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, Any]]]:
    """Names of the plain files of `archive`, each with a function that opens it."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                yield _of_zip(archive, opened)
        else:
            with tarfile.open(archive) as opened_tar:
                yield _of_tar(archive, opened_tar)
                # tarfile stops before the end, where gzip keeps its checksum: read on, so that it counts.
                while opened_tar.fileobj is not None and opened_tar.fileobj.read(1 << 20):
                    pass
    except _DAMAGE as error:
        raise FetchError(
            f"this is not a whole zip or tar archive ({error})",
            where=archive,
            mend="Remove it and fetch it again.",
        ) from error


def _of_zip(archive: Path, opened: zipfile.ZipFile) -> Iterator[tuple[str, Any]]:
    for info in opened.infolist():
        mode = info.external_attr >> 16
        if info.is_dir():
            continue
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _refuse(archive, f"holds '{info.filename}', which is no plain file")
        if info.flag_bits & 1:
            raise _refuse(archive, f"holds '{info.filename}', which is encrypted")
        yield info.filename, lambda info=info: opened.open(info)


def _of_tar(archive: Path, opened: tarfile.TarFile) -> Iterator[tuple[str, Any]]:
    for info in opened:
        if info.isdir():
            continue
        if not info.isreg():
            raise _refuse(archive, f"holds '{info.name}', which is no plain file")
        yield info.name, lambda info=info: opened.extractfile(info)


def _target(archive: Path, name: str, strip: int) -> str | None:
    """`name` as a safe relative path without its first `strip` folders; None for what is not wanted."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    absolute = name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name)
    if absolute or ".." in parts or any(ord(letter) < 32 for letter in name):
        raise _refuse(archive, f"names a place outside its folder ({name!r})")
    if not parts or any(part in _LITTER or part.startswith("._") for part in parts):
        return None
    return "/".join(parts[strip:]) or None


def _refuse(archive: Path, what: str) -> FetchError:
    return FetchError(
        f"the archive {what}; nothing of it was taken over",
        where=archive,
        mend="Do not trust it: get the corpus from its home page.",
    )
