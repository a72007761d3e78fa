"""Models that came with the package, by name."""

from __future__ import annotations

from pathlib import Path

import unheard
from unheard.errors import ModelError, did_you_mean
from unheard.inference.model import FILE, OnnxModel


def packaged_models() -> dict[str, Path]:
    """Name -> folder of every model in the package."""
    root = Path(unheard.__file__).parent / "models"
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{FILE}"))}


def open_model(model: str | Path, *, threads: int = 1) -> OnnxModel:
    """The model of this name, folder or file; a name of the package goes before a folder of the same name.

    Raises `ModelError` where there is none.
    """
    known = packaged_models()
    if isinstance(model, str) and model in known:
        return OnnxModel.open(known[model], threads=threads)
    try:
        exists = Path(model).exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        names = did_you_mean(str(model), known) if known else "No model came with this package."
        raise ModelError("there is no model of this name, and no such file", where=model, mend=names)
    return OnnxModel.open(model, threads=threads)
