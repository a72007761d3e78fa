"""What every format has to offer, and what it is told beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from unheard.errors import UnheardError
from unheard.inference.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Job:
    """What is about to be written: the model's `labels`, name and licence, and how.

    `timeline` asks the formats that have a choice (table, csv) for a row a segment; `single`: one recording was named,
    and gets one answer instead of a list of one.
    """

    labels: tuple[str, ...]
    model: str
    version: str = ""
    licence: str = ""
    timeline: bool = False
    single: bool = False


class Writer(Protocol):
    """Takes predictions one by one; what it wrote is complete after `close`."""

    def add(self, prediction: Prediction) -> None:
        """Write one prediction."""

    def failed(self, file: str, error: UnheardError) -> None:
        """Write that `file` has none, where the format has a place for that."""

    def close(self) -> None:
        """Write what is left."""
