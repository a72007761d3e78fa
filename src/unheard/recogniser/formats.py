"""Write predictions for people and programs: a table, CSV, JSON, embeddings; `annotations.py` has other tools' formats.

Text goes to standard output at once, or to a file that appears whole.
"""

import csv
import io
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np

from unheard.errors import ConfigError, UnheardError, counted, did_you_mean, printable
from unheard.files import replacing, takes_no_replacement, write_whole
from unheard.recogniser.prediction import Prediction, Segment, ranked

FORMATS = {
    "table": "formats:TableWriter",
    "json": "formats:JsonWriter",
    "jsonl": "formats:JsonlWriter",
    "csv": "formats:CsvWriter",
    "rttm": "annotations:RttmWriter",
    "srt": "annotations:SrtWriter",
    "textgrid": "annotations:TextGridWriter",
    "labelstudio": "annotations:LabelStudioWriter",
}
"""Formats that are one text -> file and class."""

FOLDERS = {"audformat": "annotations:AudformatWriter"}  # formats that are a folder

ENDINGS = {"": "table", ".txt": "table"} | {
    f".{name}": name for name in ("json", "jsonl", "csv", "rttm", "srt", "textgrid")
}
"""Ending of an output file -> format."""

EMBEDDINGS = (".jsonl", ".csv", ".npz")  # endings of files of embeddings


@dataclass(frozen=True, slots=True)
class Job:
    """Input of a writer: the model's labels, name, version and licence.

    With `timeline`, table and csv have a row for each segment; with `single`, the only recording is one JSON object
    instead of a list; with `turns`, segments are turns of speakers.
    """

    labels: tuple[str, ...]
    model: str
    version: str = ""
    licence: str = ""
    timeline: bool = False
    single: bool = False
    turns: bool = False


class Sink:
    """Text that is written at once; bytes of file names that are not Unicode are shown escaped.

    `ascii`: it does not take every letter, as a Windows console or a C locale.
    """

    def __init__(self, stream: IO[str], *, at_once: bool = True) -> None:
        self._stream, self._at_once = stream, at_once
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.ascii = not self._encoding.lower().replace("-", "").startswith("utf")

    def write(self, text: str) -> None:
        """Write `text`."""
        self._stream.write(text.encode(self._encoding, "backslashreplace").decode(self._encoding))
        if self._at_once:
            self._stream.flush()


