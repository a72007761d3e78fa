"""RTTM, the format of diarisation: a `SPEAKER` line a segment, with the emotion where the speaker's name would be.

    SPEAKER <recording> <channel> <start> <seconds> <NA> <NA> <emotion> <probability> <NA>

The recording is its path without the ending, or with it where another of that name was there before; spaces and percent
signs in it are written as %20 and %25. Stretches without an answer have no line. Source: NIST, RT-09 evaluation plan,
appendix A.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from unheard.errors import UnheardError
from unheard.inference.formats.base import Job
from unheard.inference.formats.sink import Sink
from unheard.inference.prediction import Prediction

_CHANNELS = {"mix": "1", "left": "1", "right": "2"}


class RttmWriter:
    """One line a segment with an answer."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._sink = sink
        self._names: dict[str, str] = {}

    def add(self, prediction: Prediction) -> None:
        """Write the lines of one recording."""
        bare = str(Path(prediction.file).with_suffix("")) if prediction.file else ""
        name = one_word(self._name_of(prediction.file, bare))
        channel = _CHANNELS.get(prediction.channel, prediction.channel)
        for segment in prediction.segments:
            if segment.label is None:
                continue
            times = f"{segment.start:.3f} {segment.end - segment.start:.3f}"
            probability = segment.probabilities[segment.label]
            label = one_word(segment.label)
            self._sink.write(f"SPEAKER {name} {channel} {times} <NA> <NA> {label} {probability:.6f} <NA>\n")

    def _name_of(self, file: str, bare: str) -> str:
        """The name of a recording: the shortest that is no other's."""
        names = (bare, file, *(f"{file}#{number}" for number in range(2, len(self._names) + 3)))
        return next(name for name in names if self._names.setdefault(name, file) == file)

    def failed(self, file: str, error: UnheardError) -> None:
        """RTTM has no place for it."""

    def close(self) -> None:
        """Nothing is left."""


def one_word(text: str) -> str:
    """`text` without white space, so that the columns stay where they are; `-` for nothing."""
    escaped = (
        quote(letter, errors="surrogateescape")
        if letter.isspace() or letter == "%" or not letter.isprintable()
        else letter
        for letter in text
    )
    return "".join(escaped) or "-"
