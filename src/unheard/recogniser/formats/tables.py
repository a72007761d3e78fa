"""CSV, JSON and a table for people; embeddings as JSON lines, CSV or .npz."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from unheard.errors import ConfigError, UnheardError, printable
from unheard.files import write_whole
from unheard.recogniser.formats import Job, Sink, Writer, sink
from unheard.recogniser.prediction import Prediction, Segment


class CsvWriter(Writer):
    """A row a recording, or with a timeline a row a segment: file, channel, start, end, label, p_<label>…, ….

    The last columns are abstained and error; turns have the column speaker after end.
    """

    def __init__(self, job: Job, sink: Sink) -> None:
        self._job, self._sink = job, sink
        self._columns = ["file", "channel", "start", "end", *["speaker"] * job.turns, "label"]
        self._columns += [*(f"p_{label}" for label in job.labels), "abstained", "error"]
        self._sink.write(csv_line(self._columns))

    def add(self, prediction: Prediction) -> None:
        """Write the rows of one prediction."""
        for one in prediction.segments if self._job.timeline else [whole(prediction)]:
            place = [prediction.file, prediction.channel, f"{one.start:.3f}", f"{one.end:.3f}"]
            place += [one.speaker or ""] * self._job.turns
            self._sink.write(csv_line([*place, *rating(one, self._job.labels), ""]))

    def failed(self, file: str, error: UnheardError) -> None:
        """Write a row with the error."""
        self._sink.write(csv_line([file, *[""] * (len(self._columns) - 2), error.what]))


def whole(prediction: Prediction) -> Segment:
    """Return the answer on the whole recording as one segment."""
    end, label = prediction.duration, prediction.label
    return Segment(0.0, end, label, prediction.probabilities, prediction.abstained)


def rating(segment: Segment, labels: tuple[str, ...]) -> list[str]:
    """Return label, probabilities and why there is no label, as text."""
    values = [f"{segment.probabilities[label]:.6f}" if label in segment.probabilities else "" for label in labels]
    return [segment.label or "", *values, segment.abstained or ""]


def csv_line(values: Iterable[object]) -> str:
    """Return one row of a CSV file with its line end."""
    row = io.StringIO(newline="")
    csv.writer(row, lineterminator="\r\n").writerow(values)  # both are then quoted inside a value
    return row.getvalue()[:-2] + "\n"


def as_json(value: Any, indent: int | None = None, *, ascii: bool = False) -> str:
    """Return a value as JSON without NaN; with `ascii` other letters are escaped."""
    return json.dumps(value, ensure_ascii=ascii, allow_nan=False, indent=indent)


def failure(file: str, error: UnheardError) -> dict[str, str]:
    """Return the JSON object of a recording without a prediction."""
    return {"file": file, "error": f"{error.what.rstrip('.')}. {error.mend or ''}".strip()}


class JsonlWriter(Writer):
    """A line a prediction, everything but the embedding; `{"file": …, "error": …}` for a recording that failed."""

    def __init__(self, job: Job | None, sink: Sink) -> None:
        self._sink = sink

    def add(self, prediction: Prediction) -> None:
        """Write one line."""
        self._item(prediction.as_dict())

    def failed(self, file: str, error: UnheardError) -> None:
        """Write one line with the error."""
        self._item(failure(file, error))

    def _item(self, value: Any) -> None:
        self._sink.write(as_json(value, ascii=self._sink.ascii) + "\n")


class JsonWriter(JsonlWriter):
    """One object for one recording, else a list that is written item by item."""

    def __init__(self, job: Job, sink: Sink) -> None:
        super().__init__(job, sink)
        self._single, self._count = job.single, 0

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


class TableWriter(Writer):
    """A line a recording as soon as it is known; below a single recording its timeline."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._job, self._sink = job, sink
        self._width = max(len(label) for label in job.labels)

    def add(self, prediction: Prediction) -> None:
        """Write one recording."""
        place = prediction.file + (f" ({prediction.channel})" if prediction.channel != "mix" else "")
        note = ""
        if prediction.profile is not None:
            known = f"{prediction.profile.name or 'a speaker'}, {prediction.profile.utterances} utterances"
            note = f"   [adapted to {known}{', learning' if prediction.adapting else ''}]"
        if prediction.mixed:
            parts = [f"{label} {one.share:.0%}" for label, one in prediction.summary.items()]
            answer = f"{'mixed':<{self._width}}  {', '.join(parts)} of the time"
        elif prediction.label is None:
            answer, place = f"{'–':<{self._width}}{' ' * (self._width + 21)}", f"{place}   ({prediction.abstained})"
        else:
            answer = f"{prediction.label:<{self._width}}  {prediction.probabilities[prediction.label]:>4.0%}"
            second = sorted(prediction.probabilities.items(), key=lambda one: -one[1])[1]
            answer += f"  (then {second[0]:<{self._width}} {second[1]:>4.0%})"
        self._sink.write(f"{answer}  {clock(prediction.duration)}  {printable(place)}{note}\n")
        if self._job.timeline or (self._job.single and len(prediction.segments) > 1):
            names = max((len(one.speaker or "") for one in prediction.segments), default=0)
            for segment in prediction.segments:
                self._sink.write("  " + line(segment, self._width, names) + "\n")
            for name, summary in (prediction.of_speakers() or {"": prediction.summary}).items():
                for label, one in summary.items():
                    longest = f"{clock(one.longest[0])} – {clock(one.longest[1])}"
                    who = f"{printable(name)}: " if name else ""
                    text = f"{who}{label} {one.share:.0%} of the time, longest {longest}"
                    self._sink.write(f"  {text}\n")


