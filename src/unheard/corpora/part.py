"""The part of a file that has come so far, and what it is a part of."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from unheard.errors import FetchError


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
