"""Downloads of freely available corpora (`unheard fetch NAME`); for other corpora, an error says where to get them.

    Corpus.download -> archive (resumed, checked) -> unpacked in a separate folder -> folder, fetched.json

`fetched.json` records the origin of the files, and a digest of their contents that later downloads must match.
"""

import hashlib
import json
import lzma
import re
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from unheard import __version__
from unheard.corpora import get_corpus
from unheard.corpora.corpus import Download
from unheard.errors import FetchError
from unheard.files import cannot_write, write_json

RECORD = "fetched.json"  # the file in a fetched folder that records the download

ATTEMPTS = 5  # maximum number of consecutive attempts without a new byte; the wait doubles, starting with one second

TIMEOUT = 60.0  # seconds without a byte after which a connection is considered dead

MOST_FILES = 200_000  # files in one archive; the largest corpus with a reader has 35,000

ByteProgress = Callable[[int, "int | None"], None]
"""Called with the number of bytes so far and in total (None: unknown)."""

_POINTER = re.compile(rb"version https://git-lfs\S+\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n")
_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db")
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # temporary HTTP errors
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError, NotImplementedError
)  # fmt: skip


def fetch(name: str, folder: str | Path, *, url: str | None = None, progress: bool = True) -> Path:
    """Download the corpus `name` into `folder` and return it, ready for `read_corpus`.

    An interrupted download is resumed; for a complete folder nothing is done. `url` is another address of the same
    archive, such as a mirror. The archive must have the published checksum, and its contents must be those of the first
    download (`fetched.json`). Raises `FetchError` if the licence does not allow the download, if the folder contains
    anything else, and if the download fails.
    """
    corpus = get_corpus(name)
    source = corpus.download
    if source is None:
        what = f"{corpus.title} cannot be downloaded by this program (licence: {corpus.licence})"
        raise FetchError(what, mend=corpus.obtain)
    root = Path(folder).expanduser().absolute()
    record = _open_folder(corpus.name, root)
    if record.get("complete") and all((root / file).is_file() for file in record["files"]):
        return root
    archive, stage, address = root / source.file, root / ".unpacking", url or source.url
    with _progress_bar(corpus.name, progress) as show:
        write_json(root / RECORD, record | {"complete": False})
        download(address, archive, checksum=source.checksum, progress=show)
        shutil.rmtree(stage, ignore_errors=True)
        try:
            contents = unpack(archive, stage, strip=source.strip, keep=source.keep)
            if not any(stage.rglob("*")):
                mend = "Check the address."
                raise FetchError("the archive contains no file of the corpus", where=address, mend=mend)
            if record.setdefault("contents", contents) != contents:
                raise FetchError(
                    f"the archive differs from the one first fetched into {root} (contents {contents[:16]}..., then "
                    f"{record['contents'][:16]}...); it was removed, the files here are unchanged",
                    where=address,
                    mend="If its makers have released a new version, fetch it into a new folder.",
                )
        except FetchError:
            shutil.rmtree(stage, ignore_errors=True)
            archive.unlink()
            raise
        write_json(root / RECORD, record | {"complete": False})
        files = _move(stage, root, source, show)
    shutil.rmtree(stage)
    archive.unlink()
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    record |= {"url": address, "licence": corpus.licence, "published": source.checksum, "fetched": when}
    write_json(root / RECORD, record | {"complete": True, "files": files})
    return root


def _open_folder(name: str, root: Path) -> dict[str, Any]:
    """Read `fetched.json`; raises `FetchError` if the folder contains anything else."""
    path = root / RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        corpus = record["corpus"]
    except NotADirectoryError:
        raise FetchError("this is a file, not a folder", where=root, mend="Name a new folder.") from None
    except FileNotFoundError:
        if root.is_dir() and any(root.iterdir()):
            what = f"this folder is not empty and was not made by 'unheard fetch {name}'"
            raise FetchError(what, where=root, mend="Name a new or empty folder; nothing here was changed.") from None
        return {"corpus": name}
    except (OSError, ValueError, TypeError, KeyError) as error:
        mend = "Fetch into a new folder, or remove this one."
        raise FetchError("this record of an earlier download is damaged", where=path, mend=mend) from error
    if corpus != name:
        raise FetchError(f"this folder holds '{corpus}', not '{name}'", where=root, mend="Name another folder.")
    return record


