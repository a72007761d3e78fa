"""Files that are either there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from unheard.errors import UnheardError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step.

    A reader sees the old file or the new one, also after a kill. Raises `UnheardError` where the disk is full or
    the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # the folder itself may be what is missing
            temporary.unlink()
        raise UnheardError(
            f"cannot write ({error.strerror or error})",
            where=path,
            mend="Free some space or choose a folder you may write to; nothing computed before is lost.",
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as readable JSON in one step."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
