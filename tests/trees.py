"""Small trees written by hand, and what a reader noted about them."""

from __future__ import annotations

import wave
from pathlib import Path

from unheard.manifest import Manifest


def plant(root: Path, *names: str, value: int = 0) -> Path:
    """Write tiny WAV files (whatever their ending) of one sample value; an ending is added where there is none."""
    for name in names:
        path = root / (name if "." in name.rsplit("/", 1)[-1] else f"{name}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream, wave.open(stream, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(value.to_bytes(2, "little") * 80 + bytes(160))
    return root


def kinds(manifest: Manifest) -> dict[str, str]:
    """Kind -> message of the notes, without traps."""
    return {note.kind: note.message for note in manifest.notes if note.kind != "trap"}


def ids(manifest: Manifest, kind: str) -> tuple[str, ...]:
    return tuple(name for note in manifest.notes if note.kind == kind for name in note.ids)
