"""TensorBoard logs beside the JSONL history (extra 'tensorboard')."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unheard.errors import MissingExtra


def available() -> None:
    """Raise `MissingExtra` without TensorBoard."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise MissingExtra("tensorboard", "tensorboard") from None


def writer(folder: Path) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that writes an epoch's figures as scalars under `folder`.

    Raises `MissingExtra` without TensorBoard.
    """
    available()
    from torch.utils.tensorboard import SummaryWriter

    log = SummaryWriter(str(folder))

    def write(record: Mapping[str, Any]) -> None:
        for name, value in record.items():
            if name != "epoch" and isinstance(value, (int, float)):
                log.add_scalar(name, value, record["epoch"])
        log.flush()

    return write
