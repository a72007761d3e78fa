"""Small trees written by hand, and what a reader noted about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from unheard.manifest import Manifest


def plant(root: Path, *names: str, value: int = 0) -> Path:
    """Write tiny WAV files (whatever their ending) of one sample value; an ending is added where there is none."""
    for name in names:
        path = root / (name if "." in name.rsplit("/", 1)[-1] else f"{name}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.repeat(np.array([value, 0], np.int16), 80), 16_000, format="WAV")
    return root


def kinds(manifest: Manifest) -> dict[str, str]:
    """Kind -> message of the notes, without traps."""
    return {note.kind: note.message for note in manifest.notes if note.kind != "trap"}


def ids(manifest: Manifest, kind: str) -> tuple[str, ...]:
    return tuple(name for note in manifest.notes if note.kind == kind for name in note.ids)
