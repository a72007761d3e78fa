"""Formats of other tools: RTTM (diarisation), SRT (subtitles), TextGrid (Praat), Label Studio, audformat."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from unheard.errors import ConfigError
from unheard.files import write_text
from unheard.recogniser.formats import Job, JsonWriter, Sink, Writer, csv_line, rating, whole
from unheard.recogniser.prediction import Prediction, Segment


class RttmWriter(Writer):
    """A line a segment with a label, which stands in the speaker's place; of turns every line, the label before.

        SPEAKER <recording> <channel> <start> <seconds> <NA> <NA> <label> <probability> <NA>
        SPEAKER <recording> <channel> <start> <seconds> <label> <NA> <speaker> <probability> <NA>

    The recording is its path without the ending, or with it where another recording has that name; white space and
    percent signs are percent-encoded. Source: NIST, RT-09 evaluation plan, appendix A.
    """

    def __init__(self, job: Job, sink: Sink) -> None:
        super().__init__(job, sink)
        self._names: dict[str, str] = {}

    def _text(self, prediction: Prediction) -> str:
        file, lines = prediction.file, []
        bare = str(Path(file).with_suffix("")) if file else ""
        names = (bare, file, *(f"{file}#{number}" for number in range(2, len(self._names) + 3)))
        name = one_word(next(name for name in names if self._names.setdefault(name, file) == file))
        channel = {"mix": "1", "left": "1", "right": "2"}.get(prediction.channel, prediction.channel)
        for one in filter(_is_annotated, prediction.segments):
            label, chance = "<NA>", "<NA>"
            if one.label is not None:
                label, chance = one_word(one.label), f"{one.probabilities[one.label]:.6f}"
            about = f"<NA> <NA> {label}" if one.speaker is None else f"{label} <NA> {one_word(one.speaker)}"
            times = f"{one.start:.3f} {one.end - one.start:.3f}"
            lines.append(f"SPEAKER {name} {channel} {times} {about} {chance} <NA>\n")
        return "".join(lines)


def _is_annotated(segment: Segment) -> bool:
    """Return whether a segment is annotated: it has a label or a speaker."""
    return segment.label is not None or segment.speaker is not None


def one_word(text: str) -> str:
    """Percent-encode white space, percent signs and what cannot be printed; `-` for an empty text."""
    return "".join(
        quote(letter, errors="surrogateescape")
        if letter.isspace() or letter == "%" or not letter.isprintable()
        else letter
        for letter in text or "-"
    )


class SrtWriter(Writer):
    """Subtitles of one recording: label and probability of every segment that has one; every turn with its speaker."""

    def __init__(self, job: Job, sink: Sink) -> None:
        if not job.single:
            raise ConfigError("this format holds one channel of one recording", mend="Name one, or use --format csv.")
        super().__init__(job, sink)

    def _text(self, prediction: Prediction) -> str:
        cues = []
        for number, one in enumerate(filter(_is_annotated, prediction.segments), start=1):
            label = f"{one.label} {max(one.probabilities.values()):.0%}" if one.label else "–"
            text = label if one.speaker is None else f"[{one.speaker}]: {label}"
            cues.append(f"{number}\n{_srt_time(one.start)} --> {_srt_time(one.end)}\n{text}\n\n")
        return "".join(cues)


def _srt_time(seconds: float) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{milliseconds:03}"


class TextGridWriter(SrtWriter):
    """An interval tier, or one for each speaker; what has no label has an empty text.

    Turns without a label, which Praat would not show, are `–`. Source: Praat manual, "TextGrid file formats".
    """

    def _text(self, prediction: Prediction) -> str:
        end = f"xmax = {prediction.duration:.3f}"
        tiers = {name: _intervals(prediction, name) for name in prediction.of_speakers()}
        tiers = tiers or {"emotion": [(one.start, one.end, one.label or "") for one in prediction.segments]}
        lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", end, "tiers? <exists>"]
        lines += [f"size = {len(tiers)}", "item []:"]
        for place, (name, intervals) in enumerate(tiers.items(), start=1):
            lines += [f"item [{place}]:", 'class = "IntervalTier"', f"name = {_quoted(name)}", "xmin = 0", end]
            lines.append(f"intervals: size = {len(intervals)}")
            for number, (first, last, text) in enumerate(intervals, start=1):
                lines += [f"intervals [{number}]:", f"xmin = {first:.3f}", f"xmax = {last:.3f}"]
                lines.append(f"text = {_quoted(text)}")
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _intervals(prediction: Prediction, speaker: str) -> list[tuple[float, float, str]]:
    """Return the turns of a speaker and the gaps between them; intervals of a tier cannot overlap."""
    found, last = [], 0.0
    for one in prediction.segments:
        if one.speaker == speaker and one.end > last:
            if one.start > last:
                found.append((last, one.start, ""))
            found.append((max(last, one.start), one.end, one.label or "–"))
            last = one.end
    return [*found, (last, prediction.duration, "")] if last < prediction.duration else found


class LabelStudioWriter(JsonWriter):
    """A list of tasks, one for each channel, with regions to correct.

    They fit `<View><Labels name="emotion" toName="audio">…</Labels><Audio name="audio" value="$audio"/></View>`.
    Source: Label Studio documentation, "Import pre-annotated data".
    """

    def __init__(self, job: Job, sink: Sink) -> None:
        super().__init__(replace(job, single=False), sink)

    def _failure(self, *_: object) -> str:
        return ""

    def _text(self, prediction: Prediction) -> str:
        channel = {"mix": 0, "left": 0, "right": 1}.get(prediction.channel)
        channel = int(prediction.channel) - 1 if channel is None else channel
        regions = [
            {
                "id": f"segment{number}",
                "from_name": "emotion",
                "to_name": "audio",
                "type": "labels",
                "original_length": round(prediction.duration, 3),
                "score": _score(one),
                **({} if one.speaker is None else {"meta": {"text": [one.speaker]}}),
                "value": {"start": round(one.start, 3), "end": round(one.end, 3), "channel": channel}
                | {"labels": [one.label]},
            }
            for number, one in enumerate(prediction.segments)
            if one.label is not None
        ]
        model = f"{self.job.model} {self.job.version}".strip()
        found = {"model_version": model, "score": _score(prediction), "result": regions}
        data = {"audio": prediction.file, "channel": prediction.channel}
        return self._item({"data": data, "predictions": [found]})


def _score(one: Segment | Prediction) -> float:
    return round(max(one.probabilities.values(), default=0.0), 6)


FILES = ("db.files.csv", "db.segments.csv", "db.yaml")
SOURCE = "unheard predict"


class AudformatWriter(Writer):
    """A database for audEERING's `audformat`: a folder with `db.yaml` and two tables, `files` and `segments`.

    Columns are the emotion, a probability for each label, and why there is no label. Recordings below the folder are
    named relative to it, others by their full path, which audformat calls not portable. The tables are kept in memory
    until `close`. Source: audformat documentation, "Database".
    """

    def __init__(self, job: Job, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise ConfigError("audformat is a folder, and this is a file", where=folder, mend="Name another --output.")
        header = folder / "db.yaml"
        ours = header.is_file() and f"source: {SOURCE}" in header.read_text("utf-8", "replace").splitlines()
        if there := [folder / name for name in FILES if (folder / name).exists() and not ours]:
            what = "this is a database already, and not one of predictions"
            raise ConfigError(what, where=there[0], mend="Name another --output.")
        self.job, self._folder, self._root = job, folder, folder.resolve()
        self._files: dict[str, list[str]] = {}
        self._segments: dict[tuple[str, float, float], list[str]] = {}

    def add(self, prediction: Prediction) -> None:
        """Keep the rows of one prediction; a recording that comes again is left out, as the tables have no place."""
        path = Path(prediction.file).resolve()
        name = (path.relative_to(self._root) if path.is_relative_to(self._root) else path).as_posix()
        name = name.encode("utf-8", "backslashreplace").decode()
        if name in self._files:
            return
        self._files[name] = rating(whole(prediction), self.job.labels)
        for one in prediction.segments:
            row = [*rating(one, self.job.labels), *[one.speaker or ""] * self.job.turns]
            if self._segments.setdefault((name, one.start, one.end), row) is not row:
                what = f"audformat has no place for two turns from {one.start:.3f} to {one.end:.3f} s"
                raise ConfigError(what, where=prediction.file, mend="Choose another --format.")

    def close(self) -> None:
        """Write the tables, then the header."""
        import yaml

        job = self.job
        columns = {"emotion": "emotion", **{f"p_{label}": "probability" for label in job.labels}, "abstained": "reason"}
        turns = columns | ({"speaker": "speaker"} if job.turns else {})
        licence = f"; licence of its weights: {job.licence}" if job.licence else ""
        about = f"unheard model {job.model} {job.version}".strip() + licence
        schemes: dict[str, dict[str, Any]] = {scheme: {"dtype": "str"} for scheme in turns.values()}
        schemes["emotion"]["labels"] = list(job.labels)
        schemes["probability"] = {"dtype": "float", "minimum": 0, "maximum": 1}
        tables = {
            name: {"type": kind, "columns": {one: {"scheme_id": of[one], "rater_id": "model"} for one in of}}
            for name, kind, of in (("files", "filewise", columns), ("segments", "segmented", turns))
        }
        header: dict[str, Any] = {"name": "unheard", "description": "Emotions predicted by a machine"}
        header |= {"source": SOURCE, "usage": "other", "raters": {"model": {"description": about, "type": "machine"}}}
        files = [["file", *columns], *([name, *row] for name, row in self._files.items())]
        segments = [["file", "start", "end", *turns]]
        segments += [[name, f"{a:.6f}s", f"{b:.6f}s", *row] for (name, a, b), row in self._segments.items()]
        texts = ["".join(map(csv_line, rows)) for rows in (files, segments)]
        texts.append(yaml.safe_dump(header | {"schemes": schemes, "tables": tables}, sort_keys=False))
        for name, text in zip(FILES, texts, strict=True):
            write_text(self._folder / name, text)
