"""Four short recordings of real speech, to try a model on; their licence is in LICENSE.md beside them.

Their speakers are to be left out when a packaged model is trained. `samples.csv` is also a manifest.
"""

import csv
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class Sample(NamedTuple):
    """A recording with its acted emotion and its speaker; `source` is the name of the clip in its corpus."""

    file: str
    emotion: str
    speaker: str
    gender: str
    corpus: str
    language: str
    source: str
    licence: str

    @property
    def path(self) -> Path:
        """The Ogg Vorbis file."""
        return FOLDER / self.file


def samples() -> list[Sample]:
    """Return every sample, by file name."""
    with (FOLDER / "samples.csv").open(encoding="utf-8", newline="") as file:
        return [Sample(**row) for row in csv.DictReader(file)]