def line(segment: Segment, width: int = 9, names: int = 0) -> str:
    """Return one segment for people: time, speaker (in `names` columns), label, probability, bar."""
    when = f"{clock(segment.start)} – {clock(segment.end)}"
    if names:
        when += f"  {printable(segment.speaker or ''):<{names}}"
    if segment.label is None:
        return f"{when}  {'–':<{width}}        {segment.abstained}"
    probability = segment.probabilities[segment.label]
    return f"{when}  {segment.label:<{width}}  {probability:>4.0%}  {'█' * round(20 * probability)}"


def clock(seconds: float) -> str:
    """Return minutes, seconds and tenths, with hours from the first on: `1:02:03.4`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minute = divmod(minutes, 60)
    return (f"{hours}:{minute:02}" if hours else f"{minute:>2}") + f":{rest // 10:02}.{rest % 10}"


class JsonlEmbeddings(JsonlWriter):
    """A line a recording, `{"file": …, "channel": …, "embedding": […]}`, null where there was too little speech."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(None, sink)

    def add(self, prediction: Prediction) -> None:
        """Write one line."""
        embedding = None if prediction.embedding is None else prediction.embedding.tolist()
        row = {"file": prediction.file, "channel": prediction.channel, "embedding": embedding}
        self._item(row | ({} if prediction.abstained is None else {"abstained": prediction.abstained}))


class ArrayEmbeddings(Writer):
    """`.csv` with the columns file, channel, e0…; `.npz` with the arrays files, channels and embeddings (N, E).

    Recordings without an embedding are left out, and kept in `left_out`. The file appears on `close`.
    """

    SUFFIXES = (".jsonl", ".csv", ".npz")

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

        def save(path: Path) -> None:
            with path.open("wb") as file:  # numpy would append an ending to a path
                np.savez(file, files=names[:, 0], channels=names[:, 1], embeddings=rows)

        write_whole(self._path, save)


def check_suffix(path: Path) -> None:
    """Raise `ConfigError` for an ending that is not a format of embeddings."""
    known = ArrayEmbeddings.SUFFIXES
    if path.suffix not in known:
        raise ConfigError(
            f"no format of embeddings ends in '{path.suffix}'", where=path, mend=f"Use {', '.join(known)}."
        )
