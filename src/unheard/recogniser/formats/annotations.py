"""RTTM, the format of diarisation: a `SPEAKER` line a segment, with the emotion where the speaker's name would be.

    SPEAKER <recording> <channel> <start> <seconds> <NA> <NA> <emotion> <probability> <NA>

The recording is its path without the ending, or with it where another of that name was there before; spaces and percent
signs in it are written as %20 and %25. Stretches without an answer have no line. Source: NIST, RT-09 evaluation plan,
appendix A.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from unheard.errors import UnheardError
from unheard.recogniser.formats.base import Job, Sink
from unheard.recogniser.formats.tables import as_json
from unheard.recogniser.prediction import Prediction

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


# Label Studio pre-annotations: a list of tasks with regions on the waveform, to be corrected by hand.
#
# They fit the labelling interface of `interface`. Source: the Label Studio documentation, "Import pre-annotated data".

REGIONS, AUDIO = "emotion", "audio"


class LabelStudioWriter:
    """One task a recording; channels of one recording are tasks of their own."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._job, self._sink, self._count = job, sink, 0

    def add(self, prediction: Prediction) -> None:
        """Write one task."""
        score = max(prediction.probabilities.values(), default=0.0)
        task = {
            "data": {"audio": prediction.file, "channel": prediction.channel},
            "predictions": [{"model_version": self._model(), "score": round(score, 6), "result": _regions(prediction)}],
        }
        self._sink.write((",\n" if self._count else "[\n") + as_json(task, ascii=self._sink.ascii))
        self._count += 1

    def failed(self, file: str, error: UnheardError) -> None:
        """A recording that cannot be read is no task."""

    def close(self) -> None:
        """End the list."""
        self._sink.write("\n]\n" if self._count else "[]\n")

    def _model(self) -> str:
        return f"{self._job.model} {self._job.version}".strip()


def _regions(prediction: Prediction) -> list[dict[str, Any]]:
    channel = {"right": 1}.get(prediction.channel, 0)
    if prediction.channel.isdigit():
        channel = int(prediction.channel) - 1
    return [
        {
            "id": f"segment{number}",
            "from_name": REGIONS,
            "to_name": AUDIO,
            "type": "labels",
            "original_length": round(prediction.duration, 3),
            "score": round(max(segment.probabilities.values(), default=0.0), 6),
            "value": {
                "start": round(segment.start, 3),
                "end": round(segment.end, 3),
                "channel": channel,
                "labels": [segment.label],
            },
        }
        for number, segment in enumerate(prediction.segments)
        if segment.label is not None
    ]


def interface(labels: tuple[str, ...]) -> str:
    """The labelling interface that the regions belong to, as XML."""
    choices = "".join(f'<Label value="{escape(label)}"/>' for label in labels)
    regions = f'<Labels name="{REGIONS}" toName="{AUDIO}">{choices}</Labels>'
    return f'<View>{regions}<Audio name="{AUDIO}" value="$audio"/></View>'
