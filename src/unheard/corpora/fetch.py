"""`unheard fetch NAME`: the corpora that anyone may download, and for the others where to ask.

    DOWNLOADS[name] -> archive (resumed, checked) -> unpacked in a room of its own -> folder, fetched.json

`fetched.json` remembers what came: the checksums that later downloads must match, and whether all is there.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from unheard import __version__
from unheard.corpora import official
from unheard.errors import FetchError

RECORD = "fetched.json"
"""The file in a fetched folder that says what was fetched."""

_STAGE = ".unpacking"
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n"
)
_AT_ONCE = 4  # connections for a corpus of many small files


def fetch(name: str, folder: str | Path, *, url: str | None = None, progress: bool = True) -> Path:
    """Download the corpus `name` into `folder` and return it, ready for `read_corpus`.

    An interrupted call is gone on with by the next; a call for a folder that is complete does nothing. `url`
    is another address of the same archive, a mirror, say. The archive must have the published checksum, or,
    where none is published, the one it had when first seen (`fetched.json`). Raises `FetchError` when the
    licence does not let anyone download it, when the folder holds something else, and for whatever goes
    wrong on the way.
    """
    facts = official(name)
    source = DOWNLOADS.get(facts.name)
    if source is None:
        raise FetchError(
            f"{facts.title} cannot be downloaded by this program (licence: {facts.licence})",
            mend=facts.obtain,
        )
    root = Path(folder).expanduser().absolute()
    record = _open_folder(facts.name, root)
    if record.get("complete") and _still_there(root, record):
        return root
    _save(root, record | {"complete": False})
    archive = root / source.file
    address = url or source.url
    stage = root / _STAGE
    known = record.get("archive", {})
    with _shown(facts.name, progress) as show:
        expected = source.checksum
        if expected is None and not source.made_on_demand and known:
            expected = f"sha256:{known['sha256']}"
        if archive.is_file() and not known:
            archive.unlink()
        if not archive.is_file():
            received = _first_seen(address, archive, source, expected, show)
            known = known | {
                "url": address,
                "file": source.file,
                "size": received.size,
                "sha256": received.sha256,
                "published": source.checksum,
            }
            record = record | {"archive": known}
            _save(root, record | {"complete": False})
        _clear(stage)
        try:
            unpacked = _unpacked(archive, stage, source)
        except FetchError:
            if "contents" not in record:  # what could not be used does not count as seen first
                _save(root, {"corpus": facts.name, "complete": False})
            raise
        first = record.get("contents")
        if first and first != unpacked.contents:
            _clear(stage)
            archive.unlink()
            raise _changed(address, root, first, unpacked.contents)
        record = record | {"contents": unpacked.contents}
        _save(root, record | {"complete": False})
        names = _move(stage, root, source, show)
    _clear(stage)
    archive.unlink()
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    _save(root, record | {"complete": True, "fetched": when, "files": names})
    return root


def _first_seen(url: str, archive: Path, source: Download, expected: str | None, show: Progress) -> Received:
    try:
        return download(url, archive, checksum=expected, progress=show)
    except FetchError as error:
        if expected and expected in error.what and source.checksum is None:
            raise FetchError(
                f"{error.what}; no checksum is published, and this one is not the one seen first here",
                where=error.where,
                mend=f"If its makers have released it anew, fetch it into a new folder. {error.mend or ''}",
            ) from error
        raise


def _unpacked(archive: Path, stage: Path, source: Download) -> Unpacked:
    try:
        unpacked = unpack(archive, stage, strip=source.strip, keep=source.keep)
    except FetchError:
        _clear(stage)
        archive.unlink(missing_ok=True)
        raise
    if not unpacked.files:
        archive.unlink()
        raise FetchError("the archive holds nothing of the corpus", where=archive, mend="Is it the right address?")
    return unpacked


def _changed(url: str, root: Path, first: str, now: str) -> FetchError:
    return FetchError(
        f"the archive holds something else than when it was first fetched into {root} "
        f"(contents {now[:16]}..., then {first[:16]}...); it was removed, the files here are unchanged",
        where=url,
        mend="If its makers have released it anew, fetch it into a new folder.",
    )


def _open_folder(name: str, root: Path) -> dict[str, Any]:
    """What `fetched.json` says; raises `FetchError` when the folder holds something else."""
    path = root / RECORD
    if root.exists() and not root.is_dir():
        raise FetchError("this is a file, not a folder", where=root, mend="Name a new folder.")
    if not path.is_file():
        if root.is_dir() and any(root.iterdir()):
            raise FetchError(
                f"this folder is not empty and was not made by 'unheard fetch {name}'",
                where=root,
                mend="Name a new or empty folder; nothing here was touched.",
            )
        return {"corpus": name}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = record["corpus"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FetchError(
            "this record of an earlier download is damaged",
            where=path,
            mend="Fetch into a new folder, or remove this one.",
        ) from error
    if found != name:
        raise FetchError(f"this folder holds '{found}', not '{name}'", where=root, mend="Name another folder.")
    return dict(record)


def _save(root: Path, record: dict[str, Any]) -> None:
    path = root / RECORD
    temporary = path.with_name(path.name + ".new")
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error


def _still_there(root: Path, record: dict[str, Any]) -> bool:
    return all((root / name).is_file() for name in record.get("files", ()))


def _move(stage: Path, root: Path, source: Download, show: Progress) -> list[str]:
    """Put every unpacked file in its place, each in one step, and fetch those that are only pointed to."""
    names, pointers = [], {}
    for path in sorted(p for p in stage.rglob("*") if p.is_file()):
        name = path.relative_to(stage).as_posix()
        names.append(name)
        if source.pointers and path.stat().st_size < 1024 and (match := _POINTER.match(path.read_bytes())):
            pointers[name] = (match[1].decode(), int(match[2]))
            continue
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(root / name)
        except OSError as error:
            raise unwritable(root / name, error) from error
    _resolve(pointers, root, source, show)
    return names


def _resolve(pointers: dict[str, tuple[str, int]], root: Path, source: Download, show: Progress) -> None:
    """Download the files that Git LFS keeps apart, a few at once; each pointer holds its file's SHA-256."""
    whole, done = sum(size for _, size in pointers.values()), 0

    def one(item: tuple[str, tuple[str, int]]) -> int:
        name, (sha256, size) = item
        path = root / name
        if not (path.is_file() and path.stat().st_size == size):
            download(f"{source.pointers}{quote(name)}", path, checksum=f"sha256:{sha256}")
        return size

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = [pool.submit(one, item) for item in pointers.items()]
        try:
            for future in waiting:
                done += future.result()
                show(done, whole)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _clear(stage: Path) -> None:
    if stage.is_dir():
        shutil.rmtree(stage)


