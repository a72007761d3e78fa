"""`unheard fetch NAME`: the corpora that anyone may download, and for the others where to ask.

    DOWNLOADS[name] -> archive (resumed, checked) -> unpacked in a room of its own -> folder, fetched.json

`fetched.json` remembers what came: the checksums that later downloads must match, and whether all is there.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from unheard.corpora import official
from unheard.corpora.downloads import DOWNLOADS, Download
from unheard.corpora.part import Received, unwritable
from unheard.corpora.transfer import Progress, download
from unheard.corpora.unpack import Unpacked, unpack
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
