"""One process at a time in a folder, by a lock that the system drops when its holder dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unheard.errors import UnheardError
from unheard.files import cannot_write


@contextmanager
def locked(folder: Path, doing: str, error: type[UnheardError] = UnheardError) -> Iterator[None]:
    """Holds the lock of `folder`; raises `error` while another living process holds it, `doing` something there.

    The file stays behind, unlocked: deleting it would let two processes hold two files of one name.
    """
    path = folder / ".lock"
    try:
        opened = path.open("a+")
    except OSError as problem:
        raise cannot_write(path, problem, error) from problem
    with opened as file:
        if not _try_lock(file.fileno()):
            file.seek(0)
            holder = file.read().strip()
            raise error(
                f"another process{f' ({holder})' if holder else ''} is {doing}",
                where=folder,
                mend="Wait until it is done, or choose another folder.",
            )
        file.seek(0)
        file.truncate()
        try:
            os.write(file.fileno(), f"process {os.getpid()}".encode())  # a buffer would be written again when it closes
        except OSError as problem:
            raise cannot_write(path, problem, error) from problem
        try:
            yield
        finally:
            _unlock(file.fileno())


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # the byte locked: beyond the text, which others must be able to read

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