@contextmanager
def _shown(name: str, wanted: bool) -> Iterator[Progress]:
    """A progress bar with rate and time left on standard error; nothing when that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not (wanted and console.is_terminal)) as bar:
        task = bar.add_task(name, total=None)

        def show(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield show


# Where the corpora are that anyone may download, and what their files must be.
#
# A checksum stands here only where it was published by the corpus's keepers, with the place; the others are
# checked against the one seen first (`fetched.json` beside the files).


@dataclass(frozen=True, slots=True)
class Download:
    """One archive, and how it becomes the corpus's folder.

    `strip` leading folders are taken off the names inside; `keep` are patterns of the names that are wanted
    (all without). `made_on_demand`: the server packs the archive anew for each visitor, so that only its
    contents can be compared, not its bytes. `pointers`: address before the path of files that the archive
    only points to (Git LFS); each pointer carries the SHA-256 of its file. `size` is in bytes, roughly,
    for people. `source` says where address and checksum were found.
    """

    url: str
    file: str
    source: str
    checksum: str | None = None
    size: int | None = None
    strip: int = 0
    keep: tuple[str, ...] = ()
    made_on_demand: bool = False
    pointers: str | None = None


_CREMA_D = "CheyneyComputerScience/CREMA-D"

DOWNLOADS: dict[str, Download] = {
    "ased": Download(
        url="https://github.com/Ethio2021/ASED_V1/archive/refs/heads/main.zip",
        file="ASED_V1.zip",
        strip=1,
        made_on_demand=True,
        # Whether its audio lies in Git LFS is unverified; this costs nothing where it does not.
        pointers="https://media.githubusercontent.com/media/Ethio2021/ASED_V1/main/",
        source="https://github.com/Ethio2021/ASED_V1; no checksum published",
    ),
    "crema-d": Download(
        url=f"https://github.com/{_CREMA_D}/archive/refs/heads/master.zip",
        file="CREMA-D.zip",
        strip=1,
        keep=("AudioWAV/*", "*.csv", "LICENSE*", "README*"),
        made_on_demand=True,
        pointers=f"https://media.githubusercontent.com/media/{_CREMA_D}/master/",
        size=606_000_000,
        source="https://github.com/CheyneyComputerScience/CREMA-D: .gitattributes keeps *.wav in Git LFS",
    ),
    "emodb": Download(
        url="http://emodb.bilderbar.info/download/download.zip",
        file="download.zip",
        size=40_000_000,
        source="http://emodb.bilderbar.info/download/; no checksum published",
    ),
    "nemo": Download(
        url="https://github.com/amu-cai/nEMO/archive/refs/heads/main.zip",
        file="nEMO.zip",
        strip=1,
        made_on_demand=True,
        source="https://github.com/amu-cai/nEMO; address as used by public code, no checksum published",
    ),
    "ravdess": Download(
        url="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
        file="Audio_Speech_Actors_01-24.zip",
        checksum="md5:bc696df654c87fed845eb13823edef8a",
        size=208_468_073,
        source="https://zenodo.org/records/1188976 (address, size and MD5 as copied by several projects)",
    ),
    "tess": Download(
        url="https://borealisdata.ca/api/access/dataset/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF",
        file="TESS.zip",
        made_on_demand=True,
        size=268_000_000,
        source="https://doi.org/10.5683/SP2/E8H2MF, through the Data Access API of Dataverse",
    ),
}
"""Corpus name -> its download. Corpora that are not here are given out by their makers only."""


# The part of a file that has come so far, and what it is a part of.


@dataclass(frozen=True, slots=True)
class Received:
    """A file that has arrived: its size in bytes and the SHA-256 of its bytes."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """`FILE.part`, and beside it `FILE.part.json` with its address and the server's word for its version."""

    target: Path

    @property
    def path(self) -> Path:
        """Where the bytes are."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def note(self) -> Path:
        """Where it says what the bytes are a part of."""
        return self.target.with_name(self.target.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self, url: str) -> str:
        """What the server called this version of `url` (ETag or Last-Modified); "" if not to be continued."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            return str(note["validator"]) if note["url"] == url else ""
        except (OSError, ValueError, TypeError, KeyError):
            return ""

    def begin(self, url: str, validator: str) -> None:
        """Start from nothing and note what the bytes to come are a part of."""
        try:
            self.path.unlink(missing_ok=True)
            self.note.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
        except OSError as error:
            raise unwritable(self.path, error) from error

    def discard(self) -> None:
        """Forget what has come."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Make the part the file, in one step."""
        try:
            self.path.replace(self.target)
        except OSError as error:
            raise unwritable(self.target, error) from error
        self.discard()

    def digest(self, checksum: str | None) -> tuple[Received, str]:
        """Size and SHA-256 of the bytes, and their digest in the form of `checksum` ("" without one)."""
        kind = checksum.partition(":")[0].lower() if checksum else "sha256"
        digests = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", kind}}
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                for digest in digests.values():
                    digest.update(block)
        received = Received(self.size, digests["sha256"].hexdigest())
        return received, f"{kind}:{digests[kind].hexdigest()}" if checksum else ""

    def require_room(self, needed: int) -> None:
        """Raise `FetchError` when the disk has no room for `needed` bytes more."""
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise FetchError(
                f"the download needs {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free",
                where=self.path.parent,
                mend="Make room, or choose a folder on another disk.",
            )


