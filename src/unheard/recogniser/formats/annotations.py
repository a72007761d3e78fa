"""RTTM (diarisation), SRT (subtitles), TextGrid (Praat) and Label Studio's pre-annotations."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from unheard.errors import ConfigError
from unheard.recogniser.formats import Job, Sink, Writer
from unheard.recogniser.formats.tables import as_json
from unheard.recogniser.prediction import Prediction


class RttmWriter(Writer):
    """A line a segment with a label, which stands in the speaker's place; of turns every line, the label before.

        SPEAKER <recording> <channel> <start> <seconds> <NA> <NA> <label> <probability> <NA>
        SPEAKER <recording> <channel> <start> <seconds> <label> <NA> <speaker> <probability> <NA>

    The recording is its path without the ending, or with it where another recording has that name; white space and
    percent signs are percent-encoded. Source: NIST, RT-09 evaluation plan, appendix A.
    """

    def __init__(self, job: Job, sink: Sink) -> None:
        self._sink = sink
        self._names: dict[str, str] = {}

    def add(self, prediction: Prediction) -> None:
        """Write the lines of one recording."""
        file = prediction.file
        bare = str(Path(file).with_suffix("")) if file else ""
        names = (bare, file, *(f"{file}#{number}" for number in range(2, len(self._names) + 3)))
        name = one_word(next(name for name in names if self._names.setdefault(name, file) == file))
        channel = {"mix": "1", "left": "1", "right": "2"}.get(prediction.channel, prediction.channel)
        for segment in prediction.segments:
            label, probability = "<NA>", "<NA>"
            if segment.label is not None:
                label, probability = one_word(segment.label), f"{segment.probabilities[segment.label]:.6f}"
            elif segment.speaker is None:
                continue
            about = f"<NA> <NA> {label}" if segment.speaker is None else f"{label} <NA> {one_word(segment.speaker)}"
            times = f"{segment.start:.3f} {segment.end - segment.start:.3f}"
            self._sink.write(f"SPEAKER {name} {channel} {times} {about} {probability} <NA>\n")


def one_word(text: str) -> str:
    """Percent-encode white space, percent signs and what cannot be printed; `-` for an empty text."""
    escaped = (
        quote(letter, errors="surrogateescape")
        if letter.isspace() or letter == "%" or not letter.isprintable()
        else letter
        for letter in text
    )
    return "".join(escaped) or "-"


class SrtWriter(Writer):
    """Subtitles of one recording: label and probability of every segment that has one; every turn with its speaker."""

    def __init__(self, job: Job, sink: Sink) -> None:
        if not job.single:
            raise ConfigError("this format holds one channel of one recording", mend="Name one, or use --format csv.")
        self._sink = sink

    def add(self, prediction: Prediction) -> None:
        """Write the subtitles."""
        shown = [one for one in prediction.segments if one.label is not None or one.speaker is not None]
        for number, segment in enumerate(shown, start=1):
            text = f"{segment.label} {max(segment.probabilities.values()):.0%}" if segment.label else "–"
            text = text if segment.speaker is None else f"[{segment.speaker}]: {text}"
            self._sink.write(f"{number}\n{_srt_time(segment.start)} --> {_srt_time(segment.end)}\n{text}\n\n")


def _srt_time(seconds: float) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{milliseconds:03}"


class TextGridWriter(SrtWriter):
    """An interval tier, or one for each speaker; what has no label has an empty text.

    Turns without a label, which Praat would not show, are `–`. Source: Praat manual, "TextGrid file formats".
    """

    def add(self, prediction: Prediction) -> None:
        """Write the tiers."""
        end = f"xmax = {prediction.duration:.3f}"
        names = list(prediction.of_speakers())
        tiers = [(name, _filled(prediction, name)) for name in names]
        tiers = tiers or [("emotion", [(one.start, one.end, one.label or "") for one in prediction.segments])]
        lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", end, "tiers? <exists>"]
        lines += [f"size = {len(tiers)}", "item []:"]
        for place, (name, intervals) in enumerate(tiers, start=1):
            lines += [f"item [{place}]:", 'class = "IntervalTier"', f'name = "{_doubled(name)}"', "xmin = 0", end]
            lines.append(f"intervals: size = {len(intervals)}")
            for number, (first, last, text) in enumerate(intervals, start=1):
                lines += [f"intervals [{number}]:", f"xmin = {first:.3f}", f"xmax = {last:.3f}"]
                lines.append(f'text = "{_doubled(text)}"')
        self._sink.write("\n".join(lines) + "\n")


def _doubled(text: str) -> str:
    return text.replace('"', '""')


def _filled(prediction: Prediction, speaker: str) -> list[tuple[float, float, str]]:
    """Return the turns of a speaker and the gaps between them; intervals of a tier cannot overlap."""
    found, last = [], 0.0
    for one in prediction.segments:
        if one.speaker == speaker and one.end > last:
            if one.start > last:
                found.append((last, one.start, ""))
            found.append((max(last, one.start), one.end, one.label or "–"))
            last = one.end
    return [*found, (last, prediction.duration, "")] if last < prediction.duration else found


class LabelStudioWriter(Writer):
    """A list of tasks, one for each channel, with regions to correct.

    They fit `<View><Labels name="emotion" toName="audio">…</Labels><Audio name="audio" value="$audio"/></View>`.
    Source: Label Studio documentation, "Import pre-annotated data".
    """

    def __init__(self, job: Job, sink: Sink) -> None:
        self._model, self._sink, self._count = f"{job.model} {job.version}".strip(), sink, 0

    def add(self, prediction: Prediction) -> None:
        """Write one task."""
        channel = {"right": 1}.get(prediction.channel, 0)
        if prediction.channel.isdigit():
            channel = int(prediction.channel) - 1
        regions = [
            {
                "id": f"segment{number}",
                "from_name": "emotion",
                "to_name": "audio",
                "type": "labels",
                "original_length": round(prediction.duration, 3),
                "score": round(max(segment.probabilities.values(), default=0.0), 6),
                **({} if segment.speaker is None else {"meta": {"text": [segment.speaker]}}),
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
        score = round(max(prediction.probabilities.values(), default=0.0), 6)
        task = {
            "data": {"audio": prediction.file, "channel": prediction.channel},
            "predictions": [{"model_version": self._model, "score": score, "result": regions}],
        }
        self._sink.write((",\n" if self._count else "[\n") + as_json(task, ascii=self._sink.ascii))
        self._count += 1

    def close(self) -> None:
        """End the list."""
        self._sink.write("\n]\n" if self._count else "[]\n")
