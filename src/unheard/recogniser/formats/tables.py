"""CSV: a row a recording, or with a timeline a row a segment."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unheard.errors import ConfigError, UnheardError, printable
from unheard.files import write_whole
from unheard.recogniser.formats.base import Job, Sink, sink
from unheard.recogniser.prediction import Prediction, Segment


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


# JSON and JSON lines: everything but the embedding; a recording that failed is `{"file": …, "error": …}`.


def as_json(value: Any, indent: int | None = None, *, ascii: bool = False) -> str:
    """One value as JSON, without NaN; in `ascii` alone, for a stream that takes nothing else, other letters escaped."""
    return json.dumps(value, ensure_ascii=ascii, allow_nan=False, indent=indent)


def failure(file: str, error: UnheardError) -> dict[str, str]:
    """What is said of a recording without a prediction."""
    return {"file": file, "error": f"{error.what.rstrip('.')}. {error.mend or ''}".strip()}


class JsonlWriter:
    """One line a prediction, written as soon as it is known."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._sink = sink

    def add(self, prediction: Prediction) -> None:
        """Write one line."""
        self._sink.write(as_json(prediction.as_dict(), ascii=self._sink.ascii) + "\n")

    def failed(self, file: str, error: UnheardError) -> None:
        """Write one line that says why there is no prediction."""
        self._sink.write(as_json(failure(file, error), ascii=self._sink.ascii) + "\n")

    def close(self) -> None:
        """Nothing is left."""


class JsonWriter:
    """One object for one recording, else a list; written along the way, whatever its length."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._sink, self._single, self._count = sink, job.single, 0

    def add(self, prediction: Prediction) -> None:
        """Write one object."""
        self._item(prediction.as_dict())

    def failed(self, file: str, error: UnheardError) -> None:
        """Write an object that says why there is no prediction."""
        self._item(failure(file, error))

    def close(self) -> None:
        """End the list."""
        if not self._single:
            self._sink.write("\n]\n" if self._count else "[]\n")

    def _item(self, value: Any) -> None:
        if self._single:
            self._sink.write(as_json(value, indent=1, ascii=self._sink.ascii) + "\n")
        else:
            self._sink.write((",\n" if self._count else "[\n") + as_json(value, ascii=self._sink.ascii))
        self._count += 1


# A table for people: a line a recording, or a line a segment.

_BAR = 20


class TableWriter:
    """Lines as they come, so that the first answer does not wait for the last; below one recording its timeline."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._job, self._sink = job, sink
        self._width = max(len(label) for label in job.labels)

    def add(self, prediction: Prediction) -> None:
        """Write one recording."""
        place = prediction.file + (f" ({prediction.channel})" if prediction.channel != "mix" else "")
        profile = ""
        if prediction.profile is not None:
            known = f"{prediction.profile.name or 'a profile'}, {prediction.profile.utterances} utterances"
            profile = f"   [adapted to {known}{', learning' if prediction.adapting else ''}]"
        if prediction.label is None:
            answer, place = f"{'–':<{self._width}}      ", f"{place}   ({prediction.abstained})"
        else:
            answer = f"{prediction.label:<{self._width}}  {prediction.probabilities[prediction.label]:>4.0%}"
        self._sink.write(f"{answer}  {clock(prediction.duration)}  {printable(place)}{profile}\n")
        if self._job.timeline or (self._job.single and len(prediction.segments) > 1):
            for segment in prediction.segments:
                self._sink.write("  " + line(segment, self._width) + "\n")

    def failed(self, file: str, error: UnheardError) -> None:
        """Standard error has said it."""

    def close(self) -> None:
        """Nothing is left."""


def line(segment: Segment, width: int = 9) -> str:
    """One segment for a person to read: when, what, how sure."""
    when = f"{clock(segment.start)} – {clock(segment.end)}"
    if segment.label is None:
        return f"{when}  {'–':<{width}}        {segment.abstained}"
    probability = segment.probabilities[segment.label]
    return f"{when}  {segment.label:<{width}}  {probability:>4.0%}  {'█' * round(_BAR * probability)}"


def clock(seconds: float) -> str:
    """Minutes, seconds and tenths, with hours from the first on: `1:02:03.4`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minute = divmod(minutes, 60)
    return (f"{hours}:{minute:02}" if hours else f"{minute:>2}") + f":{rest // 10:02}.{rest % 10}"


# Embeddings as a table: JSON lines, CSV or numpy's .npz.

SUFFIXES = (".jsonl", ".csv", ".npz")


class JsonlEmbeddings:
    """A line a recording, `{"file": …, "channel": …, "embedding": […]}`, null where there was too little speech."""

    def __init__(self, out: Sink) -> None:
        self._sink = out

    def add(self, prediction: Prediction) -> None:
        """Write one line."""
        embedding = None if prediction.embedding is None else prediction.embedding.tolist()
        row = {"file": prediction.file, "channel": prediction.channel, "embedding": embedding}
        if prediction.abstained is not None:
            row["abstained"] = prediction.abstained
        self._sink.write(as_json(row, ascii=self._sink.ascii) + "\n")

    def failed(self, file: str, error: UnheardError) -> None:
        """Write one line that says why there is no embedding."""
        self._sink.write(as_json(failure(file, error), ascii=self._sink.ascii) + "\n")

    def close(self) -> None:
        """Nothing is left."""


class ArrayEmbeddings:
    """`.csv` with the columns file, channel, e0…; `.npz` with the arrays files, channels and embeddings (N, E).

    Recordings without an embedding are left out, and kept in `left_out`. The file appears on `close`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: list[tuple[str, str]] = []
        self._rows: list[np.ndarray] = []
        self.left_out: list[Prediction] = []

    def add(self, prediction: Prediction) -> None:
        """Keep one row."""
        if prediction.embedding is None:
            self.left_out.append(prediction)
        else:
            self._names.append((prediction.file, prediction.channel))
            self._rows.append(prediction.embedding)

    def failed(self, file: str, error: UnheardError) -> None:
        """Standard error has said it."""

    def close(self) -> None:
        """Write the file."""
        rows = np.stack(self._rows) if self._rows else np.zeros((0, 0), np.float32)
        if self._path.suffix == ".csv":
            with sink(self._path) as out:
                out.write(csv_line(["file", "channel", *(f"e{number}" for number in range(rows.shape[1]))]))
                for name, row in zip(self._names, rows, strict=True):
                    out.write(csv_line([*name, *row.tolist()]))
            return
        names = np.array(self._names, dtype=str).reshape(-1, 2)
        write_whole(self._path, lambda path: _save(path, names, rows))


def _save(path: Path, names: np.ndarray, rows: np.ndarray) -> None:
    with path.open("wb") as file:  # a path would get another ending
        np.savez(file, files=names[:, 0], channels=names[:, 1], embeddings=rows)


def check_suffix(path: Path) -> None:
    """Raise `ConfigError` for an ending that is no format of embeddings."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"'{path.suffix}' is no format of embeddings", where=path, mend=f"Use {', '.join(SUFFIXES)}.")