def _move(stage: Path, root: Path, source: Download, show: ByteProgress) -> list[str]:
    """Move every unpacked file into `root`, and download the contents of Git LFS pointers; return the names."""
    files: list[str] = []
    pointers: dict[str, tuple[str, int]] = {}
    for path in sorted(p for p in stage.rglob("*") if p.is_file()):
        name = path.relative_to(stage).as_posix()
        files.append(name)
        if source.pointers and path.stat().st_size < 1024 and (match := _POINTER.match(path.read_bytes())):
            pointers[name] = (match[1].decode(), int(match[2]))
            continue
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(root / name)
        except OSError as error:
            raise cannot_write(root / name, error, FetchError) from error

    def resolve(name: str) -> int:
        sha256, size = pointers[name]
        if _size(root / name) != size:
            download(f"{source.pointers}{quote(name)}", root / name, checksum=f"sha256:{sha256}")
        return size

    total, done = sum(size for _, size in pointers.values()), 0
    with ThreadPoolExecutor(4) as pool:
        try:
            for size in pool.map(resolve, pointers):
                done += size
                show(done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return files


def download(url: str, target: Path, *, checksum: str | None = None, progress: ByteProgress | None = None) -> None:
    """Download `url` to `target` unless it exists; a partial download is resumed, and `target` appears when complete.

    `checksum` is `md5:<hex>` or `sha256:<hex>`. Raises `FetchError` for an address that does not answer, a full disk,
    an incomplete file or a wrong checksum.
    """
    import pooch
    import requests

    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise FetchError(f"'{url}' is not a web address", mend="Give one that begins with https://.")
    pooch.get_logger().setLevel("WARNING")
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists()

    def transfer(url: str, output: str, _: object) -> None:
        _transfer(url, part, progress)
        part.replace(output)
        part.with_name(f"{part.name}.json").unlink(missing_ok=True)

    for again in (resumed, False):  # the rest of an earlier call may be wrong: then try once more from the start
        try:
            pooch.retrieve(url, checksum, fname=target.name, path=target.parent, downloader=transfer)
            return
        except requests.RequestException as error:
            mend = "Download the file by hand from the corpus's home page."
            raise FetchError(f"the address cannot be used ({error})", where=url, mend=mend) from error
        except ValueError as error:  # the checksum
            part.unlink(missing_ok=True)
            if not again:
                mend = "Try again; if it persists, download the file by hand from the corpus's home page."
                raise FetchError(f"not the expected file, and removed: {error}", where=url, mend=mend) from error
        except OSError as error:
            raise cannot_write(target, error, FetchError) from error


def _transfer(url: str, part: Path, progress: ByteProgress | None) -> None:
    """Download all bytes of `url` to `part`, trying again if the connection breaks."""
    import requests

    failures = 0
    while True:
        before = _size(part)
        try:
            return _attempt(url, part, progress)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            size = _size(part)
            failures = 1 if size > before else failures + 1
            if failures >= ATTEMPTS:
                what = f"the download broke off {failures} times in a row ({error})"
                mend = f"{size:,} bytes are kept; run the same command again to resume."
                raise FetchError(what, where=url, mend=mend) from error
            time.sleep(2.0 ** (failures - 1))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _attempt(url: str, part: Path, progress: ByteProgress | None) -> None:
    """Append missing bytes of `url` to `part`, if the server confirms by ETag or date that the file is unchanged."""
    import requests

    note = part.with_name(f"{part.name}.json")  # address and version of the file that `part` belongs to
    known = json.loads(note.read_text()) if part.exists() and note.exists() else {}
    have = _size(part) if known.get("url") == url and known.get("version") else 0
    headers = {"User-Agent": f"unheard/{__version__}", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={have}-", "If-Range": known["version"]} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if url.startswith("https:") and any(hop.url.startswith("http:") for hop in (*answer.history, answer)):
            mend = "Download the file by hand from its home page."
            raise FetchError("the server redirects to an unencrypted address", where=url, mend=mend)
        if answer.status_code == 416 and answer.headers.get("Content-Range") == f"bytes */{have}":
            return  # complete already
        if answer.status_code in _BUSY:
            raise requests.ConnectionError(f"HTTP {answer.status_code}")
        other_range = answer.status_code == 206 and f" {have}-" not in answer.headers.get("Content-Range", "")
        if have and (answer.status_code == 416 or other_range):
            part.unlink()
            return _attempt(url, part, progress)
        if not answer.ok:
            mend = "Look for its new address on the corpus's home page."
            raise FetchError(f"the server answers HTTP {answer.status_code} {answer.reason}", where=url, mend=mend)
        if answer.status_code != 206:
            have = 0
            etag = answer.headers.get("ETag", "")
            version = answer.headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
            note.write_text(json.dumps({"url": url, "version": version}))
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        free = shutil.disk_usage(part.parent).free
        if total and total - have > free:
            what = f"the download needs {(total - have) / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free"
            raise FetchError(what, where=part.parent, mend="Free some space, or choose a folder on another disk.")
        with part.open("ab" if have else "wb") as file:
            for block in answer.iter_content(1 << 16):
                file.write(block)
                have += len(block)
                if progress:
                    progress(have, total)
        if total is not None and have < total:  # not detected by urllib3 1
            raise requests.ConnectionError(f"received {have:,} of {total:,} bytes")


def unpack(
    archive: Path, folder: Path, *, strip: int = 0, keep: Sequence[str] = (), most_bytes: int | None = None
) -> str:
    """Unpack the regular files of a zip or tar `archive` into `folder`; return a SHA-256 of all names and contents.

    The digest does not depend on order, times or compression in the archive. `strip` leading folders are removed from
    each name; with `keep`, only names that match one of these patterns are unpacked. `most_bytes` bounds the total
    size, by default 64 MiB plus 50 times the archive's size. Names and sizes are checked before anything is written;
    both formats end a file at its declared size. Raises `FetchError` for an archive that is invalid, damaged or too
    large, has a path outside `folder`, or contains links, devices, encrypted or repeated files.
    """
    try:
        limit = most_bytes if most_bytes is not None else (64 << 20) + 50 * archive.stat().st_size
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for info in opened.infolist():
                    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                        raise _refusal(archive, f"holds '{info.filename}', which is not a plain file")
                    if info.flag_bits & 1:
                        raise _refusal(archive, f"holds '{info.filename}', which is encrypted")
                entries = [(i.filename, i.file_size, i) for i in opened.infolist() if not i.is_dir()]
                for target, member in _chosen(archive, entries, strip, keep, limit):
                    member.filename = target
                    opened.extract(member, folder)
        else:
            with tarfile.open(archive) as tar:
                for entry in tar:
                    if not (entry.isreg() or entry.isdir()):
                        raise _refusal(archive, f"holds '{entry.name}', which is not a plain file")
                members = [(m.name, m.size, m) for m in tar.getmembers() if m.isreg()]
                for target, member in _chosen(archive, members, strip, keep, limit):
                    tar.extract(member.replace(name=target, deep=False), folder, filter="data")
                # tarfile stops before the end of a gzip file, which has the checksum: read on to verify it.
                while tar.fileobj is not None and tar.fileobj.read(1 << 20):
                    pass
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno:  # the disk, not the archive
            raise cannot_write(folder, error, FetchError) from error
        what = f"this is not a complete zip or tar archive ({error})"
        raise FetchError(what, where=archive, mend="Remove it and fetch it again.") from error
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n".encode())
    return digest.hexdigest()


def _chosen(
    archive: Path, entries: Sequence[tuple[str, int, Any]], strip: int, keep: Sequence[str], limit: int
) -> list[tuple[str, Any]]:
    """Return the requested members, each with a safe relative path."""
    chosen: dict[str, Any] = {}
    size = 0
    for name, member_size, member in entries:
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        absolute = name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name)
        if absolute or ".." in parts or any(ord(letter) < 32 for letter in name):
            raise _refusal(archive, f"names a place outside its folder ({name!r})")
        target = "/".join(parts[strip:])
        litter = any(part in _LITTER or part.startswith("._") for part in parts)
        if not target or litter or (keep and not any(fnmatchcase(target, pattern) for pattern in keep)):
            continue
        if target in chosen:
            raise _refusal(archive, f"holds '{target}' twice")
        chosen[target] = member
        size += member_size
    if size > limit:
        raise _refusal(archive, f"unpacks to more than {limit:,} bytes")
    if len(chosen) > MOST_FILES:
        raise _refusal(archive, f"holds more than {MOST_FILES:,} files")
    return list(chosen.items())


def _refusal(archive: Path, what: str) -> FetchError:
    mend = "Do not trust it: get the corpus from its home page."
    return FetchError(f"the archive {what}; nothing of it was kept", where=archive, mend=mend)


@contextmanager
def _progress_bar(name: str, wanted: bool) -> Any:
    """Show a progress bar with rate and time left on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not (wanted and console.is_terminal)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
