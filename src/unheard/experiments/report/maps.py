"""The maps of Fig. 2 as they were made from the embeddings, in a file that is published with the run.

RUN/maps.csv: digest, part, total, x, y, emotion, speaker; a row a point
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unheard.experiments.folder import read_csv
from unheard.experiments.lines import CellRecord
from unheard.files import write_text

MAPS = "maps.csv"
PARTS = {
    "dev": "the validation speakers",
    "dev and test": "the validation and test speakers (fewer than four validate)",
}
_HEADER = ("digest", "part", "total", "x", "y", "emotion", "speaker")


@dataclass(frozen=True, eq=False)
class Space:
    """The map of one trained network: points (n, 2), and who said what how; `total` utterances were to choose from.

    `digest` says which training it is of.
    """

    line: str
    fold: int
    seed: int
    part: str
    total: int
    points: NDArray[np.float64]
    emotions: tuple[str, ...]
    speakers: tuple[str, ...]
    digest: str


def digest_of(cell: CellRecord) -> str:
    """A hash of a training and of what it said: another map belongs to another one."""
    predictions = (cell.folder / "predictions.csv").read_bytes()
    words = [cell.name, str(cell.result["epochs"]), blake2b(predictions).hexdigest()]
    return blake2b("\t".join(words).encode(), digest_size=8).hexdigest()


class Maps:
    """The maps in a file; one that cannot be read has none, and they are made again from the embeddings."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, list[dict[str, str]]] = {}
        try:
            for row in read_csv(path):
                self._found.setdefault(row["digest"], []).append(row)
        except (OSError, UnicodeDecodeError, csv.Error, KeyError):
            self._found = {}

    def of(self, cell: CellRecord, line: str) -> Space | None:
        """The map of a training, if it is kept."""
        digest = digest_of(cell)
        rows = self._found.get(digest, ())
        try:
            points = np.array([[float(row["x"]), float(row["y"])] for row in rows])
            part, total = (rows[0]["part"], int(rows[0]["total"])) if rows else ("", 0)
            emotions, speakers = (tuple(row[name] for row in rows) for name in ("emotion", "speaker"))
        except (KeyError, TypeError, ValueError):
            return None
        if part not in PARTS or not np.isfinite(points).all():
            return None
        return Space(line, cell.fold, cell.seed, part, total, points, emotions, speakers, digest)

    def keep(self, spaces: Sequence[Space]) -> None:
        """Write these maps where they are not there already; others stay: the file may be all that is left of them."""
        new = [space for space in spaces if space.digest not in self._found]
        if not new:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_HEADER)
        for rows in self._found.values():
            writer.writerows([row[name] for name in _HEADER] for row in rows)
        for one in new:
            for (x, y), emotion, speaker in zip(one.points, one.emotions, one.speakers, strict=True):
                writer.writerow([one.digest, one.part, one.total, f"{x:.2f}", f"{y:.2f}", emotion, speaker])
        write_text(self._path, text.getvalue())
