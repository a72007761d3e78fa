"""Atomic file writes, bounded reads, and errors that explain why a file cannot be read or written."""

import csv
import errno
import io
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from unheard.errors import UnheardError

LFS = b"version https://git-lfs"  # first bytes of a Git LFS pointer, the small text in a clone without Git LFS

_WRITE_MENDS = {
    errno.ENOSPC: "The disk is full: free some space or write elsewhere.",
    errno.EFBIG: "No file may grow so large here: free some space or write elsewhere.",
    errno.EDQUOT: "Your quota is used up: free some space or write elsewhere.",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Choose a folder that you may write to."),
    errno.EROFS: "The disk is read-only: choose another folder.",
    errno.EISDIR: "There is a folder of this name: choose a file name.",
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "A part of this path is a file: choose another folder."),
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
_READ_MENDS = {
    errno.ENOENT: "Check the path.",
    errno.EISDIR: "This is a folder: name a file.",
    errno.EACCES: "You may not read it: change its permissions.",
}


def cannot_write(path: str | Path, problem: OSError, kind: type[UnheardError] = UnheardError) -> UnheardError:
    """Return an error of `kind` that says why `path` cannot be written and how to mend it."""
    mend = _WRITE_MENDS.get(problem.errno or 0, "Choose another place to write to.")
    return kind(f"cannot be written ({problem.strerror or problem})", where=path, mend=mend)


def cannot_read(path: str | Path, problem: OSError, kind: type[UnheardError] = UnheardError) -> UnheardError:
    """Return an error of `kind` that says why `path` cannot be read."""
    what = f"cannot be read ({problem.strerror or problem})"
    return kind(what, where=path, mend=_READ_MENDS.get(problem.errno or 0))


def exists(path: str | Path) -> bool:
    """Return whether a file or folder exists; False also for what cannot be a path."""
    try:
        return Path(path).exists()
    except (OSError, ValueError, TypeError):
        return False


def walk_files(root: str | Path, *, regular: bool = True) -> Iterator[str]:
    """Yield the paths of files below `root` in a fixed order, following links to folders.

    Skips hidden files, `__MACOSX`, folders already visited through another link and, if `regular`, pipes, devices and
    broken links.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for name in [] if real in seen else sorted(files):
            path = os.path.join(folder, name)  # noqa: PTH118 - a Path each would triple the time
            if not name.startswith(".") and (not regular or os.path.isfile(path)):  # noqa: PTH113
                yield path
        seen.add(real)


def read_regular(path: Path, most: int, kind: type[UnheardError], *, inside: Path | None = None) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    If the folder `inside` is given, links out of it are refused, except to the `blobs` of a Hugging Face snapshot's
    repository. Raises an error of `kind` for any other file, without reading it.
    """
    try:
        if inside is not None:
            folder, real = inside.resolve(), path.resolve()
            allowed = [folder, *([folder.parents[1] / "blobs"] if folder.parent.name == "snapshots" else [])]
            if not any(real.is_relative_to(parent) for parent in allowed):
                raise kind("a link out of this folder", where=path, mend="Copy the file itself into the folder.")
        # opening a pipe without a writer would block
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise kind("not a regular file", where=path, mend="Name another file.")
            content = file.read(most + 1) if state.st_size <= most else b""
    except OSError as problem:
        raise cannot_read(path, problem, kind) from None
    if content.startswith(LFS):
        raise kind("a Git LFS pointer, not the file itself", where=path, mend="Run 'git lfs pull' in the clone.")
    if max(len(content), state.st_size) > most:
        raise kind(f"the file must not exceed {most:,} bytes", where=path, mend="Name another file.")
    return content


@contextmanager
def replacing(path: str | Path, kind: type[UnheardError] = UnheardError) -> Iterator[IO[str]]:
    """Open a temporary UTF-8 text file that replaces `path` if the block succeeds and is deleted otherwise.

    Creates missing parent folders. Raises an error of `kind` for a failed write or text that is not valid Unicode.
    """
    path = Path(path)
    with _in_place_of(path, kind) as temporary:
        try:
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                yield stream
        except UnicodeEncodeError as problem:
            shown = problem.object[:80].encode("utf-8", "backslashreplace").decode().strip()
            what = f"a text that is not valid Unicode cannot be written: {shown}"
            raise kind(what, where=path, mend="Rename the file or the value concerned.") from problem


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then replace `path` atomically.

    A reader sees the old file or the new one, even if the process is killed. Raises `UnheardError` if the disk is full
    or the folder is not writable.
    """
    with _in_place_of(path, UnheardError) as temporary:
        write(temporary)


def write_text(path: Path, text: str, kind: type[UnheardError] = UnheardError) -> None:
    """Write `text` to `path` atomically."""
    with replacing(path, kind) as file:
        file.write(text)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return `rows` as the text of a CSV file with line feeds as line ends."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool] = ()) -> str:
    """Return a Markdown table; `right` flags the right-aligned columns, by default all but the first."""
    right = right or [column > 0 for column in range(len(heads))]
    lines = [" | ".join(heads), *map(" | ".join, rows)]
    first, *others = (f"| {line} |" for line in lines)
    return "\n".join([first, "|" + "".join("---:|" if aligned else "---|" for aligned in right), *others])


def write_json(path: Path, value: Any, kind: type[UnheardError] = UnheardError) -> None:
    """Write `value` to `path` as JSON (see `json_text`) atomically."""
    write_text(path, json_text(value), kind)


def json_text(value: Any) -> str:
    """Return `value` as indented JSON; NaN and infinity become null."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _in_place_of(path: Path, kind: type[UnheardError]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path`, synchronised to disk, if the block succeeds.

    For a link, its target is replaced. A pipe or a device is written to instead of being replaced.
    """
    if takes_no_replacement(path):
        with tempfile.TemporaryDirectory(prefix="unheard-") as folder:
            whole = Path(folder, "whole")
            yield whole
            try:
                with whole.open("rb") as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
            except OSError as problem:
                raise cannot_write(path, problem, kind) from problem
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as problem:
        raise cannot_write(path, problem, kind) from problem
    finally:
        # After a success nothing is left to remove; a second failure must not hide the first.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def takes_no_replacement(path: Path) -> bool:
    """Return whether `path` exists but cannot be replaced: a pipe, a device, or anything below `/dev`."""
    if path.absolute().is_relative_to("/dev"):
        return path.exists()
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def locked(folder: Path, doing: str, error: type[UnheardError] = UnheardError, patience: float = 0) -> Iterator[None]:
    """Hold the lock of `folder`; raises `error` if another process still holds it after `patience` seconds.

    The operating system releases the lock when its holder dies. The file `.lock` is kept: if it were deleted, two
    processes could each lock a file of that name.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        mend = "Wait until it is done, or choose another folder."
        raise error(f"another process is {doing}", where=folder, mend=mend) from None
    except OSError as problem:
        raise cannot_write(folder / ".lock", problem, error) from problem
    try:
        yield
    finally:
        lock.release()