class Writer:
    """Take predictions one by one; the output is complete after `close`. Subclasses return the pieces of a text."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self.job, self.sink, self.count = job, sink, 0
        sink.write(self._head())

    def add(self, prediction: Prediction) -> None:
        """Write one prediction."""
        self.sink.write(self._text(prediction))
        self.count += 1

    def failed(self, file: str, error: UnheardError) -> None:
        """Write that `file` has no prediction, where the format has a place for that."""
        if text := self._failure(file, error):
            self.sink.write(text)
            self.count += 1

    def close(self) -> None:
        """Write the end."""
        self.sink.write(self._end())

    def _head(self) -> str:
        return ""

    def _text(self, prediction: Prediction) -> str:
        return ""

    def _failure(self, file: str, error: UnheardError) -> str:
        return ""

    def _end(self) -> str:
        return ""


def writer(format: str, job: Job, sink: Sink | None, output: Path | None = None) -> Writer:
    """Return the writer for `format`, into `sink` (default: standard output) or into the folder `output`.

    Raises `ConfigError` for an unknown format and where the folder is missing.
    """
    if format in FOLDERS and output is None:
        raise ConfigError(f"{format} is a folder of tables", mend="Name one with --output FOLDER.")
    known = FORMATS | FOLDERS
    if format not in known:
        raise ConfigError(f"unknown format '{format}'", mend=did_you_mean(format, known))
    module, _, name = known[format].partition(":")
    kind = getattr(import_module(f"unheard.recogniser.{module}"), name)
    made: Writer = kind(job, output if format in FOLDERS else sink or Sink(sys.stdout))
    return made


def format_of(output: Path | None) -> str:
    """Return the format that the ending of `output` asks for; raises `ConfigError` for an unknown ending."""
    ending = "" if output is None else output.suffix.lower()
    if ending not in ENDINGS:
        known = " ".join(sorted(filter(None, ENDINGS)))
        what = f"no format has the ending '{ending}'"
        raise ConfigError(what, where=output, mend=f"Use one of {known}, or name it with --format.")
    return ENDINGS[ending]


@contextmanager
def sink(output: Path | None) -> Iterator[Sink]:
    """Open standard output, or `output`, which is replaced only when the block ends well.

    After Ctrl-C the answers so far are in `output` with `.partial` appended.
    """
    if output is None:
        yield Sink(sys.stdout)
        return
    with replacing(output) as file:
        try:
            yield Sink(file, at_once=False)
        except KeyboardInterrupt:
            with suppress(OSError):  # such as a full disk
                if not takes_no_replacement(output):  # a pipe or a device
                    file.flush()
                    kept = output.with_name(f"{output.name}.partial")
                    shutil.copyfile(file.name, kept)
                    print(f"unheard: the answers so far are in {kept}", file=sys.stderr)
            raise


# CSV and JSON


class CsvWriter(Writer):
    """A row a recording, or with a timeline a row a segment: file, channel, start, end, label, p_<label>…, ….

    The last columns are abstained and error; turns have the column speaker after end.
    """

    def _head(self) -> str:
        columns = ["file", "channel", "start", "end", *["speaker"] * self.job.turns, "label"]
        return csv_line([*columns, *(f"p_{label}" for label in self.job.labels), "abstained", "error"])

    def _text(self, prediction: Prediction) -> str:
        rows = []
        for one in prediction.segments if self.job.timeline else [whole(prediction)]:
            place = [prediction.file, prediction.channel, f"{one.start:.3f}", f"{one.end:.3f}"]
            rows.append([*place, *[one.speaker or ""] * self.job.turns, *rating(one, self.job.labels), ""])
        return "".join(map(csv_line, rows))

    def _failure(self, file: str, error: UnheardError) -> str:
        return csv_line([file, *[""] * (5 + self.job.turns + len(self.job.labels)), error.what])


def whole(prediction: Prediction) -> Segment:
    """Return the answer on the whole recording as one segment."""
    return Segment(0.0, prediction.duration, prediction.label, prediction.probabilities, prediction.abstained)


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


class JsonlWriter(Writer):
    """A line a prediction, everything but the embedding; `{"file": …, "error": …}` for a recording that failed."""

    def _text(self, prediction: Prediction) -> str:
        return self._item(prediction.as_dict())

    def _failure(self, file: str, error: UnheardError) -> str:
        return self._item({"file": file, "error": f"{error.what.rstrip('.')}. {error.mend or ''}".strip()})

    def _item(self, value: Any) -> str:
        return as_json(value, ascii=self.sink.ascii) + "\n"


class JsonWriter(JsonlWriter):
    """One object for one recording, else a list that is written item by item."""

    def _item(self, value: Any) -> str:
        if self.job.single:
            return as_json(value, indent=1, ascii=self.sink.ascii) + "\n"
        return (",\n" if self.count else "[\n") + as_json(value, ascii=self.sink.ascii)

    def _end(self) -> str:
        return "" if self.job.single else "\n]\n" if self.count else "[]\n"


# For people


class TableWriter(Writer):
    """A line a recording as soon as it is known; below a single recording its timeline."""

    def _text(self, prediction: Prediction) -> str:
        width = max(len(label) for label in self.job.labels)
        place = prediction.file + (f" ({prediction.channel})" if prediction.channel != "mix" else "")
        note = ""
        if prediction.profile is not None:
            known = f"{prediction.profile.name or 'a speaker'}, {counted(prediction.profile.utterances, 'utterance')}"
            note = f"   [adapted to {known}{', learning' if prediction.adapting else ''}]"
        if prediction.mixed:
            parts = [f"{label} {one.share:.0%}" for label, one in prediction.summary.items()]
            answer = f"{'mixed':<{width}}  {', '.join(parts)} of the time"
        elif prediction.label is None:
            answer, place = f"{'–':<{width}}{' ' * (width + 21)}", f"{place}   ({prediction.abstained})"
        else:
            (_, first), (second, chance), *_ = ranked(prediction.probabilities)
            answer = f"{prediction.label:<{width}}  {first:>4.0%}  (then {second:<{width}} {chance:>4.0%})"
        lines = [f"{answer}  {clock(prediction.duration)}  {printable(place)}{note}"]
        if self.job.timeline or (self.job.single and len(prediction.segments) > 1):
            names = max((len(one.speaker or "") for one in prediction.segments), default=0)
            lines += [f"  {line(segment, width, names)}" for segment in prediction.segments]
            for name, summary in (prediction.of_speakers() or {"": prediction.summary}).items():
                who = f"{printable(name)}: " if name else ""
                for label, one in summary.items():
                    longest = f"{clock(one.longest[0])} – {clock(one.longest[1])}"
                    lines.append(f"  {who}{label} {one.share:.0%} of the time, longest {longest}")
        return "\n".join(lines) + "\n"


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
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minute = divmod(minutes, 60)
    return (f"{hours}:{minute:02}" if hours else f"{minute:>2}") + f":{tenths // 10:02}.{tenths % 10}"


# Embeddings


class JsonlEmbeddings(JsonlWriter):
    """A line a recording, `{"file": …, "channel": …, "embedding": […]}`, null where there was too little speech."""

    def _text(self, prediction: Prediction) -> str:
        embedding = None if prediction.embedding is None else prediction.embedding.tolist()
        row = {"file": prediction.file, "channel": prediction.channel, "embedding": embedding}
        return self._item(row | ({} if prediction.abstained is None else {"abstained": prediction.abstained}))


class ArrayEmbeddings(Writer):
    """`.csv` with the columns file, channel, e0…; `.npz` with the arrays files, channels and embeddings (N, E).

    Recordings without an embedding are left out, and kept in `left_out`. The file appears on `close`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: list[tuple[str, str, np.ndarray]] = []
        self.left_out: list[Prediction] = []

    def add(self, prediction: Prediction) -> None:
        """Keep one row."""
        if prediction.embedding is None:
            self.left_out.append(prediction)
        else:
            self._kept.append((prediction.file, prediction.channel, prediction.embedding))

    def close(self) -> None:
        """Write the file."""
        rows = np.stack([row for *_, row in self._kept]) if self._kept else np.zeros((0, 0), np.float32)
        if self._path.suffix == ".csv":
            with sink(self._path) as out:
                out.write(csv_line(["file", "channel", *(f"e{number}" for number in range(rows.shape[1]))]))
                for file, channel, row in self._kept:
                    out.write(csv_line([file, channel, *row.tolist()]))
            return
        names = np.array([one[:2] for one in self._kept], dtype=str).reshape(-1, 2)

        def save(path: Path) -> None:
            with path.open("wb") as file:  # numpy would append an ending to a path
                np.savez(file, files=names[:, 0], channels=names[:, 1], embeddings=rows)

        write_whole(self._path, save)


def check_suffix(path: Path) -> None:
    """Raise `ConfigError` for an ending that is not a format of embeddings."""
    if path.suffix not in EMBEDDINGS:
        what = f"no format of embeddings ends in '{path.suffix}'"
        raise ConfigError(what, where=path, mend=f"Use {', '.join(EMBEDDINGS)}.")