def unwritable(path: Path, error: OSError) -> FetchError:
    """The error for a place that cannot be written to."""
    return FetchError(
        f"cannot write here ({error.strerror or error})",
        where=path,
        mend="Choose a folder on a disk with room that you may write to; what has come so far is kept.",
    )


# One file over HTTP: resumed where it stopped, checked before it counts, in place all at once.
#
# address -> FILE.part (and FILE.part.json: what it is a part of) -> checked -> FILE

CHUNK = 1 << 18
"""Bytes read at a time: 256 KiB."""

TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as dead."""

ATTEMPTS = 5
"""Attempts in a row that may bring nothing new before giving up."""

WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second attempt, doubled before each further one up to the longest."""

_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers that may be different in a while."""

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes so far and the bytes in all (None: the server does not say)."""


class _Lost(Exception):
    """The connection could not be made, or closed before all bytes had come."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Restart(Exception):
    """The part does not belong to what the server has now."""


def download(
    url: str,
    target: Path,
    *,
    checksum: str | None = None,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
    attempts: int = ATTEMPTS,
    wait: float = WAIT,
) -> Received:
    """Bring `url` to `target`, going on where an earlier call stopped; nothing is there until all is.

    `checksum` is `md5:<hex>` or `sha256:<hex>`; a file with another one is removed. A part is continued
    only when the server confirms by ETag or Last-Modified (If-Range) that the file is still the same.
    Raises `FetchError` for an address that does not answer, a full disk, a short or a wrong file.
    """
    part = Part(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(target.parent, error) from error
    failures, furthest, restarts = 0, part.size, 0
    while True:
        resumed = part.size > 0
        try:
            _attempt(url, part, progress, timeout)
        except _Restart:
            part.discard()
            restarts += 1
            if restarts >= attempts:
                raise FetchError(
                    "the server sends another file at every attempt", where=url, mend="Try again later."
                ) from None
        except _Lost as lost:
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= attempts:
                raise FetchError(
                    f"the download broke off {failures} times in a row ({lost})",
                    where=url,
                    mend=f"{part.size:,} bytes are kept; run the same command again to go on from there.",
                ) from lost
            time.sleep(min(LONGEST_WAIT, max(lost.wait, wait * 2 ** (failures - 1))))
        else:
            received, found = part.digest(checksum)
            if found == (checksum or "").lower():
                part.finish()
                return received
            wrong = _wrong(url, part, found, checksum)
            part.discard()
            if not resumed:
                raise wrong
            # What an earlier call left may itself have been wrong: once more, from the start.


def _attempt(url: str, part: Part, progress: Progress | None, timeout: float) -> None:
    """Add to `part` what is missing of `url`; returns when all is there."""
    validator = part.validator(url)
    have = part.size if validator else 0
    headers = {"User-Agent": f"unheard/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        response = _open(url, headers, timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:
                # Nothing lies after `have`: the part is whole, or the file has become shorter.
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return
                raise _Restart from None
            if error.code in _PASSING:
                after = error.headers.get("Retry-After", "")
                raise _Lost(f"HTTP {error.code}", float(after) if after.isdigit() else 0.0) from error
            raise _refused(url, error.code) from error
    except (OSError, HTTPException) as error:
        raise _Lost(_reason(error)) from error
    with response:
        if response.status == 206:
            start, total = _content_range(response)
            if start != have:
                raise _Restart
        else:
            have = 0
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            part.begin(url, _validator(response))
        part.require_room((total or 0) - have)
        try:
            with part.path.open("ab" if have else "wb") as file:
                while block := _read(response):
                    file.write(block)
                    have += len(block)
                    if progress:
                        progress(have, total)
        except OSError as error:
            raise unwritable(part.path, error) from error
    if total is not None and have < total:
        raise _Lost(f"{have:,} of {total:,} bytes came")
    if total is not None and have > total:
        raise _Restart


class _SaferRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted address to one that is not."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("https", urlsplit(req.full_url).scheme):
            raise FetchError(
                "the server redirects from https to an address that is not encrypted",
                where=req.full_url,
                mend="Download the file by hand from its home page.",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str], timeout: float) -> HTTPResponse:
    try:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError
        request = urllib.request.Request(url, headers=headers)
    except ValueError:
        raise FetchError(f"'{url}' is not an address on the web", mend="Give one that begins with https://.") from None
    opener = urllib.request.build_opener(_SaferRedirects)
    response: HTTPResponse = opener.open(request, timeout=timeout)
    return response


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, HTTPException) as error:
        raise _Lost(_reason(error)) from error


def _validator(response: HTTPResponse) -> str:
    """What If-Range may carry: a strong ETag, else Last-Modified, else nothing (RFC 9110, 13.1.5)."""
    etag = str(response.headers.get("ETag", ""))
    if etag and not etag.startswith("W/"):
        return etag
    return str(response.headers.get("Last-Modified", ""))


def _content_range(response: HTTPResponse) -> tuple[int, int | None]:
    """First byte and size of the whole from `Content-Range: bytes 100-199/200`."""
    unit, _, rest = str(response.headers.get("Content-Range", "")).partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit():
        raise _Restart
    return int(first), int(total) if total.isdigit() else None


def _wrong(url: str, part: Part, found: str, checksum: str | None) -> FetchError:
    with part.path.open("rb") as file:
        page = file.read(60).lstrip()[:1] == b"<"
    return FetchError(
        f"the {part.size:,} bytes that came are not the expected file (they have {found}, it has {checksum}) "
        "and were removed",
        where=url,
        mend="What came is a web page: download the file by hand from the corpus's home page."
        if page
        else "Try again; if it stays so, the file at this address has changed.",
    )


def _refused(url: str, code: int) -> FetchError:
    why = {401: "wants a login", 403: "refuses access", 404: "has no such file", 410: "has removed the file"}
    return FetchError(
        f"the server {why.get(code, 'answers with an error')} (HTTP {code})",
        where=url,
        mend="Look for its new address on the corpus's home page.",
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error) or type(error).__name__


# Archives from strangers, unpacked so that they can write nowhere but where they are told.
#
# Every name is checked before anything is written; only plain files come out; their size is counted while it
# is written, because the size an archive declares is a promise.

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
