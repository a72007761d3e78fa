"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from unheard.errors import ManifestError

_MENDS = {
    errno.ENOSPC: "The disk is full: free some space or write elsewhere.",
    errno.EDQUOT: "Your quota is used up: free some space or write elsewhere.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EROFS: "The disk is read-only: choose another folder.",
    errno.EISDIR: "There is a folder of this name: choose a file name.",
    errno.ENOTDIR: "A part of this path is a file: choose another folder.",
    errno.EEXIST: "A part of this path is a file: choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def cannot_write(path: str | Path, problem: OSError) -> ManifestError:
    """The error that says why `path` cannot be written and how to mend it."""
    return ManifestError(
        f"cannot be written ({problem.strerror or problem})",
        where=path,
        mend=_MENDS.get(problem.errno or 0, "Choose another place to write to."),
    )


def cannot_read(path: str | Path, problem: OSError) -> ManifestError:
    """The error that says why `path` cannot be read."""
    mends = {
        errno.ENOENT: "Check the path.",
        errno.EISDIR: "This is a folder: name a file.",
        errno.EACCES: "You may not read it: change its permissions.",
    }
    return ManifestError(
        f"cannot be read ({problem.strerror or problem})", where=path, mend=mends.get(problem.errno or 0)
    )


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[str]]:
    """A UTF-8 text file that takes the place of `path` when the block ends well, and vanishes otherwise.

    Folders on the way are made. Raises `ManifestError` when the disk, the rights or the text refuse.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as problem:
        raise cannot_write(path, problem) from problem
    except UnicodeEncodeError as problem:
        shown = problem.object[:80].encode("utf-8", "backslashreplace").decode().strip()
        raise ManifestError(
            f"a text that is not valid Unicode cannot be written: {shown}",
            where=path,
            mend="Rename the file or the value concerned.",
        ) from problem
    finally:
        # After a success there is nothing left to remove; a second failure must not hide the first.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
