"""Label Studio pre-annotations: a list of tasks with regions on the waveform, to be corrected by hand.

They fit the labelling interface of `interface`. Source: the Label Studio documentation, "Import pre-annotated data".
"""

from __future__ import annotations

from html import escape
from typing import Any

from unheard.errors import UnheardError
from unheard.inference.formats.base import Job
from unheard.inference.formats.json import as_json
from unheard.inference.formats.sink import Sink
from unheard.inference.prediction import Prediction

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
