"""CSV: a row a recording, or with a timeline a row a segment."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from unheard.errors import UnheardError
from unheard.inference.formats.base import Job
from unheard.inference.formats.sink import Sink
from unheard.inference.prediction import Prediction


class CsvWriter:
    """Columns file, channel, start, end, label, p_<label>…, abstained, error; seconds and probabilities as numbers."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._job, self._sink = job, sink
        probabilities = [f"p_{label}" for label in job.labels]
        self._row(["file", "channel", "start", "end", "label", *probabilities, "abstained", "error"])

    def add(self, prediction: Prediction) -> None:
        """Write the rows of one prediction."""
        whole = (0.0, prediction.duration, prediction.label, prediction.probabilities, prediction.abstained)
        parts = [(one.start, one.end, one.label, one.probabilities, one.abstained) for one in prediction.segments]
        for start, end, label, probabilities, abstained in parts if self._job.timeline else [whole]:
            times = [f"{start:.3f}", f"{end:.3f}"]
            values = self._probabilities(probabilities)
            self._row([prediction.file, prediction.channel, *times, label or "", *values, abstained or "", ""])

    def failed(self, file: str, error: UnheardError) -> None:
        """Write a row that says why there is no prediction."""
        self._row([file, "", "", "", "", *self._probabilities({}), "", error.what])

    def close(self) -> None:
        """Nothing is left."""

    def _probabilities(self, probabilities: Mapping[str, float]) -> list[str]:
        return [f"{probabilities[label]:.6f}" if label in probabilities else "" for label in self._job.labels]

    def _row(self, values: list[str]) -> None:
        self._sink.write(csv_line(values))


def csv_line(values: Iterable[object]) -> str:
    """One row of a CSV file, its end included."""
    row = io.StringIO(newline="")
    csv.writer(row, lineterminator="\r\n").writerow(values)  # both are then quoted inside a value
    return row.getvalue()[:-2] + "\n"
